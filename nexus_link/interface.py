"""Sends signals to the gateway and reports their outcomes; `async_interface.py` does the same for asyncio.

    gateway = NexusGatewayInterface()
    gateway.set_callbacks(on_outcome=print)
    gateway.connect()
    outcome = gateway.send_signal(signal)       # the gateway's first response, or `unknown` after the time-out
    outcome = gateway.wait_settled(outcome.signal_id)
    gateway.close()

`send_signal` keeps the signal on disk. It is resent after every reconnect, restart of the gateway and restart of NEXUS
until its report has come; the gateway executes a signal id once. A call that runs out of time returns `unknown`, never
a failure: the signal may have traded, or may still trade.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Final

from ..core.logs import Log, process_log
from ..core.messages import Positions, Reject, Signal
from .orders.book import SignalConflictError
from .orders.callbacks import Callbacks, Notifier
from .orders.link import Change, News, OrderLink
from .orders.options import DEFAULT_NAME, LinkOptions, gateway_options, options_of_config
from .orders.outbox import OutboxError, SignalInvalidError
from .orders.outcomes import LinkStatus, SignalOutcome

__all__ = [
    "DEFAULT_NAME",
    "DISK_TIMEOUT_S",
    "InterfaceBase",
    "LinkOptions",
    "LinkStatus",
    "NexusGatewayInterface",
    "OutboxError",
    "SignalConflictError",
    "SignalInvalidError",
    "SignalOutcome",
    "gateway_options",
    "options_of_config",
]

DISK_TIMEOUT_S: Final = 5.0
"""`send_signal` waits for the disk up to this, even with a shorter time-out: its caller must know whether the signal is
kept, and a disk that takes longer is broken."""


class InterfaceBase:
    """The calls that return at once; they are the same with threads and with asyncio. Any thread may call them."""

    def __init__(self, options: LinkOptions | None, log: Log | None, deliver: Callable[[News], None]) -> None:
        log = log or process_log(DEFAULT_NAME)
        self._notifier = Notifier(log)
        self._link = OrderLink(options or gateway_options(), deliver, log)

    def set_callbacks(
        self,
        *,
        on_outcome: Callable[[SignalOutcome], None] | None = None,
        on_reject: Callable[[Reject], None] | None = None,
        on_link: Callable[[LinkStatus], None] | None = None,
    ) -> None:
        """Replace all callbacks. Set them before `connect`, or the first ones can be missed.

        Args:
            on_outcome: each new outcome of a signal, also of one that an earlier process sent. After a restart the
                last outcome may be delivered a second time.
            on_reject: a change (cancel, replace, close) was refused, or one leg of it.
            on_link: the link came up, or went down and why.
        """
        self._notifier.callbacks = Callbacks(on_outcome, on_reject, on_link)

    @property
    def status(self) -> LinkStatus:
        """State of the link now."""
        return self._link.status

    @property
    def counts(self) -> dict[str, int]:
        """Counters by name: signals sent and resent, queries, reports, rejects, sessions, faults."""
        return {**self._link.book_counts(), "callback_errors": self._notifier.errors}

    def outcome(self, signal_id: str) -> SignalOutcome | None:
        """The newest outcome of a signal; None for an id that this NEXUS has not sent, or has dropped by age."""
        return self._link.outcome(signal_id)

    def unknown_symbols(self) -> frozenset[str]:
        """Symbols on which a signal has an unknown outcome, unanswered ones included. Send no new entry on them."""
        return self._link.unknown_symbols()


class NexusGatewayInterface(InterfaceBase):
    """For threads and plain loops; any thread of NEXUS may call it. Callbacks run one at a time in their own thread."""

    def __init__(self, options: LinkOptions | None = None, log: Log | None = None) -> None:
        """Nothing happens before `connect`. `options` None = `gateway_options()`."""
        self._news: queue.SimpleQueue[News | None] = queue.SimpleQueue()
        super().__init__(options, log, self._news.put)
        self._thread = threading.Thread(target=self._run_callbacks, name="nexus-callbacks", daemon=True)
        self._started = False

    def connect(self, timeout_s: float = 5.0) -> bool:
        """Open the outbox, connect, and wait for the gateway; called again, it only waits.

        Returns:
            Whether the link is up. When False it keeps trying, and `status.text` says why it is down.

        Raises:
            OutboxError: another process of this name runs, or its file cannot be used.
        """
        if not self._started:
            self._link.start()
            self._thread.start()
            self._started = True
        return self._link.wait_up(timeout_s)

    def send_signal(self, signal: Signal, timeout_s: float = 5.0) -> SignalOutcome:
        """Keep the signal on disk, send it, and wait for the gateway's first response.

        Without a link it is sent as soon as there is one; the gateway then refuses a signal that is older than
        `max_signal_age_ms`. A signal that was already sent is not sent again: its outcome is returned.

        Args:
            timeout_s: longest wait for the response; 0 = none. The disk is waited for in any case.

        Returns:
            The outcome so far. State `unknown` with `told_ns` 0: no response yet, so it may or may not trade.

        Raises:
            OutboxError: it could not be kept, and was not sent.
            SignalConflictError: the id was used for another signal, or too many signals wait; it was not sent.
            SignalInvalidError: the gateway could not decode it, for instance an id with a space in it; it was not sent.
            RuntimeError: called before `connect`, after `close`, or with a wait inside a callback.
        """
        self._refuse_in_callback(timeout_s)
        kept, answer = self._link.submit(signal)
        try:
            kept.result(max(timeout_s, DISK_TIMEOUT_S))
        except TimeoutError:
            return self._link.outcome_after_timeout(signal.signal_id, timeout_s)
        return self._wait(answer, signal.signal_id, timeout_s)

    def wait_settled(self, signal_id: str, timeout_s: float = 30.0) -> SignalOutcome:
        """Wait until no order of the signal is working or unknown; returns the outcome, after the time-out too.

        Raises:
            KeyError: this NEXUS has not sent the id, or has dropped it by age.
            RuntimeError: as `send_signal`.
        """
        self._refuse_in_callback(timeout_s)
        return self._wait(self._link.wait_settled(signal_id), signal_id, timeout_s)

    def change_signal(self, request: Change, timeout_s: float = 5.0) -> bool:
        """Cancel, replace or close a signal that was sent; harmless to repeat.

        Returns:
            True: handed to the link. A cancel or close is also kept on disk and resent until the gateway has it, after
            a restart too. Its effect shows in the next outcome, a refusal goes to `on_reject`.
            False: a replace without a link, which was not sent; or the link's thread did not answer in time.

        Raises:
            OutboxError: a cancel or close could not be kept, and was not sent.
            SignalInvalidError: as `send_signal`.
            RuntimeError: called before `connect` or after `close`.
        """
        future = self._link.change(request)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            return False

    def ask_positions(self, timeout_s: float = 5.0) -> tuple[Positions, ...]:
        """Positions of each account in the gateway's books; `as_of_ns` is when they were last reconciled, 0 = never.

        Raises:
            ConnectionError: there is no link, or it broke before the answer.
            TimeoutError: no answer in time.
        """
        self._refuse_in_callback(timeout_s)
        return self._link.positions().result(timeout_s)

    def forget_signal(self, signal_id: str, timeout_s: float = 5.0) -> bool:
        """End an answered signal with an unknown outcome, after a person has compared the platforms' positions.

        Returns:
            False: the signal has no response yet, is final, or is not known.

        Raises:
            OutboxError: it could not be removed from the outbox.
            TimeoutError: the link's thread did not answer in time.
        """
        self._refuse_in_callback(timeout_s)
        return self._link.forget(signal_id).result(timeout_s)

    def close(self) -> None:
        """End the link; callbacks for everything received so far have run when this returns.

        Signals without a response stay on disk; the next process of this name sends them at its `connect`.
        """
        self._link.close()
        self._news.put(None)
        if self._started and threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> NexusGatewayInterface:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run_callbacks(self) -> None:
        while (news := self._news.get()) is not None:
            self._notifier.notify(news)

    def _wait(self, future: Future[SignalOutcome], signal_id: str, timeout_s: float) -> SignalOutcome:
        if timeout_s > 0 or future.done():
            try:
                return future.result(timeout_s)
            except TimeoutError:
                pass
        future.cancel()
        return self._link.outcome_after_timeout(signal_id, timeout_s)

    def _refuse_in_callback(self, timeout_s: float) -> None:
        if timeout_s > 0 and threading.current_thread() is self._thread:
            # The news it waits for is delivered by this thread, so it would always wait until the time-out.
            raise RuntimeError("a callback must not wait: its thread delivers the news; pass timeout_s=0")
