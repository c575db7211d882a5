"""Stops and targets that the gateway keeps itself, for platforms that cannot attach them to the entry.

A loop towards one stop and one target for exactly what is open: after every change it compares the working orders with
the open lots and takes one step. So a partial entry, a partial exit, a late OCO sibling and a restart need no case of
their own.
"""

from __future__ import annotations

from decimal import Decimal

from ....shm.durations import NS_PER_MS
from ...messages import AccountMode, LegState, OrderRole, OrderType, Protection, RejectCode, Side, TimeInForce
from ..state import OPENING, ZERO, LegRecord, OrderRecord, SignalRecord
from ..turn import Turn, bar_of, leg_orders
from .exits import SHUT_PAUSE_MS, close_leg
from .placement import OrderTerms, place_for_leg, send_replace, want_cancel

_ROLES = (OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT)


def guard_leg(turn: Turn, signal: SignalRecord, leg_number: int) -> None:
    """Take the next step towards protecting exactly what the leg holds."""
    leg = signal.legs[leg_number]
    if leg.closing:
        return
    if leg.open * leg.sign < 0:
        # Stop and target both filled before either could be cancelled. What is held now is a position on the other side
        # that no signal asked for, and no stop guards.
        turn.count("oco_both_filled")
        leg.text = "stop and target both filled; the excess is closed"
        close_leg(turn, signal, leg_number)
        return
    route = turn.state.routes[leg.route]
    bracket = leg.bracket
    if bracket is None or not route.up or not route.ready or bar_of(turn.state, leg.route, leg.symbol):
        return
    protective = [order for order in leg_orders(turn.state, leg) if order.role in _ROLES]
    if any(order.unreported_qty for order in protective):
        return  # its executions are on their way: a stop sized by `open` now would be too large
    for role, price in zip(_ROLES, (bracket.stop_loss, bracket.take_profit), strict=True):
        if price is not None:
            mine = [order for order in protective if order.role is role and order.live]
            _balance(turn, signal, leg_number, role, price, mine)


def take_over_bracket(turn: Turn, signal: SignalRecord, leg_number: int) -> None:
    """Keep stop and target here from now on when a bust or a correction has changed what a leg holds.

    A platform does not follow it: its stop would close lots that are not held any more, or guard none of those that are
    held again. From here on they are balanced as any others (`guard_leg`), by replaces or by cancels and new orders.
    """
    leg = signal.legs[leg_number]
    route = turn.state.routes[leg.route]
    executions = [turn.state.executions[key] for key in leg.executions]
    if leg.closing or leg.open * leg.sign < 0 or not any(each.busted or each.restated for each in executions):
        return
    orders = list(leg_orders(turn.state, leg))
    stops = [order for order in orders if order.role is OrderRole.STOP_LOSS and order.live]
    settled = not any(order.unsettled for order in orders if order.role in OPENING)
    wanted = leg.bracket is not None and leg.bracket.stop_loss is not None
    guarded = sum((order.leaves_qty for order in stops), ZERO) == abs(leg.open) or not (stops or wanted)
    if guarded or not settled or any(_in_flux(order) for order in stops):
        return
    capabilities = route.hello.capabilities
    able = capabilities is not None and {OrderType.STOP, OrderType.LIMIT} <= set(capabilities.order_types)
    text = f"{signal.signal.signal_id} {leg.platform}: after a bust or a correction {leg.open} lots are held"
    if route.hello.account_mode is AccountMode.NETTING and able:
        leg.protection = Protection.GATEWAY
        text += "; their stop and target are kept by the gateway from now on"
    else:
        text += ", and the platform's stop is another size: set it right at the platform"
    if leg.text != text:
        leg.text = text
        turn.count("bracket_taken_over")
        turn.alert(RejectCode.UNSUPPORTED_BRACKET, text, leg.platform)
        turn.touch(signal.signal.signal_id)


def _balance(
    turn: Turn,
    signal: SignalRecord,
    leg_number: int,
    role: OrderRole,
    price: Decimal,
    orders: list[OrderRecord],
) -> None:
    leg = signal.legs[leg_number]
    if any(_in_flux(order) for order in orders):
        return  # a second stop sent now could stand beside the first, and fill for lots that are not held
    working = sum((order.leaves_qty for order in orders), ZERO)
    excess = working - abs(leg.open)
    if excess > 0:
        _reduce(turn, leg, orders[-1], excess)
    elif excess < 0 and turn.now_ns >= leg.retry_ns:
        shut = leg.market is not None and not leg.market.session_open
        refused = sum(_was_refused(order, role, leg) for order in leg_orders(turn.state, leg))
        if refused >= 3 and not shut:
            # A position that cannot be protected is closed. Refusals by a shut market do not count (`_was_refused`).
            leg.text = f"the platform refused the {role.name.lower()}; the leg is closed"
            close_leg(turn, signal, leg_number)
            return
        pause_ms = SHUT_PAUSE_MS if shut and refused else turn.state.settings.retry_ms if orders else 0
        leg.retry_ns = turn.now_ns + pause_ms * NS_PER_MS
        if not _place(turn, signal, leg_number, role, price, -excess):
            leg.text = f"no ClOrdID is left for another {role.name.lower()}; the leg is closed"
            close_leg(turn, signal, leg_number)


def _was_refused(order: OrderRecord, role: OrderRole, leg: LegRecord) -> bool:
    return order.role is role and order.state is LegState.REJECTED and order.sent_ns >= leg.session_opened_ns


def _in_flux(order: OrderRecord) -> bool:
    """Whether an answer about an order is due: until it comes, its working size is not known."""
    return order.cancel_wanted or order.replace is not None or order.state in (LegState.SENT, LegState.UNKNOWN)


def _reduce(turn: Turn, leg: LegRecord, order: OrderRecord, excess: Decimal) -> None:
    capabilities = turn.state.routes[leg.route].hello.capabilities
    can_resize = capabilities is not None and capabilities.replace and capabilities.replace_quantity
    if excess < order.leaves_qty and can_resize:
        send_replace(turn, order, order.quantity - excess, order.limit_price, order.stop_price)
    else:
        want_cancel(turn, order)


def _place(
    turn: Turn, signal: SignalRecord, leg_number: int, role: OrderRole, price: Decimal, quantity: Decimal
) -> bool:
    leg = signal.legs[leg_number]
    stop = role is OrderRole.STOP_LOSS
    capabilities = turn.state.routes[leg.route].hello.capabilities
    lasting = capabilities is not None and TimeInForce.GTC in capabilities.times_in_force
    terms = OrderTerms(
        side=Side.SELL if leg.open > 0 else Side.BUY,
        quantity=quantity,
        order_type=OrderType.STOP if stop else OrderType.LIMIT,
        stop_price=price if stop else None,
        limit_price=None if stop else price,
        time_in_force=TimeInForce.GTC if lasting else TimeInForce.DAY,
        reduce_only=True,
        oco_group=f"{signal.key}-{leg_number}",
    )
    return place_for_leg(turn, signal, leg_number, role, terms) is not None
