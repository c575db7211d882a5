"""Our own orders, recognised by their id alone, when the journal has lost them.

The id says which signal, leg, role and attempt. If the journal still knows the signal, the order returns to
its leg; if not, the signal's key is remembered, so that NEXUS repeating that signal does not trade it a
second time.
"""

from __future__ import annotations

from decimal import Decimal

from ..messages import (
    LegState,
    Order,
    OrderIdParts,
    OrderRole,
    OrderType,
    RejectCode,
    Side,
    find_client_order_id,
)
from .state import OrderRecord, OrphanRecord, RouteRecord, SignalRecord, route_of
from .turn import Turn


def find_own_id(turn: Turn, route: str, text: str) -> OrderIdParts | None:
    """Our id in a platform's text; None when there is none, or when the order of this id is on another account.

    Trade copiers copy comments too. What one has placed here is somebody else's order, and must not be booked on ours.
    """
    parts = find_client_order_id(text)
    if parts is None:
        return None
    order = turn.state.orders.get(parts.client_order_id)
    orphan = turn.state.orphans.get(parts.client_order_id)
    elsewhere = order is not None and route_of(order.order.platform, order.order.account) != route
    if elsewhere or (order is None and orphan is not None and orphan.route != route):
        turn.count("copied_order_id")
        return None
    return parts


def recognise(
    turn: Turn, route: RouteRecord, parts: OrderIdParts, symbol: str, side: Side, platform_order_id: str
) -> OrderRecord | None:
    """The record of one of our orders; made anew when only its signal is known; None when it is an orphan."""
    record = turn.state.orders.get(parts.client_order_id)
    if record is not None:
        return record
    turn.state.seen_keys.setdefault(parts.key, turn.now_ns)
    if parts.role in (OrderRole.ENTRY, OrderRole.HEDGE):
        turn.state.day.trades.setdefault(parts.key, turn.now_ns)
    signal_id = turn.state.keys.get(parts.key)
    number = -1 if signal_id is None else _leg_number(turn.state.signals[signal_id], parts, symbol)
    leg = turn.leg(signal_id, number) if signal_id is not None else None
    if signal_id is None or leg is None or leg.route != route_of(route.platform, route.account):
        _note_orphan(turn, route, parts, symbol)
        return None
    turn.count("order_recovered")
    order = Order(
        client_order_id=parts.client_order_id,
        platform=route.platform,
        account=route.account,
        symbol=symbol,
        contract="",
        side=side,
        quantity=Decimal(1),
        order_type=OrderType.MARKET,
    )
    record = OrderRecord(
        order=order,
        signal_id=signal_id,
        leg=number,
        role=parts.role,
        attempt=parts.attempt,
        state=LegState.UNKNOWN,
        sent_ns=turn.now_ns,
        unknown_since_ns=turn.now_ns,
        quantity=Decimal(1),
        limit_price=None,
        stop_price=None,
        platform_order_id=platform_order_id,
        text="recovered from the platform: the journal had lost it",
    )
    # Its size is not known from an execution; until a row tells it, it must not look filled or exceed its leg.
    record.quantity = leg.quantity
    signal = turn.state.signals[signal_id]
    if signal.decision == "rejected":
        # Refused after a torn journal had lost that it was traded: what is there is shown, and closed when asked for.
        signal.decision, signal.code = "found", RejectCode.NONE
        leg.code, leg.text = RejectCode.NONE, "found at the platform after the journal had lost it"
    turn.state.orders[parts.client_order_id] = record
    turn.state.routes[leg.route].live[parts.client_order_id] = None
    leg.orders[parts.client_order_id] = None
    leg.attempts[parts.role] = max(leg.attempts.get(parts.role, 0), parts.attempt + 1)
    turn.state.active[signal_id] = None
    turn.touch(signal_id)
    return record


def _leg_number(signal: SignalRecord, parts: OrderIdParts, symbol: str) -> int:
    """Which leg an order belongs to, -1 = none. After a roll two legs share a target, each with its own contract: an
    order of the one must not be booked on the other, also when the journal has lost that there are two.
    """
    for number, leg in enumerate(signal.legs):
        if leg.target == parts.leg and leg.symbol == symbol and (leg.carries >= 0 or parts.role is not OrderRole.ROLL):
            return number
    return -1


def _note_orphan(turn: Turn, route: RouteRecord, parts: OrderIdParts, symbol: str) -> None:
    if parts.client_order_id in turn.state.orphans:
        return
    turn.state.orphans[parts.client_order_id] = OrphanRecord(
        route=route_of(route.platform, route.account),
        key=parts.key,
        leg=parts.leg,
        role=parts.role,
        symbol=symbol,
        since_ns=turn.now_ns,
    )
    turn.count("orphan")
    turn.alert(
        RejectCode.UNKNOWN_ORDER,
        f"order {parts.client_order_id} is ours, but the journal does not know it",
        route.platform,
    )
