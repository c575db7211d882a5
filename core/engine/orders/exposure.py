"""What a leg and its account hold and may still trade: the one place that knows it. Everything here only reads.

A standing stop or target is protection and no closing order: it takes nothing from what may be closed, and shrinks
when lots are closed. What it has traded counts, reported or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from ....shm.durations import NS_PER_MS
from ...messages import AccountMode, LegState, OrderRole, Protection
from ..state import OPENING, ZERO, LegRecord, OrderRecord, RouteRecord, SignalRecord
from ..turn import Turn, leg_orders, live_closing, live_orders

PROTECTIVE: Final = (OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT)
"""Roles of orders that protect what is held."""
_REDUCING: Final = (OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT, OrderRole.EXIT)


def is_hedging(route: RouteRecord) -> bool:
    """Whether positions of an account are separate, each with a ticket of its own."""
    return route.hello.account_mode is AccountMode.HEDGING


def in_flux(order: OrderRecord) -> bool:
    """Whether an answer about an order is due: until it comes, its working size is not known."""
    return order.cancel_wanted or order.replace is not None or order.state in (LegState.SENT, LegState.UNKNOWN)


def standing(turn: Turn, leg: LegRecord) -> list[OrderRecord]:
    """The stops and targets of a leg that may still trade."""
    return [order for order in leg_orders(turn.state, leg) if order.role in PROTECTIVE and order.live]


def covered_lots(turn: Turn, leg: LegRecord) -> Decimal:
    """Lots of a leg that its working stops cover, as far as the platform has confirmed them."""
    total = ZERO
    for order in leg_orders(turn.state, leg):
        works = order.state in (LegState.WORKING, LegState.PARTIALLY_FILLED) and not order.cancel_wanted
        if order.role is OrderRole.STOP_LOSS and works:
            # The smaller size counts while a replace is not answered.
            size = order.quantity if order.replace is None else min(order.quantity, order.replace.quantity)
            total += max(size - order.max_cum_qty, ZERO)
    return total


def bracket_awaited_until_ns(turn: Turn, leg: LegRecord) -> int:
    """Return until when a stop or target that the platform keeps with lots that it has just opened may be on its way to
    us, engine's time; 0 = none is waited for.

    It works there already. A platform that does not list it is waited for only right after a fill.
    """
    settings = turn.state.settings
    if not settings.await_brackets or leg.protection is not Protection.PLATFORM or leg.bracket is None:
        return 0
    orders = list(leg_orders(turn.state, leg))
    ended_ns = max((order.ended_ns for order in orders if order.role in OPENING and order.cum_qty), default=0)
    until_ns = ended_ns + settings.stop_wait_ms * NS_PER_MS
    if not ended_ns or turn.now_ns >= until_ns:
        return 0
    known = {order.role for order in orders}
    prices = (leg.bracket.stop_loss, leg.bracket.take_profit)
    lacks = any(price is not None and role not in known for role, price in zip(PROTECTIVE, prices, strict=True))
    return until_ns if lacks else 0


def opening_orders(turn: Turn, leg: LegRecord) -> Iterator[OrderRecord]:
    """The orders of a leg that may still open lots."""
    return (order for order in leg_orders(turn.state, leg) if order.role in OPENING and order.live)


def closing_orders(turn: Turn, leg: LegRecord) -> list[OrderRecord]:
    """The closing orders of a leg that may still trade, or whose executions are on their way."""
    return [order for order in leg_orders(turn.state, leg) if order.role is OrderRole.EXIT and order.unsettled]


def closing_lots(turn: Turn, route: str, symbol: str, sign: int, without: str = "") -> Decimal:
    """Lots that closing orders of anyone may still trade on one side of a netting account. `without`: ClOrdID of one
    that does not count.
    """
    total = ZERO
    for order in _closing_side(turn, route, symbol, sign):
        if order.order.client_order_id != without:
            total += order.leaves_qty
    return total


def least_closing_lots(turn: Turn, route: str, symbol: str, sign: int) -> Decimal:
    """As `closing_lots`, with each replace carried out, and without orders that are being cancelled: two that are too
    large together must not both be cancelled.
    """
    total = ZERO
    for order in _closing_side(turn, route, symbol, sign):
        if order.cancel_wanted:
            continue
        size = order.quantity if order.replace is None else min(order.quantity, order.replace.quantity)
        total += max(size - order.max_cum_qty, ZERO)
    return total


def _closing_side(turn: Turn, route: str, symbol: str, sign: int) -> Iterator[OrderRecord]:
    """The live orders that close lots on one side of a symbol."""
    for order in live_closing(turn.state, turn.state.routes[route]):
        if order.order.symbol == symbol and order.order.side.sign == sign:
            yield order


def unreported_lots(turn: Turn, route: str, symbol: str, sign: int) -> Decimal:
    """Lots on one side that the platform counts as filled and for which no execution has come."""
    orders = (turn.state.orders[order_id] for order_id in turn.state.routes[route].unreported_orders)
    return sum(
        (each.unreported_qty for each in orders if each.order.symbol == symbol and each.order.side.sign == sign), ZERO
    )


def held_with(turn: Turn, leg: LegRecord) -> Decimal:
    """Lots that a netting account holds in the direction of a leg, those that opposed legs hold against it included:
    both are one position at the platform.
    """
    side = 1 if leg.open > 0 else -1
    held = turn.position(leg.route, leg.symbol).net * side
    for signal_id in turn.state.routes[leg.route].holding_signals:
        for other in turn.state.signals[signal_id].legs:
            if other.route == leg.route and other.symbol == leg.symbol and other.open * side < 0:
                held += abs(other.open)
    return held


def most_to_close(turn: Turn, leg: LegRecord) -> Decimal:
    """Lots that one more closing order of a leg on a netting account may close, whatever is booked on it.

    What its orders of the other side may have filled, less what this side has closed and its closing orders may still
    close; and what the account holds that way, less the closing orders of anyone.
    """
    side = 1 if leg.open > 0 else -1
    # External lots closed ours while our own closing order did the same: that has left the leg on this side.
    entered, closed = max(leg.external_qty * side, ZERO), ZERO
    for record in leg_orders(turn.state, leg):
        if record.order.side.sign == side:
            entered += min(record.max_cum_qty, record.most_qty)
        else:
            closed += record.max_cum_qty
            if record.role is OrderRole.EXIT:
                closed += record.leaves_qty
    bound = entered - closed
    return min(bound, held_with(turn, leg) - closing_lots(turn, leg.route, leg.symbol, -side))


def cannot_both_fill(turn: Turn, leg: LegRecord, route: RouteRecord) -> bool:
    """Whether the platform itself keeps a leg's stop and a closing order beside it from closing the same lots twice.

    By ticket: a stop that the platform keeps ends with its position. Reduce-only: what fills second finds nothing; but
    only where the account holds no lots of others in this direction, which it could close instead.
    """
    if is_hedging(route):
        return True
    capabilities = route.hello.capabilities
    if capabilities is None or not capabilities.reduce_only:
        return False
    if not all(order.order.reduce_only for order in standing(turn, leg)):
        return False
    side = 1 if leg.open > 0 else -1
    if any(
        order.role in OPENING
        and (order.order.symbol, order.order.side.sign) == (leg.symbol, side)
        and order.order.client_order_id not in leg.orders
        for order in live_orders(turn.state, route)
    ):
        return False  # what these open could be closed by the second of the two
    return turn.position(leg.route, leg.symbol).net * side == abs(leg.open) == held_with(turn, leg)


def leg_tickets(turn: Turn, leg: LegRecord) -> dict[str, Decimal]:
    """Open lots per position ticket of a leg, signed, from its executions: at most what the platform holds of it.

    A ticket that it no longer lists is left out.
    """
    lots: dict[str, Decimal] = {}
    for key in leg.executions:
        execution = turn.state.executions[key]
        if execution.ticket:
            lots[execution.ticket] = lots.get(execution.ticket, ZERO) + execution.signed
    for order in closing_orders(turn, leg):  # what the platform counts as closed, and has not reported yet
        ticket = order.order.close_ticket
        if ticket in lots:
            lots[ticket] += order.unreported_qty * order.order.side.sign
    route = turn.state.routes[leg.route]
    held = dict(route.tickets.get(leg.symbol, {}))
    for record in live_orders(turn.state, route):
        held.pop(record.order.close_ticket, None)  # a closing order of the kill switch is on its way for it
    return {
        ticket: min(abs(open_lots), abs(held[ticket])).copy_sign(open_lots)
        for ticket, open_lots in lots.items()
        if open_lots * held.get(ticket, ZERO) > 0
    }


def has_ticket_gap(turn: Turn, leg: LegRecord) -> bool:
    """Whether an execution of a leg came without its position ticket: then it cannot be closed by ticket."""
    return not all(turn.state.executions[key].ticket for key in leg.executions)


def find_opposed(turn: Turn, record: SignalRecord, leg: LegRecord) -> str:
    """Return what holds, or may open, lots on the other side of the leg's account; empty = nothing."""
    route = turn.state.routes[leg.route]
    if route.hello.account_mode is not AccountMode.NETTING:
        return ""
    return _held_against(turn, route, leg) or _working_against(turn, route, leg) or _sibling_against(record, leg)


