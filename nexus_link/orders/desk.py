"""Book, outbox and waiting callers of one NEXUS, kept in step: what was asked for, what is kept, who wants to know."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from ...core.logs import Log
from ...core.messages import Message, Reject, Signal, SignalCancel, SignalClose
from ...core.transport import MAX_ENVELOPES_PER_MESSAGE, LinkClient
from .book import SignalBook, SignalConflictError
from .kept_changes import KeptChanges
from .options import LinkOptions
from .outbox import Outbox, OutboxError
from .outcomes import SignalOutcome
from .waiters import OutcomeWaiters, fail, resolve

_AT_MOST: Final = 256


class SignalDesk:
    """Used by the link's thread, after `open`; the book's readers may be called from any.

    Attributes:
        book: what is known of each signal.
        outbox_errors: marks that could not be written.
    """

    def __init__(self, options: LinkOptions, tell: Callable[[SignalOutcome | Reject], None], log: Log) -> None:
        self.book = SignalBook(options.book_timing)
        self.outbox_errors = 0
        self._options = options
        self._tell = tell
        self._log = log
        self._waiters = OutcomeWaiters()
        self._answered: set[str] = set()
        self._outbox: Outbox
        self._changes: KeptChanges | None = None

    @property
    def changes_kept(self) -> int:
        """Cancels and closes that wait for the gateway."""
        return 0 if self._changes is None else len(self._changes)

    def open(self) -> None:
        """Take over what is in the outbox.

        Raises:
            OutboxError: another process of this name runs, or the file cannot be used.
        """
        outbox = Outbox(self._options.outbox, self._options.durability)
        try:
            for signal, answered in outbox.signals():
                self.book.add(signal, time.monotonic_ns(), answered=answered, restored=True)
                if answered:
                    self._answered.add(signal.signal_id)
            self._changes = KeptChanges(outbox, self.book.next_request_id)
        except OutboxError:
            outbox.close()
            raise
        self._outbox = outbox

    def close(self) -> None:
        """Give the outbox back and answer whoever waits with what is known."""
        if self._changes is not None:
            self._outbox.close()
        self._waiters.tell_all(self.book.outcome)

    def say(self, client: LinkClient) -> None:
        """Send what is due: signals and questions, then what changes them, which must not arrive before them."""
        messages = self.book.due(time.monotonic_ns(), _AT_MOST)
        for first in range(0, len(messages), MAX_ENVELOPES_PER_MESSAGE):
            if not client.send(*messages[first : first + MAX_ENVELOPES_PER_MESSAGE]):
                return
        if len(messages) < _AT_MOST and client.is_up and self._changes is not None:
            self._changes.say(client)

    def link_up(self, gateway_boot_id: str) -> None:
        """A new session; the one before may have ended without a look in between."""
        self.link_down()
        self.book.link_up(gateway_boot_id, time.monotonic_ns())

    def link_down(self) -> None:
        """The session is over."""
        self.book.link_down()
        if self._changes is not None:
            self._changes.link_down()

    def take(self, body: Message) -> None:
        """Take in a message of the gateway, and tell whoever it concerns."""
        if self._took_change(body):
            return
        outcome = self.book.take(body, time.monotonic_ns(), time.time_ns())
        if outcome is not None:
            self._spread(outcome)
        elif isinstance(body, Reject):
            self._tell(body)

    def submit(
        self, signal: Signal, kept: Future[None], answer: Future[SignalOutcome], client: LinkClient | None
    ) -> None:
        """See `OrderLink.submit`. It leaves before the caller is told: two threads of one interpreter take turns, and a
        caller that goes on computing would hold the signal up.
        """
        try:
            known = self.book.check(signal)
            if known is None:
                self._outbox.add(signal)  # on disk before it leaves
                self.book.add(signal, time.monotonic_ns())
        except (OutboxError, SignalConflictError) as error:
            fail(kept, error)
            return
        if known is not None and known.told_ns:
            resolve(answer, known)
        else:
            self._waiters.add(signal.signal_id, False, answer)
        try:
            if client is not None:
                self.say(client)
        finally:
            resolve(kept, None)

    def settle(self, signal_id: str, future: Future[SignalOutcome]) -> None:
        """See `OrderLink.settle`."""
        known = self.book.outcome(signal_id)
        if known is None:
            fail(future, KeyError(f"signal id was {signal_id!r}, which this NEXUS has not sent or long forgotten"))
        elif known.is_settled:
            resolve(future, known)
        else:
            self._waiters.add(signal_id, True, future)

    def keep(self, change: SignalCancel | SignalClose, future: Future[bool]) -> None:
        """Keep a cancel or close until the gateway has it; `say` sends it."""
        assert self._changes is not None
        try:
            self._changes.keep(change)
        except OutboxError as error:
            fail(future, error)
            return
        resolve(future, True)

    def forget(self, signal_id: str, future: Future[bool]) -> None:
        """See `OrderLink.forget`."""
        gone = self.book.forget(signal_id)
        if gone:
            try:
                self._remove(signal_id)
            except OutboxError as error:
                fail(future, error)
                return
        resolve(future, gone)

    def _spread(self, outcome: SignalOutcome) -> None:
        """Whoever waits first, then callbacks, then the disk: if it ends in between, it is told once more later."""
        self._waiters.tell(outcome)
        self._tell(outcome)
        try:
            if self.book.is_final(outcome.signal_id):
                self._remove(outcome.signal_id)
            elif outcome.signal_id not in self._answered:
                self._outbox.mark_answered(outcome.signal_id)
                self._answered.add(outcome.signal_id)
            for signal_id in self.book.forget_oldest():
                self._remove(signal_id)
        except OutboxError as error:
            # Harmless: what is kept too long is asked for once more after a restart.
            self._note_error(error)

    def _remove(self, signal_id: str) -> None:
        self._answered.discard(signal_id)
        self._outbox.remove(signal_id)

    def _took_change(self, body: Message) -> bool:
        assert self._changes is not None
        try:
            return self._changes.take(body)
        except OutboxError as error:
            # Harmless: it is said once more after a restart.
            self._note_error(error)
            return True

    def _note_error(self, error: OutboxError) -> None:
        self.outbox_errors += 1
        self._log.error("outbox cannot be written", reason=str(error))
