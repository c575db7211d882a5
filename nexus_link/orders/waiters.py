"""Asking the gateway what every account holds, and the futures that answers of the link's thread go to."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from ...core.messages import AdminResult, Message, Positions, Query, QueryKind
from ...core.transport import LinkClient

T = TypeVar("T")


class PositionQuestions:
    """Questions under way; used by the link's thread.

    Positions come one message per account, without an end. The status, asked for right after them, is the end: the
    link keeps the order.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[list[Positions], Future[tuple[Positions, ...]]]] = {}

    def ask(self, client: LinkClient | None, next_id: Callable[[], int], future: Future[tuple[Positions, ...]]) -> None:
        """Send a question. Without a link the future gets a ConnectionError."""
        positions = Query(request_id=next_id(), what=QueryKind.POSITIONS)
        end = Query(request_id=next_id(), what=QueryKind.STATUS)
        if client is None or not (client.send(positions) and client.send(end)):
            fail(future, ConnectionError("there is no link to the gateway; see the interface's status"))
            return
        self._waiting[end.request_id] = ([], future)

    def take(self, body: Message) -> bool:
        """Whether a message was part of an answer."""
        if isinstance(body, Positions):
            for rows, _ in self._waiting.values():
                rows.append(body)
            return True
        if isinstance(body, AdminResult) and body.request_id in self._waiting:
            rows, future = self._waiting.pop(body.request_id)
            resolve(future, tuple(rows))
            return True
        return False

    def fail_all(self, text: str) -> None:
        """No answer will come any more."""
        for _, future in self._waiting.values():
            fail(future, ConnectionError(text))
        self._waiting.clear()


def resolve(future: Future[T], value: T) -> None:
    """Answer, unless the waiter has given up in the meantime."""
    if future.set_running_or_notify_cancel():
        future.set_result(value)


def fail(future: Future[T], error: Exception) -> None:
    """Answer with an error, unless the waiter has given up in the meantime."""
    if future.set_running_or_notify_cancel():
        future.set_exception(error)
