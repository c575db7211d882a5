"""Frames of the bridge protocol: header, limits, and the buffer that reassembles them. No sockets.

length u4 | type u1 | flags u1 | version u2 | payload of `length` bytes        little endian
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from ...core.errors import GatewayError
from ...shm.layout import TICK_BYTES

VERSION: Final = 2
"""2: client order ids of 22 characters, decimals in plain notation, completeness by part."""
TICKS: Final = 1
MESSAGE: Final = 2
HEADER_BYTES: Final = 8
MAX_FRAME_TICKS: Final = 4096
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
MAX_GREETING_BYTES: Final = 64 * 1024
"""Limit of a message until the peer has proved that it knows the token: an unauthenticated peer costs no memory."""

_HEADER: Final = struct.Struct("<IBBH")
_FIRST_BUFFER_BYTES: Final = 1 << 20


class FrameError(GatewayError):
    """The peer broke the protocol; its further bytes cannot be trusted, so the session ends."""


def pack_frame(kind: int, payload: bytes) -> bytes:
    """Return header and payload; `kind` is TICKS or MESSAGE."""
    return _HEADER.pack(len(payload), kind, 0, VERSION) + payload


class FrameBuffer:
    """Received bytes that are not processed yet. Used by one thread.

    Attributes:
        address: of byte 0, for kernels; changes when the buffer grows in `space`.
        start, end: the unprocessed bytes are [start, end).
        greeting: the peer has not yet proved that it knows the token: no ticks, small messages only.
    """

    def __init__(self) -> None:
        self.greeting = True
        self._allocate(_FIRST_BUFFER_BYTES)
        self.start = 0
        self.end = 0

    def space(self) -> memoryview:
        """Return free space for the next bytes, at least one; call `received` afterwards. Valid until the next call.

        Raises:
            FrameError: the frame that has begun is larger than allowed.
        """
        if self.start == self.end:
            self.start = self.end = 0
        wanted = self._frame_bytes()
        if self.start + max(wanted, HEADER_BYTES) > len(self._bytes) or self.end == len(self._bytes):
            left = self._bytes[self.start : self.end].copy()
            if wanted > len(self._bytes):
                self._allocate(wanted)
            self._bytes[: len(left)] = left
            self.start, self.end = 0, len(left)
        return self._view[self.end :]

    def received(self, count: int) -> None:
        """Record that `count` bytes were written into `space`."""
        self.end += count

    def consume(self, count: int) -> None:
        """Drop `count` bytes from `start` on: whole frames that were processed."""
        self.start += count

    def pop_message(self) -> bytes | None:
        """Remove the message at `start` and return its payload; None when it is incomplete, or a frame of ticks.

        Raises:
            FrameError: the header does not belong to this protocol.
        """
        whole = self._frame_bytes()
        if not whole or self._kind() != MESSAGE or self.end - self.start < whole:
            return None
        payload = bytes(self._view[self.start + HEADER_BYTES : self.start + whole])
        self.start += whole
        return payload

    def _allocate(self, size: int) -> None:
        self._bytes = np.zeros(size, np.uint8)
        self._view = self._bytes.data
        self.address = int(self._bytes.ctypes.data)

    def _kind(self) -> int:
        return int(self._bytes[self.start + 4])

    def _frame_bytes(self) -> int:
        """Size of the frame at `start` with its header; 0 while the header is incomplete."""
        if self.end - self.start < HEADER_BYTES:
            return 0
        length, kind, flags, version = _HEADER.unpack_from(self._view, self.start)
        if version != VERSION:
            raise FrameError(f"protocol version was {version}, this adapter speaks {VERSION}; update the older side")
        if flags:
            raise FrameError(f"frame flags were {flags:#x}, must be 0 in protocol version {VERSION}")
        if kind == TICKS:
            if self.greeting:
                raise FrameError("ticks came before hello")
            if length % TICK_BYTES or not 0 < length <= MAX_FRAME_TICKS * TICK_BYTES:
                raise FrameError(
                    f"a frame of ticks had {length} bytes, must be 1 to {MAX_FRAME_TICKS} records of {TICK_BYTES}"
                )
        elif kind == MESSAGE:
            limit = MAX_GREETING_BYTES if self.greeting else MAX_MESSAGE_BYTES
            if not 0 < length <= limit:
                raise FrameError(f"a message had {length} bytes, must be 1 to {limit}")
        else:
            raise FrameError(f"frame type was {kind}, must be {TICKS} (ticks) or {MESSAGE} (message)")
        return HEADER_BYTES + int(length)
