"""Whether a snapshot agrees with the books: a regular comparison that finds nothing is no event."""

from __future__ import annotations

from typing import Final

from .....shm.durations import NS_PER_MS
from ....messages import Snapshot, find_client_order_id
from ...events import SnapshotChanges
from ...state import EngineState, RouteRecord, route_of
from .changes import find_changes
from .positions import find_gaps, traded_since
from .reconciliation import parts_of

POSITIONS_MOVED: Final = "positions are not as they were last reported"
"""All that differs after a trade: the lots agree with the books, and the last report is older than the trade."""
_LATE_MS: Final = 300_000
"""An execution may be reported, or be stamped, this much late: a comparison begins this long before the last one."""


def check_from_ns(state: EngineState, agreed_ns: int, as_of_ns: int) -> int:
    """Return the start of the executions to compare, UTC ns: the last moment at which all agreed, less a margin.

    `agreed_ns`: that moment, engine's time. `as_of_ns`: the same by the clock that stamps executions; 0 = not known.
    """
    # The wall clock may have been set back since.
    earliest_ns = agreed_ns + min(0, state.lowest_offset_ns, state.wall_offset_ns)
    if as_of_ns:
        earliest_ns = min(earliest_ns, as_of_ns)
    return max(earliest_ns - (_LATE_MS + state.settings.settle_ms) * NS_PER_MS, 0)


def find_difference(state: EngineState, snapshot: Snapshot, sent_ns: int) -> str:
    """Return, for people, the first thing about which a snapshot and the books do not agree; empty = they agree.

    `sent_ns`: when it was requested, engine's time. What is on its way at that moment may differ rightly. Changes
    nothing.
    """
    name = route_of(snapshot.platform, snapshot.account)
    route = state.routes.get(name)
    if route is None:
        return f"{name} is not known"
    if not parts_of(route, snapshot).whole:
        return "it is not complete"
    if route.contradictions or route.unreported_orders:
        return "a contradiction or an execution that was not delivered stands"
    settled_ns = sent_ns - state.settings.settle_ms * NS_PER_MS
    changes = find_changes(state, route, snapshot)
    return (
        _differing_execution(state, changes, settled_ns)
        or _differing_order(state, route, changes, settled_ns)
        or _differing_position(state, route, changes, settled_ns)
    )


def _differing_execution(state: EngineState, changes: SnapshotChanges, settled_ns: int) -> str:
    for fill in changes.snapshot.executions.rows:
        return f"execution {fill.exec_id} is not booked as it is listed"
    for key in changes.unlisted_executions:
        if state.executions[key].booked_ns <= settled_ns:
            return f"execution {key} is booked and not listed"
    return ""


def _differing_order(state: EngineState, route: RouteRecord, changes: SnapshotChanges, settled_ns: int) -> str:
    if not changes.same_external_orders:
        return "orders of others are not the same"
    for row in changes.snapshot.working_orders.rows:
        parts = find_client_order_id(row.client_order_id)
        record = None if parts is None else state.orders.get(parts.client_order_id)
        if record is None or max(record.last_news_ns, record.replace_sent_ns, record.cancel_sent_ns) <= settled_ns:
            return f"order {row.client_order_id} is not as it is listed"
    for order_id in changes.unlisted_orders:
        if state.orders[order_id].last_news_ns <= settled_ns:
            return f"order {order_id} is not listed"
    name = route_of(route.platform, route.account)
    if any(orphan.row is not None and orphan.route == name for orphan in state.orphans.values()):
        return "an order of ours that the journal has lost works there"
    return ""


def _differing_position(state: EngineState, route: RouteRecord, changes: SnapshotChanges, settled_ns: int) -> str:
    traded = traded_since(state, route, settled_ns)
    for symbol, gap in find_gaps(state, route, changes).items():
        position = route.positions.get(symbol)
        if symbol not in traded and (gap or (position is not None and position.mismatch_snapshots)):
            return f"position of {symbol} differs by {gap} lots"
    if not changes.same_positions and not traded:
        return POSITIONS_MOVED
    return ""
