"""Frames and messages."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from .constants import HEADER, MAX_GREETING_BYTES, MAX_MESSAGE_BYTES, MAX_SYMBOLS, MESSAGE, PROTOCOL_VERSION, TICKS
from .errors import Breach

Body = dict[str, Any]


class Required:
    """Stands for the default of a field that has none."""


def pack_frame(kind: int, payload: bytes) -> bytes:
    """Header and payload; `kind` is TICKS or MESSAGE."""
    return HEADER.pack(len(payload), kind, 0, PROTOCOL_VERSION) + payload


def pack_message(seq: int, body: Body) -> bytes:
    """One frame with this message."""
    text = json.dumps({"seq": seq, "body": body}, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Half of a surrogate pair, from a stranger or out of the terminal's texts, has no place in UTF-8.
    return pack_frame(MESSAGE, text.encode("utf-8", "replace"))


def pack_ticks(records: np.ndarray[Any, Any]) -> bytes:
    """One frame of 1 to MAX_FRAME_TICKS records."""
    return pack_frame(TICKS, records.tobytes())


class FrameReader:
    """Puts an adapter's frames together, however TCP has cut them. `greeting`: only small messages are kept."""

    def __init__(self) -> None:
        self.greeting = True
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Bytes have come."""
        self._bytes += data

    def take(self) -> bytes | None:
        """Payload of the next message, None while it is not all there. Raises Breach."""
        if len(self._bytes) < HEADER.size:
            return None
        length, kind, flags, version = HEADER.unpack_from(self._bytes)
        limit = MAX_GREETING_BYTES if self.greeting else MAX_MESSAGE_BYTES
        if version != PROTOCOL_VERSION:
            raise Breach(
                f"protocol version was {version}, this bridge speaks {PROTOCOL_VERSION}; update the older side"
            )
        if kind != MESSAGE or flags or not 0 < length <= limit:
            raise Breach(f"header was length {length}, type {kind}, flags {flags}; an adapter sends messages alone")
        if len(self._bytes) < HEADER.size + length:
            return None
        payload = bytes(self._bytes[HEADER.size : HEADER.size + length])
        del self._bytes[: HEADER.size + length]
        return payload


def _text(longest: int, pattern: str = "") -> Callable[[Any], str]:
    matches = re.compile(pattern)

    def check(value: Any) -> str:
        if type(value) is not str or len(value) > longest or not matches.search(value):
            raise ValueError(f"must be a text of at most {longest} characters {pattern}")
        return value

    return check


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"must be a whole number of {least} to {most}")
        return value

    return check


def _word(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if type(value) is not str or value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value

    return check


def _decimal(value: Any) -> Decimal:
    if type(value) is not str or len(value) > 64:
        raise ValueError("must be a decimal in a text")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError("must be a decimal in a text") from None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or not -12 <= exponent <= 12 or abs(number) > 10**12:
        raise ValueError("must be finite, with at most 12 places")
    return number


def _above_zero(value: Any) -> Decimal:
    number = _decimal(value)
    if number <= 0:
        raise ValueError("must be above zero")
    return number


def _decimal_or_none(value: Any) -> Decimal | None:
    return None if value is None else _decimal(value)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def _rows_of(fields: dict[str, Any], most: int) -> Callable[[Any], list[Body]]:
    def check(value: Any) -> list[Body]:
        if type(value) is not list or len(value) > most:
            raise ValueError(f"must be a list of at most {most}")
        return [take_fields(each, fields) for each in value]

    return check


_count = _whole(0, 2**63 - 1)
_ms = _whole(10, 600_000)
_platform = _text(16, r"^[a-z][a-z0-9_]*$")
_symbol = _text(32, r"^[A-Z0-9][A-Za-z0-9._/-]*$")
_name = _text(64, r"(?s)^.")
_hex = _text(128, r"^[0-9a-f]{32,128}$")
_id = _text(64)

WANTED_FIELDS: dict[str, Any] = {
    "symbol_id": (_whole(1, 65_535), Required),
    "symbol": (_symbol, Required),
    "platform_symbol": (_name, Required),
    "after_ns": (_count, 0),
    "after_count": (_count, 0),
}


def _order(value: Any) -> Body:
    order = take_fields(value, ORDER_FIELDS)
    kind = order["order_type"]
    if (order["limit_price"] is not None) != (kind in ("limit", "stop_limit")):
        raise ValueError(f"limit_price does not fit a {kind} order")
    if (order["stop_price"] is not None) != (kind in ("stop", "stop_limit")):
        raise ValueError(f"stop_price does not fit a {kind} order")
    if (order["good_till_ns"] > 0) != (order["time_in_force"] == "gtd"):
        raise ValueError("good_till_ns does not fit the time in force")
    return order


ORDER_FIELDS: dict[str, Any] = {
    "type": (_word("order"), Required),
    "client_order_id": (_text(64, r"^[!-~]+$"), Required),
    "platform": (_platform, Required),
    "account": (_id, Required),
    "symbol": (_symbol, Required),
    "contract": (_id, Required),
    "side": (_word("buy", "sell"), Required),
    "quantity": (_above_zero, Required),
    "order_type": (_word("market", "limit", "stop", "stop_limit"), Required),
    "limit_price": (_decimal_or_none, None),
    "stop_price": (_decimal_or_none, None),
    "time_in_force": (_word("day", "gtc", "ioc", "fok", "gtd"), "day"),
    "good_till_ns": (_count, 0),
    "stop_loss": (_decimal_or_none, None),
    "take_profit": (_decimal_or_none, None),
    "reduce_only": (_flag, False),
    "close_ticket": (_text(32), ""),
    "oco_group": (_text(64), ""),
    "not_after_ns": (_count, 0),
}

MESSAGES: dict[str, dict[str, Any]] = {
    "login": {
        "nonce": (_hex, Required),
        "proof": (_text(64, r"^[0-9a-f]{64}$"), Required),
        "platform": (_platform, Required),
        "heartbeat_ms": (_ms, Required),
        "mute_after_ms": (_ms, Required),
        "sent_ns": (_count, Required),
    },
    "subscribe": {"symbols": (_rows_of(WANTED_FIELDS, MAX_SYMBOLS), Required)},
    "heartbeat": {
        "sent_ns": (_count, Required),
        "last_seq_received": (_count, Required),
        "ticks_received": (_count, 0),
    },
    "place": {"order": (_order, Required), "stop_loss_id": (_id, ""), "take_profit_id": (_id, "")},
    "cancel": {
        "client_order_id": (_id, Required),
        "platform": (_platform, Required),
        "account": (_id, Required),
        "symbol": (_symbol, Required),
        "platform_order_id": (_id, ""),
    },
    "replace": {
        "client_order_id": (_id, Required),
        "platform": (_platform, Required),
        "account": (_id, Required),
        "symbol": (_symbol, Required),
        "revision": (_whole(1, 2**31 - 1), Required),
        "quantity": (_above_zero, Required),
        "platform_order_id": (_id, ""),
        "limit_price": (_decimal_or_none, None),
        "stop_price": (_decimal_or_none, None),
    },
    "snapshot_request": {
        "request_id": (_count, Required),
        "platform": (_platform, Required),
        "account": (_id, Required),
        "executions_from_ns": (_count, 0),
    },
    "error": {
        "code": (
            _word("wrong_token", "wrong_version", "malformed", "replaced", "not_ready", "mute", "closing"),
            Required,
        ),
        "text": (_text(512), Required),
    },
}
"""What an adapter may say: message -> field -> (check, default)."""


def take_fields(value: Any, fields: dict[str, Any]) -> Body:
    """The checked fields of an object, defaults filled in. Raises Breach or ValueError."""
    if type(value) is not dict:
        raise ValueError("must be an object")
    unknown = sorted(value.keys() - fields.keys())
    if unknown:
        raise Breach(f"unknown key {unknown[0]!r}")
    taken = {}
    for name, (check, default) in fields.items():
        if name not in value:
            if default is Required:
                raise Breach(f"{name} was missing")
            taken[name] = default
            continue
        try:
            taken[name] = check(value[name])
        except ValueError as error:
            raise Breach(f"{name} was {str(value[name])[:100]!r}, {error}") from None
    return taken


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def read_message(payload: bytes, expected_seq: int) -> Body:
    """The body of an adapter's message, checked, with its `type`. Raises Breach."""
    try:
        message = json.loads(payload.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Breach(f"no message: {error}"[:300]) from None
    if type(message) is not dict or message.keys() != {"seq", "body"} or type(message["body"]) is not dict:
        raise Breach("no message: must be an object of seq and body")
    if type(message["seq"]) is not int or message["seq"] != expected_seq:
        raise Breach(f"message {expected_seq} was expected, was {message['seq']!r}"[:300])
    body = dict(message["body"])
    kind = body.pop("type", None)
    fields = MESSAGES.get(kind) if type(kind) is str else None
    if fields is None:
        raise Breach(f"message type was {kind!r}")
    return {"type": kind, **take_fields(body, fields)}


def prove(token: str, side: str, first_nonce: str, second_nonce: str) -> str:
    """`mac` of the protocol; `side` is `adapter` or `bridge`."""
    return hmac.new(token.encode(), f"{side}|{first_nonce}|{second_nonce}".encode(), hashlib.sha256).hexdigest()
