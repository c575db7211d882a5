"""One call of the engine: the state, the time, and what comes out. Everything in this package works on a
Turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from ..messages import (
    KillLevel,
    LegState,
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
)


class Turn:
    """Short-lived; `effects` are in the order in which they must be carried out."""

    __slots__ = ("awaited", "dirty", "dirty_routes", "effects", "money_moved", "now_ns", "review", "state")

    def __init__(self, state: EngineState, now_ns: int) -> None:
        self.state = state
        self.now_ns = now_ns
        self.effects: list[Effect] = []
        self.dirty: dict[str, None] = {}
        self.review: dict[str, None] = {}
        self.dirty_routes: dict[str, None] = {}
        self.awaited: dict[str, None] = {}
        self.money_moved = False

    def count(self, name: str) -> None:
        """Add one to a counter that people read."""
        counts = self.state.counts
        counts[name] = counts.get(name, 0) + 1

    def alert(self, code: RejectCode, text: str, platform: str = "") -> None:
        """Tell a person."""
        self.effects.append(Alert(code, text, platform))

    def touch(self, signal_id: str) -> None:
        """Something of this signal has changed: look at its policy and its report before the turn ends."""
        if signal_id in self.state.signals:
            self.dirty[signal_id] = None
            self.review[signal_id] = None

    def mark_for_settle(self, signal_id: str) -> None:
        """Time has passed for this signal, or its route is ready again: look at its policy before the turn
        ends.
        """
        self.review[signal_id] = None

    def await_answer(self, order_id: str) -> None:
        """An answer about this order is due from now on, or earlier than before."""
        self.awaited[order_id] = None

    def touch_route(self, route: str) -> None:
        """Have this route's signals and its kill rung looked at before the turn ends."""
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
        holders = self.state.routes[leg.route].holding_signals
        if any(other.open for other in self.state.signals[signal_id].legs if other.route == leg.route):
            holders[signal_id] = None
        else:
            holders.pop(signal_id, None)

    def position(self, route: str, symbol: str) -> PositionRecord:
        """The position record, made when it is not there yet."""
        positions = self.state.routes[route].positions
        found = positions.get(symbol)
        if found is None:
            found = positions[symbol] = PositionRecord()
        return found


def leg_orders(state: EngineState, leg: LegRecord) -> Iterator[OrderRecord]:
    """All orders of a leg, oldest first."""
    for order_id in leg.orders:
        yield state.orders[order_id]


def live_orders(state: EngineState, route: RouteRecord) -> list[OrderRecord]:
    """The orders of a route that may still trade; a list, since callers end orders while walking it."""
    return [state.orders[order_id] for order_id in route.live]


def unknown_order(state: EngineState, route: RouteRecord, symbol: str) -> OrderRecord | None:
    """An order whose outcome nobody knows, on this route and symbol."""
    for order_id in route.live:
        record = state.orders[order_id]
        if record.state is LegState.UNKNOWN and record.order.symbol == symbol:
            return record
    return None


def position_after(state: EngineState, route: RouteRecord, symbol: str, add: Decimal) -> Decimal:
    """The largest net position, by size, that could stand if `add` and what works on its side all filled."""
    position = route.positions.get(symbol)
    net = position.net if position is not None else Decimal(0)
    # A position that stayed on the contract before is a position in the same thing.
    net += sum(
        (route.positions[old].net for old, root in route.retired.items() if root == symbol and old in route.positions),
        Decimal(0),
    )
    sign = 1 if add > 0 else -1
    for order_id in route.live:
        record = state.orders[order_id]
        if record.order.symbol == symbol and record.order.side.sign == sign:
            net += record.leaves_qty * sign
            if record.unreported_qty:
                net += record.unreported_qty * sign
    return net + add


def signals_of_route(state: EngineState, route: str) -> Iterator[SignalRecord]:
    """Active signals with a leg on this route."""
    for signal_id in state.active:
        signal = state.signals[signal_id]
        if any(leg.route == route for leg in signal.legs):
            yield signal


def kill_level(state: EngineState, route: str) -> KillLevel:
    """The rung in force on a route: the higher of its own and everybody's."""
    record = state.kills.get(route)
    return state.kill if record is None else max(state.kill, record.level)
