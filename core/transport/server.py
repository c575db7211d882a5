"""The bound end of many links: the gateway's port for adapters, and the one for NEXUS and operators.

    server = LinkServer(socket, settings, greet)
    while running:
        wait on server.socket, at most server.wait_ms() milliseconds
        for event in server.receive():     # PeerUp, PeerSaid, PeerDown, in the order in which they happened
            ...
        for event in server.tick():        # PeerDown of mute peers
            ...
        server.send(peer, body)            # False: no such peer any more

Whatever comes in on the port, `receive` does not raise: it is counted, and answered when there is somebody to answer.
A peer without a session has no state here, so a thousand strangers cost a thousand sockets and nothing else.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Sequence

import zmq
from msgspec import Struct, structs

from ...shm.durations import NS_PER_MS
from ..messages import (
    Envelope,
    Heartbeat,
    Hello,
    KillLevel,
    Message,
    MessageError,
    Reject,
    RejectCode,
    Role,
    Welcome,
    decode,
    encode,
)
from .link import MOST_TOGETHER, Link, LinkFault, LinkTiming, glimpse
from .sockets import FailedHandshakes

_FAREWELL_MS = 100
_LOOK_NS = 200_000_000
"""Between two looks at failed handshakes: an empty one costs as much as a message."""
COUNTERS = (
    "links_opened",
    "links_cut",
    "links_refused",
    "bad_messages",
    "wrong_versions",
    "giant_messages",
    "stranger_messages",
    "handshakes_failed",
    "overflows",
    "messages_received",
    "messages_sent",
)


class ServerSettings(Struct, frozen=True, kw_only=True):
    """`sender`: this side's name in envelopes. `token`: what a hello must carry; empty = anything."""

    sender: str
    boot_id: str
    roles: tuple[Role, ...]
    token: str
    timing: LinkTiming = LinkTiming()
    max_peers: int = 256

    def __repr__(self) -> str:
        return f"ServerSettings(sender={self.sender!r}, roles={self.roles})"


class PeerUp(Struct, frozen=True):
    """A hello was accepted and answered. An older session of the same `peer` has ended before."""

    peer: str
    hello: Hello


class PeerSaid(Struct, frozen=True):
    """A message of a peer. Of heartbeats only those of an adapter that say something new about its platform."""

    peer: str
    hello: Hello
    body: Message


class PeerDown(Struct, frozen=True):
    """A session has ended: mute, cut, replaced, gone."""

    peer: str
    hello: Hello
    reason: str


LinkEvent = PeerUp | PeerSaid | PeerDown


class _Session:
    __slots__ = ("hello", "link", "peer", "platform_up", "routing_id")

    def __init__(self, routing_id: bytes, peer: str, hello: Hello, link: Link) -> None:
        self.routing_id = routing_id
        self.peer = peer
        self.hello = hello
        self.link = link
        self.platform_up = False


def peer_of(hello: Hello) -> str:
    """The name under which the gateway knows a peer: an adapter by its account, others by role and name.

    The same after each of its restarts, so that a report finds the NEXUS that sent the signal.
    """
    if hello.role is Role.ADAPTER:
        return f"{hello.platform}|{hello.account}"
    return f"{hello.role.value}|{hello.name}"


