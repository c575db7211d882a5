"""One account, one position: on a netting account an entry against what is held would close it instead of opening.

Let through, it made the account flat: the platform then refused its stop as reducing nothing, and the position that
somebody meant to keep was gone. So it is refused, and whoever meant it as a close says so.
"""

from __future__ import annotations

from ..messages import AccountMode, OrderRole, RejectCode
from .state import LegRecord, OrderRecord, RouteRecord, SignalRecord
from .turn import Turn, live_orders

_REDUCING = (OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT, OrderRole.EXIT)


def refuse_opposed(turn: Turn, record: SignalRecord, leg: LegRecord) -> tuple[RejectCode, str]:
    """Why an opening leg may not trade against what its account holds, or may come to hold; NONE and "" when it may."""
    route = turn.state.routes[leg.route]
    if route.hello.account_mode is not AccountMode.NETTING:
        return RejectCode.NONE, ""
    against = _held_against(turn, route, leg) or _working_against(turn, route, leg) or _sibling_against(record, leg)
    if not against:
        return RejectCode.NONE, ""
    return (
        RejectCode.OPPOSED_POSITION,
        f"{leg.platform} has one position per symbol, and {against}; an entry of {leg.quantity * leg.sign:+f} would "
        "close it instead of opening: close that signal first, or send reduce_only",
    )


def _held_against(turn: Turn, route: RouteRecord, leg: LegRecord) -> str:
    position = route.positions.get(leg.symbol)
    if position is None or position.net * leg.sign >= 0:
        return ""
    whose = [
        f"{signal_id} {other.open:+f}"
        for signal_id in route.holders
        for other in turn.state.signals[signal_id].legs
        if other.route == leg.route and other.symbol == leg.symbol and other.open * leg.sign < 0
    ]
    return f"holds {position.net:+f} {leg.symbol} ({', '.join(whose[:5]) or 'of no signal'})"


def _working_against(turn: Turn, route: RouteRecord, leg: LegRecord) -> str:
    for order in live_orders(turn.state, route):
        if order.role not in _REDUCING and order.order.symbol == leg.symbol and _opens_against(turn, order, leg):
            lots = order.remaining * order.order.side.sign
            return f"an entry of {lots:+f} {leg.symbol} works there ({order.signal_id or order.order.client_order_id})"
    return ""


def _opens_against(turn: Turn, order: OrderRecord, leg: LegRecord) -> bool:
    if order.order.side.sign == leg.sign or not order.remaining:
        return False
    signal = turn.state.signals.get(order.signal_id)
    return signal is None or not signal.signal.reduce_only


def _sibling_against(record: SignalRecord, leg: LegRecord) -> str:
    """A hedge on the account of its own primary, which a target without an account's name can bring about."""
    for other in record.legs:
        if other.route == leg.route and other.sign != leg.sign:
            return f"another leg of this signal trades {other.quantity * other.sign:+f} {leg.symbol} there"
    return ""
