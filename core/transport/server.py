"""The bound end of many links: the gateway's port for adapters, and the one for NEXUS and operators.

    server = LinkServer(listener, settings, greet)
    while running:
        server.listener.collect(server.wait_ms() / 1000)
        for event in server.receive():     # PeerUp, PeerMessage, PeerDown, in the order in which they happened
            ...
        for event in server.tick():        # PeerDown of unresponsive peers
            ...
        server.send(peer, body)            # False: no such peer any more

No bytes from the network make `receive` raise: bad ones are counted, and answered if possible. Only what a connection
has proved reaches this file (`listener.py`): the key says which role and platform its hello may name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

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
from .keys import Proof
from .link import MAX_ENVELOPES_PER_MESSAGE, Link, LinkFault, peek_ids
from .listener import Listener
from .peers import (
    LINK_COUNTERS,
    OPERATOR_PLACES,
    Closed,
    LinkEvent,
    PeerDown,
    PeerMessage,
    PeerUp,
    QueueFullError,
    Received,
    ServerSettings,
    peer_of,
)

_LINGER_MS = 100
"""Given at the end to the farewells that are still in the queues."""


class _Session:
    __slots__ = ("connection", "hello", "key", "link", "peer", "platform_up")

    def __init__(self, connection: int, peer: str, key: str, hello: Hello, link: Link) -> None:
        self.connection = connection
        self.peer = peer
        self.key = key
        self.hello = hello
        self.link = link
        self.platform_up = False


class LinkServer:
    """A listener and the sessions on it. One thread owns it.

    Attributes:
        listener: the connections of this port.
        counts: see `LINK_COUNTERS`; those of the connections are the listener's.
    """

    def __init__(
        self,
        listener: Listener,
        settings: ServerSettings,
        greet: Callable[[Hello], Welcome],
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`greet` answers a hello whose role the key has proved; it may still refuse it."""
        self.listener = listener
        self.counts = dict.fromkeys(LINK_COUNTERS, 0)
        self._settings = settings
        self._greet = greet
        self._monotonic_ns = monotonic_ns
        self._utc_ns = utc_ns
        self._by_id: dict[int, _Session] = {}
        self._by_peer: dict[str, _Session] = {}
        self._events: list[LinkEvent] = []

    @property
    def peers(self) -> Sequence[str]:
        """Names of the peers that have a session."""
        return tuple(self._by_peer)

    def wait_ms(self) -> int:
        """Milliseconds until `tick` is needed; at most a heartbeat."""
        due_ns = min((s.link.due_ns for s in self._by_id.values()), default=None)
        if self._events or self.listener.has_work:
            return 0
        if due_ns is None:
            return self._settings.timing.heartbeat_ms
        return max(0, -((self._monotonic_ns() - due_ns) // NS_PER_MS))

    def receive(self, at_most: int = 256) -> list[LinkEvent]:
        """Return events of about `at_most` messages, fairly from all peers. Never blocks, never raises for bad ones."""
        self._take(self.listener.receive(at_most))
        return self._pop_events()

    def tick(self) -> list[LinkEvent]:
        """Send due heartbeats, cut unresponsive peers. Call it after `receive`, at least each `wait_ms`.

        After, since messages that still wait in the socket would count as their peer's silence.
        """
        now_ns = self._monotonic_ns()
        self._take(self.listener.tick())
        self.listener.drop_idle(self._by_id)
        for session in list(self._by_id.values()):
            try:
                if session.link.check(now_ns):
                    self._send_frames(session, session.link.frame_heartbeat(now_ns, self._utc_ns()))
            except LinkFault as fault:
                self._cut(session, str(fault), fault.code)
        return self._pop_events()

    def send_heartbeats(self) -> None:
        """Send due heartbeats and judge nobody: for a caller that cannot handle events now. Call `receive` as well,
        since a peer that gets no acknowledgement takes this end for dead.
        """
        now_ns = self._monotonic_ns()
        for session in list(self._by_id.values()):
            if now_ns >= session.link.due_ns:
                self._send_frames(session, session.link.frame_heartbeat(now_ns, self._utc_ns()))

    def send(self, peer: str, *bodies: Message) -> bool:
        """Queue messages for a peer, at most `MAX_ENVELOPES_PER_MESSAGE`; they arrive together.

        Returns:
            False when the peer has no session. A full queue ends the session, so that no message is dropped from the
            middle of it; its `PeerDown` comes with the next `receive` or `tick`.
        """
        session = self._by_peer.get(peer)
        if session is None:
            return False
        now_ns, utc_ns = self._monotonic_ns(), self._utc_ns()
        sent = self._send_frames(session, *(session.link.frame(body, now_ns, utc_ns) for body in bodies))
        self.counts["messages_sent"] += sent * len(bodies)
        return sent

    def cut(self, peer: str, reason: str, code: RejectCode = RejectCode.NOT_ALLOWED) -> None:
        """End a peer's session and send it the reason. Does nothing when the peer has no session."""
        session = self._by_peer.get(peer)
        if session is not None:
            self._cut(session, reason, code)

    def close(self) -> None:
        """End all sessions, with a farewell to each peer, and close the port."""
        for session in list(self._by_id.values()):
            self._cut(session, "the gateway stops", RejectCode.LINK_DOWN)
        self.listener.close(_LINGER_MS)

    def _pop_events(self) -> list[LinkEvent]:
        events, self._events = self._events, []
        return events

    def _take(self, found: Sequence[Received | Closed]) -> None:
        for each in found:
            if isinstance(each, Received):
                self._handle_frames(each.connection, each.proof, each.frames)
            elif (session := self._by_id.get(each.connection)) is not None:
                self._cut(session, each.reason, RejectCode.LINK_DOWN)

    def _handle_frames(self, connection: int, proof: Proof, frames: list[bytes]) -> None:
        session = self._by_id.get(connection)
        # One frame only from a peer without a session: a crowd of them must not make the gateway decode much.
        most = 1 if session is None else MAX_ENVELOPES_PER_MESSAGE
        if not 1 <= len(frames) <= most:
            self.counts["bad_messages"] += 1
            text = f"a message has 1 to {most} frames here, was {len(frames)}; send an envelope a frame"
            if session is not None:
                self._cut(session, text, RejectCode.MALFORMED)
            else:
                self._send_unnumbered(connection, Reject(code=RejectCode.MALFORMED, text=text))
        elif session is None:
            self._handle_hello(connection, proof, frames[0])
        else:
            for data in frames:
                if self._by_id.get(connection) is not session:
                    break  # cut meanwhile: the frames behind it belong to no session
                self._handle_message(session, data)

    def _handle_message(self, session: _Session, data: bytes) -> None:
        try:
            body = session.link.receive(data, self._monotonic_ns())
        except MessageError as error:
            # Its number was the expected one, so nothing was lost: refuse this message alone and keep the session.
            # Cutting it would make one faulty message of NEXUS end its reports as well.
            self._count_bad(error)
            ids = peek_ids(data).body
            reject = Reject(
                code=error.code,
                text=str(error)[:512],
                signal_id=ids.signal_id[:64],
                client_order_id=ids.client_order_id[:64],
            )
            self.send(session.peer, reject)
            return
        except LinkFault as fault:
            self._cut(session, str(fault), fault.code)
            return
        self.counts["messages_received"] += 1
        if isinstance(body, Heartbeat):
            if session.hello.role is not Role.ADAPTER or body.platform_up == session.platform_up:
                return  # it only keeps the session alive
            session.platform_up = body.platform_up
        self._events.append(PeerMessage(session.peer, session.hello, body, session.key))

    def _handle_hello(self, connection: int, proof: Proof, data: bytes) -> None:
        """Open a session for a peer that has none. Its first message has to be a hello with number 1."""
        try:
            envelope = decode(data)
        except MessageError as error:
            self._count_bad(error)
            self._send_unnumbered(connection, Reject(code=error.code, text=str(error)[:512]))
            return
        hello = envelope.body
        if not isinstance(hello, Hello) or envelope.seq != 1:
            self.counts["stranger_messages"] += 1
            text = "there is no session on this link (a gateway that has restarted knows none); say hello first"
            self._refuse(connection, RejectCode.NOT_ALLOWED, text)
            return
        if envelope.last_seq_received:
            text = f"last_seq_received was {envelope.last_seq_received} in a hello, must be 0: a session begins with it"
            self.counts["stranger_messages"] += 1
            self._refuse(connection, RejectCode.MALFORMED, text)
            return
        welcome = self._check_hello(hello, proof)
        if not welcome.accepted:
            self._refuse(connection, welcome.code, welcome.text, welcome)
            return
        peer = peer_of(hello)
        older = self._by_peer.get(peer)
        if older is not None:
            # The newer one wins: a peer that restarted, or lost its network, connects again long before its old session
            # is found silent. Two live sessions of one account would both send its orders.
            self._cut(older, "another link has taken its place", RejectCode.NOT_ALLOWED)
        link = Link(self._settings.sender, self._settings.timing, self._monotonic_ns())
        link.receive(data, self._monotonic_ns())
        session = _Session(connection, peer, proof.name, hello, link)
        self._by_id[connection] = self._by_peer[peer] = session
        self.counts["links_opened"] += 1
        self._events.append(PeerUp(peer, hello, proof.name))
        self._send_frames(session, link.frame(welcome, self._monotonic_ns(), self._utc_ns()))

    def _check_hello(self, hello: Hello, proof: Proof) -> Welcome:
        settings = self._settings
        if (hello.role, hello.platform) != (proof.role, proof.platform):
            text = (
                f"the hello was of {hello.role.value} {hello.platform}".rstrip()
                + f", its connection has proved the key {proof.name}; connect with the key of that role"
            )
            return self._make_refusal(RejectCode.NOT_ALLOWED, text)
        if hello.role not in settings.roles:
            allowed = ", ".join(settings.roles)
            text = f"role was {hello.role.value}, this port is for {allowed}"
            return self._make_refusal(RejectCode.NOT_ALLOWED, text)
        most = settings.max_peers + (OPERATOR_PLACES if hello.role is Role.ADMIN else 0)
        if len(self._by_peer) >= most and peer_of(hello) not in self._by_peer:
            text = f"{len(self._by_peer)} peers are connected, allowed are no more"
            return self._make_refusal(RejectCode.NOT_ALLOWED, text)
        older = self._by_peer.get(peer_of(hello))
        if older is not None and older.key != proof.name and hello.role is not Role.ADAPTER:
            text = f"the name {hello.name} is in use by key {older.key}; take another one"
            return self._make_refusal(RejectCode.NOT_ALLOWED, text)
        return self._greet(hello)

    def _make_refusal(self, code: RejectCode, text: str) -> Welcome:
        return Welcome(
            accepted=False,
            gateway_boot_id=self._settings.boot_id,
            stage=0,
            kill_level=KillLevel.NORMAL,
            heartbeat_ms=self._settings.timing.heartbeat_ms,
            code=code,
            text=text[:512],
        )

    def _refuse(self, connection: int, code: RejectCode, text: str, welcome: Welcome | None = None) -> None:
        self.counts["links_refused"] += 1
        self._send_unnumbered(connection, welcome or self._make_refusal(code, text))

    def _send_unnumbered(self, connection: int, body: Message) -> None:
        """Best-effort, unnumbered reply to a peer that has no session."""
        envelope = Envelope(sender=self._settings.sender, seq=0, body=body, sent_ns=self._utc_ns())
        try:
            self.listener.send(connection, (encode(envelope),))
        except QueueFullError:
            pass  # it does not read: without a session nothing is lost by that

    def _send_frames(self, session: _Session, *frames: bytes) -> bool:
        try:
            is_queued = self.listener.send(session.connection, frames)
        except QueueFullError:
            self.counts["overflows"] += 1
            self._cut(session, "its queue is full: the peer does not read", RejectCode.LINK_DOWN)
            self.listener.drop(session.connection, "it does not read")  # with all that waits for it
            return False
        if not is_queued:
            self._cut(session, "the connection is gone", RejectCode.LINK_DOWN)
        return is_queued

    def _cut(self, session: _Session, reason: str, code: RejectCode) -> None:
        if self._by_id.pop(session.connection, None) is None:
            return
        if self._by_peer.get(session.peer) is session:
            del self._by_peer[session.peer]
        self.counts["links_cut"] += 1
        self._events.append(PeerDown(session.peer, session.hello, reason))
        self.listener.note_idle(session.connection)
        self._send_unnumbered(session.connection, self._make_refusal(code, reason))

    def _count_bad(self, error: MessageError) -> None:
        kind = {RejectCode.WRONG_VERSION: "wrong_versions", RejectCode.TOO_LARGE: "giant_messages"}
        self.counts[kind.get(error.code, "bad_messages")] += 1
