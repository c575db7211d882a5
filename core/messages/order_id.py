"""The client order id: a deterministic name for each order, by which it is recognised at the platform even if the
journal is lost.

It depends only on signal id, leg, role and attempt, not on a clock or on a counter. So a restart cannot give one id to
two orders. It has 22 characters of [A-Z2-7], prefix included, because of the narrowest field that carries it,
MetaTrader 5's comment: the package refuses more than 29 characters, brokers append text of their own, and 25 is the
advised limit, so 22 fit. The other platforms hold more (DTC ClientOrderID 31, NT8 Order.Name 50).

    NXG ABCDEFGHIJKL  A  E  AAA AR    prefix 3, signal key 12 (60 bits), leg 1, role 1, attempt 3, check 2

Ids of earlier versions have 21 characters, an attempt of two. They are recognised for ever: such orders are at
platforms, in journals and in histories. What is derived from an id (the stop of an entry) keeps the form of that id.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import re
from base64 import b32encode

from msgspec import Struct

PREFIX = "NXG"
LENGTH = 22
OLD_LENGTH = 21
MAX_LEGS = 32
MAX_ATTEMPTS = 32**3
OLD_MAX_ATTEMPTS = 32**2

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_OLD_BODY = OLD_LENGTH - len(PREFIX) - 2
_ATTEMPTS = {LENGTH: MAX_ATTEMPTS, OLD_LENGTH: OLD_MAX_ATTEMPTS}
# A look ahead consumes nothing: an id is found also where text before it begins like one.
_PATTERN = re.compile(rf"(?={PREFIX}([A-Z2-7]{{12}})([A-Z2-7])([ESTXHR])([A-Z2-7]{{4,5}}))")


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

    def id_of(self, role: OrderRole) -> str:
        """Return the id with another role and all else the same, its form included."""
        return client_order_id(self.key, self.leg, role, self.attempt, len(self.client_order_id))


@functools.lru_cache(maxsize=65_536)  # pure, and called with each message about an order
def _base32(text: str, length: int) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=10).digest()
    return b32encode(digest)[:length].decode()


def _check_characters(body: str) -> str:
    """Return the two check characters of an id of either form; `body` is what stands between `PREFIX` and them."""
    check = _base32(body, 2)
    # A new id that is cut to 21 characters must not pass for an old one, which names another order. One in 1,024 would:
    # its first check character is the next one of the alphabet. So of the two forms at most one fits any text, also
    # where a broker's letter follows an old id.
    if len(body) > _OLD_BODY and body[_OLD_BODY:] + check[0] == _base32(body[:_OLD_BODY], 2):
        check = _ALPHABET[(_ALPHABET.index(check[0]) + 1) % 32] + check[1]
    return check


def signal_key(signal_id: str) -> str:
    """Return the 12 characters that stand for a signal id in the ids of its orders."""
    return _base32(signal_id, 12)


def client_order_id(key: str, leg: int, role: OrderRole, attempt: int, length: int = LENGTH) -> str:
    """Return the id of an order of the signal with this key (`signal_key`). Any process; pure.

    `length`: `OLD_LENGTH` makes the form of earlier versions, which journals of theirs repeat byte for byte.

    Raises: ValueError when leg, attempt or length is out of range.
    """
    if not 0 <= leg < MAX_LEGS:
        raise ValueError(f"a signal has at most {MAX_LEGS} legs, leg was {leg}")
    if length not in _ATTEMPTS:
        raise ValueError(f"a client order id has {LENGTH} or {OLD_LENGTH} characters, length was {length}")
    if not 0 <= attempt < _ATTEMPTS[length]:
        raise ValueError(f"a leg has at most {_ATTEMPTS[length]} orders of one role, attempt was {attempt}")
    number = f"{_ALPHABET[attempt >> 5 & 31]}{_ALPHABET[attempt & 31]}"
    if length == LENGTH:
        number = _ALPHABET[attempt >> 10] + number
    body = f"{key}{_ALPHABET[leg]}{role.value}{number}"
    return f"{PREFIX}{body}{_check_characters(body)}"


@functools.lru_cache(maxsize=65_536)
def find_client_order_id(text: str) -> OrderIdParts | None:
    """Find the client order id, of either form, in the text of a platform's field; None when the order is not ours.

    The text is searched, because a platform may put its own before or after the id. The two check characters reject an
    id that was cut off, and text that looks like one by chance.
    """
    for match in _PATTERN.finditer(text):
        key, leg, role, rest = match.groups()
        for attempt, check in ((rest[:3], rest[3:]), (rest[:2], rest[2:4])):
            body = f"{key}{leg}{role}{attempt}"
            if _check_characters(body) == check:
                number = functools.reduce(lambda so_far, digit: so_far * 32 + _ALPHABET.index(digit), attempt, 0)
                order_id = f"{PREFIX}{body}{check}"
                return OrderIdParts(order_id, key, _ALPHABET.index(leg), OrderRole(role), number)
    return None


def magic_number(order_id: str) -> int:
    """Return the integer tag of an order for MetaTrader 5's `magic`: 63 bits, which fits signed and unsigned.

    The id cannot be computed from it: the adapter keeps the reverse map, or reads the order's comment.
    """
    return int.from_bytes(hashlib.blake2b(order_id.encode(), digest_size=8).digest(), "big") >> 1
