"""The server's side of CurveZMQ, without sockets (https://rfc.zeromq.org/spec/26): both ends prove that they hold the
secret of a key, and all that follows is encrypted for this connection alone. Pure, apart from random numbers.

    client  HELLO     its passing key; readable only for the holder of the server's secret
    server  WELCOME   the server's passing key; only the true server can make it
    client  INITIATE  its lasting key, and proof that it holds the secret of that
    server  READY     the session is open: from here on each frame is a sealed MESSAGE

A listener that does not hold the server's secret cannot answer HELLO, and learns from it nothing but that a client is
there. Cryptography is libsodium's (PyNaCl).
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

from nacl import bindings
from nacl.exceptions import CryptoError

from .zmtp import ProtocolFault, make_command, split_command

KEY_BYTES: Final = 32
MECHANISM: Final = "CURVE"
SEALED_MORE: Final = 1
"""Inside a MESSAGE: another frame of the same message follows."""
SEALED_COMMAND: Final = 2
"""Inside a MESSAGE: a command such as PING. Not the flag of an open frame, which is 4."""
_COOKIE_BYTES: Final = 96
_HELLO_BYTES: Final = 194
_TAG_BYTES: Final = 16
_SHORT_NONCE_BYTES: Final = 8
_LONG_NONCE_BYTES: Final = 16
_VOUCH_BYTES: Final = 80
# Key, nonce and box of the vouch; the properties follow.
_INITIATE_FIXED_BYTES: Final = KEY_BYTES + _LONG_NONCE_BYTES + _VOUCH_BYTES


class CurveServer:
    """The cryptography of one connection, as its accepting end. Call the methods in the order of the handshake.

    Attributes:
        client_key: the peer's lasting public key, 32 bytes; proven once `take_initiate` has returned.
    """

    def __init__(self, public: bytes, secret: bytes) -> None:
        """`public`, `secret`: the server's lasting pair, 32 bytes each."""
        self.client_key = b""
        self._public = public
        self._secret = secret
        self._passing_public = b""
        self._passing_secret = b""
        self._client_passing = b""
        self._cookie = b""
        self._shared = b""
        self._sent_nonce = 0
        self._received_nonce = 0

    def take_hello(self, body: bytes) -> bytes:
        """Return the WELCOME that answers a HELLO.

        Raises:
            ProtocolFault: it was not made for this server's key, or is malformed.
        """
        data = _data_of(body, b"HELLO")
        if len(data) != _HELLO_BYTES or data[:2] != b"\x01\x00":
            raise ProtocolFault(f"a CURVE HELLO has {_HELLO_BYTES} bytes of version 1.0, was {len(data)}")
        self._client_passing = data[74:106]
        nonce = data[106:114]
        shared = _agree(self._client_passing, self._secret)
        if any(_open(data[114:], b"CurveZMQHELLO---" + nonce, shared)):
            raise ProtocolFault("a CURVE HELLO holds something else than zeros")
        self._received_nonce = int.from_bytes(nonce, "big")
        self._passing_public, self._passing_secret = bindings.crypto_box_keypair()
        # RFC 26 lets a server forget the client between HELLO and INITIATE, and keeps what it needs in the cookie. This
        # one remembers, since it bounds the connections themselves: the cookie is a number that has to come back.
        self._cookie = secrets.token_bytes(_COOKIE_BYTES)
        nonce = secrets.token_bytes(_LONG_NONCE_BYTES)
        box = _seal(self._passing_public + self._cookie, b"WELCOME-" + nonce, shared)
        return make_command(b"WELCOME", nonce + box)

    def take_initiate(self, body: bytes) -> bytes:
        """Check the client's proof; returns its properties (`zmtp.read_metadata`). The caller judges `client_key`.

        Raises:
            ProtocolFault: the proof is wrong: the peer does not hold the secret of the key that it shows.
        """
        data = _data_of(body, b"INITIATE")
        if not hmac.compare_digest(data[:_COOKIE_BYTES], self._cookie):
            raise ProtocolFault("a CURVE INITIATE belongs to another connection")
        self._shared = _agree(self._client_passing, self._passing_secret)
        inner = self._open_numbered(data[_COOKIE_BYTES:], b"CurveZMQINITIATE")
        if len(inner) < _INITIATE_FIXED_BYTES:
            raise ProtocolFault(f"a CURVE INITIATE holds {_INITIATE_FIXED_BYTES} bytes and more, was {len(inner)}")
        key, nonce, vouch = inner[:32], inner[32:48], inner[48:_INITIATE_FIXED_BYTES]
        vouched = _open(vouch, b"VOUCH---" + nonce, _agree(key, self._passing_secret))
        if not hmac.compare_digest(vouched, self._client_passing + self._public):
            raise ProtocolFault("a CURVE INITIATE vouches for another connection")
        self.client_key = key
        return inner[_INITIATE_FIXED_BYTES:]

    def make_ready(self, metadata: bytes) -> bytes:
        """The READY that opens the session, with this end's properties."""
        return make_command(b"READY", self._seal_numbered(metadata, b"CurveZMQREADY---"))

    def seal(self, flags: int, payload: bytes) -> bytes:
        """The body of the MESSAGE frame that carries a frame of these flags."""
        return make_command(b"MESSAGE", self._seal_numbered(bytes((flags,)) + payload, b"CurveZMQMESSAGES"))

    def open(self, body: bytes) -> tuple[int, bytes]:
        """Return flags and payload of the frame in a MESSAGE.

        Raises:
            ProtocolFault: it was changed, repeated, or belongs to another connection.
        """
        inner = self._open_numbered(_data_of(body, b"MESSAGE"), b"CurveZMQMESSAGEC")
        if not inner:
            raise ProtocolFault("a CURVE MESSAGE is empty")
        return inner[0], inner[1:]

    def _seal_numbered(self, plain: bytes, prefix: bytes) -> bytes:
        self._sent_nonce += 1
        nonce = self._sent_nonce.to_bytes(_SHORT_NONCE_BYTES, "big")
        return nonce + _seal(plain, prefix + nonce, self._shared)

    def _open_numbered(self, data: bytes, prefix: bytes) -> bytes:
        nonce = data[:_SHORT_NONCE_BYTES]
        number = int.from_bytes(nonce, "big")
        if len(data) < _SHORT_NONCE_BYTES + _TAG_BYTES or number <= self._received_nonce:
            raise ProtocolFault("a CURVE message was cut off, or came twice")
        plain = _open(data[_SHORT_NONCE_BYTES:], prefix + nonce, self._shared)
        self._received_nonce = number
        return plain


def make_key_pair() -> tuple[bytes, bytes]:
    """A new public and secret key, 32 bytes each."""
    public, secret = bindings.crypto_box_keypair()
    return public, secret


def public_of(secret: bytes) -> bytes:
    """The public key that belongs to a secret one."""
    return bindings.crypto_scalarmult_base(secret)


def _data_of(body: bytes, name: bytes) -> bytes:
    found, data = split_command(body)
    if found != name:
        raise ProtocolFault(f"a {name.decode()} was expected, was {found[:16]!r}")
    return data


def _agree(public: bytes, secret: bytes) -> bytes:
    try:
        return bindings.crypto_box_beforenm(public, secret)
    except (CryptoError, ValueError, RuntimeError) as error:
        raise ProtocolFault("a public key of the peer is no key") from error


def _seal(plain: bytes, nonce: bytes, shared: bytes) -> bytes:
    return bindings.crypto_box_afternm(plain, nonce, shared)


def _open(box: bytes, nonce: bytes, shared: bytes) -> bytes:
    try:
        return bindings.crypto_box_open_afternm(box, nonce, shared)
    except (CryptoError, ValueError) as error:
        raise ProtocolFault("a CURVE box cannot be opened: the peer has another key, or it was changed") from error
