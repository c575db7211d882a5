"""Book executions. Positions and money are sums over executions, and over nothing else.

The key is (platform, account, ExecID), and the highest revision wins: so duplicates, resends after a reconnect and any
order of arrival give the same sums. An order status never adds a lot; it can only show that executions are missing.
"""

from __future__ import annotations

from decimal import Decimal

from ...messages import Correction, CorrectionKind, Fill, LegState, RejectCode
from ..state import ZERO, ExecutionRecord, LegRecord, route_of
from ..turn import Turn
from .exits import absorb_external
from .lifecycle import end_if_complete, refresh_order, revive_order
from .money import is_stale, leg_realized_usd, newest_rate
from .recognition import find_own_id, recognise


def execution_key(platform: str, account: str, exec_id: str) -> str:
    """Return the key under which an execution is booked once."""
    return f"{route_of(platform, account)}|{exec_id}"


def apply_fill(turn: Turn, fill: Fill, from_snapshot: bool = False) -> None:
    """Book an execution once. A duplicate only raises a counter; a snapshot may also correct what was booked."""
    name = route_of(fill.platform, fill.account)
    route = turn.state.routes.get(name)
    if route is None:
        turn.count("fill_from_unknown_route")
        return
    key = execution_key(fill.platform, fill.account, fill.exec_id)
    record = turn.state.executions.get(key)
    if record is None and from_snapshot and fill.ts_event_ns <= route.evicted_until_ns:
        # Booked long ago and evicted since: it is in `net` already, and would be added a second time.
        turn.count("evicted_fill")
        return
    if record is None:
        record = turn.state.executions[key] = ExecutionRecord(route=name)
        route.executions[key] = None
    record.missed_snapshots = 0
    if record.seen:
        if from_snapshot:
            _apply_snapshot_row(turn, key, record, fill)
        else:
            turn.count("duplicate_fill")
        return
    _apply_first_report(turn, key, record, fill)


def apply_correction(turn: Turn, correction: Correction) -> None:
    """Bust or correct an execution, also one that has not arrived yet. An older revision only raises a counter."""
    route = route_of(correction.platform, correction.account)
    if route not in turn.state.routes:
        turn.count("fill_from_unknown_route")
        return
    key = execution_key(correction.platform, correction.account, correction.exec_id)
    record = turn.state.executions.get(key)
    if record is None:
        record = turn.state.executions[key] = ExecutionRecord(route=route)
        turn.state.routes[route].executions[key] = None
    if correction.revision <= record.revision:
        turn.count("duplicate_correction")
        return
    before = record.signed
    record.revision = correction.revision
    record.presumed_busted = False
    if correction.kind is CorrectionKind.BUST:
        record.busted = True
    else:
        assert correction.quantity is not None
        assert correction.price is not None
        record.busted = False
        record.quantity = correction.quantity
        record.price = correction.price
    turn.count("correction")
    turn.alert(RejectCode.NONE, f"execution {correction.exec_id}: {correction.kind}", correction.platform)
    _rebook(turn, key, record, before)


def presume_bust(turn: Turn, key: str, record: ExecutionRecord) -> None:
    """Take an execution that the platform no longer lists out of position and money, as if it were busted."""
    before = record.signed
    record.busted = True
    record.presumed_busted = True
    turn.count("bust_inferred")
    turn.alert(RejectCode.NONE, f"execution {key} is no longer listed by the platform: presumed busted")
    _rebook(turn, key, record, before)


def _apply_snapshot_row(turn: Turn, key: str, record: ExecutionRecord, fill: Fill) -> None:
    changed = record.quantity != fill.quantity or record.price != fill.price
    if record.presumed_busted or (changed and record.revision == 0):
        before = record.signed
        record.busted = record.presumed_busted = False
        record.quantity, record.price = fill.quantity, fill.price
        turn.count("execution_changed_at_platform")
        _rebook(turn, key, record, before)


def _apply_first_report(turn: Turn, key: str, record: ExecutionRecord, fill: Fill) -> None:
    before = record.signed
    record.seen = True
    record.symbol = fill.symbol
    record.sign = fill.side.sign
    record.fee = fill.fee
    record.fee_currency = fill.fee_currency
    record.ticket = fill.position_ticket
    record.ts_event_ns = fill.ts_event_ns
    if record.revision == 0 or not record.quantity:
        record.quantity, record.price = fill.quantity, fill.price
    _attribute(turn, key, record, fill)
    _rebook(turn, key, record, before)


def _attribute(turn: Turn, key: str, record: ExecutionRecord, fill: Fill) -> None:
    """Find the order and leg of an execution: by ClOrdID, else by position ticket (a stop kept by the platform)."""
    route = turn.state.routes[record.route]
    parts = find_own_id(turn, record.route, fill.client_order_id)
    owner: tuple[str, int] | None = None
    if parts is not None:
        order = recognise(turn, route, parts, fill)
        if order is not None and order.order.symbol != fill.symbol:
            turn.count("fill_of_other_symbol")
            text = f"execution {fill.exec_id} was of {fill.symbol}, its order {parts.client_order_id} is of "
            text += f"{order.order.symbol}: its lots count as external, look at the platform"
            turn.alert(RejectCode.IDENTITY_MISMATCH, text, route.platform)
            return
        record.client_order_id = parts.client_order_id
        if order is not None:
            order.executions[key] = None
            owner = (order.signal_id, order.leg) if order.signal_id else None
            order.first_fill_ns = order.first_fill_ns or fill.ts_event_ns
            order.last_fill_ns = max(order.last_fill_ns, fill.ts_event_ns)
            if owner is not None and fill.position_ticket:
                route.ticket_owner.setdefault(fill.position_ticket, owner)
    elif fill.position_ticket:
        owner = route.ticket_owner.get(fill.position_ticket)
    if owner is not None:
        leg = turn.leg(*owner)
        if leg is not None and leg.symbol == fill.symbol:  # a ticket may be given a second time, for another symbol
            record.signal_id, record.leg = owner
            leg.executions[key] = None


def _rebook(turn: Turn, key: str, record: ExecutionRecord, signed_before: Decimal) -> None:
    """Book the change of one execution on its order, leg, position and day."""
    if not record.seen:
        return  # only a correction came: symbol and side are not known before the fill itself
    delta = record.signed - signed_before
    position = turn.position(record.route, record.symbol)
    position.net += delta
    route = turn.state.routes[record.route]
    if record.ticket:
        tickets = route.tickets.setdefault(record.symbol, {})
        tickets[record.ticket] = tickets.get(record.ticket, ZERO) + delta
    order = turn.state.orders.get(record.client_order_id)
    if order is not None:
        turn.touched_orders[record.client_order_id] = None
        if order.presumed_ended and delta and not record.busted:
            # It was reported as gone, since snapshots missed it, and it trades: the report has to be corrected, and the
            # order watched again, or its next fills would open a position that no leg guards.
            revive_order(turn, order)
        refresh_order(turn, order)
    leg = turn.leg(record.signal_id, record.leg)
    if leg is None or turn.state.signals[record.signal_id].signal.reduce_only:
        # It belongs to no leg, or to a reduce-only signal: it closes what other legs hold. Without taking it off them,
        # closing such a leg later would trade lots that are gone, and open the opposite position. A bust takes nothing
        # off other legs and gives nothing back: its lots stay in `external`.
        position.external += delta
        if not record.busted:
            absorb_external(turn, record.route, record.symbol, delta)
    else:
        turn.shift_open(record.signal_id, leg, delta)
    if leg is not None:
        _revalue(turn, leg)
        turn.touch(record.signal_id)
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
