"""Send orders, cancels and replaces: the only module that makes one.

An order is recorded as sent before its effect leaves, under a ClOrdID that depends on (signal, target, role, attempt)
alone. The same order is never sent twice: what times out becomes unknown, and a snapshot shows its fate.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from ....shm.durations import NS_PER_MS
from ...messages import (
    Cancel,
    LegState,
    Order,
    OrderRole,
    OrderType,
    Replace,
    Side,
    Signal,
    TimeInForce,
    WorkingOrder,
    client_order_id,
)
from ...messages.fields import MAX_QUANTITY
from ...messages.order_id import LENGTH, MAX_ATTEMPTS, OLD_MAX_ATTEMPTS
from ..effects import SendToPlatform
from ..state import LegRecord, OrderRecord, RouteRecord, SignalRecord, route_of
from ..turn import Turn, bar_of, list_live


class OrderTerms(Struct, kw_only=True, frozen=True):
    """Terms of an order, as in `Order`, whose other fields follow from the leg.

    `reduce_only` and `oco_group` are dropped where the platform does not support them.
    """

    side: Side
    quantity: Decimal
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.DAY
    good_till_ns: int = 0
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    reduce_only: bool = False
    close_ticket: str = ""
    oco_group: str = ""


def next_order_id(turn: Turn, key: str, leg: LegRecord, role: OrderRole) -> tuple[str, int] | None:
    """Return ClOrdID and number of a leg's next order of this role, or None when all numbers are used up."""
    most = MAX_ATTEMPTS if turn.state.settings.client_order_id_chars == LENGTH else OLD_MAX_ATTEMPTS
    while (attempt := leg.attempts.get(role, 0)) < most:
        leg.attempts[role] = attempt + 1
        # By target and not by leg: after a torn journal a leg that a roll-over added may have another index, and its
        # orders would be booked on a wrong leg.
        order_id = client_order_id(key, leg.target, role, attempt, turn.state.settings.client_order_id_chars)
        # The number may be in use by the leg that this one rolls over from, or by an order found at the platform.
        if order_id not in turn.state.orders and order_id not in turn.state.orphans:
            return order_id, attempt
    return None


def place_for_leg(
    turn: Turn,
    signal: SignalRecord,
    leg_number: int,
    role: OrderRole,
    terms: OrderTerms,
) -> OrderRecord | None:
    """Make and send one order of a leg. Returns its record, or None when all its ClOrdIDs are used up."""
    leg = signal.legs[leg_number]
    named = next_order_id(turn, signal.key, leg, role)
    if named is None:
        return None
    order_id, attempt = named
    capabilities = turn.state.routes[leg.route].hello.capabilities
    order = Order(
        client_order_id=order_id,
        platform=leg.platform,
        account=leg.account,
        symbol=leg.symbol,
        contract=leg.market.contract if leg.market is not None else "",
        side=terms.side,
        quantity=min(terms.quantity, MAX_QUANTITY),  # the next order closes the rest
        order_type=terms.order_type,
        limit_price=terms.limit_price,
        stop_price=terms.stop_price,
        time_in_force=terms.time_in_force,
        good_till_ns=terms.good_till_ns,
        stop_loss=terms.stop_loss,
        take_profit=terms.take_profit,
        reduce_only=terms.reduce_only and capabilities is not None and capabilities.reduce_only,
        close_ticket=terms.close_ticket,
        oco_group=terms.oco_group if capabilities is not None and capabilities.oco else "",
        not_after_ns=_send_by_ns(turn, signal.signal, role),
    )
    record = send_order(turn, order, signal.signal.signal_id, leg_number, role, attempt)
    leg.orders[order_id] = None
    turn.touch(signal.signal.signal_id)
    return record


def send_order(turn: Turn, order: Order, signal_id: str, leg_number: int, role: OrderRole, attempt: int) -> OrderRecord:
    """Record the order as sent, count it against the rate limits, and send it."""
    record = record_sent(turn, order, signal_id, leg_number, role, attempt)
    turn.state.day.count_sent(route_of(order.platform, order.account), turn.now_ns)
    turn.effects.append(SendToPlatform(order))
    return record


def record_sent(
    turn: Turn, order: Order, signal_id: str, leg_number: int, role: OrderRole, attempt: int
) -> OrderRecord:
    """Put the order into the state as sent now, its answer awaited; nothing leaves."""
    record = OrderRecord(
        order=order,
        signal_id=signal_id,
        leg=leg_number,
        role=role,
        attempt=attempt,
        state=LegState.SENT,
        sent_ns=turn.now_ns,
        last_news_ns=turn.now_ns,
        quantity=order.quantity,
        most_qty=order.quantity,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
    )
    turn.state.orders[order.client_order_id] = record
    turn.touch_order(order.client_order_id)
    list_live(turn.state, record)
    turn.await_answer(order.client_order_id)
    return record


