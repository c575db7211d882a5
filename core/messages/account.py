"""State reported by a platform: positions, working orders, executions, account; alone or in one snapshot."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

from ..bounds import PLAIN_TEXT
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
    Text,
    Ticket,
    TimeNs,
    check_computed,
    check_money,
    check_price,
    check_quantity,
    check_signed_quantity,
)
from .orders import Fill
from .terms import ContradictionKind, LegState, OrderType, Side


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
    complete: bool = True


class WorkingOrders(Struct, tag="working_orders", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All orders of one account that the platform still lists, ours and external ones."""

    platform: Platform
    account: AccountName
    rows: Annotated[tuple[WorkingOrder, ...], Meta(max_length=MAX_ROWS)]
    as_of_ns: TimeNs = 0
    complete: bool = True


class Executions(Struct, tag="executions", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All executions of one account since `from_ns`, UTC ns, without busted ones, and with corrections applied."""

    platform: Platform
    account: AccountName
    rows: Annotated[tuple[Fill, ...], Meta(max_length=MAX_ROWS)]
    from_ns: TimeNs = 0
    as_of_ns: TimeNs = 0
    complete: bool = True


class Contradiction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that a platform has said and that cannot be true, as it stands. Texts are for people.

    `said`: what it said. `expected`: what would be possible. `barred`: what the gateway does not do meanwhile. `ends`:
    what ends it. `exec_id`, `client_order_id`: of the execution or order concerned, empty when it is about none.
    """

    kind: ContradictionKind
    platform: Platform
    account: AccountName
    symbol: Symbol
    said: Text
    expected: Text
    barred: Text
    ends: Text
    exec_id: Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=128)] = ""
    client_order_id: ClientOrderId = ""
    since_ns: TimeNs = 0


class PositionState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One position, as the gateway has booked it and as the platform says. Lots are signed, prices in quote units.

    `reported`: the platform's figure as of `reported_ns`, UTC ns; None = it has never reported one. `agrees`: both are
    the same, or differ by executions that are younger than the platform's figure. `acknowledged` False: the platform's
    figure was taken, and entries wait for `acknowledge`.
    """

    symbol: Symbol
    quantity: Decimal
    reported: Decimal | None
    agrees: bool
    acknowledged: bool
    avg_price: Decimal | None = None
    contract: Contract = ""
    reported_ns: TimeNs = 0

    def __post_init__(self) -> None:
        check_computed(quantity=self.quantity, reported=self.reported, avg_price=self.avg_price)


class AccountState(Struct, tag="account_state", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gateway knows of one account, and how well. The answer to a query.

    `linked`: its adapter's link is up. `ready`: reconciled since. `overdue_since_ns`: it has owed a complete snapshot
    for too long, since then, UTC ns; 0 = it does not. `reconciled_ns`: its last complete snapshot; 0 = never.
    `retired_ns`: when the operator has retired it, UTC ns; 0 = it is in use. Of a retired one nothing else is known.
    """

    platform: Platform
    account: AccountName
    linked: bool
    ready: bool
    overdue_since_ns: TimeNs
    reconciled_ns: TimeNs
    positions: Annotated[tuple[PositionState, ...], Meta(max_length=MAX_ROWS)]
    contradictions: Annotated[tuple[Contradiction, ...], Meta(max_length=500)]
    retired_ns: TimeNs = 0


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

    Each part has its own `complete`: False = it could not be read whole. What such a part lists is true, but what it
    does not list may exist all the same. `complete` False = none of the parts is complete.
    """

    request_id: Sequence
    platform: Platform
    account: AccountName
    positions: Positions
    working_orders: WorkingOrders
    executions: Executions
    funds: Account | None = None
    complete: bool = True
