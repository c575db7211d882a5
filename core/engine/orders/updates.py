"""Apply order status reports of a platform: acknowledgements, ends, rejects, answers to cancels and replaces.

They may arrive in any order, twice, or not at all.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import structs

from ....shm.durations import NS_PER_MS
from ...messages import LegState, OrderRole, OrderUpdate, Reject, RejectCode, WorkingOrder, find_client_order_id
from ..state import OPENING, ZERO, OrderRecord, RouteRecord, route_of
from ..turn import Turn
from .closing import note_progress
from .contradictions import await_cancels, doubt_row, legs_of, open_contradiction
from .lifecycle import (
    check_late_status,
    confirm_working,
    end_if_complete,
    end_order,
    mark_unknown,
    move,
    record_unreported,
    revive_order,
)
from .recognition import find_own_id, recognise
from .transitions import OrderEvent
from .wakes import wake_route

_ENDS = (LegState.CANCELLED, LegState.REJECTED, LegState.EXPIRED)


def row_of(update: OrderUpdate) -> WorkingOrder:
    """Return an order status as the row of a snapshot that says the same."""
    return WorkingOrder(
        client_order_id=update.client_order_id,
        symbol=update.symbol,
        side=update.side,
        state=update.state,
        quantity=update.quantity,
        filled=update.filled,
        platform_order_id=update.platform_order_id,
        order_type=update.order_type,
        limit_price=update.limit_price,
        stop_price=update.stop_price,
    )


def apply_update(turn: Turn, update: OrderUpdate) -> None:
    """Apply one order status. An external order is listed, and never touched."""
    name = route_of(update.platform, update.account)
    route = turn.state.routes.get(name)
    if route is None:
        turn.count("update_from_unknown_route")
        return
    row = row_of(update)
    parts = find_own_id(turn, name, update.client_order_id)
    if parts is None:
        _record_external(turn, route, row)
        return
    record = recognise(turn, route, parts, row)
    if record is None:
        turn.state.orphans[parts.client_order_id].row = row
        turn.touch_route(name)
        return
    if not accept_row(turn, record, row):
        return
    if update.replace_revision and update.state not in _ENDS and record.live:
        _finish_replace(turn, record, update)
    apply_row(turn, record, row, update.code, update.text, in_snapshot=False)


def accept_row(turn: Turn, record: OrderRecord, row: WorkingOrder) -> bool:
    """Judge an order status before it is applied. False: it is of another symbol or side, a contradiction, not applied.

    One that counts more lots as filled than the order has is a contradiction as well; the rest of it is applied.
    """
    found_here = not record.order.not_after_ns and not record.executions and record.role not in OPENING
    if found_here and row.symbol == record.order.symbol:
        record.order = structs.replace(record.order, side=row.side)  # it was known by an execution alone
    doubt = doubt_row(record, row)
    if doubt is None:
        return True
    open_contradiction(
        turn,
        route_of(record.order.platform, record.order.account),
        doubt,
        [record.order.symbol, row.symbol],
        client_order_id=record.order.client_order_id,
        legs=legs_of(record),
    )
    return (row.symbol, row.side) == (record.order.symbol, record.order.side)


def reported_filled(record: OrderRecord, row: WorkingOrder) -> Decimal:
    """Return the lots of a row that are this order's: within its size, and without those that are external by now."""
    return max(min(row.filled - record.written_off_qty, record.most_qty), ZERO)


