"""NEXUS's door to the order gateway; `async_interface.py` has the same for asyncio.

    gateway = NexusGatewayInterface()
    gateway.set_callbacks(on_outcome=print)
    gateway.connect()
    outcome = gateway.send_signal(signal)       # the gateway's first word, or `unknown` after the time-out
    outcome = gateway.wait_settled(outcome.signal_id)
    gateway.close()

A signal that was given to `send_signal` is on disk, and is sent again after every reconnect, restart of the gateway or
restart of NEXUS until a report for it has come; the gateway executes an id once. A call that runs out of time says
`unknown`, never "failed": the signal may have traded, or may still.
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
from .orders.callbacks import Callbacks, Teller
from .orders.link import Change, News, OrderLink
from .orders.options import DEFAULT_NAME, LinkOptions, gateway_options
from .orders.outcomes import LinkStatus, SignalOutcome

DISK_PATIENCE_S: Final = 5.0
"""`send_signal` always waits for the disk, at most so long: who is told nothing has to know that it was kept."""


class NexusGatewayInterface:
    """The plain form; any thread of NEXUS may call it. Callbacks run in a thread of their own, one at a time."""

    def __init__(self, options: LinkOptions | None = None, log: Log | None = None) -> None:
        """Nothing happens before `connect`. `options` None = `gateway_options()`."""
        log = log or process_log(DEFAULT_NAME)
        self._news: queue.SimpleQueue[News | None] = queue.SimpleQueue()
        self._teller = Teller(log)
        self._link = OrderLink(options or gateway_options(), self._news.put, log)
        self._thread = threading.Thread(target=self._tell, name="nexus-callbacks", daemon=True)
        self._started = False

    def set_callbacks(
        self,
        *,
        on_outcome: Callable[[SignalOutcome], None] | None = None,
        on_reject: Callable[[Reject], None] | None = None,
        on_link: Callable[[LinkStatus], None] | None = None,
    ) -> None:
        """Replace all callbacks; set them before `connect` to miss nothing.

        Args:
            on_outcome: each news of a signal, also of one that a process before this one sent. After a restart the last
                one may be told again.
            on_reject: a change (cancel, replace, close) was refused, or one leg of it.
            on_link: the link came up, or went down and why.
        """
        self._teller.callbacks = Callbacks(on_outcome, on_reject, on_link)

    def connect(self, timeout_s: float = 5.0) -> bool:
        """Open the outbox, connect, and wait at most so long for the gateway. It goes on trying when False is returned;
        `status.text` says why it has not succeeded. Called again, it only waits.

        Raises:
            OutboxError: another process of this name runs, or its file cannot be used.
        """
        if not self._started:
            self._link.start()
            self._thread.start()
            self._started = True
        return self._link.wait_up(timeout_s)

    @property
    def status(self) -> LinkStatus:
        """The link now."""
        return self._link.status

    @property
    def counts(self) -> dict[str, int]:
        """What was sent, sent again, asked, told, refused; cuts and faults."""
        return {**self._link.book_counts(), "callback_errors": self._teller.errors}

    def send_signal(self, signal: Signal, timeout_s: float = 5.0) -> SignalOutcome:
        """Keep the signal on disk, send it, and wait at most so long for the gateway's first word; 0 = not at all.

        Without a link it is sent as soon as there is one; the gateway refuses what has become too old by then
        (`max_signal_age_ms`). The same signal again is not sent again: it is answered with what is known.

        Returns:
            The outcome so far. State `unknown` and `told_ns` 0: no word yet, and everything is possible.

        Raises:
            OutboxError: it could not be kept, so it was not sent.
            SignalConflictError: the id was used for another signal, or too many wait; it was not sent.
            SignalInvalidError: a field of it is none that the gateway could read, such as an id with a space in it.
            RuntimeError: before `connect`, after `close`, or waiting inside a callback.
        """
        self._refuse_in_callback(timeout_s)
        kept, answer = self._link.submit(signal)
        try:
            kept.result(max(timeout_s, DISK_PATIENCE_S))
        except TimeoutError:
            return self._link.outcome_by_now(signal.signal_id, timeout_s)
        return self._wait(answer, signal.signal_id, timeout_s)

    def wait_settled(self, signal_id: str, timeout_s: float = 30.0) -> SignalOutcome:
        """Wait until nothing of the signal works or is unknown. After the time-out: what is known by then.

        Raises:
            KeyError: this NEXUS has not sent it, or long forgotten it.
        """
        self._refuse_in_callback(timeout_s)
        return self._wait(self._link.settle(signal_id), signal_id, timeout_s)

    def change_signal(self, request: Change, timeout_s: float = 5.0) -> bool:
        """Cancel, replace or close a signal that was sent; harmless to repeat.

        Returns:
            True: handed to the link; a cancel or a close is also kept, and said again until the gateway has it, after
            a restart too. Its effect shows in the next outcome, a refusal comes to `on_reject`. False: a replace
            without a link, which was not sent, or no answer of the link's thread in time.

        Raises:
            OutboxError: a cancel or close could not be kept, and was not sent.
            SignalInvalidError: as `send_signal`.
        """
        future = self._link.change(request)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            return False

    def ask_positions(self, timeout_s: float = 5.0) -> tuple[Positions, ...]:
        """What each account holds as the gateway believes; `as_of_ns` 0 = never compared with its platform.

        Raises:
            ConnectionError: there is no link, or it broke before the answer.
            TimeoutError: no answer in time.
        """
        self._refuse_in_callback(timeout_s)
        return self._link.positions().result(timeout_s)

    def outcome(self, signal_id: str) -> SignalOutcome | None:
        """What is known of a signal now; None for an id that this NEXUS has not sent, or long forgotten."""
        return self._link.outcome(signal_id)

    def unknown_symbols(self) -> frozenset[str]:
        """Symbols of which a signal has an unknown outcome, unanswered ones included: no new risk on them."""
        return self._link.unknown_symbols()

    def forget_signal(self, signal_id: str, timeout_s: float = 5.0) -> bool:
        """Stop asking for an answered signal: a person has compared the platforms, and knows what became of it."""
        self._refuse_in_callback(timeout_s)
        return self._link.forget(signal_id).result(timeout_s)

    def close(self) -> None:
        """End the link. Signals without an answer stay on disk and are sent at the next `connect`, by any process of
        this name; callbacks for everything heard so far have run when this returns.
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

    def _tell(self) -> None:
        while True:
            news = self._news.get()
            if news is None:
                return
            self._teller.tell(news)

    def _wait(self, future: Future[SignalOutcome], signal_id: str, timeout_s: float) -> SignalOutcome:
        if timeout_s > 0 or future.done():
            try:
                return future.result(timeout_s)
            except TimeoutError:
                pass
        future.cancel()
        return self._link.outcome_by_now(signal_id, timeout_s)

    def _refuse_in_callback(self, timeout_s: float) -> None:
        if timeout_s > 0 and threading.current_thread() is self._thread:
            raise RuntimeError("a callback must not wait: what it waits for could not be told; pass timeout_s=0")
