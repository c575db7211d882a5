"""End closing orders that must not go on working: those for more lots than are held, and those that do not trade.

A closing order is sized when it leaves. Meanwhile a person, a late fill of a stop or another order may close its lots:
what it traded then would open a position, or close the lots of another signal. And one that rests in an open market
keeps the stop away from lots that it does not close.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ....shm.durations import NS_PER_MS, NS_PER_S
from ...messages import LegState, OrderRole
from ..state import ZERO, EngineState, LegRecord, OrderRecord, RouteRecord
from ..turn import Turn, bar_of, leg_orders, live_orders
from .exposure import is_hedging
from .pauses import pause_ms
from .placement import want_cancel

_MOST_REST_NS: Final = 10 * NS_PER_S
"""How long a closing order may work in an open market without trading. It is a market order: platforms that put a
price limit on these let the rest work as a limit order."""


def end_excess(turn: Turn, leg: LegRecord, working: Sequence[OrderRecord]) -> None:
    """Cancel closing orders of a leg that work for more than it still holds; the close goes on when they have ended."""
    left = abs(leg.open)
    for order in working:
        if order.cancel_wanted:
            continue  # it is not counted, or two that are too large together would both be cancelled
        if order.leaves_qty > left:
            _end(turn, order, "less is left to close than it asks for")
        else:
            left -= order.leaves_qty


def end_excess_of_account(turn: Turn, name: str) -> None:
    """Do the same for closing orders of a netting account that belong to no leg, where it is known what it holds."""
    route = turn.state.routes[name]
    if is_hedging(route) or turn.unproven == name:
        return
    for order in live_orders(turn.state, route):
        if order.signal_id or order.role is not OrderRole.EXIT or order.cancel_wanted:
            continue
        if bar_of(turn.state, name, order.order.symbol):
            continue
        position = route.positions.get(order.order.symbol)
        held = ZERO if position is None else -position.net * order.order.side.sign
        if order.leaves_qty > held:
            _end(turn, order, "the account holds less than it asks for")


def end_orders_of_account(turn: Turn, route: RouteRecord) -> None:
    """Cancel closing orders of a kill level for lots of no leg: it is not in force any more. One for overfilled lots
    works on.
    """
    for order in live_orders(turn.state, route):
        position = route.positions.get(order.order.symbol)
        overfilled = position is not None and position.overfilled
        if not order.signal_id and order.role is OrderRole.EXIT and not overfilled:
            _end(turn, order, "trading was resumed")


def rest_ends_ns(state: EngineState, route: RouteRecord, order: OrderRecord) -> int | None:
    """Return when an order has rested for too long, engine's time; None while it is no closing order that rests."""
    since_ns = _rests_since_ns(state, route, order)
    return None if since_ns is None else since_ns + _MOST_REST_NS


def _rests_since_ns(state: EngineState, route: RouteRecord, order: OrderRecord) -> int | None:
    """In a shut market a closing order waits for the opening, and for as long again behind it."""
    works = order.state in (LegState.WORKING, LegState.PARTIALLY_FILLED)
    if order.role is not OrderRole.EXIT or not works or order.cancel_wanted:
        return None
    position = route.positions.get(order.order.symbol)
    if position is not None and not position.session_open:
        return None
    signal = state.signals.get(order.signal_id)
    opened_ns = 0 if signal is None else signal.legs[order.leg].session_opened_ns
    return max(order.last_news_ns, opened_ns)


def end_resting(turn: Turn, route: RouteRecord, order: OrderRecord) -> None:
    """Cancel a closing order that has rested for too long. When it has ended, the stop stands until the next try."""
    due_ns = rest_ends_ns(turn.state, route, order)
    if due_ns is None or turn.now_ns < due_ns:
        return
    turn.count("closing_order_rested")
    _end(turn, order, f"has not traded for {_MOST_REST_NS // NS_PER_S} s")
    leg = turn.leg(order.signal_id, order.leg)
    if leg is not None:
        leg.retry_ns = max(leg.retry_ns, turn.now_ns + pause_ms(turn, leg.fruitless_exits) * NS_PER_MS)


def end_for_retry(turn: Turn, leg: LegRecord) -> None:
    """Cancel closing orders of a leg that have not traded for a moment: a command asks for another one at once."""
    moment_ns = turn.state.settings.stop_wait_ms * NS_PER_MS
    for order in leg_orders(turn.state, leg):
        since_ns = _rests_since_ns(turn.state, turn.state.routes[leg.route], order)
        if since_ns is not None and turn.now_ns >= since_ns + moment_ns:
            _end(turn, order, "another one was asked for")


def _end(turn: Turn, order: OrderRecord, why: str) -> None:
    if not order.cancel_wanted:
        order.text = why
        turn.touch(order.signal_id)
    want_cancel(turn, order)
