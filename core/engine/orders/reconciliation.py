"""Reconcile the state with a platform's snapshot: one path for start-up, crash recovery, reconnect and regular checks.

What a snapshot lists is true. What it does not list counts as gone only when the snapshot is complete, was requested
long enough after the event (`settle_ms`), and a second one does not list it either: until then the outcome is unknown.
"""

from __future__ import annotations

from decimal import Decimal

from ....shm.durations import NS_PER_MS
from ...messages import LegState, RejectCode, Snapshot, WorkingOrder
from ..state import ZERO, OrderRecord, RouteRecord, route_of
from ..turn import Turn, live_orders
from .executions import apply_fill, execution_key, presume_bust
from .exits import absorb_external
from .lifecycle import end_order, mark_unknown, record_unreported
from .links import apply_account, schedule_snapshot
from .recognition import find_own_id, recognise
from .updates import apply_row

STRIKES = 2
"""Snapshots that must miss something, or differ by the same figure, before they are accepted."""


def apply_snapshot(turn: Turn, snapshot: Snapshot) -> None:
    """Reconcile the answer to the newest request. An older or unrequested snapshot only raises a counter."""
    name = route_of(snapshot.platform, snapshot.account)
    route = turn.state.routes.get(name)
    if route is None or not route.request_pending or snapshot.request_id != route.request_id:
        turn.count("stale_snapshot")
        return
    route.request_pending = False
    # What happened later than this may still be on its way at the platform, and be missing in the snapshot rightly.
    settled_ns = route.request_sent_ns - turn.state.settings.settle_ms * NS_PER_MS
    # Executions first: orders and positions are compared with sums that already hold them. The other way round, a fill
    # that only the snapshot shows would look like a position mismatch.
    doubts = _apply_executions(turn, route, snapshot, settled_ns)
    doubts += _apply_orders(turn, route, snapshot, settled_ns)
    doubts += _apply_positions(turn, route, snapshot)
    if snapshot.funds is not None:
        apply_account(turn, snapshot.funds)
    if snapshot.complete:
        # Only now may entries leave. An incomplete snapshot proves nothing about what it does not list.
        route.ready = True
        route.reconciled_before = True
        route.last_reconciled_ns = turn.now_ns
        turn.state.awaited_platforms.pop(route.platform, None)
        _accept_verification(turn, name, route.request_id)
    else:
        turn.count("incomplete_snapshot")
        doubts += 1
    if doubts:
        # Something has differed for the first time: the second snapshot, which decides, is requested soon.
        schedule_snapshot(turn, route, turn.state.settings.retry_ms)
    turn.touch_route(name)
    for signal_id in turn.state.active:
        if any(leg.route == name for leg in turn.state.signals[signal_id].legs):
            turn.mark_for_settle(signal_id)


def _accept_verification(turn: Turn, name: str, request_id: int) -> None:
    kill = turn.state.kills.get(name)
    if kill is not None and not kill.verified and request_id >= kill.verifying_request_id:
        kill.verifying_request_id = 0


def _apply_executions(turn: Turn, route: RouteRecord, snapshot: Snapshot, settled_ns: int) -> int:
    for fill in snapshot.executions.rows:
        apply_fill(turn, fill, from_snapshot=True)
    capabilities = route.hello.capabilities
    if not snapshot.complete or capabilities is None or not capabilities.executions_history:
        return 0  # a platform without history lists no past executions: nothing follows from their absence
    listed = {execution_key(f.platform, f.account, f.exec_id) for f in snapshot.executions.rows}
    doubts = 0
    for key in route.executions:
        record = turn.state.executions[key]
        in_range = snapshot.executions.from_ns <= record.ts_event_ns <= settled_ns
        if key in listed or not record.counts or not in_range:
            continue
        record.missed_snapshots += 1
        if record.missed_snapshots >= STRIKES:
            presume_bust(turn, key, record)
        else:
            doubts += 1
    return doubts


def _apply_orders(turn: Turn, route: RouteRecord, snapshot: Snapshot, settled_ns: int) -> int:
    listed: set[str] = set()
    external: list[WorkingOrder] = []
    doubts = 0
    for row in snapshot.working_orders.rows:
        parts = find_own_id(turn, route_of(route.platform, route.account), row.client_order_id)
        if parts is None:
            if not row.state.final:
                external.append(row)
            continue
        listed.add(parts.client_order_id)
        record = recognise(turn, route, parts, row)
        if record is None:
            turn.state.orphans[parts.client_order_id].row = row
            continue
        if record.replace is not None and record.replace_sent_ns <= settled_ns:
            turn.count("replace_resolved_by_snapshot")
            record.replace = None  # its answer was lost; the row shows the terms that hold, whatever became of it
        if record.replace_sent_ns > settled_ns and record.replace is None:
            # The row may be older than a replace that has been answered since: its terms would undo that replace. A
            # later snapshot compares them.
            row = _with_current_terms(record, row)
        apply_row(turn, record, row, in_snapshot=True, settled_ns=settled_ns)
        if record.cancel_wanted and record.live and record.cancel_sent_ns <= settled_ns:
            record.cancels_sent = 0  # still there after its cancel: the timers send another at once
        if record.unreported_qty and snapshot.complete:
            doubts += _settle_unreported(turn, record, row.filled, ended=row.state.final)
    route.external_orders = external
    for order_id, orphan in turn.state.orphans.items():
        if orphan.route == route_of(route.platform, route.account) and order_id not in listed:
            orphan.row = None
    for record in live_orders(turn.state, route):
        if record.order.client_order_id not in listed:
            doubts += _check_unlisted(turn, route, record, snapshot, settled_ns)
    for order_id in list(route.unreported_orders):
        if order_id not in listed and snapshot.complete:
            doubts += _settle_unreported(turn, turn.state.orders[order_id], ZERO, ended=True)
    return doubts


