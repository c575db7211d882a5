"""Recognise our own orders by their ClOrdID (11) when the journal has lost them.

The id names signal, target, role and attempt. If the journal still knows the signal, the order returns to its leg. If
not, the signal's key is recorded, so that the same signal, sent again by NEXUS, is not traded a second time.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import structs

from ...messages import (
    Fill,
    LegState,
    Order,
    OrderIdParts,
    OrderRole,
    OrderType,
    Protection,
    RejectCode,
    Side,
    WorkingOrder,
    find_client_order_id,
)
from ..state import OPENING, EngineState, LegRecord, OrderRecord, OrphanRecord, RouteRecord, SignalRecord, route_of
from ..turn import Turn, activate, list_live
from .lifecycle import refresh_order

_PROTECTIVE: Final = (OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT)


def find_own_id(turn: Turn, route: str, text: str) -> OrderIdParts | None:
    """Find our ClOrdID in a platform's text; None without one, or when the order of this id is on another account.

    Trade copiers copy comments, too. An order that one has placed here is external, and must not be booked on ours.
    """
    parts = find_client_order_id(text)
    if parts is None:
        return None
    if is_elsewhere(turn.state, route, parts.client_order_id):
        turn.count("copied_order_id")
        return None
    return parts


def is_elsewhere(state: EngineState, route: str, order_id: str) -> bool:
    """Whether the order of this ClOrdID is known, and is on another account than this route."""
    order = state.orders.get(order_id)
    if order is not None:
        return route_of(order.order.platform, order.order.account) != route
    orphan = state.orphans.get(order_id)
    return orphan is not None and orphan.route != route


def recognise(turn: Turn, route: RouteRecord, parts: OrderIdParts, reported: WorkingOrder | Fill) -> OrderRecord | None:
    """Return the record of one of our orders. Make it when only its signal is known; None when it is an orphan.

    A stop or target that the platform keeps with its entry has no other beginning than the platform's report of it.
    """
    record = turn.state.orders.get(parts.client_order_id)
    if record is not None:
        return record
    turn.state.found_keys.setdefault(parts.key, turn.now_ns)
    if parts.role in (OrderRole.ENTRY, OrderRole.HEDGE):
        turn.state.day.trades.setdefault(parts.key, turn.now_ns)
    signal_id = turn.state.signals_by_key.get(parts.key)
    number = -1 if signal_id is None else _leg_number(turn.state.signals[signal_id], parts, reported.symbol)
    leg = turn.leg(signal_id, number) if signal_id is not None else None
    if signal_id is None or leg is None or leg.route != route_of(route.platform, route.account):
        _record_orphan(turn, route, parts, reported.symbol)
        return None
    kept_there = leg.protection is Protection.PLATFORM and parts.role in _PROTECTIVE
    if not kept_there:
        turn.count("order_recovered")
    order = _order_from(route, parts, reported)
    if parts.role in OPENING:
        # Its leg says which side it opens, whatever was said of it.
        order = structs.replace(order, side=Side.BUY if leg.sign > 0 else Side.SELL)
    record = OrderRecord(
        order=order,
        signal_id=signal_id,
        leg=number,
        role=parts.role,
        attempt=parts.attempt,
        state=LegState.UNKNOWN,
        sent_ns=turn.now_ns,
        last_news_ns=turn.now_ns,
        unknown_since_ns=turn.now_ns,
        quantity=leg.quantity if isinstance(reported, Fill) else reported.quantity,  # an execution names no size
        most_qty=leg.quantity,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        platform_order_id=reported.platform_order_id,
        text="kept by the platform" if kept_there else "recovered from the platform: the journal had lost it",
    )
    signal = turn.state.signals[signal_id]
    if signal.decision == "rejected":
        # The journal had lost that it was traded, so it was refused when it came again. What it holds is shown now, and
        # can be closed.
        signal.decision, signal.code = "found", RejectCode.NONE
        leg.code, leg.text = RejectCode.NONE, "found at the platform after the journal had lost it"
    turn.state.orders[parts.client_order_id] = record
    list_live(turn.state, record)
    leg.orders[parts.client_order_id] = None
    leg.attempts[parts.role] = max(leg.attempts.get(parts.role, 0), parts.attempt + 1)
    activate(turn.state, signal_id)
    turn.touch(signal_id)
    if turn.state.orphans.pop(parts.client_order_id, None) is not None:
        _adopt_executions(turn, route, record, signal_id, number, leg)
    return record


def _adopt_executions(
    turn: Turn, route: RouteRecord, record: OrderRecord, signal_id: str, number: int, leg: LegRecord
) -> None:
    """Book on its leg what an order has traded while it was an orphan: it was booked as external."""
    name = route_of(route.platform, route.account)
    for key in route.executions:
        execution = turn.state.executions[key]
        if execution.client_order_id != record.order.client_order_id or execution.signal_id:
            continue
        terms = record.order
        if execution.seen and (execution.symbol, execution.sign) != (terms.symbol, terms.side.sign):
            continue  # reported before its order was known, and cannot be the order's: it stays external
        execution.signal_id, execution.leg = signal_id, number
        record.executions[key] = leg.executions[key] = None
        record.first_fill_ns = record.first_fill_ns or execution.ts_event_ns
        record.last_fill_ns = max(record.last_fill_ns, execution.ts_event_ns)
        if execution.ticket:
            route.ticket_owner.setdefault(execution.ticket, (signal_id, number))
        if execution.own_signed and not turn.state.signals[signal_id].signal.reduce_only:
            turn.position(name, execution.symbol).external -= execution.own_signed
            turn.shift_open(signal_id, leg, execution.own_signed)
    refresh_order(turn, record)


def _order_from(route: RouteRecord, parts: OrderIdParts, reported: WorkingOrder | Fill) -> Order:
    order = Order(
        client_order_id=parts.client_order_id,
        platform=route.platform,
        account=route.account,
        symbol=reported.symbol,
        contract="",
        side=reported.side,
        quantity=Decimal(1),
        order_type=OrderType.MARKET,
    )
    if isinstance(reported, Fill):
        return order
    try:
        return structs.replace(
            order, order_type=reported.order_type, limit_price=reported.limit_price, stop_price=reported.stop_price
        )
    except ValueError:
        return order  # its prices do not go with its type


def _leg_number(signal: SignalRecord, parts: OrderIdParts, symbol: str) -> int:
    """Return the index of an order's leg, -1 = none. After a roll two legs share a target, each with its own contract:
    an order of the one must not be booked on the other, also when the journal has lost that there are two.
    """
    for number, leg in enumerate(signal.legs):
        if (
            leg.target == parts.leg
            and leg.symbol == symbol
            and (leg.rolls_over_from >= 0 or parts.role is not OrderRole.ROLL)
        ):
            return number
    return -1


def _record_orphan(turn: Turn, route: RouteRecord, parts: OrderIdParts, symbol: str) -> None:
    if parts.client_order_id in turn.state.orphans:
        return
    turn.state.orphans[parts.client_order_id] = OrphanRecord(
        route=route_of(route.platform, route.account),
        key=parts.key,
        target=parts.leg,
        role=parts.role,
        symbol=symbol,
        found_ns=turn.now_ns,
    )
    turn.count("orphan")
    turn.alert(
        RejectCode.UNKNOWN_ORDER,
        f"order {parts.client_order_id} is ours, but the journal does not know it",
        route.platform,
    )
