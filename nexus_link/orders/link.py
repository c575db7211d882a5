"""The thread that owns NEXUS's link to the gateway, with its socket, outbox and signal book. Both interfaces use it.

It is a thread of its own, so that heartbeats are answered while the strategy computes for seconds, and because asyncio
on Windows cannot wait for ZeroMQ sockets in its default loop. Callers enqueue requests and get futures. No request and
no message ends the thread: an exception begins a new session.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

import zmq
from msgspec import structs

from ...core.errors import ConfigError
from ...core.logs import Log
from ...core.messages import (
    Hello,
    Message,
    Positions,
    Reject,
    RejectCode,
    Role,
    Signal,
    SignalCancel,
    SignalClose,
    SignalReplace,
    SignalState,
    Welcome,
)
from ...core.transport import LinkClient, LinkState
from ...shm.durations import NS_PER_MS
from .desk import SignalDesk
from .options import LinkOptions
from .outbox import validate_request
from .outcomes import LinkStatus, SignalOutcome
from .waiters import PositionQueries, fail, resolve

T = TypeVar("T")
Change = SignalCancel | SignalReplace | SignalClose
News = SignalOutcome | Reject | LinkStatus
_NOT_OPEN: Final = "the interface to the gateway is not open, so nothing was sent; call connect first"
_MAX_WAIT_MS: Final = 200
_FAULT_PAUSE_S: Final = 0.05
"""Pause after an exception, so that one that repeats does not use up a core."""


class OrderLink:
    """Owns the link's thread and hands requests to it. Owned by an interface; its public methods may be called from
    any thread.

    Attributes:
        counts: `faults`, exceptions in the thread.
        status: of the link; replaced as a whole by the thread.
    """

    def __init__(self, options: LinkOptions, notify: Callable[[News], None], log: Log) -> None:
        """`notify` gets all news, in order, in the link's thread. It must return at once and never raise."""
        self.counts = {"faults": 0}
        self.status = LinkStatus(is_up=False, text="not connected yet")
        self._options = options
        self._notify = notify
        self._log = log
        self._desk = SignalDesk(options, notify, log)
        self._client: LinkClient | None = None
        self._boot_id = secrets.token_hex(8)
        self._requests: deque[tuple[Callable[[], None], Callable[[Exception], None]]] = deque()
        self._positions = PositionQueries()
        self._up = threading.Event()
        self._closing = False
        self._wake_in: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="nexus-orders", daemon=True)

    def start(self) -> None:
        """Open the outbox and begin to connect. To be called once.

        Raises:
            OutboxError: another process of this name runs, or the file cannot be used.
        """
        self._desk.open()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._thread.start()

    def wait_up(self, timeout_s: float) -> bool:
        """Wait until the link is up, at most `timeout_s`; returns whether it is."""
        return self._up.wait(timeout_s)

    def outcome(self, signal_id: str) -> SignalOutcome | None:
        """The newest outcome of a signal; None for an id that is not known."""
        return self._desk.book.outcome(signal_id)

    def outcome_after_timeout(self, signal_id: str, timeout_s: float) -> SignalOutcome:
        """The outcome that a call returns when its time is over: the newest one, or `unknown`, never a failure."""
        known = self._desk.book.outcome(signal_id)
        if known is not None and known.told_ns:
            return known
        text = f"no answer within {timeout_s:g} s ({self.status.text}); it may have traded or may still trade"
        return SignalOutcome(signal_id=signal_id, state=SignalState.UNKNOWN, text=text)

    def unknown_symbols(self) -> frozenset[str]:
        """Symbols on which a signal has an unknown outcome."""
        return self._desk.book.unknown_symbols()

    def book_counts(self) -> dict[str, int]:
        """Counters of the book, the session (`link_...`) and this thread, by name."""
        client = self._client
        link = {} if client is None else {f"link_{name}": value for name, value in client.counts.items()}
        desk = self._desk
        own = {"unanswered": desk.book.unanswered, "changes_kept": desk.changes_kept}
        return {**desk.book.counts, **link, **self.counts, **own, "outbox_errors": desk.outbox_errors}

    def submit(self, signal: Signal) -> tuple[Future[None], Future[SignalOutcome]]:
        """Keep a signal on disk and send it.

        Returns:
            kept: done when the signal is on disk and handed to the link. OutboxError, SignalConflictError or
                RuntimeError: it was not sent.
            answer: the first outcome of the gateway.
            Cancelling them ends the waiting, not the signal.

        Raises:
            SignalInvalidError: a field has a value that the gateway would refuse to decode.
        """
        signal = validate_request(signal)
        kept: Future[None] = Future()
        answer: Future[SignalOutcome] = Future()
        self._enqueue(lambda: self._desk.submit(signal, kept, answer, self._client), kept)
        return kept, answer

    def wait_settled(self, signal_id: str) -> Future[SignalOutcome]:
        """The first settled outcome of a signal; the future gets a KeyError for an id that is not known."""
        future: Future[SignalOutcome] = Future()
        self._enqueue(lambda: self._desk.wait_settled(signal_id, future), future)
        return future

    def change(self, request: Change) -> Future[bool]:
        """Send a change. True: a replace was handed to the link; a cancel or close is kept until the gateway has it.

        Raises:
            SignalInvalidError: a field has a value that the gateway would refuse to decode.
        """
        request = validate_request(request)
        future: Future[bool] = Future()
        if isinstance(request, SignalReplace):
            self._enqueue(lambda: resolve(future, self._client is not None and self._client.send(request)), future)
        else:
            self._enqueue(lambda: self._desk.keep_change(request, future), future)
        return future

    def positions(self) -> Future[tuple[Positions, ...]]:
        """The positions of each account in the gateway's books; the future gets a ConnectionError without a link."""
        future: Future[tuple[Positions, ...]] = Future()
        self._enqueue(lambda: self._positions.send(self._client, self._desk.book.next_request_id, future), future)
        return future

    def forget(self, signal_id: str) -> Future[bool]:
        """End an answered signal whose outcome a person has established; False if it is not in that phase."""
        future: Future[bool] = Future()
        self._enqueue(lambda: self._desk.forget(signal_id, future), future)
        return future

    def close(self) -> None:
        """End the thread. Signals without an answer stay in the outbox for the next start."""
        if self._closing:
            return
        self._closing = True
        if self._wake_in is None:
            return  # never started
        self._wake()
        self._thread.join()
        self._wake_in.close()
        self._wake_out.close()
        while self._requests:
            self._requests.popleft()[1](RuntimeError(_NOT_OPEN))
        self._desk.close()
        self._positions.fail_all("closed")

    def _enqueue(self, request: Callable[[], None], future: Future[T]) -> None:
        if self._closing or not self._thread.is_alive():
            future.set_exception(RuntimeError(_NOT_OPEN))
            return
        self._requests.append((request, lambda error: fail(future, error)))
        self._wake()

    def _wake(self) -> None:
        assert self._wake_in is not None
        try:
            self._wake_in.send(b"!")
        except OSError:
            pass  # the socket is full of wake-ups already, or closed

    # The methods below run in the link's thread.

    def _run(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except Exception:
                # A message may be half applied, or popped from the book and not sent. A new session sends every open
                # signal and queries every answered one, which repairs both.
                self.counts["faults"] += 1
                self._log.exception("order link failed, begins a new session")
                self._desk.link_down()
                if self._client is not None:
                    self._client.restart("an error on this side")
                time.sleep(_FAULT_PAUSE_S)
        if self._client is not None:
            self._client.close()
        self._up.clear()
        self.status = LinkStatus(is_up=False, text="closed")  # no callback: the owner has called `close`

    def _turn(self) -> None:
        if self._client is None:
            self._client = self._open_client()
        self._wait()
        while self._requests:
            self._requests.popleft()[0]()
        client = self._client
        if client is None:
            return
        for body in client.receive():
            self._handle_message(client, body)
        client.tick()
        # Before sending: a session that has just ended must not count signals as sent.
        self._check_session(client)
        self._desk.send_due(client)

    def _open_client(self) -> LinkClient | None:
        try:
            options = self._options
            hello = Hello(role=Role.NEXUS, name=options.name, boot_id=self._boot_id)
            return LinkClient(options.endpoint, hello, options.keys_folder, options.link_timing)
        except ConfigError as error:
            self._set_status(structs.replace(self.status, is_up=False, text=str(error)))
            return None

    def _wait(self) -> None:
        client = self._client
        poller = zmq.Poller()
        poller.register(self._wake_out, zmq.POLLIN)
        wait_ms = _MAX_WAIT_MS
        if client is not None:
            if client.socket is not None:
                poller.register(client.socket, zmq.POLLIN)
            wait_ms = min(wait_ms, client.wait_ms())
        due_ns = self._desk.book.next_due_ns()
        if due_ns is not None:
            # Rounded up: rounded down it would poll with 0 ms for the last part of a millisecond.
            wait_ms = min(wait_ms, max(0, -((time.monotonic_ns() - due_ns) // NS_PER_MS)))
        poller.poll(0 if self._requests else wait_ms)
        try:
            self._wake_out.recv(4_096)
        except BlockingIOError:
            pass  # no request: a message came, or the wait is over

    def _check_session(self, client: LinkClient) -> None:
        """Handle the end of a session; its begin is the welcome, see `_handle_message`."""
        is_up = client.state is LinkState.UP
        if is_up or client.state is LinkState.CONNECTING:
            return
        self._desk.link_down()
        refusal = client.refusal
        text = client.cut_reason if refusal is None else refusal.text
        self._set_status(
            structs.replace(self.status, is_up=False, text=text, code=refusal.code if refusal else RejectCode.NONE)
        )
        self._positions.fail_all(f"the link broke: {text}")

    def _set_status(self, status: LinkStatus) -> None:
        if status != self.status:
            self.status = status
            if status.is_up:
                self._up.set()
            else:
                self._up.clear()
            self._notify(status)

    def _handle_message(self, client: LinkClient, body: Message) -> None:
        if isinstance(body, Welcome):
            self._desk.link_up(body.gateway_boot_id)
            self._set_status(
                LinkStatus(
                    is_up=True,
                    text="connected",
                    gateway_boot_id=body.gateway_boot_id,
                    stage=body.stage,
                    kill_level=body.kill_level,
                )
            )
            return
        if self._positions.handle_message(body):
            return
        if isinstance(body, Reject) and not client.is_up:
            self._set_status(LinkStatus(is_up=False, text=body.text, code=body.code))  # the hello was refused
            return
        self._desk.handle_message(body)
