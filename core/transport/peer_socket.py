"""One accepted socket: what waits to be sent on it, and what has arrived. The listener's thread; never blocks."""

from __future__ import annotations

import socket
from collections import deque
from typing import Final

from .connection import Connection

READ_BYTES: Final = 1 << 16
_UNSENT_BYTES: Final = 16 << 20


class ConnectionGoneError(Exception):
    """The peer has closed the connection, or it broke; the text says which."""


class PeerSocket:
    """A socket and the protocol on it.

    Attributes:
        id: names the connection; never used for another one.
        address: where it comes from; `host` without its port.
        since_ns: when it was accepted, has proved its key, or ended its last session, monotonic.
        is_watched_for_writing: set by the listener.
    """

    __slots__ = (
        "_unsent",
        "_unsent_bytes",
        "address",
        "connection",
        "host",
        "id",
        "is_watched_for_writing",
        "since_ns",
        "socket",
    )

    def __init__(self, number: int, sock: socket.socket, address: str, connection: Connection, now_ns: int) -> None:
        self.id = number
        self.socket = sock
        self.address = address
        self.host = address.rpartition(":")[0]
        self.connection = connection
        self.since_ns = now_ns
        self.is_watched_for_writing = False
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
        self._unsent.append(memoryview(data))
        self._unsent_bytes += len(data)

    def queue_own(self) -> None:
        """Queue what the protocol itself has to say: handshake, answers to pings."""
        if self.connection.out:
            self.queue(bytes(self.connection.out))
            self.connection.out.clear()

    def flush(self) -> None:
        """Send what can be sent now. Raises ConnectionGoneError."""
        while self._unsent:
            first = self._unsent[0]
            try:
                count = self.socket.send(first)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                raise ConnectionGoneError(f"the connection is gone: {error.strerror}") from error
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
