"""The connecting end of a link: an adapter, NEXUS or an operator's command. One thread owns a client.

    client = LinkClient(endpoint, hello, keys_folder)
    while running:
        poll client.socket (it may be None) and others, at most client.wait_ms() milliseconds
        for body in client.receive():      # all messages that have arrived; never blocks
            if isinstance(body, Welcome):  # a new session: messages in flight on the old one are lost, start afresh
                ...
        client.tick()                      # heartbeats, unresponsive links, back-off and reconnect; after receive
        client.send(order_update)          # False: no session, and nothing was sent
    client.close()

`client.state` is connecting, up, waiting (before the next attempt) or closed. `socket` is another object in each
session, so read it in each turn.

No message is sent twice, and none is kept for the next session. Messages that a session lost are made up for by the
snapshot (adapter), or by sending the same signal id again (NEXUS), which the gateway never executes twice.
"""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from ...shm.durations import NS_PER_MS
from ..errors import ConfigError
from ..messages import Envelope, Heartbeat, Hello, Message, MessageError, Reject, RejectCode, Welcome, decode
from .keys import read_client_keys
from .link import MAX_ENVELOPES_PER_MESSAGE, Link, LinkFault, LinkTiming
from .sockets import ClientSocket

_MAX_RECEIVED = 1_000
_PROOF_CHECK_MS = 50
_COUNTERS = (
    "links",
    "cuts",
    "refusals",
    "unproven",
    "bad_messages",
    "overflows",
    "messages_sent",
    "messages_received",
)


class LinkState(enum.StrEnum):
    """State of a client."""

    CONNECTING = "connecting"
    UP = "up"
    WAITING = "waiting"
    CLOSED = "closed"


