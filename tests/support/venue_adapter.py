"""The adapter of a `Venue`: its link, and what it reports of the exchange's ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from msgspec.structs import replace
from nexus_gateway.core.messages import (
    Account,
    AccountMode,
    Cancel,
    Executions,
    Fill,
    Message,
    Order,
    OrderRole,
    OrderUpdate,
    Position,
    Positions,
    Reject,
    RejectCode,
    Snapshot,
    SnapshotRequest,
    WorkingOrder,
    WorkingOrders,
    find_client_order_id,
)
from nexus_gateway.core.transport import LinkClient

from .links import CAN_ALL, adapter_hello, keys_for
from .trading_floor import TIMING, Floor

D = Decimal
ZERO = D(0)
_MOST_LISTED = 100
"""Ended orders and executions in a snapshot: a platform lists a day, but this one is asked several times a second."""


@dataclass(frozen=True)
class Habits:
    """What a platform can do. `oco`: orders of one group end together, and a group's id is never taken again.

    `reduce_only`: it trades no such order beyond the position; else it ignores the field.
    """

    hedging: bool = False
    brackets: bool = False
    replace: bool = True
    oco: bool = False
    reduce_only: bool = False


@dataclass
class Trouble:
    """What goes wrong. `refuses`: letters of roles whose orders are refused; `C`: cancels, `P`: replaces.

    `swallows`: so many cancels are lost. `stop_first`: so many times a stop trades just before its cancel, or a closing
    order, arrives. `lies`: applied to what is said of the next executions, one each. `lots_an_order`: a closing order
    trades at most so many, and the rest of it is cancelled. `answers`: snapshots are answered.
    """

    refuses: str = ""
    swallows: int = 0
    stop_first: int = 0
    lies: list[Callable[[Fill], Fill]] = field(default_factory=list)
    lots_an_order: Decimal | None = None
    answers: bool = True


@dataclass(frozen=True)
class Moment:
    """The ledger of a symbol after something has happened: net position and the lots of its working stops."""

    at_s: float
    what: str
    symbol: str
    net: Decimal
    stops: Decimal


@dataclass
class Resting:
    """An order at the exchange. `ticket`: the position that it closes, on a hedging account."""

    order: Order
    row: WorkingOrder
    role: OrderRole
    ticket: str = ""
    parent: str = ""


def role_of(order: Order | WorkingOrder | Cancel) -> OrderRole:
    parts = find_client_order_id(order.client_order_id)
    assert parts is not None, order.client_order_id
    return parts.role


class VenueAdapter:
    """The link of one account, and the ledger that it reports.

    Attributes: `orders`, `executions`, `net`, `tickets`: the ledger. `requests`: snapshot requests that have come.
    """

    def __init__(self, floor: Floor, name: str, habits: Habits, account: str) -> None:
        self.floor, self.name, self.habits, self.account = floor, name, habits, account
        self.trouble = Trouble()
        self.orders: dict[str, Resting] = {}
        self.executions: list[Fill] = []
        self.net: dict[str, Decimal] = {}
        self.tickets: dict[str, tuple[str, Decimal]] = {}
        self.requests = 0
        self._waiting: SnapshotRequest | None = None
        self.client = self._connect()

    def working(self, *roles: OrderRole, symbol: str = "") -> list[Resting]:
        return [
            each
            for each in self.orders.values()
            if not each.row.state.final and (not roles or each.role in roles) and symbol in ("", each.row.symbol)
        ]

    def held(self) -> dict[str, Decimal]:
        """Signed lots by symbol; no zeros."""
        return {symbol: lots for symbol, lots in self.net.items() if lots}

    def kill_adapter(self) -> None:
        """End the adapter as kill -9 does: what it was about to read or to send is lost. Another one starts."""
        self.client.receive()
        self.client.close()
        self._waiting = None
        self.client = self._connect()

    def _connect(self) -> LinkClient:
        able = replace(
            CAN_ALL, brackets=self.habits.brackets, replace=self.habits.replace, oco=self.habits.oco,
            reduce_only=self.habits.reduce_only, close_by_ticket=self.habits.hedging,
        )  # fmt: skip
        mode = AccountMode.HEDGING if self.habits.hedging else AccountMode.NETTING
        hello = adapter_hello(self.name, self.account, capabilities=able, account_mode=mode)
        return LinkClient(self.floor.adapter_endpoint, hello, keys_for(self.floor.config.keys_path, hello), TIMING)

    def _answer(self) -> None:
        if self._waiting is not None and self.trouble.answers:
            request, self._waiting = self._waiting, None
            self.client.send(self._snapshot(request.request_id))

    def _refuse(self, name: str, code: RejectCode, text: str, revision: int = 0) -> None:
        self._say(
            Reject(code=code, text=text, client_order_id=name, platform=self.name, account=self.account,
                   replace_revision=revision)
        )  # fmt: skip

    def _say(self, body: Message) -> None:
        self.client.send(body)

    def _update(self, resting: Resting, revision: int = 0) -> None:
        row = resting.row
        self._say(
            OrderUpdate(
                platform=self.name, account=self.account, ts_event_ns=time.time_ns(), replace_revision=revision,
                **{name: getattr(row, name) for name in row.__struct_fields__},
            )
        )  # fmt: skip

    def _snapshot(self, request_id: int) -> Snapshot:
        whose = {"platform": self.name, "account": self.account, "as_of_ns": time.time_ns()}
        held = [(symbol, lots, "") for symbol, lots in self.held().items()]
        if self.habits.hedging:
            held = [(symbol, lots, ticket) for ticket, (symbol, lots) in self.tickets.items()]
        ended = [each.row for each in self.orders.values() if each.row.state.final]
        rows = (*ended[-_MOST_LISTED:], *(each.row for each in self.working()))
        executions = tuple(self.executions[-_MOST_LISTED:])
        from_ns = executions[0].ts_event_ns if len(self.executions) > _MOST_LISTED else 0
        return Snapshot(
            request_id=request_id, platform=self.name, account=self.account,
            positions=Positions(rows=tuple(Position(symbol=s, quantity=q, ticket=t) for s, q, t in held), **whose),
            working_orders=WorkingOrders(rows=rows, **whose),
            executions=Executions(rows=executions, from_ns=from_ns, **whose),
            funds=Account(currency="USD", balance=D(50_000), equity=D(50_000), **whose),
        )  # fmt: skip
