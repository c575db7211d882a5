"""Constants of the protocol, of the MetaTrader5 module, and the bridge's own limits and intervals."""

from __future__ import annotations

import struct

import numpy as np

PROGRAM = "mt5_bridge"
VERSION = "1.0.0"

EXIT_CLEAN = 0
EXIT_CONFIG = 2
EXIT_PORT = 3

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
MS_PER_S = 1_000
DAY_S = 86_400

# The protocol.
PROTOCOL_VERSION = 2
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
"""The gateway's tick record as sent: 64 bytes."""

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
"""A tick as copy_ticks_* returns it: 60 bytes; the fields of a Tick have the same order."""

# The terminal. Names follow the MetaTrader5 module, which does not export SYMBOL_FILLING_* and SYMBOL_ORDER_*.
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
"""FOREX, CFD, CFDINDEX, CFDLEVERAGE, FOREX_NO_LEVERAGE, EXCH_STOCKS: profit = price move x contract size x lots."""

ORDER_TYPES = {
    0: ("buy", "market"),
    1: ("sell", "market"),
    2: ("buy", "limit"),
    3: ("sell", "limit"),
    4: ("buy", "stop"),
    5: ("sell", "stop"),
    6: ("buy", "stop_limit"),
    7: ("sell", "stop_limit"),
    8: ("buy", "market"),  # close by: it has no side of its own
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
"""Ended orders in the history. PARTIAL, when orders_get no longer lists the order: the rest was cancelled."""

ACCEPTED = (10008, 10009, 10010)
NO_CHANGES = 10025
INVALID_FILL = 10030
AGAIN_AT_FRESH_PRICE = (10004, 10020, 10021)
"""Requote: the server has certainly not traded. Sent again at most REQUOTE_RETRIES times, within not_after_ns."""
AMBIGUOUS = (10011, 10012, 10031)
"""ERROR, TIMEOUT, CONNECTION: the server may have the order. Never sent again; orders and deals show the outcome."""
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
"""retcode -> reject code of the protocol; all other refusals are `platform_rejected`."""

IPC_LOST = (-10000, -10001, -10002, -10003, -10004, -10005)
AUTH_FAILED = -6
CALL_FAILED = -1
MODULE_RAISES = (SystemError, TypeError, ValueError, ArithmeticError)
"""Raised by the module for arguments beyond its C types (a date after 2038) and for answers that it cannot decode."""
NOTHING_WAS_SENT = (-2, -7, -8, -10004)
"""Wrong arguments, unsupported, switched off, no connection: order_send has certainly not sent the order."""

# Time limits of calls into the terminal; after them the adapter may treat the bridge as unresponsive.
INITIALIZE_TIMEOUT_MS = 20_000
INITIALIZE_LIMIT_MS = 120_000
"""The module tries to launch the terminal for about 100 s, then waits for the login up to its time-out."""
WARM_UP_LIMIT_MS = 60_000
"""MetaQuotes documents up to 45 s to update the history of a symbol."""
SEND_LIMIT_MS = 30_000
HISTORY_LIMIT_MS = 15_000
HANG_LIMIT_MS = 120_000
"""For the supervisor, any call: not below any limit above; a read that took 77 s and then returned was reported."""

# Intervals and limits.
PULSE_S = 1.0
WATCH_S = 2.0
DEALS_S = 1.0
MONEY_S = 1.0
LAG_S = 5.0
LAG_MS = 2_000
WAIT_S = 0.05
"""Interval of polling for a symbol's first tick or for missing history."""
MISSING_S = 10.0
SYNCHRONISE_S = 1.5
"""Part of the 3 s that the answers to a subscription may take."""
COMPLAIN_S = 10.0
LATE_VERDICT_S = 10.0
CLOCK_DOUBT_S = 26 * 3_600
"""The largest difference between two time zones: history is read from that much earlier, so that a wrong clock offset
hides no executions."""
BIND_PATIENCE_S = 15.0
LONGEST_BACKOFF_S = 60.0
LONGEST_WAIT_S = 0.25
FIRST_COUNT = 4_000
MOST_COUNT = 100_000
FRAME_TICKS = 1_024
"""Ticks per frame: small, so that an order event waits only briefly for a frame that is being sent."""
MAX_WAITING_TICKS = 65_536
"""Above this queue length ticks stay in the terminal, which keeps them."""
MAX_SYMBOL_CHARACTERS = 29
REQUOTE_RETRIES = 2
STABLE_READS = 5
MAX_WITHOUT_SESSION = 16
"""Connections without a session. select is limited to 512 sockets on Windows, 1,024 descriptors elsewhere."""
