"""Book one execution on its order, leg, position and day. Its caller has judged it (`executions.py`)."""

from __future__ import annotations

from decimal import Decimal

from ...messages import AccountMode, Fill, LegState, OrderRole, RejectCode
from ..state import ZERO, ExecutionRecord, LegRecord, OrderRecord
from ..turn import Turn
from .activity import count_execution, revalue_execution
from .closing import note_account_progress, note_progress
from .external_lots import absorb_external, add_external
from .lifecycle import end_if_complete, refresh_order, revive_order
from .links import schedule_snapshot
from .markets import follow_session
from .money import is_stale, leg_realized_usd, newest_rate
from .overfills import closed_overfill, note_over_reduction


def book_execution(
    turn: Turn,
    key: str,
    record: ExecutionRecord,
    fill: Fill,
    order: OrderRecord | None,
    order_id: str,
    beyond: Decimal = ZERO,
) -> None:
    """Book an execution for the first time. `order_id`: ClOrdID of ours that it carries; empty = none. `beyond`: lots
    of it beyond its order's size.
    """
    before = booked_lots(record)
    record.beyond = beyond
    record.seen = True
    record.symbol = fill.symbol
    record.sign = fill.side.sign
    record.fee = fill.fee
    record.fee_currency = fill.fee_currency
    record.ticket = fill.position_ticket
    record.ts_event_ns = fill.ts_event_ns
    if not record.booked_ns:
        record.booked_ns = turn.now_ns
        # The route lists its executions in the order of booking; a correction may have come before its execution.
        of_route = turn.state.routes[record.route].executions
        of_route.pop(key, None)
        of_route[key] = None
    route = turn.state.routes[record.route]
    route.stamp_lead_ns = max(route.stamp_lead_ns, record.ts_event_ns - record.booked_ns)
    if record.revision == 0 or not record.quantity:
        record.quantity, record.price = fill.quantity, fill.price
    record.client_order_id = order_id
    _attribute(turn, key, record, fill, order)
    rebook(turn, key, record, before)
    count_execution(turn, key, record)


def _attribute(turn: Turn, key: str, record: ExecutionRecord, fill: Fill, order: OrderRecord | None) -> None:
    """Find the leg of an execution: by its order, else by position ticket (a stop kept by the platform)."""
    route = turn.state.routes[record.route]
    owner: tuple[str, int] | None = None
    if order is not None:
        order.executions[key] = None
        owner = (order.signal_id, order.leg) if order.signal_id else None
        order.first_fill_ns = order.first_fill_ns or fill.ts_event_ns
        order.last_fill_ns = max(order.last_fill_ns, fill.ts_event_ns)
        order.last_news_ns = turn.now_ns
        if owner is not None and fill.position_ticket:
            route.ticket_owner.setdefault(fill.position_ticket, owner)
    elif fill.position_ticket and (not record.client_order_id or record.client_order_id in turn.state.orders):
        owner = route.ticket_owner.get(fill.position_ticket)
    if owner is not None:
        leg = turn.leg(*owner)
        if leg is not None and leg.symbol == fill.symbol:  # a ticket may be given a second time, for another symbol
            record.signal_id, record.leg = owner
            leg.executions[key] = None


def booked_lots(record: ExecutionRecord) -> tuple[Decimal, Decimal]:
    """Return the lots of an execution that the position holds, and those of them that its leg does; signed."""
    return record.signed, record.own_signed


def rebook(turn: Turn, key: str, record: ExecutionRecord, before: tuple[Decimal, Decimal]) -> None:
    """Book the change of one execution on its order, leg, position and day. `before`: `booked_lots` until now."""
    if not record.seen:
        return  # only a correction came: symbol and side are not known before the fill itself
    revalue_execution(turn, key, record)
    delta, own_delta = record.signed - before[0], record.own_signed - before[1]
    position = turn.position(record.route, record.symbol)
    position.net += delta
    route = turn.state.routes[record.route]
    if record.ticket:
        tickets = route.tickets.setdefault(record.symbol, {})
        tickets[record.ticket] = tickets.get(record.ticket, ZERO) + delta
    order = turn.state.orders.get(record.client_order_id)
    if order is not None:
        turn.touch_order(record.client_order_id)
        if order.presumed_ended and delta and not record.busted:
            # It was reported as gone, since snapshots missed it, and it trades: the report has to be corrected, and the
            # order watched again, or its next fills would open a position that no leg guards.
            revive_order(turn, order)
        refresh_order(turn, order)
    leg = turn.leg(record.signal_id, record.leg)
    if leg is None:
        # It belongs to no leg. A bust takes nothing off our legs and gives nothing back: its lots stay in `external`.
        if order is not None and not order.signal_id:
            closed_overfill(position, delta)
        if record.busted:
            position.external += delta
        else:
            add_external(turn, record.route, record.symbol, delta)
    elif turn.state.signals[record.signal_id].signal.reduce_only:
        # It closes what other legs hold. Without taking it off them, closing such a leg later would trade lots that are
        # gone, and open the opposite position.
        external_before = position.external
        position.external += delta
        if not record.busted:
            absorb_external(turn, record.route, record.symbol, delta)
            note_over_reduction(turn, record.route, record.symbol, external_before, delta)
    else:
        held_none = not leg.open
        turn.shift_open(record.signal_id, leg, own_delta)
        if held_none:
            follow_session(turn, leg)
        if delta != own_delta:
            add_external(turn, record.route, record.symbol, delta - own_delta)
    if leg is not None:
        _revalue(turn, leg)
        turn.touch(record.signal_id)
    if order is not None and order.role is OrderRole.EXIT and delta * order.order.side.sign > 0:
        if leg is not None:
            note_progress(leg)
        else:
            note_account_progress(turn, record.route)
        _check_over_close(turn, record, leg, order)
    turn.touch_route(record.route)
    if order is not None and order.cum_qty > order.quantity:
        # The exchange filled more than was ordered, or a replace to a smaller size came too late. It is really held.
        turn.count("overfill")
        turn.alert(
            RejectCode.PARENT_EXCEEDED,
            f"order {order.order.client_order_id} filled {order.cum_qty} of {order.quantity}",
            order.order.platform,
        )
    if order is not None and order.state is not LegState.FILLED:
        end_if_complete(turn, order)


def _check_over_close(turn: Turn, record: ExecutionRecord, leg: LegRecord | None, order: OrderRecord) -> None:
    """Stop all closing of a symbol when a closing order has made its position larger: what is held there is not what
    the books say. A snapshot that was asked for afterwards lets it go on.
    """
    route = turn.state.routes[record.route]
    position = turn.position(record.route, record.symbol)
    side = order.order.side.sign
    beyond = position.external if leg is None else leg.open
    if route.hello.account_mode is not AccountMode.NETTING or beyond * side <= 0 or position.net * side <= 0:
        return
    position.over_closed_request = route.request_id + 1
    turn.count("over_closed")
    text = f"closing order {order.order.client_order_id} has made the position {position.net:+f} {record.symbol}"
    text += ": no other closes there before a snapshot has shown what is held"
    turn.alert(RejectCode.PARENT_EXCEEDED, text, route.platform)
    schedule_snapshot(turn, route)


def _revalue(turn: Turn, leg: LegRecord) -> None:
    realized = leg_realized_usd(turn.state, leg)
    if realized is None:
        turn.state.day.unpriced = True
    else:
        turn.money_moved = True
        turn.state.day.realized_usd += realized - (leg.realized_usd or ZERO)
        leg.realized_usd = realized
    leg.rate = newest_rate(turn.state, leg)
    leg.stale_rate = is_stale(turn.state, leg.rate)
