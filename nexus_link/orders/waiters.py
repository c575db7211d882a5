"""Futures of callers that wait for the gateway: for a signal's outcome, or for the positions of all accounts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from ...core.messages import AdminResult, Message, Positions, Query, QueryKind
from ...core.transport import LinkClient
from .outcomes import SignalOutcome

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


class OutcomeWaiters:
    """Futures of callers; used by the link's thread."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, bool, Future[SignalOutcome]]] = []

    def add(self, signal_id: str, settled: bool, future: Future[SignalOutcome]) -> None:
        """Answer `future` with the next word on a signal, or (`settled`) with the first one after which it rests."""
        self._waiting = [waiting for waiting in self._waiting if not waiting[2].cancelled()]
        self._waiting.append((signal_id, settled, future))

    def tell(self, outcome: SignalOutcome) -> None:
        """Answer whoever has waited for this."""
        for waiting in list(self._waiting):
            signal_id, settled, future = waiting
            if signal_id == outcome.signal_id and (outcome.is_settled or not settled):
                self._waiting.remove(waiting)
                resolve(future, outcome)

    def tell_all(self, known: Callable[[str], SignalOutcome | None]) -> None:
        """Nothing more will come: answer everybody with what is known."""
        for signal_id, _, future in self._waiting:
            outcome = known(signal_id)
            assert outcome is not None
            resolve(future, outcome)
        self._waiting.clear()
