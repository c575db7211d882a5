"""Which configuration a gateway has started with, and under which account of the system: journaled at each start."""

from __future__ import annotations

import hashlib
import socket

import msgspec
import psutil
from msgspec import Struct

from .schema import GatewayConfig

_DIGEST_BYTES = 16
_MAX_NAME = 64


class Origin(Struct, frozen=True):
    """Hashes of the effective configuration and of the limits in it, hex; `author`: user and computer."""

    config_hash: str = ""
    limits_hash: str = ""
    author: str = ""


def find_origin(config: GatewayConfig) -> Origin:
    """Hash what is in force, defaults included, and ask the system who runs this process. Any process."""
    return Origin(
        config_hash=hash_settings(config),
        limits_hash=hash_settings(config.limits),
        author=f"{_user_name()}@{socket.gethostname()}"[: 2 * _MAX_NAME],
    )


def hash_settings(settings: Struct) -> str:
    """Return 32 hex digits that are the same for settings of the same content, however their files are written."""
    plain = msgspec.to_builtins(settings, str_keys=True)
    return hashlib.blake2b(msgspec.json.encode(plain, order="sorted"), digest_size=_DIGEST_BYTES).hexdigest()


def _user_name() -> str:
    """Return the name of the account that owns this process; from the system, since environment variables lie."""
    try:
        return psutil.Process().username()[:_MAX_NAME]
    except (psutil.Error, OSError, KeyError):
        return "unknown"