def close_for_account(
    turn: Turn,
    route: RouteRecord,
    key: str,
    attempt: int,
    symbol: str,
    lots: Decimal,
    *,
    ticket: str = "",
    reduce_only: bool = True,
) -> int | None:
    """Send a market order that closes lots (signed) which no leg of ours holds. Returns the number of the next attempt;
    None: the ids of this key are used up, and nothing was sent.

    `key`: in the place of a signal's key in its ClOrdID. Made of a time and not of a counter: with a lost journal a
    counter starts again, and would repeat an older id.
    """
    chars = turn.state.settings.client_order_id_chars
    most = MAX_ATTEMPTS if chars == LENGTH else OLD_MAX_ATTEMPTS
    while attempt < most:
        order_id = client_order_id(key, 0, OrderRole.EXIT, attempt, chars)
        if order_id not in turn.state.orders and order_id not in turn.state.orphans:
            break
        attempt += 1  # used by an order that a torn journal has lost
    else:
        return None
    capabilities = route.hello.capabilities
    position = turn.position(route_of(route.platform, route.account), symbol)
    order = Order(
        client_order_id=order_id,
        platform=route.platform,
        account=route.account,
        symbol=symbol,
        contract=position.contract,
        side=Side.SELL if lots > 0 else Side.BUY,
        quantity=min(abs(lots), MAX_QUANTITY),
        order_type=OrderType.MARKET,
        reduce_only=reduce_only and capabilities is not None and capabilities.reduce_only,
        close_ticket=ticket,
        not_after_ns=turn.wall_ns + turn.state.settings.send_within_ms * NS_PER_MS,
    )
    send_order(turn, order, "", -1, OrderRole.EXIT, attempt)
    return attempt + 1


def cancel_row(turn: Turn, route: RouteRecord, row: WorkingOrder) -> None:
    """Cancel an order at the platform that is none of ours."""
    cancel = Cancel(
        client_order_id=row.client_order_id,
        platform=route.platform,
        account=route.account,
        symbol=row.symbol,
        platform_order_id=row.platform_order_id,
    )
    turn.effects.append(SendToPlatform(cancel))


def want_cancel(turn: Turn, record: OrderRecord) -> None:
    """Cancel an order: now when its link is up, else as soon as it is. May be called again."""
    if not record.live or record.cancel_wanted:
        return
    record.cancel_wanted = True
    turn.await_answer(record.order.client_order_id)
    send_cancel(turn, record)


def send_cancel(turn: Turn, record: OrderRecord) -> None:
    """Send the cancel of an order with `cancel_wanted`, unless the last one is younger than `ack_ms`.

    Not while a contradiction stands there: it leaves when that has ended.
    """
    order = record.order
    route = turn.state.routes[route_of(order.platform, order.account)]
    fresh = turn.now_ns - record.cancel_sent_ns < turn.state.settings.ack_ms * NS_PER_MS
    name = route_of(order.platform, order.account)
    is_barred = turn.unproven != name and bar_of(turn.state, name, order.symbol)
    if not route.up or is_barred or (record.cancels_sent and fresh):
        return
    record.cancel_sent_ns = turn.now_ns
    record.cancels_sent += 1
    turn.effects.append(
        SendToPlatform(
            Cancel(
                client_order_id=order.client_order_id,
                platform=order.platform,
                account=order.account,
                symbol=order.symbol,
                platform_order_id=record.platform_order_id,
            )
        )
    )


def send_replace(
    turn: Turn,
    record: OrderRecord,
    quantity: Decimal,
    limit_price: Decimal | None,
    stop_price: Decimal | None,
) -> None:
    """Replace a working order by these terms, and count it against the rate limits.

    One replace at a time. The caller has checked size and prices.
    """
    order = record.order
    record.revision += 1
    record.replace = Replace(
        client_order_id=order.client_order_id,
        platform=order.platform,
        account=order.account,
        symbol=order.symbol,
        revision=record.revision,
        quantity=quantity,
        platform_order_id=record.platform_order_id,
        limit_price=limit_price,
        stop_price=stop_price,
    )
    record.replace_sent_ns = turn.now_ns
    record.most_qty = max(record.most_qty, quantity)
    turn.touch_order(order.client_order_id)
    turn.state.day.count_sent(route_of(order.platform, order.account), turn.now_ns)
    turn.await_answer(order.client_order_id)
    turn.effects.append(SendToPlatform(record.replace))


def market_tif(turn: Turn, leg: LegRecord) -> TimeInForce:
    """TimeInForce (59) of a leg's market orders: day, or the first one that its platform has."""
    capabilities = turn.state.routes[leg.route].hello.capabilities
    assert capabilities is not None
    known = capabilities.times_in_force
    return TimeInForce.DAY if TimeInForce.DAY in known or not known else known[0]


def _send_by_ns(turn: Turn, signal: Signal, role: OrderRole) -> int:
    """When an order must have been sent by, UTC ns. A hedge is never too late: it covers a position that is open."""
    within_ns = turn.wall_ns + turn.state.settings.send_within_ms * NS_PER_MS
    return min(within_ns, signal.enter_by_ns or within_ns) if role is OrderRole.ENTRY else within_ns