def apply_row(
    turn: Turn,
    record: OrderRecord,
    row: WorkingOrder,
    code: RejectCode = RejectCode.NONE,
    text: str = "",
    *,
    in_snapshot: bool,
    settled_ns: int = 0,
) -> None:
    """Update a record from a row of the platform. `settled_ns`: what happened before this time is complete in the row.

    A late row cannot undo an end, except one that was only presumed.
    """
    turn.touch_order(record.order.client_order_id)
    record.most_qty = max(record.most_qty, row.quantity)  # a person may have made it larger at the platform
    record.platform_order_id = row.platform_order_id or record.platform_order_id
    # Lots beyond the order's size are for a snapshot to settle: they are no lots of this order.
    filled = reported_filled(record, row)
    if filled > record.platform_cum_qty:
        record.platform_cum_qty = filled
        record.qty_mismatch_snapshots = 0
        record_unreported(turn, record)
        leg = turn.leg(record.signal_id, record.leg)
        if record.role is OrderRole.EXIT and leg is not None:
            note_progress(leg)  # its execution may come later
        turn.touch(record.signal_id)
    if not record.live:
        # A snapshot requested long enough after the end is newer than what ended it; a stray status may be older.
        contradicted = in_snapshot and record.ended_ns <= settled_ns
        if (record.presumed_ended or contradicted) and not row.state.final:
            revive_order(turn, record)
        elif record.presumed_ended and row.state is LegState.FILLED:
            turn.count("late_answer")
            record.presumed_ended = False
            # It was presumed rejected or cancelled and has filled. Its executions will book the lots and set FILLED.
            move(turn, record, OrderEvent.EXECUTED)
        else:
            check_late_status(turn, record, row)
        if not record.live:
            return
    if (in_snapshot or _is_shrunk_sibling(turn, record, row)) and record.replace is None:
        # Terms as the platform holds them now: an unanswered replace may or may not have been accepted, and sizes that
        # differ from the platform's would make every bound of this order wrong.
        _check_size(turn, record, row)
        if record.quantity != row.quantity and record.signal_id:
            turn.mark_for_settle(record.signal_id)  # its leg may want another size
        record.quantity = row.quantity
        record.limit_price = row.limit_price if row.limit_price is not None else record.limit_price
        record.stop_price = row.stop_price if row.stop_price is not None else record.stop_price
    if row.state in _ENDS:
        end_order(turn, record, row.state, code, text)
    elif row.state is LegState.FILLED:
        if not record.acked_ns:
            record.acked_ns = record.last_news_ns = turn.now_ns
        record.unknown_since_ns = 0
        pending = record.replace
        size = min(row.filled, record.most_qty)
        if pending is not None and size > 0 and record.cum_qty <= size <= max(record.quantity, pending.quantity):
            # It has filled, so it changes no more: whatever became of the replace, this was its size.
            record.quantity, record.replace = size, None
        if record.cum_qty >= record.quantity:
            end_order(turn, record, LegState.FILLED)
        elif record.written_off_qty and record.cum_qty + record.written_off_qty >= record.quantity:
            text = f"filled by the platform's count; {record.written_off_qty} of these lots are none of its leg"
            end_order(turn, record, LegState.CANCELLED, text=text)
        else:
            # Filled at the platform, and executions are still on their way: it ends when the last of them is booked.
            turn.touch(record.signal_id)
            move(turn, record, OrderEvent.ACKNOWLEDGED_PARTIAL if record.cum_qty else OrderEvent.ACKNOWLEDGED)
    elif row.state is LegState.UNKNOWN:
        mark_unknown(turn, record, text or "the platform does not know the state of its own order")
    elif row.state is not LegState.PENDING and row.state is not LegState.SENT:
        confirm_working(turn, record)


def _is_shrunk_sibling(turn: Turn, record: OrderRecord, row: WorkingOrder) -> bool:
    """Whether a platform that shrinks the other one of a pair has done so: its order traded in part.

    Not just after a replace of ours: the status may be older than that.
    """
    route = turn.state.routes[route_of(record.order.platform, record.order.account)]
    capabilities = route.hello.capabilities
    if capabilities is None or not capabilities.oco_shrinks or not record.order.oco_group:
        return False
    settled = turn.now_ns - record.replace_sent_ns >= turn.state.settings.settle_ms * NS_PER_MS
    return settled and record.max_cum_qty < row.quantity < record.quantity


