"""One signal of fixed sizes for the demo: sent once, as soon as its platforms are ready to trade it."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from ...core.errors import ConfigError
from ...core.messages import Bracket, FanOut, Side, Signal, Target
from ...shm.durations import NS_PER_S
from ..interface import NexusGatewayInterface
from ..market_view import MarketView, Quote
from ..sizing import InstrumentTable

_ASK_EVERY_S = 0.2


class DemoSignal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signal to send. JSON-able, since it comes as an argument of the process.

    Attributes:
        quantities: lots by platform; the simulator plays a scenario for some sizes.
        stop_distance: points from each platform's own quote; None = without protection.
        patience_s: longest wait for the platforms to be ready. Then it is sent all the same; the leg of a platform that
            is not ready is refused with a code.
    """

    symbol: str
    quantities: dict[str, Decimal]
    side: Side = Side.BUY
    stop_distance: Decimal | None = None
    policy: FanOut = FanOut()
    patience_s: float = 25.0


def read_demo_signal(arguments: dict[str, Any]) -> DemoSignal | None:
    """The signal in a process's arguments, None when there is none. Raises ConfigError."""
    found = arguments.get("demo_signal")
    try:
        return None if found is None else msgspec.convert(found, DemoSignal)
    except msgspec.ValidationError as error:
        raise ConfigError(f"demo_signal was {found}: {error}; correct it") from error


class DemoTrader:
    """Makes the signal when its platforms are ready; used by the thread that reads the market."""

    def __init__(
        self, demo: DemoSignal, gateway: NexusGatewayInterface, view: MarketView, instruments: InstrumentTable
    ) -> None:
        self._demo = demo
        self._gateway = gateway
        self._view = view
        self._instruments = instruments
        self._ask_at_s = 0.0
        self._give_up_s: float | None = None
        self._done = False

    def next_signal(self) -> Signal | None:
        """The signal when it is to be sent now, once; otherwise None."""
        if self._done or not self._gateway.status.is_up or time.monotonic() < self._ask_at_s:
            return None
        if self._give_up_s is None:
            self._give_up_s = time.monotonic() + self._demo.patience_s
        self._ask_at_s = time.monotonic() + _ASK_EVERY_S
        quotes = [quote for platform in self._demo.quantities if (quote := self._quote(platform)) is not None]
        late = time.monotonic() > self._give_up_s
        if not quotes or not (late or (len(quotes) == len(self._demo.quantities) and self._are_reconciled())):
            return None
        self._done = True
        return self._make_signal(quotes)

    def _quote(self, platform: str) -> Quote | None:
        return self._view.latest(self._instruments.traded(platform, self._demo.symbol), platform)

    def _are_reconciled(self) -> bool:
        """Whether the gateway has reconciled every platform: a demo's journal is new, and it refuses orders before."""
        try:
            accounts = self._gateway.ask_positions(1.0)
        except (ConnectionError, TimeoutError):
            return False
        return {each.platform for each in accounts if each.as_of_ns} >= set(self._demo.quantities)

    def _make_signal(self, quotes: list[Quote]) -> Signal:
        demo, now_ns = self._demo, time.time_ns()
        return Signal(
            signal_id=f"demo-{now_ns}",
            symbol=demo.symbol,
            side=demo.side,
            created_ns=now_ns,
            # Longer than the second that a market order has: the first signal of processes that have just started.
            enter_by_ns=now_ns + 10 * NS_PER_S,
            targets=tuple(Target(platform=platform, quantity=lots) for platform, lots in demo.quantities.items()),
            quantity=max(demo.quantities.values()),
            bracket=None if demo.stop_distance is None else Bracket(stop_distance=demo.stop_distance),
            policy=demo.policy,
            tick_ns=max(quote.ts_recv_ns for quote in quotes),
            strategy="demo",
        )
