"""What was sent was sent: bring the state to the orders that the journal holds, where this program would send others.

The journal of a former release is replayed by a program that may decide otherwise. What it would have sent was never
sent, and what was sent is at the platforms: the answers that follow in the journal are about those orders. So after
such an event the state holds the journal's orders, cancels and replaces, and the next event is applied to that.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...messages import Cancel, Flatten, Order, Replace, SnapshotRequest, find_client_order_id
from ..state import OrderRecord, route_of
from ..turn import Turn, activate, unlist_live
from .placement import record_sent

Message = Order | Cancel | Replace | Flatten | SnapshotRequest


def follow_sent(turn: Turn, made: Sequence[Message], sent: Sequence[Message]) -> None:
    """Undo what this turn has made and the journal does not hold, then record what it holds instead."""
    for message in made:
        if message not in sent:
            _undo(turn, message)
    for message in sent:
        if message not in made:
            _record(turn, message)


def _undo(turn: Turn, message: Message) -> None:
    if isinstance(message, Flatten | SnapshotRequest):
        return
    record = turn.state.orders.get(message.client_order_id)
    if record is None:
        return
    if isinstance(message, Replace):
        record.replace, record.replace_sent_ns = None, 0
        record.revision -= 1
        turn.touch(record.signal_id)
    elif isinstance(message, Cancel):
        record.cancels_sent -= 1
        record.cancel_sent_ns = 0
        record.cancel_wanted = record.cancels_sent > 0
        turn.await_answer(message.client_order_id)
        turn.touch(record.signal_id)
    else:
        _forget(turn, record)


def _forget(turn: Turn, record: OrderRecord) -> None:
    order = record.order
    turn.state.orders.pop(order.client_order_id)
    unlist_live(turn.state, record)
    leg = turn.leg(record.signal_id, record.leg)
    if leg is not None:
        leg.orders.pop(order.client_order_id, None)
        leg.attempts[record.role] = record.attempt
        turn.touch(record.signal_id)


def _record(turn: Turn, message: Message) -> None:
    if isinstance(message, Order):
        _record_order(turn, message)
        return
    if isinstance(message, Flatten | SnapshotRequest):
        return
    record = turn.state.orders.get(message.client_order_id)
    if record is None:
        return  # the cancel of an external order, or of an orphan
    if isinstance(message, Cancel):
        record.cancel_wanted = True
        record.cancels_sent += 1
        record.cancel_sent_ns = turn.now_ns
    else:
        record.replace, record.replace_sent_ns = message, turn.now_ns
        record.revision = message.revision
        record.most_qty = max(record.most_qty, message.quantity)
    turn.await_answer(message.client_order_id)
    turn.touch(record.signal_id)


def _record_order(turn: Turn, order: Order) -> None:
    parts = find_client_order_id(order.client_order_id)
    route = turn.state.routes.get(route_of(order.platform, order.account))
    if parts is None or route is None:
        return
    signal_id = turn.state.signals_by_key.get(parts.key, "")  # empty: a closing order for lots of no leg
    legs = turn.state.signals[signal_id].legs if signal_id else []
    name = route_of(order.platform, order.account)
    number = next(
        (
            index
            for index, leg in enumerate(legs)
            if (leg.target, leg.route, leg.symbol) == (parts.leg, name, order.symbol)
        ),
        -1,
    )
    if signal_id and number < 0:
        return  # the leg that it was for does not exist here: found at the platform it is shown as an orphan
    record_sent(turn, order, signal_id, number, parts.role, parts.attempt)
    if number >= 0:
        leg = legs[number]
        leg.orders[order.client_order_id] = None
        leg.attempts[parts.role] = max(leg.attempts.get(parts.role, 0), parts.attempt + 1)
        activate(turn.state, signal_id)
        turn.touch(signal_id)
