"""Cancels and closes that the gateway may not have taken yet: kept on disk, and said again in each new session.

A cancel or a close that is lost leaves risk that somebody wanted gone, and both are harmless to repeat. A replace is
not kept: an old price, minutes later, would be another order.

The link keeps the order of what it carries, and the gateway answers a question only when everything before it is on
its disk. So each change is followed by a question for the status, and the answer says that the change was taken.
"""

from __future__ import annotations

from collections.abc import Callable

from ...core.messages import AdminResult, Message, Query, QueryKind, SignalCancel, SignalClose
from ...core.transport import LinkClient
from .outbox import Outbox

KeptChange = SignalCancel | SignalClose


class KeptChanges:
    """Used by the link's thread."""

    def __init__(self, outbox: Outbox, next_id: Callable[[], int]) -> None:
        """Begin with what a process before this one has left. Raises OutboxError when that cannot be read."""
        self._outbox = outbox
        self._next_id = next_id
        self._kept = dict(outbox.changes())
        self._asked: dict[int, int] = {}

    def keep(self, change: KeptChange) -> None:
        """On disk when this returns; the same one that still waits is not kept twice. OutboxError: it was not kept."""
        if change not in self._kept.values():
            self._kept[self._outbox.add_change(change)] = change

    def say(self, client: LinkClient) -> None:
        """Send what has not been sent in this session."""
        for number, change in self._kept.items():
            if number not in self._asked.values():
                question = Query(request_id=self._next_id(), what=QueryKind.STATUS)
                if not (client.send(change) and client.send(question)):
                    return
                self._asked[question.request_id] = number

    def link_down(self) -> None:
        """What was not answered is said again in the next session."""
        self._asked.clear()

    def take(self, body: Message) -> bool:
        """Whether a message was the answer behind a change, which the gateway then has. Raises OutboxError."""
        if not isinstance(body, AdminResult) or body.request_id not in self._asked:
            return False
        number = self._asked.pop(body.request_id)
        del self._kept[number]
        self._outbox.remove_change(number)
        return True

    def __len__(self) -> int:
        """Changes that wait for the gateway."""
        return len(self._kept)
