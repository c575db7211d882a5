"""The state of the paper platform: orders, executions, positions, money. These structs are stored on disk as they are.

This is what a snapshot shows. Reports of it may be late, missing or repeated, as the scenario of an order says.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import Struct, field

from ...core.messages import AccountMode, Fill, LegState, OrderType, Side, TimeInForce
from .scenarios import AS_IT_SHOULD, Plan

ZERO: Final = Decimal(0)
KEEP_REFUSED: Final = 20_000
_PRICE_DIGITS: Final = Decimal("1e-9")


class PaperOrder(Struct, kw_only=True):
    """One order at the platform. `client_order_id` is empty for an external order.

    `group`: orders of one group cancel each other (OCO). `ticket`: the position that it opened, on hedging accounts.
    `parent`: platform id of the entry that a stop or target belongs to. `fill_from_ns`: earliest time of a trade.
    `resting`: it did not trade when it arrived, so that it trades at its own limit from then on. `cost`: sum of price
    times lots of its executions.
    """

    platform_order_id: str
    symbol: str
    side: Side
    order_type: OrderType
    quantity: Decimal
    client_order_id: str = ""
    contract: str = ""
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.DAY
    good_till_ns: int = 0
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    reduce_only: bool = False
    close_ticket: str = ""
    group: str = ""
    parent: str = ""
    ticket: str = ""
    plan: Plan = AS_IT_SHOULD
    state: LegState = LegState.WORKING
    filled: Decimal = ZERO
    cost: Decimal = ZERO
    triggered: bool = False
    resting: bool = False
    accepted_ns: int = 0
    ended_ns: int = 0
    fill_from_ns: int = 0

    @property
    def live(self) -> bool:
        """Whether it may still trade."""
        return not self.state.final

    @property
    def remaining(self) -> Decimal:
        """Lots that may still trade (leaves_qty)."""
        return max(self.quantity - self.filled, ZERO) if self.live else ZERO

    @property
    def avg_price(self) -> Decimal | None:
        """Average price of its executions."""
        return (self.cost / self.filled).quantize(_PRICE_DIGITS) if self.filled else None


class PaperExecution(Struct, kw_only=True):
    """One execution in its current form; `revision` counts its corrections."""

    fill: Fill
    platform_order_id: str
    revision: int = 0
    busted: bool = False


class PaperPosition(Struct, kw_only=True):
    """Open lots, signed, of one symbol or (hedging) one ticket. `cost`: price times lots, signed as `quantity`."""

    symbol: str
    quantity: Decimal
    cost: Decimal
    ticket: str = ""
    contract: str = ""

    @property
    def avg_price(self) -> Decimal:
        """Average opening price."""
        return (self.cost / self.quantity).quantize(_PRICE_DIGITS)


class PaperFunds(Struct, kw_only=True):
    """Money and mode of the account, and the counter of its ids.

    `book_id` keeps ids unique when the account is deleted and created again. `unpriced`: a result in a foreign currency
    was booked, so that the balance is unknown from then on.
    """

    book_id: str
    mode: AccountMode
    currency: str
    balance: Decimal
    number: int = 0
    realized_today: Decimal = ZERO
    day_start_equity: Decimal | None = None
    day_ends_ns: int = 0
    unpriced: bool = False


class PaperBook(Struct, kw_only=True):
    """The whole account. `orders` and `executions` by id, `positions` by symbol or ticket, `refused` (reason) by client
    order id.

    `changed`: (table, key) of the rows that have changed since the last save. `by_client_id`: the orders that have a
    client order id.
    """

    funds: PaperFunds
    orders: dict[str, PaperOrder] = field(default_factory=dict)
    executions: dict[str, PaperExecution] = field(default_factory=dict)
    positions: dict[str, PaperPosition] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    changed: dict[tuple[str, str], None] = field(default_factory=dict)
    by_client_id: dict[str, PaperOrder] = field(default_factory=dict)

    def add_order(self, order: PaperOrder) -> None:
        """Add an order, new or read from disk."""
        self.orders[order.platform_order_id] = order
        if order.client_order_id:
            self.by_client_id[order.client_order_id] = order
        self.touch_order(order)

    def touch_order(self, order: PaperOrder) -> None:
        """Mark an order as changed, for the next save."""
        self.changed["orders", order.platform_order_id] = None

    def touch_funds(self) -> None:
        """Mark money and counter as changed, for the next save."""
        self.changed["funds", ""] = None

    def add_execution(self, execution: PaperExecution) -> None:
        """Add an execution, or mark it as changed."""
        self.executions[execution.fill.exec_id] = execution
        self.changed["executions", execution.fill.exec_id] = None

    def refuse(self, client_order_id: str, text: str) -> None:
        """Keep a reject (the newest 20,000), so that the same order again gets the same answer."""
        self.refused[client_order_id] = text
        self.changed["refused", client_order_id] = None
        if len(self.refused) > KEEP_REFUSED:
            oldest = next(iter(self.refused))
            del self.refused[oldest]
            self.changed["refused", oldest] = None

    def add_money(self, points_times_lots: Decimal, point_value: Decimal | None, fee: Decimal) -> None:
        """Book a result and a cost. `point_value` None: the result is in another currency than the account."""
        if point_value is None:
            # Converted 1:1 the balance would be wrong without a sign of it.
            self.funds.unpriced = self.funds.unpriced or bool(points_times_lots)
            point_value = ZERO
        amount = points_times_lots * point_value - fee
        self.funds.balance += amount
        self.funds.realized_today += amount
        self.touch_funds()

    def drop_ended(self, keep: int) -> None:
        """Drop the oldest ended orders and their executions, until `keep` ended orders are left."""
        ended = [order for order in self.orders.values() if not order.live]
        self._drop(ended[: max(len(ended) - keep, 0)])

    def drop_before(self, before_ns: int) -> None:
        """Drop the orders that had ended before this time, and their executions. Positions and money are rows of their
        own and stay as they are.
        """
        self._drop([order for order in self.orders.values() if not order.live and order.ended_ns < before_ns])

    def _drop(self, orders: list[PaperOrder]) -> None:
        gone = {order.platform_order_id: order for order in orders}
        for order in orders:
            del self.orders[order.platform_order_id]
            self.by_client_id.pop(order.client_order_id, None)
            self.touch_order(order)
        for exec_id in [each for each, row in self.executions.items() if row.platform_order_id in gone]:
            del self.executions[exec_id]
            self.changed["executions", exec_id] = None

    def next_id(self, kind: str) -> str:
        """Return a new platform id; ids are never used again."""
        self.funds.number += 1
        self.touch_funds()
        return f"{kind}{self.funds.book_id}-{self.funds.number}"

    def book_trade(self, symbol: str, ticket: str, contract: str, signed_lots: Decimal, price: Decimal) -> Decimal:
        """Add a trade to its position. Returns the realized result: price difference times lots."""
        key = ticket or symbol
        self.changed["positions", key] = None
        position = self.positions.get(key)
        if position is None:
            position = self.positions[key] = PaperPosition(
                symbol=symbol, quantity=ZERO, cost=ZERO, ticket=ticket, contract=contract
            )
        realized = ZERO
        if position.quantity * signed_lots < 0:
            closed = min(abs(signed_lots), abs(position.quantity)).copy_sign(position.quantity)
            share = position.cost * closed / position.quantity
            realized = closed * price - share
            position.quantity -= closed
            position.cost -= share
            signed_lots += closed
        position.quantity += signed_lots
        position.cost += signed_lots * price
        if not position.quantity:
            del self.positions[key]
        return realized

    def net(self, symbol: str) -> Decimal:
        """Net lots of a symbol over all positions."""
        return sum((each.quantity for each in self.positions.values() if each.symbol == symbol), ZERO)
