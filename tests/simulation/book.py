"""What a fake platform has and holds: its orders, executions and positions. The truth of the simulation."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from nexus_gateway.core import messages as m

from tests.simulation.faults import Faults
from tests.simulation.hours import Hours
from tests.simulation.schedule import Schedule

SYMBOL = "NQ"
OLD, NEW = "NQH25", "NQM25"
BASE = {OLD: Decimal(21_000), NEW: Decimal(21_180)}
"""Around which each contract trades."""
ZERO = Decimal(0)
OPENING = (m.OrderRole.ENTRY, m.OrderRole.HEDGE, m.OrderRole.ROLL)
PROTECTIVE = (m.OrderRole.STOP_LOSS, m.OrderRole.TAKE_PROFIT)
LIVE = (m.LegState.WORKING, m.LegState.PARTIALLY_FILLED)
LegKey = tuple[str, int, str]
"""A leg as a platform can tell it: signal key and target, from the ClOrdID, and the contract."""


@dataclass
class HeldOrder:
    """An order that the platform has taken. `parts`: of its ClOrdID."""

    order: m.Order
    platform_id: str
    parts: m.OrderIdParts
    contract: str = OLD
    state: m.LegState = m.LegState.WORKING
    quantity: Decimal = ZERO
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    filled: Decimal = ZERO
    overfilled: Decimal = ZERO

    @property
    def is_live(self) -> bool:
        return self.state in LIVE

    @property
    def leaves(self) -> Decimal:
        return max(self.quantity - self.filled, ZERO) if self.state in LIVE else ZERO

    @property
    def leg(self) -> LegKey:
        return self.parts.key, self.parts.leg, self.contract


@dataclass
class Execution:
    """`extra`: lots of it beyond its order's size. `held`: its order; None = by hand."""

    fill: m.Fill
    contract: str
    held: HeldOrder | None = None
    revision: int = 0
    busted: bool = False
    extra: Decimal = ZERO

    @property
    def signed(self) -> Decimal:
        return self.fill.quantity * self.fill.side.sign


class Watcher:
    """Is shown every change of a platform's truth at the moment when it happens. This one does nothing."""

    def accepted(self, platform: Book, held: HeldOrder) -> None:
        """An order works."""

    def refused(self, platform: Book, order: m.Order, code: m.RejectCode) -> None:
        """An order was refused."""

    def traded(self, platform: Book, execution: Execution) -> None:
        """An execution; the position has moved."""

    def busted(self, platform: Book, execution: Execution) -> None:
        """An execution was taken back."""

    def changed(self, platform: Book, held: HeldOrder, leaves_before: Decimal) -> None:
        """State or size of an order has changed."""

    def change_refused(self, platform: Book, held: HeldOrder | None) -> None:
        """A cancel or replace was refused."""


@dataclass
class Book:
    """`send` hands a message to the link towards the gateway. `front`: the contract that it trades as NQ; the other one
    goes under its own name. `directory`: the contract in front by the symbol directory, which adapters read before each
    order. `is_shut`: the market is closed for a roll, and was until `opened_ns`; `hours`: when it is besides.
    """

    name: str
    mode: m.AccountMode
    capabilities: m.Capabilities
    schedule: Schedule
    faults: Faults
    send: object
    orders: dict[str, HeldOrder] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    tickets: dict[str, Decimal] = field(default_factory=dict)
    ticket_contracts: dict[str, str] = field(default_factory=dict)
    legs: dict[LegKey, list[HeldOrder]] = field(default_factory=dict)
    live: dict[str, HeldOrder] = field(default_factory=dict)
    nets: dict[str, Decimal] = field(default_factory=lambda: dict.fromkeys(BASE, ZERO))
    cash: Decimal = ZERO
    fees: Decimal = ZERO
    front: str = OLD
    directory: str = OLD
    is_shut: bool = False
    opened_ns: int = 0
    hours: Hours = field(default_factory=Hours)
    refused: dict[str, m.RejectCode] = field(default_factory=dict)
    largest: Decimal = ZERO
    number: int = 0
    boots: int = 0
    stops_that_reduced_nothing: int = 0
    keeps_wall: bool = True
    watcher: Watcher = field(default_factory=Watcher)

    @property
    def account(self) -> str:
        return f"A-{self.name}"

    @property
    def is_netting(self) -> bool:
        return self.mode is m.AccountMode.NETTING

    @property
    def shut(self) -> bool:
        return self.is_shut or self.hours.is_shut(self.schedule.now_ns)

    @property
    def clock_ns(self) -> int:
        """The platform's own clock: that of the gateway's computer, or one that keeps the time."""
        return self.schedule.wall_ns if self.keeps_wall else self.schedule.now_ns

    def net(self, contract: str) -> Decimal:
        return self.nets.get(contract, ZERO)

    @property
    def equity(self) -> Decimal:
        """What the account is worth, USD: marked at the middle, fees of busted trades kept."""
        held = sum((self.nets[contract] * BASE[contract] for contract in (OLD, NEW)), ZERO)
        return Decimal(100_000) + 2 * (self.cash + held) - self.fees

    def symbol_of(self, contract: str) -> str:
        return SYMBOL if contract == self.front else contract

    def contract_of(self, symbol: str) -> str:
        return self.front if symbol == SYMBOL else symbol

    def book(self, key: str, execution: Execution) -> None:
        self.executions[key] = execution
        self.nets[execution.contract] += execution.signed
        self.cash -= execution.signed * execution.fill.price
        self.fees += execution.fill.fee

    def unbook(self, execution: Execution) -> None:
        """Take an execution back: its fee stays."""
        execution.busted = True
        self.nets[execution.contract] -= execution.signed
        self.cash += execution.signed * execution.fill.price

    def reprice(self, execution: Execution, price: Decimal) -> None:
        self.cash += execution.signed * (execution.fill.price - price)
        execution.fill = with_changes(execution.fill, price=price)

    @property
    def newest(self) -> str:
        """The key of the newest execution: its id, but for one that has the id of an earlier one."""
        return next(reversed(self.executions))

    def live_of(self, leg: LegKey, role: m.OrderRole) -> list[HeldOrder]:
        return [held for held in self.legs.get(leg, ()) if held.parts.role is role and held.is_live]


def with_changes(fill: m.Fill, **changes: object) -> m.Fill:
    values = {name: getattr(fill, name) for name in m.Fill.__struct_fields__}
    return m.Fill(**{**values, **changes})
