"""Changes of OrdStatus: the only module that ends an order, revives one, or makes it unknown."""

from __future__ import annotations

from decimal import Decimal

from ...messages import LegState, RejectCode
from ..state import OrderRecord, route_of
from ..turn import Turn


def refresh_order(turn: Turn, record: OrderRecord) -> None:
    """Set CumQty from the order's executions, and the state that follows from it."""
    filled = Decimal(0)
    for key in record.executions:
        execution = turn.state.executions[key]
        if execution.counts:
            filled += execution.quantity
    record.cum_qty = filled
    if record.live and record.state is not LegState.UNKNOWN and filled:
        record.state = LegState.PARTIALLY_FILLED
    elif record.state is LegState.FILLED and filled < record.quantity:
        # A bust after the last fill: the order works no longer at the platform, and is not filled either.
        record.state = LegState.CANCELLED
        record.text = "an execution was busted"
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
    record.state = LegState.FILLED if record.cum_qty >= record.quantity else state
    record.presumed_ended = presumed
    record.unknown_since_ns = 0
    record.replace = None
    record.ended_ns = turn.now_ns
    if code is not RejectCode.NONE:
        record.code = code
    if text:
        record.text = text
    route = route_of(order.platform, order.account)
    turn.state.routes[route].live.pop(order.client_order_id, None)
    turn.touch(record.signal_id)
    turn.touch_route(route)


def revive_order(turn: Turn, record: OrderRecord, state: LegState) -> None:
    """Make an ended order live again: the platform has it after all."""
    order = record.order
    record.state = state
    record.presumed_ended = False
    record.missed_snapshots = 0
    record.code = RejectCode.NONE
    record.text = "answered after it was presumed lost"
    turn.count("late_answer")
    turn.alert(RejectCode.OUTCOME_UNKNOWN, f"order {order.client_order_id} answered late", order.platform)
    route = route_of(order.platform, order.account)
    turn.state.routes[route].live[order.client_order_id] = None
    turn.await_answer(order.client_order_id)
    turn.touch(record.signal_id)
    turn.touch_route(route)


def mark_unknown(turn: Turn, record: OrderRecord, text: str) -> None:
    """Set UNKNOWN: sent, without an answer. Snapshots are requested until they show its fate; it is never resent."""
    if not record.live or record.state is LegState.UNKNOWN:
        return
    record.state = LegState.UNKNOWN
    record.unknown_since_ns = turn.now_ns
    record.text = text
    turn.count("unknown")
    turn.alert(RejectCode.OUTCOME_UNKNOWN, f"order {record.order.client_order_id}: {text}", record.order.platform)
    turn.touch(record.signal_id)


def confirm_working(turn: Turn, record: OrderRecord) -> None:
    """Record that the order works at the platform."""
    record.unknown_since_ns = 0
    record.missed_snapshots = 0
    state = LegState.PARTIALLY_FILLED if record.cum_qty else LegState.WORKING
    if record.acked_ns and record.state is state:
        return
    record.acked_ns = record.acked_ns or turn.now_ns
    record.state = state
    turn.touch(record.signal_id)
