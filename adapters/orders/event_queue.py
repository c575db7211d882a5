"""Queue of one account's order events to the gateway; keeps them, in order, while the gateway is away."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice

import msgspec

from ...core.logs import Log
from ...core.messages import Fill, OrderUpdate
from ...core.transport import MAX_ENVELOPES_PER_MESSAGE, LinkClient
from ...shm.counters import CountersPage
from ..base import OrderEvent, PlatformAccount

MAX_WAITING_EVENTS = 10_000


class EventQueue:
    """Used by the adapter's thread.

    Beyond `MAX_WAITING_EVENTS` the whole queue is dropped and counted. Dropping a part would leave a history with a
    hole that looks complete; after dropping all, the snapshot of the next link contains everything.
    """

    def __init__(self, counters: CountersPage, log: Log) -> None:
        self._log = log
        self._waiting: deque[OrderEvent] = deque()
        self._gauge = counters.counter("order_events_waiting")
        self._sent = counters.counter("order_events_sent")
        self._dropped = counters.counter("order_events_dropped")
        self._gauge.set(0)

    def add(self, event: OrderEvent) -> None:
        """Append an event; `flush` sends it."""
        self._waiting.append(event)
        self._gauge.set(len(self._waiting))
        if len(self._waiting) > MAX_WAITING_EVENTS:
            self._log.error("too many order events wait for the gateway", dropped=len(self._waiting))
            self.drop()

    def drop(self) -> None:
        """Drop and count all waiting events."""
        self._dropped.add(len(self._waiting))
        self._waiting.clear()

    def rename_symbols(self, contracts: Mapping[str, str]) -> None:
        """Rename symbols in waiting events: after a roll, events of the former contract carry its own name."""
        self._waiting = deque(
            msgspec.structs.replace(event, symbol=contracts.get(event.symbol, event.symbol))
            if isinstance(event, OrderUpdate | Fill)
            else event
            for event in self._waiting
        )

    def flush(self, link: LinkClient | None) -> None:
        """Send waiting events as far as the link accepts them."""
        while self._waiting and link is not None:
            # The events of one command (accepted, filled, done) as one message, so that the gateway commits once.
            batch = tuple(islice(self._waiting, MAX_ENVELOPES_PER_MESSAGE))
            if not link.send(*batch):
                break
            for _ in batch:
                self._waiting.popleft()
            self._sent.add(len(batch))
        self._gauge.set(len(self._waiting))


def rolled_contracts(before: PlatformAccount, after: PlatformAccount) -> dict[str, str]:
    """Return symbol -> former contract of each symbol whose contract differs between the two descriptions."""
    contracts = {each.symbol: each.contract for each in after.instruments}
    return {
        each.symbol: each.contract
        for each in before.instruments
        if contracts.get(each.symbol) and each.contract not in ("", contracts[each.symbol])
    }