class LinkServer:
    """A ROUTER and the sessions on it. One thread owns it.

    Attributes:
        counts: see `COUNTERS`.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        settings: ServerSettings,
        greet: Callable[[Hello], Welcome],
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`greet` answers a hello whose role and token are right; it may still refuse it."""
        self.socket = socket
        self.counts = dict.fromkeys(COUNTERS, 0)
        self._failed_handshakes = FailedHandshakes(socket)
        self._look_ns = 0
        self._settings = settings
        self._greet = greet
        self._monotonic_ns = monotonic_ns
        self._utc_ns = utc_ns
        self._by_id: dict[bytes, _Session] = {}
        self._by_peer: dict[str, _Session] = {}
        self._events: list[LinkEvent] = []

    @property
    def peers(self) -> Sequence[str]:
        """Names of the peers that have a session."""
        return tuple(self._by_peer)

    def wait_ms(self) -> int:
        """How long one may wait before `tick` is needed, ms; at most a heartbeat."""
        due_ns = min((s.link.due_ns for s in self._by_id.values()), default=None)
        if self._events:
            return 0
        if due_ns is None:
            return self._settings.timing.heartbeat_ms
        return max(0, -((self._monotonic_ns() - due_ns) // NS_PER_MS))

    def receive(self, at_most: int = 256) -> list[LinkEvent]:
        """What has come, about so many messages, fairly from all peers. Never blocks, never raises for what came."""
        taken = 0
        while taken < at_most:
            try:
                routing_id, *frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._take(routing_id, frames)
            taken += max(1, len(frames))
        return self._take_events()

    def tick(self) -> list[LinkEvent]:
        """Heartbeats out, mute peers down. Call it after `receive` has emptied the socket, at least each `wait_ms`."""
        now_ns = self._monotonic_ns()
        if now_ns >= self._look_ns:
            self._look_ns = now_ns + _LOOK_NS
            self.counts["handshakes_failed"] += self._failed_handshakes.take()
        for session in list(self._by_id.values()):
            try:
                if session.link.check(now_ns):
                    self._put(session, session.link.frame_heartbeat(now_ns, self._utc_ns()))
            except LinkFault as fault:
                self._cut(session, str(fault), fault.code)
        return self._take_events()

    def send(self, peer: str, *bodies: Message) -> bool:
        """Hand messages to a peer's queue, at most `MOST_TOGETHER`; they arrive together.

        False when it has no session; a full queue cuts the link, as nothing may be dropped in silence. Its `PeerDown`
        comes with the next `receive` or `tick`.
        """
        session = self._by_peer.get(peer)
        if session is None:
            return False
        now_ns, utc_ns = self._monotonic_ns(), self._utc_ns()
        sent = self._put(session, *(session.link.frame(body, now_ns, utc_ns) for body in bodies))
        self.counts["messages_sent"] += sent * len(bodies)
        return sent

    def cut(self, peer: str, reason: str, code: RejectCode = RejectCode.NOT_ALLOWED) -> None:
        """End a peer's session and tell it why. Nothing happens when it has none."""
        session = self._by_peer.get(peer)
        if session is not None:
            self._cut(session, reason, code)

    def close(self) -> None:
        """Tell all peers and close the socket."""
        for session in list(self._by_id.values()):
            self._cut(session, "the gateway stops", RejectCode.LINK_DOWN)
        self._failed_handshakes.close()
        self.socket.close(_FAREWELL_MS)

    def _take_events(self) -> list[LinkEvent]:
        events, self._events = self._events, []
        return events

    def _take(self, routing_id: bytes, frames: list[bytes]) -> None:
        session = self._by_id.get(routing_id)
        most = 1 if session is None else MOST_TOGETHER
        if not 1 <= len(frames) <= most:
            self.counts["bad_messages"] += 1
            text = f"a message has 1 to {most} frames here, was {len(frames)}; send an envelope a frame"
            if session is not None:
                self._cut(session, text, RejectCode.MALFORMED)
            else:
                self._answer(routing_id, Reject(code=RejectCode.MALFORMED, text=text))
        elif session is None:
            self._take_stranger(routing_id, frames[0])
        else:
            for data in frames:
                if self._by_id.get(routing_id) is not session:
                    break  # cut: what came behind it is of no session
                self._take_message(session, data)

    def _take_message(self, session: _Session, data: bytes) -> None:
        try:
            body = session.link.receive(data, self._monotonic_ns())
        except MessageError as error:
            self._count_bad(error)
            seen = glimpse(data).body
            reject = Reject(
                code=error.code,
                text=str(error)[:512],
                signal_id=seen.signal_id[:64],
                client_order_id=seen.client_order_id[:64],
            )
            self.send(session.peer, reject)
            return
        except LinkFault as fault:
            self._cut(session, str(fault), fault.code)
            return
        self.counts["messages_received"] += 1
        if isinstance(body, Heartbeat):
            if session.hello.role is not Role.ADAPTER or body.platform_up == session.platform_up:
                return
            session.platform_up = body.platform_up
        self._events.append(PeerSaid(session.peer, session.hello, body))

    def _take_stranger(self, routing_id: bytes, data: bytes) -> None:
        try:
            envelope = decode(data)
        except MessageError as error:
            self._count_bad(error)
            self._answer(routing_id, Reject(code=error.code, text=str(error)[:512]))
            return
        hello = envelope.body
        if not isinstance(hello, Hello) or envelope.seq != 1:
            self.counts["stranger_messages"] += 1
            self._refuse(routing_id, RejectCode.NOT_ALLOWED, "there is no session on this link; say hello first")
            return
        welcome = self._judge(hello)
        if not welcome.accepted:
            self._refuse(routing_id, welcome.code, welcome.text, welcome)
            return
        hello = structs.replace(hello, token="")  # it goes into the journal and its exports
        peer = peer_of(hello)
        older = self._by_peer.get(peer)
        if older is not None:
            self._cut(older, "another link has taken its place", RejectCode.NOT_ALLOWED)
        link = Link(self._settings.sender, self._settings.timing, self._monotonic_ns())
        link.receive(data, self._monotonic_ns())
        session = _Session(routing_id, peer, hello, link)
        self._by_id[routing_id] = self._by_peer[peer] = session
        self.counts["links_opened"] += 1
        self._events.append(PeerUp(peer, hello))
        self._put(session, link.frame(welcome, self._monotonic_ns(), self._utc_ns()))

    def _judge(self, hello: Hello) -> Welcome:
        settings = self._settings
        if settings.token and not hmac.compare_digest(hello.token.encode(), settings.token.encode()):
            return self._no(RejectCode.NOT_ALLOWED, "the token is wrong; both sides read it from the same token file")
        if hello.role not in settings.roles:
            allowed = ", ".join(settings.roles)
            return self._no(RejectCode.NOT_ALLOWED, f"role was {hello.role.value}, this port is for {allowed}")
        if len(self._by_peer) >= settings.max_peers and peer_of(hello) not in self._by_peer:
            return self._no(RejectCode.NOT_ALLOWED, f"{len(self._by_peer)} peers are connected, allowed are no more")
        return self._greet(hello)

    def _no(self, code: RejectCode, text: str) -> Welcome:
        return Welcome(
            accepted=False,
            gateway_boot_id=self._settings.boot_id,
            stage=0,
            kill_level=KillLevel.NORMAL,
            heartbeat_ms=self._settings.timing.heartbeat_ms,
            code=code,
            text=text[:512],
        )

    def _refuse(self, routing_id: bytes, code: RejectCode, text: str, welcome: Welcome | None = None) -> None:
        self.counts["links_refused"] += 1
        self._answer(routing_id, welcome or self._no(code, text))

    def _answer(self, routing_id: bytes, body: Message) -> None:
        """A word to somebody without a session: number 0, and no matter whether it arrives."""
        envelope = Envelope(sender=self._settings.sender, seq=0, body=body, sent_ns=self._utc_ns())
        try:
            self.socket.send_multipart((routing_id, encode(envelope)), zmq.NOBLOCK)
        except zmq.ZMQError:
            pass  # gone, or it does not read: a stranger is owed nothing

    def _put(self, session: _Session, *frames: bytes) -> bool:
        try:
            self.socket.send_multipart((session.routing_id, *frames), zmq.NOBLOCK)
        except zmq.Again:
            self.counts["overflows"] += 1
            self._cut(session, "its queue is full: the peer does not read", RejectCode.LINK_DOWN)
            return False
        except zmq.ZMQError as error:
            self._cut(session, f"the connection is gone: {zmq.strerror(error.errno or 0)}", RejectCode.LINK_DOWN)
            return False
        return True

    def _cut(self, session: _Session, reason: str, code: RejectCode) -> None:
        if self._by_id.pop(session.routing_id, None) is None:
            return
        if self._by_peer.get(session.peer) is session:
            del self._by_peer[session.peer]
        self.counts["links_cut"] += 1
        self._events.append(PeerDown(session.peer, session.hello, reason))
        self._answer(session.routing_id, self._no(code, reason))

    def _count_bad(self, error: MessageError) -> None:
        kind = {RejectCode.WRONG_VERSION: "wrong_versions", RejectCode.TOO_LARGE: "giant_messages"}
        self.counts[kind.get(error.code, "bad_messages")] += 1
