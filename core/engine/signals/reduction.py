"""Size of what a reduce-only signal may close: never more than its account holds and other closing orders leave.

It is measured against other closing orders, not against stops and targets: those protect what is held, and shrink when
it is reduced. So a stop may fill while a reduce-only order works; then that order is made smaller, or cancelled.
"""

from __future__ import annotations

from decimal import Decimal

from ...messages import OrderRole, RejectCode
from ...risk import is_multiple
from ..orders.exposure import closing_lots, least_closing_lots, unreported_lots
from ..orders.placement import send_replace, want_cancel
from ..state import ZERO, LegRecord, SignalRecord
from ..turn import Turn, leg_orders


def reducible(turn: Turn, leg: LegRecord, without: str = "") -> Decimal:
    """Lots that a reduce-only leg may close: its account's position, less the orders that close it already.

    `without`: ClOrdID of an order that is not counted, since it is about to be replaced.
    """
    left = _held(turn, leg) - closing_lots(turn, leg.route, leg.symbol, leg.sign, without)
    # Lots that the platform counts as filled and has not reported are in neither the position nor what works.
    return max(left - unreported_lots(turn, leg.route, leg.symbol, leg.sign), ZERO)


def _held(turn: Turn, leg: LegRecord) -> Decimal:
    """Lots that the account holds on the side that the leg reduces."""
    position = turn.state.routes[leg.route].positions.get(leg.symbol)
    return ZERO if position is None else max(-position.net * leg.sign, ZERO)


def bound_reduction(turn: Turn, record: SignalRecord, leg: LegRecord) -> None:
    """Bound a reduce-only leg by what is left to close: the rest would open lots."""
    leg.quantity = min(leg.quantity, reducible(turn, leg))
    market = leg.market
    assert market is not None
    if leg.quantity <= 0 or not is_multiple(leg.quantity, market.lot_step):
        position = turn.state.routes[leg.route].positions.get(leg.symbol)
        held = ZERO if position is None else position.net
        closing = closing_lots(turn, leg.route, leg.symbol, leg.sign)
        unreported = unreported_lots(turn, leg.route, leg.symbol, leg.sign)
        besides = f", {closing} of which other orders close already" if closing else ""
        besides += f", {unreported} of which it counts as sold or bought without an execution yet" if unreported else ""
        leg.code = RejectCode.NOTHING_TO_CLOSE
        leg.text = (
            f"{leg.platform} holds {held} {leg.symbol}{besides}, which a reduce-only {record.signal.side} cannot reduce"
        )


def bound_working(turn: Turn, record: SignalRecord, leg_number: int) -> None:
    """Make a working reduce-only order smaller when less is left to close than it still asks for, or cancel it."""
    leg = record.legs[leg_number]
    route = turn.state.routes.get(leg.route)
    if route is None or not route.ready:
        return
    for order in leg_orders(turn.state, leg):
        if order.role is not OrderRole.ENTRY or not order.live or order.cancel_wanted or order.replace is not None:
            continue
        asked = least_closing_lots(turn, leg.route, leg.symbol, leg.sign)
        left = _held(turn, leg) - unreported_lots(turn, leg.route, leg.symbol, leg.sign)
        if asked <= left:
            continue
        room = left - (asked - order.leaves_qty)
        turn.count("reduction_bounded")
        capabilities = route.hello.capabilities
        can_resize = capabilities is not None and capabilities.replace and capabilities.replace_quantity
        if room > 0 and can_resize and order.acked_ns and order.code is RejectCode.NONE:
            send_replace(turn, order, order.max_cum_qty + room, order.limit_price, order.stop_price)
        else:
            order.text = "less is left to close than it asks for"
            want_cancel(turn, order)
