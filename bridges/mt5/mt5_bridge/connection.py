"""Connection."""

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
    """One TCP connection with an adapter; never blocks. Three queues: urgent messages, heartbeats, ticks.

    Attributes:
        received: number of the adapter's newest message that was acted upon.
        is_excused: `busy` was the last word: the adapter waits longer than usual.
        heard_s: when its newest bytes came, monotonic.
        is_over: closed, by whomever.
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
        self.heard_s = now_s
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
        """When it needs a turn, monotonic."""
        return min(self._beat_due_s if self.heartbeat is not None else math.inf, self._ends_s)

    def open(self, heartbeat: Callable[[], Body], heartbeat_ms: int, mute_after_ms: int) -> None:
        """It is the session now. `heartbeat`: makes one."""
        self.frames.greeting = False
        self.heartbeat = heartbeat
        self.heartbeat_s, self.mute_after_s = heartbeat_ms / 1000, mute_after_ms / 1000

    def queue(self, body: Body) -> None:
        """Never dropped; overtakes ticks."""
        self._urgent.append(body)
        self.is_excused = body["type"] == "busy" and body["for_ms"] > 0
        if len(self._urgent) > MAX_URGENT:
            self.close()  # rather a new session with a snapshot than an event less

    def queue_ticks(self, symbol_id: int, records: Rows) -> None:
        """Ticks of one symbol, in their order."""
        for first in range(0, len(records), FRAME_TICKS):
            part = records[first : first + FRAME_TICKS]
            self._ticks.append((symbol_id, len(part), pack_ticks(part)))
            self.ticks_waiting += len(part)

    def forget_ticks(self, symbol_ids: set[int]) -> None:
        """Throw away what waits under these ids: it is of what they stood for until now."""
        self._ticks = deque(each for each in self._ticks if each[0] not in symbol_ids)
        self.ticks_waiting = sum(each[1] for each in self._ticks)

    def end(self, code: str, text: str, now_s: float) -> None:
        """A last word; then read to the end, so that it is not thrown away with what was not read."""
        if not self.is_ending and not self.is_over:
            self._ticks.clear()
            self.ticks_waiting = 0
            self.heartbeat = None
            self._urgent.append({"type": "error", "code": code, "text": text[:512]})
            self._ends_s = now_s + LAST_WORD_S

    def close(self) -> None:
        """At once."""
        self.is_over = True
        self.socket.close()

    def receive(self, now_s: float) -> None:
        """Take in what has come; an end of the connection shows in `is_over`."""
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
            self.heard_s = now_s
            if not self.is_ending:
                self.frames.feed(data)

    def flush(self, now_s: float) -> None:
        """Send what the system takes now."""
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
        """Choose what goes next."""
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
