"""A large state is stored packed: ten to twenty times smaller, it is written to the disk in a moment."""

from __future__ import annotations

import zlib
from typing import Final

from .schema import JournalError

LARGE_BYTES: Final = 1 << 20
"""A state of this size is packed; a smaller one is written as it is."""
_LEVEL: Final = 1
_MARK: Final = b"\x78"
"""First byte of a packed state; that of a plain one is a map's in MessagePack, 0x80 or above."""


def pack_state(state: bytes) -> bytes:
    """Return a state as it is stored. Other threads run meanwhile: the interpreter's lock is not held."""
    return state if len(state) < LARGE_BYTES else zlib.compress(state, _LEVEL)


def unpack_state(stored: bytes) -> bytes:
    """Return the state that `pack_state` was given.

    Raises: JournalError when it cannot be unpacked.
    """
    if not stored.startswith(_MARK):
        return stored
    try:
        return zlib.decompress(stored)
    except zlib.error as error:
        raise JournalError(f"the packed state is damaged: {error}") from error
