"""Messages between the gateway and an adapter: orders out; order updates, fills, corrections and rejects back."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

from ..bounds import PLAIN_TEXT
from .codes import RejectCode
from .fields import (
    AccountName,
    ClientOrderId,
    Contract,
    Count,
    ExecutionId,
    OptionalCurrency,
    Platform,
    PlatformOrderId,
    Sequence,
    Symbol,
    Text,
    Ticket,
    TimeNs,
    check_good_till,
    check_money,
    check_price,
    check_prices,
    check_quantity,
    check_signed_quantity,
)
from .order_id import LENGTH, OLD_LENGTH
from .terms import CorrectionKind, LegState, OrderType, Side, TimeInForce

OwnOrderId = Annotated[str, Meta(pattern=PLAIN_TEXT, min_length=OLD_LENGTH, max_length=LENGTH)]


class Order(Struct, tag="order", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Place an order once. For a `client_order_id` that exists already the adapter must return the existing order.

    `quantity`: lots; prices in quote units. `not_after_ns` (UTC ns): after this time the adapter must refuse with
    `too_late_to_send` instead of placing; only so can the gateway conclude later, from a snapshot without the order,
    that it was never placed. `stop_loss`/`take_profit`: only for adapters whose capabilities have `brackets`.
    `close_ticket`: the position of a hedging account to be closed.
    """

    client_order_id: OwnOrderId
    platform: Platform
    account: AccountName
    symbol: Symbol
    contract: Contract
    side: Side
    quantity: Decimal
    order_type: OrderType
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.DAY
    good_till_ns: TimeNs = 0
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    reduce_only: bool = False
    close_ticket: Ticket = ""
    oco_group: Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=31)] = ""
    not_after_ns: TimeNs = 0

    def __post_init__(self) -> None:
        check_quantity("quantity", self.quantity)
        check_prices(self.order_type, self.limit_price, self.stop_price)
        check_price("stop_loss", self.stop_loss)
        check_price("take_profit", self.take_profit)
        check_good_till(self.time_in_force, self.good_till_ns)


class Cancel(Struct, tag="cancel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cancel one order; may be repeated. `platform_order_id`: empty when no update has named it yet."""

    client_order_id: ClientOrderId
    platform: Platform
    account: AccountName
    symbol: Symbol
    platform_order_id: PlatformOrderId = ""


class Replace(Struct, tag="replace", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Change a working order in place; it keeps its client order id.

    All fields are new totals, never differences; `quantity` includes the lots that are filled already. `revision`
    counts the replaces of this order from 1, and is repeated in the answer.
    """

    client_order_id: OwnOrderId
    platform: Platform
    account: AccountName
    symbol: Symbol
    revision: Count
    quantity: Decimal
    platform_order_id: PlatformOrderId = ""
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None

    def __post_init__(self) -> None:
        check_quantity("quantity", self.quantity)
        check_price("limit_price", self.limit_price)
        check_price("stop_price", self.stop_price)


class Flatten(Struct, tag="flatten", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cancel all orders and close all positions of an account by the platform's own command for it.

    Only for adapters whose capabilities have `flatten`. `not_after_ns`: as in `Order`.
    """

    request_id: Sequence
    platform: Platform
    account: AccountName
    not_after_ns: TimeNs = 0


class OrderUpdate(Struct, tag="order_update", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State of one order as the platform reports it (FIX execution report without a fill).

    An external order has an empty id or one that is not ours. `filled`: the platform's cumulative quantity (CumQty),
    used as a check only; positions and money are computed from fills. `replace_revision`: set in the answer to a
    replace.
    """

    client_order_id: ClientOrderId
    platform: Platform
    account: AccountName
    symbol: Symbol
    side: Side
    state: LegState
    quantity: Decimal
    filled: Decimal
    platform_order_id: PlatformOrderId = ""
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    avg_price: Decimal | None = None
    replace_revision: Count = 0
    code: RejectCode = RejectCode.NONE
    text: Text = ""
    ts_event_ns: TimeNs = 0

    def __post_init__(self) -> None:
        check_quantity("quantity", self.quantity)
        check_signed_quantity("filled", self.filled)
        if self.filled < 0:
            raise ValueError(f"filled must not be negative, was {self.filled}")
        check_price("limit_price", self.limit_price)
        check_price("stop_price", self.stop_price)
        check_price("avg_price", self.avg_price)


class Fill(Struct, tag="fill", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One execution, identified by (platform, account, exec_id). `fee`: positive = a cost.

    `position_ticket`: on hedging accounts, the position that it opened or reduced.
    """

    platform: Platform
    account: AccountName
    exec_id: ExecutionId
    client_order_id: ClientOrderId
    symbol: Symbol
    side: Side
    quantity: Decimal
    price: Decimal
    ts_event_ns: TimeNs
    platform_order_id: PlatformOrderId = ""
    contract: Contract = ""
    position_ticket: Ticket = ""
    fee: Decimal = Decimal(0)
    fee_currency: OptionalCurrency = ""

    def __post_init__(self) -> None:
        check_quantity("quantity", self.quantity)
        check_price("price", self.price)
        check_money("fee", self.fee)


class Correction(Struct, tag="correction", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The platform withdraws an execution (`bust`) or changes it (`correct`).

    `revision` counts the corrections of one execution from 1. The highest holds, in whatever order they arrive.
    """

    platform: Platform
    account: AccountName
    exec_id: ExecutionId
    kind: CorrectionKind
    revision: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    quantity: Decimal | None = None
    price: Decimal | None = None
    ts_event_ns: TimeNs = 0

    def __post_init__(self) -> None:
        check_quantity("quantity", self.quantity)
        check_price("price", self.price)
        if (self.kind is CorrectionKind.CORRECT) != (self.quantity is not None and self.price is not None):
            raise ValueError("a correction needs the new quantity and price, a bust neither")


class Reject(Struct, tag="reject", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A refusal with its code: from an adapter of an order, cancel or replace; from the gateway of a message.

    `measured` and `limit` are texts, since a check may measure a number, a name or an age.
    """

    code: RejectCode
    text: Text
    client_order_id: ClientOrderId = ""
    signal_id: Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=64)] = ""
    platform: Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=16)] = ""
    account: AccountName = ""
    replace_revision: Count = 0
    measured: Text = ""
    limit: Text = ""
    stage: Count = 0
