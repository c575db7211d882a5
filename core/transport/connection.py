"""One accepted connection, without its socket: greeting, proof, then whole messages. Pure: bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..messages import MAX_MESSAGE_BYTES
from .curve import MECHANISM, SEALED_COMMAND, SEALED_MORE, CurveServer
from .keys import KeyPair, Proof, key_text
from .zmtp import (
    COMMAND,
    GREETING_BYTES,
    MORE,
    FrameReader,
    ProtocolFault,
    check_greeting,
    make_command,
    make_frame,
    make_greeting,
    make_metadata,
    read_metadata,
    split_command,
)

MAX_WIRE_MESSAGE_BYTES: Final = 2 * MAX_MESSAGE_BYTES
"""Of one ZeroMQ message, all frames together; more ends the connection. An envelope between `MAX_MESSAGE_BYTES` and
this is read, counted and refused by name."""
MAX_UNPROVEN_BYTES: Final = 2_048
"""Taken in from a peer before its proof: a greeting and the two longest commands."""
_MAX_COMMAND_BYTES: Final = 1_024
_MAX_FRAMES: Final = 1_024
"""Of one message. Far above what the link allows, since it refuses by name what is too many for it."""
_SEALED_EXTRA_BYTES: Final = 64


class UnknownKeyFault(ProtocolFault):
    """The peer has proved a key that is not allowed. `key` is its public key as text."""

    def __init__(self, key: str) -> None:
        super().__init__(f"key {key} is not allowed here; allow it with: nexus-gateway keys allow")
        self.key = key


class Connection:
    """The protocol of one peer. The listener moves its bytes.

    Attributes:
        proof: what the peer has proved; None before.
        progress: how far a peer without a proof has come: 0 nothing has arrived, 1 a part of the greeting, 2 all of it,
            3 a HELLO, which only the holder of the gateway's public key can make.
        out: bytes of the handshake, and answers to pings, that are to be sent.
    """

    def __init__(self, own: KeyPair, find: Callable[[bytes], Proof | None]) -> None:
        """`own`: the gateway's keys. `find` returns what a public key stands for; None = it is not allowed."""
        self.proof: Proof | None = None
        self.progress = 0
        self.out = bytearray(make_greeting(MECHANISM))
        self._find = find
        self._curve = CurveServer(own.public, own.secret)
        self._greeting = bytearray()
        self._reader = FrameReader(_MAX_COMMAND_BYTES)
        self._unproven_bytes = 0
        self._has_said_hello = False
        self._frames: list[bytes] = []
        self._frames_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes kept for a message that is not complete."""
        return self._reader.held_bytes + self._frames_bytes

    def take(self, data: bytes) -> list[list[bytes]]:
        """Add what has arrived; returns the messages that are complete now, each as its frames.

        Raises:
            ProtocolFault: close the connection; send `out` before, which may hold the reason.
            UnknownKeyFault: as well.
        """
        if self.proof is None:
            data = self._take_unproven(data)
            if self.proof is None:
                return []
        self._reader.feed(data)
        messages: list[list[bytes]] = []
        while (frame := self._reader.next()) is not None:
            self._take_frame(*frame, messages)
        return messages

    def encode(self, frames: tuple[bytes, ...]) -> bytes:
        """The bytes of one message to the peer. Only after the proof."""
        last = len(frames) - 1
        return b"".join(
            make_frame(0, self._curve.seal(0 if at == last else SEALED_MORE, frame)) for at, frame in enumerate(frames)
        )

    def _take_unproven(self, data: bytes) -> bytes:
        """Returns what has come behind the proof."""
        self._unproven_bytes += len(data)
        missing = GREETING_BYTES - len(self._greeting)
        if missing > 0:
            self._greeting += data[:missing]
            check_greeting(bytes(self._greeting), MECHANISM)
            self.progress = 2 if len(self._greeting) == GREETING_BYTES else 1
            data = data[missing:]
        if len(self._greeting) < GREETING_BYTES:
            return b""
        self._reader.feed(data)
        while self.proof is None and (frame := self._reader.next()) is not None:
            flags, body = frame
            if flags != COMMAND:
                raise ProtocolFault("a message came before the proof of who sends it")
            self._take_command(body)
        if self.proof is None and self._unproven_bytes > MAX_UNPROVEN_BYTES:
            raise ProtocolFault(f"{self._unproven_bytes} bytes came before a proof, allowed are {MAX_UNPROVEN_BYTES}")
        return b""

    def _take_command(self, body: bytes) -> None:
        name, data = split_command(body)
        if name == b"ERROR":
            raise ProtocolFault(f"the peer ended the handshake: {data[1:64]!r}")
        if not self._has_said_hello:
            self._has_said_hello = True
            self._send_command(self._curve.take_hello(body))
            self.progress = 3
            return
        properties = read_metadata(self._curve.take_initiate(body))
        if properties.get("socket-type") != b"DEALER":
            raise ProtocolFault(f"socket type was {properties.get('socket-type')!r}, must be DEALER")
        proof = self._find(self._curve.client_key)
        if proof is None:
            # A status code of ZAP: libzmq tells its user by it that the key was refused, and by whom.
            self._send_command(make_command(b"ERROR", b"\x03400"))
            raise UnknownKeyFault(key_text(self._curve.client_key))
        self._send_command(self._curve.make_ready(make_metadata(Socket_Type=b"ROUTER", Identity=b"")))
        self.proof = proof
        self._reader.limit_bytes = MAX_WIRE_MESSAGE_BYTES + _SEALED_EXTRA_BYTES

    def _take_frame(self, flags: int, body: bytes, messages: list[list[bytes]]) -> None:
        if flags & MORE:
            raise ProtocolFault("a frame was not sealed as the handshake has agreed")
        inner, payload = self._curve.open(body)
        if inner & SEALED_COMMAND:
            self._answer_command(payload)
            return
        self._frames.append(payload)
        self._frames_bytes += len(payload)
        if self._frames_bytes > MAX_WIRE_MESSAGE_BYTES or len(self._frames) > _MAX_FRAMES:
            raise ProtocolFault(
                f"a message has {len(self._frames)} frames of {self._frames_bytes} bytes and is not complete, allowed "
                f"are {_MAX_FRAMES} frames of {MAX_WIRE_MESSAGE_BYTES} bytes in all"
            )
        if not inner & SEALED_MORE:
            messages.append(self._frames)
            self._frames, self._frames_bytes = [], 0

    def _answer_command(self, payload: bytes) -> None:
        name, data = split_command(payload)
        if name == b"PING":  # two bytes of time to live, then up to 16 bytes that come back
            self.out += make_frame(0, self._curve.seal(SEALED_COMMAND, make_command(b"PONG", data[2:18])))

    def _send_command(self, body: bytes) -> None:
        self.out += make_frame(COMMAND, body)
