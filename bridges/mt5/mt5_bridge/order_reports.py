"""Order updates on their way to the adapter: the newest of each order, and the changes that must show in one."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from .fields import Body


class Wanted(NamedTuple):
    """A change that the terminal has accepted, and that is told as done once it shows."""

    revision: int
    limit_price: Decimal | None
    stop_price: Decimal | None


class OrderReports:
    """Sends what the monitor finds.

    Attributes:
        latest: order id -> its newest update, repeated when its place command comes again.
        wanted: ticket, or id of a stop or target -> a change that the terminal has accepted and must show.
        is_muted: nothing is sent, `latest` is kept all the same.
    """

    def __init__(self, tell: Callable[[Body], None]) -> None:
        self.latest: dict[str, Body] = {}
        self.wanted: dict[Any, Wanted] = {}
        self.is_muted = False
        self._tell = tell

    def tell(self, body: Body) -> None:
        """Send this event."""
        if not self.is_muted:
            self._tell(body)

    def tell_order(self, body: Body) -> None:
        """Send this order update, and keep it."""
        if body["client_order_id"]:
            self.latest[body["client_order_id"]] = body
        self.tell(body)

    def pop_revision(self, key: Any, row: Body) -> int:
        """The revision of the change that waits under `key`, once the row shows it; else 0."""
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
