"""Time: what falls due, and what is done then. The engine never looks at a clock; it is told."""

from __future__ import annotations

from ..messages import LegState
from .lifecycle import mark_unknown
from .links import request_snapshot, want_snapshot
from .placement import send_cancel
from .settings import NS_PER_MS
from .state import EngineState, OrderRecord, RouteRecord
from .turn import Turn, live_orders


def next_due_ns(state: EngineState) -> int | None:
    """The earliest time at which `run_timers` has something to do, UTC ns; None when nothing is waiting."""
    due: list[int] = [state.day.ends_ns] if state.day.ends_ns else []
    for name, route in state.routes.items():
        due += _route_due(state, name, route)
    for signal_id in state.active:
        signal = state.signals[signal_id]
        if signal.deadline_ns and not signal.decision:
            due.append(signal.deadline_ns)
        due += [leg.retry_ns for leg in signal.legs if leg.retry_ns > state.now_ns]
    return min(due, default=None)


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
        due.append(route.snapshot_due_ns or route.proof_ns + settings.proof_ms * NS_PER_MS)
    for order_id in route.live:
        order = state.orders[order_id]
        if _needs_answer(order):
            due.append(_answer_due_ns(state, order))
    return due


def _needs_answer(order: OrderRecord) -> bool:
    return order.state is LegState.SENT or order.cancel_wanted or order.replace is not None


def _answer_due_ns(state: EngineState, order: OrderRecord) -> int:
    wait_ns = state.settings.ack_ms * NS_PER_MS
    times = []
    if order.state is LegState.SENT:
        times.append(order.sent_ns + wait_ns)
    if order.cancel_wanted:
        times.append(order.cancel_sent_ns + wait_ns)
    if order.replace is not None:
        times.append(order.replace_sent_ns + wait_ns)
    return min(times)


def run_timers(turn: Turn) -> None:
    """Do all that is due: time-outs, cancels to repeat, snapshots to ask for, policies to decide, days to
    roll.
    """
    state = turn.state
    state.day.roll(turn.now_ns, state.limits.day_zone, state.limits.day_starts)
    for name, route in state.routes.items():
        if route.up:
            _time_out_orders(turn, route)
            _ask(turn, route)
        turn.touch_route(name)
    for signal_id in state.active:
        turn.look_at(signal_id)


def _time_out_orders(turn: Turn, route: RouteRecord) -> None:
    wait_ns = turn.state.settings.ack_ms * NS_PER_MS
    for order in live_orders(turn.state, route):
        if order.state is LegState.SENT and turn.now_ns >= order.sent_ns + wait_ns:
            mark_unknown(turn, order, "no answer in time")
        if order.cancel_wanted:
            send_cancel(turn, order)
        if order.state is LegState.UNKNOWN or order.missing:
            want_snapshot(turn, route, turn.state.settings.retry_ms)
        if order.replace is not None and turn.now_ns >= order.replace_sent_ns + wait_ns:
            want_snapshot(turn, route, turn.state.settings.retry_ms)
    if route.unsettled:
        want_snapshot(turn, route, turn.state.settings.retry_ms)


def _ask(turn: Turn, route: RouteRecord) -> None:
    settings = turn.state.settings
    if route.request_pending:
        if turn.now_ns >= route.request_sent_ns + settings.snapshot_ms * NS_PER_MS:
            turn.count("snapshot_timeout")
            request_snapshot(turn, route)
        return
    due_ns = route.snapshot_due_ns or route.proof_ns + settings.proof_ms * NS_PER_MS
    if turn.now_ns >= due_ns:
        request_snapshot(turn, route)
