"""Bytes of the bridge protocol, standard library only: frames, tick records, proofs."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import struct
from typing import Any, NamedTuple

VERSION = 2
TICKS = 1
MESSAGE = 2
HEADER = struct.Struct("<IBBH")
RECORD = struct.Struct("<QqqdddfffHBB")
MAX_FRAME_TICKS = 4096
MAX_MESSAGE_BYTES = 4 * 1024 * 1024

BID, ASK, TRADE, BUYER, SELLER, SNAPSHOT, ROLL, STALE = (1 << bit for bit in range(8))


class Breach(Exception):
    """The other side broke the protocol."""


class Tick(NamedTuple):
    """One record; `nan` = never seen."""

    symbol_id: int
    ts_event_ns: int
    flags: int
    bid: float = math.nan
    ask: float = math.nan
    last: float = math.nan
    bid_size: float = 0.0
    ask_size: float = 0.0
    last_size: float = 0.0


def pack_tick(tick: Tick) -> bytes:
    """64 bytes."""
    symbol_id, ts_event_ns, flags, *values = tick
    return RECORD.pack(0, ts_event_ns, 0, *values, symbol_id, 0, flags)


def pack_ticks(records: list[bytes]) -> bytes:
    """One frame of 1 to 4096 records."""
    payload = b"".join(records)
    return HEADER.pack(len(payload), TICKS, 0, VERSION) + payload


def pack_message(seq: int, body: dict[str, Any]) -> bytes:
    """One frame of a message."""
    payload = json.dumps({"seq": seq, "body": body}, separators=(",", ":"), allow_nan=False).encode()
    return HEADER.pack(len(payload), MESSAGE, 0, VERSION) + payload


def prove(token: str, side: str, first_nonce: str, second_nonce: str) -> str:
    """`mac` of PROTOCOL.md; `side` is `adapter` or `bridge`."""
    return hmac.new(token.encode(), f"{side}|{first_nonce}|{second_nonce}".encode(), hashlib.sha256).hexdigest()


class FrameReader:
    """Puts frames together, however TCP has cut them."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Type and payload of each frame that is complete now. Raises Breach."""
        self._bytes += data
        frames = []
        while len(self._bytes) >= HEADER.size:
            length, kind, flags, version = HEADER.unpack_from(self._bytes)
            if version != VERSION or flags or kind not in (TICKS, MESSAGE) or not 0 < length <= MAX_MESSAGE_BYTES:
                raise Breach(f"header was length {length}, type {kind}, flags {flags}, version {version}")
            if len(self._bytes) < HEADER.size + length:
                break
            frames.append((kind, bytes(self._bytes[HEADER.size : HEADER.size + length])))
            del self._bytes[: HEADER.size + length]
        return frames


def unpack_message(payload: bytes, expected_seq: int) -> dict[str, Any]:
    """The body of the message with this number. Raises Breach."""
    try:
        message = json.loads(payload)
        seq, body = message["seq"], message["body"]
        body["type"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Breach(f"no message: {error!r}") from error
    if seq != expected_seq:
        raise Breach(f"message {expected_seq} was expected, was {seq}")
    return body
