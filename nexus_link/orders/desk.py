"""Keeps the signal book, the outbox and the waiting callers of one NEXUS consistent with each other."""

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
    """Applies each request and message to the book and the outbox, in the order that makes both survive a kill.

    Owned by `OrderLink`; used by the link's thread after `open`. Only `book.outcome` and `book.unknown_symbols` may be
    called from other threads.

    Attributes:
        book: phase and newest outcome of each signal.
        outbox_errors: answered and final marks that could not be written.
    """

    def __init__(self, options: LinkOptions, notify: Callable[[SignalOutcome | Reject], None], log: Log) -> None:
        self.book = SignalBook(options.book_timing)
        self.outbox_errors = 0
        self._options = options
        self._notify = notify
        self._log = log
        self._waiters = OutcomeWaiters()
        self._answered: set[str] = set()  # ids already marked as answered in the outbox
        self._outbox: Outbox
        self._changes: KeptChanges | None = None

    @property
    def changes_kept(self) -> int:
        """Cancels and closes that the gateway has not acknowledged."""
        return 0 if self._changes is None else len(self._changes)

    def open(self) -> None:
        """Open the outbox and load the signals and changes in it.

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
        """Close the outbox; resolve the waiting futures with the outcomes so far."""
        if self._changes is not None:
            self._outbox.close()
        self._waiters.resolve_all(self.book.outcome)

    def send_due(self, client: LinkClient) -> None:
        """Send the signals and queries that are due, then the kept changes.

        In this order: a cancel that arrived before its signal would be refused as unknown, and the signal would trade.
        """
        messages = self.book.pop_due(time.monotonic_ns(), _AT_MOST)
        for first in range(0, len(messages), MAX_ENVELOPES_PER_MESSAGE):
            if not client.send(*messages[first : first + MAX_ENVELOPES_PER_MESSAGE]):
                return
        # A full batch may have left signals in the book that the changes belong to.
        if len(messages) < _AT_MOST and client.is_up and self._changes is not None:
            self._changes.send_unsent(client)

    def link_up(self, gateway_boot_id: str) -> None:
        """A session begins. The one before may have ended without a call of `link_down`."""
        self.link_down()
        self.book.link_up(gateway_boot_id, time.monotonic_ns())

    def link_down(self) -> None:
        """The session has ended."""
        self.book.link_down()
        if self._changes is not None:
            self._changes.link_down()

    def handle_message(self, body: Message) -> None:
        """Apply a message of the gateway and notify the callers that it concerns."""
        if self._acknowledges_change(body):
            return
        outcome = self.book.apply_message(body, time.monotonic_ns(), time.time_ns())
        if outcome is not None:
            self._publish(outcome)
        elif isinstance(body, Reject):
            self._notify(body)

    def submit(
        self, signal: Signal, kept: Future[None], answer: Future[SignalOutcome], client: LinkClient | None
    ) -> None:
        """See `OrderLink.submit`. Sends before it resolves `kept`: the woken caller may hold the GIL while it computes,
        and the signal would wait that long.
        """
        try:
            known = self.book.find_duplicate(signal)
            if known is None:
                # On disk before it is sent: a kill in between would leave a signal that trades and that the next
                # process does not know.
                self._outbox.add(signal)
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
                self.send_due(client)
        finally:
            resolve(kept, None)

    def wait_settled(self, signal_id: str, future: Future[SignalOutcome]) -> None:
        """See `OrderLink.wait_settled`."""
        known = self.book.outcome(signal_id)
        if known is None:
            fail(future, KeyError(f"signal id was {signal_id!r}, which this NEXUS has not sent or long forgotten"))
        elif known.is_settled:
            resolve(future, known)
        else:
            self._waiters.add(signal_id, True, future)

    def keep_change(self, change: SignalCancel | SignalClose, future: Future[bool]) -> None:
        """Keep a cancel or close until the gateway acknowledges it; `send_due` sends it."""
        assert self._changes is not None
        try:
            self._changes.add(change)
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

    def _publish(self, outcome: SignalOutcome) -> None:
        # The disk last: killed before the mark, the next process reports the outcome a second time. The other way
        # round a final outcome could be lost, since nothing would query it any more.
        self._waiters.notify(outcome)
        self._notify(outcome)
        try:
            if self.book.is_final(outcome.signal_id):
                self._remove(outcome.signal_id)
            elif outcome.signal_id not in self._answered:
                self._outbox.mark_answered(outcome.signal_id)
                self._answered.add(outcome.signal_id)
            for signal_id in self.book.forget_oldest():
                self._remove(signal_id)
        except OutboxError as error:
            # Harmless: a signal kept too long is sent or queried once more after a restart.
            self._note_error(error)

    def _remove(self, signal_id: str) -> None:
        self._answered.discard(signal_id)
        self._outbox.remove(signal_id)

    def _acknowledges_change(self, body: Message) -> bool:
        assert self._changes is not None
        try:
            return self._changes.handle_message(body)
        except OutboxError as error:
            # Harmless: the change is sent once more after a restart.
            self._note_error(error)
            return True

    def _note_error(self, error: OutboxError) -> None:
        self.outbox_errors += 1
        self._log.error("outbox cannot be written", reason=str(error))
