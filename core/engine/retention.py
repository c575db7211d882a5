"""Forgetting what is long over, so that a gateway can run for months. The journal keeps it all."""

from __future__ import annotations

from .settings import NS_PER_MS
from .turn import Turn


def forget_finished(turn: Turn) -> None:
    """Drop signals that ended longer ago than `retention_ms`, with their orders and executions.

    Safe, because a signal this old is refused as stale before its id is looked at; its lots stay in the
    position.
    """
    state = turn.state
    limit_ns = turn.now_ns - state.settings.retention_ms * NS_PER_MS
    if limit_ns <= 0:
        return
    gone = []
    for signal_id, record in state.signals.items():
        if record.received_ns > limit_ns:
            break  # in order of arrival: the rest is younger
        if record.done_ns and record.done_ns <= limit_ns:
            gone.append(signal_id)
    for signal_id in gone:
        record = state.signals.pop(signal_id)
        state.forgotten_ns = max(state.forgotten_ns, record.done_ns)
        state.keys.pop(record.key, None)
        for leg in record.legs:
            route = state.routes.get(leg.route)
            for key in leg.executions:
                state.executions.pop(key, None)
                if route is not None:
                    route.executions.pop(key, None)
            for order_id in leg.orders:
                state.orders.pop(order_id, None)
    for key in [key for key, seen_ns in state.seen_keys.items() if seen_ns <= limit_ns]:
        state.seen_keys.pop(key)
    for order_id in [o for o, orphan in state.orphans.items() if orphan.since_ns <= limit_ns and orphan.row is None]:
        state.orphans.pop(order_id)