def find_closing(turn: Turn, leg: LegRecord) -> str:
    """Return the closing order that could close what an entry of the leg opens on a netting account; empty = none.

    One works beside the stop of its leg, where the platform fills but one of the two as long as nothing else opens lots
    there. And one may work on although the lots that it was for are gone.
    """
    route = turn.state.routes[leg.route]
    if route.hello.account_mode is not AccountMode.NETTING:
        return ""
    for order in live_closing(turn.state, route):
        if order.role is OrderRole.EXIT and (order.order.symbol, order.order.side.sign) == (leg.symbol, -leg.sign):
            closed = turn.leg(order.signal_id, order.leg)
            if closed is None or standing(turn, closed) or order.leaves_qty > abs(closed.open):
                return f"{order.order.client_order_id} of {order.signal_id or 'the account'}"
    return ""


def _held_against(turn: Turn, route: RouteRecord, leg: LegRecord) -> str:
    position = route.positions.get(leg.symbol)
    if position is None or position.net * leg.sign >= 0:
        return ""
    whose = [
        f"{signal_id} {other.open:+f}"
        for signal_id in route.holding_signals
        for other in turn.state.signals[signal_id].legs
        if other.route == leg.route and other.symbol == leg.symbol and other.open * leg.sign < 0
    ]
    return f"holds {position.net:+f} {leg.symbol} ({', '.join(whose[:5]) or 'of no signal'})"


def _working_against(turn: Turn, route: RouteRecord, leg: LegRecord) -> str:
    for order in live_orders(turn.state, route):
        if order.role not in _REDUCING and order.order.symbol == leg.symbol and _opens_against(turn, order, leg):
            lots = order.leaves_qty * order.order.side.sign
            return f"an entry of {lots:+f} {leg.symbol} works there ({order.signal_id or order.order.client_order_id})"
    return ""


def _opens_against(turn: Turn, order: OrderRecord, leg: LegRecord) -> bool:
    if order.order.side.sign == leg.sign or not order.leaves_qty:
        return False
    signal = turn.state.signals.get(order.signal_id)
    return signal is None or not signal.signal.reduce_only


def _sibling_against(record: SignalRecord, leg: LegRecord) -> str:
    """Find a leg of the same signal on the other side of one account: targets without an account's name allow it."""
    for other in record.legs:
        if other.route == leg.route and other.sign != leg.sign:
            return f"another leg of this signal trades {other.quantity * other.sign:+f} {leg.symbol} there"
    return ""
