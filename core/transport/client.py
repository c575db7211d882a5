"""The connecting end of a link: an adapter, NEXUS or an operator's command. One thread owns a client.

    client = LinkClient(endpoint, hello)
    while running:
        wait on client.socket (it may be None) and others, at most client.wait_ms() milliseconds
        for body in client.receive():      # everything that has come; never blocks
            if isinstance(body, Welcome):  # a new session: what was in flight on the old link is lost, start afresh
                ...
        client.tick()                      # heartbeats, mute links, back-off and reconnect; after receive
        client.send(order_update)          # False: no link, and nothing was sent
    client.close()

`client.state` is connecting, up, waiting (before the next attempt) or closed. `socket` is another object in each
session, so ask for it in each turn. Nothing is sent twice and nothing is kept for later: what a session lost is made
good by the snapshot (adapter) or by sending the same signal id again (NEXUS); the gateway knows how to take both.
"""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Callable

import zmq

from ...shm.durations import NS_PER_MS
from ..messages import Envelope, Heartbeat, Hello, Message, MessageError, Reject, RejectCode, Welcome, decode
from .link import MOST_TOGETHER, Link, LinkFault, LinkTiming
from .sockets import ClientKeys, make_client_socket

RECEIVE_AT_MOST = 1_000


class LinkState(enum.StrEnum):
    """Where a client stands."""

    CONNECTING = "connecting"
    UP = "up"
    WAITING = "waiting"
    CLOSED = "closed"


