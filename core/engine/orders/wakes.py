"""Find the signals whose next step an event has changed although it is about none of their own orders.

A signal is settled when an event concerns it or a deadline of it has passed. Besides, its next step depends on its
accounts: link, bars, market, and for what is being closed or reduced on what others hold and close there. Whatever
changes those calls a function of this module, so that no clock tick has to look at every signal.
"""

from __future__ import annotations

from msgspec import Struct

from ...messages import OrderRole
from ..state import OPENING, ZERO, LegRecord, RouteRecord, route_of
from ..turn import Turn, live_closing
from .exposure import least_closing_lots, unreported_lots


class _Bars(Struct):
    """What bars orders on an account: by symbol whether its position, or a closing order that went too far, does."""

    ready: bool
    flattening: bool
    by_symbol: dict[str, tuple[bool, bool]]


def wake_route(turn: Turn, name: str) -> None:
    """Settle every signal with a leg on an account: its link, its bars or its kill level have changed."""
    for signal_id in turn.state.routes[name].active_signals:
        turn.mark_for_settle(signal_id)


def wake_all(turn: Turn) -> None:
    """Settle every signal: a start or a command of the operator has changed what holds for all of them."""
    for signal_id in turn.state.active:
        turn.mark_for_settle(signal_id)


def wake_waiting(turn: Turn) -> None:
    """Settle what waits for the books that have changed since the last call in this turn.

    These are legs that are being closed and whose closing order may not leave yet, and working reduce-only orders that
    have become larger than what is left to close.
    """
    state = turn.state
    # Route and symbol -> whether an order for the whole account, or one that opens lots, is concerned: it decides what
    # a leg waits for even while that pauses between two attempts.
    places: dict[tuple[str, str], bool] = {}
    for order_id in turn.changed_orders:
        order = state.orders.get(order_id)
        if order is not None:
            terms = order.order
            key = route_of(terms.platform, terms.account), terms.symbol
            places[key] = places.get(key, False) or not order.signal_id or order.role in OPENING
    turn.changed_orders.clear()
    for key, seen in turn.books_seen.items():
        position = state.routes[key[0]].positions.get(key[1])
        lots = (ZERO, ZERO) if position is None else (position.net, position.external)
        if lots != seen:
            turn.books_seen[key] = lots
            places.setdefault(key, False)
    for (name, symbol), wakes_pausing in places.items():
        _wake_closing(turn, name, symbol, wakes_pausing)
        for sign in (1, -1):
            _wake_reductions(turn, name, symbol, sign)


def _wake_closing(turn: Turn, name: str, symbol: str, wakes_pausing: bool) -> None:
    for signal_id in turn.state.routes[name].waiting_closes:
        for leg in turn.state.signals[signal_id].legs:
            if leg.closing and (leg.route, leg.symbol) == (name, symbol) and (wakes_pausing or not _pauses(turn, leg)):
                turn.mark_for_settle(signal_id)
                break


def _pauses(turn: Turn, leg: LegRecord) -> bool:
    """Whether a leg only waits for its own next attempt: what others hold and close does not matter before that. In a
    shut market it decides whether an attempt is made beside its stop.
    """
    return leg.retry_ns > turn.now_ns and (leg.market is None or leg.market.session_open)


def _wake_reductions(turn: Turn, name: str, symbol: str, sign: int) -> None:
    """Settle the reduce-only signals of one side when their orders ask for more than is left to close."""
    route = turn.state.routes[name]
    if not route.live_closing:
        return
    position = route.positions.get(symbol)
    held = ZERO if position is None else max(-position.net * sign, ZERO)
    if least_closing_lots(turn, name, symbol, sign) <= held - unreported_lots(turn, name, symbol, sign):
        return
    for order in live_closing(turn.state, route):
        if order.order.symbol == symbol and order.role is OrderRole.ENTRY:
            turn.mark_for_settle(order.signal_id)


def bars_of(route: RouteRecord) -> _Bars:
    """Return what bars orders on an account, for `wake_after_snapshot` to compare."""
    by_symbol = {
        symbol: (bool(position.mismatch_snapshots), bool(position.over_closed_request))
        for symbol, position in route.positions.items()
    }
    return _Bars(route.ready, bool(route.flatten_sent_ns), by_symbol)


def wake_after_snapshot(turn: Turn, name: str, before: _Bars) -> None:
    """Settle what a snapshot lets go on, or stops: by its account's bars, and all that waits to be closed there."""
    route = turn.state.routes[name]
    now = bars_of(route)
    if (now.ready, now.flattening) != (before.ready, before.flattening):
        wake_route(turn, name)
        return
    old, new, none = before.by_symbol, now.by_symbol, (False, False)
    changed = {symbol for symbol in (*old, *new) if old.get(symbol, none) != new.get(symbol, none)}
    for signal_id in route.active_signals if changed else ():
        legs = turn.state.signals[signal_id].legs
        if any(leg.route == name and leg.symbol in changed for leg in legs):
            turn.mark_for_settle(signal_id)
    for signal_id in route.waiting_closes:
        turn.mark_for_settle(signal_id)
