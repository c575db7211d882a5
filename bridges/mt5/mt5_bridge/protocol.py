"""Pack and unpack frames and messages of the bridge protocol (bridges/PROTOCOL.md)."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import numpy as np

from .constants import HEADER, MAX_GREETING_BYTES, MAX_MESSAGE_BYTES, MAX_SYMBOLS, MESSAGE, PROTOCOL_VERSION, TICKS
from .errors import Breach
from .fields import (
    COUNT,
    HEX,
    ID,
    MILLISECONDS,
    NAME,
    PLATFORM,
    SYMBOL,
    Body,
    Required,
    one_of,
    rows_of,
    take_fields,
    text_up_to,
    to_decimal_or_none,
    to_flag,
    to_positive,
    whole_between,
)


def pack_frame(kind: int, payload: bytes) -> bytes:
    """Frame of header and payload; `kind` is TICKS or MESSAGE."""
    return HEADER.pack(len(payload), kind, 0, PROTOCOL_VERSION) + payload


def pack_message(seq: int, body: Body) -> bytes:
    """Frame with one message."""
    text = json.dumps({"seq": seq, "body": body}, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Texts of the terminal or of a peer may hold half a surrogate pair, which UTF-8 cannot encode.
    return pack_frame(MESSAGE, text.encode("utf-8", "replace"))


def pack_ticks(records: np.ndarray[Any, Any]) -> bytes:
    """Frame of 1 to MAX_FRAME_TICKS records."""
    return pack_frame(TICKS, records.tobytes())


class FrameReader:
    """Reassembles an adapter's frames from TCP segments. `greeting`: before the login only small ones are accepted."""

    def __init__(self) -> None:
        self.greeting = True
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._bytes += data

    def take(self) -> bytes | None:
        """Payload of the next complete message, None when there is none. Raises Breach."""
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


WANTED_FIELDS: dict[str, Any] = {
    "symbol_id": (whole_between(1, 65_535), Required),
    "symbol": (SYMBOL, Required),
    "platform_symbol": (NAME, Required),
    "after_ns": (COUNT, 0),
    "after_count": (COUNT, 0),
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
    "type": (one_of("order"), Required),
    "client_order_id": (text_up_to(64, r"^[!-~]+$"), Required),
    "platform": (PLATFORM, Required),
    "account": (ID, Required),
    "symbol": (SYMBOL, Required),
    "contract": (ID, Required),
    "side": (one_of("buy", "sell"), Required),
    "quantity": (to_positive, Required),
    "order_type": (one_of("market", "limit", "stop", "stop_limit"), Required),
    "limit_price": (to_decimal_or_none, None),
    "stop_price": (to_decimal_or_none, None),
    "time_in_force": (one_of("day", "gtc", "ioc", "fok", "gtd"), "day"),
    "good_till_ns": (COUNT, 0),
    "stop_loss": (to_decimal_or_none, None),
    "take_profit": (to_decimal_or_none, None),
    "reduce_only": (to_flag, False),
    "close_ticket": (text_up_to(32), ""),
    "oco_group": (text_up_to(64), ""),
    "not_after_ns": (COUNT, 0),
}

MESSAGES: dict[str, dict[str, Any]] = {
    "login": {
        "nonce": (HEX, Required),
        "proof": (text_up_to(64, r"^[0-9a-f]{64}$"), Required),
        "platform": (PLATFORM, Required),
        "heartbeat_ms": (MILLISECONDS, Required),
        "mute_after_ms": (MILLISECONDS, Required),
        "sent_ns": (COUNT, Required),
    },
    "subscribe": {"symbols": (rows_of(WANTED_FIELDS, MAX_SYMBOLS), Required)},
    "heartbeat": {
        "sent_ns": (COUNT, Required),
        "last_seq_received": (COUNT, Required),
        "ticks_received": (COUNT, 0),
    },
    "place": {"order": (_order, Required), "stop_loss_id": (ID, ""), "take_profit_id": (ID, "")},
    "cancel": {
        "client_order_id": (ID, Required),
        "platform": (PLATFORM, Required),
        "account": (ID, Required),
        "symbol": (SYMBOL, Required),
        "platform_order_id": (ID, ""),
    },
    "replace": {
        "client_order_id": (ID, Required),
        "platform": (PLATFORM, Required),
        "account": (ID, Required),
        "symbol": (SYMBOL, Required),
        "revision": (whole_between(1, 2**31 - 1), Required),
        "quantity": (to_positive, Required),
        "platform_order_id": (ID, ""),
        "limit_price": (to_decimal_or_none, None),
        "stop_price": (to_decimal_or_none, None),
    },
    "flatten": {
        "request_id": (COUNT, Required),
        "platform": (PLATFORM, Required),
        "account": (ID, Required),
        "not_after_ns": (COUNT, 0),
    },
    "snapshot_request": {
        "request_id": (COUNT, Required),
        "platform": (PLATFORM, Required),
        "account": (ID, Required),
        "executions_from_ns": (COUNT, 0),
    },
    "error": {
        "code": (
            one_of("wrong_token", "wrong_version", "malformed", "replaced", "not_ready", "mute", "closing"),
            Required,
        ),
        "text": (text_up_to(512), Required),
    },
}
"""Messages that an adapter may send: type -> field -> (check, default)."""


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def read_message(payload: bytes, expected_seq: int) -> Body:
    """Decode and check an adapter's message; returns its body with `type`. Raises Breach."""
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
    """`mac` of the protocol, hex; `side` is `adapter` or `bridge`."""
    return hmac.new(token.encode(), f"{side}|{first_nonce}|{second_nonce}".encode(), hashlib.sha256).hexdigest()
