"""Lots of a confirmed overfill: they belong to the account and to no leg, and are closed or kept as configured."""

from __future__ import annotations

from decimal import Decimal

from ....shm.durations import NS_PER_MS
from ...messages import OrderRole, RejectCode, signal_key
from ..state import ZERO, ContradictionRecord, PositionRecord, RouteRecord
from ..turn import Turn, bar_of, live_closing, live_orders
from .pauses import pause_ms
from .placement import close_for_account


def note_overfill(turn: Turn, name: str, record: ContradictionRecord, lots: Decimal) -> None:
    """Note confirmed lots beyond an order's size: they are external from now on."""
    fill = record.fill
    assert fill is not None
    route = turn.state.routes[name]
    turn.count("overfill_confirmed")
    order = turn.state.orders.get(record.client_order_id)
    if order is not None:
        order.written_off_qty += lots
    closes = turn.state.settings.close_overfills
    if closes:
        position = turn.position(name, fill.symbol)
        if not position.overfilled:
            position.overfilled_ns, position.overfill_orders, position.overfill_retry_ns = turn.now_ns, 0, 0
        position.overfilled += lots * fill.side.sign
    turn.alert(
        RejectCode.PARENT_EXCEEDED,
        f"{name}: order {record.client_order_id} was overfilled by {lots} {fill.symbol}: the account holds them, "
        f"{'and they are closed' if closes else 'close or keep them at the platform'}",
        route.platform,
    )


def note_over_reduction(turn: Turn, name: str, symbol: str, external_before: Decimal, lots: Decimal) -> None:
    """Note lots (signed) that a reduce-only order has traded beyond what was held, since a stop had closed it already.

    It was to reduce, and has opened: these lots are closed, whatever is configured for an exchange's overfills.
    """
    position = turn.position(name, symbol)
    sign = 1 if lots > 0 else -1
    beyond = min(abs(lots), position.external * sign - max(external_before * sign, ZERO), position.net * sign)
    if beyond <= 0:
        return
    if not position.overfilled:
        position.overfilled_ns, position.overfill_orders, position.overfill_retry_ns = turn.now_ns, 0, 0
    position.overfilled += beyond * sign
    turn.count("over_reduced")
    text = (
        f"{name}: a reduce-only order has traded {beyond} {symbol} more than was left to close; they are closed again"
    )
    turn.alert(RejectCode.PARENT_EXCEEDED, text, turn.state.routes[name].platform)


def drive_overfills(turn: Turn, name: str) -> None:
    """Send one closing order for each symbol whose overfilled lots are still held."""
    route = turn.state.routes[name]
    for symbol, position in route.positions.items():
        if position.overfilled:
            _drive(turn, name, route, symbol, position)


def _drive(turn: Turn, name: str, route: RouteRecord, symbol: str, position: PositionRecord) -> None:
    # They may have been closed at the platform: never more than the account holds in this direction beyond its legs.
    held = position.external if position.external * position.overfilled > 0 else ZERO
    if abs(position.overfilled) > abs(held):
        position.overfilled = held
    lots = position.overfilled
    if position.overfill_retry_ns <= turn.now_ns:
        position.overfill_retry_ns = 0  # used up: what follows is decided now, or by the event that it waits for
    busy = any(not order.signal_id and order.order.symbol == symbol for order in live_orders(turn.state, route))
    waits = not route.up or not route.ready or turn.now_ns < position.overfill_retry_ns or position.over_closed_request
    if not lots or busy or waits or bar_of(turn.state, name, symbol):
        return
    if any(
        order.role is not OrderRole.EXIT and order.order.symbol == symbol and order.order.side.sign * lots < 0
        for order in live_closing(turn.state, route)
    ):
        return  # a reduce-only order may close the same lots: what is left is known when it has ended
    key = signal_key(f"overfill/{position.overfilled_ns}/{name}/{symbol}")
    reduces = position.net * lots > 0
    attempts = close_for_account(turn, route, key, position.overfill_orders, symbol, lots, reduce_only=reduces)
    if attempts is None:
        return
    pause = pause_ms(turn, position.overfill_orders + 1)
    position.overfill_orders = attempts
    position.overfill_retry_ns = turn.now_ns + pause * NS_PER_MS


def overfill_due_ns(route: RouteRecord) -> list[int]:
    """Return when the next closing orders for overfills may leave, UTC ns."""
    return [
        position.overfill_retry_ns
        for position in route.positions.values()
        if position.overfilled and position.overfill_retry_ns
    ]


def closed_overfill(position: PositionRecord, lots: Decimal) -> None:
    """Take lots (signed) that an order without a signal has traded off the overfilled ones."""
    if position.overfilled * lots < 0:
        left = abs(position.overfilled) - abs(lots)
        position.overfilled = left.copy_sign(position.overfilled) if left > 0 else ZERO