def _with_current_terms(record: OrderRecord, row: WorkingOrder) -> WorkingOrder:
    return WorkingOrder(
        client_order_id=row.client_order_id,
        symbol=row.symbol,
        side=row.side,
        state=row.state,
        quantity=record.quantity,
        filled=row.filled,
        platform_order_id=row.platform_order_id,
        order_type=row.order_type,
        limit_price=record.limit_price,
        stop_price=record.stop_price,
    )


def _settle_unreported(turn: Turn, record: OrderRecord, row_filled: Decimal, ended: bool) -> int:
    """Resolve lots that the platform counts and has no execution for. Returns 1 while in doubt.

    Count and executions of one snapshot were read at one moment. When they differ twice, the executions are right:
    waiting for the rest would keep the order open, and its leg from being closed, for ever.
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
    record.platform_cum_qty = max(row_filled, record.cum_qty)
    record_unreported(turn, record)
    if record.live and ended:
        end_order(turn, record, LegState.CANCELLED, text="ended with fewer executions than first reported")
    return 0


def _check_unlisted(turn: Turn, route: RouteRecord, record: OrderRecord, snapshot: Snapshot, settled_ns: int) -> int:
    """Decide about a live order that the platform does not list. Returns 1 while in doubt."""
    touched_ns = max(record.sent_ns, record.acked_ns, record.last_fill_ns)
    if touched_ns > settled_ns:
        return 1  # sent, acknowledged or filled too recently: it may be on its way
    if snapshot.complete:
        record.missed_snapshots += 1
    if record.missed_snapshots < STRIKES:
        mark_unknown(turn, record, "the platform does not list it")
        return 1
    capabilities = route.hello.capabilities
    history = capabilities is not None and capabilities.executions_history
    if not snapshot.complete or not history or snapshot.executions.from_ns > record.sent_ns:
        # It may have filled, and the execution is not in this snapshot. Ending it would forget lots that are held;
        # `acknowledge` ends it.
        mark_unknown(turn, record, "the platform does not list it, and its executions do not reach back far enough")
        return 0
    if record.acked_ns or record.max_cum_qty:
        end_order(turn, record, LegState.CANCELLED, RejectCode.GONE_AT_PLATFORM, "gone at the platform", True)
    else:
        text = "the platform never had it"
        end_order(turn, record, LegState.REJECTED, RejectCode.NOT_FOUND_AT_PLATFORM, text, True)
    turn.count("unknown_resolved_absent")
    return 0


def _apply_positions(turn: Turn, route: RouteRecord, snapshot: Snapshot) -> int:
    """Compare net positions with the platform's. The first snapshot is adopted; a later difference blocks entries."""
    theirs: dict[str, Decimal] = {}
    tickets: dict[str, dict[str, Decimal]] = {}
    for row in snapshot.positions.rows:
        theirs[row.symbol] = theirs.get(row.symbol, ZERO) + row.quantity
        turn.position(route_of(route.platform, route.account), row.symbol).contract = row.contract
        if row.ticket:
            tickets.setdefault(row.symbol, {})[row.ticket] = row.quantity
    if not snapshot.complete:
        return 0
    newer = _newer_than(turn, route, snapshot)
    if not newer:
        route.tickets = tickets
    doubts = 0
    for symbol in dict.fromkeys([*route.positions, *theirs]):
        position = turn.position(route_of(route.platform, route.account), symbol)
        gap = theirs.get(symbol, ZERO) - (position.net - newer.get(symbol, ZERO))
        if not gap:
            position.mismatch, position.mismatch_snapshots = ZERO, 0
            continue
        if not route.reconciled_before:
            # Nothing is known of this account yet: what it holds was there before us.
            turn.count("position_adopted")
            _adopt(turn, route, symbol, gap, block=False)
            continue
        position.mismatch_snapshots = position.mismatch_snapshots + 1 if gap == position.mismatch else 1
        position.mismatch = gap
        doubts += 1
        if position.mismatch_snapshots >= STRIKES:
            turn.count("position_drift")
            _adopt(turn, route, symbol, gap, block=True)
    return doubts


def _newer_than(turn: Turn, route: RouteRecord, snapshot: Snapshot) -> dict[str, Decimal]:
    """Sum lots per symbol of executions that are newer than the snapshot: its position cannot hold them yet."""
    capabilities = route.hello.capabilities
    if capabilities is None or not capabilities.executions_history:
        return {}
    listed = {execution_key(f.platform, f.account, f.exec_id) for f in snapshot.executions.rows}
    newer: dict[str, Decimal] = {}
    for key in route.executions:
        record = turn.state.executions[key]
        if record.counts and key not in listed and record.ts_event_ns >= snapshot.executions.from_ns:
            newer[record.symbol] = newer.get(record.symbol, ZERO) + record.signed
    return {symbol: lots for symbol, lots in newer.items() if lots}


def _adopt(turn: Turn, route: RouteRecord, symbol: str, gap: Decimal, block: bool) -> None:
    position = turn.position(route_of(route.platform, route.account), symbol)
    # The difference is external: no leg of ours explains it. What it took off our legs is subtracted from them.
    position.net += gap
    position.external += gap
    position.mismatch, position.mismatch_snapshots = ZERO, 0
    position.blocked = position.blocked or block
    absorb_external(turn, route_of(route.platform, route.account), symbol, gap)
    turn.alert(
        RejectCode.POSITION_MISMATCH,
        f"{symbol}: platform holds {position.net}, {gap:+} more than booked; its figure is adopted"
        + ("; new orders wait for `acknowledge`" if block else ""),
        route.platform,
    )
