"""Decide whether a leg may trade on its account now: link, kill level, unknown orders, contract, position, abilities.

On a netting account an entry against the held position would close it instead of opening one: the account would be
flat, and the stop refused since it reduces nothing. So `refuse_opposed` refuses such an entry; a signal that means to
close has `reduce_only`.
"""

from __future__ import annotations

from ..messages import AccountMode, KillLevel, OrderRole, OrderType, Protection, RejectCode, Signal
from ..risk import is_multiple
from .state import ZERO, LegRecord, OrderRecord, RouteRecord, SignalRecord
from .turn import Turn, kill_level, live_orders, unknown_order


def refuse_route(turn: Turn, signal: Signal, leg: LegRecord, route: RouteRecord) -> tuple[RejectCode, str]:
    """Return code and text why a leg may not trade on its account now; NONE and "" when it may."""
    level = kill_level(turn.state, leg.route)
    barred = KillLevel.CANCEL_ALL if signal.reduce_only else KillLevel.NO_NEW
    if level >= barred:
        return RejectCode.KILL_SWITCH, f"kill switch of {leg.platform} is at {level.name.lower()}; resume first"
    if not route.up or not route.ready:
        return RejectCode.PLATFORM_NOT_READY, f"{leg.platform} is not connected and reconciled"
    unknown = unknown_order(turn.state, route, leg.symbol)
    if unknown is not None:
        return (
            RejectCode.OUTCOME_UNKNOWN,
            f"order {unknown.order.client_order_id} on {leg.platform} {leg.symbol} has an unknown outcome",
        )
    front = turn.state.contracts.get(leg.symbol)
    assert leg.market is not None
    if front is not None and leg.market.contract not in ("", front.contract):
        # The quote was read just before the roll, when the symbol still meant the contract before: prices of one month
        # would size and guard an order in another.
        text = f"contract was {leg.market.contract} on {leg.platform}, {front.contract} is in front"
        return RejectCode.IDENTITY_MISMATCH, text
    if leg.symbol in route.retired and not signal.reduce_only:
        return (
            RejectCode.CONTRACT_EXPIRED,
            f"{leg.symbol} was rolled: it can be closed, nothing opens there; trade {route.retired[leg.symbol]}",
        )
    position = route.positions.get(leg.symbol)
    if position is not None and (position.blocked or position.mismatch_snapshots) and not signal.reduce_only:
        return (
            RejectCode.POSITION_MISMATCH,
            f"position of {leg.symbol} on {leg.platform} differed from the platform's; acknowledge it first",
        )
    return _refuse_capability(signal, leg, route)


def _refuse_capability(signal: Signal, leg: LegRecord, route: RouteRecord) -> tuple[RejectCode, str]:
    capabilities = route.hello.capabilities
    assert capabilities is not None
    if signal.reduce_only and route.hello.account_mode is AccountMode.HEDGING:
        text = f"{leg.platform} is a hedging account: an opposite order opens a second position; use signal_close"
        return RejectCode.UNSUPPORTED_TYPE, text
    kind = OrderType.MARKET if leg.hedge else signal.order_type
    if kind not in capabilities.order_types:
        return RejectCode.UNSUPPORTED_TYPE, f"{leg.platform} has no {kind} orders"
    if not leg.hedge and signal.time_in_force not in capabilities.times_in_force:
        return RejectCode.UNSUPPORTED_TIF, f"{leg.platform} has no time in force {signal.time_in_force}"
    if leg.protection is Protection.GATEWAY:
        if route.hello.account_mode is AccountMode.HEDGING:
            return (
                RejectCode.UNSUPPORTED_BRACKET,
                f"{leg.platform} keeps no brackets, and a separate stop on a hedging account opens a second position",
            )
        needed = {OrderType.STOP, OrderType.LIMIT}
        if not needed <= set(capabilities.order_types):
            return RejectCode.UNSUPPORTED_BRACKET, f"{leg.platform} has no stop and limit orders to build a bracket"
    return RejectCode.NONE, ""


def bound_reduction(turn: Turn, signal: Signal, leg: LegRecord, route: RouteRecord) -> None:
    """Bound a reduce-only leg by the position, less the orders that reduce it already: the rest would open lots."""
    position = route.positions.get(leg.symbol)
    net = position.net if position is not None else ZERO
    working = sum(
        (
            order.leaves_qty
            for order in live_orders(turn.state, route)
            if order.order.symbol == leg.symbol and order.order.side.sign == leg.sign
        ),
        ZERO,
    )
    room = max(-net * leg.sign - working, ZERO)
    if room < leg.quantity:
        leg.quantity = room
    market = leg.market
    assert market is not None
    if leg.quantity <= 0 or not is_multiple(leg.quantity, market.lot_step):
        leg.code = RejectCode.NOTHING_TO_CLOSE
        leg.text = f"{leg.platform} holds {net} {leg.symbol}, which a reduce-only {signal.side} cannot reduce"


_REDUCING = (OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT, OrderRole.EXIT)


def refuse_opposed(turn: Turn, record: SignalRecord, leg: LegRecord) -> tuple[RejectCode, str]:
    """Return code and text why a leg may not open against its account's position, or against an entry or leg there that
    may still make one; NONE and "" when it may.
    """
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
