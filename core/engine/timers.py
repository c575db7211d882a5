"""Deadlines, and the actions when they pass. The engine reads no clock: the time comes with each event."""

from __future__ import annotations

import heapq

from ...shm.durations import NS_PER_MS
from ..messages import LegState
from .clock import roll_day
from .orders.lifecycle import mark_unknown
from .orders.links import note_overdue, overdue_ns, request_snapshot, schedule_snapshot, snapshot_due_ns
from .orders.overfills import overfill_due_ns
from .orders.placement import send_cancel
from .orders.resting import end_resting, rest_ends_ns
from .retention import finish_due_ns
from .state import EngineState, OrderRecord, RouteRecord, SignalRecord, route_of
from .turn import Turn, bar_of


class DueTimes:
    """The next time at which `run_timers` has work, without a walk over every order and signal.

    A heap of earliest times, one a signal and order, none later than the true one. A time that may have become earlier
    is pushed at once; one that has become later, or void, is corrected when it reaches the top. It follows from the
    state alone, so it is not part of it.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, bool, str]] = []
        self._recorded: dict[tuple[bool, str], int] = {}

    def update(self, state: EngineState, turn: Turn) -> None:
        """Record the deadlines that a turn has changed."""
        for order_id in {**turn.touched_orders, **turn.awaited}:
            self._record(True, order_id, _order_due_ns(state, order_id))
        for signal_id in (*turn.settled, *turn.review):
            self._record(False, signal_id, _signal_due_ns(state, signal_id))

    def load(self, state: EngineState) -> None:
        """Record the deadlines of a whole state."""
        for route in state.routes.values():
            for order_id in route.live:
                self._record(True, order_id, _order_due_ns(state, order_id))
        for signal_id in state.active:
            self._record(False, signal_id, _signal_due_ns(state, signal_id))

    def next_ns(self, state: EngineState) -> int | None:
        """Return the earliest time at which `run_timers` has work, engine's time; None when nothing waits."""
        # The trading day ends by the wall clock.
        due: list[int] = [state.day.ends_ns - state.wall_offset_ns] if state.day.ends_ns else []
        for name, route in state.routes.items():
            due += _route_due(state, name, route)
        finish_ns = finish_due_ns(state)
        if finish_ns is not None:
            due.append(finish_ns)
        earliest = self._earliest(state)
        if earliest is not None:
            due.append(earliest[0])
        return min(due, default=None)

    def pop_due(self, state: EngineState) -> tuple[list[OrderRecord], list[SignalRecord]]:
        """Return the orders and signals that are due, the oldest first. Their next deadlines have to be recorded
        (`update`) before the next call.
        """
        orders: list[OrderRecord] = []
        signals: list[SignalRecord] = []
        while (earliest := self._earliest(state)) is not None and earliest[0] <= state.now_ns:
            _, is_order, name = heapq.heappop(self._heap)
            del self._recorded[is_order, name]
            if is_order:
                orders.append(state.orders[name])
            else:
                signals.append(state.signals[name])
        # Not as the heap gives them: that of a rebuilt engine is another one.
        orders.sort(key=lambda order: (order.sent_ns, order.order.client_order_id))
        signals.sort(key=lambda record: (record.received_ns, record.signal.signal_id))
        return orders, signals

    def _earliest(self, state: EngineState) -> tuple[int, bool, str] | None:
        """Return the top of the heap once it is true: time, whether it is an order's, id."""
        while self._heap:
            due_ns, is_order, name = self._heap[0]
            if self._recorded.get((is_order, name)) == due_ns:
                true_ns = _order_due_ns(state, name) if is_order else _signal_due_ns(state, name)
                if true_ns == due_ns:
                    return self._heap[0]
                del self._recorded[is_order, name]
                self._record(is_order, name, true_ns)
                if true_ns is not None and true_ns < due_ns:
                    continue
            heapq.heappop(self._heap)
        return None

    def _record(self, is_order: bool, name: str, due_ns: int | None) -> None:
        known = self._recorded.get((is_order, name))
        if due_ns is not None and (known is None or due_ns < known):
            self._recorded[is_order, name] = due_ns
            heapq.heappush(self._heap, (due_ns, is_order, name))


