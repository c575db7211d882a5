"""The gateway's end of ZeroMQ: socket files and TCP ports on which libzmq's DEALER sockets connect.

Not libzmq itself: it accepts without a bound, and keeps a message that is not complete outside of all its limits
(docs/architecture.md). Here a connection that has proved nothing costs one descriptor of `max_unproven` and at most
`MAX_UNPROVEN_BYTES`, and is closed after `handshake_ms`, or when others come; after it each whole message has a bound.
"""

from __future__ import annotations

import errno
import selectors
import time
from collections.abc import Callable, Container, Sequence
from typing import Final

from ...shm.durations import NS_PER_MS
from ..errors import ConfigError
from ..messages import Role
from .connection import Connection, UnknownKeyFault
from .doors import Door, Doors
from .key_ring import KeyRing
from .keys import KeyPair, Proof
from .peer_socket import READ_BYTES, ConnectionGoneError, PeerSocket
from .peers import CONNECTION_COUNTERS, OPERATOR_PLACES, Closed, ListenerSettings, QueueFullError, Received
from .strangers import Strangers
from .zmtp import ProtocolFault

_READ_PER_CONNECTION: Final = 1 << 18
_READ_PER_TURN: Final = 4 << 20  # a flood of large messages must not hold the orders of the others up
_HELD_BYTES: Final = 32 << 20
_ACCEPTS_PER_TURN: Final = 16  # a quarter of `max_unproven`: who comes is read before others take its place
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_ALERT_NS: Final = 10_000_000_000


