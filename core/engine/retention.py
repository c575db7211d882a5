"""When signals that are over leave the memory, and what else is evicted from it. The journal keeps all of it."""

from __future__ import annotations

from typing import Final

from ...shm.durations import NS_PER_DAY, NS_PER_MS
from .state import EngineState, OrderRecord, RouteRecord
from .turn import Turn

_ROUNDS: Final = 10
"""Signals that finish within this part of `finished_after_ms` share one event of the journal."""


def finish_due_ns(state: EngineState) -> int | None:
    """Return when signals finish next, engine's time; None when none waits for it."""
    wait_ms = state.settings.finished_after_ms
    first_ns = next(iter(state.over.values()), None)
    if wait_ms is None or first_ns is None:
        return None
    round_ns = max(wait_ms * NS_PER_MS // _ROUNDS, 1)
    return -(-(first_ns + wait_ms * NS_PER_MS) // round_ns) * round_ns


def evict_over(turn: Turn) -> None:
    """Evict what has been over for `retention_ms`. It looks at what is due, and at no more.

    Signals only where they do not become rows of the journal (`finished_after_ms`). Safe, because a signal of that age
    is refused as stale when it is sent again, and its lots stay in the position.
    """
    state = turn.state
    limit_ns = turn.now_ns - state.settings.retention_ms * NS_PER_MS
    if limit_ns <= 0:
        return
    if state.settings.finished_after_ms is None:
        _evict_signals(turn, limit_ns)
    for route in state.routes.values():
        _evict_days(state, route, limit_ns)
    expired = []
    for key, found_ns in state.found_keys.items():
        if found_ns > limit_ns:
            break  # in order of their finding: the rest is younger
        expired.append(key)
    for key in expired:
        state.found_keys.pop(key)
    for order_id, orphan in list(state.orphans.items()):
        if orphan.found_ns > limit_ns:
            break
        if orphan.row is None:
            state.orphans.pop(order_id)


def _evict_signals(turn: Turn, limit_ns: int) -> None:
    state = turn.state
    expired = []
    for signal_id, changed_ns in state.over.items():
        if changed_ns > limit_ns:
            break  # in order of their last change: the rest is younger
        # After the clock was set back, what was sent long ago may be fresh by its stamp, and would be traded again.
        created_ns = state.signals[signal_id].signal.created_ns
        if abs(turn.wall_ns - created_ns) > state.limits.max_signal_age_ms * NS_PER_MS:
            expired.append(signal_id)
    for signal_id in expired:
        record = state.signals.pop(signal_id)
        state.over.pop(signal_id)
        state.signals_by_key.pop(record.key, None)
        for leg in record.legs:
            for key in leg.executions:
                _forget_ticket(state, signal_id, key)
                _evict_execution(state, key, limit_ns)
            for order_id in leg.orders:
                state.orders.pop(order_id, None)


def _evict_days(state: EngineState, route: RouteRecord, limit_ns: int) -> None:
    """Take the executions of signals that have been rows for so long as evicted: the journal may archive them."""
    for day, latest_ns in list(route.finished_until.items()):
        if (day + 1) * NS_PER_DAY > limit_ns:
            break
        del route.finished_until[day]
        _note_evicted(state, route, latest_ns, limit_ns)


def evict_external(turn: Turn) -> None:
    """Evict executions and orders of that age without a signal: external trades, closing orders of the kill switch.

    It walks over every execution, so it runs once a day.
    """
    state = turn.state
    limit_ns = turn.now_ns - state.settings.retention_ms * NS_PER_MS
    if limit_ns <= 0:
        return
    for key, execution in list(state.executions.items()):
        if not execution.signal_id and execution.seen and execution.booked_ns <= limit_ns:
            order = state.orders.get(execution.client_order_id)
            # Not before its order: a late fill of that would add up executions that are gone.
            if order is None or _is_over(order, limit_ns):
                _evict_execution(state, key, limit_ns)
    for name, route in state.routes.items():
        if route.retired_ns:
            state.day.equity.pop(name, None)  # its last day is over: no loss of it ends, or grows, any more
        for key, ended in list(route.ended_contradictions.items()):
            if ended.ended_ns <= limit_ns:
                del route.ended_contradictions[key]
    for order_id, order in list(state.orders.items()):
        if _is_over(order, limit_ns):
            state.orders.pop(order_id)


def _is_over(order: OrderRecord, limit_ns: int) -> bool:
    """Whether an order of no signal ended that long ago. One of a signal is evicted with its signal."""
    return not order.signal_id and not order.unsettled and order.ended_ns <= limit_ns


def _forget_ticket(state: EngineState, signal_id: str, key: str) -> None:
    """Forget whose a position ticket was: a later signal of the same id must not be given its next executions."""
    execution = state.executions.get(key)
    if execution is not None and execution.ticket:
        owners = state.routes[execution.route].ticket_owner
        if owners.get(execution.ticket, ("", 0))[0] == signal_id:
            del owners[execution.ticket]


def _evict_execution(state: EngineState, key: str, limit_ns: int) -> None:
    execution = state.executions.pop(key, None)
    route = None if execution is None else state.routes.get(execution.route)
    if execution is not None and route is not None:
        route.executions.pop(key, None)
        _note_evicted(state, route, execution.ts_event_ns, limit_ns)


def _note_evicted(state: EngineState, route: RouteRecord, ts_event_ns: int, limit_ns: int) -> None:
    # Not beyond the limit, even if a platform's clock runs ahead: a fill that comes later would count as evicted.
    latest_ns = limit_ns + max(state.wall_offset_ns, 0)
    route.evicted_until_ns = max(route.evicted_until_ns, min(ts_event_ns, latest_ns))
