"""Lots of a confirmed overfill: they belong to the account and to no leg, and are closed or kept as configured."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from ....shm.durations import NS_PER_MS
from ...messages import Order, OrderRole, OrderType, RejectCode, Side, client_order_id, signal_key
from ...messages.fields import MAX_QUANTITY
from ...messages.order_id import LENGTH, MAX_ATTEMPTS, OLD_MAX_ATTEMPTS
from ..state import ZERO, ContradictionRecord, PositionRecord, RouteRecord
from ..turn import Turn, bar_of, live_orders
from .placement import send_order

_LONGEST_PAUSE_MS: Final = 60_000
"""Between two attempts to close an overfill that the platform refuses."""


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


def drive_overfills(turn: Turn, name: str) -> None:
    """Send one closing order for each symbol whose overfilled lots are still held."""
    route = turn.state.routes[name]
    for symbol, position in route.positions.items():
        if position.overfilled:
            _drive(turn, name, route, symbol, position)


def _drive(turn: Turn, name: str, route: RouteRecord, symbol: str, position: PositionRecord) -> None:
    # Somebody else may have closed them: never more than the account holds in this direction beyond its legs.
    held = position.external if position.external * position.overfilled > 0 else ZERO
    if abs(position.overfilled) > abs(held):
        position.overfilled = held
    lots = position.overfilled
    busy = any(not order.signal_id and order.order.symbol == symbol for order in live_orders(turn.state, route))
    waits = not route.up or not route.ready or turn.now_ns < position.overfill_retry_ns
    if not lots or busy or waits or bar_of(turn.state, name, symbol):
        return
    # By time and not by a counter: with a lost journal a counter starts again, and would repeat an older ClOrdID.
    key = signal_key(f"overfill/{position.overfilled_ns}/{name}/{symbol}")
    chars = turn.state.settings.client_order_id_chars
    most = MAX_ATTEMPTS if chars == LENGTH else OLD_MAX_ATTEMPTS
    attempt = position.overfill_orders
    while attempt < most and client_order_id(key, 0, OrderRole.EXIT, attempt, chars) in turn.state.orders:
        attempt += 1
    if attempt >= most:
        return
    position.overfill_orders = attempt + 1
    pause_ms = min(turn.state.settings.retry_ms * 2 ** min(attempt, 10), _LONGEST_PAUSE_MS)
    position.overfill_retry_ns = turn.now_ns + pause_ms * NS_PER_MS
    capabilities = route.hello.capabilities
    order = Order(
        client_order_id=client_order_id(key, 0, OrderRole.EXIT, attempt, chars),
        platform=route.platform,
        account=route.account,
        symbol=symbol,
        contract=position.contract,
        side=Side.SELL if lots > 0 else Side.BUY,
        quantity=min(abs(lots), MAX_QUANTITY),
        order_type=OrderType.MARKET,
        reduce_only=capabilities is not None and capabilities.reduce_only and position.net * lots > 0,
        not_after_ns=turn.now_ns + turn.state.settings.send_within_ms * NS_PER_MS,
    )
    send_order(turn, order, "", -1, OrderRole.EXIT, attempt)


def overfill_due_ns(route: RouteRecord, now_ns: int) -> list[int]:
    """Return when the next closing orders for overfills may leave, UTC ns."""
    return [
        position.overfill_retry_ns
        for position in route.positions.values()
        if position.overfilled and position.overfill_retry_ns > now_ns
    ]


def closed_overfill(position: PositionRecord, lots: Decimal) -> None:
    """Take lots (signed) that an order without a signal has traded off the overfilled ones."""
    if position.overfilled * lots < 0:
        left = abs(position.overfilled) - abs(lots)
        position.overfilled = left.copy_sign(position.overfilled) if left > 0 else ZERO
