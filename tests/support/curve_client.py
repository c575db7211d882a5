"""The client's side of CURVE over ZMTP, written from the specifications alone: what the listener is attacked with."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from nacl import bindings
from nexus_gateway.core.transport import ClientKeys

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)
METADATA = b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER" + b"\x08Identity" + struct.pack(">I", 0)


@dataclass
class CurveClient:
    """One handshake, and the messages behind it."""

    keys: ClientKeys
    nonce: int = 0
    shared: bytes = b""
    passing: tuple[bytes, bytes] = field(default_factory=bindings.crypto_box_keypair)

    def hello(self) -> bytes:
        box = self._seal(bytes(64), b"CurveZMQHELLO---", self.keys.gateway, self.passing[1])
        return _command(b"HELLO", b"\x01\0" + bytes(72) + self.passing[0] + box)

    def initiate(self, welcome: bytes, metadata: bytes = METADATA) -> bytes:
        """`welcome`: the command's data."""
        shared = bindings.crypto_box_beforenm(self.keys.gateway, self.passing[1])
        plain = bindings.crypto_box_open_afternm(welcome[16:], b"WELCOME-" + welcome[:16], shared)
        server, cookie = plain[:32], plain[32:]
        nonce = bytes(range(16))
        vouch = bindings.crypto_box_afternm(
            self.passing[0] + self.keys.gateway,
            b"VOUCH---" + nonce,
            bindings.crypto_box_beforenm(server, self.keys.own.secret),
        )
        self.shared = bindings.crypto_box_beforenm(server, self.passing[1])
        box = self._seal(self.keys.own.public + nonce + vouch + metadata, b"CurveZMQINITIATE", server, self.passing[1])
        return _command(b"INITIATE", cookie + box)

    def message(self, payload: bytes, flags: int = 0) -> bytes:
        self.nonce += 1
        number = self.nonce.to_bytes(8, "big")
        box = bindings.crypto_box_afternm(bytes((flags,)) + payload, b"CurveZMQMESSAGEC" + number, self.shared)
        body = b"\x07MESSAGE" + number + box
        return b"\x02" + struct.pack(">Q", len(body)) + body

    def _seal(self, plain: bytes, prefix: bytes, public: bytes, secret: bytes) -> bytes:
        self.nonce += 1
        number = self.nonce.to_bytes(8, "big")
        return number + bindings.crypto_box_afternm(
            plain, prefix + number, bindings.crypto_box_beforenm(public, secret)
        )


def _command(name: bytes, data: bytes) -> bytes:
    body = bytes((len(name),)) + name + data
    return (b"\x04" + bytes((len(body),)) if len(body) < 256 else b"\x06" + struct.pack(">Q", len(body))) + body


def data_of_command(stream: bytes, name: bytes) -> bytes:
    """The data of the command of this name in what the listener has sent."""
    at = stream.index(name) + len(name)
    start = at - len(name) - 1
    long = start >= 9 and stream[start - 9] & 2
    size = struct.unpack_from(">Q", stream, start - 8)[0] if long else stream[start - 1]
    return stream[at : start + size]
