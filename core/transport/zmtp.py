"""ZMTP 3.1 without sockets: greeting, frames, commands and metadata (https://rfc.zeromq.org/spec/37). Pure.

Only the accepting end, and only what a ROUTER needs: the other ends are libzmq's DEALER sockets.
"""

from __future__ import annotations

import struct
from typing import Final

from ..errors import GatewayError

GREETING_BYTES: Final = 64
_SIGNATURE: Final = b"\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f"
_MECHANISM: Final = slice(12, 32)
MORE: Final = 1
"""Flag of a frame behind which another one of the same message follows."""
COMMAND: Final = 4
"""Flag of a frame that is a command."""
_LONG: Final = 2


class ProtocolFault(GatewayError):
    """The peer has broken the wire protocol or a bound: its connection is closed, and nothing that it sent is used."""


def make_greeting(mechanism: str) -> bytes:
    """The 64 bytes with which this end begins: version 3.1, `mechanism`, as the server of it."""
    return _SIGNATURE + b"\x03\x01" + mechanism.encode("ascii").ljust(20, b"\0") + b"\x01" + bytes(31)


def check_greeting(data: bytes, mechanism: str) -> None:
    """Check as much of the peer's greeting as has arrived.

    Raises:
        ProtocolFault: it is no ZMTP 3 peer, or wants another mechanism.
    """
    # The eight bytes of padding hold a length for ZMTP 1 and 2: any value is right.
    if data[:1] != _SIGNATURE[:1] or (len(data) > 9 and not data[9] & 1):
        raise ProtocolFault(f"what connected does not speak ZMTP: it began with {data[:10]!r}")
    if len(data) > 10 and data[10] < 3:
        raise ProtocolFault(f"ZMTP version was {data[10]}, must be 3 or newer; update the peer's ZeroMQ")
    if len(data) < GREETING_BYTES:
        return
    asked = bytes(data[_MECHANISM]).rstrip(b"\0")
    if asked != mechanism.encode("ascii"):
        raise ProtocolFault(f"security mechanism was {asked!r}, must be {mechanism}: the peer has set no keys")


class FrameReader:
    """Cuts the bytes behind the greeting into frames."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes`: of one frame's body."""
        self.limit_bytes = limit_bytes
        self._buffer = bytearray()

    @property
    def held_bytes(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        self._buffer += data

    def next(self) -> tuple[int, bytes] | None:
        """Return flags and body of the next complete frame; None when there is none yet.

        Raises:
            ProtocolFault: flags that do not exist, or a frame beyond the limit, as soon as its size is there.
        """
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        flags = buffer[0]
        if flags & ~(MORE | _LONG | COMMAND):
            raise ProtocolFault(f"flags of a frame were {flags:#x}, known are {MORE | _LONG | COMMAND:#x}")
        if flags & _LONG:
            if len(buffer) < 9:
                return None
            (size,), start = struct.unpack_from(">Q", buffer, 1), 9
        else:
            size, start = buffer[1], 2
        if size > self.limit_bytes:
            raise ProtocolFault(f"a frame has {size} bytes, allowed are {self.limit_bytes}")
        if len(buffer) < start + size:
            return None
        body = bytes(buffer[start : start + size])
        del buffer[: start + size]
        return flags & ~_LONG, body


def make_frame(flags: int, body: bytes) -> bytes:
    """Header and body of one frame."""
    if len(body) < 256:
        return bytes((flags, len(body))) + body
    return bytes((flags | _LONG,)) + struct.pack(">Q", len(body)) + body


def split_command(body: bytes) -> tuple[bytes, bytes]:
    """Return name and data of a command.

    Raises:
        ProtocolFault: it has no name.
    """
    if not body or len(body) < 1 + body[0]:
        raise ProtocolFault("a command has no name")
    return body[1 : 1 + body[0]], body[1 + body[0] :]


def make_command(name: bytes, data: bytes) -> bytes:
    """The body of a command's frame."""
    return bytes((len(name),)) + name + data


def read_metadata(data: bytes) -> dict[str, bytes]:
    """Return the properties that a peer says of itself; names in lower case.

    Raises:
        ProtocolFault: the list is cut off, a name is no text, or comes twice.
    """
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        value_start = name_end + 4
        if not data[at] or value_start > len(data):
            raise ProtocolFault("the peer's properties are cut off")
        (size,) = struct.unpack_from(">I", data, name_end)
        try:
            name = data[at + 1 : name_end].decode("ascii").lower()
        except UnicodeDecodeError as error:
            raise ProtocolFault("the name of a property is not ASCII") from error
        if value_start + size > len(data) or name in found:
            raise ProtocolFault(f"property {name!r} is cut off, or comes twice")
        found[name] = data[value_start : value_start + size]
        at = value_start + size
    return found


def make_metadata(**properties: bytes) -> bytes:
    """The properties of this end; `_` in a name stands for `-`."""
    parts = []
    for key, value in properties.items():
        name = key.replace("_", "-").encode("ascii")
        parts.append(bytes((len(name),)) + name + struct.pack(">I", len(value)) + value)
    return b"".join(parts)
