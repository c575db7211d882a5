"""Evict what is long over from memory, so that a gateway can run for months. The journal keeps all of it."""

from __future__ import annotations

from ...shm.durations import NS_PER_MS
from .state import EngineState, OrderRecord
from .turn import Turn


def evict_finished(turn: Turn) -> None:
    """Evict signals that ended longer ago than `retention_ms`, with their orders and executions.

    Safe, because a signal of that age is refused as stale when it is sent again, and its lots stay in the position.
    """
    state = turn.state
    limit_ns = turn.now_ns - state.settings.retention_ms * NS_PER_MS
    if limit_ns <= 0:
        return
    expired = []
    for signal_id, record in state.signals.items():
        if record.received_ns > limit_ns:
            break  # in order of arrival: the rest is younger
        # After the clock was set back, what was sent long ago may be fresh by its stamp, and would be traded again.
        is_fresh = abs(turn.wall_ns - record.signal.created_ns) <= state.limits.max_signal_age_ms * NS_PER_MS
        if record.done_ns and record.done_ns <= limit_ns and not is_fresh:
            expired.append(signal_id)
    for signal_id in expired:
        record = state.signals.pop(signal_id)
        state.signals_by_key.pop(record.key, None)
        for leg in record.legs:
            for key in leg.executions:
                _forget_ticket(state, signal_id, key)
                _evict_execution(state, key, limit_ns)
            for order_id in leg.orders:
                state.orders.pop(order_id, None)
    for key in [key for key, seen_ns in state.found_keys.items() if seen_ns <= limit_ns]:
        state.found_keys.pop(key)
    for order_id in [o for o, orphan in state.orphans.items() if orphan.found_ns <= limit_ns and orphan.row is None]:
        state.orphans.pop(order_id)


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
        # Not beyond the limit, even if a platform's clock runs ahead: a fill that comes later would count as evicted.
        latest_ns = limit_ns + max(state.wall_offset_ns, 0)
        route.evicted_until_ns = max(route.evicted_until_ns, min(execution.ts_event_ns, latest_ns))
