"""State reported by a platform: positions, working orders, executions, account; alone or in one snapshot."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

from .fields import (
    MAX_ROWS,
    AccountName,
    ClientOrderId,
    Contract,
    Currency,
    Platform,
    PlatformOrderId,
    Sequence,
    Symbol,
    Ticket,
    TimeNs,
    check_money,
    check_price,
    check_quantity,
    check_signed_quantity,
)
from .orders import Fill
from .terms import LegState, OrderType, Side


class Position(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One open position. `quantity`: lots, signed; `avg_price`: quote units. On hedging accounts one row per ticket."""

    symbol: Symbol
    quantity: Decimal
    avg_price: Decimal | None = None
    contract: Contract = ""
    ticket: Ticket = ""

    def __post_init__(self) -> None:
        check_signed_quantity("quantity", self.quantity)
        check_price("avg_price", self.avg_price)


class WorkingOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One order at the platform: working, or ended today where the platform lists those.

    `filled` is the platform's cumulative quantity (FIX CumQty), lots. An order that has ended must not be listed as
    working: recovery relies on this row.
    """

    client_order_id: ClientOrderId
    symbol: Symbol
    side: Side
    state: LegState
    quantity: Decimal
    filled: Decimal
    platform_order_id: PlatformOrderId = ""
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None

    def __post_init__(self) -> None:
        check_quantity("quantity", self.quantity)
        check_signed_quantity("filled", self.filled)
        check_price("limit_price", self.limit_price)
        check_price("stop_price", self.stop_price)


class Positions(Struct, tag="positions", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All open positions of one account. A symbol that is not listed is flat."""

    platform: Platform
    account: AccountName
    rows: Annotated[tuple[Position, ...], Meta(max_length=MAX_ROWS)]
    as_of_ns: TimeNs = 0


class WorkingOrders(Struct, tag="working_orders", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All orders of one account that the platform still lists, ours and external ones."""

    platform: Platform
    account: AccountName
    rows: Annotated[tuple[WorkingOrder, ...], Meta(max_length=MAX_ROWS)]
    as_of_ns: TimeNs = 0


class Executions(Struct, tag="executions", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All executions of one account since `from_ns`, UTC ns, without busted ones, and with corrections applied."""

    platform: Platform
    account: AccountName
    rows: Annotated[tuple[Fill, ...], Meta(max_length=MAX_ROWS)]
    from_ns: TimeNs = 0
    as_of_ns: TimeNs = 0


class Account(Struct, tag="account", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Money of one account, in its own currency. `day_start_equity` and `realized_today`: None where the platform does
    not report them.
    """

    platform: Platform
    account: AccountName
    currency: Currency
    balance: Decimal
    equity: Decimal
    margin_used: Decimal | None = None
    day_start_equity: Decimal | None = None
    realized_today: Decimal | None = None
    as_of_ns: TimeNs = 0

    def __post_init__(self) -> None:
        check_money("balance", self.balance)
        check_money("equity", self.equity)
        check_money("margin_used", self.margin_used)
        check_money("day_start_equity", self.day_start_equity)
        check_money("realized_today", self.realized_today)


class SnapshotRequest(Struct, tag="snapshot_request", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Request a snapshot. The adapter answers it after all messages that it received before."""

    request_id: Sequence
    platform: Platform
    account: AccountName
    executions_from_ns: TimeNs = 0


class Snapshot(Struct, tag="snapshot", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State of one platform and account, all parts read at one moment; the engine reconciles with it.

    `complete` is False when a part could not be read. What such a snapshot lists is true, but what it does not list may
    exist all the same.
    """

    request_id: Sequence
    platform: Platform
    account: AccountName
    positions: Positions
    working_orders: WorkingOrders
    executions: Executions
    funds: Account | None = None
    complete: bool = True
