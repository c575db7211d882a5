"""The golden vectors of the bridge protocol; `python -m tests.reference_bridge.vectors` writes them anew.

They are the protocol's memory: a change that alters one of them needs a new protocol version. Standard library only.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from tests.reference_bridge import wire

FOLDER = Path(__file__).resolve().parents[2] / "bridges" / "vectors"
T0 = 1_760_000_000_000_000_000
TOKEN = "a token of the golden vectors"
BRIDGE_NONCE = "00112233445566778899aabbccddeeff"
ADAPTER_NONCE = "ffeeddccbbaa99887766554433221100"
ORDER_ID = "NXGABCDEFGHIJKLAEAAALX"
STOP_ID = "NXGABCDEFGHIJKLASAAA7X"
TARGET_ID = "NXGABCDEFGHIJKLATAAAPO"
OLD_ORDER_ID = "NXGABCDEFGHIJKLAEAABR"
"""As gateways before version 2 made it."""
WHERE = {"platform": "nt8", "account": "Sim101"}


class Vector(NamedTuple):
    """One file. `fault`: why the receiver must end the connection; empty for a good one."""

    name: str
    sender: str
    meaning: str
    data: bytes
    content: Any = None
    fault: str = ""


FILL = {
    "type": "fill",
    **WHERE,
    "exec_id": "E-991",
    "client_order_id": ORDER_ID,
    "symbol": "NQ",
    "side": "buy",
    "quantity": "1",
    "price": "18000.25",
    "ts_event_ns": T0 + 5,
    "platform_order_id": "O-17",
    "contract": "",
    "position_ticket": "",
    "fee": "2.14",
    "fee_currency": "USD",
}
ACCOUNT = {
    "type": "account",
    **WHERE,
    "currency": "USD",
    "balance": "100000.00",
    "equity": "100012.50",
    "margin_used": None,
    "day_start_equity": "100000.00",
    "realized_today": "0",
    "as_of_ns": T0 + 6,
}
ORDER = {
    "type": "order",
    "client_order_id": ORDER_ID,
    **WHERE,
    "symbol": "NQ",
    "contract": "NQZ26",
    "side": "buy",
    "quantity": "2",
    "order_type": "limit",
    "limit_price": "18000.25",
    "stop_price": None,
    "time_in_force": "day",
    "good_till_ns": 0,
    "stop_loss": "17990.00",
    "take_profit": "18020.00",
    "reduce_only": False,
    "close_ticket": "",
    "oco_group": "",
    "not_after_ns": T0 + 2_000_000_000,
}
CAPABILITIES = {
    "order_types": ["market", "limit", "stop", "stop_limit"],
    "times_in_force": ["day", "gtc", "ioc"],
    "replace": True,
    "replace_quantity": True,
    "brackets": True,
    "oco": True,
    "reduce_only": False,
    "close_by_ticket": False,
    "executions_history": True,
    "lists_positions": True,
    "lists_orders": True,
    "flatten": False,
    "oco_shrinks": False,
    "stops_at": "exchange",
}
HELLO = {
    "type": "hello",
    "proof": wire.prove(TOKEN, "bridge", ADAPTER_NONCE, BRIDGE_NONCE),
    "platform_version": "8.1.3",
    "accounts": [{"name": "Sim101", "mode": "netting", "currency": "USD", "simulated": True}],
    "capabilities": CAPABILITIES,
    "data_up": True,
    "orders_up": True,
    "login_sent_ns": T0,
    "login_received_ns": T0 + 100_000,
    "sent_ns": T0 + 150_000,
    "text": "",
    "details": {"time_zone": "Eastern Standard Time"},
}
SNAPSHOT = {
    "type": "snapshot",
    "request_id": 1,
    **WHERE,
    "positions": {
        "type": "positions",
        **WHERE,
        "rows": [{"symbol": "NQ", "quantity": "1", "avg_price": "18000.25", "contract": "", "ticket": ""}],
        "as_of_ns": T0 + 6,
        "complete": True,
    },
    "working_orders": {
        "type": "working_orders",
        **WHERE,
        "rows": [
            {
                "client_order_id": ORDER_ID,
                "symbol": "NQ",
                "side": "buy",
                "state": "partially_filled",
                "quantity": "2",
                "filled": "1",
                "platform_order_id": "O-17",
                "order_type": "limit",
                "limit_price": "18000.25",
                "stop_price": None,
            }
        ],
        "as_of_ns": T0 + 6,
        "complete": True,
    },
    "executions": {
        "type": "executions",
        **WHERE,
        "rows": [FILL],
        "from_ns": T0,
        "as_of_ns": T0 + 6,
        "complete": True,
    },
    "funds": ACCOUNT,
    "complete": True,
}
INSTRUMENT = {
    "symbol": "NQ",
    "platform_symbol": "NQ 12-26",
    "contract": "",
    "tick_size": "0.25",
    "lot_step": "1",
    "point_value": "20",
    "currency": "USD",
    "expiry_ns": 1_797_600_600_000_000_000,
}
FROM_BRIDGE: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "first word on a connection",
        {
            "type": "challenge",
            "nonce": BRIDGE_NONCE,
            "platform": "nt8",
            "bridge": "NT8PythonBridge.cs",
            "bridge_version": "1.0.0",
            "boot_id": "7f3c",
        },
    ),
    (
        f"the session is open; token {TOKEN!r}, nonces of challenge and login",
        HELLO,
    ),
    (
        "one symbol taken, one refused",
        {
            "type": "subscribed",
            "subscribe_seq": 2,
            "symbols": [
                {
                    "symbol_id": 3,
                    "accepted": True,
                    "instrument": INSTRUMENT,
                    "tradable": True,
                    "resumed": False,
                    "text": "",
                },
                {
                    "symbol_id": 4,
                    "accepted": False,
                    "instrument": None,
                    "tradable": False,
                    "resumed": False,
                    "text": "no such instrument",
                },
            ],
        },
    ),
    (
        "the broker's link is gone",
        {"type": "status", "data_up": True, "orders_up": False, "text": "connection lost: log in again"},
    ),
    ("one symbol has stopped", {"type": "symbol_status", "symbol_id": 3, "live": False, "text": "removed from chart"}),
    (
        "heartbeat with the echo of the adapter's",
        {
            "type": "heartbeat",
            "sent_ns": T0 + 1_000_000_000,
            "last_seq_received": 4,
            "ticks_sent": 1200,
            "ticks_dropped": 7,
            "ticks_waiting": 3,
            "busy_ms": 0,
            "echo_sent_ns": T0 + 990_000_000,
            "echo_received_ns": T0 + 990_100_000,
        },
    ),
    ("silent for at most a minute from now on", {"type": "busy", "for_ms": 60_000, "doing": "initialize"}),
    ("command 7 was handed to the platform", {"type": "ack", "command_seq": 7, "handed_over": True}),
    (
        "the order works, one lot filled",
        {
            "type": "order_update",
            "client_order_id": ORDER_ID,
            **WHERE,
            "symbol": "NQ",
            "side": "buy",
            "state": "partially_filled",
            "quantity": "2",
            "filled": "1",
            "platform_order_id": "O-17",
            "order_type": "limit",
            "limit_price": "18000.25",
            "stop_price": None,
            "avg_price": "18000.25",
            "replace_revision": 0,
            "code": "none",
            "text": "",
            "ts_event_ns": T0 + 4,
        },
    ),
    ("one lot traded", FILL),
    (
        "the exchange corrects its price",
        {
            "type": "correction",
            **WHERE,
            "exec_id": "E-991",
            "kind": "correct",
            "revision": 1,
            "quantity": "1",
            "price": "18000.50",
            "ts_event_ns": T0 + 9,
        },
    ),
    (
        "the platform refuses the order",
        {
            "type": "reject",
            "code": "platform_rejected",
            "text": "margin: not enough",
            "client_order_id": ORDER_ID,
            "signal_id": "",
            **WHERE,
            "replace_revision": 0,
            "measured": "",
            "limit": "",
            "stage": 0,
        },
    ),
    ("money", ACCOUNT),
    (
        "what is true: one lot long, the order's rest working",
        SNAPSHOT,
    ),
    ("for the log", {"type": "notice", "level": "warning", "text": "6 % of the quotes came twice"}),
    ("last word", {"type": "error", "code": "replaced", "text": "another adapter has logged in"}),
)
FROM_ADAPTER: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        f"token {TOKEN!r}, nonce of challenge.bin",
        {
            "type": "login",
            "nonce": ADAPTER_NONCE,
            "proof": wire.prove(TOKEN, "adapter", BRIDGE_NONCE, ADAPTER_NONCE),
            "platform": "nt8",
            "heartbeat_ms": 1000,
            "mute_after_ms": 5000,
            "sent_ns": T0,
        },
    ),
    (
        "NQ anew, ES from where it ended",
        {
            "type": "subscribe",
            "symbols": [
                {"symbol_id": 3, "symbol": "NQ", "platform_symbol": "NQ 12-26", "after_ns": 0, "after_count": 0},
                {"symbol_id": 4, "symbol": "ES", "platform_symbol": "ES 12-26", "after_ns": T0, "after_count": 2},
            ],
        },
    ),
    (
        "heartbeat",
        {"type": "heartbeat", "sent_ns": T0 + 990_000_000, "last_seq_received": 8, "ticks_received": 1100},
    ),
    (
        "a limit order with a bracket",
        {"type": "place", "order": ORDER, "stop_loss_id": STOP_ID, "take_profit_id": TARGET_ID},
    ),
    (
        "cancel it",
        {"type": "cancel", "client_order_id": ORDER_ID, **WHERE, "symbol": "NQ", "platform_order_id": "O-17"},
    ),
    (
        "change it to three lots in all, at another price",
        {
            "type": "replace",
            "client_order_id": ORDER_ID,
            **WHERE,
            "symbol": "NQ",
            "revision": 1,
            "quantity": "3",
            "platform_order_id": "O-17",
            "limit_price": "18001.00",
            "stop_price": None,
        },
    ),
    (
        "what is true, with executions since then",
        {"type": "snapshot_request", "request_id": 1, **WHERE, "executions_from_ns": T0},
    ),
    ("last word", {"type": "error", "code": "mute", "text": "nothing heard for 5000 ms"}),
)
MORE_FROM_BRIDGE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "fill_ten",
        "ten lots traded at 18000: decimals have no exponent",
        {**FILL, "exec_id": "E-992", "quantity": "10", "price": "18000", "fee": "20"},
    ),
    (
        "fill_tiny",
        "a price of 0.0000001: decimals have no exponent",
        {**FILL, "exec_id": "E-993", "quantity": "100", "price": "0.0000001", "fee": "0"},
    ),
    (
        "hello_lists",
        "a platform that cannot list its working orders nor past executions, and flattens by a command of its own",
        {
            **HELLO,
            "capabilities": {**CAPABILITIES, "executions_history": False, "lists_orders": False, "flatten": True},
        },
    ),
    (
        "snapshot_in_part",
        "the executions could not be read whole: the one listed is true, others may be missing",
        {**SNAPSHOT, "request_id": 2, "executions": {**SNAPSHOT["executions"], "complete": False}},
    ),
)
MORE_FROM_ADAPTER: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "place_ten",
        "ten lots at 18000: decimals have no exponent",
        {
            "type": "place",
            "order": {**ORDER, "quantity": "10", "limit_price": "18000", "stop_loss": None, "take_profit": None},
            "stop_loss_id": "",
            "take_profit_id": "",
        },
    ),
    (
        "place_hundred",
        "a hundred lots at 18000, a stop at 17900 and a target at 20000",
        {
            "type": "place",
            "order": {
                **ORDER,
                "quantity": "100",
                "limit_price": "18000",
                "stop_loss": "17900",
                "take_profit": "20000",
            },
            "stop_loss_id": STOP_ID,
            "take_profit_id": TARGET_ID,
        },
    ),
    (
        "cancel_old",
        "cancel an order of an earlier gateway, whose id has 21 characters",
        {"type": "cancel", "client_order_id": OLD_ORDER_ID, **WHERE, "symbol": "NQ", "platform_order_id": "O-3"},
    ),
    (
        "flatten",
        "cancel all orders and close all positions of the account",
        {"type": "flatten", "request_id": 8, **WHERE, "not_after_ns": T0 + 2_000_000_000},
    ),
    (
        "place_oco",
        "a stop; its target has the same group, the second one of this leg",
        {
            "type": "place",
            "order": {
                **ORDER,
                "client_order_id": STOP_ID,
                "side": "sell",
                "order_type": "stop",
                "limit_price": None,
                "stop_price": "17990.00",
                "time_in_force": "gtc",
                "stop_loss": None,
                "take_profit": None,
                "oco_group": "ABCDEFGHIJKL-0.2",
            },
            "stop_loss_id": "",
            "take_profit_id": "",
        },
    ),
)
TICKS = (
    wire.Tick(3, T0, wire.BID | wire.ASK | wire.SNAPSHOT, 18000.0, 18000.25, bid_size=12, ask_size=7),
    wire.Tick(3, T0 + 1, wire.TRADE | wire.BUYER, 18000.0, 18000.25, 18000.25, 12, 7, 2),
    wire.Tick(4, T0 + 1, wire.ASK, math.nan, 6500.5, ask_size=1.5),
    wire.Tick(3, T0 + 2, wire.STALE, 18000.0, 18000.25, 18000.25, 12, 7, 2),
)


def _describe(tick: wire.Tick) -> dict[str, Any]:
    return {key: None if value != value else value for key, value in tick._asdict().items()}


def make_vectors() -> list[Vector]:
    """All of them, good ones first."""
    vectors = []
    for sender, messages, more in (
        ("bridge", FROM_BRIDGE, MORE_FROM_BRIDGE),
        ("adapter", FROM_ADAPTER, MORE_FROM_ADAPTER),
    ):
        named = [(body["type"], meaning, body) for meaning, body in messages]
        for number, (name, meaning, body) in enumerate([*named, *more], start=1):
            content = {"seq": number, "body": body}
            vectors.append(Vector(f"{sender}_{name}", sender, meaning, wire.pack_message(number, body), content))
    records = [wire.pack_tick(tick) for tick in TICKS]
    good = wire.pack_message(1, FROM_BRIDGE[0][1])
    vectors += [
        Vector("ticks_one", "bridge", "one quote, as state", wire.pack_ticks(records[:1]), [_describe(TICKS[0])]),
        Vector(
            "ticks_four",
            "bridge",
            "state, trade, one-sided quote of another symbol, end of data; null = NaN",
            wire.pack_ticks(records),
            [_describe(tick) for tick in TICKS],
        ),
        _bad("version", "version 1", good[:6] + b"\1\0" + good[8:]),
        _bad("flags", "flags 1", good[:5] + b"\1" + good[6:]),
        _bad("type", "frame type 9", good[:4] + b"\x09" + good[5:]),
        _bad("empty", "a message of no bytes", wire.HEADER.pack(0, wire.MESSAGE, 0, wire.VERSION)),
        _bad(
            "too_long",
            "a message of 4 MiB and one byte",
            wire.HEADER.pack(4 * 1024 * 1024 + 1, wire.MESSAGE, 0, wire.VERSION),
        ),
        _bad("tick_length", "ticks of 65 bytes", wire.HEADER.pack(65, wire.TICKS, 0, wire.VERSION) + bytes(65)),
        _bad("no_ticks", "a frame of no ticks", wire.HEADER.pack(0, wire.TICKS, 0, wire.VERSION)),
        _bad("too_many_ticks", "4097 records", wire.HEADER.pack(4097 * 64, wire.TICKS, 0, wire.VERSION)),
        _bad("json", "no JSON", _frame(b'{"seq":1,"body":')),
        _bad("utf8", "no UTF-8", _frame(b'{"seq":1,"body":{"type":"notice","level":"info","text":"\xff"}}')),
        _bad("key", "an unknown key", _frame(b'{"seq":1,"body":{"type":"notice","level":"info","text":"","color":1}}')),
        _bad("word", "a type of message that is none", _frame(b'{"seq":1,"body":{"type":"greeting"}}')),
        _bad("nan", "a price that is no number", wire.pack_message(1, {**FILL, "price": "NaN"})),
        _bad("negative", "a quantity below zero", wire.pack_message(1, {**FILL, "quantity": "-1"})),
        _bad("side", "a side that is none", wire.pack_message(1, {**FILL, "side": "long"})),
        _bad("missing", "no exec_id", wire.pack_message(1, {k: v for k, v in FILL.items() if k != "exec_id"})),
    ]
    return vectors


def _frame(payload: bytes) -> bytes:
    return wire.HEADER.pack(len(payload), wire.MESSAGE, 0, wire.VERSION) + payload


def _bad(name: str, fault: str, data: bytes) -> Vector:
    return Vector(f"bad_{name}", "bridge", "must end the connection", data, fault=fault)


def write_files() -> None:
    """Write `<name>.bin` for each, and `index.json`."""
    FOLDER.mkdir(exist_ok=True)
    index = []
    for each in make_vectors():
        (FOLDER / f"{each.name}.bin").write_bytes(each.data)
        entry = {"file": f"{each.name}.bin", "sender": each.sender, "meaning": each.meaning}
        index.append({**entry, "fault": each.fault} if each.fault else {**entry, "content": each.content})
    head = {
        "protocol_version": wire.VERSION,
        "token": TOKEN,
        "bridge_nonce": BRIDGE_NONCE,
        "adapter_nonce": ADAPTER_NONCE,
    }
    text = json.dumps({**head, "vectors": index}, indent=1, allow_nan=False)
    (FOLDER / "index.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_files()