def _signal_due_ns(state: EngineState, signal_id: str) -> int | None:
    if signal_id not in state.active:
        return None
    signal = state.signals[signal_id]
    # One that has passed counts until a settle has used it up (`use_up_deadlines`): another event may come just then.
    due = [
        each
        for leg in signal.legs
        for each in (leg.retry_ns, leg.protect_retry_ns, leg.clearing_until_ns, leg.look_again_ns)
        if each
    ]
    if signal.deadline_ns and signal.decision in ("", "kept"):
        due.append(signal.deadline_ns)
    return min(due, default=None)


def _order_due_ns(state: EngineState, order_id: str) -> int | None:
    """Return when an answer about an order is due, engine's time; None while none is, or while its link is down."""
    order = state.orders.get(order_id)
    if order is None or not order.live:
        return None
    name = route_of(order.order.platform, order.order.account)
    if not state.routes[name].up:
        return None
    wait_ns = state.settings.ack_ms * NS_PER_MS
    rest_ends = rest_ends_ns(state, state.routes[name], order)
    times = [] if rest_ends is None else [rest_ends]
    if order.state is LegState.SENT:
        times.append(order.sent_ns + wait_ns)
    if order.cancel_wanted and not bar_of(state, name, order.order.symbol):
        times.append(order.cancel_sent_ns + wait_ns)
    route = state.routes[name]
    if order.replace is not None and not (route.request_pending or route.snapshot_due_ns):
        times.append(order.replace_sent_ns + wait_ns)  # then a snapshot is requested, which resolves it
    return min(times, default=None)


def _route_due(state: EngineState, name: str, route: RouteRecord) -> list[int]:
    settings = state.settings
    due: list[int] = []
    kill = state.kills.get(name)
    if kill is not None and not kill.verified:
        due.append(max(kill.retry_ns, state.now_ns + settings.retry_ms * NS_PER_MS))
    if not route.up:
        return due
    if route.request_pending:
        due.append(route.request_sent_ns + settings.snapshot_ms * NS_PER_MS)
    else:
        due.append(snapshot_due_ns(state, name))
    overdue = overdue_ns(state, route)
    if overdue is not None:
        due.append(overdue)
    return due + overfill_due_ns(route)


def run_timers(turn: Turn, orders: list[OrderRecord], signals: list[SignalRecord]) -> None:
    """Do everything that is due: time-outs, repeated cancels, snapshot requests, fan-out policies, a new day.

    `orders`, `signals`: those that are due (`DueTimes.pop_due`). Nothing else is looked at one by one.
    """
    state = turn.state
    roll_day(turn)
    for order in orders:
        turn.await_answer(order.order.client_order_id)
        _time_out_order(turn, order)
    orphaned = {orphan.route for orphan in state.orphans.values() if orphan.row is not None}
    for name, route in state.routes.items():
        if route.up:
            if route.unknown_orders or route.unreported_orders:
                schedule_snapshot(turn, route, state.settings.retry_ms)
            _request_due_snapshot(turn, name)
            overdue = overdue_ns(state, route)
            if overdue is not None and turn.now_ns >= overdue:
                note_overdue(turn, name)
        if name in orphaned or _acts_by_time(state, name, route):
            turn.touch_route(name)
    for record in signals:
        turn.mark_for_settle(record.signal.signal_id)


def _acts_by_time(state: EngineState, name: str, route: RouteRecord) -> bool:
    """Whether an account's kill level or its overfilled lots take steps by time alone."""
    kill = state.kills.get(name)
    return (kill is not None and not kill.verified) or any(each.overfilled for each in route.positions.values())


def _time_out_order(turn: Turn, order: OrderRecord) -> None:
    state = turn.state
    route = state.routes[route_of(order.order.platform, order.order.account)]
    wait_ns = state.settings.ack_ms * NS_PER_MS
    if order.state is LegState.SENT and turn.now_ns >= order.sent_ns + wait_ns:
        mark_unknown(turn, order, "no answer in time")
    end_resting(turn, route, order)
    if order.cancel_wanted:
        send_cancel(turn, order)
    if order.replace is not None and turn.now_ns >= order.replace_sent_ns + wait_ns:
        schedule_snapshot(turn, route, state.settings.retry_ms)


def _request_due_snapshot(turn: Turn, name: str) -> None:
    route = turn.state.routes[name]
    if route.request_pending:
        if turn.now_ns >= route.request_sent_ns + turn.state.settings.snapshot_ms * NS_PER_MS:
            turn.count("snapshot_timeout")
            request_snapshot(turn, route)
    elif turn.now_ns >= snapshot_due_ns(turn.state, name):
        request_snapshot(turn, route)
