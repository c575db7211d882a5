"""The thread that owns NEXUS's link to the gateway: socket, outbox and book. Both forms of the interface stand on it.

A thread of its own, so that a NEXUS that computes for seconds still answers heartbeats, and because asyncio on Windows
cannot wait for ZeroMQ's sockets in its default loop. Callers hand requests over and get futures; nothing they do, and
nothing that comes in, ends the thread.
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
from ...core.transport import LinkClient, LinkState, read_token
from ...shm.durations import NS_PER_MS
from .desk import SignalDesk
from .options import LinkOptions
from .outbox import read_back
from .outcomes import LinkStatus, SignalOutcome
from .waiters import PositionQuestions, fail, resolve

T = TypeVar("T")
Change = SignalCancel | SignalReplace | SignalClose
News = SignalOutcome | Reject | LinkStatus
_NOT_OPEN: Final = "the interface to the gateway is not open, so nothing was sent; call connect first"
_LOOK_AGAIN_MS: Final = 200
_AFTER_FAULT_S: Final = 0.05


class OrderLink:
    """See the module. Every method may be called from any thread.

    Attributes:
        counts: faults of the thread itself.
    """

    def __init__(self, options: LinkOptions, tell: Callable[[News], None], log: Log) -> None:
        """`tell` gets every news, in order, in this object's thread; it must return at once and never raise."""
        self.counts = {"faults": 0}
        self.status = LinkStatus(is_up=False, text="not connected yet")
        self._options = options
        self._tell = tell
        self._log = log
        self._desk = SignalDesk(options, tell, log)
        self._client: LinkClient | None = None
        self._boot_id = secrets.token_hex(8)
        self._requests: deque[tuple[Callable[[], None], Callable[[Exception], None]]] = deque()
        self._positions = PositionQuestions()
        self._up = threading.Event()
        self._closing = False
        self._wake_in: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="nexus-orders", daemon=True)

    def start(self) -> None:
        """Open the outbox and begin to connect. Once.

        Raises:
            OutboxError: another process of this name runs, or the file cannot be used.
        """
        self._desk.open()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._thread.start()

    def wait_up(self, timeout_s: float) -> bool:
        """Whether the link is up, at the latest after so long."""
        return self._up.wait(timeout_s)

    def outcome(self, signal_id: str) -> SignalOutcome | None:
        """What is known of a signal now; None when nothing is."""
        return self._desk.book.outcome(signal_id)

    def outcome_by_now(self, signal_id: str, timeout_s: float) -> SignalOutcome:
        """What to say when a call has run out of time."""
        known = self._desk.book.outcome(signal_id)
        if known is not None and known.told_ns:
            return known
        text = f"no answer within {timeout_s:g} s ({self.status.text}); it may have traded or may still trade"
        return SignalOutcome(signal_id=signal_id, state=SignalState.UNKNOWN, text=text)

    def unknown_symbols(self) -> frozenset[str]:
        """Symbols of which a signal has an unknown outcome."""
        return self._desk.book.unknown_symbols()

    def book_counts(self) -> dict[str, int]:
        """The book's, the link's and this thread's counters, by name."""
        client = self._client
        link = {} if client is None else {f"link_{name}": value for name, value in client.counts.items()}
        desk = self._desk
        own = {"unanswered": desk.book.unanswered, "changes_kept": desk.changes_kept}
        return {**desk.book.counts, **link, **self.counts, **own, "outbox_errors": desk.outbox_errors}

    def submit(self, signal: Signal) -> tuple[Future[None], Future[SignalOutcome]]:
        """Keep and send a signal.

        Returns:
            First: done when it is on disk and about to leave; OutboxError, SignalConflictError, RuntimeError: it was
            not sent. Second: the gateway's first word. Cancelling them changes nothing but the waiting.

        Raises:
            SignalInvalidError: it is no signal that anybody could read.
        """
        signal = read_back(signal)
        kept: Future[None] = Future()
        answer: Future[SignalOutcome] = Future()
        self._ask(lambda: self._desk.submit(signal, kept, answer, self._client), kept)
        return kept, answer

    def settle(self, signal_id: str) -> Future[SignalOutcome]:
        """The outcome as soon as nothing of the signal works or is unknown. KeyError for an id that is not known."""
        future: Future[SignalOutcome] = Future()
        self._ask(lambda: self._desk.settle(signal_id, future), future)
        return future

    def change(self, request: Change) -> Future[bool]:
        """Send a change. True: handed to the link, or (cancel, close) kept until the gateway has it.

        Raises:
            SignalInvalidError: it is none that anybody could read.
        """
        request = read_back(request)
        future: Future[bool] = Future()
        if isinstance(request, SignalReplace):
            self._ask(lambda: resolve(future, self._client is not None and self._client.send(request)), future)
        else:
            self._ask(lambda: self._desk.keep(request, future), future)
        return future

    def positions(self) -> Future[tuple[Positions, ...]]:
        """What each account holds as the gateway believes; ConnectionError without a link."""
        future: Future[tuple[Positions, ...]] = Future()
        self._ask(lambda: self._positions.ask(self._client, self._desk.book.next_request_id, future), future)
        return future

    def forget(self, signal_id: str) -> Future[bool]:
        """Stop asking for an answered signal."""
        future: Future[bool] = Future()
        self._ask(lambda: self._desk.forget(signal_id, future), future)
        return future

    def close(self) -> None:
        """End the thread. Signals without an answer stay in the outbox, for the next start."""
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

    def _ask(self, request: Callable[[], None], future: Future[T]) -> None:
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
            pass  # full of wake-ups already, or closed

    # What follows runs in the thread.

    def _run(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except Exception:
                # The book still holds what has to be said, so a new session makes everything good.
                self.counts["faults"] += 1
                self._log.exception("order link failed, begins a new session")
                self._desk.link_down()
                if self._client is not None:
                    self._client.restart("an error on this side")
                time.sleep(_AFTER_FAULT_S)
        if self._client is not None:
            self._client.close()
        self._up.clear()
        self.status = LinkStatus(is_up=False, text="closed")  # no news to whoever has asked for it

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
            self._take(client, body)
        client.tick()
        self._follow(client)
        self._desk.say(client)

    def _open_client(self) -> LinkClient | None:
        try:
            options = self._options
            return LinkClient(options.endpoint, self._hello(), options.link_timing, keys=options.keys)
        except ConfigError as error:
            self._show(structs.replace(self.status, is_up=False, text=str(error)))
            return None

    def _hello(self) -> Hello:
        token = read_token(self._options.token_file)
        return Hello(role=Role.NEXUS, name=self._options.name, boot_id=self._boot_id, token=token)

    def _wait(self) -> None:
        client = self._client
        poller = zmq.Poller()
        poller.register(self._wake_out, zmq.POLLIN)
        wait_ms = _LOOK_AGAIN_MS
        if client is not None:
            if client.socket is not None:
                poller.register(client.socket, zmq.POLLIN)
            wait_ms = min(wait_ms, client.wait_ms())
        due_ns = self._desk.book.next_due_ns()
        if due_ns is not None:
            wait_ms = min(wait_ms, max(0, -((time.monotonic_ns() - due_ns) // NS_PER_MS)))
        poller.poll(0 if self._requests else wait_ms)
        try:
            self._wake_out.recv(4_096)
        except BlockingIOError:
            pass  # woken by a message, or by time

    def _follow(self, client: LinkClient) -> None:
        """Tell what has become of the link."""
        is_up = client.state is LinkState.UP
        if is_up or client.state is LinkState.CONNECTING:
            return  # a welcome is told where it is taken; connecting is no news
        self._desk.link_down()
        refusal = client.refusal
        text = client.cut_reason if refusal is None else refusal.text
        self._show(
            structs.replace(self.status, is_up=False, text=text, code=refusal.code if refusal else RejectCode.NONE)
        )
        self._positions.fail_all(f"the link broke: {text}")
        if refusal is not None:
            try:
                client.hello = self._hello()  # the gateway may have made a new token
            except ConfigError as error:
                self._show(structs.replace(self.status, text=str(error)))

    def _show(self, status: LinkStatus) -> None:
        if status != self.status:
            self.status = status
            if status.is_up:
                self._up.set()
            else:
                self._up.clear()
            self._tell(status)

    def _take(self, client: LinkClient, body: Message) -> None:
        if isinstance(body, Welcome):
            self._desk.link_up(body.gateway_boot_id)
            self._show(
                LinkStatus(
                    is_up=True,
                    text="connected",
                    gateway_boot_id=body.gateway_boot_id,
                    stage=body.stage,
                    kill_level=body.kill_level,
                )
            )
            return
        if self._positions.take(body):
            return
        if isinstance(body, Reject) and not client.is_up:
            self._show(LinkStatus(is_up=False, text=body.text, code=body.code))  # the hello itself was refused
            return
        self._desk.take(body)
