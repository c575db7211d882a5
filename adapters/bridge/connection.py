"""The socket of a bridge: received bytes go to the tick kernel or the session, queued bytes are sent. Never blocks once
it is open.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

from ..base import LinkLostError
from ..feed import TickFeed
from .frames import FrameBuffer, FrameError
from .messages import Error, FromBridge
from .session import BridgeSession
from .ticks import TickIntake

_MAX_OUTGOING_BYTES: Final = 1 << 22


class BridgeConnection:
    """One TCP connection with a bridge. Used by the adapter's thread.

    Attributes:
        socket: to wait on.
        session: protocol state of this connection.
    """

    def __init__(
        self, host: str, port: int, timeout_s: float, session: BridgeSession, intake: TickIntake, feed: TickFeed
    ) -> None:
        """Raises LinkLostError: the connection was refused or timed out."""
        try:
            self.socket = socket.create_connection((host, port), timeout_s)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.setblocking(False)
        except OSError as error:
            raise LinkLostError(f"no bridge at {host}:{port} ({error}); start the platform and its bridge") from error
        self.session = session
        self._intake = intake
        self._feed = feed
        self._buffer = FrameBuffer()
        self._decode_errors = feed.counters.counter("decode_errors")

    def turn(self, handle: Callable[[FromBridge], None]) -> int:
        """Read what has arrived, publish its ticks, pass its messages to `handle` in order, send queued bytes.

        Returns:
            Number of ticks published.

        Raises:
            LinkLostError: the session is over, also after a FrameError of `handle`. Other exceptions of `handle` pass.
        """
        published = 0
        try:
            count = self._receive()
            now_ns = time.monotonic_ns()
            if count:
                self._buffer.received(count)
                self.session.note_received(now_ns)
                published = self._process_buffer(handle)
            self.session.check(self._intake.received, now_ns, time.time_ns())
        except FrameError as error:
            self._decode_errors.add()
            self._send_error(str(error))
            raise LinkLostError(str(error)) from error
        self.flush()
        return published

    def flush(self) -> None:
        """Send as much as the operating system accepts now. Raises LinkLostError."""
        outgoing = self.session.outgoing
        if not outgoing:
            return
        try:
            del outgoing[: self.socket.send(outgoing)]
        except BlockingIOError:
            pass
        except OSError as error:
            raise LinkLostError(f"the connection to the bridge broke: {error}") from error
        if len(outgoing) > _MAX_OUTGOING_BYTES:
            raise LinkLostError(f"{len(outgoing)} bytes wait for the bridge, which does not read")

    def close(self) -> None:
        """Close the socket; unsent bytes are lost."""
        self.socket.close()

    def _receive(self) -> int:
        try:
            count = self.socket.recv_into(self._buffer.space())
        except BlockingIOError:
            return 0
        except OSError as error:
            raise LinkLostError(f"the connection to the bridge broke: {error}") from error
        if not count:
            raise LinkLostError("the bridge has closed the connection")
        return count

    def _process_buffer(self, handle: Callable[[FromBridge], None]) -> int:
        buffer, intake, session = self._buffer, self._intake, self.session
        published = 0
        # Frames are used up strictly in order, ticks by the kernel and messages here: a message such as the answer to a
        # subscription decides which of the ticks behind it are allowed.
        while True:
            used = (
                intake.process_frames(buffer.address + buffer.start, buffer.end - buffer.start)
                if session.is_open
                else 0
            )
            if intake.sound and used:
                self._feed.publish_at(intake.first, intake.sound)
                published += intake.sound
            buffer.consume(used)
            payload = buffer.pop_message()
            if payload is not None:
                body = session.receive(payload, intake.received, time.monotonic_ns(), time.time_ns())
                buffer.greeting = not session.is_open
                if body is not None:
                    handle(body)
            elif not used:
                return published

    def _send_error(self, text: str) -> None:
        """Best-effort error message to the bridge, as a help for its author."""
        self.session.send(Error(code="malformed", text=text[:512]), time.monotonic_ns())
        try:
            self.flush()
        except LinkLostError:
            pass  # the session ends anyway
