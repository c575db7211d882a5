"""One accepted socket: what waits to be sent on it, and what has arrived. The listener's thread; never blocks."""

from __future__ import annotations

import ipaddress
import socket
from collections import deque
from typing import Final

from .connection import Connection

READ_BYTES: Final = 1 << 15
_UNSENT_BYTES: Final = 16 << 20


class ConnectionGoneError(Exception):
    """The peer has closed the connection, or it broke; the text says which."""


def network_of(host: str) -> str:
    """What counts as one address: all of this machine's own, and an IPv6 network of 64 bits, whose holder has as many
    addresses as he likes. Other texts stay as they are.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_loopback:
        return "loopback"
    return host if address.version == 4 else str(ipaddress.ip_network(f"{host}/64", strict=False))


class PeerSocket:
    """A socket and the protocol on it.

    Attributes:
        id: names the connection; never used for another one.
        address: where it comes from; `host` without its port.
        since_ns: when it was accepted, has proved its key, or ended its last session, monotonic.
        is_watched_for_writing: set by the listener.
        is_broken: nothing can be sent any more; what has arrived can still be read.
        held_bytes: of messages that are not complete, at the last `count_held`.
    """

    __slots__ = (
        "_unsent",
        "_unsent_bytes",
        "address",
        "connection",
        "held_bytes",
        "host",
        "id",
        "is_broken",
        "is_watched_for_writing",
        "since_ns",
        "socket",
    )

    def __init__(self, number: int, sock: socket.socket, address: str, connection: Connection, now_ns: int) -> None:
        self.id = number
        self.socket = sock
        self.address = address
        self.host = network_of(address.rpartition(":")[0])
        self.connection = connection
        self.since_ns = now_ns
        self.is_watched_for_writing = False
        self.is_broken = False
        self.held_bytes = 0
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0

    @property
    def has_unsent(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._unsent)

    def is_full(self, queue_messages: int) -> bool:
        """Whether so much waits to be sent that nothing more is taken."""
        return len(self._unsent) >= queue_messages or self._unsent_bytes > _UNSENT_BYTES

    def queue(self, data: bytes) -> None:
        """Add to what waits to be sent; `flush` sends it."""
        if self.is_broken:
            return
        self._unsent.append(memoryview(data))
        self._unsent_bytes += len(data)

    def queue_own(self) -> None:
        """Queue what the protocol itself has to say: handshake, answers to pings."""
        if self.connection.out:
            self.queue(bytes(self.connection.out))
            self.connection.out.clear()

    def count_held(self) -> int:
        """Bring `held_bytes` up to date; returns by how much it has changed."""
        before, self.held_bytes = self.held_bytes, self.connection.held_bytes
        return self.held_bytes - before

    def flush(self) -> None:
        """Send what can be sent now; a connection that takes nothing any more is broken, and forgets what waits."""
        while self._unsent:
            first = self._unsent[0]
            try:
                count = self.socket.send(first)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self.is_broken = True
                self._unsent.clear()
                self._unsent_bytes = 0
                return
            self._unsent_bytes -= count
            if count == len(first):
                self._unsent.popleft()
            else:
                self._unsent[0] = first[count:]

    def read(self) -> bytes:
        """What has arrived, at most `READ_BYTES`; empty = nothing now. Raises ConnectionGoneError."""
        try:
            data = self.socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            raise ConnectionGoneError(f"the connection is gone: {error.strerror}") from error
        if not data:
            raise ConnectionGoneError("the peer has closed the connection")
        return data

    def close(self) -> None:
        """Close it; what waits is dropped."""
        self.socket.close()
        self._unsent.clear()
        self._unsent_bytes = 0
