"""Keys by which both ends of a link prove themselves: files, who is allowed, and what a key proves.

`orders.keys_folder` holds, made by the gateway at its first start:

    gateway/own.key, own.key_secret                  the gateway's pair
    nexus/own.key, own.key_secret, gateway.key       what a NEXUS needs: its pair, and the gateway's public key
    operator/...                                     the same for the operator's commands
    adapter.nt8/...                                  the same for each configured platform
    allowed/nexus.key, operator.key, adapter.nt8.key ...   public keys that may connect, watched while the gateway runs

A key's file name in `allowed` says what it proves: a role, an adapter's platform, and perhaps a name of your choice
behind it (`nexus.laptop.key`). A file that is taken away ends its sessions; it is not made again, since `once-allowed`
holds the names of all that the gateway has made.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from pathlib import Path
from typing import Final

import zmq.utils.z85 as z85
from msgspec import Struct

from ...shm import host
from ..errors import ConfigError
from ..messages import Role
from .curve import KEY_BYTES, make_key_pair, public_of

ALLOWED_FOLDER: Final = "allowed"
GATEWAY: Final = "gateway"
NEXUS: Final = "nexus"
OPERATOR: Final = "operator"
PUBLIC: Final = "own.key"
SECRET: Final = "own.key_secret"
OF_GATEWAY: Final = "gateway.key"
_ADAPTER: Final = "adapter"
_Z85_CHARS: Final = 40
_MAX_FILE_BYTES: Final = 4_096
_LINE: Final = re.compile(rb'^\s*(public|secret)-key\s*=\s*"([^"]*)"\s*$', re.MULTILINE)
_NAME: Final = re.compile(r"[a-z0-9_-]{1,32}(\.[a-z0-9_-]{1,32}){0,3}")


class NotPrivateError(ConfigError):
    """Other users of the machine may read a secret."""


class Proof(Struct, frozen=True):
    """What a connection has proved: `name` of the key, its role, an adapter's platform ("" for others), and the public
    key as text.
    """

    name: str
    role: Role
    platform: str = ""
    key: str = ""


class KeyPair(Struct, frozen=True):
    """A CURVE pair, 32 bytes each."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair(public={key_text(self.public)})"


class ClientKeys(Struct, frozen=True):
    """A client's pair, and the public key that its gateway must prove, 32 bytes each."""

    own: KeyPair
    gateway: bytes


def adapter_key(platform: str) -> str:
    """Name of the key of a platform's adapter."""
    return f"{_ADAPTER}.{platform}"


def key_text(public: bytes) -> str:
    """A public key as people pass it on: 64 hexadecimal digits, which no shell takes for something else."""
    return public.hex()


def parse_key(text: str) -> bytes:
    """The key in 64 hexadecimal digits, or as in the files in 40 characters of Z85. Raises ValueError."""
    try:
        key = z85.decode(text.encode("ascii")) if len(text) == _Z85_CHARS else bytes.fromhex(text)
    except (UnicodeEncodeError, KeyError, ValueError, struct.error):
        key = b""
    if len(key) != KEY_BYTES:
        most = f"{2 * KEY_BYTES} hexadecimal digits, as `nexus-gateway keys` shows them"
        raise ValueError(f"key was {text[:80]!r}, must be {most}")
    return key


def parse_key_name(name: str) -> Proof:
    """What a key of this name proves. Raises ValueError: the name does not begin with a role."""
    role, *rest = name.split(".")
    if _NAME.fullmatch(name):
        if role == NEXUS:
            return Proof(name, Role.NEXUS)
        if role == OPERATOR:
            return Proof(name, Role.ADMIN)
        if role == _ADAPTER and rest:
            return Proof(name, Role.ADAPTER, rest[0])
    raise ValueError(
        f"name of a key was {name[:80]!r}, must be nexus, operator or adapter.PLATFORM, and may go on with a name of "
        "your choice in small letters: nexus.laptop"
    )


def make_client_keys(folder: Path) -> bytes:
    """Make a pair for a program on another machine, in a folder of its own; returns the public key. An existing pair
    stays. Raises ConfigError.
    """
    try:
        host.make_private_folder(folder)
        return (read_pair(folder) if (folder / SECRET).exists() else write_pair(folder)).public
    except OSError as error:
        raise ConfigError(f"keys cannot be written to {folder}: {error.strerror or error}; name another") from error


def trust_gateway(folder: Path, public: bytes) -> None:
    """Write the key that the gateway of this client must prove. Raises ConfigError."""
    if not (folder / SECRET).exists():
        raise ConfigError(f"{folder} holds no key; make one first: nexus-gateway keys make {folder}")
    try:
        write_public(folder / OF_GATEWAY, public)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}; name another folder") from error


def write_pair(folder: Path, pair: KeyPair | None = None) -> KeyPair:
    """Write a pair into a role's folder, a new one if none is given; returns it. Raises OSError."""
    pair = pair or KeyPair(*make_key_pair())
    folder.mkdir(mode=0o700, exist_ok=True)
    lines = (b'public-key = "%s"' % z85.encode(pair.public), b'secret-key = "%s"' % z85.encode(pair.secret), b"")
    host.replace_private(folder / SECRET, b"\n".join(lines))
    write_public(folder / PUBLIC, pair.public)
    return pair


def write_public(path: Path, public: bytes) -> None:
    """Write a public key's file, in one step. Raises OSError."""
    host.replace_private(path, b'public-key = "%s"\n' % z85.encode(public))


def read_client_keys(folder: Path) -> ClientKeys:
    """The keys of a client, from its own folder. Read them at each connect: the gateway may have new ones.

    Raises:
        ConfigError: a file is missing, damaged, or not private.
    """
    try:
        fault = host.find_folder_fault(folder)
    except OSError as error:
        raise ConfigError(
            f"keys folder {folder} cannot be read: {error.strerror}; the gateway makes its keys at its first start, "
            "`nexus-gateway keys` those of another machine"
        ) from error
    if fault:
        raise ConfigError(f"{fault}: others could name the gateway that is obeyed")
    return ClientKeys(read_pair(folder), read_public(folder / OF_GATEWAY))


def read_pair(folder: Path) -> KeyPair:
    """The pair of a role's folder. Raises ConfigError as `read_client_keys` does."""
    secret = _read_key(folder / SECRET, b"secret")
    return KeyPair(public_of(secret), secret)


def read_public(path: Path) -> bytes:
    """The public key in a file. Raises ConfigError."""
    return _read_key(path, b"public")


def _read_key(path: Path, kind: bytes) -> bytes:
    try:
        with os.fdopen(host.open_regular(path), "rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(
            f"key file {path} cannot be read: {error.strerror or error}; the gateway makes its keys at its first "
            "start, `nexus-gateway keys` those of another machine"
        ) from error
    if kind == b"secret" and os.name == "posix" and status.st_mode & 0o077:
        mode = oct(stat.S_IMODE(status.st_mode))
        raise NotPrivateError(
            f"key file {path} has mode {mode}, allowed is 0o600: others may have read it; make a new key, or if they "
            f"have not: chmod 600 {path}"
        )
    texts = dict(_LINE.findall(content))
    try:
        return parse_key(texts[kind].decode("latin-1"))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"key file {path} holds no {kind.decode()} key; remove it, and restart the gateway"
        ) from error
