"""Futures of callers that wait for the gateway: for a signal's outcome, or for the positions of all accounts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from ...core.messages import AdminResult, Message, Positions, Query, QueryKind
from ...core.transport import LinkClient
from .outcomes import SignalOutcome

T = TypeVar("T")


class PositionQueries:
    """Queries of the positions that wait for their answer. Owned by `OrderLink`, in the link's thread.

    The gateway answers with one message per account and no end mark. So a status query follows each; the link keeps
    the order, and the status result marks the end.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[list[Positions], Future[tuple[Positions, ...]]]] = {}

    def send(
        self, client: LinkClient | None, next_id: Callable[[], int], future: Future[tuple[Positions, ...]]
    ) -> None:
        """Send a query whose answer goes to `future`; without a link the future gets a ConnectionError."""
        positions = Query(request_id=next_id(), what=QueryKind.POSITIONS)
        end = Query(request_id=next_id(), what=QueryKind.STATUS)
        if client is None or not (client.send(positions) and client.send(end)):
            fail(future, ConnectionError("there is no link to the gateway; see the interface's status"))
            return
        self._waiting[end.request_id] = ([], future)

    def handle_message(self, body: Message) -> bool:
        """Returns whether the message was part of an answer."""
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
        """End all queries with a ConnectionError."""
        for _, future in self._waiting.values():
            fail(future, ConnectionError(text))
        self._waiting.clear()


def resolve(future: Future[T], value: T) -> None:
    """Set the result, unless the caller has cancelled the future."""
    if future.set_running_or_notify_cancel():
        future.set_result(value)


def fail(future: Future[T], error: Exception) -> None:
    """Set an exception, unless the caller has cancelled the future."""
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


class OutcomeWaiters:
    """Futures that wait for a signal's outcome. Owned by `SignalDesk`, in the link's thread."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, bool, Future[SignalOutcome]]] = []

    def add(self, signal_id: str, settled: bool, future: Future[SignalOutcome]) -> None:
        """Resolve `future` with the next outcome of a signal, or (`settled`) with the next one that is settled."""
        self._waiting = [waiting for waiting in self._waiting if not waiting[2].cancelled()]
        self._waiting.append((signal_id, settled, future))

    def notify(self, outcome: SignalOutcome) -> None:
        """Resolve the futures that wait for this outcome."""
        for waiting in list(self._waiting):
            signal_id, settled, future = waiting
            if signal_id == outcome.signal_id and (outcome.is_settled or not settled):
                self._waiting.remove(waiting)
                resolve(future, outcome)

    def resolve_all(self, known: Callable[[str], SignalOutcome | None]) -> None:
        """At the end: resolve every future with the outcome so far."""
        for signal_id, _, future in self._waiting:
            outcome = known(signal_id)
            assert outcome is not None
            resolve(future, outcome)
        self._waiting.clear()
