"""Size of what a reduce-only signal may close: never more than its account holds and no order reduces already."""

from __future__ import annotations

from decimal import Decimal

from ...messages import RejectCode
from ...risk import is_multiple
from ..state import ZERO, LegRecord, SignalRecord
from ..turn import Turn


def reducible(turn: Turn, leg: LegRecord, without: str = "") -> Decimal:
    """Lots that a reduce-only leg may close: its account's position, less the orders that reduce it already.

    `without`: ClOrdID of an order that is not counted, since it is about to be replaced.
    """
    route = turn.state.routes[leg.route]
    position = route.positions.get(leg.symbol)
    left = ZERO if position is None else -position.net * leg.sign
    # Lots that the platform counts as filled and has not reported are in neither the position nor what works.
    for order_id in dict.fromkeys([*route.live, *route.unreported_orders]):
        record = turn.state.orders[order_id]
        if order_id != without and record.order.symbol == leg.symbol and record.order.side.sign == leg.sign:
            left -= record.leaves_qty + record.unreported_qty
    return max(left, ZERO)


def bound_reduction(turn: Turn, record: SignalRecord, leg: LegRecord) -> None:
    """Bound a reduce-only leg by what is left to close: the rest would open lots."""
    leg.quantity = min(leg.quantity, reducible(turn, leg))
    market = leg.market
    assert market is not None
    if leg.quantity <= 0 or not is_multiple(leg.quantity, market.lot_step):
        position = turn.state.routes[leg.route].positions.get(leg.symbol)
        held = ZERO if position is None else position.net
        leg.code = RejectCode.NOTHING_TO_CLOSE
        leg.text = f"{leg.platform} holds {held} {leg.symbol}, which a reduce-only {record.signal.side} cannot reduce"
