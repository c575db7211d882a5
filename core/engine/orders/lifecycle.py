"""How the state of an order changes. The one place that ends an order, brings one back, or calls it unknown."""

from __future__ import annotations

from decimal import Decimal

from ...messages import LegState, RejectCode
from ..state import OrderRecord, route_of
from ..turn import Turn


def refresh_order(turn: Turn, record: OrderRecord) -> None:
    """Sum the order's executions anew; a live order that has traded shows it."""
    filled = Decimal(0)
    for key in record.executions:
        execution = turn.state.executions[key]
        if execution.counts:
            filled += execution.quantity
    record.cum_qty = filled
    if record.live and record.state is not LegState.UNKNOWN and filled:
        record.state = LegState.PARTIALLY_FILLED
    elif record.state is LegState.FILLED and filled < record.quantity:
        # A bust after the last fill: the platform is done with the order, but it did not fill.
        record.state = LegState.CANCELLED
        record.text = "an execution was taken back"
    record_unreported(turn, record)


def record_unreported(turn: Turn, record: OrderRecord) -> None:
    """Keep the list of orders for which the platform reports more lots than it has delivered executions."""
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
    """The order can trade no more. `presumed`: concluded from a snapshot, so a late answer may bring it back."""
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
    """A late answer: the platform has an order that snapshots had not shown."""
    order = record.order
    record.state = state
    record.presumed_ended = False
    record.missed_snapshots = 0
    record.code = RejectCode.NONE
    record.text = "answered after it was taken for lost"
    turn.count("late_answer")
    turn.alert(RejectCode.OUTCOME_UNKNOWN, f"order {order.client_order_id} answered late", order.platform)
    route = route_of(order.platform, order.account)
    turn.state.routes[route].live[order.client_order_id] = None
    turn.await_answer(order.client_order_id)
    turn.touch(record.signal_id)
    turn.touch_route(route)


def mark_unknown(turn: Turn, record: OrderRecord, text: str) -> None:
    """Nobody knows what became of the order. It is asked about; it is not sent again."""
    if not record.live or record.state is LegState.UNKNOWN:
        return
    record.state = LegState.UNKNOWN
    record.unknown_since_ns = turn.now_ns
    record.text = text
    turn.count("unknown")
    turn.alert(RejectCode.OUTCOME_UNKNOWN, f"order {record.order.client_order_id}: {text}", record.order.platform)
    turn.touch(record.signal_id)


def confirm_working(turn: Turn, record: OrderRecord) -> None:
    """The platform knows the order and it is alive."""
    record.unknown_since_ns = 0
    record.missed_snapshots = 0
    state = LegState.PARTIALLY_FILLED if record.cum_qty else LegState.WORKING
    if record.acked_ns and record.state is state:
        return
    record.acked_ns = record.acked_ns or turn.now_ns
    record.state = state
    turn.touch(record.signal_id)