def _check_size(turn: Turn, record: OrderRecord, row: WorkingOrder) -> None:
    leg = turn.leg(record.signal_id, record.leg)
    if leg is None or record.role not in OPENING or row.quantity == record.quantity or row.quantity <= leg.quantity:
        return
    turn.count("made_larger")
    turn.alert(
        RejectCode.PARENT_EXCEEDED,
        f"order {record.order.client_order_id} is {row.quantity} lots at the platform, the leg was sized "
        f"{leg.quantity}: it was changed at the platform",
        record.order.platform,
    )


def apply_reject(turn: Turn, reject: Reject) -> None:
    """Apply the reject of an order, a cancel or a replace, by an adapter or a platform."""
    parts = find_client_order_id(reject.client_order_id)
    record = turn.state.orders.get(parts.client_order_id) if parts is not None else None
    if record is None or (
        reject.platform and (reject.platform, reject.account) != (record.order.platform, record.order.account)
    ):
        _note_refused_flatten(turn, reject)
        turn.count("reject_of_unknown_order")
        return
    turn.touch(record.signal_id)
    if reject.code is RejectCode.CANCEL_REJECTED:
        # The order works, or has just filled. `cancel_wanted` stays: the timers send the cancel again while it works.
        turn.count("cancel_rejected")
        return
    if reject.code in (RejectCode.REPLACE_REJECTED, RejectCode.UNSUPPORTED_REPLACE):
        turn.count("replace_rejected")
        if record.replace is not None and reject.replace_revision == record.replace.revision:
            record.replace = None
            record.code, record.text = reject.code, reject.text
            if record.live:
                end_if_complete(turn, record)  # its last fill may have come while the replace was unanswered
        return
    if not record.live or record.max_cum_qty:
        turn.count("stale_update")
        return
    if record.acked_ns and reject.code in (RejectCode.TOO_LATE_TO_SEND, RejectCode.LINK_DOWN):
        # The reject of a second copy of an order that the platform already has: it means nothing for the first.
        turn.count("stale_update")
        return
    end_order(turn, record, LegState.REJECTED, reject.code, reject.text)


def _note_refused_flatten(turn: Turn, reject: Reject) -> None:
    """A refusal without an order, while the platform's own flatten is under way, is that of the flatten."""
    route = turn.state.routes.get(route_of(reject.platform, reject.account))
    of_an_order = (RejectCode.CANCEL_REJECTED, RejectCode.REPLACE_REJECTED, RejectCode.UNSUPPORTED_REPLACE)
    if route is None or not route.flatten_sent_ns or reject.client_order_id or reject.code in of_an_order:
        return
    route.flatten_sent_ns = 0
    await_cancels(turn, route)
    text = f"{reject.platform}|{reject.account}: its own flatten was refused: {reject.text}"
    turn.alert(reject.code, f"{text}; flatten at the platform itself", reject.platform)
    wake_route(turn, route_of(reject.platform, reject.account))


def _finish_replace(turn: Turn, record: OrderRecord, update: OrderUpdate) -> None:
    if update.replace_revision < record.replaced_revision:
        turn.count("stale_update")
        return
    turn.touch(record.signal_id)  # its size may be another one than is wanted by now
    record.replaced_revision = update.replace_revision
    record.quantity = update.quantity
    record.most_qty = max(record.most_qty, update.quantity)
    record.limit_price = update.limit_price
    record.stop_price = update.stop_price
    if record.replace is not None and record.replace.revision <= update.replace_revision:
        record.replace = None


def _record_external(turn: Turn, route: RouteRecord, row: WorkingOrder) -> None:
    turn.count("external_update")
    others = [
        other
        for other in route.external_orders
        if other.platform_order_id != row.platform_order_id or not row.platform_order_id
    ]
    if not row.state.final:
        others.append(row)
    route.external_orders = others[-1_000:]
