"""Order events of one account on their way to the gateway, in order, while it may be away."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice

import msgspec

from ...core.logs import Log
from ...core.messages import Fill, OrderUpdate
from ...core.transport import MAX_ENVELOPES_PER_MESSAGE, LinkClient
from ...shm.counters import CountersPage
from ..base import OrderEvent

MAX_WAITING_EVENTS = 10_000


class EventQueue:
    """Used by the adapter's thread.

    What is too much is dropped whole and counted: a part of it would look like the whole, and the snapshot that follows
    each new link makes it good.
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
        """Forget what waits, counted."""
        self._dropped.add(len(self._waiting))
        self._waiting.clear()

    def rename(self, contracts: Mapping[str, str]) -> None:
        """Call symbols of what waits by other names: what was said of a contract before a roll is heard after it."""
        self._waiting = deque(
            msgspec.structs.replace(event, symbol=contracts.get(event.symbol, event.symbol))
            if isinstance(event, OrderUpdate | Fill)
            else event
            for event in self._waiting
        )

    def flush(self, link: LinkClient | None) -> None:
        """Send as far as the link takes it."""
        while self._waiting and link is not None:
            # What a platform says in one breath (accepted, filled, done) is for one turn of the gateway.
            together = tuple(islice(self._waiting, MAX_ENVELOPES_PER_MESSAGE))
            if not link.send(*together):
                break
            for _ in together:
                self._waiting.popleft()
            self._sent.add(len(together))
        self._gauge.set(len(self._waiting))
