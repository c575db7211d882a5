"""A real gateway process between venues, a NEXUS and an operator; and where its belief is not what the venues hold."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal

import msgspec
from nexus_gateway.core.messages import (
    AccountState,
    Bracket,
    Kill,
    KillLevel,
    LegReport,
    Message,
    OrderRole,
    Positions,
    Protection,
    Query,
    QueryKind,
    Report,
    Resume,
    Role,
    Side,
    Signal,
    SignalClose,
    SignalState,
    WorkingOrders,
    signal_key,
)
from nexus_gateway.core.risk import Limits, Stage

from .trading_floor import Floor, floor_limits, make_signal
from .venue import Venue
from .venue_adapter import ZERO, D, Habits

TIMES = {"send_within_ms": 1_000, "settle_ms": 1_200, "ack_ms": 2_000, "proof_ms": 300}
STOPS = {Side.BUY: D(20_980), Side.SELL: D(21_020)}
TARGETS = {Side.BUY: D(21_020), Side.SELL: D(20_980)}
_CLOSED = (SignalState.CLOSED, SignalState.FLATTENED, SignalState.NOT_FILLED, SignalState.REJECTED)


def venue_limits(names: tuple[str, ...]) -> Limits:
    """Limits that never stand in the way of a test about exits."""
    stage = Stage(
        name="venues", platforms=names, symbols=("NQ", "ES"), max_size=D(50), max_trades_per_day=100_000,
        risk_per_trade_usd=D(1_000_000), confirmation="venues",
    )  # fmt: skip
    return floor_limits(
        stages={1: stage}, max_position_default=D(200), max_notional_usd=None, max_orders_per_s=None,
        max_orders_per_s_per_platform=None, max_same_side_entries=None, max_quote_age_ms=600_000,
    )  # fmt: skip


class VenueScene:
    """What tests do and ask."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.venues: dict[str, Venue] = {}
        self.nexus = floor.nexus()
        self.operator = floor.nexus("operator", Role.ADMIN)
        self.sent: dict[str, Signal] = {}
        self._requests = itertools.count(1)

    def add(self, name: str, habits: Habits) -> Venue:
        venue = self.venues[name] = Venue(self.floor, name, habits)
        self.floor.people.append(venue)  # type: ignore[arg-type]  # it has a client and turns, as the others
        return venue

    def until(self, true: Callable[[], object], patience_s: float = 30.0) -> None:
        self.floor.until(true, patience_s)

    # NEXUS.

    def enter(
        self,
        *names: str,
        lots: int = 1,
        side: Side = Side.BUY,
        symbol: str = "NQ",
        target: bool = False,
        **more: object,
    ) -> str:
        """Send a signal: buy at the market, with a stop and perhaps a target. Returns its id."""
        bracket = Bracket(stop_loss=STOPS[side], take_profit=TARGETS[side] if target else None)
        fields = {"quantity": D(lots), "side": side, "symbol": symbol, "bracket": bracket} | more
        signal = make_signal(*names, **fields)
        self.sent[signal.signal_id] = signal
        self.nexus.client.send(signal)
        return signal.signal_id

    def held(self, *names: str, **options: object) -> str:
        """Enter, and wait until all is filled and protected."""
        signal_id = self.enter(*names, **options)
        self.report(signal_id, lambda report: report.state is SignalState.FILLED)
        self.until(lambda: not self.differences())
        return signal_id

    def close(self, signal_id: str) -> None:
        self.nexus.client.send(SignalClose(signal_id=signal_id))

    def report(self, signal_id: str, true: Callable[[Report], object]) -> Report:
        """Wait for a report of which something is true."""
        self.until(lambda: (found := self.nexus.report(signal_id)) is not None and true(found))
        found = self.nexus.report(signal_id)
        assert found is not None
        return found

    def is_closed(self, signal_id: str) -> bool:
        found = self.nexus.report(signal_id)
        return found is not None and found.state in _CLOSED and not found.residual_quantity

    # The operator.

    def flatten(self, platform: str = "") -> None:
        number = next(self._requests)
        self.operator.client.send(
            Kill(request_id=number, level=KillLevel.FLATTEN, reason="test", by="ops", platform=platform)
        )

    def resume(self, platform: str = "") -> None:
        """Ask until it is granted."""

        def granted() -> bool:
            number = next(self._requests)
            if not self.operator.client.send(Resume(request_id=number, reason="over", by="ops", platform=platform)):
                return False
            links = self.operator.client.counts["links"]
            self.until(lambda: self.operator.results(number) or self.operator.client.counts["links"] > links)
            results = self.operator.results(number)
            return bool(results) and results[0].accepted

        self.until(granted)

    def ask(self, what: QueryKind, kind: type) -> list:
        """What the gateway answers to a question, of that kind; none when it went away meanwhile."""
        self.until(lambda: self.operator.client.is_up)
        before, links = len(self.operator.heard), self.operator.client.counts["links"]

        def heard() -> list[Message]:
            return [body for body in self.operator.heard[before:] if isinstance(body, kind)]

        self.operator.client.send(Query(request_id=next(self._requests), what=what))
        self.until(lambda: len(heard()) >= len(self.venues) or self.operator.client.counts["links"] > links)
        return heard()

    # What is believed, and what is.

    def differences(self) -> list[str]:
        """Where the gateway's belief is not what the venues' ledgers say, lot by lot and order by order."""
        found: list[str] = []
        states = {each.platform: each for each in self.ask(QueryKind.ACCOUNT_STATE, AccountState)}
        positions = {each.platform: each for each in self.ask(QueryKind.POSITIONS, Positions)}
        orders = {each.platform: each for each in self.ask(QueryKind.WORKING_ORDERS, WorkingOrders)}
        for name, venue in self.venues.items():
            if name not in states or name not in positions or name not in orders:
                return [f"{name}: no answer"]
            if not states[name].ready or states[name].contradictions:
                found.append(f"{name}: ready {states[name].ready}, {states[name].contradictions}")
            believed = _lots((row.symbol, row.quantity) for row in positions[name].rows)
            if believed != venue.held():
                found.append(f"{name}: believed {believed}, holds {venue.held()}")
            works = {row.client_order_id: row.quantity - row.filled for row in orders[name].rows}
            true = {each.row.client_order_id: each.row.quantity - each.row.filled for each in venue.working()}
            if works != true:
                found.append(f"{name}: believed to work {works}, works {true}")
            found += self._naked(venue)
        return found

    def _naked(self, venue: Venue) -> list[str]:
        """Legs whose lots are not those of the ledger, or have not exactly one lot of stops for each."""
        found, sums = [], []
        for report in self.last_reports().values():
            for leg in report.legs:
                if leg.platform != venue.name or not leg.open_quantity:
                    continue
                sums.append((report.symbol, leg.open_quantity))
                stops = sum(
                    (
                        each.row.quantity - each.row.filled
                        for each in venue.working(OrderRole.STOP_LOSS)
                        if signal_key(report.signal_id) in each.row.client_order_id
                    ),
                    ZERO,
                )
                if stops != abs(leg.open_quantity) or leg.protection is Protection.NONE or leg.unprotected_since_ns:
                    found.append(f"{venue.name}: {stops} stops for {_leg_text(report, leg)}")
        if _lots(sums) != venue.held():
            found.append(f"{venue.name}: NEXUS was told of {_lots(sums)}, it holds {venue.held()}")
        return found

    def last_reports(self) -> Mapping[str, Report]:
        """The newest report of each signal of which NEXUS has heard."""
        newest: dict[str, Report] = {}
        for body in self.nexus.heard:
            if isinstance(body, Report) and body.revision >= getattr(newest.get(body.signal_id), "revision", 0):
                newest[body.signal_id] = body
        return newest


