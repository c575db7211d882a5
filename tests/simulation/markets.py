"""What the gateway knows of markets and rolls, in place of quote boards and the symbol directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from types import SimpleNamespace

from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.risk import MarketContext

from tests.simulation.platform import BASE, NEW, SYMBOL, FakePlatform
from tests.simulation.schedule import Schedule


class Markets:
    """As `core.gateway.markets.Markets` for the gateway: the market at each platform, with the contract it presents."""

    def __init__(self, schedule: Schedule, platforms: list[FakePlatform]) -> None:
        self._schedule = schedule
        self._platforms = {platform.name: platform for platform in platforms}
        self.stand_ins = SimpleNamespace(inward=lambda message: message, outward=lambda message: message)

    def refresh(self, now_ns: int) -> None:
        pass

    def currency_context(self, hello: m.Hello, currency: str, now_ns: int) -> MarketContext | None:
        return None

    def context(self, hello: m.Hello, symbol: str, now_ns: int) -> MarketContext | None:
        platform = self._platforms[hello.platform]
        contract = platform.contract_of(symbol)
        if contract not in BASE:
            return None
        return MarketContext(
            platform=platform.name,
            account=platform.account,
            symbol=symbol,
            contract=contract,
            tick_size=Decimal("0.25"),
            lot_step=Decimal(1),
            point_value=Decimal(2),
            bid=BASE[contract] - Decimal("0.25"),
            ask=BASE[contract],
            quote_ns=now_ns,
            session_open=not (platform.is_shut or platform.hours.says_shut(self._schedule.now_ns)),
            session_change_ns=self._change_ns(platform, now_ns),
        )

    def _change_ns(self, platform: FakePlatform, now_ns: int) -> int:
        """By the clock of the caller, who may have a wall clock that was set."""
        at_ns = platform.hours.changes_ns(self._schedule.now_ns)
        return at_ns and at_ns + now_ns - self._schedule.now_ns


class Contracts:
    """As `core.gateway.rolls.LiveContracts`. `decide`: the exchange's news about the contract in front, if any;
    `follow`: the platforms see the new contract in front, once the decision is on disk.
    """

    def __init__(
        self,
        decide: Callable[[e.ContractRecord | None, Mapping[str, m.Hello]], e.ContractChosen | None],
        follow: Callable[[], None],
    ) -> None:
        self._decide, self._follow = decide, follow

    def step(
        self, now_ns: int, contracts: Mapping[str, e.ContractRecord], hellos: Mapping[str, m.Hello]
    ) -> list[e.ContractChosen]:
        event = self._decide(contracts.get(SYMBOL), hellos)
        return [] if event is None else [event]

    def apply(self, contracts: Mapping[str, e.ContractRecord], now_ns: int) -> None:
        chosen = contracts.get(SYMBOL)
        if chosen is not None and chosen.contract == NEW:
            self._follow()