class Listener:
    """Used by one thread. `receive`, `send` and `close` never block and never raise for what a peer does.

    Attributes:
        counts: see `CONNECTION_COUNTERS`.
        selector: several listeners of one thread share it.
        doors: what is bound.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        own: KeyPair,
        ring: KeyRing,
        settings: ListenerSettings | None = None,
        *,
        selector: selectors.BaseSelector | None = None,
        warn: Callable[[str], None] = lambda text: None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Bind what can be bound; a TCP port that is taken is tried again each second.

        Args:
            endpoints: `ipc://PATH` or `tcp://HOST:PORT`, as `server_endpoints` makes them; port 0 = a free one.
            own: the gateway's keys. `ring`: who may connect.
            warn: called with what a person should know, at most once in ten seconds for each kind.

        Raises:
            ConfigError: an endpoint that can never be bound.
        """
        self.counts = dict.fromkeys(CONNECTION_COUNTERS, 0)
        self.selector = selectors.DefaultSelector() if selector is None else selector
        self._owns_selector = selector is None
        self._own = own
        self._ring = ring
        self._settings = settings or ListenerSettings()
        self._warn_person = warn
        self._warned_ns: dict[str, int] = {}
        self._monotonic_ns = monotonic_ns
        self._peers: dict[int, PeerSocket] = {}
        self._strangers = Strangers(self._settings.max_unproven)
        self._ready: dict[int, PeerSocket] = {}
        self._ready_doors: set[Door] = set()
        self._closed: list[Closed] = []
        self._number = 0
        self._held_bytes = 0
        self.doors = Doors(self.selector, self, self._warn, monotonic_ns)
        try:
            for endpoint in endpoints:
                self.doors.open(endpoint)
        except ConfigError:
            self.close(0)
            raise

    @property
    def has_work(self) -> bool:
        """Whether `receive` has something to do without waiting."""
        return bool(self._ready or self._ready_doors or self._closed)

    def collect(self, timeout_s: float = 0.0) -> None:
        """Wait until a connection of any listener that shares the selector is ready, and note which."""
        if not self.selector.get_map():
            time.sleep(timeout_s)  # Windows does not wait for nothing: all ports are taken
            return
        for key, mask in self.selector.select(timeout_s):
            listener, what = key.data
            listener.note_ready(what, mask)

    def note_ready(self, what: Door | PeerSocket, mask: int) -> None:
        """For `collect` of a listener that shares the selector."""
        if isinstance(what, Door):
            self._ready_doors.add(what)
            return
        if mask & selectors.EVENT_READ:
            self._ready[what.id] = what
        if mask & selectors.EVENT_WRITE:
            self._flush(what)

    def receive(self, at_most: int = 256) -> list[Received | Closed]:
        """Return about `at_most` messages, fairly from all peers, and the connections that have ended, in order."""
        if not self._ready:
            self.collect()
        found: list[Received | Closed] = []
        left_bytes = _READ_PER_TURN
        for peer in list(self._ready.values()):
            if len(found) >= at_most or left_bytes <= 0:
                break
            if peer.id not in self._ready:
                continue  # closed meanwhile, for what another one has sent
            del self._ready[peer.id]  # it is behind all others when it has more
            left_bytes -= self._read(peer, found, at_most)
        found += self._closed
        self._closed.clear()
        while self._ready_doors:
            self._accept(self._ready_doors.pop())
        return found

    def tick(self) -> list[Received | Closed]:
        """Close connections that have proved nothing in time, try ports again that were taken. Call it regularly."""
        now_ns = self._monotonic_ns()
        late_ns = now_ns - self._settings.handshake_ms * NS_PER_MS
        for peer in self._strangers.before(late_ns):
            self.counts["handshakes_failed"] += 1
            self._drop(peer, "nothing was proved in time")
        self.doors.tick(now_ns)
        closed, self._closed = self._closed, []
        return list(closed)

    def send(self, connection: int, frames: tuple[bytes, ...]) -> bool:
        """Queue a message for a peer; False when its connection is gone.

        Raises:
            QueueFullError: nothing was queued.
        """
        peer = self._peers.get(connection)
        if peer is None or peer.connection.proof is None:
            return False
        if peer.is_full(self._settings.queue_messages):
            raise QueueFullError
        peer.queue(peer.connection.encode(frames))
        self._flush(peer)
        return peer.id in self._peers

    def cut_removed(self) -> list[Proof]:
        """Read the allowed keys again; close the connections of those that were taken away; return what they proved.

        Their `Closed` come with the next `receive` or `tick`.
        """
        self._ring.reload()
        allowed = set(self._ring.proofs)
        removed: list[Proof] = []
        for peer in list(self._peers.values()):
            proof = peer.connection.proof
            if proof is not None and proof not in allowed:
                removed.append(proof)
                self._drop(peer, f"key {proof.name} was taken away")
        return removed

    def drop(self, connection: int, reason: str) -> None:
        """Close a connection, if it is still there; no `Closed` follows."""
        peer = self._peers.get(connection)
        if peer is not None:
            self._drop(peer, reason)
            self._closed = [closed for closed in self._closed if closed.connection != connection]

    def note_idle(self, connection: int) -> None:
        """The session on a connection has ended; it may begin another one."""
        peer = self._peers.get(connection)
        if peer is not None:
            peer.since_ns = self._monotonic_ns()

    def drop_idle(self, in_use: Container[int]) -> None:
        """Close the connections that have proved a key and have no session, nor begun one within `handshake_ms`."""
        late_ns = self._monotonic_ns() - self._settings.handshake_ms * NS_PER_MS
        for peer in list(self._peers.values()):
            if peer.since_ns <= late_ns and peer.id not in in_use and peer.id not in self._strangers:
                self.drop(peer.id, "it began no session in time")

    def close(self, linger_ms: int) -> None:
        """Close everything; what is still to be sent gets `linger_ms`."""
        deadline_s = time.monotonic() + linger_ms / 1000
        while any(peer.has_unsent for peer in self._peers.values()) and (left_s := deadline_s - time.monotonic()) > 0:
            for peer in list(self._peers.values()):
                self._flush(peer)
            time.sleep(min(left_s, 0.002))
        for peer in list(self._peers.values()):
            self._drop(peer, "")
        self.doors.close()
        if self._owns_selector:
            self.selector.close()

    def _accept(self, door: Door) -> None:
        has_evicted = False
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                accepted, address = door.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    # A stranger is closed for its descriptor. The port stays readable: without a pause the loop spins.
                    if not has_evicted and self._evict():
                        has_evicted = True
                        continue
                    self.doors.pause()
                    self._warn("descriptors", f"a connection cannot be accepted, next try in 100 ms: {error.strerror}")
                    return
                continue  # this one is gone already
            if self._strangers.is_full:
                self._evict()
            self._number += 1
            connection = Connection(self._own, self._ring.find)
            peer = PeerSocket(self._number, accepted, address, connection, self._monotonic_ns())
            self._peers[peer.id] = peer
            self._strangers.add(peer)
            self.selector.register(accepted, selectors.EVENT_READ, (self, peer))
            peer.queue_own()
            self._flush(peer)

    def _evict(self) -> bool:
        if stranger := self._strangers.choose():
            self.counts["strangers_evicted"] += 1
            self._drop(stranger, "closed for a newer connection")
        return stranger is not None

    def _read(self, peer: PeerSocket, found: list[Received | Closed], at_most: int) -> int:
        """Take in what has arrived, up to a bound. Returns the bytes read."""
        total = 0
        most = READ_BYTES if peer.connection.proof is None else _READ_PER_CONNECTION
        try:
            while total < most and len(found) < at_most:
                data = peer.read()
                if not data and peer.is_broken:
                    raise ConnectionGoneError("the peer takes nothing any more")
                if not data:
                    break
                total += len(data)
                if not self._take(peer, data, found):
                    return total
            else:
                self._ready[peer.id] = peer  # behind all others, since there may be more
        except ConnectionGoneError as gone:
            self._drop(peer, str(gone))
        return total

    def _take(self, peer: PeerSocket, data: bytes, found: list[Received | Closed]) -> bool:
        """Handle what a peer has sent; False when its connection was closed for it."""
        was_proven = peer.connection.proof is not None
        try:
            messages = peer.connection.take(data)
        except ProtocolFault as fault:
            self._end(peer, fault)
            return False
        proof = peer.connection.proof
        if proof is not None:
            if not was_proven and not self._admit(peer, proof):
                return False
            found += [Received(peer.id, proof, frames) for frames in messages]
        self._held_bytes += peer.count_held()
        if peer.connection.out:
            if peer.is_full(self._settings.queue_messages):
                self._end(peer, ProtocolFault("it asks for answers and does not read them"))
                return False
            peer.queue_own()
            self._flush(peer)
        if self._held_bytes > _HELD_BYTES:
            self._bound_held()
        return peer.id in self._peers

    def _admit(self, peer: PeerSocket, proof: Proof) -> bool:
        """Count a connection that has just proved its key; False when there are too many."""
        self._strangers.discard(peer.id)
        peer.since_ns = self._monotonic_ns()
        # A command of the operator finds a place, whatever the others do.
        reserved = OPERATOR_PLACES if proof.role is Role.ADMIN else 0
        if len(self._peers) - len(self._strangers) <= self._settings.max_connections + reserved:
            return True
        self.counts["connections_refused"] += 1
        self._warn(
            "connections", f"{self._settings.max_connections} connections with a proof are open, no more are taken"
        )
        self._drop(peer, "too many connections")
        return False

    def _bound_held(self) -> None:
        """Close the connection that holds most, when all unfinished messages together are beyond their bound."""
        largest = max(self._peers.values(), key=lambda peer: peer.held_bytes)
        self._end(largest, ProtocolFault(f"messages that are not complete hold more than {_HELD_BYTES} bytes"))

    def _end(self, peer: PeerSocket, fault: ProtocolFault) -> None:
        """Close a connection for what its peer has sent."""
        proof = peer.connection.proof
        if isinstance(fault, UnknownKeyFault):
            self.counts["keys_refused"] += 1
            self._warn("key", f"a connection from {peer.address} was refused: {fault}")
        elif proof is None:
            self.counts["handshakes_failed"] += 1
            self._warn("proof", f"a connection from {peer.address} has proved nothing and was closed: {fault}")
        else:
            self._warn("broken", f"the connection of {proof.name} was closed: {fault}")
        peer.queue_own()
        self._flush(peer)
        self._drop(peer, str(fault))

    def _flush(self, peer: PeerSocket) -> None:
        peer.flush()
        if peer.is_broken:
            self._ready[peer.id] = peer  # what it had sent before it went is still to be read
        if peer.has_unsent != peer.is_watched_for_writing:
            peer.is_watched_for_writing = peer.has_unsent
            watched = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.has_unsent else 0)
            self.selector.modify(peer.socket, watched, (self, peer))

    def _drop(self, peer: PeerSocket, reason: str) -> None:
        if self._peers.pop(peer.id, None) is None:
            return
        self._strangers.discard(peer.id)
        self._ready.pop(peer.id, None)
        self._held_bytes -= peer.held_bytes
        self.selector.unregister(peer.socket)
        peer.close()
        if peer.connection.proof is not None:
            self._closed.append(Closed(peer.id, reason))

    def _warn(self, kind: str, text: str) -> None:
        now_ns = self._monotonic_ns()
        if now_ns - self._warned_ns.get(kind, -_ALERT_NS) >= _ALERT_NS:
            self._warned_ns[kind] = now_ns
            self._warn_person(text)
