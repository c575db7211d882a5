"""Cancels and closes kept on disk until the gateway has journaled them; sent in each new session until then.

A lost cancel or close leaves risk that the owner wanted gone, and repeating one is harmless. A replace is not kept:
its price, sent minutes later, would be another order.

The gateway does not acknowledge a change. But the link keeps the order of messages, and the gateway answers a query
only when everything before it is on disk. So a status query follows each change; its result is the acknowledgement.
"""

from __future__ import annotations

from collections.abc import Callable

from ...core.messages import AdminResult, Message, Query, QueryKind, SignalCancel, SignalClose
from ...core.transport import LinkClient
from .outbox import Outbox

KeptChange = SignalCancel | SignalClose


class KeptChanges:
    """The cancels and closes that the gateway has not acknowledged. Owned by `SignalDesk`, in the link's thread."""

    def __init__(self, outbox: Outbox, next_id: Callable[[], int]) -> None:
        """Load those that an earlier process left. Raises OutboxError when they cannot be read."""
        self._outbox = outbox
        self._next_id = next_id
        self._kept = dict(outbox.changes())  # by number in the outbox
        self._queries: dict[int, int] = {}  # number by request id, of the changes sent in this session

    def add(self, change: KeptChange) -> None:
        """Keep a change; on disk when this returns. An equal one that still waits is not kept twice.

        Raises:
            OutboxError: it could not be kept.
        """
        if change not in self._kept.values():
            self._kept[self._outbox.add_change(change)] = change

    def send_unsent(self, client: LinkClient) -> None:
        """Send the changes that were not sent in this session."""
        for number, change in self._kept.items():
            if number not in self._queries.values():
                query = Query(request_id=self._next_id(), what=QueryKind.STATUS)
                if not (client.send(change) and client.send(query)):
                    return
                self._queries[query.request_id] = number

    def link_down(self) -> None:
        """The session has ended: what was not acknowledged is sent again in the next one."""
        self._queries.clear()

    def handle_message(self, body: Message) -> bool:
        """If the message is a query result of ours, remove the change that it acknowledges and return True.

        Raises:
            OutboxError: the change could not be removed from disk; it is sent once more after a restart.
        """
        if not isinstance(body, AdminResult) or body.request_id not in self._queries:
            return False
        number = self._queries.pop(body.request_id)
        del self._kept[number]
        self._outbox.remove_change(number)
        return True

    def __len__(self) -> int:
        """Changes without an acknowledgement."""
        return len(self._kept)
