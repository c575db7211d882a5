"""One call of the engine: the state, the time, and the effects. Every function of this package works on a Turn."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

from ...shm.durations import NS_PER_S
from ..messages import (
    KillLevel,
    LegState,
    OrderRole,
    RejectCode,
)
from .effects import Alert, Effect
from .state import (
    EngineState,
    LegRecord,
    OrderRecord,
    PositionRecord,
    RouteRecord,
    SignalRecord,
    route_of,
)


class Turn:
    """Lives for one event. `effects` are in the order in which they must be carried out."""

    __slots__ = (
        "awaited",
        "books_seen",
        "by_clock",
        "changed_orders",
        "dirty",
        "dirty_routes",
        "effects",
        "money_moved",
        "now_ns",
        "positions_before",
        "review",
        "settled",
        "shifts",
        "state",
        "touched_orders",
        "unproven",
    )

    def __init__(self, state: EngineState, now_ns: int) -> None:
        self.state = state
        self.now_ns = now_ns
        self.effects: list[Effect] = []
        self.dirty: dict[str, None] = {}  # ids of signals that have changed: their reports are due
        self.review: dict[str, None] = {}  # ids of signals to settle before the turn ends
        self.settled: dict[str, None] = {}  # ids of signals that were settled in this turn
        self.dirty_routes: dict[str, None] = {}  # routes whose kill level takes its next step before the turn ends
        # ClOrdIDs of orders whose deadline is new, or earlier than before, besides those in `touched_orders`.
        self.awaited: dict[str, None] = {}
        # For invariants and due times: orders that may have changed. For the invariants: what each leg has moved by,
        # and the net and external lots of positions before the turn, by route and symbol.
        self.touched_orders: dict[str, None] = {}
        self.shifts: list[tuple[str, LegRecord, Decimal]] = []
        self.positions_before: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
        # For `wake_waiting`: orders that may have changed since its last look, and positions as they were then.
        self.changed_orders: dict[str, None] = {}
        self.books_seen: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
        self.unproven = ""  # route whose positions are being closed unproven, a person's command: no bar holds there
        self.by_clock = False  # a deadline has passed, and no message that came in time waits to be applied
        self.money_moved = False  # True = the loss limits have to be checked

    @property
    def wall_ns(self) -> int:
        """The wall clock, UTC ns: for stamps, the trading day, and ages of what others have stamped."""
        return self.now_ns + self.state.wall_offset_ns

    def stamp(self, engine_ns: int) -> int:
        """Return a moment of the engine's time as the wall clock, UTC ns, for others to read; 0 stays 0."""
        return max(engine_ns + self.state.wall_offset_ns, 1) if engine_ns else 0

    def count(self, name: str) -> None:
        """Add one to a counter that people read."""
        counts = self.state.counts
        counts[name] = counts.get(name, 0) + 1

    def alert(self, code: RejectCode, text: str, platform: str = "") -> None:
        """Alert a person: journal, log and alert channels."""
        self.effects.append(Alert(code, text, platform))

    def touch(self, signal_id: str) -> None:
        """Mark a signal as changed: settle it and make its report before the turn ends."""
        if signal_id in self.state.signals:
            self.dirty[signal_id] = None
            self.review[signal_id] = None

    def mark_for_settle(self, signal_id: str) -> None:
        """Settle a signal before the turn ends, for time has passed or its route is ready again."""
        self.review[signal_id] = None

    def touch_order(self, order_id: str) -> None:
        """Record that an order may have changed: the invariants look at it, and what waits for it goes on."""
        self.touched_orders[order_id] = None
        self.changed_orders[order_id] = None

    def look_again(self, leg: LegRecord, at_ns: int) -> None:
        """Settle a leg's signal at `at_ns`, engine's time, again, if that is still to come: time alone changes its next
        step then.
        """
        if at_ns > self.now_ns and not 0 < leg.look_again_ns <= at_ns:
            leg.look_again_ns = at_ns

    def await_answer(self, order_id: str) -> None:
        """Record that an answer about this order is due from now on, or earlier than before."""
        self.awaited[order_id] = None

    def touch_route(self, route: str) -> None:
        """Let the kill level of this route take its next step before the turn ends."""
        self.dirty_routes[route] = None

    def leg(self, signal_id: str, leg: int) -> LegRecord | None:
        """The leg, or None when the signal or the leg is not known."""
        signal = self.state.signals.get(signal_id)
        if signal is None or not 0 <= leg < len(signal.legs):
            return None
        return signal.legs[leg]

    def shift_open(self, signal_id: str, leg: LegRecord, lots: Decimal) -> None:
        """Add (signed) lots to what a leg holds: the only place where that changes."""
        leg.open += lots
        self.shifts.append((signal_id, leg, lots))
        holders = self.state.routes[leg.route].holding_signals
        if any(other.open for other in self.state.signals[signal_id].legs if other.route == leg.route):
            holders[signal_id] = None
        else:
            holders.pop(signal_id, None)
            self.state.routes[leg.route].waiting_closes.pop(signal_id, None)

    def position(self, route: str, symbol: str) -> PositionRecord:
        """Return the position record of a symbol; make it if there is none."""
        positions = self.state.routes[route].positions
        found = positions.get(symbol)
        if found is None:
            found = positions[symbol] = PositionRecord()
        if (route, symbol) not in self.positions_before:
            lots = found.net, found.external
            self.positions_before[route, symbol] = self.books_seen[route, symbol] = lots
        return found


def leg_orders(state: EngineState, leg: LegRecord) -> Iterator[OrderRecord]:
    """All orders of a leg, oldest first."""
    for order_id in leg.orders:
        yield state.orders[order_id]


