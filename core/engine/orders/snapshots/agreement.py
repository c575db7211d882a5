"""Whether a snapshot agrees with the books: a regular comparison that finds nothing is no event."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from .....shm.durations import NS_PER_MS
from ....messages import Snapshot, find_client_order_id
from ...clock import earliest_wall_ns
from ...events import SnapshotChanges
from ...state import EngineState, RouteRecord, route_of
from ..recognition import is_elsewhere
from .changes import find_changes, in_order, moved_positions
from .positions import find_gaps, traded_since
from .reconciliation import Parts, parts_of

_LATE_MS: Final = 300_000
"""An execution may be reported, or be stamped, this much late: a comparison begins this long before the last one."""


class Difference(Struct, frozen=True):
    """What a snapshot and the books do not agree about."""

    text: str  # for people
    needs_whole: bool = True
    """Whether only the executions of the whole period settle it. False: lots and executions agree, and only what was
    reported last is older than this (after a trade: the positions; an order of others)."""


def check_from_ns(state: EngineState, agreed_ns: int, as_of_ns: int) -> int:
    """Return the start of the executions to compare, UTC ns: the last moment at which all agreed, less a margin.

    `agreed_ns`: that moment, engine's time. `as_of_ns`: the same by the clock that stamps executions; 0 = not known.
    """
    earliest_ns = earliest_wall_ns(state, agreed_ns)
    if as_of_ns:
        earliest_ns = min(earliest_ns, as_of_ns)
    return max(earliest_ns - (_LATE_MS + state.settings.settle_ms) * NS_PER_MS, 0)


def compare_snapshot(state: EngineState, snapshot: Snapshot, sent_ns: int) -> Difference | None:
    """Return the first thing about which a snapshot and the books do not agree; None = they agree. Changes nothing.

    `sent_ns`: when it was requested, engine's time. What is on its way at that moment may differ rightly.
    """
    name = route_of(snapshot.platform, snapshot.account)
    route = state.routes.get(name)
    if route is None:
        return Difference(f"{name} is not known")
    parts = parts_of(route, snapshot)
    if not parts.whole:
        return Difference("it is not complete")
    if route.contradictions or route.unreported_orders:
        return Difference("a contradiction or an execution that was not delivered stands")
    if route.flatten_sent_ns or any(each.over_closed_request for each in route.positions.values()):
        return Difference("closing orders are barred until a snapshot of the engine's own has shown what is held")
    settled_ns = sent_ns - state.settings.settle_ms * NS_PER_MS
    changes = find_changes(state, route, snapshot)
    traded = traded_since(state, route, settled_ns)
    text = (
        _differing_execution(state, changes, settled_ns, parts)
        or _differing_order(state, route, changes, settled_ns, parts)
        or (_differing_position(state, route, changes, traded) if parts.positions else "")
    )
    if text:
        return Difference(text)
    if parts.orders and _others_moved(state, route, changes):
        return Difference("orders of others are not the same", needs_whole=False)
    if parts.positions and moved_positions(route, snapshot) - traded:
        return Difference("positions are not as they were last reported", needs_whole=False)
    return None


def _differing_execution(state: EngineState, changes: SnapshotChanges, settled_ns: int, parts: Parts) -> str:
    for fill in changes.snapshot.executions.rows:
        return f"execution {fill.exec_id} is not booked as it is listed"
    for key in changes.unlisted_executions if parts.executions else ():
        if state.executions[key].booked_ns <= settled_ns:
            return f"execution {key} is booked and not listed"
    return ""


def _differing_order(
    state: EngineState, route: RouteRecord, changes: SnapshotChanges, settled_ns: int, parts: Parts
) -> str:
    name = route_of(route.platform, route.account)
    lost = {order_id: each.row for order_id, each in state.orphans.items() if each.route == name and each.row}
    listed = set()
    for row in changes.snapshot.working_orders.rows:
        order_id = _own_id(state, name, row.client_order_id)
        if order_id is None:
            continue  # an order of others
        listed.add(order_id)
        if row == lost.get(order_id):
            continue  # one of ours that the journal has lost, unchanged
        record = state.orders.get(order_id)
        if record is None or max(record.last_news_ns, record.replace_sent_ns, record.cancel_sent_ns) <= settled_ns:
            return f"order {order_id} is not as it is listed"
    if not parts.orders:
        return ""
    for order_id in changes.unlisted_orders:
        if state.orders[order_id].last_news_ns <= settled_ns:
            return f"order {order_id} is not listed"
    for order_id in lost:
        if order_id not in listed:
            return f"order {order_id}, which the journal has lost, is not listed any more"
    return ""


def _own_id(state: EngineState, name: str, text: str) -> str | None:
    """Return the ClOrdID of one of our orders on this route; None for those of others, a copy of our id included."""
    parts = find_client_order_id(text)
    if parts is None or is_elsewhere(state, name, parts.client_order_id):
        return None
    return parts.client_order_id


def _others_moved(state: EngineState, route: RouteRecord, changes: SnapshotChanges) -> bool:
    if changes.same_external_orders:
        return False
    name = route_of(route.platform, route.account)
    rows = changes.snapshot.working_orders.rows
    others = [row for row in rows if not row.state.final and _own_id(state, name, row.client_order_id) is None]
    return in_order(others) != route.external_orders


def _differing_position(state: EngineState, route: RouteRecord, changes: SnapshotChanges, traded: set[str]) -> str:
    for symbol, gap in find_gaps(state, route, changes).items():
        position = route.positions.get(symbol)
        if symbol not in traded and (gap or (position is not None and position.mismatch_snapshots)):
            return f"position of {symbol} differs by {gap} lots"
    return ""
