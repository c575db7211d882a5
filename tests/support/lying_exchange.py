"""An adapter with a small exchange behind it: its ledger is true, and what it says of it is a lie on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import count

from msgspec.structs import replace
from nexus_gateway.core.messages import (
    Account,
    Cancel,
    ContradictionKind,
    Correction,
    CorrectionKind,
    Executions,
    Fill,
    Flatten,
    LegState,
    Message,
    Order,
    OrderRole,
    OrderType,
    OrderUpdate,
    Position,
    Positions,
    Reject,
    RejectCode,
    Replace,
    Side,
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
PLATFORM, ACCOUNT = "nt8", "SIM1"
PRICES = {"NQ": D(21_000), "ES": D(6_800)}
Lie = Callable[[Fill], Fill]


def tell_the_truth(fill: Fill) -> Fill:
    """What an adapter says that does not lie."""
    return fill


WRONG: dict[ContradictionKind, Lie] = {
    ContradictionKind.WRONG_SIDE: lambda fill: replace(fill, side=Side.SELL if fill.side is Side.BUY else Side.BUY),
    ContradictionKind.WRONG_SYMBOL: lambda fill: replace(fill, symbol="ES", price=PRICES["ES"]),
}


def role_of(client_order_id: str) -> OrderRole:
    """Role of an order of ours."""
    parts = find_client_order_id(client_order_id)
    assert parts is not None, client_order_id
    return parts.role


def of_role(role: OrderRole, kind: ContradictionKind) -> Lie:
    """Lie about what orders of this role have traded, and about nothing else."""
    lie = WRONG[kind]
    return lambda fill: lie(fill) if fill.client_order_id and role_of(fill.client_order_id) is role else fill


class LyingExchange:
    """Fills market orders at once and whole, keeps stops and limits, enforces neither `reduce_only` nor any margin.

    Attributes:
        placed, cancelled, flattened: what has reached the adapter, in order.
        rows, executions, lots: the ledger; orders as they stand, executions, and signed lots by symbol. Always true.
        live_lie, listed_lie: what is said of an execution at once, and in a snapshot.
        parts: sizes in which the next market orders execute; None = in one, of the order's size.
        exec_ids: the ids of the next executions.
        most_counted: a status counts at most so many lots as filled; None = what has really filled.
        mute: orders are acknowledged and nothing else is said of them.
        answers: snapshots are answered; else the newest request waits until they are again.
        incomplete: parts of snapshots that are empty and not complete; `whole` = each of them.
        requests: snapshot requests that have come.
    """

    def __init__(self, floor: Floor, *, brackets: bool = False, flatten: bool = False) -> None:
        able = replace(CAN_ALL, brackets=brackets, flatten=flatten)
        hello = adapter_hello(PLATFORM, ACCOUNT, capabilities=able)
        self.client = LinkClient(floor.adapter_endpoint, hello, keys_for(floor.config.keys_path, hello), TIMING)
        self.placed: list[Order] = []
        self.cancelled: list[Cancel] = []
        self.flattened: list[Flatten] = []
        self.rows: dict[str, WorkingOrder] = {}
        self.executions: list[Fill] = []
        self.lots: dict[str, Decimal] = {}
        self.prices = dict(PRICES)
        self.live_lie: Lie = tell_the_truth
        self.listed_lie: Lie = tell_the_truth
        self.parts: list[Decimal] | None = None
        self.exec_ids: Iterator[str] = (f"X-{number}" for number in count(1))
        self.most_counted: Decimal | None = None
        self.mute = False
        self.answers = True
        self.incomplete: tuple[str, ...] = ()
        self.requests = 0
        self._waiting: SnapshotRequest | None = None

    @property
    def roles(self) -> str:
        """Roles of the orders that have come, in order: one letter each."""
        return "".join(role_of(order.client_order_id) for order in self.placed)

    def held(self) -> dict[str, Decimal]:
        """Signed lots by symbol; no zeros."""
        return {symbol: lots for symbol, lots in self.lots.items() if lots}

    def working(self, role: OrderRole) -> list[WorkingOrder]:
        """Orders of a role that work."""
        return [row for row in self.rows.values() if not row.state.final and role_of(row.client_order_id) is role]

    def turn(self) -> None:
        for body in self.client.receive():
            match body:
                case Order():
                    self._place(body)
                case Cancel():
                    self._cancel(body)
                case Replace():
                    self._replace(body)
                case Flatten():
                    self._flatten(body)
                case SnapshotRequest():
                    self.requests += 1
                    self._waiting = body
        if self.answers and self._waiting is not None:
            request, self._waiting = self._waiting, None
            self.client.send(self._snapshot(request.request_id))
        self.client.tick()

    def trigger(self, row: WorkingOrder) -> None:
        """Let a stop that works trade, whole."""
        self._execute(row.client_order_id, row.quantity)

    def bust(self, fill: Fill, *, row_follows: bool) -> None:
        """Take an execution back. `row_follows`: the order's own count is taken back as well."""
        self.executions.remove(fill)
        self.lots[fill.symbol] -= fill.quantity * fill.side.sign
        if row_follows:
            row = self.rows[fill.client_order_id]
            self.rows[fill.client_order_id] = replace(row, filled=row.filled - fill.quantity, state=LegState.CANCELLED)
        self._say(
            Correction(
                platform=PLATFORM, account=ACCOUNT, exec_id=fill.exec_id, kind=CorrectionKind.BUST, revision=1,
                ts_event_ns=time.time_ns(),
            )
        )  # fmt: skip

    def _place(self, order: Order) -> None:
        assert order.client_order_id not in self.rows, "an order was sent twice"
        self.placed.append(order)
        self._work(order.client_order_id, order)
        if order.order_type is OrderType.MARKET:
            for quantity in self.parts or [order.quantity]:
                self._execute(order.client_order_id, quantity)
            if order.stop_loss is not None:
                parts = find_client_order_id(order.client_order_id)
                assert parts is not None
                stop = replace(
                    order, order_type=OrderType.STOP, stop_price=order.stop_loss,
                    side=Side.SELL if order.side is Side.BUY else Side.BUY,
                )  # fmt: skip
                self._work(parts.id_of(OrderRole.STOP_LOSS), stop)

    def _work(self, client_order_id: str, order: Order) -> None:
        self.rows[client_order_id] = WorkingOrder(
            client_order_id=client_order_id, symbol=order.symbol, side=order.side, state=LegState.WORKING,
            quantity=order.quantity, filled=D(0), platform_order_id=f"P{len(self.rows) + 1}",
            order_type=order.order_type, limit_price=order.limit_price, stop_price=order.stop_price,
        )  # fmt: skip
        self.client.send(self._status(client_order_id))

    def _execute(self, client_order_id: str, quantity: Decimal) -> None:
        row = self.rows[client_order_id]
        self.lots[row.symbol] = self.lots.get(row.symbol, D(0)) + quantity * row.side.sign
        filled = row.filled + quantity
        state = LegState.FILLED if filled >= row.quantity else LegState.PARTIALLY_FILLED
        self.rows[client_order_id] = replace(row, filled=filled, state=state)
        fill = Fill(
            platform=PLATFORM, account=ACCOUNT, exec_id=next(self.exec_ids), client_order_id=client_order_id,
            symbol=row.symbol, side=row.side, quantity=quantity, price=self.prices[row.symbol],
            ts_event_ns=time.time_ns(), fee_currency="USD",
        )  # fmt: skip
        self.executions.append(fill)
        self._say(self.live_lie(fill))
        self._say(self._status(client_order_id))

    def _cancel(self, cancel: Cancel) -> None:
        self.cancelled.append(cancel)
        row = self.rows[cancel.client_order_id]
        if row.state.final:
            self._refuse(cancel.client_order_id, RejectCode.CANCEL_REJECTED)
            return
        self.rows[cancel.client_order_id] = replace(row, state=LegState.CANCELLED)
        self._say(self._status(cancel.client_order_id))

    def _replace(self, change: Replace) -> None:
        row = self.rows[change.client_order_id]
        if row.state.final:
            self._refuse(change.client_order_id, RejectCode.REPLACE_REJECTED, change.revision)
            return
        self.rows[change.client_order_id] = replace(
            row, quantity=change.quantity, limit_price=change.limit_price, stop_price=change.stop_price
        )
        self._say(replace(self._status(change.client_order_id), replace_revision=change.revision))

    def _flatten(self, command: Flatten) -> None:
        """Cancel everything and close everything by orders of the platform's own."""
        self.flattened.append(command)
        for name, row in list(self.rows.items()):
            if not row.state.final:
                self.rows[name] = replace(row, state=LegState.CANCELLED)
                self._say(self._status(name))
        for symbol, lots in self.held().items():
            self.lots[symbol] = D(0)
            fill = Fill(
                platform=PLATFORM, account=ACCOUNT, exec_id=next(self.exec_ids), client_order_id="", symbol=symbol,
                side=Side.SELL if lots > 0 else Side.BUY, quantity=abs(lots), price=self.prices[symbol],
                ts_event_ns=time.time_ns(), fee_currency="USD",
            )  # fmt: skip
            self.executions.append(fill)
            self._say(fill)

    def _refuse(self, client_order_id: str, code: RejectCode, revision: int = 0) -> None:
        self._say(
            Reject(
                code=code, text="it has ended", client_order_id=client_order_id, platform=PLATFORM, account=ACCOUNT,
                replace_revision=revision,
            )
        )  # fmt: skip

    def _say(self, body: Message) -> None:
        if not self.mute:
            self.client.send(body)

    def _counted(self, row: WorkingOrder) -> WorkingOrder:
        return row if self.most_counted is None else replace(row, filled=min(row.filled, self.most_counted))

    def _status(self, client_order_id: str) -> OrderUpdate:
        row = self._counted(self.rows[client_order_id])
        return OrderUpdate(
            platform=PLATFORM, account=ACCOUNT, ts_event_ns=time.time_ns(),
            **{name: getattr(row, name) for name in row.__struct_fields__},
        )  # fmt: skip

    def _snapshot(self, request_id: int) -> Snapshot:
        whose = {"platform": PLATFORM, "account": ACCOUNT, "as_of_ns": time.time_ns()}
        whole = "whole" not in self.incomplete
        rows = {
            "positions": tuple(Position(symbol=symbol, quantity=lots) for symbol, lots in self.held().items()),
            "orders": tuple(self._counted(row) for row in self.rows.values()),
            "executions": tuple(self.listed_lie(fill) for fill in self.executions),
        }
        read = {part: whole and part not in self.incomplete for part in rows}
        shown = {part: {"rows": rows[part] if read[part] else (), "complete": read[part]} for part in rows}
        return Snapshot(
            request_id=request_id, platform=PLATFORM, account=ACCOUNT,
            positions=Positions(**shown["positions"], **whose),
            working_orders=WorkingOrders(**shown["orders"], **whose),
            executions=Executions(**shown["executions"], **whose),
            funds=Account(currency="USD", balance=D(50_000), equity=D(50_000), **whose),
            complete=whole,
        )  # fmt: skip
