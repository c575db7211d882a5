"""The bridge between one MetaTrader 5 terminal and Nexus Gateway, by bridges/PROTOCOL.md. README.md says how to run it.

One file, one thread, one terminal. Needs MetaTrader5 and numpy, imports nothing of the gateway; Python 3.9 or newer.

Why one thread: the module never lets go of the interpreter while a call is under way, so a second thread would stand
still with the first. Between any two calls into the terminal the sockets are served, and commands come before ticks.

How a hung terminal is told from a busy one: by time alone, there is no other sign. Before a call that may be long
(initialize, first history of a symbol, order_send, history for a snapshot) the adapter is told `busy`, with the time
that it may take; a look at ticks or orders is not announced, and when one of them takes longer than the adapter's
`mute_after_ms`, the adapter is right to mark its quotes stale. It comes back, and its ticks go on where they ended.
Beyond `until_ns` of the pulse file a supervisor ends the process.

Sections: constants; frames and messages; configuration; clock; decimals; terminal; symbols; ticks; order identity;
what the platform shows; commands; monitor and snapshots; connection; the bridge; main.
"""

from __future__ import annotations

import argparse
import base64
import calendar
import contextlib
import difflib
import functools
import hashlib
import hmac
import importlib
import ipaddress
import json
import math
import os
import re
import secrets
import select
import signal
import socket
import stat
import struct
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

try:
    import numpy as np
except ImportError as import_error:
    sys.stderr.write(f"mt5_bridge: numpy cannot be imported ({import_error}); run: pip install numpy MetaTrader5\n")
    raise SystemExit(2) from import_error

# ---------------------------------------------------------------------------------------------------------------------
# Constants
# ---------------------------------------------------------------------------------------------------------------------

PROGRAM = "mt5_bridge.py"
VERSION = "1.0.0"

EXIT_CLEAN = 0
EXIT_CONFIG = 2
EXIT_PORT = 3

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
MS_PER_S = 1_000
DAY_S = 86_400

# The protocol.
PROTOCOL_VERSION = 1
TICKS = 1
MESSAGE = 2
HEADER = struct.Struct("<IBBH")
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_GREETING_BYTES = 64 * 1024
MAX_FRAME_TICKS = 4096
MAX_ROWS = 5_000
MAX_SYMBOLS = 1_000
MAX_BUSY_MS = 120_000
MAX_URGENT = 10_000
LOGIN_WITHIN_S = 5.0
LAST_WORD_S = 2.0
BID, ASK, TRADE, BUYER, SELLER, SNAPSHOT, ROLL, STALE = (1 << bit for bit in range(8))

RECORD = np.dtype(
    [
        ("seq", "<u8"),
        ("ts_event_ns", "<i8"),
        ("ts_recv_ns", "<i8"),
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("last", "<f8"),
        ("bid_size", "<f4"),
        ("ask_size", "<f4"),
        ("last_size", "<f4"),
        ("symbol", "<u2"),
        ("source", "u1"),
        ("flags", "u1"),
    ]
)
"""64 bytes: the gateway's tick, as it goes over the wire."""

ROW = np.dtype(
    [
        ("time", "<i8"),
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("last", "<f8"),
        ("volume", "<u8"),
        ("time_msc", "<i8"),
        ("flags", "<u4"),
        ("volume_real", "<f8"),
    ]
)
"""60 bytes: a tick as copy_ticks_* gives it; the fields of a Tick have the same order."""

# The terminal. Names as in the module; SYMBOL_FILLING_* and SYMBOL_ORDER_* it does not export.
COPY_TICKS_ALL = -1
TICK_FLAG_BID, TICK_FLAG_ASK, TICK_FLAG_LAST, TICK_FLAG_VOLUME, TICK_FLAG_BUY, TICK_FLAG_SELL = 2, 4, 8, 16, 32, 64
ACTION_DEAL, ACTION_PENDING, ACTION_SLTP, ACTION_MODIFY, ACTION_REMOVE = 1, 5, 6, 7, 8
FILLING_FOK, FILLING_IOC, FILLING_RETURN = 0, 1, 2
MASK_FOK, MASK_IOC = 1, 2
TIME_GTC, TIME_DAY, TIME_SPECIFIED = 0, 1, 2
EXPIRES_GTC, EXPIRES_DAY, EXPIRES_SPECIFIED = 1, 2, 4
EXECUTION_REQUEST, EXECUTION_INSTANT, EXECUTION_MARKET, EXECUTION_EXCHANGE = 0, 1, 2, 3
TRADE_MODE_DISABLED = 0
MARGIN_HEDGING = 2
ACCOUNT_REAL = 2
REASON_SL, REASON_TP, REASON_SO = 4, 5, 6
DEAL_BUY, DEAL_SELL, DEAL_BUY_CANCELED, DEAL_SELL_CANCELED = 0, 1, 13, 14
ENTRY_IN = 0
CALC_BY_CONTRACT_SIZE = (0, 2, 3, 4, 5, 32)
"""FOREX, CFD, CFDINDEX, CFDLEVERAGE, FOREX_NO_LEVERAGE, EXCH_STOCKS: profit is difference x contract size x lots."""

ORDER_TYPES = {
    0: ("buy", "market"),
    1: ("sell", "market"),
    2: ("buy", "limit"),
    3: ("sell", "limit"),
    4: ("buy", "stop"),
    5: ("sell", "stop"),
    6: ("buy", "stop_limit"),
    7: ("sell", "stop_limit"),
    8: ("buy", "market"),  # close by: the side is of no account
}
TYPE_NUMBERS = {words: number for number, words in ORDER_TYPES.items() if number < 8}
ORDER_MODES = {"market": 1, "limit": 2, "stop": 4, "stop_limit": 8}
ORDER_STATES = {
    0: "sent",
    1: "working",
    2: "cancelled",
    3: "partially_filled",
    4: "filled",
    5: "rejected",
    6: "expired",
    7: "sent",
    8: "working",
    9: "working",
}
FINAL_STATES = ("filled", "cancelled", "rejected", "expired")
ENDED_STATES = (2, 3, 4, 5, 6)
"""Of an order that the history lists and orders_get does not: PARTIAL there means that its rest was cancelled."""

ACCEPTED = (10008, 10009, 10010)
NO_CHANGES = 10025
INVALID_FILL = 10030
AGAIN_AT_FRESH_PRICE = (10004, 10020, 10021)
"""The server has not traded, for certain, and gives another price: sent again, at most twice, within not_after_ns."""
AMBIGUOUS = (10011, 10012, 10031)
"""ERROR, TIMEOUT, CONNECTION: whether the server has it is not known. Never sent again; orders and deals will tell."""
SWITCHED_OFF = (10017, 10026, 10027)
RETCODES = {
    10004: "REQUOTE",
    10006: "REJECT",
    10007: "CANCEL",
    10008: "PLACED",
    10009: "DONE",
    10010: "DONE_PARTIAL",
    10011: "ERROR",
    10012: "TIMEOUT",
    10013: "INVALID",
    10014: "INVALID_VOLUME",
    10015: "INVALID_PRICE",
    10016: "INVALID_STOPS",
    10017: "TRADE_DISABLED: trading is not allowed on this account (investor password?)",
    10018: "MARKET_CLOSED",
    10019: "NO_MONEY",
    10020: "PRICE_CHANGED",
    10021: "PRICE_OFF: there are no quotes",
    10022: "INVALID_EXPIRATION",
    10023: "ORDER_CHANGED",
    10024: "TOO_MANY_REQUESTS",
    10025: "NO_CHANGES",
    10026: "SERVER_DISABLES_AT: the broker forbids algo trading",
    10027: "CLIENT_DISABLES_AT: press Algo Trading in the terminal",
    10028: "LOCKED",
    10029: "FROZEN: too near to the market to be changed",
    10030: "INVALID_FILL",
    10031: "CONNECTION",
    10032: "ONLY_REAL",
    10033: "LIMIT_ORDERS: too many pending orders",
    10034: "LIMIT_VOLUME",
    10035: "INVALID_ORDER",
    10036: "POSITION_CLOSED",
    10038: "INVALID_CLOSE_VOLUME",
    10039: "CLOSE_ORDER_EXIST",
    10040: "LIMIT_POSITIONS",
    10041: "REJECT_CANCEL",
    10042: "LONG_ONLY",
    10043: "SHORT_ONLY",
    10044: "CLOSE_ONLY",
    10045: "FIFO_CLOSE",
    10046: "HEDGE_PROHIBITED",
}
REJECT_CODES = {
    10014: "not_on_lot_step",
    10018: "session_closed",
    10022: "unsupported_tif",
    10030: "unsupported_tif",
}
"""retcode -> the protocol's code; all others that refuse are `platform_rejected`."""

IPC_LOST = (-10000, -10001, -10002, -10003, -10004, -10005)
AUTH_FAILED = -6
CALL_FAILED = -1
MODULE_RAISES = (SystemError, TypeError, ValueError, ArithmeticError)
"""What comes of arguments that do not fit its C types (a date beyond 2038), and of answers that it cannot decode."""
NOTHING_WAS_SENT = (-2, -7, -8, -10004)
"""Wrong arguments, unsupported, switched off, no connection: order_send has not gone out, for certain."""

# How long a call into the terminal may take before the adapter is right to lose patience.
INITIALIZE_TIMEOUT_MS = 20_000
INITIALIZE_LIMIT_MS = 120_000
"""The module tries to launch for some 100 s, then waits for the login up to its time-out."""
WARM_UP_LIMIT_MS = 60_000
"""MetaQuotes: up to 45 s while the history of a symbol is brought up to date."""
SEND_LIMIT_MS = 30_000
HISTORY_LIMIT_MS = 15_000
HANG_LIMIT_MS = 120_000
"""For the supervisor, whatever the call: not below any of the above; 77 s have been seen for a read that did return."""

# Rhythm.
PULSE_S = 1.0
WATCH_S = 2.0
DEALS_S = 1.0
MONEY_S = 1.0
LAG_S = 5.0
LAG_MS = 2_000
WAIT_S = 0.05
"""Between two looks for a symbol's first tick, or for history that is not there yet."""
MISSING_S = 10.0
SYNCHRONISE_S = 1.5
"""Of the 3 s that the answers to a subscription may take."""
COMPLAIN_S = 10.0
LATE_VERDICT_S = 10.0
CLOCK_DOUBT_S = 26 * 3_600
"""No two clocks of the world are further apart: history begins so much earlier, lest a wrong offset hide executions."""
BIND_PATIENCE_S = 15.0
LONGEST_BACKOFF_S = 60.0
LONGEST_WAIT_S = 0.25
FIRST_COUNT = 4_000
MOST_COUNT = 100_000
FRAME_TICKS = 1_024
"""Small enough that an order event does not wait long behind one that is under way."""
MOST_WAITING_TICKS = 65_536
"""Beyond, the terminal is not read: it keeps them."""
MAX_SYMBOL_CHARACTERS = 29
REQUOTE_RETRIES = 2
STABLE_READS = 5
MOST_STRANGERS = 16
"""Connections without a session; select takes 512 sockets on Windows, 1,024 descriptors elsewhere."""

# ---------------------------------------------------------------------------------------------------------------------
# Frames and messages
# ---------------------------------------------------------------------------------------------------------------------

Body = dict[str, Any]


class Breach(Exception):
    """The other side broke the protocol: its bytes cannot be trusted from here on."""


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


# ---------------------------------------------------------------------------------------------------------------------
# Configuration
# ---------------------------------------------------------------------------------------------------------------------

PORTS = {"mt5": 9011, "mt5_br": 9012}
CLOCKS: dict[str, Body] = {
    "mt5": {"utc_offset_minutes": 120, "dst": "us", "mode": "configured"},
    "mt5_br": {"utc_offset_minutes": -180, "dst": "none", "mode": "configured"},
}
LEVELS = ("debug", "info", "warning", "error")


class ConfigError(Exception):
    """What was wrong, and its cure. Starting again does not help."""


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _name(value)


def _path_or_none(value: Any) -> str | None:
    return None if value is None else _text(1_000, r"(?s)^.")(value)


def _hours_or_none(value: Any) -> tuple[int, int] | None:
    """Minutes of the day, from and to."""
    if value is None:
        return None
    found = re.match(r"^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)$", str(value))
    if found is None:
        raise ValueError('must be hours such as "09:00-18:30", by the server\'s clock')
    first, last = (int(found.group(i)) * 60 + int(found.group(i + 1)) for i in (1, 3))
    return first, last


CLOCK_FIELDS: dict[str, Any] = {
    "utc_offset_minutes": (_whole(-900, 900), 0),
    "dst": (_word("none", "us", "eu"), "none"),
    "mode": (_word("configured", "measured"), "configured"),
}
CONFIG_FIELDS: dict[str, Any] = {
    "platform": (_platform, Required),
    "terminal_path": (_text(257, r"(?s)^."), Required),
    "login": (_whole(1, 2**63 - 1), Required),
    "server": (_text(253, r"(?s)^."), Required),
    "company": (_text_or_none, None),
    "portable": (_flag, True),
    "token_file": (_path_or_none, None),
    "token_env": (_text_or_none, None),
    "host": (_name, "127.0.0.1"),
    "port": (_whole(1, 65_535), None),
    "remote": (_flag, False),
    "clock": (lambda value: take_fields(value, CLOCK_FIELDS), None),
    "role": (_word("both", "ticks", "orders"), "both"),
    "poll_ms": (_whole(1, 1_000), 2),
    "backoff_ms": (_whole(50, 60_000), 1_000),
    "account_wait_s": (_whole(0, 600), 60),
    "monitor_busy_ms": (_whole(5, 1_000), 30),
    "monitor_idle_ms": (_whole(50, 5_000), 300),
    "history_days": (_whole(1, 30), 2),
    "deviation_points": (_whole(0, 100_000), 10),
    "locked_quotes": (_word("pass", "gate"), None),
    "quote_hours": (_hours_or_none, None),
    "ids_file": (_path_or_none, None),
    "pulse_file": (_path_or_none, None),
    "log_file": (_path_or_none, None),
    "log_level": (_word(*LEVELS), "info"),
}


class Config:
    """The bridge's configuration, checked; see README.md. `token` is never logged."""

    def __init__(self, values: Body, folder: str, stem: str) -> None:
        """`folder`, `stem`: of the configuration file; relative paths are meant from there. Raises ConfigError."""
        try:
            taken = take_fields(values, CONFIG_FIELDS)
        except (Breach, ValueError) as error:
            raise ConfigError(f"{error}; correct it, see README.md") from None
        self.platform: str = taken["platform"]
        self.terminal_path: str = taken["terminal_path"]
        self.login: int = taken["login"]
        self.server: str = taken["server"]
        self.company: str | None = taken["company"]
        self.portable: bool = taken["portable"]
        self.host: str = taken["host"]
        self.port: int = taken["port"] or PORTS.get(self.platform, 0)
        self.clock: Body = taken["clock"] or CLOCKS.get(self.platform, CLOCKS["mt5"])
        self.role: str = taken["role"]
        self.has_ticks: bool = self.role != "orders"
        self.has_orders: bool = self.role != "ticks"
        self.poll_s: float = taken["poll_ms"] / 1000
        self.backoff_s: float = taken["backoff_ms"] / 1000
        self.account_wait_s: int = taken["account_wait_s"]
        self.monitor_busy_s: float = taken["monitor_busy_ms"] / 1000
        self.monitor_idle_s: float = taken["monitor_idle_ms"] / 1000
        self.history_days: int = taken["history_days"]
        self.deviation_points: int = taken["deviation_points"]
        self.gate_locked: bool = (taken["locked_quotes"] or ("gate" if self.platform == "mt5_br" else "pass")) == "gate"
        self.quote_hours: tuple[int, int] | None = taken["quote_hours"]
        self.ids_file = os.path.join(folder, taken["ids_file"] or f"{stem}.ids")
        self.pulse_file = None if taken["pulse_file"] is None else os.path.join(folder, taken["pulse_file"])
        self.log_file = None if taken["log_file"] is None else os.path.join(folder, taken["log_file"])
        self.log_level: str = taken["log_level"]
        if not self.port:
            raise ConfigError(f"port is missing: platform {self.platform!r} has none of its own")
        if not os.path.isabs(self.terminal_path):
            raise ConfigError(
                f"terminal_path was {self.terminal_path!r}, must be absolute: without the whole path the module may "
                "take another terminal"
            )
        if not taken["remote"] and not _is_loopback(self.host):
            raise ConfigError(f"host was {self.host!r}, not this machine; tunnel the port, or write remote: true")
        self.token = _read_token(taken["token_file"], taken["token_env"], folder)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_token(file: str | None, variable: str | None, folder: str) -> str:
    if (file is None) == (variable is None):
        raise ConfigError("token_file is missing; name the file with the token (or token_env, but not both)")
    if variable is not None:
        where, token = f"environment variable {variable}", os.environ.get(variable, "").strip()
    else:
        path = os.path.join(folder, file or "")
        where = f"file {path}"
        try:
            with open(path, encoding="utf-8") as source:
                token = source.read().strip()
            mode = stat.S_IMODE(os.stat(path).st_mode)
        except (OSError, ValueError) as error:
            raise ConfigError(f"token_file {path} cannot be read: {error}") from None
        if os.name == "posix" and mode & 0o077:
            raise ConfigError(f"token_file {path} has mode {oct(mode)}, allowed is 0o600; run: chmod 600 {path}")
    if len(token) < 16:
        raise ConfigError(f"the token in {where} had {len(token)} characters, must be at least 16")
    return token


