"""Match the terminal's tickets with the gateway's client order ids."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import Any

from .constants import REASON_SL, REASON_SO, REASON_TP

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_OWN_ID = re.compile(r"(?=NXG([A-Z2-7]{18,19}))")
_OLD_BODY = 16
"""Characters between `NXG` and the check in ids of 21 characters, those of earlier gateways; now there are 17."""
ROLE_AT = 16
STOP_LOSS, TAKE_PROFIT = "S", "T"
OPENING_ROLES = ("E", "H", "R")
"""Entry, hedge, and the order by which a roll opens the position in the new contract."""


def _hash_characters(body: str) -> str:
    return base64.b32encode(hashlib.blake2b(body.encode(), digest_size=10).digest())[:2].decode()


def _check_characters(body: str) -> str:
    check = _hash_characters(body)
    # So an id of 22 characters that was cut never passes for one of 21, which is another order's.
    if len(body) > _OLD_BODY and body[_OLD_BODY:] + check[0] == _hash_characters(body[:_OLD_BODY]):
        check = _ALPHABET[(_ALPHABET.index(check[0]) + 1) % 32] + check[1]
    return check


def find_order_id(text: str) -> str:
    """The gateway's order id, of 22 or 21 characters, in a comment; empty when there is none. The last two check it."""
    for found in _OWN_ID.finditer(text):
        rest = found.group(1)
        for end in (_OLD_BODY + 1, _OLD_BODY):
            if _check_characters(rest[:end]) == rest[end : end + 2]:
                return f"NXG{rest[: end + 2]}"
    return ""


def child_id(entry_id: str, role: str) -> str:
    """The order id of an entry's stop loss or take profit: the entry's id with another role, in the same form."""
    body = f"{entry_id[3:ROLE_AT]}{role}{entry_id[ROLE_AT + 1 : -2]}"
    return f"NXG{body}{_check_characters(body)}"


def magic_number(order_id: str) -> int:
    """The `magic` of an order: 63-bit hash of its id, which identifies it when a server rewrites the comment."""
    return int.from_bytes(hashlib.blake2b(order_id.encode(), digest_size=8).digest(), "big") >> 1


class OrderIds:
    """Maps tickets to order ids by magic and comment, which survive a restart of the bridge. A file keeps the ids that
    were handed over, for brokers that rewrite comments.

    One id belongs to one ticket. A second ticket with the same magic is external (a copier, a manual close).

    Attributes:
        tickets: order id -> its ticket, once the terminal has listed it.
    """

    def __init__(self, path: str, *, hedging: bool) -> None:
        """Load the ids from the file at `path`, if it exists. Raises OSError."""
        self.hedging = hedging
        self.tickets: dict[str, int] = {}
        self._path = path
        self._by_ticket: dict[int, str] = {}
        self._by_magic: dict[int, str] = {}
        if os.path.exists(path):
            with open(path, encoding="ascii", errors="replace") as lines:
                for line in lines:
                    order_id = find_order_id(line)
                    if order_id:
                        self._by_magic[magic_number(order_id)] = order_id

    def is_known(self, order_id: str) -> bool:
        """Whether this id was ever handed over."""
        return order_id in self.tickets or magic_number(order_id) in self._by_magic

    def note(self, order_id: str) -> None:
        """Write the id to the file; call it before the order is handed over. Raises OSError."""
        self._by_magic[magic_number(order_id)] = order_id
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, f"{order_id}\n".encode("ascii"))
        finally:
            os.close(handle)

    def own(self, ticket: int, order_id: str) -> None:
        """Record that the terminal gave this ticket to this order id."""
        self._by_ticket[ticket] = order_id
        self.tickets[order_id] = ticket

    def of_ticket(self, ticket: int) -> str | None:
        """The order id of a ticket, empty for an external one, None for one that was not seen yet."""
        return self._by_ticket.get(ticket)

    def of_order(self, order: Any) -> str:
        """The order id of an order, empty for an external one."""
        known = self._by_ticket.get(order.ticket)
        if known is not None:
            return known
        order_id = self._claim(order)
        if order_id:
            self.own(order.ticket, order_id)
        else:
            self._by_ticket[order.ticket] = ""
        return order_id

    def of_tag(self, ticket: int, magic: int, comment: str) -> str:
        """The order id by magic and comment alone; empty when that id already has another ticket."""
        order_id = find_order_id(comment)
        if not order_id or magic_number(order_id) != magic:
            order_id = self._by_magic.get(magic, "")
        return order_id if self.tickets.get(order_id, ticket) == ticket else ""

    def _claim(self, order: Any) -> str:
        if order.reason in (REASON_SL, REASON_TP, REASON_SO):
            return ""
        order_id = self.of_tag(order.ticket, order.magic, order.comment)
        closes = self.hedging and order.position_id not in (0, order.ticket)
        if order_id and closes and order_id[ROLE_AT] in OPENING_ROLES:
            return ""
        return order_id
