"""Build the messages that describe the paper book: order updates, snapshots, money. Pure."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from typing import Final

from ...core.messages import (
    Account,
    AccountMode,
    Executions,
    LegState,
    OrderUpdate,
    Position,
    Positions,
    Snapshot,
    SnapshotRequest,
    WorkingOrder,
    WorkingOrders,
)
from ...core.messages.fields import MAX_ROWS
from .book import ZERO, PaperBook, PaperOrder

ENDED_ORDERS_LISTED: Final = 500
_CENTS: Final = Decimal("0.01")


def make_update(
    platform: str, account: str, order: PaperOrder, now_ns: int, replace_revision: int = 0, text: str = ""
) -> OrderUpdate:
    """Return an update with an order's current state."""
    return OrderUpdate(
        client_order_id=order.client_order_id,
        platform=platform,
        account=account,
        symbol=order.symbol,
        side=order.side,
        state=order.state,
        quantity=order.quantity,
        filled=order.filled,
        platform_order_id=order.platform_order_id,
        order_type=order.order_type,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        avg_price=order.avg_price,
        replace_revision=replace_revision,
        text=text,
        ts_event_ns=now_ns,
    )


def state_while_live(order: PaperOrder) -> LegState:
    """Return the state of a live order: working or partially filled."""
    return LegState.PARTIALLY_FILLED if order.filled else LegState.WORKING


def make_account(
    platform: str,
    account: str,
    currency: str,
    book: PaperBook,
    unrealized: Callable[[], Decimal | None],
    now_ns: int,
) -> Account | None:
    """Return the account's money; None when it is not known in the account's own currency."""
    open_result = unrealized()
    if book.funds.unpriced or open_result is None:
        return None
    equity = book.funds.balance + open_result
    start = book.funds.day_start_equity
    return Account(
        platform=platform,
        account=account,
        currency=currency,
        balance=book.funds.balance.quantize(_CENTS),
        equity=equity.quantize(_CENTS),
        day_start_equity=None if start is None else start.quantize(_CENTS),
        realized_today=book.funds.realized_today.quantize(_CENTS),
        as_of_ns=now_ns,
    )


def make_snapshot(
    request: SnapshotRequest, book: PaperBook, mode: AccountMode, funds: Account | None, now_ns: int
) -> Snapshot:
    """Return positions, orders, executions and money, read at one moment."""
    platform, account = request.platform, request.account
    if mode is AccountMode.HEDGING:
        positions = [
            Position(
                symbol=each.symbol,
                quantity=each.quantity,
                avg_price=each.avg_price,
                contract=each.contract,
                ticket=each.ticket,
            )
            for each in book.positions.values()
        ]
    else:
        positions = [
            Position(symbol=each.symbol, quantity=each.quantity, avg_price=each.avg_price, contract=each.contract)
            for each in book.positions.values()
        ]
    fills = [
        each.fill
        for each in book.executions.values()
        if not each.busted and each.fill.ts_event_ns >= request.executions_from_ns
    ]
    from_ns = request.executions_from_ns
    if len(fills) > MAX_ROWS:
        # Shorten the history at its beginning, and say so in `from_ns`: a gap in it would pass for completeness.
        from_ns = fills[-MAX_ROWS].ts_event_ns + 1
        fills = [fill for fill in fills if fill.ts_event_ns >= from_ns]
    return Snapshot(
        request_id=request.request_id,
        platform=platform,
        account=account,
        positions=Positions(platform=platform, account=account, rows=tuple(positions), as_of_ns=now_ns),
        working_orders=WorkingOrders(platform=platform, account=account, rows=_list_orders(book), as_of_ns=now_ns),
        executions=Executions(platform=platform, account=account, rows=tuple(fills), from_ns=from_ns, as_of_ns=now_ns),
        funds=funds,
    )


def _list_orders(book: PaperBook) -> tuple[WorkingOrder, ...]:
    """Return all live orders and the newest ended ones."""
    ended = (order for order in reversed(book.orders.values()) if not order.live)
    listed = [order for order in book.orders.values() if order.live] + list(islice(ended, ENDED_ORDERS_LISTED))
    return tuple(
        WorkingOrder(
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            state=order.state,
            quantity=order.quantity,
            filled=order.filled,
            platform_order_id=order.platform_order_id,
            order_type=order.order_type,
            limit_price=order.limit_price,
            stop_price=order.stop_price,
        )
        for order in listed
    )


def unrealized_result(
    book: PaperBook,
    closing_price: Callable[[str, Decimal], Decimal | None],
    point_value: Callable[[str], Decimal | None],
) -> Decimal | None:
    """Return the result of closing all open positions now, in the account's currency; None when one has no value in it.

    Args:
        closing_price: of a symbol and signed lots; None without a quote: the position then has a result of 0.
        point_value: in the account's currency; None when the instrument is in another currency.
    """
    total = ZERO
    for position in book.positions.values():
        value = point_value(position.symbol)
        if value is None:
            return None
        price = closing_price(position.symbol, position.quantity)
        if price is not None:
            total += (price * position.quantity - position.cost) * value
    return total