def load_config(path: str) -> Config:
    """Raises ConfigError."""
    try:
        with open(path, encoding="utf-8") as source:
            values = json.load(source)
    except (OSError, ValueError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}") from None
    folder, name = os.path.split(os.path.abspath(path))
    return Config(values, folder, os.path.splitext(name)[0])


class Log:
    """Lines of `time LEVEL text`; the token never comes here. What cannot be written is lost: a full disk must not end
    the bridge in the middle of an order.
    """

    def __init__(self, path: str | None, level: str) -> None:
        self._stream = sys.stderr
        if path is not None:
            # Open for as long as the program runs.
            self._stream = open(path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        self._least = LEVELS.index(level)

    def say(self, level: str, text: str) -> None:
        """`level`: one of LEVELS."""
        if LEVELS.index(level) >= self._least:
            now_ns = time.time_ns()
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // NS_PER_S))
            with contextlib.suppress(OSError):
                self._stream.write(f"{stamp}.{now_ns % NS_PER_S // NS_PER_MS:03d}Z {level.upper()} {text}\n")
                self._stream.flush()


# ---------------------------------------------------------------------------------------------------------------------
# Clock: the broker's wall clock, written as if it were UTC
# ---------------------------------------------------------------------------------------------------------------------

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
QUARTER_MS = 15 * MINUTE_MS
AHEAD_MS = 2_000
BEHIND_MS = 10_000
SAMPLES = 5
SAMPLING_MS = 10_000


def _sunday(year: int, month: int, number: int) -> int:
    """Day of the month of its `number`th Sunday; -1 = the last."""
    days = [day for day in range(1, calendar.monthrange(year, month)[1] + 1) if calendar.weekday(year, month, day) == 6]
    return days[number - 1 if number > 0 else number]


@functools.cache
def summer_of(rule: str, year: int) -> tuple[int, int]:
    """First and last moment of daylight time, UTC ms: 02:00 New York by US dates, 01:00 UTC by EU dates."""
    if rule == "us":
        first, last = (3, _sunday(year, 3, 2), 7), (11, _sunday(year, 11, 1), 6)
    else:
        first, last = (3, _sunday(year, 3, -1), 1), (10, _sunday(year, 10, -1), 1)
    start, end = (calendar.timegm((year, *day_hour, 0, 0)) * MS_PER_S for day_hour in (first, last))
    return start, end


class ServerClock:
    """Offset of the server's clock to UTC, now and at any other time. `is_known`: False until it was measured."""

    def __init__(self, settings: Body) -> None:
        self._rule: str = settings["dst"]
        self._base_ms: int = settings["utc_offset_minutes"] * MINUTE_MS
        self.is_measured = settings["mode"] == "measured"
        # Measured: (since UTC ms, offset ms), oldest first. What was stamped by an old offset keeps it.
        self._pieces: list[tuple[int, int]] = []

    @property
    def is_known(self) -> bool:
        return not self.is_measured or bool(self._pieces)

    def offset_ms(self, utc_ms: int) -> int:
        """Server's clock minus UTC at this moment."""
        if self.is_measured:
            if not self._pieces:
                return self._base_ms
            began = [offset for since, offset in self._pieces if since <= utc_ms]
            return began[-1] if began else self._pieces[0][1]
        return self._base_ms + (HOUR_MS if self._is_summer(utc_ms) else 0)

    def take(self, offset_ms: int, utc_ms: int) -> None:
        """It was measured: from now on this is it."""
        self._pieces.append((utc_ms, offset_ms))

    def to_server_ms(self, utc_ms: int) -> int:
        return utc_ms + self.offset_ms(utc_ms)

    def to_utc_ms(self, server_ms: int) -> int:
        """Where the clock was put back, the earlier of the two moments."""
        if self.is_measured:
            for since, offset in reversed(self._pieces):
                if server_ms - offset >= since:
                    return server_ms - offset
            return server_ms - self.offset_ms(0)
        summer_ms = server_ms - self._base_ms - HOUR_MS
        return summer_ms if self._is_summer(summer_ms) else server_ms - self._base_ms

    def to_utc_ns(self, server_ms: int) -> int:
        """0 for 0: the terminal's word for none."""
        return max(self.to_utc_ms(server_ms), 0) * NS_PER_MS if server_ms > 0 else 0

    def all_to_utc_ms(self, server_ms: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """As `to_utc_ms`, for an ascending array."""
        first, last = int(server_ms[0]), int(server_ms[-1])
        offset_ms = first - self.to_utc_ms(first)
        if last - self.to_utc_ms(last) == offset_ms and last - first < 90 * 24 * HOUR_MS:
            return server_ms - offset_ms
        return np.array([self.to_utc_ms(int(each)) for each in server_ms], np.int64)

    def _is_summer(self, utc_ms: int) -> bool:
        if self._rule == "none":
            return False
        year = time.gmtime(max(utc_ms, 0) // MS_PER_S).tm_year
        start, end = summer_of(self._rule, year)
        return start <= utc_ms < end


class ClockGauge:
    """Reads the server's offset off ticks that have just come: their stamp minus our clock, to a quarter of an hour.

    Ticks are a moment old when they are seen, and this computer's clock may be some seconds wrong; what lies further
    from a quarter proves nothing. `SAMPLES` ticks of one stretch must agree, of as many symbols as trade.
    """

    def __init__(self) -> None:
        self._samples: list[int] = []
        self._began_ms = 0

    def add(self, server_ms: int, utc_ms: int) -> None:
        """A tick with this stamp has come now."""
        if not self._samples:
            self._began_ms = utc_ms
        self._samples.append(server_ms - utc_ms)

    def read(self, utc_ms: int) -> int | None:
        """The offset in ms, once in a while; None when there is nothing to say."""
        if not self._samples or (utc_ms - self._began_ms < SAMPLING_MS and len(self._samples) < SAMPLES):
            return None
        samples, self._samples = self._samples, []
        if len(samples) < SAMPLES:
            return None
        found = set()
        for sample in samples:
            quarter = (sample + BEHIND_MS) // QUARTER_MS * QUARTER_MS
            if not -BEHIND_MS <= sample - quarter <= AHEAD_MS:
                return None
            found.add(quarter)
        return found.pop() if len(found) == 1 else None


# ---------------------------------------------------------------------------------------------------------------------
# Decimals: the terminal counts in binary floats, the gateway in decimals
# ---------------------------------------------------------------------------------------------------------------------


def exact(value: float) -> Decimal:
    """The decimal that was meant: 10 places, without the noise of binary fractions. Raises BadNumber."""
    if not math.isfinite(value):
        raise BadNumber(f"the terminal gave {value} for a number")
    return Decimal(write(Decimal(repr(round(float(value), 10)))))


def write(number: Decimal) -> str:
    """As the protocol wants it."""
    return format(number.normalize() if number else Decimal(0), "f")


def write_or_none(value: float) -> str | None:
    """A price of the terminal; its 0 means none."""
    return write(exact(value)) if value else None


def is_multiple(number: Decimal, step: Decimal) -> bool:
    return step > 0 and number % step == 0


# ---------------------------------------------------------------------------------------------------------------------
# Terminal
# ---------------------------------------------------------------------------------------------------------------------


class TerminalLost(Exception):
    """The terminal is gone, or the pipe to it: everything has to be opened anew."""


class WrongTerminal(Exception):
    """It is another terminal, login, server or company than the configuration names."""


class CallFailed(Exception):
    """The terminal refused a call that nothing can go on without."""


class TooLate(Exception):
    """The time until which an order may be sent has passed."""


class BadNumber(CallFailed, ValueError):
    """The terminal gave something for a number that is none."""


class Account:
    """What account_info and terminal_info say of the account that the terminal is logged in to."""

    def __init__(self, terminal: Any, account: Any) -> None:
        self.name = str(account.login)
        self.hedging: bool = account.margin_mode == MARGIN_HEDGING
        self.currency: str = account.currency
        self.simulated: bool = account.trade_mode != ACCOUNT_REAL
        self.build: int = terminal.build
        self.details = {
            "login": str(account.login),
            "server": account.server[:512],
            "company": account.company[:512],
            "path": terminal.path[:512],
            "build": str(terminal.build),
            "margin_mode": str(account.margin_mode),
            "leverage": str(account.leverage),
        }


class Fitness(NamedTuple):
    """`status` of the protocol: the terminal's links, and what a person must do."""

    data_up: bool
    orders_up: bool
    text: str


class Terminal:
    """The module, its errors told apart. `announce`: called before a call that may be long, with limit and name.

    Attributes:
        error: code and text of the last call that failed.
        account: once connected.
    """

    def __init__(self, module: Any, config: Config, log: Log) -> None:
        self._module = module
        self._config = config
        self._log = log
        self.announce: Callable[[int, str], None] = lambda for_ms, doing: None
        self.error: tuple[int, str] = (1, "Success")
        self.account: Account | None = None

    def call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """The function's result, None or False as it says. Raises TerminalLost."""
        try:
            result = getattr(self._module, name)(*arguments, **keywords)
        except MODULE_RAISES as error:
            self.error = (CALL_FAILED, repr(error)[:200])
            return None
        if result is None or result is False:
            self.error = self._module.last_error()
            if self.error[0] in IPC_LOST:
                raise TerminalLost(f"{name}: {self.error[1]} ({self.error[0]})")
        return result

    def need(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """As `call`. Raises CallFailed where that is None."""
        result = self.call(name, *arguments, **keywords)
        if result is None:
            raise CallFailed(f"{name}: {self.error[1]} ({self.error[0]})")
        return result

    def need_account(self) -> Any:
        """account_info of the configured account: somebody may log in elsewhere between any two calls.

        Raises:
            WrongTerminal: it is another login, server or company.
            CallFailed, TerminalLost: see `need`.
        """
        account, config = self.need("account_info"), self._config
        found = [
            ("login", config.login, account.login),
            ("server", config.server, account.server),
            ("company", config.company, account.company),
        ]
        wrong = [
            f"{name} was {was!r}, the configuration names {wanted!r}"
            for name, wanted, was in found
            if wanted is not None and str(wanted).casefold() != str(was).casefold()
        ]
        if wrong:
            raise WrongTerminal(f"{'; '.join(wrong)}; log in there, or correct the configuration")
        return account

    def send(self, request: Body, not_after_ns: int = 0) -> Any:
        """order_send: its result, or None with `error`: what went out is never raised over, the caller must know.

        Raises, with nothing sent:
            TooLate: `not_after_ns` has passed; 0 = no limit. Looked at last: the account's call may have taken long.
            CallFailed, TerminalLost, WrongTerminal: see `need_account`.
        """
        self.announce(SEND_LIMIT_MS, "order_send")
        self.need_account()
        if not_after_ns and time.time_ns() > not_after_ns:
            raise TooLate
        try:
            result = self._module.order_send(request)
        except MODULE_RAISES as error:
            # Before it was sent or while the answer was read: nobody can tell.
            self.error = (CALL_FAILED, repr(error)[:200])
            return None
        if result is None:
            self.error = self._module.last_error()
        return result

    def connect(self) -> Account:
        """Open the pipe to the configured terminal, which is launched if need be, and look who it is.

        Raises:
            TerminalLost: not now.
            WrongTerminal: it is another one.
        """
        self.account = None
        config = self._config
        self.announce(INITIALIZE_LIMIT_MS, "initialize")
        self._module.shutdown()
        opened = self._module.initialize(
            path=config.terminal_path, portable=config.portable, timeout=INITIALIZE_TIMEOUT_MS
        )
        if not opened:
            code, text = self._module.last_error()
            cure = "; log in to it by hand once, with the password saved" if code == AUTH_FAILED else ""
            raise TerminalLost(f"{config.terminal_path}: {text} ({code}){cure}")
        account = Account(*self._read_identity())
        self._log.say("info", f"terminal connected: {account.details}")
        self.account = account
        return account

    def look(self) -> tuple[Fitness, Any]:
        """The switches of the terminal and of the account, and account_info. Raises TerminalLost, WrongTerminal."""
        terminal, account = self._read_identity()
        wants = []
        if not terminal.connected:
            wants.append("the terminal has no connection to the broker")
        if not self._config.has_orders:
            wants.append("this bridge is for ticks alone (role)")
        else:
            if not terminal.trade_allowed:
                wants.append("press Algo Trading in the terminal")
            if terminal.tradeapi_disabled:
                wants.append("allow algo trading via the external Python API (Tools, Options, Expert Advisors)")
            if not account.trade_allowed:
                wants.append("trading is not allowed on this account: log in with the master password")
            if not account.trade_expert:
                wants.append("the broker forbids algo trading on this account")
        if self.account is not None and terminal.build != self.account.build:
            self._log.say("warning", f"the terminal is build {terminal.build} now, was {self.account.build}")
            self.account.build = terminal.build
        return Fitness(bool(terminal.connected), not wants, "; ".join(wants)), account

    def _read_identity(self) -> tuple[Any, Any]:
        try:
            terminal, account = self.need("terminal_info"), self.need_account()
        except CallFailed as error:
            raise TerminalLost(f"it tells nothing about itself: {error}") from None
        wanted_path = os.path.dirname(self._config.terminal_path)
        if _plain_path(terminal.path) != _plain_path(wanted_path):
            raise WrongTerminal(
                f"path was {terminal.path!r}, the configuration names {wanted_path!r}; log in there, or correct the "
                "configuration"
            )
        return terminal, account


def _plain_path(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))


# ---------------------------------------------------------------------------------------------------------------------
# Symbols
# ---------------------------------------------------------------------------------------------------------------------


class SymbolRefused(Exception):
    """Why a symbol is not given."""


class NotSynchronised(SymbolRefused):
    """The terminal knows the symbol, but its terms have not come from the broker yet."""


class SymbolFacts:
    """What orders and the gateway need to know of one symbol."""

    def __init__(self, info: Any) -> None:
        """Raises NotSynchronised, ValueError on numbers that are none."""
        self.name: str = info.name
        self.tick_size = exact(info.trade_tick_size or info.point)
        self.lot_step = exact(info.volume_step)
        self.least_lots = exact(info.volume_min)
        # volume_limit is for position and orders of a side together: an order that closes may be larger, so the server
        # judges it (10034).
        self.most_lots = exact(info.volume_max)
        self.execution: int = info.trade_exemode
        self.filling_mask: int = info.filling_mode
        self.order_mode: int = info.order_mode
        self.expiration_mode: int = info.expiration_mode
        for what, size in (("tick size", self.tick_size), ("lot step", self.lot_step)):
            if size <= 0:
                raise NotSynchronised(
                    f"the {what} of {self.name!r} was {size}, must be above 0: it is not synchronised yet, subscribe "
                    "later"
                )


def find_similar(terminal: Terminal, name: str) -> str:
    """For a message: at most 5 names of the terminal that are like this one."""
    stem = re.sub(r"[^A-Za-z0-9].*", "", name)[:3]
    found = terminal.call("symbols_get", group=f"*{stem}*,*{stem.upper()}*") if stem else None
    names = difflib.get_close_matches(name, [each.name for each in found or ()], 5, 0.0)
    return f"; it has {', '.join(map(repr, names))}" if names else ""


def open_symbol(terminal: Terminal, name: str, server_now_ms: int) -> Any:
    """SymbolInfo of a symbol of just this name, now in the Market Watch. Raises SymbolRefused."""
    if not name.isascii() or len(name) > MAX_SYMBOL_CHARACTERS:
        raise SymbolRefused(f"{name!r} must be at most {MAX_SYMBOL_CHARACTERS} ASCII characters")
    if not terminal.call("symbol_select", name, True):
        trouble = f"the terminal has no symbol {name!r}: {terminal.error[1]} ({terminal.error[0]})"
        raise SymbolRefused(trouble + find_similar(terminal, name))
    info = terminal.call("symbol_info", name)
    if info is None:
        raise SymbolRefused(f"the terminal tells nothing of {name!r}: {terminal.error[1]} ({terminal.error[0]})")
    if info.name != name:
        raise SymbolRefused(f"asked for was {name!r}, the terminal gives {info.name!r}")
    if info.trade_mode == TRADE_MODE_DISABLED or "$" in name or "@" in name:
        raise SymbolRefused(
            f"{name!r} ({info.path}) cannot be traded: a continuous series or a closed symbol; name the contract itself"
        )
    if 0 < info.expiration_time * MS_PER_S <= server_now_ms:
        raise SymbolRefused(f"{name!r} has expired")
    return info


def describe_instrument(info: Any, market: SymbolFacts, symbol: str, account_currency: str, clock: ServerClock) -> Body:
    """`instrument` of the protocol. Raises NotSynchronised, ValueError on numbers that are none."""
    point_value: Decimal | None = None
    currency = info.currency_profit or account_currency
    tick_value = exact(info.trade_tick_value)  # in the account's currency
    if currency == account_currency and tick_value > 0:
        point_value = exact(float(tick_value / market.tick_size))
    elif info.trade_calc_mode in CALC_BY_CONTRACT_SIZE:
        point_value = exact(info.trade_contract_size)
    elif currency == account_currency:
        # Without it nobody would compare the multiplier.
        raise NotSynchronised(f"the tick value of {info.name!r} was {tick_value}, must be above 0: subscribe later")
    return {
        "symbol": symbol,
        "platform_symbol": info.name,
        "contract": "",
        "tick_size": write(market.tick_size),
        "lot_step": write(market.lot_step),
        "point_value": None if not point_value else write(point_value),
        "currency": currency[:5],
        "expiry_ns": clock.to_utc_ns(info.expiration_time * MS_PER_S),
    }


def name_external(platform_symbol: str, universal: Iterable[str]) -> str:
    """The symbol of an instrument that was not subscribed (section 3.8 of the protocol)."""
    name = re.sub(r"[^A-Za-z0-9._/-]", "-", platform_symbol)
    name = name[:1].upper() + name[1:]
    if not re.match(r"[A-Z0-9]", name):
        name = "X" + name
    name = name[:32]
    return f"X.{name}"[:32] if name in universal else name


# ---------------------------------------------------------------------------------------------------------------------
# Ticks
# ---------------------------------------------------------------------------------------------------------------------

Rows = Any
"""An array of ROW."""
HOLE = "ticks are others than before at the place to go on at: there may be a hole"


class TickCursor:
    """Where the reading of one symbol's history stands: no row is skipped, none is taken twice.

    The terminal can be asked from a whole second on, many rows share a millisecond, and there are no numbers. So the
    second of the newest row is read again each time; what was taken of it must be the beginning of what is read now.

    Attributes:
        second: read from here on, whole seconds of the server's clock.
        count: how many rows to ask for.
        late: rows that appeared before others that were taken: never sent, for ticks keep their order.
        missing: rows that were taken and that the history does not show just now.
        is_behind: there is more to be read at once.
        is_warm: the history was read once; the first time may take long.
    """

    def __init__(self, after_ms: int, after_count: int | None) -> None:
        """`after_count`: rows of just `after_ms` that were taken; None = all of them."""
        self.second = max(after_ms // MS_PER_S, 1)
        self.count = FIRST_COUNT
        self.late = 0
        self.missing = 0
        self.is_behind = False
        self.is_warm = False
        self._after_ms = after_ms
        self._after_count = after_count
        self._known: Rows | None = None

    @property
    def newest_ms(self) -> int:
        """Stamp of the newest row that was taken, or of the place to go on at."""
        known = self._known
        return self._after_ms if known is None or not len(known) else int(known["time_msc"][-1])

    @property
    def has_begun(self) -> bool:
        """Whether the place to resume at was found, or is known not to be there."""
        return self._known is not None

    def begin(self, rows: Rows) -> bool | None:
        """Find the place to go on at in the first rows.

        Returns:
            Whether it is there; None: not in these rows. Read again: at once with the larger `count` when `is_behind`,
            else later, for a terminal that has just started shows its history little by little.
        """
        stamps = rows["time_msc"]
        newest_ms = int(stamps[-1]) if len(rows) else 0
        before = int(np.searchsorted(stamps, self._after_ms, "left"))
        equal = int(np.searchsorted(stamps, self._after_ms, "right")) - before
        wanted = equal if self._after_count is None else self._after_count
        self.is_behind = len(rows) >= self.count and newest_ms <= self._after_ms
        if self.is_behind:
            self.count *= 2
        if self.is_behind or newest_ms < self._after_ms or (newest_ms == self._after_ms and equal < wanted):
            return None
        self._known = rows[: before + min(equal, wanted)].copy()
        return equal >= wanted

    def take(self, rows: Rows) -> Rows:
        """Those of the rows since `second` that were not taken before; they count as taken now."""
        known = self._known
        assert known is not None, "begin comes first"
        size = len(known)
        full = len(rows) >= self.count
        if len(rows) >= size and np.array_equal(rows[:size].view(np.uint8), known.view(np.uint8)):
            self.missing = 0
            fresh = rows[size:]
        else:
            fresh, rows = self._take_changed(rows, known)
        self.is_behind = full
        if len(rows) > size or full:
            self._advance(rows, full)
        return fresh

    def _advance(self, rows: Rows, full: bool) -> None:
        """`rows`: all that were taken since `second`."""
        stamps = rows["time_msc"]
        second = int(stamps[-1]) // MS_PER_S
        if full and (second == self.second or self.count < MOST_COUNT):
            self.count *= 2
        start = int(np.searchsorted(stamps, second * MS_PER_S, "left"))
        self.second = second
        self._known = rows[start:].copy()

    def _take_changed(self, rows: Rows, known: Rows) -> tuple[Rows, Rows]:
        """The beginning is another one: what is new is found row by row.

        Returns:
            The new ones; and all that were taken, those included that are not shown just now: they may come back, and
            must not be taken for new ones then.
        """
        shown = Counter(row.tobytes() for row in rows)
        is_missing = np.zeros(len(known), bool)
        for i, row in enumerate(known):
            key = row.tobytes()
            is_missing[i] = shown[key] == 0
            shown[key] -= not is_missing[i]
        newest_ms = int(known["time_msc"][-1])
        is_fresh = np.zeros(len(rows), bool)
        # From the end: of rows that are alike, those that were there before came first.
        for i in range(len(rows) - 1, -1, -1):
            key = rows[i].tobytes()
            if shown[key] > 0:
                shown[key] -= 1
                is_fresh[i] = int(rows["time_msc"][i]) >= newest_ms
                self.late += not is_fresh[i]
        self.missing = int(np.count_nonzero(is_missing))
        taken = np.concatenate([rows, known[is_missing]])
        return rows[is_fresh], taken[np.argsort(taken["time_msc"], kind="stable")]


class QuoteGate:
    """What is no quote is sent as not known: crossed ones, outside the hours all. Counts rows."""

    def __init__(self, gate_locked: bool, hours: tuple[int, int] | None) -> None:
        self.gated = 0
        self._gate_locked = gate_locked
        self._hours = hours

    def apply(self, records: Rows, server_ms: Rows) -> None:
        bid, ask = records["bid"], records["ask"]
        bad = bid >= ask if self._gate_locked else bid > ask
        if self._hours is not None:
            first, last = self._hours
            minute = server_ms // MINUTE_MS % (24 * 60)
            is_open = (minute >= first) & (minute < last)
            if first > last:
                is_open = (minute >= first) | (minute < last)
            bad = bad | (~is_open & ~(np.isnan(bid) & np.isnan(ask)))
        count = int(np.count_nonzero(bad))
        if count:
            self.gated += count
            records["bid"][bad] = math.nan
            records["ask"][bad] = math.nan


def _price(column: Rows) -> Rows:
    """0 is the terminal's word for none."""
    return np.where((column == 0) | ~np.isfinite(column), math.nan, column)


def make_records(rows: Rows, symbol_id: int, clock: ServerClock, gate: QuoteGate) -> Rows:
    """One record for each row, in their order. Of the flags those that are documented; feeds set others, too."""
    records = np.zeros(len(rows), RECORD)
    if not len(rows):
        return records
    records["ts_event_ns"] = clock.all_to_utc_ms(rows["time_msc"]) * NS_PER_MS
    for name in ("bid", "ask", "last"):
        records[name] = _price(rows[name])
    real = rows["volume_real"]
    records["last_size"] = np.where(np.isfinite(real) & (real > 0), real, rows["volume"].astype(np.float64))
    flags = rows["flags"]
    traded = (flags & (TICK_FLAG_LAST | TICK_FLAG_VOLUME | TICK_FLAG_BUY | TICK_FLAG_SELL) != 0) & ~np.isnan(
        records["last"]
    )
    bought, sold = flags & TICK_FLAG_BUY != 0, flags & TICK_FLAG_SELL != 0
    records["flags"] = (
        np.where(flags & TICK_FLAG_BID != 0, BID, 0)
        | np.where(flags & TICK_FLAG_ASK != 0, ASK, 0)
        | np.where(traded, TRADE, 0)
        # Both at once is said of trades whose side the exchange does not tell.
        | np.where(traded & bought & ~sold, BUYER, 0)
        | np.where(traded & sold & ~bought, SELLER, 0)
    ).astype(np.uint8)
    records["symbol"] = symbol_id
    gate.apply(records, rows["time_msc"])
    return records


def make_state(tick: Any, symbol_id: int, clock: ServerClock, gate: QuoteGate) -> Rows:
    """One record that says how a Tick found the symbol."""
    records = make_records(np.array([tuple(tick)], ROW), symbol_id, clock, gate)
    records["flags"] = SNAPSHOT
    return records


class Stream:
    """One subscribed symbol. `cursor` is None while it has never had a tick, or nothing is to be read yet, or ever."""

    def __init__(self, wanted: Body, cursor: TickCursor | None) -> None:
        self.symbol_id: int = wanted["symbol_id"]
        self.symbol: str = wanted["symbol"]
        self.name: str = wanted["platform_symbol"]
        self.after: tuple[int, int] = (wanted["after_ns"], wanted["after_count"])
        self.cursor = cursor
        self.due_s = 0.0
        self.newest_ms = 0
        self.late_told = 0
        self.lagging = 0
        self.missing_since_s = math.inf
        self.has_hole = False
        self.trouble = ""


class TickReader:
    """Reads the terminal's ticks of the subscribed symbols, forward only."""

    def __init__(
        self, terminal: Terminal, clock: ServerClock, gauge: ClockGauge, gate: QuoteGate, poll_s: float
    ) -> None:
        self._terminal = terminal
        self._clock = clock
        self._gauge = gauge
        self._gate = gate
        self._poll_s = poll_s

    def begin(self, wanted: Body) -> tuple[TickCursor | None, bool, str]:
        """The cursor for a symbol that was just opened; whether it goes on where the adapter says; why not.

        While the terminal does not show that place (it has just started, or fails), the cursor stays there, and `poll`
        goes on from it as soon as it is shown: any other place would be a hole, or ticks twice.
        """
        tick = self._terminal.call("symbol_info_tick", wanted["platform_symbol"])
        newest_ms = 0 if tick is None else int(tick.time_msc)
        if wanted["after_ns"] == 0:
            return (TickCursor(newest_ms, None) if newest_ms else None), False, ""
        cursor = self._cursor_after(wanted["after_ns"], wanted["after_count"])
        after_ms = cursor.newest_ms
        if newest_ms < after_ms:
            return cursor, False, f"the newest tick is of {newest_ms}, ticks go on once there are some after {after_ms}"
        while True:
            rows = self._read(wanted["platform_symbol"], cursor)
            if rows is None:
                return cursor, False, f"no history yet: {self._terminal.error[1]}"
            found = cursor.begin(rows)
            if found is None and not cursor.is_behind:
                return cursor, False, f"the history does not reach {after_ms} yet"
            if found is not None:
                return cursor, found, "" if found else HOLE

    def state(self, stream: Stream) -> Rows | None:
        """The symbol's state as a record, None when it never had a tick."""
        tick = self._terminal.call("symbol_info_tick", stream.name)
        if tick is None or not tick.time_msc:
            return None
        return make_state(tick, stream.symbol_id, self._clock, self._gate)

    def lags(self, stream: Stream) -> bool:
        """Whether the symbol's quote is newer than the history that ticks are read from."""
        cursor = stream.cursor
        if cursor is None or cursor.is_behind:
            return False
        tick = self._terminal.call("symbol_info_tick", stream.name)
        return tick is not None and int(tick.time_msc) > cursor.newest_ms + LAG_MS

    def poll(self, stream: Stream, now_s: float) -> Rows | None:
        """The records that have come since; None when there are none. Sets when to look again."""
        cursor = stream.cursor
        if cursor is None and stream.after[0]:
            # Subscribed before the server's clock was known.
            cursor = stream.cursor = self._cursor_after(*stream.after)
        if cursor is None:
            stream.due_s = now_s + max(self._poll_s, WAIT_S)
            tick = self._terminal.call("symbol_info_tick", stream.name)
            if tick is None or not tick.time_msc:
                return None
            # The first tick ever: all of its second is new.
            cursor = stream.cursor = TickCursor(int(tick.time_msc) // MS_PER_S * MS_PER_S - 1, None)
        rows = self._read(stream.name, cursor)
        spent_s = time.monotonic() - now_s
        # No more than half of the time goes to the terminal: others need it, orders above all.
        stream.due_s = now_s + spent_s + max(self._poll_s, spent_s)
        if rows is None:
            stream.trouble = f"{self._terminal.error[1]} ({self._terminal.error[0]})"
            stream.due_s += 0.25
            return None
        stream.trouble = ""
        if not cursor.has_begun:
            found = cursor.begin(rows)
            if found is None:
                stream.due_s = now_s if cursor.is_behind else stream.due_s + WAIT_S
                return None
            stream.has_hole = not found
        was_live = not cursor.is_behind
        fresh = cursor.take(rows)
        stream.missing_since_s = min(stream.missing_since_s, now_s) if cursor.missing else math.inf
        if cursor.is_behind:
            stream.due_s = now_s
        if not len(fresh):
            return None
        if was_live and not cursor.is_behind:
            self._gauge.add(int(fresh["time_msc"][-1]), time.time_ns() // NS_PER_MS)
        return make_records(fresh, stream.symbol_id, self._clock, self._gate)

    def _cursor_after(self, after_ns: int, after_count: int) -> TickCursor:
        return TickCursor(self._clock.to_server_ms(after_ns // NS_PER_MS), after_count)

    def _read(self, name: str, cursor: TickCursor) -> Rows | None:
        if not cursor.is_warm:
            self._terminal.announce(WARM_UP_LIMIT_MS, "copy_ticks_from")
        rows = self._terminal.call("copy_ticks_from", name, cursor.second, cursor.count, COPY_TICKS_ALL)
        cursor.is_warm = rows is not None
        return None if rows is None else np.ascontiguousarray(rows, ROW)


# ---------------------------------------------------------------------------------------------------------------------
# Order identity: whose order is it
# ---------------------------------------------------------------------------------------------------------------------

_OWN_ID = re.compile(r"NXG([A-Z2-7]{16})([A-Z2-7]{2})")
_ROLE_AT = 16
STOP_LOSS, TAKE_PROFIT = "S", "T"
_OPENING_ROLES = ("E", "H", "R")
"""Entry, hedge, and what a roll opens again in the new contract."""


def _check_characters(body: str) -> str:
    return base64.b32encode(hashlib.blake2b(body.encode(), digest_size=10).digest())[:2].decode()


def find_order_id(text: str) -> str:
    """The gateway's id inside a comment, empty when there is none. Its last two characters prove the others."""
    for found in _OWN_ID.finditer(text):
        if _check_characters(found.group(1)) == found.group(2):
            return found.group()
    return ""


def child_id(entry_id: str, role: str) -> str:
    """The id of an entry's stop loss or take profit: the entry's, with another role."""
    body = f"{entry_id[3:_ROLE_AT]}{role}{entry_id[_ROLE_AT + 1 : -2]}"
    return f"NXG{body}{_check_characters(body)}"


def magic_number(order_id: str) -> int:
    """The `magic` of an order: 63 bits that follow from its id, whatever a server does to the comment."""
    return int.from_bytes(hashlib.blake2b(order_id.encode(), digest_size=8).digest(), "big") >> 1


class OrderIds:
    """Which order, deal and position of the terminal is which of the gateway's: from magic and comment, so that a
    restart finds them again. A file keeps the ids that were handed over, for brokers that rewrite comments.

    An id is one ticket's. A second ticket with the same magic is somebody else's (a copier, a close by hand).

    Attributes:
        tickets: id -> its order at the terminal, once it was seen there.
    """

    def __init__(self, path: str, *, hedging: bool) -> None:
        """Raises OSError."""
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
        """Whether it was handed over, ever."""
        return order_id in self.tickets or magic_number(order_id) in self._by_magic

    def note(self, order_id: str) -> None:
        """It is about to be handed over: on disk first. Raises OSError."""
        self._by_magic[magic_number(order_id)] = order_id
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, f"{order_id}\n".encode("ascii"))
        finally:
            os.close(handle)

    def own(self, ticket: int, order_id: str) -> None:
        """The terminal says that this ticket is that id's order."""
        self._by_ticket[ticket] = order_id
        self.tickets[order_id] = ticket

    def of_ticket(self, ticket: int) -> str | None:
        """None when this ticket was not seen yet."""
        return self._by_ticket.get(ticket)

    def of_order(self, order: Any) -> str:
        """Whose order this is; empty when it is not one of ours."""
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
        """Whose ticket this is, by magic and comment alone; empty when the id has another one."""
        order_id = find_order_id(comment)
        if not order_id or magic_number(order_id) != magic:
            order_id = self._by_magic.get(magic, "")
        return order_id if self.tickets.get(order_id, ticket) == ticket else ""

    def _claim(self, order: Any) -> str:
        if order.reason in (REASON_SL, REASON_TP, REASON_SO):
            return ""
        order_id = self.of_tag(order.ticket, order.magic, order.comment)
        closes = self.hedging and order.position_id not in (0, order.ticket)
        if order_id and closes and order_id[_ROLE_AT] in _OPENING_ROLES:
            return ""
        return order_id


# ---------------------------------------------------------------------------------------------------------------------
# What the platform shows
# ---------------------------------------------------------------------------------------------------------------------


class SymbolNames:
    """The terminal's names -> the gateway's."""

    def __init__(self) -> None:
        self._universal: dict[str, str] = {}

    def set(self, universal: dict[str, str]) -> None:
        """`universal`: the terminal's name -> the gateway's, of the symbols that are subscribed."""
        self._universal = universal

    def of(self, platform_symbol: str) -> str:
        found = self._universal.get(platform_symbol)
        return found if found is not None else name_external(platform_symbol, self._universal.values())


class View(NamedTuple):
    """Everything about orders, read together.

    Attributes:
        history: orders that have ended.
        missing: tickets that live as far as we know, and are listed nowhere.
    """

    orders: Sequence[Any]
    positions: Sequence[Any]
    history: Sequence[Any]
    deals: Sequence[Any]
    missing: set[int]


class Child(NamedTuple):
    """A position's stop loss or take profit, told as an order of its own."""

    ticket: int
    role: str
    symbol: str
    side: str
    price: float
    lots: float


class Wanted(NamedTuple):
    """A change that the terminal has accepted, and that is told as done once it shows."""

    revision: int
    limit_price: Decimal | None
    stop_price: Decimal | None


def is_trade(deal: Any) -> bool:
    """Not a deposit, a fee, a dividend, nor a trade that was taken back."""
    return deal.type in (DEAL_BUY, DEAL_SELL) and deal.volume > 0


def has_ended(order: Any) -> bool:
    """Of an order of the history: it may be listed there too early."""
    return order.state in ENDED_STATES


def prices_of(order: Any) -> tuple[str | None, str | None]:
    """Limit price and stop price, as the protocol wants them."""
    kind = ORDER_TYPES.get(order.type, ("buy", "market"))[1]
    if kind == "limit":
        return write_or_none(order.price_open), None
    if kind == "stop":
        return None, write_or_none(order.price_open)
    if kind == "stop_limit":
        return write_or_none(order.price_stoplimit), write_or_none(order.price_open)
    return None, None


class Describer:
    """Makes the protocol's words of the terminal's structs."""

    def __init__(self, platform: str, account: Account, clock: ServerClock, ids: OrderIds, names: SymbolNames) -> None:
        self._route = {"platform": platform, "account": account.name}
        self._currency = account.currency
        self._hedging = account.hedging
        self._clock = clock
        self._ids = ids
        self._names = names

    def order(self, order: Any, *, has_ended: bool = False) -> Body:
        """`working order` of the protocol; `update` makes an `order_update` of it."""
        side, kind = ORDER_TYPES.get(order.type, ("buy", "market"))
        limit_price, stop_price = prices_of(order)
        filled = exact(order.volume_initial) - exact(order.volume_current)
        state = ORDER_STATES.get(order.state, "unknown")
        if state == "working" and filled > 0:
            state = "partially_filled"
        if state == "partially_filled" and has_ended:
            state = "cancelled"
        return {
            "client_order_id": self._ids.of_order(order),
            "symbol": self._names.of(order.symbol),
            "side": side,
            "state": state,
            "quantity": write(exact(order.volume_initial)),
            "filled": write(filled),
            "platform_order_id": str(order.ticket),
            "order_type": kind,
            "limit_price": limit_price,
            "stop_price": stop_price,
        }

    def child(self, order_id: str, child: Child, state: str, filled: Decimal) -> Body:
        """As `order`, of a stop loss or take profit."""
        price = write_or_none(child.price)
        is_stop = child.role == STOP_LOSS
        return {
            "client_order_id": order_id,
            "symbol": self._names.of(child.symbol),
            "side": child.side,
            "state": state,
            "quantity": write(exact(child.lots)),
            "filled": write(filled),
            "platform_order_id": f"{child.ticket}:{child.role}",
            "order_type": "stop" if is_stop else "limit",
            "limit_price": None if is_stop else price,
            "stop_price": price if is_stop else None,
        }

    def update(self, row: Body, ts_event_ns: int, revision: int = 0, text: str = "") -> Body:
        """`order_update` of a row."""
        extra = {"replace_revision": revision, "text": text[:512], "ts_event_ns": ts_event_ns}
        return {"type": "order_update", **self._route, **row, **extra}

    def order_time_ns(self, order: Any) -> int:
        return self._clock.to_utc_ns(order.time_done_msc or order.time_setup_msc)

    def fill(self, deal: Any, order_id: str, child: Child | None) -> Body:
        """`fill` of a deal. `child`: the stop or target that made it."""
        return {
            "type": "fill",
            **self._route,
            "exec_id": str(deal.ticket),
            "client_order_id": order_id,
            "symbol": self._names.of(deal.symbol),
            "side": "buy" if deal.type == DEAL_BUY else "sell",
            "quantity": write(exact(deal.volume)),
            "price": write(exact(deal.price)),
            "ts_event_ns": self._clock.to_utc_ns(deal.time_msc),
            "platform_order_id": str(deal.order) if child is None else f"{child.ticket}:{child.role}",
            "contract": "",
            "position_ticket": str(deal.position_id) if self._hedging else "",
            "fee": write(-exact(deal.commission) - exact(deal.fee)),
            "fee_currency": self._currency,
        }

    def correction(self, deal: Any, revision: int) -> Body:
        """`correction` of a deal that is another one than it was told."""
        busted = not is_trade(deal)
        return {
            "type": "correction",
            **self._route,
            "exec_id": str(deal.ticket),
            "kind": "bust" if busted else "correct",
            "revision": revision,
            "quantity": None if busted else write(exact(deal.volume)),
            "price": None if busted else write(exact(deal.price)),
            "ts_event_ns": self._clock.to_utc_ns(deal.time_msc),
        }

    def position(self, position: Any) -> Body:
        sign = 1 if position.type == 0 else -1
        return {
            "symbol": self._names.of(position.symbol),
            "quantity": write(sign * exact(position.volume)),
            "avg_price": write_or_none(position.price_open),
            "contract": "",
            "ticket": str(position.ticket) if self._hedging else "",
        }

    def money(self, account: Any, now_ns: int) -> Body:
        """`account` of the protocol."""
        return {
            "type": "account",
            **self._route,
            "currency": self._currency,
            "balance": write(exact(account.balance)),
            "equity": write(exact(account.equity)),
            "margin_used": write(exact(account.margin)),
            "day_start_equity": None,
            "realized_today": None,
            "as_of_ns": now_ns,
        }

    def reject(self, code: str, text: str, order_id: str, revision: int = 0) -> Body:
        return {
            "type": "reject",
            "code": code,
            "text": text[:512],
            "client_order_id": order_id,
            **self._route,
            "replace_revision": revision,
        }

    def part(self, kind: str, rows: list[Body], now_ns: int) -> Body:
        """A part of a snapshot."""
        return {"type": kind, **self._route, "rows": rows, "as_of_ns": now_ns}

    def snapshot(self, request_id: int, parts: list[Body], from_ns: int, funds: Body | None, complete: bool) -> Body:
        positions, orders, executions = parts
        return {
            "type": "snapshot",
            "request_id": request_id,
            **self._route,
            "positions": positions,
            "working_orders": orders,
            "executions": {**executions, "from_ns": from_ns},
            "funds": funds,
            "complete": complete,
        }


# ---------------------------------------------------------------------------------------------------------------------
# Monitor: the terminal pushes nothing, so orders, positions and deals are read again and again, and compared
# ---------------------------------------------------------------------------------------------------------------------


class Monitor:
    """Tells what has changed since the last look. Executions come from deals alone, each once by its ticket.

    Attributes:
        latest: id -> the newest word on that order, to be repeated.
        wanted: ticket, or id of a child -> a change that must show.
        children: stops and targets of our positions that were told and live, by id.
        at_once: something was sent: look again before anything else.
    """

    def __init__(
        self,
        terminal: Terminal,
        clock: ServerClock,
        ids: OrderIds,
        describer: Describer,
        history_s: int,
        tell: Callable[[Body], None],
    ) -> None:
        self.latest: dict[str, Body] = {}
        self.wanted: dict[Any, Wanted] = {}
        self.children: dict[str, Child] = {}
        self.at_once = False
        self._terminal = terminal
        self._clock = clock
        self._ids = ids
        self._describer = describer
        self._history_s = history_s
        self._tell = tell
        # Ticket -> what was told of an order that lives; nothing yet of one that was accepted and never seen.
        self._told: dict[int, tuple[Any, ...]] = {}
        # Ended orders that the history of the window does not show, and their deals.
        self._outside: dict[int, Any] = {}
        self._deals_outside: list[Any] = []
        self._missing_since: dict[int, float] = {}
        self._over: set[int] = set()
        self._deals: dict[int, tuple[Any, ...]] = {}
        self._revisions: dict[int, int] = {}
        self._entries: dict[int, str] = {}
        self._ending: dict[str, float] = {}
        self._signature: Any = None
        self._deals_due_s = 0.0

    @property
    def has_live_orders(self) -> bool:
        return bool(self._told or self.children)

    def expect(self, ticket: int) -> None:
        """The server has accepted this order: it lives until the terminal shows its end."""
        self._told.setdefault(ticket, ())

    def is_over(self, ticket: int) -> bool:
        """Whether this order, which is not listed as working, is known to have ended; else it may still come."""
        return ticket in self._over or any(map(has_ended, self._find_in_history(ticket)))

    @property
    def window_ns(self) -> int:
        """Where history begins that is read all the time, UTC."""
        return time.time_ns() - self._history_s * NS_PER_S

    def read(self, from_ns: int) -> View:
        """History since then and some more. Deals last: no order has traded more than the deals that are read.

        Raises:
            CallFailed, TerminalLost: see `Terminal.need`.
        """
        need = self._terminal.need
        from_s = max(self._clock.to_server_ms(from_ns // NS_PER_MS) // MS_PER_S - CLOCK_DOUBT_S, 1)
        until_s = self._clock.to_server_ms(time.time_ns() // NS_PER_MS) // MS_PER_S + 2 * DAY_S
        orders, positions = need("orders_get"), need("positions_get")
        listed = {order.ticket for order in orders}
        history = {
            order.ticket: order
            for order in need("history_orders_get", from_s, until_s)
            if has_ended(order) and not (ORDER_STATES[order.state] == "partially_filled" and order.ticket in listed)
        }
        missing = self._told.keys() - listed - history.keys() - self._outside.keys()
        for ticket in missing:
            for order in filter(has_ended, self._find_in_history(ticket)):
                self._outside[ticket] = order
                self._deals_outside += need("history_deals_get", ticket=ticket)
        return View(
            orders=orders,
            positions=positions,
            history=list({**self._outside, **history}.values()),
            deals=[*self._deals_outside, *need("history_deals_get", from_s, until_s)],
            missing=missing - self._outside.keys(),
        )

    def _find_in_history(self, ticket: int) -> Sequence[Any]:
        found: Sequence[Any] = self._terminal.call("history_orders_get", ticket=ticket) or ()
        return found

    def read_stable(self, from_ns: int) -> tuple[View, bool]:
        """All parts of one moment, and whether that could be had. Raises CallFailed, TerminalLost."""
        for _ in range(STABLE_READS):
            view = self.read(from_ns)
            again = self._sign(self._terminal.need("orders_get"), self._terminal.need("positions_get"))
            if again == self._sign(view.orders, view.positions):
                return view, True
        return view, False

    def begin(self) -> None:
        """A session begins: what is there now is in its first snapshot. Raises CallFailed, TerminalLost."""
        self.wanted.clear()
        self._missing_since.clear()
        tell, self._tell = self._tell, lambda body: None
        try:
            self.take(self.read(self.window_ns))
        finally:
            self._tell = tell

    def look(self, now_s: float) -> None:
        """One cycle: orders and positions always, history when they changed or once in a while.

        Raises:
            CallFailed, TerminalLost: see `read`.
        """
        need = self._terminal.need
        if not self.at_once and now_s < self._deals_due_s:
            signature = self._sign(need("orders_get"), need("positions_get"))
            if signature == self._signature:
                return
        self.at_once = False
        self._deals_due_s = now_s + DEALS_S
        self.take(self.read(self.window_ns))

    def take(self, view: View) -> None:
        """Compare, and tell: new orders, executions, changes, ends. Raises WrongTerminal before it tells anything."""
        self._terminal.need_account()
        self._signature = self._sign(view.orders, view.positions)
        for order in sorted([*view.history, *view.orders], key=lambda each: each.ticket):
            self._ids.of_order(order)  # the oldest of several that bear an id is the one
        over = {order.ticket for order in view.history}
        live = [order for order in view.orders if order.ticket not in over and order.volume_initial > 0]
        for order in live:
            if order.ticket not in self._told:
                self._take_live(order)
        for deal in view.deals:
            self._take_deal(deal)
        for order in live:
            self._take_live(order)
        for order in view.history:
            if order.ticket not in self._over and order.volume_initial > 0:
                self._take_ended(order)
        self._take_missing(view)
        self._take_children(view)

    def order_of_deal(self, deal: Any) -> tuple[str, Child | None]:
        """The id of the order that made this deal; with the child when it was a stop or target."""
        if deal.reason in (REASON_SL, REASON_TP):
            role = STOP_LOSS if deal.reason == REASON_SL else TAKE_PROFIT
            entry_id = self.entry_of(deal.position_id)
            if not entry_id:
                return "", None
            side = "buy" if deal.type in (DEAL_BUY, DEAL_BUY_CANCELED) else "sell"
            child = Child(deal.position_id, role, deal.symbol, side, 0.0, deal.volume)
            return child_id(entry_id, role), child
        known = self._ids.of_ticket(deal.order)
        if known is None:
            # So new that the orders were read before it.
            found = self._terminal.call("history_orders_get", ticket=deal.order) or self._terminal.call(
                "orders_get", ticket=deal.order
            )
            known = self._ids.of_order(found[0]) if found else self._ids.of_tag(deal.order, deal.magic, deal.comment)
        return known, None

    def ended_children(self, view: View) -> dict[str, Body]:
        """Rows of the stops and targets that have traded, by id."""
        rows: dict[str, Body] = {}
        for deal in view.deals:
            if is_trade(deal) and deal.reason in (REASON_SL, REASON_TP):
                order_id, child = self.order_of_deal(deal)
                if child is not None and order_id not in self.children:
                    before = Decimal(rows[order_id]["filled"]) if order_id in rows else Decimal(0)
                    filled = before + exact(deal.volume)
                    row = self._describer.child(order_id, child, "filled", filled)
                    rows[order_id] = {**row, "quantity": write(filled)}
        return rows

    @staticmethod
    def _sign(orders: Sequence[Any], positions: Sequence[Any]) -> Any:
        return (
            [
                (each.ticket, each.state, each.volume_current, each.price_open, each.price_stoplimit, each.sl, each.tp)
                for each in orders
            ],
            [(each.ticket, each.type, each.volume, each.price_open, each.sl, each.tp) for each in positions],
        )

    def _say(self, body: Body) -> None:
        if body["client_order_id"]:
            self.latest[body["client_order_id"]] = body
        self._tell(body)

    def _take_live(self, order: Any) -> None:
        row = self._describer.order(order)
        if row["state"] == "sent":
            return  # not the platform's word yet
        wanted = self.wanted.get(order.ticket)
        revision = 0
        if wanted is not None and self._shows(row, wanted):
            revision = wanted.revision
            del self.wanted[order.ticket]
        said = tuple(row.values())
        if revision or self._told.get(order.ticket) != said:
            self._told[order.ticket] = said
            self._say(self._describer.update(row, self._describer.order_time_ns(order), revision))

    def _take_ended(self, order: Any) -> None:
        row = self._describer.order(order, has_ended=True)
        self._over.add(order.ticket)
        self._told.pop(order.ticket, None)
        self.wanted.pop(order.ticket, None)
        if order.reason in (REASON_SL, REASON_TP) and self.entry_of(order.position_id):
            return  # told as the stop or target that it was
        self._say(self._describer.update(row, self._describer.order_time_ns(order)))

    def _take_deal(self, deal: Any) -> None:
        now = (deal.type, deal.volume, deal.price)
        before = self._deals.get(deal.ticket)
        if now == before:
            return
        self._deals[deal.ticket] = now
        if before is None:
            if is_trade(deal):
                order_id, child = self.order_of_deal(deal)
                self._tell(self._describer.fill(deal, order_id, child))
        elif before[0] in (DEAL_BUY, DEAL_SELL):
            revision = self._revisions[deal.ticket] = self._revisions.get(deal.ticket, 0) + 1
            self._tell(self._describer.correction(deal, revision))

    def _take_missing(self, view: View) -> None:
        """Of an order that is listed nowhere nothing is known: no snapshot is complete, and a person is told why."""
        now_s = time.monotonic()
        self._missing_since = {ticket: self._missing_since.get(ticket, now_s) for ticket in view.missing}
        for ticket, since_s in self._missing_since.items():
            if now_s - since_s >= LATE_VERDICT_S:
                self._missing_since[ticket] = math.inf  # told
                text = f"order {ticket} is neither among the terminal's orders nor in its history: its state is unknown"
                self._tell({"type": "notice", "level": "error", "text": text})

    def _take_children(self, view: View) -> None:
        now_ns = time.time_ns()
        shown = {}
        if self._ids.hedging:
            for position in view.positions:
                entry_id = self.entry_of(position.ticket, position)
                for role, price in ((STOP_LOSS, position.sl), (TAKE_PROFIT, position.tp)):
                    if entry_id and price:
                        side = "sell" if position.type == 0 else "buy"
                        child = Child(position.ticket, role, position.symbol, side, price, position.volume)
                        shown[child_id(entry_id, role)] = child
        for order_id, child in shown.items():
            row = self._describer.child(order_id, child, "working", Decimal(0))
            wanted = self.wanted.get(order_id)
            revision = 0
            if wanted is not None and self._shows(row, wanted):
                revision = wanted.revision
                del self.wanted[order_id]
            if revision or self.children.get(order_id) != child:
                self.children[order_id] = child
                self._ending.pop(order_id, None)
                self._say(self._describer.update(row, now_ns, revision))
        open_tickets = {position.ticket for position in view.positions}
        for order_id in [each for each in self.children if each not in shown]:
            self._end_child(order_id, self.children[order_id], view, open_tickets, now_ns)

    def _end_child(self, order_id: str, child: Child, view: View, open_tickets: set[int], now_ns: int) -> None:
        closing = [
            each
            for each in view.deals
            if is_trade(each) and each.position_id == child.ticket and each.entry != ENTRY_IN
        ]
        if child.ticket not in open_tickets and sum(each.volume for each in closing) + 1e-9 < child.lots:
            # The position has gone and its deal is not listed yet: what it was decides between filled and cancelled.
            began_s = self._ending.setdefault(order_id, time.monotonic())
            if time.monotonic() - began_s < LATE_VERDICT_S:
                return
        reason = REASON_SL if child.role == STOP_LOSS else REASON_TP
        struck = sum((exact(each.volume) for each in closing if each.reason == reason), Decimal(0))
        del self.children[order_id]
        self._ending.pop(order_id, None)
        self.wanted.pop(order_id, None)
        row = self._describer.child(order_id, child, "filled" if struck else "cancelled", struck)
        self._say(self._describer.update(row, now_ns))

    def entry_of(self, ticket: int, position: Any = None) -> str:
        """The id of the order that opened a position, empty when it is not one of ours, or on a netting account."""
        if not self._ids.hedging:
            return ""
        found = self._entries.get(ticket)
        if found is None:
            found = self._ids.of_ticket(ticket)
            if found is None and position is not None:
                found = self._ids.of_tag(ticket, position.magic, position.comment)
            if found is None:
                orders = self._terminal.call("history_orders_get", position=ticket) or ()
                opening = [each for each in orders if each.ticket == ticket]
                found = self._ids.of_order(opening[0]) if opening else ""
            if found and found[_ROLE_AT] not in _OPENING_ROLES:
                found = ""
            self._entries[ticket] = found
        return found

    @staticmethod
    def _shows(row: Body, wanted: Wanted) -> bool:
        return all(
            price is None or (row[name] is not None and Decimal(row[name]) == price)
            for name, price in (("limit_price", wanted.limit_price), ("stop_price", wanted.stop_price))
        )


def make_snapshot(
    terminal: Terminal,
    monitor: Monitor,
    describer: Describer,
    request: Body,
    clock: ServerClock,
    *,
    clock_is_right: bool,
) -> Body:
    """What is true now. Tells first what it contains. Raises CallFailed, TerminalLost, WrongTerminal."""
    from_ns = request["executions_from_ns"] or monitor.window_ns
    view, stable = monitor.read_stable(min(from_ns, monitor.window_ns))
    monitor.take(view)
    now_ns = time.time_ns()
    deals = [each for each in view.deals if is_trade(each)]
    deals = sorted({each.ticket: each for each in deals}.values(), key=lambda each: (each.time_msc, each.ticket))
    if len(deals) > MAX_ROWS:
        # From a whole millisecond on, or some of it would be missing.
        first_ms = deals[-MAX_ROWS - 1].time_msc
        deals = [each for each in deals if each.time_msc > first_ms]
        from_ns = max(from_ns, clock.to_utc_ns(first_ms + 1))
    executions = [describer.fill(each, *monitor.order_of_deal(each)) for each in deals]
    orders = {order.ticket: describer.order(order) for order in view.orders if order.volume_initial > 0}
    for order in view.history:
        if order.volume_initial > 0:
            orders[order.ticket] = describer.order(order, has_ended=True)
    for order in view.history:
        if order.reason in (REASON_SL, REASON_TP) and monitor.entry_of(order.position_id):
            orders.pop(order.ticket, None)
    rows = [orders[ticket] for ticket in sorted(orders)]
    rows += monitor.ended_children(view).values()
    rows += [describer.child(each, child, "working", Decimal(0)) for each, child in monitor.children.items()]
    live = [row for row in rows if row["state"] not in FINAL_STATES]
    over = [row for row in rows if row["state"] in FINAL_STATES]
    room = MAX_ROWS - len(live)
    rows = (over[-room:] if room > 0 else []) + live
    positions = [describer.position(each) for each in view.positions]
    complete = stable and clock_is_right and not view.missing
    complete = complete and len(rows) <= MAX_ROWS and len(positions) <= MAX_ROWS
    parts = [
        describer.part("positions", positions[:MAX_ROWS], now_ns),
        describer.part("working_orders", rows[:MAX_ROWS], now_ns),
        describer.part("executions", executions, now_ns),
    ]
    funds = describer.money(terminal.need_account(), now_ns)
    return describer.snapshot(request["request_id"], parts, from_ns, funds, complete)


# ---------------------------------------------------------------------------------------------------------------------
# Commands
# ---------------------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """The bridge itself says no: nothing has reached the terminal. `code`: the protocol's."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


MARKET, PENDING = "market", "pending"


class Desk:
    """place, cancel, replace. Each returns whether the terminal was asked; what then is true the monitor tells.

    Attributes:
        markets: what is subscribed, by the gateway's name.
        switches_doubtful: the terminal or the account has refused to trade at all: look at the switches.
    """

    def __init__(
        self,
        terminal: Terminal,
        clock: ServerClock,
        ids: OrderIds,
        describer: Describer,
        monitor: Monitor,
        deviation_points: int,
        tell: Callable[[Body], None],
        log: Log,
    ) -> None:
        self.markets: dict[str, SymbolFacts] = {}
        self.switches_doubtful = False
        self._terminal = terminal
        self._clock = clock
        self._ids = ids
        self._describer = describer
        self._monitor = monitor
        self._deviation_points = deviation_points
        self._tell = tell
        self._log = log
        self._fillings: dict[tuple[str, str], int] = {}
        self._cancels_waiting: set[tuple[str, int]] = set()

    def place(self, body: Body) -> bool:
        """Raises CallFailed, TerminalLost, WrongTerminal, with nothing handed over."""
        order = body["order"]
        order_id = order["client_order_id"]
        if self._ids.is_known(order_id) or order_id in self._monitor.latest:
            latest = self._monitor.latest.get(order_id)
            if latest is not None:
                self._tell(latest)
            return True
        try:
            self._check_ids(body)
            market = self._market_of(order)
            kind = MARKET if order["order_type"] == "market" else PENDING
            request = self._make_pending(order, market) if kind == PENDING else self._make_deal(order, market)
            self._note(order_id)
        except Refused as refusal:
            self._reject(refusal.code, str(refusal), order_id)
            return False
        return self._hand_over(order, request, market, kind)

    def cancel(self, body: Body) -> bool:
        """Raises CallFailed, TerminalLost, WrongTerminal, with nothing handed over."""
        order_id = body["client_order_id"]
        child = self._monitor.children.get(order_id)
        if child is not None:
            return self._change_child(child, 0.0, lambda text: self._refuse_cancel(order_id, text))
        ticket = self._ticket_of(body)
        if ticket is None:
            may_come = self._ids.is_known(order_id) and order_id not in self._monitor.latest
        elif self._find("orders_get", ticket) is not None:
            self._remove(ticket, order_id)
            return True
        else:
            is_ours_or_seen = self._ids.is_known(order_id) or self._ids.of_ticket(ticket) is not None
            may_come = is_ours_or_seen and not self._monitor.is_over(ticket)
        self._monitor_soon()
        if may_come:
            # Handed over and not listed yet: refused now, it would trade all the same.
            self._cancels_waiting.add((order_id, ticket or 0))
            return True
        self._refuse_cancel(order_id, "the terminal has no such working order")
        return False

    def replace(self, body: Body) -> bool:
        """Raises CallFailed, TerminalLost, WrongTerminal, with nothing handed over."""
        order_id, revision = body["client_order_id"], body["revision"]

        def refuse(text: str) -> None:
            self._tell(self._describer.reject("replace_rejected", text, order_id, revision))

        child = self._monitor.children.get(order_id)
        if child is not None:
            return self._replace_child(order_id, child, body, refuse)
        ticket = self._ticket_of(body)
        order = None if ticket is None else self._find("orders_get", ticket)
        if order is None:
            refuse("the terminal has no such working order")
            return False
        kind = ORDER_TYPES.get(order.type, ("", MARKET))[1]
        try:
            market = self._facts_of(body["symbol"], order.symbol)
            self._check_replace(order, body, kind, market)
        except Refused as refusal:
            refuse(str(refusal))
            return False
        if self._change(self._make_modify(order, body, kind), refuse):
            self._monitor.wanted[order.ticket] = Wanted(revision, body["limit_price"], body["stop_price"])
        return True

    def follow_up(self) -> None:
        """After each look of the monitor: cancels that waited for their order. Raises as `cancel`; they still wait."""
        for waiting in list(self._cancels_waiting):
            order_id, ticket = waiting[0], waiting[1] or self._ids.tickets.get(waiting[0], 0)
            if not ticket:
                continue
            if self._find("orders_get", ticket) is not None:
                self._remove(ticket, order_id)
            elif self._monitor.is_over(ticket):
                self._refuse_cancel(order_id, f"order {ticket} had ended before it could be cancelled")
            else:
                continue
            self._cancels_waiting.discard(waiting)

    def _find(self, name: str, ticket: int) -> Any:
        """The order or position of this ticket, None when there is none. Raises CallFailed, WrongTerminal."""
        found = self._terminal.need(name, ticket=ticket)
        self._terminal.need_account()  # what another account has says nothing
        return found[0] if found else None

    # Making requests.

    def _check_ids(self, body: Body) -> None:
        order_id = body["order"]["client_order_id"]
        if find_order_id(order_id) != order_id:
            raise Refused("platform_rejected", f"client_order_id was {order_id!r}, must be one of the gateway's")
        for role, key in ((STOP_LOSS, "stop_loss_id"), (TAKE_PROFIT, "take_profit_id")):
            if body[key] not in ("", child_id(order_id, role)):
                raise Refused("unsupported_bracket", f"{key} was {body[key]!r}, must follow from the entry's id")

    def _facts_of(self, symbol: str, platform_symbol: str = "") -> SymbolFacts:
        market = self.markets.get(symbol)
        if market is None or platform_symbol not in ("", market.name):
            raise Refused("identity_mismatch", f"symbol was {symbol}, which is not subscribed as {platform_symbol}")
        return market

    def _market_of(self, order: Body) -> SymbolFacts:
        """What is traded, once the order fits it. Raises Refused: nothing is rounded here."""
        market = self._facts_of(order["symbol"])
        quantity = order["quantity"]
        if not is_multiple(quantity, market.lot_step):
            raise Refused("not_on_lot_step", f"quantity was {quantity}, {market.name} is traded in {market.lot_step}")
        if not market.least_lots <= quantity <= market.most_lots:
            raise Refused(
                "platform_rejected",
                f"quantity was {quantity}, {market.name} takes {market.least_lots} to {market.most_lots}",
            )
        for name in ("limit_price", "stop_price", "stop_loss", "take_profit"):
            self._check_price(order[name], name, market)
        mode = ORDER_MODES[order["order_type"]]
        if market.order_mode and not market.order_mode & mode:
            raise Refused("unsupported_type", f"{market.name} takes no {order['order_type']} orders")
        if order["oco_group"] or order["reduce_only"]:
            raise Refused("unsupported_type", "the terminal has neither OCO groups nor reduce-only orders")
        brackets = order["stop_loss"] is not None or order["take_profit"] is not None
        if brackets and not self._ids.hedging:
            raise Refused("unsupported_bracket", "on a netting account a position has one stop for all its orders")
        return market

    @staticmethod
    def _check_price(price: Decimal | None, name: str, market: SymbolFacts) -> None:
        if price is not None and not is_multiple(price, market.tick_size):
            raise Refused("not_on_tick", f"{name} was {price}, the tick of {market.name} is {market.tick_size}")

    def _make_request(self, action: int, order: Body, market: SymbolFacts) -> Body:
        order_id = order["client_order_id"]
        request = {
            "action": action,
            "symbol": market.name,
            "volume": float(order["quantity"]),
            "type": TYPE_NUMBERS[(order["side"], order["order_type"])],
            "magic": magic_number(order_id),
            "comment": order_id,
        }
        for name, key in (("stop_loss", "sl"), ("take_profit", "tp")):
            if order[name] is not None:
                request[key] = float(order[name])
        return request

    def _make_deal(self, order: Body, market: SymbolFacts) -> Body:
        tif = order["time_in_force"]
        if tif == "gtd":
            raise Refused("unsupported_tif", "a market order has no end")
        request = self._make_request(ACTION_DEAL, order, market)
        request["type_time"] = TIME_GTC
        request["type_filling"] = self._choose_filling(market, MARKET, tif)
        if order["close_ticket"]:
            request["position"] = self._check_position(order, market)
        if market.execution in (EXECUTION_REQUEST, EXECUTION_INSTANT):
            request["price"] = self._fresh_price(market.name, order["side"])
            request["deviation"] = self._deviation_points
        return request

    def _make_pending(self, order: Body, market: SymbolFacts) -> Body:
        tif, kind = order["time_in_force"], order["order_type"]
        if order["close_ticket"]:
            raise Refused("unsupported_type", "a position is closed at market")
        needs = {"day": EXPIRES_DAY, "gtc": EXPIRES_GTC, "gtd": EXPIRES_SPECIFIED}.get(tif)
        if needs is None:
            raise Refused("unsupported_tif", f"a pending order is not {tif}")
        if market.expiration_mode and not market.expiration_mode & needs:
            raise Refused("unsupported_tif", f"{market.name} takes no {tif} orders")
        request = self._make_request(ACTION_PENDING, order, market)
        request["type_time"] = {"day": TIME_DAY, "gtc": TIME_GTC, "gtd": TIME_SPECIFIED}[tif]
        request["type_filling"] = self._choose_filling(market, PENDING, tif)
        if tif == "gtd":
            # Whole seconds: it ends less than one second too early, never too late.
            request["expiration"] = self._clock.to_server_ms(order["good_till_ns"] // NS_PER_MS) // MS_PER_S
        request["price"] = float(order["limit_price"] if kind == "limit" else order["stop_price"])
        if kind == "stop_limit":
            request["stoplimit"] = float(order["limit_price"])
        return request

    def _make_modify(self, order: Any, body: Body, kind: str) -> Body:
        request = {
            "action": ACTION_MODIFY,
            "order": order.ticket,
            "symbol": order.symbol,
            "sl": float(order.sl),
            "tp": float(order.tp),
            "type_time": order.type_time,
            "price": float(body["limit_price"] if kind == "limit" else body["stop_price"]),
        }
        if kind == "stop_limit":
            request["stoplimit"] = float(body["limit_price"])
        if order.time_expiration:
            request["expiration"] = int(order.time_expiration)
        return request

    def _choose_filling(self, market: SymbolFacts, kind: str, tif: str) -> int:
        """SYMBOL_FILLING_* is a mask, ORDER_FILLING_* a number: they must not be mixed up."""
        mask = market.filling_mask
        if kind == MARKET and tif in ("ioc", "fok"):
            wanted, bit = (FILLING_IOC, MASK_IOC) if tif == "ioc" else (FILLING_FOK, MASK_FOK)
            if not mask & bit:
                raise Refused("unsupported_tif", f"{market.name} fills no {tif} orders (mask {mask})")
            return wanted
        cached = self._fillings.get((market.name, kind))
        if cached is not None:
            return cached
        order = self._fillings_of(market, kind)
        if not order:
            raise Refused("unsupported_tif", f"{market.name} names no filling mode (mask {mask}) for {kind} orders")
        return order[0]

    @staticmethod
    def _fillings_of(market: SymbolFacts, kind: str) -> list[int]:
        """Those that may be tried, best first."""
        by_mask = [
            mode for bit, mode in ((MASK_FOK, FILLING_FOK), (MASK_IOC, FILLING_IOC)) if market.filling_mask & bit
        ]
        if kind == PENDING:
            return [FILLING_RETURN, *by_mask]
        if market.execution in (EXECUTION_REQUEST, EXECUTION_INSTANT):
            return by_mask or [FILLING_FOK]
        return by_mask + ([FILLING_RETURN] if market.execution == EXECUTION_EXCHANGE else [])

    def _check_position(self, order: Body, market: SymbolFacts) -> int:
        ticket = order["close_ticket"]
        if not self._ids.hedging or not re.match(r"^[0-9]{1,19}$", ticket):
            raise Refused("unsupported_type", f"close_ticket was {ticket!r}, must be a position of a hedging account")
        position = self._find("positions_get", int(ticket))
        if position is None:
            raise Refused("platform_rejected", f"there is no position {ticket}")
        closes = "sell" if position.type == 0 else "buy"
        if position.symbol != market.name or order["side"] != closes:
            raise Refused("platform_rejected", f"position {ticket} is of {position.symbol}, a {closes} closes it")
        if order["quantity"] > exact(position.volume):
            raise Refused("platform_rejected", f"quantity was {order['quantity']}, the position has {position.volume}")
        return int(ticket)

    def _fresh_price(self, name: str, side: str) -> float:
        tick = self._terminal.call("symbol_info_tick", name)
        price = 0.0 if tick is None else float(tick.ask if side == "buy" else tick.bid)
        if price <= 0:
            raise Refused("platform_rejected", f"{name} has no price to {side} at")
        return price

    def _note(self, order_id: str) -> None:
        try:
            self._ids.note(order_id)
        except OSError as error:
            raise Refused("platform_rejected", f"the bridge cannot note the order's id on disk: {error}") from None

    # Sending.

    def _hand_over(self, order: Body, request: Body, market: SymbolFacts, kind: str) -> bool:
        """Send it once; again only where the server has said that it did nothing."""
        order_id = order["client_order_id"]
        # Another mode would be another order: one that may fill in part, or whose rest may stay.
        is_filling_ours = order["time_in_force"] not in ("ioc", "fok")
        retries = 0
        tried: set[int] = set()
        while True:
            try:
                result = self._terminal.send(request, order["not_after_ns"])
            except TooLate:
                self._reject("too_late_to_send", "the order came after the time it had to be sent by", order_id)
                return bool(retries or tried)
            if result is None:
                return self._take_no_result(order_id)
            retcode = result.retcode
            if retcode in ACCEPTED:
                if tried:
                    self._fillings[(market.name, kind)] = request["type_filling"]
                if result.order:
                    self._ids.own(result.order, order_id)
                    self._monitor.expect(result.order)
                self._monitor_soon()
                return True
            if retcode in AMBIGUOUS or retcode not in RETCODES:
                self._log.say("warning", f"outcome of {order_id} unknown: retcode {retcode} {result.comment}")
                self._monitor_soon()
                return True
            self.switches_doubtful = self.switches_doubtful or retcode in SWITCHED_OFF
            if retcode in AGAIN_AT_FRESH_PRICE and kind == MARKET and retries < REQUOTE_RETRIES:
                retries += 1
                if "price" not in request:
                    continue
                try:
                    request["price"] = self._fresh_price(market.name, ORDER_TYPES[request["type"]][0])
                    continue
                except Refused:
                    pass  # no price: the server's word stands
            if retcode == INVALID_FILL and is_filling_ours:
                tried.add(request["type_filling"])
                others = [mode for mode in self._fillings_of(market, kind) if mode not in tried]
                if others and len(tried) == 1:
                    request["type_filling"] = others[0]
                    continue
            code = REJECT_CODES.get(retcode, "platform_rejected")
            self._reject(code, self._words(result), order_id)
            return True

    def _take_no_result(self, order_id: str) -> bool:
        code, text = self._terminal.error
        if code in NOTHING_WAS_SENT:
            self.switches_doubtful = True
            self._reject("link_down" if code in IPC_LOST else "platform_rejected", f"{text} ({code})", order_id)
            return False
        self._log.say("warning", f"outcome of {order_id} unknown: {text} ({code})")
        self._monitor_soon()
        return True

    def _change(self, request: Body, refuse: Callable[[str], None]) -> bool:
        """Send a modification or removal; False when it was refused, and said so."""
        result = self._terminal.send(request)
        self._monitor_soon()
        if result is None:
            code, text = self._terminal.error
            if code in NOTHING_WAS_SENT:
                self.switches_doubtful = True
                refuse(f"{text} ({code})")
                return False
            return True
        retcode = result.retcode
        if retcode in ACCEPTED or retcode in AMBIGUOUS or retcode == NO_CHANGES or retcode not in RETCODES:
            return True
        self.switches_doubtful = self.switches_doubtful or retcode in SWITCHED_OFF
        refuse(self._words(result))
        return False

    def _remove(self, ticket: int, order_id: str) -> None:
        request = {"action": ACTION_REMOVE, "order": ticket}
        self._change(request, functools.partial(self._refuse_cancel, order_id))

    def _change_child(self, child: Child, price: float, refuse: Callable[[str], None]) -> bool:
        """Set the stop or target of a position; 0 takes it away."""
        position = self._find("positions_get", child.ticket)
        if position is None:
            self._monitor_soon()
            refuse(f"position {child.ticket} is closed")
            return False
        is_stop = child.role == STOP_LOSS
        request = {
            "action": ACTION_SLTP,
            "position": child.ticket,
            "symbol": child.symbol,
            "sl": price if is_stop else float(position.sl),
            "tp": float(position.tp) if is_stop else price,
        }
        return self._change(request, refuse) or True

    def _replace_child(self, order_id: str, child: Child, body: Body, refuse: Callable[[str], None]) -> bool:
        price = body["stop_price"] if child.role == STOP_LOSS else body["limit_price"]
        if body["quantity"] != exact(child.lots) or price is None:
            refuse(f"a stop or target is of the whole position ({child.lots}) and has one price")
            return False
        try:
            self._check_price(price, "price", self._facts_of(body["symbol"], child.symbol))
        except Refused as refusal:
            refuse(str(refusal))
            return False
        wanted = Wanted(body["revision"], body["limit_price"], body["stop_price"])
        self._monitor.wanted[order_id] = wanted

        def refuse_and_forget(text: str) -> None:
            self._monitor.wanted.pop(order_id, None)
            refuse(text)

        return self._change_child(child, float(price), refuse_and_forget)

    def _check_replace(self, order: Any, body: Body, kind: str, market: SymbolFacts) -> None:
        if kind == "market":
            raise Refused("replace_rejected", "a market order cannot be changed")
        if body["quantity"] != exact(order.volume_initial):
            raise Refused(
                "replace_rejected",
                f"quantity was {body['quantity']}, the order has {order.volume_initial}: MetaTrader changes prices, "
                "not sizes; cancel the order and place another",
            )
        prices = (body["limit_price"], body["stop_price"])
        needs = (kind in ("limit", "stop_limit"), kind in ("stop", "stop_limit"))
        if tuple(price is not None for price in prices) != needs:
            raise Refused("replace_rejected", f"the prices do not fit a {kind} order")
        for name in ("limit_price", "stop_price"):
            self._check_price(body[name], name, market)

    def _ticket_of(self, body: Body) -> int | None:
        ticket = self._ids.tickets.get(body["client_order_id"])
        if ticket is not None:
            return ticket
        named = body["platform_order_id"]
        return int(named) if re.match(r"^[0-9]{1,19}$", named) else None

    def _refuse_cancel(self, order_id: str, text: str) -> None:
        self._tell(self._describer.reject("cancel_rejected", text, order_id))

    def _reject(self, code: str, text: str, order_id: str) -> None:
        body = self._describer.reject(code, text, order_id)
        self._monitor.latest[order_id] = body
        self._tell(body)

    def _monitor_soon(self) -> None:
        self._monitor.at_once = True

    @staticmethod
    def _words(result: Any) -> str:
        name = RETCODES.get(result.retcode, "")
        return f"retcode {result.retcode} {name} {result.comment}".strip()


# ---------------------------------------------------------------------------------------------------------------------
# Connection
# ---------------------------------------------------------------------------------------------------------------------


class Link:
    """One TCP connection with an adapter; never blocks. Three queues: urgent messages, heartbeats, ticks.

    Attributes:
        received: number of the adapter's newest message that was acted upon.
        is_excused: `busy` was the last word: the adapter waits longer than usual.
        heard_s: when its newest bytes came, monotonic.
        is_over: closed, by whomever.
    """

    def __init__(self, connection: socket.socket, now_s: float) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self.frames = FrameReader()
        self.nonce = secrets.token_hex(16)
        self.received = 0
        self.ticks_sent = 0
        self.ticks_dropped = 0
        self.ticks_waiting = 0
        self.heard_s = now_s
        self.opened_s = now_s
        self.is_over = False
        self.is_excused = False
        self.heartbeat: Callable[[], Body] | None = None
        self.heartbeat_s = 1.0
        self.mute_after_s = LOGIN_WITHIN_S
        self.echo = (0, 0)
        self._beat_due_s = now_s
        self._sent = 0
        self._urgent: deque[Body] = deque()
        self._ticks: deque[tuple[int, int, bytes]] = deque()  # symbol id, records, frame
        self._under_way = memoryview(b"")
        self._ticks_under_way = 0
        self._ends_s = math.inf

    @property
    def is_ending(self) -> bool:
        return self._ends_s < math.inf

    @property
    def wants_to_write(self) -> bool:
        return bool(self._under_way or self._urgent or self._ticks)

    @property
    def due_s(self) -> float:
        """When it needs a turn, monotonic."""
        return min(self._beat_due_s if self.heartbeat is not None else math.inf, self._ends_s)

    def open(self, heartbeat: Callable[[], Body], heartbeat_ms: int, mute_after_ms: int) -> None:
        """It is the session now. `heartbeat`: makes one."""
        self.frames.greeting = False
        self.heartbeat = heartbeat
        self.heartbeat_s, self.mute_after_s = heartbeat_ms / 1000, mute_after_ms / 1000

    def queue(self, body: Body) -> None:
        """Never dropped; overtakes ticks."""
        self._urgent.append(body)
        self.is_excused = body["type"] == "busy" and body["for_ms"] > 0
        if len(self._urgent) > MAX_URGENT:
            self.close()  # rather a new session with a snapshot than an event less

    def queue_ticks(self, symbol_id: int, records: Rows) -> None:
        """Ticks of one symbol, in their order."""
        for first in range(0, len(records), FRAME_TICKS):
            part = records[first : first + FRAME_TICKS]
            self._ticks.append((symbol_id, len(part), pack_ticks(part)))
            self.ticks_waiting += len(part)

    def forget_ticks(self, symbol_ids: set[int]) -> None:
        """Throw away what waits under these ids: it is of what they stood for until now."""
        self._ticks = deque(each for each in self._ticks if each[0] not in symbol_ids)
        self.ticks_waiting = sum(each[1] for each in self._ticks)

    def end(self, code: str, text: str, now_s: float) -> None:
        """A last word; then read to the end, so that it is not thrown away with what was not read."""
        if not self.is_ending and not self.is_over:
            self._ticks.clear()
            self.ticks_waiting = 0
            self.heartbeat = None
            self._urgent.append({"type": "error", "code": code, "text": text[:512]})
            self._ends_s = now_s + LAST_WORD_S

    def close(self) -> None:
        """At once."""
        self.is_over = True
        self.socket.close()

    def receive(self, now_s: float) -> None:
        """Take in what has come; an end of the connection shows in `is_over`."""
        for _ in range(16):
            try:
                data = self.socket.recv(1 << 16)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self.heard_s = now_s
            if not self.is_ending:
                self.frames.feed(data)

    def flush(self, now_s: float) -> None:
        """Send what the system takes now."""
        try:
            while not self.is_over and (self._under_way or self._load(now_s)):
                sent = self.socket.send(self._under_way)
                self._under_way = self._under_way[sent:]
                if not self._under_way:
                    self.ticks_sent += self._ticks_under_way
                    self._ticks_under_way = 0
            if self.is_ending and not self.is_over:
                self.socket.shutdown(socket.SHUT_WR)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()
        if now_s >= self._ends_s and not self.is_over:
            self.close()

    def _load(self, now_s: float) -> bool:
        """Choose what goes next."""
        if self._urgent:
            self._pack(self._urgent.popleft())
        elif self.heartbeat is not None and now_s >= self._beat_due_s:
            self._beat_due_s = now_s + self.heartbeat_s
            self._pack(self.heartbeat())
        elif self._ticks:
            _, count, frame = self._ticks.popleft()
            self.ticks_waiting -= count
            self._under_way, self._ticks_under_way = memoryview(frame), count
        else:
            return False
        return True

    def _pack(self, body: Body) -> None:
        self._sent += 1
        self._under_way = memoryview(pack_message(self._sent, body))


# ---------------------------------------------------------------------------------------------------------------------
# The bridge
# ---------------------------------------------------------------------------------------------------------------------


class Pulse:
    """The file in which a supervisor sees that the bridge turns, or until when it may stand still."""

    def __init__(self, path: str | None, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._due_s = 0.0

    def beat(self, now_s: float) -> None:
        """Once a second."""
        if now_s >= self._due_s:
            self.write(now_s, "turning")

    def write(self, now_s: float, doing: str) -> None:
        """From now on this may take HANG_LIMIT_MS."""
        self._due_s = now_s + PULSE_S
        if self._path is None:
            return
        now_ns = time.time_ns()
        line = {
            "pid": os.getpid(),
            "boot_id": self._boot_id,
            "at_ns": now_ns,
            "until_ns": now_ns + HANG_LIMIT_MS * NS_PER_MS,
            "doing": doing,
        }
        fresh = f"{self._path}.new"
        try:
            with open(fresh, "w", encoding="ascii") as target:
                target.write(json.dumps(line) + "\n")
            os.replace(fresh, self._path)
        except OSError:
            pass  # somebody reads it just now (Windows); the next one comes soon


class Trade:
    """What belongs to the account that the terminal is logged in to; made anew with each connection to the terminal."""

    def __init__(self, bridge: Bridge, account: Account) -> None:
        config = bridge.config
        self.ids = OrderIds(config.ids_file, hedging=account.hedging)
        self.describer = Describer(config.platform, account, bridge.clock, self.ids, bridge.names)
        self.monitor = Monitor(
            bridge.terminal, bridge.clock, self.ids, self.describer, config.history_days * DAY_S, bridge.tell
        )
        self.desk = Desk(
            bridge.terminal,
            bridge.clock,
            self.ids,
            self.describer,
            self.monitor,
            config.deviation_points,
            bridge.tell,
            bridge.log,
        )
        self.money: Body = {}


class Bridge:
    """One terminal, one adapter, one thread. `turn` for ever.

    Attributes:
        is_hopeless: since its start the terminal is another one than the configuration's, for `account_wait_s`: a
            terminal that was just opened may still be on its way to the right account.
    """

    def __init__(self, module: Any, config: Config, log: Log, listener: socket.socket) -> None:
        self.config = config
        self.log = log
        self.clock = ServerClock(config.clock)
        self.names = SymbolNames()
        self.terminal = Terminal(module, config, log)
        self.terminal.announce = self._announce
        self.boot_id = secrets.token_hex(8)
        self.is_hopeless = False
        self._pulse = Pulse(config.pulse_file, self.boot_id)
        self._gauge = ClockGauge()
        self._gate = QuoteGate(config.gate_locked, config.quote_hours)
        self._reader = TickReader(self.terminal, self.clock, self._gauge, self._gate, config.poll_s)
        self._listener = listener
        self._links: list[Link] = []
        self._session: Link | None = None
        self._streams: dict[int, Stream] = {}
        self._trade: Trade | None = None
        self._fitness = Fitness(False, False, "the terminal is not connected yet")
        self._unfit = self._fitness.text
        self._backoff_s = config.backoff_s
        self._right_until_s = time.monotonic() + config.account_wait_s
        self._connect_due_s = 0.0
        self._watch_due_s = 0.0
        self._look_due_s = 0.0
        self._money_due_s = 0.0
        self._gauge_due_s = 0.0
        self._lag_due_s = 0.0
        self._clock_trouble = ""
        self._complaint = ""
        self._complain_due_s = 0.0
        self._gated_told = 0
        self._crowded_out = 0
        self._crowd_due_s = 0.0

    # What the others use.

    def tell(self, body: Body) -> None:
        """An event for the adapter; without one it is left to the next snapshot."""
        if self._session is not None:
            self._session.queue(body)

    def notice(self, level: str, text: str) -> None:
        """For our log and the adapter's."""
        self.log.say(level, text)
        self.tell({"type": "notice", "level": level, "text": text[:512]})

    # The loop.

    def connect(self) -> None:
        """Raises TerminalLost, WrongTerminal, OSError (the file of ids)."""
        account = self.terminal.connect()
        self._trade = Trade(self, account)
        self._right_until_s = math.inf
        self._backoff_s = self.config.backoff_s
        self._watch_due_s = 0.0
        self._watch(time.monotonic())

    def turn(self) -> None:
        """Serve the sockets, then do the one thing that is most overdue."""
        now_s = time.monotonic()
        self._pulse.beat(now_s)
        self._serve(now_s)
        try:
            self._do_next(time.monotonic())
        except TerminalLost as error:
            self.lose_terminal(str(error))
        except WrongTerminal as error:
            self._become_unfit(str(error))
        except CallFailed as error:
            self._complain(str(error), now_s)
        if self._session is not None and self._session.is_excused:
            self.tell({"type": "busy", "for_ms": 0, "doing": ""})  # the long call is over
        now_s = time.monotonic()
        for link in self._links:
            link.flush(now_s)

    def _complain(self, text: str, now_s: float) -> None:
        if text != self._complaint or now_s >= self._complain_due_s:
            self._complaint, self._complain_due_s = text, now_s + COMPLAIN_S
            self.notice("error", f"orders or positions cannot be read: {text}")

    def stop(self) -> None:
        """Say so, and close."""
        now_s = time.monotonic()
        for link in self._links:
            link.end("closing", "the bridge stops", now_s)
            link.flush(now_s)
            link.close()
        self._listener.close()

    def report(self) -> Body:
        """What `--check` prints."""
        account = self.terminal.account
        assert account is not None
        return {
            "account": account.name,
            "mode": "hedging" if account.hedging else "netting",
            "currency": account.currency,
            "simulated": account.simulated,
            **account.details,
            "data_up": self._fitness.data_up,
            "orders_up": self._fitness.orders_up,
            "to_do": self._fitness.text,
        }

    def _do_next(self, now_s: float) -> None:
        if self._trade is None:
            if now_s >= self._connect_due_s:
                self._reconnect()
            return
        if now_s >= self._watch_due_s or self._trade.desk.switches_doubtful:
            self._watch(now_s)
        elif self._session is None:
            return
        elif self.config.has_orders and (self._trade.monitor.at_once or now_s >= self._look_due_s):
            self._look(now_s)
        elif now_s >= self._lag_due_s:
            self._lag_due_s = now_s + LAG_S
            self._find_lags()
        elif now_s >= self._gauge_due_s:
            self._gauge_due_s = now_s + 1.0
            self._compare_clocks()
        else:
            self._poll_ticks(now_s)

    def _wait_s(self, now_s: float) -> float:
        """How long nothing needs to be done."""
        due_s = [now_s + LONGEST_WAIT_S, *(link.due_s for link in self._links)]
        if self._trade is None:
            due_s.append(self._connect_due_s)
        else:
            due_s.append(self._watch_due_s)
            if self._session is not None:
                due_s += [self._gauge_due_s, self._lag_due_s]
                if self.config.has_ticks:
                    due_s += [stream.due_s for stream in self._streams.values()]
                if self.config.has_orders:
                    due_s.append(0.0 if self._trade.monitor.at_once else self._look_due_s)
        return max(min(due_s) - now_s, 0.0)

    def _serve(self, now_s: float) -> None:
        self._drop_dead()
        writing = [link.socket for link in self._links if link.wants_to_write]
        reading = [self._listener, *(link.socket for link in self._links)]
        readable, _, _ = select.select(reading, writing, [], self._wait_s(now_s))
        now_s = time.monotonic()
        if self._listener in readable:
            self._accept(now_s)
        for link in list(self._links):
            if link.socket in readable:
                link.receive(now_s)
            self._digest(link, now_s)
            link.flush(now_s)
        self._drop_dead()

    def _accept(self, now_s: float) -> None:
        try:
            connection, _ = self._listener.accept()
            link = Link(connection, now_s)
        except OSError:
            return  # gone again already
        strangers = [link for link in self._links if link is not self._session]
        if len(strangers) >= MOST_STRANGERS:
            strangers[0].close()
            self._crowded_out += 1
            if now_s >= self._crowd_due_s:
                self._crowd_due_s = now_s + COMPLAIN_S
                self.notice("warning", f"{self._crowded_out} connections were closed to make room, none had logged in")
        self._links.append(link)
        link.queue(
            {
                "type": "challenge",
                "nonce": link.nonce,
                "platform": self.config.platform,
                "bridge": PROGRAM,
                "bridge_version": VERSION,
                "boot_id": self.boot_id,
            }
        )

    def _drop_dead(self) -> None:
        for link in [each for each in self._links if each.is_over]:
            self._links.remove(link)
            if link is self._session:
                self._forget_session()

    def _forget_session(self) -> None:
        self._session = None
        self._streams.clear()
        self.names.set({})
        if self._trade is not None:
            self._trade.desk.markets.clear()
        self.log.say("info", "the adapter is gone; orders and positions stay as they are")

    def _digest(self, link: Link, now_s: float) -> None:
        """Act upon the link's messages, one by one."""
        try:
            while not link.is_over and not link.is_ending:
                payload = link.frames.take()
                if payload is None:
                    break
                body = read_message(payload, link.received + 1)
                self._act(link, body)
                link.received += 1
        except Breach as breach:
            self.log.say("warning", f"an adapter broke the protocol: {breach}")
            code = "wrong_version" if "version was" in str(breach) else "malformed"
            link.end(code, str(breach), now_s)
        silent_s = now_s - (link.heard_s if link is self._session else link.opened_s)
        if silent_s > link.mute_after_s and not link.is_ending:
            link.end("mute", f"nothing heard for {silent_s:.1f} s", now_s)

    def _act(self, link: Link, body: Body) -> None:
        kind = body["type"]
        if kind == "error":
            self.log.say("warning", f"the adapter ends the session, {body['code']}: {body['text']!r}")
            link.close()
        elif link is not self._session:
            if kind != "login":
                raise Breach(f"{kind} came before login")
            self._guarded(link, body, self._log_in)
        elif kind == "heartbeat":
            link.echo = (body["sent_ns"], time.time_ns())
        elif kind == "subscribe":
            self._guarded(link, body, self._subscribe)
        elif kind == "snapshot_request":
            self._guarded(link, body, self._answer_snapshot)
        elif kind in ("place", "cancel", "replace"):
            self._command(link, body)
        else:
            raise Breach(f"{kind} came a second time")

    def _guarded(self, link: Link, body: Body, deed: Callable[[Link, Body], None]) -> None:
        """The terminal may be lost on the way; then there is no session any more."""
        try:
            deed(link, body)
        except (TerminalLost, WrongTerminal, CallFailed) as error:
            if isinstance(error, TerminalLost):
                self.lose_terminal(str(error))
            elif isinstance(error, WrongTerminal):
                self._become_unfit(str(error))
            # Who is just logging in is no session yet; others have heard it already.
            link.end("not_ready", str(error), time.monotonic())

    # Sessions.

    def _log_in(self, link: Link, login: Body) -> None:
        now_s, received_ns = time.monotonic(), time.time_ns()
        token = self.config.token
        if not hmac.compare_digest(login["proof"], prove(token, "adapter", link.nonce, login["nonce"])):
            self.log.say("warning", "a login with a wrong token")
            link.end("wrong_token", "the token of the adapter is another one", now_s)
            return
        if login["platform"] != self.config.platform:
            raise Breach(f"platform was {login['platform']!r}, this bridge is for {self.config.platform!r}")
        if self._trade is None or self._unfit:
            link.end("not_ready", self._unfit, now_s)
            return
        self._watch(now_s)
        account = self.terminal.account
        assert account is not None
        self._trade.monitor.begin()
        if self._session is not None:
            self._session.end("replaced", "another adapter has logged in", now_s)
            self._session.flush(now_s)
            self._forget_session()
        self._session = link
        fitness = self._fitness
        link.queue(
            {
                "type": "hello",
                "proof": prove(token, "bridge", login["nonce"], link.nonce),
                "platform_version": f"MetaTrader 5 build {account.build}",
                "accounts": [self._describe_account(account)],
                "capabilities": self._capabilities(account),
                "data_up": fitness.data_up,
                "orders_up": fitness.orders_up,
                "login_sent_ns": login["sent_ns"],
                "login_received_ns": received_ns,
                "sent_ns": time.time_ns(),
                "text": fitness.text[:512],
                "details": {
                    **account.details,
                    "utc_offset_minutes": str(self._offset_minutes()),
                    "role": self.config.role,
                },
            }
        )
        link.open(self._make_heartbeat, login["heartbeat_ms"], login["mute_after_ms"])
        self.log.say("info", "an adapter has logged in")

    def _describe_account(self, account: Account) -> Body:
        return {
            "name": account.name,
            "mode": "hedging" if account.hedging else "netting",
            "currency": account.currency,
            "simulated": account.simulated,
        }

    def _capabilities(self, account: Account) -> Body:
        """Netting: one stop for the whole position, so brackets of single orders are not the platform's."""
        return {
            "order_types": ["market", "limit", "stop", "stop_limit"],
            "times_in_force": ["day", "gtc", "ioc", "fok", "gtd"],
            "replace": True,
            "replace_quantity": False,
            "brackets": account.hedging,
            "oco": False,
            "reduce_only": False,
            "close_by_ticket": account.hedging,
            "executions_history": True,
        }

    def _offset_minutes(self) -> int:
        return self.clock.offset_ms(time.time_ns() // NS_PER_MS) // MINUTE_MS

    def _make_heartbeat(self) -> Body:
        link = self._session
        assert link is not None
        echo_sent_ns, echo_received_ns = link.echo
        return {
            "type": "heartbeat",
            "sent_ns": time.time_ns(),
            "last_seq_received": link.received,
            "ticks_sent": link.ticks_sent,
            "ticks_dropped": link.ticks_dropped,
            "ticks_waiting": link.ticks_waiting,
            "busy_ms": 0,
            "echo_sent_ns": echo_sent_ns,
            "echo_received_ns": echo_received_ns,
        }

    def _announce(self, for_ms: int, doing: str) -> None:
        """A call follows that may block for so long: say so, and see to it that it has left."""
        now_s = time.monotonic()
        self._pulse.write(now_s, doing)
        link = self._session
        if link is None or link.is_over or for_ms < link.mute_after_s * 1000:
            return
        link.queue({"type": "busy", "for_ms": min(for_ms, MAX_BUSY_MS), "doing": doing})
        link.flush(now_s)

    def _subscribe(self, link: Link, body: Body) -> None:
        wanted = {each["symbol_id"]: each for each in body["symbols"]}
        if len(wanted) != len(body["symbols"]):
            raise Breach("a symbol_id came twice")
        assert self._trade is not None
        before, self._streams = self._streams, {}
        kept = {
            symbol_id
            for symbol_id, stream in before.items()
            if symbol_id in wanted and wanted[symbol_id]["platform_symbol"] == stream.name
        }
        link.forget_ticks(before.keys() - kept)
        markets = self._trade.desk.markets
        markets.clear()
        self.names.set({each["platform_symbol"]: each["symbol"] for each in body["symbols"]})
        until_s = time.monotonic() + SYNCHRONISE_S
        for symbol_id, each in wanted.items():
            answer, records = self._open_stream(each, before[symbol_id] if symbol_id in kept else None, until_s)
            link.queue({"type": "subscribed", "subscribe_seq": link.received + 1, "symbols": [answer]})
            if records is not None:
                link.queue_ticks(symbol_id, records)
            # History of the next one may take a while.
            link.flush(time.monotonic())

    def _open_symbol(self, wanted: Body, until_s: float) -> tuple[SymbolFacts, Body]:
        """What orders need to know of it, and `instrument` of the protocol. One that was just selected may take a
        moment to be synchronised. Raises SymbolRefused, ValueError.
        """
        assert self.terminal.account is not None
        currency = self.terminal.account.currency
        while True:
            now_ms = self.clock.to_server_ms(time.time_ns() // NS_PER_MS)
            info = open_symbol(self.terminal, wanted["platform_symbol"], now_ms)
            try:
                market = SymbolFacts(info)
                return market, describe_instrument(info, market, wanted["symbol"], currency, self.clock)
            except NotSynchronised:
                if time.monotonic() >= until_s:
                    raise
            time.sleep(WAIT_S)

    def _open_stream(self, wanted: Body, before: Stream | None, until_s: float) -> tuple[Body, Rows | None]:
        """Answer for one symbol, and its state."""
        assert self._trade is not None
        answer: Body = {"symbol_id": wanted["symbol_id"], "accepted": False}
        try:
            market, instrument = self._open_symbol(wanted, until_s)
        except (SymbolRefused, ValueError) as error:
            self.log.say("warning", f"{wanted['symbol']}: {error}")
            return {**answer, "text": str(error)[:512]}, None
        self._trade.desk.markets[wanted["symbol"]] = market
        if instrument["point_value"] is None and before is None:
            words = f"its profit is in {instrument['currency']}, which is not the account's currency"
            self.notice("warning", f"{wanted['symbol']}: what a point is worth is not known here ({words}), compare it")
        stream, resumed, text = before, False, ""
        if stream is None:
            cursor = None
            if self.config.has_ticks and self.clock.is_known:
                cursor, resumed, text = self._reader.begin(wanted)
            stream = Stream(wanted, cursor)
            if text:
                self.notice("warning", f"{wanted['symbol']} does not go on where it ended: {text}")
        else:
            resumed = True
            stream.symbol = wanted["symbol"]
        self._streams[stream.symbol_id] = stream
        # What goes on where it ended, or will, must not be overtaken by its own state.
        is_new = before is None and stream.cursor is not None and wanted["after_ns"] == 0
        records = self._reader.state(stream) if is_new else None
        answer.update(
            accepted=True, instrument=instrument, tradable=self.config.has_orders, resumed=resumed, text=text[:512]
        )
        return answer, records

    # Orders.

    def _command(self, link: Link, body: Body) -> None:
        assert self._trade is not None
        kind = body["type"]
        named = body["order"] if kind == "place" else body
        trouble: Exception | None = None
        try:
            self._check_route(named)
            handed_over = getattr(self._trade.desk, kind)(body)
        except (Refused, CallFailed, TerminalLost, WrongTerminal) as error:
            handed_over, trouble = False, error
            code = {"place": "platform_rejected", "cancel": "cancel_rejected", "replace": "replace_rejected"}[kind]
            if kind == "place" and isinstance(error, (TerminalLost, WrongTerminal)):
                code = "link_down"
            order_id, revision = named["client_order_id"], body.get("revision", 0)
            reject = self._trade.describer.reject(code, str(error), order_id, revision)
            # On the account's own route, whatever the command named: the adapter takes no other.
            self.tell(reject)
        link.queue({"type": "ack", "command_seq": link.received + 1, "handed_over": handed_over})
        link.flush(time.monotonic())
        if isinstance(trouble, TerminalLost):
            self.lose_terminal(str(trouble))
        elif isinstance(trouble, WrongTerminal):
            self._become_unfit(str(trouble))

    def _is_route(self, named: Body) -> bool:
        account = self.terminal.account
        return account is not None and (named["platform"], named["account"]) == (self.config.platform, account.name)

    def _check_route(self, named: Body) -> None:
        if not self._is_route(named):
            text = f"command was for {named['platform']}|{named['account']}, the terminal has another account"
            raise Refused("platform_rejected", text)
        if not self.config.has_orders:
            raise Refused("link_down", "this bridge is for ticks alone (role)")

    def _answer_snapshot(self, link: Link, body: Body) -> None:
        assert self._trade is not None
        self.terminal.announce(HISTORY_LIMIT_MS, "history")
        trade = self._trade
        if not self._is_route(body):
            raise Breach(f"a snapshot was asked for of {body['platform']}|{body['account']}")
        is_right = not self._clock_trouble
        link.queue(
            make_snapshot(self.terminal, trade.monitor, trade.describer, body, self.clock, clock_is_right=is_right)
        )

    def _look(self, now_s: float) -> None:
        assert self._trade is not None
        monitor, config = self._trade.monitor, self.config
        try:
            monitor.look(now_s)
            self._trade.desk.follow_up()
        finally:
            pause_s = config.monitor_busy_s if monitor.has_live_orders else config.monitor_idle_s
            self._look_due_s = time.monotonic() + pause_s
        if now_s >= self._money_due_s:
            self._money_due_s = now_s + MONEY_S
            money = self._trade.describer.money(self.terminal.need_account(), 0)
            if money != self._trade.money:
                self._trade.money = money
                self.tell({**money, "as_of_ns": time.time_ns()})

    # Ticks.

    def _poll_ticks(self, now_s: float) -> None:
        link = self._session
        assert link is not None
        if not self._streams or not self.config.has_ticks:
            return
        stream = min(self._streams.values(), key=lambda each: each.due_s)
        if stream.due_s > now_s:
            return
        if link.ticks_waiting > MOST_WAITING_TICKS or not self.clock.is_known:
            # The terminal keeps them.
            stream.due_s = now_s + 0.01
            return
        was_in_trouble = stream.trouble
        records = self._reader.poll(stream, now_s)
        if records is not None:
            link.queue_ticks(stream.symbol_id, records)
        if stream.trouble and stream.trouble != was_in_trouble:
            self._tell_stopped(stream, f"no ticks, {stream.trouble}")
        if stream.has_hole:
            stream.has_hole = False
            self.notice("error", f"{stream.symbol}: {HOLE}")
        if -math.inf < stream.missing_since_s < now_s - MISSING_S:
            assert stream.cursor is not None
            stream.missing_since_s = -math.inf  # told
            text = f"the terminal's history does not show {stream.cursor.missing} ticks any more that were sent"
            self.notice("warning", f"{stream.symbol}: {text}")
        late = 0 if stream.cursor is None else stream.cursor.late
        if late > stream.late_told:
            link.ticks_dropped += late - stream.late_told
            self.notice("warning", f"{stream.symbol}: {late - stream.late_told} ticks came too late to be sent")
            stream.late_told = late

    def _tell_stopped(self, stream: Stream, text: str) -> None:
        text = f"{stream.symbol}: {text}"
        self.notice("error", text)
        self.tell({"type": "symbol_status", "symbol_id": stream.symbol_id, "live": False, "text": text[:512]})

    def _find_lags(self) -> None:
        """A terminal may go on quoting while its history stands still. Twice in a row: a tick may just have come."""
        for stream in self._streams.values():
            stream.lagging = stream.lagging + 1 if self._reader.lags(stream) else 0
            if stream.lagging == 2:
                self._tell_stopped(stream, "the terminal has quotes, but no ticks in its history")

    def _compare_clocks(self) -> None:
        """What ticks show against what is believed."""
        if self._gate.gated > self._gated_told:
            count, self._gated_told = self._gate.gated - self._gated_told, self._gate.gated
            self.notice("info", f"{count} quotes were none (crossed, or outside the hours): sent as not known")
        now_ms = time.time_ns() // NS_PER_MS
        if not self.clock.is_known:
            self._sample_clock(now_ms)
        offset_ms = self._gauge.read(now_ms)
        if offset_ms is None:
            return
        believed_ms = self.clock.offset_ms(now_ms)
        self._gauge_due_s = time.monotonic() + 60.0
        if offset_ms == believed_ms and self.clock.is_known:
            self._clock_trouble = ""
            return
        words = f"the server's clock is {offset_ms // MINUTE_MS} minutes ahead of UTC"
        if self.clock.is_measured:
            self.clock.take(offset_ms, now_ms)
            self.notice("warning", f"{words} from now on (measured), was {believed_ms // MINUTE_MS}")
            self._watch_due_s = 0.0
        elif words != self._clock_trouble:
            self._clock_trouble = words
            text = f"{words}, configured are {believed_ms // MINUTE_MS}: times of ticks and fills are wrong"
            self.notice("error", f"{text}; correct `clock` in the bridge's configuration, or this computer's clock")

    def _sample_clock(self, now_ms: int) -> None:
        """Before the offset is known no ticks are read: the newest of each symbol serve instead."""
        for stream in self._streams.values():
            tick = self.terminal.call("symbol_info_tick", stream.name)
            newest_ms = 0 if tick is None else int(tick.time_msc)
            if stream.newest_ms and newest_ms > stream.newest_ms:
                self._gauge.add(newest_ms, now_ms)
            stream.newest_ms = newest_ms

    # The terminal's state.

    def _watch(self, now_s: float) -> None:
        """Look at the switches; tell when they have changed. Raises TerminalLost, WrongTerminal."""
        self._watch_due_s = now_s + WATCH_S
        if self._trade is not None:
            self._trade.desk.switches_doubtful = False
        found, _ = self.terminal.look()
        if not self.clock.is_known:
            found = Fitness(False, found.orders_up, "; ".join(filter(None, [found.text, "its clock is not known yet"])))
        self._unfit = ""
        if found != self._fitness:
            self._fitness = found
            self.log.say("warning", f"data {found.data_up}, orders {found.orders_up}: {found.text or 'all is well'}")
            self.tell({"type": "status", **found._asdict(), "text": found.text[:512]})

    def _become_unfit(self, text: str) -> None:
        """Somebody else is logged in: nothing is told of that account, until the right one is back."""
        if text != self._unfit:
            self.log.say("error", text)
        self._unfit = text
        self._end_session(text)
        if self._trade is None:
            self.is_hopeless = time.monotonic() >= self._right_until_s
            self.lose_terminal(text)

    def lose_terminal(self, text: str) -> None:
        """The pipe is broken: say so, and open everything anew."""
        self.log.say("error", f"the terminal is lost: {text}; next attempt in {self._backoff_s:.0f} s")
        self._end_session(f"the terminal is lost: {text}")
        self._trade = None
        self._fitness = Fitness(False, False, text)
        self._unfit = f"the terminal is not connected: {text}"
        self._connect_due_s = time.monotonic() + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, LONGEST_BACKOFF_S)

    def _end_session(self, text: str) -> None:
        link, now_s = self._session, time.monotonic()
        if link is not None:
            self.tell({"type": "status", "data_up": False, "orders_up": False, "text": text[:512]})
            link.end("not_ready", text, now_s)
            link.flush(now_s)
            self._forget_session()

    def _reconnect(self) -> None:
        try:
            self.connect()
        except OSError as error:
            self.lose_terminal(str(error))


# ---------------------------------------------------------------------------------------------------------------------
# Main
# ---------------------------------------------------------------------------------------------------------------------


def listen(host: str, port: int, patience_s: float) -> socket.socket:
    """A predecessor may still hold the port for a moment. Raises OSError."""
    deadline_s = time.monotonic() + patience_s
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
        # Windows lets a second program share a port unless it is told not to.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive is None else exclusive, 1)
        try:
            listener.bind((host, port))
            listener.listen(64)
            listener.setblocking(False)
            return listener
        except OSError:
            listener.close()
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(0.2)


class Stopping:
    """Set by a signal, or when the standard input ends."""

    def __init__(self, *, lifeline: bool) -> None:
        self.is_wanted = False
        for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._take)
        if lifeline:
            threading.Thread(target=self._read_to_the_end, daemon=True).start()

    def _take(self, number: int, frame: Any) -> None:
        self.is_wanted = True

    def _read_to_the_end(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            # Not through sys.stdin: its lock, held here, would abort the interpreter at its end, exit code and all.
            while os.read(sys.stdin.fileno(), 1 << 12):
                pass
        self.is_wanted = True


def run(config: Config, log: Log, module: Any, *, check: bool, lifeline: bool) -> int:
    """Serve until it is asked to stop; the exit code."""
    stopping = Stopping(lifeline=lifeline)
    try:
        listener = listen(config.host, 0 if check else config.port, 0.0 if check else BIND_PATIENCE_S)
    except OSError as error:
        log.say("error", f"port {config.port} of {config.host} cannot be had: {error}")
        return EXIT_PORT
    bridge = Bridge(module, config, log, listener)
    try:
        if check:
            return _check(bridge, log)
        log.say("info", f"{PROGRAM} {VERSION} serves {config.platform} on {config.host}:{config.port}")
        while not stopping.is_wanted and not bridge.is_hopeless:
            bridge.turn()
    finally:
        bridge.stop()
        module.shutdown()
    return EXIT_CONFIG if bridge.is_hopeless else EXIT_CLEAN


def _check(bridge: Bridge, log: Log) -> int:
    try:
        bridge.connect()
    except (WrongTerminal, TerminalLost, OSError) as error:
        log.say("error", str(error))
        return EXIT_CONFIG if isinstance(error, WrongTerminal) else 1
    sys.stdout.write(json.dumps(bridge.report(), indent=1) + "\n")
    return EXIT_CLEAN


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the program; the exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Bridge between a MetaTrader 5 terminal and an adapter.")
    parser.add_argument("config", help="the configuration, JSON; see README.md")
    parser.add_argument("--check", action="store_true", help="connect, print what was found, end")
    parser.add_argument("--stdin-lifeline", action="store_true", help="end when the standard input ends")
    parser.add_argument("--version", action="version", version=VERSION)
    chosen = parser.parse_args(arguments)
    try:
        config = load_config(chosen.config)
        log = Log(config.log_file, config.log_level)
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return EXIT_CONFIG
    try:
        module = importlib.import_module("MetaTrader5")
    except ImportError as error:
        log.say("error", f"MetaTrader5 cannot be imported ({error}); run: pip install MetaTrader5")
        return EXIT_CONFIG
    return run(config, log, module, check=chosen.check, lifeline=chosen.stdin_lifeline)


if __name__ == "__main__":
    sys.exit(main())
