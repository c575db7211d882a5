"""Send order updates: keep the newest of each order, confirm a replace once it shows."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from .fields import Body


class Wanted(NamedTuple):
    """An accepted replace; reported as done once the order shows its prices."""

    revision: int
    limit_price: Decimal | None
    stop_price: Decimal | None


class OrderReports:
    """Sends the events that the monitor finds.

    Attributes:
        latest: order id -> its newest update, repeated when its place command comes again.
        wanted: ticket, or id of a stop or target -> the accepted replace that must show.
        is_muted: nothing is sent; `latest` is still kept.
    """

    def __init__(self, send: Callable[[Body], None]) -> None:
        self.latest: dict[str, Body] = {}
        self.wanted: dict[Any, Wanted] = {}
        self.is_muted = False
        self._send = send

    def send(self, body: Body) -> None:
        """Send an event."""
        if not self.is_muted:
            self._send(body)

    def send_order(self, body: Body) -> None:
        """Send an order update and keep it in `latest`."""
        if body["client_order_id"]:
            self.latest[body["client_order_id"]] = body
        self.send(body)

    def pop_revision(self, key: Any, row: Body) -> int:
        """Remove the replace that waits under `key` if the row shows its prices; returns its revision, else 0."""
        wanted = self.wanted.get(key)
        if wanted is None or not self._shows(row, wanted):
            return 0
        del self.wanted[key]
        return wanted.revision

    @staticmethod
    def _shows(row: Body, wanted: Wanted) -> bool:
        return all(
            price is None or (row[name] is not None and Decimal(row[name]) == price)
            for name, price in (("limit_price", wanted.limit_price), ("stop_price", wanted.stop_price))
        )