class LinkClient:
    """A DEALER socket with a `Link` on it, both replaced for each session. See the module for its use.

    Attributes:
        hello: opens the next session; replace it and call `restart` when it has changed.
        platform_up, last_data_ns: set by an adapter, sent with the next heartbeat.
        refusal: the newest welcome that refused us, with code and text; None since a session was opened.
        counts: links, cuts, refusals, unproven, bad_messages, overflows, messages_sent, messages_received. `unproven`:
            handshakes in which this end or the other one did not prove its key.
        cut_reason: why the last session ended.
    """

    def __init__(
        self,
        endpoint: str,
        hello: Hello,
        keys_folder: Path,
        timing: LinkTiming | None = None,
        *,
        queue_messages: int = 4_096,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        """Start to connect in the background; the gateway need not run yet.

        Args:
            keys_folder: of this client's role (`keys.py`), read at each connect. While it cannot be read, for example
                since the gateway has never run, the client waits and tries again; `cut_reason` says why, as it does
                when the endpoint is not valid.
        """
        self.hello = hello
        self.platform_up = True
        self.last_data_ns = 0
        self.refusal: Welcome | None = None
        self.cut_reason = ""
        self.state = LinkState.CONNECTING
        self.counts = dict.fromkeys(_COUNTERS, 0)
        self._endpoint = endpoint
        self._timing = timing or LinkTiming()
        self._keys_folder = keys_folder
        self._queue_messages = queue_messages
        self._monotonic_ns = monotonic_ns
        self._utc_ns = utc_ns
        self._random_fraction = random_fraction
        self._failures = 0
        self._retry_ns = 0
        self._deadline_ns = 0
        self._up_since_ns = 0
        self._socket: ClientSocket | None = None
        self._link = Link(hello.name, self._timing, monotonic_ns())
        self._connect(monotonic_ns())

    @property
    def socket(self) -> zmq.Socket[bytes] | None:
        """Socket to poll for reading with a `zmq.Poller`; None while waiting for the next attempt."""
        return None if self._socket is None else self._socket.socket

    @property
    def is_up(self) -> bool:
        """Whether a session is open."""
        return self.state is LinkState.UP

    def wait_ms(self, now_ns: int | None = None) -> int:
        """Milliseconds until `tick` is needed."""
        now_ns = self._monotonic_ns() if now_ns is None else now_ns
        due_ns = {LinkState.UP: self._link.due_ns, LinkState.CONNECTING: self._deadline_ns}.get(
            self.state, self._retry_ns
        )
        wait_ms = max(0, -((now_ns - due_ns) // NS_PER_MS))
        # A handshake that fails makes no socket readable: look for it regularly.
        return min(wait_ms, _PROOF_CHECK_MS) if self.state is LinkState.CONNECTING else wait_ms

    def send(self, *bodies: Message) -> bool:
        """Queue messages for the gateway, at most `MAX_ENVELOPES_PER_MESSAGE`; they arrive together.

        Returns:
            False when there is no session: nothing was sent. A full queue ends the session, so that no message is
            dropped from the middle of it.
        """
        if not self.is_up:
            return False
        now_ns, utc_ns = self._monotonic_ns(), self._utc_ns()
        sent = self._send_frames(*(self._link.frame(body, now_ns, utc_ns) for body in bodies))
        self.counts["messages_sent"] += sent * len(bodies)
        return sent

    def receive(self) -> list[Message]:
        """Return the messages that have arrived, in order, without heartbeats. Never blocks; no content makes it raise.

        A `Welcome` is the first message of a new session. A `Reject` without an order id answers a message of ours that
        the gateway could not read.
        """
        bodies: list[Message] = []
        while self._socket is not None and len(bodies) < _MAX_RECEIVED:
            try:
                frames = self._socket.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            if len(frames) > MAX_ENVELOPES_PER_MESSAGE:
                self._cut(f"a message has at most {MAX_ENVELOPES_PER_MESSAGE} frames, was {len(frames)}")
                break
            session = self._socket
            for data in frames:
                body = self._handle_frame(data)
                if self._socket is not session:
                    break  # cut meanwhile: the frames behind it belong to no session
                if body is not None and not isinstance(body, Heartbeat):
                    bodies.append(body)
        self.counts["messages_received"] += len(bodies)
        return bodies

    def tick(self, now_ns: int | None = None) -> None:
        """Send a due heartbeat, end an unresponsive session, reconnect. Call it after `receive`."""
        now_ns = self._monotonic_ns() if now_ns is None else now_ns
        match self.state:
            case LinkState.UP:
                try:
                    if self._link.check(now_ns):
                        self._send_heartbeat(now_ns)
                except LinkFault as fault:
                    self._cut(str(fault))
                # Only a session that lasts resets the back-off: a gateway that accepts and cuts at once must not be
                # tried ten times a second.
                if now_ns - self._up_since_ns > self._timing.backoff_max_ms * NS_PER_MS:
                    self._failures = 0
            case LinkState.CONNECTING:
                assert self._socket is not None
                if unproven := self._socket.pop_fault():
                    self.counts["unproven"] += 1
                    self._cut(unproven)
                elif now_ns >= self._deadline_ns:
                    # A new socket and a new hello, since the old one may have waited in the queue for minutes: its
                    # instruments and account may have changed since.
                    self._connect(now_ns)
            case LinkState.WAITING if now_ns >= self._retry_ns:
                self._connect(now_ns)
            case _:
                pass

    def restart(self, reason: str) -> None:
        """End the session and open the next one at once, with the present `hello`."""
        if self.state is not LinkState.CLOSED:
            self.cut_reason = reason
            self._connect(self._monotonic_ns())

    def close(self) -> None:
        """Close for good. Messages that have not left yet may be lost."""
        self._drop_socket()
        self.state = LinkState.CLOSED

    def _handle_frame(self, data: bytes) -> Message | None:
        if self.state is LinkState.CONNECTING:
            return self._handle_first_frame(data)
        try:
            body = self._link.receive(data, self._monotonic_ns())
        except MessageError:
            self.counts["bad_messages"] += 1
            return None
        except LinkFault as fault:
            # Number 0 is no gap but the gateway's farewell: it has ended the session, and says why.
            refusal = _unnumbered_welcome(data)
            self._cut(str(fault) if refusal is None else f"refused: {refusal.text}", refusal)
            return None
        if isinstance(body, Welcome):
            self._cut(f"refused: {body.text}", body)
            return None
        return body

    def _handle_first_frame(self, data: bytes) -> Message | None:
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
                # The gateway could not read the hello, for example one of another version. The state stays as it is:
                # the caller shows the text, and the hello is repeated after its time-out.
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
        self._send_heartbeat(now_ns)  # at once: the gateway trades on a platform only after a heartbeat says it is up
        return body

    def _send_heartbeat(self, now_ns: int) -> None:
        self._send_frames(self._link.frame_heartbeat(now_ns, self._utc_ns(), self.platform_up, self.last_data_ns))

    def _send_frames(self, *frames: bytes) -> bool:
        assert self._socket is not None
        try:
            self._socket.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            self.counts["overflows"] += 1
            self._cut(f"the queue to the gateway is full ({self._queue_messages} messages)")
            return False
        return True

    def _connect(self, now_ns: int) -> None:
        self._drop_socket()
        try:
            self._socket = ClientSocket(self._endpoint, self._queue_messages, read_client_keys(self._keys_folder))
        except ConfigError as error:
            self._cut(str(error))
            return
        self._link = Link(self.hello.name, self._timing, now_ns)
        self.state = LinkState.CONNECTING
        self._deadline_ns = now_ns + self._timing.welcome_within_ms * NS_PER_MS
        self._send_frames(self._link.frame(self.hello, now_ns, self._utc_ns()))

    def _cut(self, reason: str, refusal: Welcome | None = None) -> None:
        self._drop_socket()
        self.counts["cuts" if self.state is LinkState.UP else "refusals"] += 1
        self.refusal = refusal
        self.cut_reason = reason
        self.state = LinkState.WAITING
        pause_ms = min(self._timing.backoff_first_ms << min(self._failures, 20), self._timing.backoff_max_ms)
        self._failures += 1
        # Jitter, so that six adapters do not reconnect all at the same moment.
        self._retry_ns = self._monotonic_ns() + int(pause_ms * NS_PER_MS * (1 - self._random_fraction() / 2))

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _version_fault(data: bytes) -> str:
    """Return the version mismatch in an answer that cannot be decoded; empty when it has another fault."""
    try:
        decode(data)
    except MessageError as error:
        return f"the gateway is of another version: {error}" if error.code is RejectCode.WRONG_VERSION else ""
    return ""


def _unnumbered(data: bytes) -> Message | None:
    """Return the body of a message outside any session (number 0), which the gateway sends to peers without one."""
    try:
        envelope: Envelope = decode(data)
    except MessageError:
        return None
    return envelope.body if envelope.seq == 0 else None


def _unnumbered_welcome(data: bytes) -> Welcome | None:
    body = _unnumbered(data)
    return body if isinstance(body, Welcome) and not body.accepted else None
