"""Executions: what really traded. Position and money are a fold over these and over nothing else.

Keyed by (platform, account, execution id), highest revision wins: so duplicates, replays after a reconnect
and any order of arrival give the same sums. An order's status never adds a lot; it can only say that
executions are missing.
"""

from __future__ import annotations

from decimal import Decimal

from ...messages import Correction, CorrectionKind, Fill, LegState, RejectCode
from ..state import ZERO, ExecutionRecord, LegRecord, route_of
from ..turn import Turn
from .exits import absorb_external
from .lifecycle import end_order, refresh_order, revive_order
from .money import is_stale, leg_realized_usd, newest_rate
from .recognition import find_own_id, recognise


def execution_key(platform: str, account: str, exec_id: str) -> str:
    """The key under which an execution is counted once."""
    return f"{route_of(platform, account)}|{exec_id}"


def apply_fill(turn: Turn, fill: Fill, from_snapshot: bool = False) -> None:
    """Count an execution. A known one is dropped and counted; a corrected one in a snapshot is taken over."""
    name = route_of(fill.platform, fill.account)
    route = turn.state.routes.get(name)
    if route is None:
        turn.count("fill_from_unknown_route")
        return
    key = execution_key(fill.platform, fill.account, fill.exec_id)
    record = turn.state.executions.get(key)
    if record is None and from_snapshot and fill.ts_event_ns <= route.evicted_until_ns:
        turn.count("evicted_fill")  # counted long ago, and dropped from memory since
        return
    if record is None:
        record = turn.state.executions[key] = ExecutionRecord(route=name)
        route.executions[key] = None
    record.missed_snapshots = 0
    if record.seen:
        if from_snapshot:
            _adopt_snapshot_row(turn, key, record, fill)
        else:
            turn.count("duplicate_fill")
        return
    _fill_in(turn, key, record, fill)


def apply_correction(turn: Turn, correction: Correction) -> None:
    """Bust or change an execution, also one that has not arrived yet. An older revision is dropped and
    counted.
    """
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
    """Drop an execution that the platform no longer lists."""
    before = record.signed
    record.busted = True
    record.presumed_busted = True
    turn.count("bust_inferred")
    turn.alert(RejectCode.NONE, f"execution {key} is no longer listed by the platform: taken as busted")
    _rebook(turn, key, record, before)


def _adopt_snapshot_row(turn: Turn, key: str, record: ExecutionRecord, fill: Fill) -> None:
    changed = record.quantity != fill.quantity or record.price != fill.price
    if record.presumed_busted or (changed and record.revision == 0):
        before = record.signed
        record.busted = record.presumed_busted = False
        record.quantity, record.price = fill.quantity, fill.price
        turn.count("execution_changed_at_platform")
        _rebook(turn, key, record, before)


def _fill_in(turn: Turn, key: str, record: ExecutionRecord, fill: Fill) -> None:
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
    """Find whose execution it is: by our id, else by the position ticket of a leg (its stop at the platform)."""
    route = turn.state.routes[record.route]
    parts = find_own_id(turn, record.route, fill.client_order_id)
    owner: tuple[str, int] | None = None
    if parts is not None:
        order = recognise(turn, route, parts, fill)
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
        if leg is not None:
            record.signal_id, record.leg = owner
            leg.executions[key] = None


def _rebook(turn: Turn, key: str, record: ExecutionRecord, signed_before: Decimal) -> None:
    """Carry the change of one execution into order, leg, position and day."""
    if not record.seen:
        return
    delta = record.signed - signed_before
    position = turn.position(record.route, record.symbol)
    position.net += delta
    route = turn.state.routes[record.route]
    if record.ticket:
        tickets = route.tickets.setdefault(record.symbol, {})
        tickets[record.ticket] = tickets.get(record.ticket, ZERO) + delta
    order = turn.state.orders.get(record.client_order_id)
    if order is not None:
        if order.presumed_ended and delta and not record.busted:
            # Snapshots had not shown it, and it trades: whoever was told that it never was there must hear of it.
            revive_order(turn, order, LegState.PARTIALLY_FILLED)
        refresh_order(turn, order)
    leg = turn.leg(record.signal_id, record.leg)
    if leg is None or turn.state.signals[record.signal_id].signal.reduce_only:
        # Not a position of its own: it closes what other legs hold.
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
        turn.count("overfill")
        turn.alert(
            RejectCode.PARENT_EXCEEDED,
            f"order {order.order.client_order_id} filled {order.cum_qty} of {order.quantity}",
            order.order.platform,
        )
    if order is not None and order.cum_qty >= order.quantity and order.state is not LegState.FILLED:
        end_order(turn, order, LegState.FILLED)


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
