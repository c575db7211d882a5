"""Changes of OrdStatus: the only module that ends an order, revives one, or makes it unknown.

Each change goes through the table in `transitions.py`. An event that no row there allows is counted and alerted, and
the order stays as it is.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from ...messages import LegState, RejectCode, WorkingOrder
from ..state import OrderRecord, route_of
from ..turn import Turn, list_live, unlist_live
from .transitions import TRANSITIONS, OrderEvent

ENDS: Final = {
    LegState.FILLED: OrderEvent.COMPLETED,
    LegState.CANCELLED: OrderEvent.CANCELLED,
    LegState.REJECTED: OrderEvent.REJECTED,
    LegState.EXPIRED: OrderEvent.EXPIRED,
}


def move(turn: Turn, record: OrderRecord, event: OrderEvent) -> bool:
    """Change an order's state by the table. False: no row allows it, which is alerted, and nothing was changed."""
    turn.touch_order(record.order.client_order_id)
    row = TRANSITIONS.get((record.state, event))
    if row is not None:
        if row.state is not record.state:
            record.state = row.state
            _list_unknown(turn, record)
        return True
    turn.count("illegal_transition")
    text = f"reported as {event} after it was {record.state}: not applied, look at the platform"
    if text not in record.text:  # a platform that lists it so in each snapshot is alerted once
        record.text = f"{record.text}; {text}" if record.text else text
        turn.alert(RejectCode.NOT_ALLOWED, f"order {record.order.client_order_id}: {text}", record.order.platform)
        turn.touch(record.signal_id)
    return False


def _list_unknown(turn: Turn, record: OrderRecord) -> None:
    """Keep the route's list of unknown orders: while it has any, snapshots are requested."""
    order = record.order
    listed = turn.state.routes[route_of(order.platform, order.account)].unknown_orders
    if record.state is LegState.UNKNOWN:
        listed[order.client_order_id] = None
    else:
        listed.pop(order.client_order_id, None)


def check_late_status(turn: Turn, record: OrderRecord, row: WorkingOrder) -> None:
    """Check a status of an order that has ended: one that was overtaken is counted, one that cannot be is alerted."""
    match row.state:
        case LegState.FILLED | LegState.UNKNOWN:
            return  # its executions say whether it filled; an order that has ended is not unknown
        case LegState.CANCELLED | LegState.REJECTED | LegState.EXPIRED:
            move(turn, record, ENDS[row.state])
        case _:
            turn.count("stale_update")
            move(turn, record, OrderEvent.ACKNOWLEDGED_PARTIAL if row.filled else OrderEvent.ACKNOWLEDGED)


def refresh_order(turn: Turn, record: OrderRecord) -> None:
    """Set CumQty from the order's executions, and the state that follows from it."""
    filled = Decimal(0)
    for key in record.executions:
        execution = turn.state.executions[key]
        if execution.counts:
            filled += execution.own_quantity
    record.cum_qty = filled
    if record.state is LegState.FILLED and filled < record.quantity:
        move(turn, record, OrderEvent.BUSTED)
        record.text = "an execution was busted"
    elif filled:
        move(turn, record, OrderEvent.EXECUTED)
    record_unreported(turn, record)


def record_unreported(turn: Turn, record: OrderRecord) -> None:
    """Keep the route's list of orders with unreported lots: while it has any, snapshots are requested."""
    order = record.order
    listed = turn.state.routes[route_of(order.platform, order.account)].unreported_orders
    if record.unreported_qty:
        listed[order.client_order_id] = None
    else:
        listed.pop(order.client_order_id, None)


def end_order(
    turn: Turn,
    record: OrderRecord,
    state: LegState,
    code: RejectCode = RejectCode.NONE,
    text: str = "",
    presumed: bool = False,
) -> None:
    """End an order. `presumed`: concluded from snapshots that miss it, so a late answer may revive it."""
    order = record.order
    if not move(turn, record, OrderEvent.COMPLETED if record.cum_qty >= record.quantity else ENDS[state]):
        return
    record.presumed_ended = presumed
    record.unknown_since_ns = 0
    record.replace = None
    record.ended_ns = turn.now_ns
    if code is not RejectCode.NONE:
        record.code = code
    if text:
        record.text = text
    route = route_of(order.platform, order.account)
    unlist_live(turn.state, record)
    turn.touch(record.signal_id)
    turn.touch_route(route)


def end_if_complete(turn: Turn, record: OrderRecord) -> None:
    """End an order whose executions add up to its size: its status may be late or be lost.

    Not while a replace to a larger size is unanswered: if the platform has accepted it, the order works on.
    """
    if record.cum_qty >= record.quantity and (record.replace is None or record.cum_qty >= record.replace.quantity):
        end_order(turn, record, LegState.FILLED)


def revive_order(turn: Turn, record: OrderRecord) -> None:
    """Make an ended order live again: the platform has it after all."""
    order = record.order
    if not move(turn, record, OrderEvent.REAPPEARED):
        return
    record.presumed_ended = False
    record.missed_snapshots = 0
    record.code = RejectCode.NONE
    record.text = "answered after it was presumed lost"
    turn.count("late_answer")
    turn.alert(RejectCode.OUTCOME_UNKNOWN, f"order {order.client_order_id} answered late", order.platform)
    route = route_of(order.platform, order.account)
    list_live(turn.state, record)
    turn.await_answer(order.client_order_id)
    turn.touch(record.signal_id)
    turn.touch_route(route)


def mark_unknown(turn: Turn, record: OrderRecord, text: str) -> None:
    """Set UNKNOWN: sent, without an answer. Snapshots are requested until they show its fate; it is never resent."""
    if not record.live or record.state is LegState.UNKNOWN:
        return
    move(turn, record, OrderEvent.UNANSWERED)
    record.unknown_since_ns = turn.now_ns
    record.text = text
    turn.count("unknown")
    turn.alert(RejectCode.OUTCOME_UNKNOWN, f"order {record.order.client_order_id}: {text}", record.order.platform)
    turn.touch(record.signal_id)


def confirm_working(turn: Turn, record: OrderRecord) -> None:
    """Record that the order works at the platform."""
    record.unknown_since_ns = 0
    record.missed_snapshots = 0
    before, acked = record.state, record.acked_ns
    move(turn, record, OrderEvent.ACKNOWLEDGED_PARTIAL if record.cum_qty else OrderEvent.ACKNOWLEDGED)
    if not acked:
        record.acked_ns = record.last_news_ns = turn.now_ns
    if not acked or record.state is not before:
        turn.touch(record.signal_id)
