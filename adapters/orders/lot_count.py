"""The adapter's own count of an account: what the platform has filled, and what orders of ours may still fill.

It is built from the adapter's snapshots, order events and the commands that it has passed on, never from what the
gateway believes: a limit must hold also when the gateway's books are wrong.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from decimal import Decimal
from typing import Final

from msgspec import Struct

from ...core.messages import (
    AccountMode,
    Correction,
    Fill,
    LegState,
    Order,
    OrderRole,
    OrderUpdate,
    Reject,
    RejectCode,
    Replace,
    Side,
    Snapshot,
    WorkingOrder,
    find_client_order_id,
)
from ..base import OrderEvent

_ZERO: Final = Decimal(0)
_KEPT_FILLS: Final = 20_000
_ABSENT: Final = 2
"""An order that so many snapshots in a row do not list has ended. One is not enough: it may be on its way there."""
_REPLACE_REFUSED: Final = (RejectCode.REPLACE_REJECTED, RejectCode.UNSUPPORTED_REPLACE)


class Purpose(enum.Enum):
    """What an order claims to be for. Of an exit, a stop and a target for the same lots only one fills."""

    OPEN = "open"
    EXIT = "exit"
    STOP = "stop"
    TARGET = "target"


_PURPOSES: Final = {
    OrderRole.EXIT: Purpose.EXIT,
    OrderRole.STOP_LOSS: Purpose.STOP,
    OrderRole.TAKE_PROFIT: Purpose.TARGET,
}


def purpose_of(client_order_id: str, *, closes: bool) -> Purpose:
    """Return what an order is for, by the role in its id. `closes`: it is reduce-only or names a ticket to close."""
    parts = find_client_order_id(client_order_id)
    role = OrderRole.ENTRY if parts is None else parts.role
    return _PURPOSES.get(role, Purpose.EXIT if closes else Purpose.OPEN)


class LiveOrder(Struct):
    """An order that may still fill. `asked`: revision and new size of a replace that is not answered yet."""

    symbol: str
    side: Side
    purpose: Purpose
    quantity: Decimal
    filled: Decimal = _ZERO
    ticket: str = ""
    asked: tuple[int, Decimal] | None = None
    ended: bool = False
    absent: int = 0

    @property
    def size(self) -> Decimal:
        """The largest total that it may have: a replace in flight may have been carried out, or not."""
        return self.quantity if self.asked is None else max(self.quantity, self.asked[1])

    @property
    def left(self) -> Decimal:
        """Lots that it may still fill."""
        return max(self.size - self.filled, _ZERO)


class LotCount:
    """Lots of one account, by symbol. Used by the adapter's thread.

    Args:
        lists_positions, lists_orders: whether the platform's snapshots can list them.
    """

    def __init__(
        self,
        mode: AccountMode = AccountMode.NETTING,
        *,
        lists_positions: bool = True,
        lists_orders: bool = True,
    ) -> None:
        self._hedging = mode is AccountMode.HEDGING
        self._lists_positions = lists_positions
        self._lists_orders = lists_orders
        self._held: dict[tuple[str, str], Decimal] = {}
        self._live: dict[str, LiveOrder] = {}
        self._fills: OrderedDict[str, tuple[Fill, Decimal, int]] = OrderedDict()

    def left_to_close(self, symbol: str, side: Side, purpose: Purpose, ticket: str) -> Decimal:
        """Return how many lots a further order of this kind can close, besides those of its kind in flight."""
        if self._hedging and not ticket:
            return _ZERO  # without a ticket it opens a second position
        held = -side.sign * self._held.get((symbol, ticket if self._hedging else ""), _ZERO)
        in_flight = [
            live.left
            for live in self._live.values()
            if live.purpose is purpose
            and (live.symbol, live.side) == (symbol, side)
            and (not self._hedging or live.ticket == ticket)
        ]
        return max(held - sum(in_flight, _ZERO), _ZERO)

    def reached_with(self, symbol: str, side: Side, purpose: Purpose) -> Decimal:
        """Return the lots held in the direction of `side` if all that is in flight on that side were filled.

        Closing orders count once: those of `purpose`, or for an opening order those of the largest purpose.
        """
        held = sum(
            (
                side.sign * lots
                for (name, _), lots in self._held.items()
                if name == symbol and (not self._hedging or side.sign * lots > 0)
            ),
            _ZERO,
        )
        left = dict.fromkeys(Purpose, _ZERO)
        for live in self._live.values():
            # On a hedging account an order with a ticket closes, and never adds to the other direction.
            if (live.symbol, live.side) == (symbol, side) and not (self._hedging and live.ticket):
                left[live.purpose] += live.left
        opening = left.pop(Purpose.OPEN)
        return held + opening + (max(left.values()) if purpose is Purpose.OPEN else left[purpose])

    def live_order(self, client_order_id: str) -> LiveOrder | None:
        """Return an order that may still fill, not to be changed; None when it is not known."""
        return self._live.get(client_order_id)

    def add_order(self, order: Order) -> None:
        """Count an order that is about to be given to the platform."""
        self._live[order.client_order_id] = LiveOrder(
            symbol=order.symbol,
            side=order.side,
            purpose=purpose_of(order.client_order_id, closes=order.reduce_only or bool(order.close_ticket)),
            quantity=order.quantity,
            ticket=order.close_ticket,
        )

    def add_replace(self, replace: Replace) -> None:
        """Count a replace that is about to be given to the platform: until its answer the larger size counts."""
        live = self._live.get(replace.client_order_id)
        if live is not None:
            live.asked = (replace.revision, replace.quantity)

    def apply_event(self, event: OrderEvent) -> None:
        """Count what the platform has said of an order or an execution."""
        match event:
            case Fill():
                self._apply_fill(event, moves=True)
            case Correction():
                self._correct(event)
            case OrderUpdate():
                self._apply_status(event, event.replace_revision)
            case Reject():
                self._apply_reject(event)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Take the platform's own lists in place of the count, where they are complete."""
        takes_positions = self._lists_positions and snapshot.complete and snapshot.positions.complete
        for fill in snapshot.executions.rows:
            self._apply_fill(fill, moves=not takes_positions)
        if takes_positions:
            self._held.clear()
            for row in snapshot.positions.rows:
                self._move(row.symbol, row.ticket, row.quantity)
            # What an ended order has filled is in the positions, whether or not its executions ever come.
            self._live = {order_id: live for order_id, live in self._live.items() if not live.ended}
        listed = set()
        for order in snapshot.working_orders.rows:
            order_id = self._apply_status(order, 0)
            listed.add(order_id)
            if takes_positions and order_id in self._live:
                # The position holds these lots already, whether or not their executions have been seen.
                self._live[order_id].filled = max(self._live[order_id].filled, order.filled)
        if not (self._lists_orders and snapshot.complete and snapshot.working_orders.complete):
            return
        for order_id, live in list(self._live.items()):
            live.absent = 0 if order_id in listed else live.absent + 1
            if live.absent >= _ABSENT:
                del self._live[order_id]

    def _move(self, symbol: str, ticket: str, lots: Decimal) -> None:
        key = (symbol, ticket if self._hedging else "")
        self._held[key] = self._held.get(key, _ZERO) + lots
        if not self._held[key]:
            del self._held[key]

    def _apply_fill(self, fill: Fill, *, moves: bool) -> None:
        if fill.exec_id in self._fills:
            return
        self._fills[fill.exec_id] = (fill, fill.quantity, 0)
        if len(self._fills) > _KEPT_FILLS:
            self._fills.popitem(last=False)
        if moves:
            self._move(fill.symbol, fill.position_ticket, fill.side.sign * fill.quantity)
        parts = find_client_order_id(fill.client_order_id)
        live = None if parts is None else self._live.get(parts.client_order_id)
        if parts is not None and live is not None:
            live.filled += fill.quantity
            self._drop_if_done(parts.client_order_id, live)

    def _correct(self, correction: Correction) -> None:
        fill, lots, revision = self._fills.get(correction.exec_id, (None, _ZERO, 0))
        if fill is None or correction.revision <= revision:
            return
        new_lots = correction.quantity or _ZERO
        self._fills[correction.exec_id] = (fill, new_lots, correction.revision)
        self._move(fill.symbol, fill.position_ticket, fill.side.sign * (new_lots - lots))

    def _apply_status(self, row: OrderUpdate | WorkingOrder, replace_revision: int) -> str:
        parts = find_client_order_id(row.client_order_id)
        if parts is None:
            return ""
        order_id = parts.client_order_id
        live = self._live.get(order_id)
        if live is None:
            if row.state.final:
                return order_id
            live = self._live[order_id] = LiveOrder(
                symbol=row.symbol,
                side=row.side,
                purpose=purpose_of(order_id, closes=False),
                quantity=row.quantity,
                filled=row.filled,
            )
        if live.asked is not None and replace_revision >= live.asked[0]:
            live.asked = None
        live.symbol, live.quantity = row.symbol, row.quantity
        if row.state.final:
            # What it has filled and no execution has told yet still counts, until the execution or a snapshot comes.
            live.ended, live.asked, live.quantity = True, None, row.filled
            if row.state is LegState.FILLED:
                live.quantity = max(row.filled, row.quantity)
            self._drop_if_done(order_id, live)
        return order_id

    def _apply_reject(self, reject: Reject) -> None:
        parts = find_client_order_id(reject.client_order_id)
        live = None if parts is None else self._live.get(parts.client_order_id)
        if parts is None or live is None or reject.code in (RejectCode.CANCEL_REJECTED, RejectCode.UNKNOWN_ORDER):
            return
        if reject.code not in _REPLACE_REFUSED:
            del self._live[parts.client_order_id]
        elif live.asked is not None and reject.replace_revision >= live.asked[0]:
            live.asked = None

    def _drop_if_done(self, order_id: str, live: LiveOrder) -> None:
        if live.ended and not live.left:
            del self._live[order_id]