def _lots(rows: Iterator[tuple[str, Decimal]] | list[tuple[str, Decimal]]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for symbol, lots in rows:
        sums[symbol] = sums.get(symbol, ZERO) + lots
    return {symbol: lots for symbol, lots in sums.items() if lots}


def _leg_text(report: Report, leg: LegReport) -> str:
    return f"{report.signal_id} {report.state} {leg.open_quantity:+f} {report.symbol} {leg.protection} {leg.text!r}"


@contextlib.contextmanager
def venue_scene(habits: Mapping[str, Habits], adapter: str = "", **orders: object) -> Iterator[VenueScene]:
    """A gateway whose venues are linked and reconciled. `adapter`: another one in the configuration than the simulator,
    whose market is never shut. `orders`: keys of the configuration that differ.
    """
    names = tuple(habits)
    floor = Floor(names, limits=venue_limits(names), **(TIMES | orders))
    try:
        if adapter:
            set_adapter(floor, adapter)
        floor.quote()
        floor.start()
        scene = VenueScene(floor)
        for name, each in habits.items():
            scene.add(name, each)
        floor.until(lambda: scene.nexus.client.is_up and scene.operator.client.is_up)
        floor.ready(len(names))
        yield scene
    finally:
        floor.close()


def set_adapter(floor: Floor, adapter: str) -> None:
    """Name another adapter in the configuration; the next start of the gateway reads it."""
    platforms = {name: msgspec.structs.replace(each, adapter=adapter) for name, each in floor.config.platforms.items()}
    floor.config = msgspec.structs.replace(floor.config, platforms=platforms)
