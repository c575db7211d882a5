"""Reconcile the state with a platform's snapshot: one path for start-up, crash recovery, reconnect and regular checks.

What a snapshot lists is true. What it does not list counts as gone only when the snapshot is complete, was requested
long enough after the event (`settle_ms`), and a second one does not list it either: until then the outcome is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct, structs

from .....shm.durations import NS_PER_MS
from ....messages import LegState, RejectCode, Snapshot, WorkingOrder, find_client_order_id
from ...clock import earliest_wall_ns
from ...events import SnapshotChanges
from ...state import ZERO, OrderRecord, RouteRecord, route_of
from ...turn import Turn, live_orders
from ..contradictions import STRIKES, await_cancels
from ..executions import apply_fill, presume_bust
from ..exposure import PROTECTIVE
from ..lifecycle import end_order, mark_unknown, record_unreported
from ..links import apply_account, pay_snapshot, schedule_snapshot
from ..recognition import find_own_id, recognise
from ..updates import accept_row, apply_row, reported_filled
from ..wakes import bars_of, wake_after_snapshot
from .changes import in_order
from .positions import apply_positions, find_gaps, has_flattened, note_booked, note_positions
from .settlement import settle_contradictions, stands_about_orders


class Parts(Struct, frozen=True):
    """Which parts of a snapshot prove absence: those that the platform can list, and that were read whole."""

    positions: bool
    orders: bool
    executions: bool
    whole: bool  # every part that the platform can list was read whole


def apply_snapshot(turn: Turn, changes: SnapshotChanges) -> None:
    """Reconcile the answer to the newest request. An older or unrequested snapshot only raises a counter."""
    snapshot = changes.snapshot
    name = route_of(snapshot.platform, snapshot.account)
    route = turn.state.routes.get(name)
    if route is None or not route.request_pending or snapshot.request_id != route.request_id:
        turn.count("stale_snapshot")
        return
    route.request_pending = False
    bars = bars_of(route)
    parts = parts_of(route, snapshot)
    # What happened later than this may still be on its way at the platform, and be missing in the snapshot rightly.
    settled_ns = route.request_sent_ns - turn.state.settings.settle_ms * NS_PER_MS
    said_before = {key: record.repeated for key, record in route.contradictions.items()}
    unlisted = set(changes.unlisted_orders)
    repeated = [order_id for order_id in route.live if order_id not in unlisted]
    _note_sizes(turn, snapshot)
    # Executions first: orders and positions are compared with sums that already hold them. The other way round, a fill
    # that only the snapshot shows would look like a position mismatch.
    doubts = _apply_executions(turn, changes, settled_ns, parts)
    doubts += _apply_orders(turn, route, changes, repeated, settled_ns, parts)
    note_positions(turn, name, changes)
    if route.contradictions:
        gaps = find_gaps(turn.state, route, changes) if parts.positions else None
        listed = snapshot.executions if parts.executions else None
        if parts.whole:
            doubts += settle_contradictions(turn, name, said_before, gaps, listed)
    if parts.positions:
        doubts += apply_positions(turn, route, changes, settled_ns)
    note_booked(turn, route, changes)
    if snapshot.funds is not None:
        apply_account(turn, snapshot.funds)
    if parts.whole:
        # Only now may entries leave. An incomplete snapshot proves nothing about what it does not list.
        route.ready = True
        route.reconciled_before = True
        route.last_reconciled_ns = turn.now_ns
        if route.whole_request:
            route.whole_compared_ns, route.executions_as_of_ns = turn.now_ns, snapshot.executions.as_of_ns
        turn.state.awaited_platforms.pop(route.platform, None)
        _accept_verification(turn, name, route.request_id)
        pay_snapshot(turn, name)
        for position in route.positions.values():
            if position.over_closed_request and position.over_closed_request <= snapshot.request_id:
                position.over_closed_request = 0
            # One that has traded since the request bars its lots until the next snapshot.
            doubts += bool(position.over_closed_request)
        if route.flatten_sent_ns <= settled_ns and has_flattened(turn, route):
            route.flatten_sent_ns = 0
    else:
        turn.count("incomplete_snapshot")
        doubts += 1
    if doubts:
        # Something has differed for the first time: the second snapshot, which decides, is requested soon.
        schedule_snapshot(turn, route, turn.state.settings.retry_ms)
    turn.touch_route(name)
    await_cancels(turn, route)  # what it has found working may be due earlier
    wake_after_snapshot(turn, name, bars)


def parts_of(route: RouteRecord, snapshot: Snapshot) -> Parts:
    """Return what a snapshot of this route proves."""
    able = route.hello.capabilities
    assert able is not None
    positions, orders, executions = (
        snapshot.complete and part.complete
        for part in (snapshot.positions, snapshot.working_orders, snapshot.executions)
    )
    return Parts(
        # Without all executions it is not known which of them the positions hold already.
        positions=positions and able.lists_positions and (executions or not able.executions_history),
        orders=orders and able.lists_orders,
        executions=executions and able.executions_history,
        whole=snapshot.complete
        and (positions or not able.lists_positions)
        and (orders or not able.lists_orders)
        and (executions or not able.executions_history),
    )


def _note_sizes(turn: Turn, snapshot: Snapshot) -> None:
    """Note the sizes of our orders as listed before executions are judged by them: a person may have enlarged one."""
    for row in snapshot.working_orders.rows:
        parts = find_client_order_id(row.client_order_id)
        record = None if parts is None else turn.state.orders.get(parts.client_order_id)
        if record is not None and (row.symbol, row.side) == (record.order.symbol, record.order.side):
            record.most_qty = max(record.most_qty, row.quantity)


def _accept_verification(turn: Turn, name: str, request_id: int) -> None:
    kill = turn.state.kills.get(name)
    if kill is not None and not kill.verified and request_id >= kill.verifying_request_id:
        kill.verifying_request_id = 0


def _apply_executions(turn: Turn, changes: SnapshotChanges, settled_ns: int, parts: Parts) -> int:
    listed = changes.snapshot.executions
    times = Counter(fill.exec_id for fill in listed.rows)
    for fill in listed.rows:
        apply_fill(turn, fill, times[fill.exec_id], listed.from_ns)
    if not parts.executions:
        return 0  # a platform without history lists no past executions: nothing follows from their absence
    doubts = 0
    for key in changes.unlisted_executions:
        record = turn.state.executions.get(key)
        if record is None or not record.counts or record.booked_ns > settled_ns:
            continue
        record.missed_snapshots += 1
        if record.missed_snapshots >= STRIKES:
            presume_bust(turn, key, record)
        else:
            doubts += 1
    return doubts


def _apply_orders(
    turn: Turn, route: RouteRecord, changes: SnapshotChanges, repeated: Sequence[str], settled_ns: int, parts: Parts
) -> int:
    """`repeated`: live orders whose rows were left out, since they say nothing new."""
    snapshot = changes.snapshot
    listed = set(repeated)
    external: list[WorkingOrder] = []
    doubts = 0
    for row in snapshot.working_orders.rows:
        own = find_own_id(turn, route_of(route.platform, route.account), row.client_order_id)
        if own is None:
            if not row.state.final:
                external.append(row)
            continue
        listed.add(own.client_order_id)
        record = recognise(turn, route, own, row)
        if record is None:
            turn.state.orphans[own.client_order_id].row = row
            continue
        if not accept_row(turn, record, row):
            continue
        if record.replace is not None and record.replace_sent_ns <= settled_ns:
            turn.count("replace_resolved_by_snapshot")
            if record.role in PROTECTIVE and row.quantity != record.replace.quantity:
                record.code, record.text = RejectCode.REPLACE_REJECTED, "its replace was never carried out"
            record.replace = None  # its answer was lost; the row shows the terms that hold, whatever became of it
            turn.touch(record.signal_id)
        if record.replace_sent_ns > settled_ns and record.replace is None:
            # The row may be older than a replace that has been answered since: its terms would undo that replace. A
            # later snapshot compares them.
            row = _with_current_terms(record, row)
        apply_row(turn, record, row, in_snapshot=True, settled_ns=settled_ns)
        if record.cancel_wanted and record.live and record.cancel_sent_ns <= settled_ns:
            record.cancel_sent_ns = 0  # still there after its cancel: the timers send another at once
        if record.unreported_qty and parts.whole and not stands_about_orders(route, record.order.symbol):
            doubts += _settle_unreported(turn, record, reported_filled(record, row), ended=row.state.final)
    if not parts.orders:
        return doubts  # what it does not list may work all the same, and nothing becomes unknown that was known
    if not changes.same_external_orders:
        route.external_orders = in_order(external)
    for order_id, orphan in turn.state.orphans.items():
        if orphan.route == route_of(route.platform, route.account) and order_id not in listed:
            orphan.row = None
    for record in live_orders(turn.state, route):
        if record.order.client_order_id not in listed:
            doubts += _check_unlisted(turn, route, record, snapshot, settled_ns, parts)
    for order_id in list(route.unreported_orders):
        record = turn.state.orders[order_id]
        if order_id not in listed and parts.whole and not stands_about_orders(route, record.order.symbol):
            doubts += _settle_unreported(turn, record, ZERO, ended=True)
    return doubts


def _with_current_terms(record: OrderRecord, row: WorkingOrder) -> WorkingOrder:
    return structs.replace(row, quantity=record.quantity, limit_price=record.limit_price, stop_price=record.stop_price)


def _settle_unreported(turn: Turn, record: OrderRecord, row_filled: Decimal, ended: bool) -> int:
    """Resolve lots that the platform counts and has no execution for. Returns 1 while in doubt.

    Count and executions of one snapshot were read at one moment. When they differ twice, the executions are right:
    waiting for the rest would keep the order open, and its leg from being closed, for ever. The count may stay as it is
    (a platform that does not lower it after a bust), so these lots are written off, and alerted once.
    """
    record.qty_mismatch_snapshots += 1
    if record.qty_mismatch_snapshots < STRIKES:
        return 1
    if row_filled > record.cum_qty:
        turn.count("fills_never_delivered")
        turn.alert(
            RejectCode.OUTCOME_UNKNOWN,
            f"order {record.order.client_order_id}: the platform counts {row_filled} lots filled but lists "
            f"{record.cum_qty}",
            record.order.platform,
        )
        record.written_off_qty += row_filled - record.cum_qty
    record.platform_cum_qty = record.cum_qty
    record_unreported(turn, record)
    turn.touch(record.signal_id)
    if record.live and ended:
        end_order(turn, record, LegState.CANCELLED, text="ended with fewer executions than first reported")
    return 0


def _check_unlisted(
    turn: Turn, route: RouteRecord, record: OrderRecord, snapshot: Snapshot, settled_ns: int, parts: Parts
) -> int:
    """Decide about a live order that the platform does not list. Returns 1 while in doubt."""
    if record.last_news_ns > settled_ns or stands_about_orders(route, record.order.symbol):
        return 1  # sent, acknowledged or filled too recently: it may be on its way; or what it traded is in doubt
    record.missed_snapshots += 1
    if record.missed_snapshots < STRIKES:
        mark_unknown(turn, record, "the platform does not list it")
        return 1
    if not parts.executions or snapshot.executions.from_ns > earliest_wall_ns(turn.state, record.sent_ns):
        # It may have filled, and the execution is not in this snapshot. Ending it would forget lots that are held;
        # `acknowledge` ends it.
        mark_unknown(turn, record, "the platform does not list it, and its executions do not reach back far enough")
        return 0
    if record.acked_ns or record.max_cum_qty or record.written_off_qty:
        end_order(turn, record, LegState.CANCELLED, RejectCode.GONE_AT_PLATFORM, "gone at the platform", True)
    else:
        text = "the platform never had it"
        end_order(turn, record, LegState.REJECTED, RejectCode.NOT_FOUND_AT_PLATFORM, text, True)
    turn.count("unknown_resolved_absent")
    return 0
