"""Who waits for a signal's outcome: for the first word on it, or until nothing of it works or is unknown."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from .orders.outcomes import SignalOutcome
from .orders.waiters import resolve


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
