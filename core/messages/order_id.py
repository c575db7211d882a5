"""The client order id: a deterministic name for each order, by which it is recognised at the platform even if the
journal is lost.

It depends only on signal id, leg, role and attempt, not on a clock or on a counter. So a restart cannot give one id to
two orders. It has 21 characters of [A-Z2-7], prefix included, because of the narrowest field that carries it,
MetaTrader 5's comment: the package refuses more than 29 characters, brokers append text of their own, and 25 is the
advised limit. The other platforms hold more (DTC ClientOrderID 31, NT8 Order.Name 50).

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
    """Purpose of an order. Only an entry adds risk; a roll opens in the new contract what an exit has just closed."""

    ENTRY = "E"
    STOP_LOSS = "S"
    TAKE_PROFIT = "T"
    EXIT = "X"
    HEDGE = "H"
    ROLL = "R"


class OrderIdParts(Struct, frozen=True):
    """The parts of a client order id."""

    client_order_id: str
    key: str
    leg: int
    role: OrderRole
    attempt: int


@functools.lru_cache(maxsize=65_536)  # pure, and called with each message about an order
def _base32(text: str, length: int) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=10).digest()
    return b32encode(digest)[:length].decode()


def signal_key(signal_id: str) -> str:
    """Return the 12 characters that stand for a signal id in the ids of its orders."""
    return _base32(signal_id, 12)


def client_order_id(key: str, leg: int, role: OrderRole, attempt: int) -> str:
    """Return the id of an order of the signal with this key (`signal_key`). Any process; pure.

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
    """Find the client order id in the text of a platform's field; None when the order is not ours.

    The text is searched, because a platform may put its own before or after the id. The two check characters reject an
    id that was cut off, and text that looks like one by chance.
    """
    for match in _PATTERN.finditer(text):
        key, leg, role, attempt, check = match.groups()
        if _base32(f"{key}{leg}{role}{attempt}", 2) == check:
            number = _ALPHABET.index(attempt[0]) * 32 + _ALPHABET.index(attempt[1])
            return OrderIdParts(match.group(), key, _ALPHABET.index(leg), OrderRole(role), number)
    return None


def magic_number(order_id: str) -> int:
    """Return the integer tag of an order for MetaTrader 5's `magic`: 63 bits, which fits signed and unsigned.

    The id cannot be computed from it: the adapter keeps the reverse map, or reads the order's comment.
    """
    return int.from_bytes(hashlib.blake2b(order_id.encode(), digest_size=8).digest(), "big") >> 1
