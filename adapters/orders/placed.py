"""The orders that a platform has been given, with its last answer to each: an order is never placed twice."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ...core.messages import OrderUpdate, Reject, RejectCode, Snapshot, find_client_order_id
from ..base import OrderEvent

_KEPT: Final = 20_000
_NOT_ABOUT_THE_ORDER: Final = (
    RejectCode.CANCEL_REJECTED,
    RejectCode.REPLACE_REJECTED,
    RejectCode.UNSUPPORTED_REPLACE,
    RejectCode.UNKNOWN_ORDER,
)


class PlacedOrders:
    """Placed orders by client order id, the newest 20,000. Used by the adapter's thread."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, OrderEvent | None] = OrderedDict()

    def __contains__(self, client_order_id: str) -> bool:
        return client_order_id in self._answers

    def last_answer(self, client_order_id: str) -> OrderEvent | None:
        """Return the platform's last answer to a placed order; None while there is none."""
        return self._answers[client_order_id]

    def record(self, client_order_id: str, answer: OrderEvent | None = None) -> None:
        """Record an order that was sent, or is about to be sent, to the platform."""
        self._answers[client_order_id] = answer
        self._answers.move_to_end(client_order_id)
        if len(self._answers) > _KEPT:
            self._answers.popitem(last=False)

    def apply_event(self, event: OrderEvent) -> None:
        """Keep an event as the answer to its order; events of external orders are ignored."""
        if isinstance(event, OrderUpdate) or (isinstance(event, Reject) and event.code not in _NOT_ABOUT_THE_ORDER):
            parts = find_client_order_id(event.client_order_id)
            if parts is not None:
                self.record(parts.client_order_id, event)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Record the orders that a snapshot lists, those of former processes included."""
        for row in snapshot.working_orders.rows:
            update = OrderUpdate(
                client_order_id=row.client_order_id,
                platform=snapshot.platform,
                account=snapshot.account,
                symbol=row.symbol,
                side=row.side,
                state=row.state,
                quantity=row.quantity,
                filled=row.filled,
                platform_order_id=row.platform_order_id,
                order_type=row.order_type,
                limit_price=row.limit_price,
                stop_price=row.stop_price,
            )
            self.apply_event(update)
        for fill in snapshot.executions.rows:
            parts = find_client_order_id(fill.client_order_id)
            if parts is not None and parts.client_order_id not in self:
                self.record(parts.client_order_id)