class LinkClient:
    """A DEALER under a `Link`, made anew for each session. See the module for its use.

    Attributes:
        hello: what the next session begins with; replace it and call `restart` when it has changed.
        platform_up, last_data_ns: an adapter sets these; they travel in the next heartbeat.
        refusal: the last welcome that said no, with code and text; None when there was none since a link came up.
        counts: links, cuts, refusals, bad_messages, overflows, messages_sent, messages_received.
        cut_reason: why the last session ended.
    """

    def __init__(
        self,
        endpoint: str,
        hello: Hello,
        timing: LinkTiming | None = None,
        *,
        keys: ClientKeys | None = None,
        queue_messages: int = 4_096,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        """Connects in the background; nobody need be there yet.

        Raises:
            ConfigError: the endpoint is none.
        """
        self.hello = hello
        self.platform_up = True
        self.last_data_ns = 0
        self.refusal: Welcome | None = None
        self.cut_reason = ""
        self.state = LinkState.CONNECTING
        self.counts = dict.fromkeys(
            ("links", "cuts", "refusals", "bad_messages", "overflows", "messages_sent", "messages_received"), 0
        )
        self._endpoint = endpoint
        self._timing = timing or LinkTiming()
        self._keys = keys
        self._queue_messages = queue_messages
        self._monotonic_ns = monotonic_ns
        self._utc_ns = utc_ns
        self._random_fraction = random_fraction
        self._failures = 0
        self._retry_ns = 0
        self._deadline_ns = 0
        self._up_since_ns = 0
        self._socket: zmq.Socket[bytes] | None = None
        self._link = Link(hello.name, self._timing, monotonic_ns())
        self._connect(monotonic_ns())

    @property
    def socket(self) -> zmq.Socket[bytes] | None:
        """To wait on for reading, with a `zmq.Poller`; None while waiting before the next attempt."""
        return self._socket

    @property
    def is_up(self) -> bool:
        """Whether a session is open."""
        return self.state is LinkState.UP

    def wait_ms(self, now_ns: int | None = None) -> int:
        """How long one may wait before `tick` is needed, ms."""
        now_ns = self._monotonic_ns() if now_ns is None else now_ns
        due_ns = {LinkState.UP: self._link.due_ns, LinkState.CONNECTING: self._deadline_ns}.get(
            self.state, self._retry_ns
        )
        return max(0, -((now_ns - due_ns) // NS_PER_MS))

    def send(self, *bodies: Message) -> bool:
        """Hand messages to the link, at most `MOST_TOGETHER`; they arrive together. False when there is no session.

        A full queue cuts it: nothing is dropped.
        """
        if not self.is_up:
            return False
        now_ns, utc_ns = self._monotonic_ns(), self._utc_ns()
        sent = self._put(*(self._link.frame(body, now_ns, utc_ns) for body in bodies))
        self.counts["messages_sent"] += sent * len(bodies)
        return sent

    def receive(self) -> list[Message]:
        """Everything that has come, in order; heartbeats are kept back. Never blocks, never raises for what came.

        A `Welcome` is the first message of a new session. A `Reject` without an order id is about a message of ours.
        """
        bodies: list[Message] = []
        while self._socket is not None and len(bodies) < RECEIVE_AT_MOST:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            if len(frames) > MOST_TOGETHER:
                self._cut(f"a message has at most {MOST_TOGETHER} frames, was {len(frames)}")
                break
            session = self._socket
            for data in frames:
                body = self._take(data)
                if self._socket is not session:
                    break  # cut: what came behind it is of no session
                if body is not None and not isinstance(body, Heartbeat):
                    bodies.append(body)
        self.counts["messages_received"] += len(bodies)
        return bodies

    def tick(self, now_ns: int | None = None) -> None:
        """Do what is due: heartbeat, end a mute session, connect again. After `receive`, at least every `wait_ms`."""
        now_ns = self._monotonic_ns() if now_ns is None else now_ns
        if self.state is LinkState.UP:
            try:
                if self._link.check(now_ns):
                    self._beat(now_ns)
            except LinkFault as fault:
                self._cut(str(fault))
            if now_ns - self._up_since_ns > self._timing.backoff_max_ms * NS_PER_MS:
                self._failures = 0
        elif self.state is LinkState.CONNECTING and now_ns >= self._deadline_ns:
            # Said anew rather than left in the queue: a hello that is minutes old says what is no longer so.
            self._connect(now_ns)
        elif self.state is LinkState.WAITING and now_ns >= self._retry_ns:
            self._connect(now_ns)

    def restart(self, reason: str) -> None:
        """End the session and say hello again at once."""
        if self.state is not LinkState.CLOSED:
            self.cut_reason = reason
            self._connect(self._monotonic_ns())

    def close(self) -> None:
        """End it for good. What was sent and is still on its way may be lost."""
        self._drop_socket()
        self.state = LinkState.CLOSED

    def _take(self, data: bytes) -> Message | None:
        if self.state is LinkState.CONNECTING:
            return self._take_first(data)
        try:
            body = self._link.receive(data, self._monotonic_ns())
        except MessageError:
            self.counts["bad_messages"] += 1
            return None
        except LinkFault as fault:
            refusal = _unnumbered_welcome(data)
            self._cut(str(fault) if refusal is None else f"refused: {refusal.text}", refusal)
            return None
        if isinstance(body, Welcome):
            self._cut(f"refused: {body.text}", body)
            return None
        return body

    def _take_first(self, data: bytes) -> Message | None:
        now_ns = self._monotonic_ns()
        refusal = _unnumbered_welcome(data)
        if refusal is not None:
            self._cut(f"refused: {refusal.text}", refusal)
            return None
        try:
            body = self._link.receive(data, now_ns)
        except MessageError as error:
            self.counts["bad_messages"] += 1
            self._cut(str(error))
            return None
        except LinkFault:
            unnumbered = _unnumbered(data)
            if isinstance(unnumbered, Reject):
                # The server could not read the hello, such as one of another version: its text says what to do.
                return unnumbered
            self._cut(_version_fault(data) or "the first message was no welcome")
            return None
        if not isinstance(body, Welcome) or not body.accepted:
            self._cut("the first message was no welcome")
            return None
        self.state = LinkState.UP
        self.refusal = None
        self.counts["links"] += 1
        self._up_since_ns = now_ns
        self._beat(now_ns)  # so that the gateway knows about the platform without waiting
        return body

    def _beat(self, now_ns: int) -> None:
        self._put(self._link.frame_heartbeat(now_ns, self._utc_ns(), self.platform_up, self.last_data_ns))

    def _put(self, *frames: bytes) -> bool:
        assert self._socket is not None
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            self.counts["overflows"] += 1
            self._cut(f"the queue to the gateway is full ({self._queue_messages} messages)")
            return False
        return True

    def _connect(self, now_ns: int) -> None:
        self._drop_socket()
        self._socket = make_client_socket(self._endpoint, self._queue_messages, self._keys)
        self._link = Link(self.hello.name, self._timing, now_ns)
        self.state = LinkState.CONNECTING
        self._deadline_ns = now_ns + self._timing.welcome_within_ms * NS_PER_MS
        self._put(self._link.frame(self.hello, now_ns, self._utc_ns()))

    def _cut(self, reason: str, refusal: Welcome | None = None) -> None:
        self._drop_socket()
        self.counts["cuts" if self.state is LinkState.UP else "refusals"] += 1
        self.refusal = refusal
        self.cut_reason = reason
        self.state = LinkState.WAITING
        pause_ms = min(self._timing.backoff_first_ms << min(self._failures, 20), self._timing.backoff_max_ms)
        self._failures += 1
        # Jitter, so that six adapters do not knock in step.
        self._retry_ns = self._monotonic_ns() + int(pause_ms * NS_PER_MS * (1 - self._random_fraction() / 2))

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None


def _version_fault(data: bytes) -> str:
    """Which versions meet when the server's answer is of another one; empty when that is not the trouble."""
    try:
        decode(data)
    except MessageError as error:
        return f"the gateway is of another version: {error}" if error.code is RejectCode.WRONG_VERSION else ""
    return ""


def _unnumbered(data: bytes) -> Message | None:
    """A message outside any session, which has number 0: the server's word to somebody it has no session with."""
    try:
        envelope: Envelope = decode(data)
    except MessageError:
        return None
    return envelope.body if envelope.seq == 0 else None


def _unnumbered_welcome(data: bytes) -> Welcome | None:
    body = _unnumbered(data)
    return body if isinstance(body, Welcome) and not body.accepted else None
