"""The client order id: a deterministic name for each order, recognisable at the platform without the journal.

It is a function of (signal id, leg, role, attempt) and nothing else: no clock, no counter of a platform, so
a restart can neither reuse nor forget one. 21 characters of [A-Z2-7], the prefix included, because the
narrowest field that carries it is MetaTrader 5's comment: the package refuses more than 29 characters,
brokers append text of their own, and 25 is the advised limit. The others hold more (DTC ClientOrderID 31, NT8
Order.Name 50).

    NXG ABCDEFGHIJKL  A  E  AA A      prefix 3, signal key 12 (60 bits), leg 1, role 1, attempt 2, check 2
"""

from __future__ import annotations

import enum
import functools
import hashlib
import re
from base64 import b32encode

from msgspec import Struct

PREFIX = "NXG"
LENGTH = 21
MAX_LEGS = 32
MAX_ATTEMPTS = 32 * 32

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PATTERN = re.compile(PREFIX + r"([A-Z2-7]{12})([A-Z2-7])([ESTXHR])([A-Z2-7]{2})([A-Z2-7]{2})")


class OrderRole(enum.StrEnum):
    """What an order is for. Only an entry opens risk on purpose; a roll opens again what an exit has just closed."""

    ENTRY = "E"
    STOP_LOSS = "S"
    TAKE_PROFIT = "T"
    EXIT = "X"
    HEDGE = "H"
    ROLL = "R"


class OrderIdParts(Struct, frozen=True):
    """A client order id taken apart."""

    client_order_id: str
    key: str
    leg: int
    role: OrderRole
    attempt: int


@functools.lru_cache(maxsize=65_536)  # pure, and asked again with each message about an order
def _base32(text: str, length: int) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=10).digest()
    return b32encode(digest)[:length].decode()


def signal_key(signal_id: str) -> str:
    """The 12 characters that stand for a signal id in every order of that signal."""
    return _base32(signal_id, 12)


def client_order_id(key: str, leg: int, role: OrderRole, attempt: int) -> str:
    """Name an order of the signal with this key (`signal_key`). Any process; pure.

    Raises: ValueError when leg or attempt is out of range.
    """
    if not 0 <= leg < MAX_LEGS:
        raise ValueError(f"a signal has at most {MAX_LEGS} legs, leg was {leg}")
    if not 0 <= attempt < MAX_ATTEMPTS:
        raise ValueError(f"a leg has at most {MAX_ATTEMPTS} orders of one role, attempt was {attempt}")
    body = f"{key}{_ALPHABET[leg]}{role.value}{_ALPHABET[attempt >> 5]}{_ALPHABET[attempt & 31]}"
    return f"{PREFIX}{body}{_base32(body, 2)}"


@functools.lru_cache(maxsize=65_536)
def find_client_order_id(text: str) -> OrderIdParts | None:
    """The client order id inside a platform's field, or None when the order is not ours.

    Searches, because a platform may put text before or after it. The two check characters
    keep a cut-off or chance match from being taken for ours.
    """
    for match in _PATTERN.finditer(text):
        key, leg, role, attempt, check = match.groups()
        if _base32(f"{key}{leg}{role}{attempt}", 2) == check:
            number = _ALPHABET.index(attempt[0]) * 32 + _ALPHABET.index(attempt[1])
            return OrderIdParts(match.group(), key, _ALPHABET.index(leg), OrderRole(role), number)
    return None


def magic_number(order_id: str) -> int:
    """The integer tag of an order for MetaTrader 5's `magic`: 63 bits, so that it fits signed and unsigned.

    One way only: the adapter keeps the map back, or reads the comment.
    """
    return int.from_bytes(hashlib.blake2b(order_id.encode(), digest_size=8).digest(), "big") >> 1
