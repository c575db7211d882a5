"""One TCP connection: receive bytes, queue messages and ticks, send by priority."""

from __future__ import annotations

import math
import secrets
import socket
from collections import deque
from collections.abc import Callable

from .constants import FRAME_TICKS, LAST_WORD_S, LOGIN_WITHIN_S, MAX_URGENT
from .fields import Body
from .protocol import FrameReader, pack_message, pack_ticks
from .ticks import Rows


class Link:
    """One TCP connection with an adapter; never blocks. Sends messages first, then heartbeats, then ticks.

    Attributes:
        received: sequence number of the adapter's last handled message.
        is_excused: `busy` was the last message queued: the adapter tolerates a longer silence.
        received_s: when bytes were received last, monotonic.
        is_over: closed, by either side.
    """

    def __init__(self, connection: socket.socket, now_s: float) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self.frames = FrameReader()
        self.nonce = secrets.token_hex(16)
        self.received = 0
        self.ticks_sent = 0
        self.ticks_dropped = 0
        self.ticks_waiting = 0
        self.received_s = now_s
        self.opened_s = now_s
        self.is_over = False
        self.is_excused = False
        self.heartbeat: Callable[[], Body] | None = None
        self.heartbeat_s = 1.0
        self.mute_after_s = LOGIN_WITHIN_S
        self.echo = (0, 0)
        self._beat_due_s = now_s
        self._sent = 0
        self._urgent: deque[Body] = deque()
        self._ticks: deque[tuple[int, int, bytes]] = deque()  # symbol id, records, frame
        self._under_way = memoryview(b"")
        self._ticks_under_way = 0
        self._ends_s = math.inf

    @property
    def is_ending(self) -> bool:
        return self._ends_s < math.inf

    @property
    def wants_to_write(self) -> bool:
        return bool(self._under_way or self._urgent or self._ticks)

    @property
    def due_s(self) -> float:
        """When `flush` must be called next even if nothing is queued, monotonic."""
        return min(self._beat_due_s if self.heartbeat is not None else math.inf, self._ends_s)

    def open(self, heartbeat: Callable[[], Body], heartbeat_ms: int, mute_after_ms: int) -> None:
        """Make it the session's connection. `heartbeat` returns the next heartbeat message."""
        self.frames.greeting = False
        self.heartbeat = heartbeat
        self.heartbeat_s, self.mute_after_s = heartbeat_ms / 1000, mute_after_ms / 1000

    def queue(self, body: Body) -> None:
        """Queue a message: never dropped, sent before ticks."""
        self._urgent.append(body)
        self.is_excused = body["type"] == "busy" and body["for_ms"] > 0
        if len(self._urgent) > MAX_URGENT:
            self.close()  # a new session with a snapshot loses no event; dropping one would

    def queue_ticks(self, symbol_id: int, records: Rows) -> None:
        """Queue ticks of one symbol, oldest first."""
        for first in range(0, len(records), FRAME_TICKS):
            part = records[first : first + FRAME_TICKS]
            self._ticks.append((symbol_id, len(part), pack_ticks(part)))
            self.ticks_waiting += len(part)

    def forget_ticks(self, symbol_ids: set[int]) -> None:
        """Drop queued ticks with these ids: the ids are about to mean other symbols."""
        self._ticks = deque(each for each in self._ticks if each[0] not in symbol_ids)
        self.ticks_waiting = sum(each[1] for each in self._ticks)

    def end(self, code: str, text: str, now_s: float) -> None:
        """Send an error, then read until the peer closes: closing with unread bytes could discard the error."""
        if not self.is_ending and not self.is_over:
            self._ticks.clear()
            self.ticks_waiting = 0
            self.heartbeat = None
            self._urgent.append({"type": "error", "code": code, "text": text[:512]})
            self._ends_s = now_s + LAST_WORD_S

    def close(self) -> None:
        """Close the socket at once."""
        self.is_over = True
        self.socket.close()

    def receive(self, now_s: float) -> None:
        """Read all bytes that are available; sets `is_over` when the peer has closed."""
        for _ in range(16):
            try:
                data = self.socket.recv(1 << 16)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self.received_s = now_s
            if not self.is_ending:
                self.frames.feed(data)

    def flush(self, now_s: float) -> None:
        """Send as much as the socket takes now."""
        try:
            while not self.is_over and (self._under_way or self._load(now_s)):
                sent = self.socket.send(self._under_way)
                self._under_way = self._under_way[sent:]
                if not self._under_way:
                    self.ticks_sent += self._ticks_under_way
                    self._ticks_under_way = 0
            if self.is_ending and not self.is_over:
                self.socket.shutdown(socket.SHUT_WR)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()
        if now_s >= self._ends_s and not self.is_over:
            self.close()

    def _load(self, now_s: float) -> bool:
        """Prepare the next frame; False when there is none."""
        if self._urgent:
            self._pack(self._urgent.popleft())
        elif self.heartbeat is not None and now_s >= self._beat_due_s:
            self._beat_due_s = now_s + self.heartbeat_s
            self._pack(self.heartbeat())
        elif self._ticks:
            _, count, frame = self._ticks.popleft()
            self.ticks_waiting -= count
            self._under_way, self._ticks_under_way = memoryview(frame), count
        else:
            return False
        return True

    def _pack(self, body: Body) -> None:
        self._sent += 1
        self._under_way = memoryview(pack_message(self._sent, body))