def live_orders(state: EngineState, route: RouteRecord) -> list[OrderRecord]:
    """The orders of a route that may still trade; a list, since callers end orders while walking it."""
    return [state.orders[order_id] for order_id in route.live]


def live_closing(state: EngineState, route: RouteRecord) -> list[OrderRecord]:
    """Those of them that close lots which others have opened (`closes_lots`)."""
    return [state.orders[order_id] for order_id in route.live_closing]


def closes_lots(state: EngineState, order: OrderRecord) -> bool:
    """Whether an order closes what others have opened: a closing order of anyone, or one of a reduce-only signal."""
    if order.role is not OrderRole.ENTRY:
        return order.role is OrderRole.EXIT
    signal = state.signals.get(order.signal_id)
    return signal is not None and signal.signal.reduce_only


def list_live(state: EngineState, record: OrderRecord) -> None:
    """List an order as one that may still trade. Its signal, if it has one, must be in the state."""
    order = record.order
    route = state.routes[route_of(order.platform, order.account)]
    route.live[order.client_order_id] = None
    if record.state is LegState.UNKNOWN:
        route.unknown_orders[order.client_order_id] = None
    if closes_lots(state, record):
        route.live_closing[order.client_order_id] = None


def unlist_live(state: EngineState, record: OrderRecord) -> None:
    """Remove an order that can trade no more from the lists of `list_live`."""
    order = record.order
    route = state.routes[route_of(order.platform, order.account)]
    route.live.pop(order.client_order_id, None)
    route.unknown_orders.pop(order.client_order_id, None)
    route.live_closing.pop(order.client_order_id, None)


def unknown_order(state: EngineState, route: RouteRecord, symbol: str) -> OrderRecord | None:
    """Return an order of this route and symbol whose outcome is unknown, or None."""
    for order_id in route.unknown_orders:
        record = state.orders[order_id]
        if record.order.symbol == symbol:
            return record
    return None


def activate(state: EngineState, signal_id: str) -> None:
    """List a signal as one that is not over."""
    state.active[signal_id] = None
    state.over.pop(signal_id, None)
    for leg in state.signals[signal_id].legs:
        route = state.routes.get(leg.route)
        if route is not None:
            route.active_signals[signal_id] = None


def deactivate(state: EngineState, signal_id: str) -> None:
    """Remove a signal that is over from the lists of `activate`."""
    state.active.pop(signal_id, None)
    for leg in state.signals[signal_id].legs:
        route = state.routes.get(leg.route)
        if route is not None:
            route.active_signals.pop(signal_id, None)


def contradiction_about(state: EngineState, route: str, symbol: str) -> str:
    """Return what contradicts itself about a symbol of an account; empty when nothing does."""
    for record in state.routes[route].contradictions.values():
        if symbol in record.barred:
            subject = record.exec_id or record.client_order_id or symbol
            return f"{state.routes[route].platform} contradicts itself about {symbol}: {record.kind} of {subject}"
    return ""


def bar_of(state: EngineState, route: str, symbol: str) -> str:
    """Return why nothing of ours may be sent for a symbol of an account now; empty when it may.

    A position that differs bars from the first snapshot that shows it until a second one, or the operator, settles it.
    """
    why = contradiction_about(state, route, symbol)
    if why:
        return why
    record = state.routes[route]
    if record.flatten_sent_ns:
        return f"{record.platform} flattens the account itself, a snapshot shows when it has"
    position = record.positions.get(symbol)
    if position is not None and position.mismatch_snapshots:
        return f"position of {symbol} on {record.platform} differed from the platform's, a second snapshot decides"
    return ""


def shut_until(change_ns: int) -> str:
    """Text of the time at which a market opens, to be put behind "shut"; empty when it is not known."""
    return f" until {describe_time(change_ns)}" if change_ns else ""


def describe_time(utc_ns: int) -> str:
    """A time for people, to the minute."""
    return f"{datetime.fromtimestamp(utc_ns // NS_PER_S, UTC):%Y-%m-%d %H:%M} UTC"


def reported_now(position: PositionRecord) -> Decimal:
    """Lots that the platform has last reported, moved by what was booked since."""
    return (position.reported or Decimal(0)) + position.net - position.reported_net


def position_after(state: EngineState, route: RouteRecord, symbol: str, add: Decimal, sign: int) -> Decimal:
    """Net position, signed lots, if `add` and all that works on the side `sign` filled: the worst case of a limit."""
    position = route.positions.get(symbol)
    net = position.net if position is not None else Decimal(0)
    # Lots left on the contract before the roll carry the same risk: without them a roll would double the limit.
    net += sum(
        (route.positions[old].net for old, root in route.retired.items() if root == symbol and old in route.positions),
        Decimal(0),
    )
    for order_id in route.live:
        record = state.orders[order_id]
        if record.order.symbol == symbol and record.order.side.sign == sign:
            net += record.leaves_qty * sign
            if record.unreported_qty:
                net += record.unreported_qty * sign
    return net + add * sign


def signals_of_route(state: EngineState, route: str) -> Iterator[SignalRecord]:
    """Active signals with a leg on this route."""
    for signal_id in state.routes[route].active_signals:
        yield state.signals[signal_id]


def accounts_left(state: EngineState) -> list[str]:
    """Return the accounts whose platform is out of the configuration while they hold lots, or orders of ours work."""
    expected = state.settings.expected_platforms
    return [
        name
        for name, route in state.routes.items()
        if expected and route.platform not in expected and not route.retired_ns and not route.up
        if route.live or any(position.net for position in route.positions.values())
    ]


def kill_level(state: EngineState, route: str) -> KillLevel:
    """Return the kill level in force on a route: the higher of its own and that of all platforms."""
    record = state.kills.get(route)
    return state.kill if record is None else max(state.kill, record.level)
