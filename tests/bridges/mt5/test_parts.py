"""The parts of bridges/mt5/mt5_bridge that need no terminal: codec, configuration, clock, identity, tick cursor."""

from __future__ import annotations

import ast
import contextlib
import datetime
import json
import math
import os
import sys
import time
import zoneinfo
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nexus_gateway.adapters.bridge.frames import HEADER_BYTES
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.state import OPENING
from nexus_gateway.core.messages.order_id import LENGTH, MAX_ATTEMPTS, OLD_LENGTH, OLD_MAX_ATTEMPTS
from nexus_gateway.shm.tick import TICK_DTYPE, TickFlag

from tests.mt5_terminal.module.MetaTrader5 import constants
from tests.mt5_terminal.module.MetaTrader5.layouts import TICK_DTYPE as ROW_DTYPE
from tests.reference_bridge import vectors
from tests.support.mt5_bridges import SOURCE, load_bridge

mt5 = load_bridge()
VECTORS = vectors.make_vectors()
UTC = datetime.UTC
AT_UTC = mt5.ServerClock({"utc_offset_minutes": 0, "dst": "none", "mode": "configured"})
ENTRY_ID = m.client_order_id(m.signal_key("some signal"), 3, m.OrderRole.ENTRY, 40)
OLD_ENTRY_ID = m.client_order_id(m.signal_key("some signal"), 3, m.OrderRole.ENTRY, 40, OLD_LENGTH)


def ms_of(*when: int, zone: datetime.tzinfo = UTC) -> int:
    return int(datetime.datetime(*when, tzinfo=zone).timestamp() * 1000)


@pytest.mark.parametrize("step_s", [-60, -3_600, -86_400, -8 * 86_400, 3_600, 86_400])
def test_the_history_reaches_as_far_after_the_clock_was_set(monkeypatch, step_s):
    """What was dealt before the clock was set back lies ahead of it, and would be missing in each snapshot."""
    asked = []

    def need(name, *span, **_):
        asked.append((name, span))
        return ()

    reader = mt5.ViewReader(SimpleNamespace(need=need), AT_UTC, 3_600)
    dealt_s = time.time_ns() // 10**9
    reader.read(0, set())
    true_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: true_ns() + step_s * 10**9)
    asked.clear()
    reader.read(0, set())
    spans = [span for name, span in asked if name in ("history_orders_get", "history_deals_get")]
    assert len(spans) == 2
    assert all(from_s < dealt_s < until_s for from_s, until_s in spans)


# The package itself.


def test_old_syntax_that_imports_nothing_of_ours():
    imported = set()
    for path in SOURCE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))):
            assert not isinstance(node, ast.Match), "match is Python 3.10"
            if isinstance(node, ast.Import):
                imported |= {each.name.split(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{path.name} imports from outside its package"
                if not node.level:
                    imported.add(str(node.module).split(".")[0])
    assert imported - sys.stdlib_module_names == {"numpy"}
    assert "zoneinfo" not in imported, "Windows has no time zones of its own"


def test_numbers_are_those_of_the_module():
    names = {
        "TICK_FLAG_BID": mt5.TICK_FLAG_BID,
        "TICK_FLAG_ASK": mt5.TICK_FLAG_ASK,
        "TICK_FLAG_LAST": mt5.TICK_FLAG_LAST,
        "TICK_FLAG_VOLUME": mt5.TICK_FLAG_VOLUME,
        "TICK_FLAG_BUY": mt5.TICK_FLAG_BUY,
        "TICK_FLAG_SELL": mt5.TICK_FLAG_SELL,
        "COPY_TICKS_ALL": mt5.COPY_TICKS_ALL,
        "TRADE_ACTION_DEAL": mt5.ACTION_DEAL,
        "TRADE_ACTION_PENDING": mt5.ACTION_PENDING,
        "TRADE_ACTION_SLTP": mt5.ACTION_SLTP,
        "TRADE_ACTION_MODIFY": mt5.ACTION_MODIFY,
        "TRADE_ACTION_REMOVE": mt5.ACTION_REMOVE,
        "ORDER_FILLING_FOK": mt5.FILLING_FOK,
        "ORDER_FILLING_IOC": mt5.FILLING_IOC,
        "ORDER_FILLING_RETURN": mt5.FILLING_RETURN,
        "ORDER_TIME_GTC": mt5.TIME_GTC,
        "ORDER_TIME_DAY": mt5.TIME_DAY,
        "ORDER_TIME_SPECIFIED": mt5.TIME_SPECIFIED,
        "SYMBOL_TRADE_EXECUTION_REQUEST": mt5.EXECUTION_REQUEST,
        "SYMBOL_TRADE_EXECUTION_INSTANT": mt5.EXECUTION_INSTANT,
        "SYMBOL_TRADE_EXECUTION_EXCHANGE": mt5.EXECUTION_EXCHANGE,
        "SYMBOL_TRADE_MODE_DISABLED": mt5.TRADE_MODE_DISABLED,
        "ACCOUNT_MARGIN_MODE_RETAIL_HEDGING": mt5.MARGIN_HEDGING,
        "ACCOUNT_TRADE_MODE_REAL": mt5.ACCOUNT_REAL,
        "DEAL_REASON_SL": mt5.REASON_SL,
        "DEAL_REASON_TP": mt5.REASON_TP,
        "DEAL_REASON_SO": mt5.REASON_SO,
        "ORDER_REASON_SL": mt5.REASON_SL,
        "DEAL_TYPE_BUY": mt5.DEAL_BUY,
        "DEAL_TYPE_SELL": mt5.DEAL_SELL,
        "DEAL_TYPE_BUY_CANCELED": mt5.DEAL_BUY_CANCELED,
        "DEAL_TYPE_SELL_CANCELED": mt5.DEAL_SELL_CANCELED,
        "DEAL_ENTRY_IN": mt5.ENTRY_IN,
    }
    assert {name: getattr(constants, name) for name in names} == names
    types = {
        (f"ORDER_TYPE_{side}_{kind}".upper().replace("_MARKET", "")): number
        for number, (side, kind) in mt5.ORDER_TYPES.items()
        if number < 8
    }
    assert {name: getattr(constants, name) for name in types} == types
    for number, words in mt5.RETCODES.items():
        if number != 10046:  # the server's, without a name in the package
            assert getattr(constants, f"TRADE_RETCODE_{words.split(':')[0]}") == number
    everything = {value for name, value in vars(constants).items() if name.startswith("TRADE_RETCODE_")}
    assert everything <= mt5.RETCODES.keys()
    assert set(mt5.IPC_LOST) == {value for name, value in vars(constants).items() if name.startswith("RES_E_INTERNAL")}


def test_layouts_are_those_of_module_and_gateway():
    assert np.dtype(ROW_DTYPE) == mt5.ROW
    assert np.dtype(TICK_DTYPE) == mt5.RECORD
    assert [getattr(mt5, flag.name) for flag in TickFlag] == [int(flag) for flag in TickFlag]


# Frames and messages.


def read(data: bytes, step: int, *, greeting: bool = False) -> list[bytes]:
    frames = mt5.FrameReader()
    frames.greeting = greeting
    taken = []
    for first in range(0, len(data), step):
        frames.feed(data[first : first + step])
        while (payload := frames.take()) is not None:
            taken.append(payload)
    return taken


def read_all(data: bytes) -> None:
    for payload in read(data, 7):
        mt5.read_message(payload, 1)


@pytest.mark.parametrize("vector", [each for each in VECTORS if each.sender == "adapter" and not each.fault], ids=str)
def test_each_message_of_an_adapter_is_read(vector):
    for step in (1, 3, len(vector.data)):
        (payload,) = read(vector.data, step)
        body = mt5.read_message(payload, vector.content["seq"])
        assert body.keys() == vector.content["body"].keys()
        assert body["type"] == vector.content["body"]["type"]
        with pytest.raises(mt5.Breach):
            mt5.read_message(payload, vector.content["seq"] + 1)


@pytest.mark.parametrize("vector", [each for each in VECTORS if each.sender == "bridge" and not each.fault], ids=str)
def test_each_message_of_a_bridge_is_written(vector):
    if vector.name.startswith("ticks_"):
        records = np.frombuffer(vector.data[HEADER_BYTES:], mt5.RECORD)
        assert mt5.pack_ticks(records) == vector.data
        return
    written = mt5.pack_message(vector.content["seq"], vector.content["body"])
    assert written[:4] == vector.data[:4]
    assert json.loads(written[HEADER_BYTES:]) == json.loads(vector.data[HEADER_BYTES:])


@pytest.mark.parametrize("vector", [each for each in VECTORS if each.fault], ids=str)
def test_what_is_no_message_is_a_breach(vector):
    with pytest.raises(mt5.Breach):
        read_all(vector.data)


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": 2},
        {"quantity": "NaN"},
        {"quantity": "-1"},
        {"quantity": "Infinity"},
        {"quantity": "1e99"},
        {"side": "long"},
        {"limit_price": None},
        {"stop_price": "1"},
        {"good_till_ns": 5},
        {"good_till_ns": True},
        {"reduce_only": 1},
        {"symbol": "a b"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_place_that_is_not_right_is_a_breach(change):
    content = next(each.content for each in VECTORS if each.name == "adapter_place")
    body = json.loads(json.dumps(content["body"]))
    mt5.read_message(json.dumps({"seq": 1, "body": body}).encode(), 1)
    body["order"].update(change)
    with pytest.raises(mt5.Breach, match=r"."):
        mt5.read_message(json.dumps({"seq": 1, "body": body}).encode(), 1)


@given(st.binary(max_size=200))
def test_garbage_ends_in_a_breach_or_in_nothing(data):
    try:
        for payload in read(data, 5, greeting=True):
            mt5.read_message(payload, 1)
    except mt5.Breach:
        pass


@pytest.mark.parametrize(
    "payload",
    [
        b'{"seq":"\\ud800","body":{}}',
        b'{"seq":1,"body":{"type":"\\ud800"}}',
        b'{"seq":1,"body":{"type":"heartbeat","sent_ns":"\\udfff"}}',
        b'{"seq":1,"body":{"type":"heartbeat","\\udc00":1}}',
    ],
)
def test_half_a_surrogate_pair_is_a_breach_that_can_be_told(payload):
    with pytest.raises(mt5.Breach) as breach:
        mt5.read_message(payload, 1)
    frame = mt5.pack_message(1, {"type": "error", "code": "malformed", "text": str(breach.value)})
    assert json.loads(frame[mt5.HEADER.size :])["body"]["code"] == "malformed"


def test_the_terminals_own_texts_may_hold_anything():
    frame = mt5.pack_message(1, {"type": "notice", "level": "info", "text": "Corretora \ud83d, S\u00e3o Paulo"})
    assert json.loads(frame[mt5.HEADER.size :])["body"]["text"] == "Corretora ?, S\u00e3o Paulo"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_log_stops_nothing():
    log = mt5.Log("/dev/full", "info")
    log.say("info", "half of \ud800 is no text either")
    with contextlib.suppress(OSError):
        log._stream.close()


@pytest.mark.parametrize("depth", [10, 500, 900, 960, 970, 980, 985, 990, 995, 1000, 5000, 100_000])
def test_deep_nesting_is_a_breach(depth):
    for before, after in ((b'{"seq":', b',"body":{}}'), (b'{"seq":1,"body":{"type":"place","order":', b"}}")):
        with pytest.raises(mt5.Breach):
            mt5.read_message(before + b"[" * depth + b"]" * depth + after, 1)


def test_a_large_greeting_is_not_kept():
    frames = mt5.FrameReader()
    frames.feed(mt5.HEADER.pack(70_000, mt5.MESSAGE, 0, mt5.PROTOCOL_VERSION))
    with pytest.raises(mt5.Breach, match="length 70000"):
        frames.take()


def test_the_proof_is_that_of_the_adapter():
    assert mt5.prove("t" * 20, "adapter", "aa", "bb") != mt5.prove("t" * 20, "bridge", "aa", "bb")
    login = next(each.content["body"] for each in VECTORS if each.name == "adapter_login")
    assert mt5.prove(vectors.TOKEN, "adapter", vectors.BRIDGE_NONCE, login["nonce"]) == login["proof"]


# Configuration.

GOOD = {
    "platform": "mt5",
    "terminal_path": "/t/terminal64.exe",
    "login": 1,
    "server": "S",
    "token_env": "MT5_TEST_TOKEN",
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"login": "1"}, "login was '1'"),
        ({"pasword": "x"}, "unknown key 'pasword'"),
        ({"server": None}, "server was"),
        ({"terminal_path": "terminal64.exe"}, "must be absolute"),
        ({"host": "10.0.0.1"}, "remote: true"),
        ({"platform": "nt8"}, "port is missing"),
        ({"token_env": None}, "token_file is missing"),
        ({"token_file": "a"}, "not both"),
        ({"token_env": "MT5_NO_SUCH_TOKEN"}, "had 0 characters"),
        ({"token_env": "MT5_DULL_TOKEN"}, "had 1 different characters, must be at least 6; make one with python -c"),
        ({"server": "Broker\u202eDemo"}, r"server was 'Broker\\u202eDemo', must be without control, format and bidi"),
        ({"company": "A\r\nB"}, r"company was 'A\\r\\nB', must be without control"),
        ({"quote_hours": "9-18"}, "must be hours"),
        ({"clock": {"dst": "moon"}}, "must be one of none, us, eu"),
        ({"role": "all"}, "role was 'all'"),
        ({"poll_ms": 0}, "poll_ms was '0'"),
    ],
    ids=str,
)
def test_a_wrong_configuration_names_value_and_cure(change, words, monkeypatch):
    monkeypatch.setenv("MT5_TEST_TOKEN", "sixteen characters")
    monkeypatch.setenv("MT5_DULL_TOKEN", "a" * 16)
    mt5.Config(GOOD, "/", "bridge")
    with pytest.raises(mt5.ConfigError, match=words):
        mt5.Config(GOOD | change, "/", "bridge")


def test_the_shipped_defaults_of_both_platforms(monkeypatch):
    monkeypatch.setenv("MT5_TEST_TOKEN", "sixteen characters")
    world, brazil = mt5.Config(GOOD, "/", "a"), mt5.Config(GOOD | {"platform": "mt5_br"}, "/f", "b")
    assert (world.port, brazil.port) == (9011, 9012)
    assert (world.gate_locked, brazil.gate_locked) == (False, True)
    assert brazil.clock == {"utc_offset_minutes": -180, "dst": "none", "mode": "configured"}
    assert brazil.ids_file == "/f/b.ids"


def test_a_token_file_that_others_can_read_is_refused(tmp_path):
    token = tmp_path / "token"
    token.write_text("sixteen characters")
    token.chmod(0o644)
    settings = {key: value for key, value in GOOD.items() if key != "token_env"} | {"token_file": "token"}
    with pytest.raises(mt5.ConfigError, match="chmod 600"):
        mt5.Config(settings, str(tmp_path), "a")
    token.chmod(0o600)
    assert mt5.Config(settings, str(tmp_path), "a").token == "sixteen characters"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes among its files")
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "token", 0o600)
    settings = {key: value for key, value in GOOD.items() if key != "token_env"} | {"token_file": "token"}
    with pytest.raises(mt5.ConfigError, match="not a regular file; remove it"):
        mt5.Config(settings, str(tmp_path), "a")
    with pytest.raises(mt5.ConfigError, match="not a regular file; remove it"):
        mt5.load_config(str(tmp_path / "token"))


# Clock.


@pytest.mark.parametrize(
    ("rule", "minutes", "zone", "hours_ahead"), [("us", 120, "America/New_York", 7), ("eu", 120, "Europe/Athens", 0)]
)
def test_server_clock_is_that_of_its_zone_all_year(rule, minutes, zone, hours_ahead):
    clock = mt5.ServerClock({"utc_offset_minutes": minutes, "dst": rule, "mode": "configured"})
    place = zoneinfo.ZoneInfo(zone)
    for hour in range(0, 24 * 365 * 3, 5):
        utc_ms = ms_of(2025, 1, 1) + hour * 3_600_000
        local = datetime.datetime.fromtimestamp(utc_ms / 1000, place)
        server_ms = ms_of(*local.timetuple()[:6]) + hours_ahead * 3_600_000
        assert clock.to_server_ms(utc_ms) == server_ms
        if local.dst() or not (local + datetime.timedelta(hours=-1)).dst():
            assert clock.to_utc_ms(server_ms) == utc_ms


def test_arrays_are_converted_as_single_stamps_are_also_over_a_switch():
    clock = mt5.ServerClock({"utc_offset_minutes": 120, "dst": "us", "mode": "configured"})
    start = clock.to_server_ms(ms_of(2026, 10, 30))
    stamps = np.arange(start, start + 3 * 86_400_000, 1_800_000, dtype=np.int64)
    assert clock.all_to_utc_ms(stamps).tolist() == [clock.to_utc_ms(int(each)) for each in stamps]
    assert clock.all_to_utc_ms(stamps[:5]).tolist() == [clock.to_utc_ms(int(each)) for each in stamps[:5]]
    assert clock.to_utc_ns(0) == 0


def test_b3_has_no_daylight_time():
    clock = mt5.ServerClock(mt5.CLOCKS["mt5_br"])
    assert clock.to_server_ms(ms_of(2026, 7, 1, 12)) == ms_of(2026, 7, 1, 9)
    assert clock.to_utc_ms(ms_of(2026, 1, 5, 9)) == ms_of(2026, 1, 5, 12)


def test_a_measured_change_leaves_what_was_stamped_before():
    clock = mt5.ServerClock({"utc_offset_minutes": 0, "dst": "none", "mode": "measured"})
    assert not clock.is_known
    clock.take(7_200_000, 1_000_000_000)
    clock.take(10_800_000, 2_000_000_000)
    assert clock.is_known
    for utc_ms in (500_000_000, 1_500_000_000, 2_500_000_000):
        assert clock.to_utc_ms(clock.to_server_ms(utc_ms)) == utc_ms
    assert clock.to_server_ms(1_500_000_000) == 1_507_200_000
    assert clock.to_server_ms(2_500_000_000) == 2_510_800_000


@pytest.mark.parametrize("minutes", [-180, 0, 120, 180, 330, 345])
def test_the_offset_is_read_off_fresh_ticks(minutes):
    gauge = mt5.ClockGauge()
    now = ms_of(2026, 11, 22)
    for i in range(mt5.SAMPLES):
        assert gauge.read(now + i) is None
        gauge.add(now + minutes * 60_000 - 300 * i, now)
    assert gauge.read(now) == minutes * 60_000
    assert gauge.read(now) is None, "read once"


@pytest.mark.parametrize("ages_ms", [[0, 0, 0, 0, 60_000], [0, 0, 0, 0, 900_000], [400_000] * 5, [-5_000] * 5])
def test_old_ticks_and_a_wrong_clock_prove_no_offset(ages_ms):
    gauge = mt5.ClockGauge()
    for age_ms in ages_ms:
        gauge.add(7_200_000 - age_ms, 0)
    assert gauge.read(0) is None


# Decimals, names.


@given(st.decimals(-(10**7), 10**7, places=8, allow_nan=False))
def test_decimals_survive_the_terminals_floats(number):
    assert mt5.exact(float(number)) == number
    assert Decimal(mt5.write(number)) == number


def test_noise_of_floats_is_no_price():
    assert mt5.write(mt5.exact(0.1 + 0.2)) == "0.3"
    assert mt5.write(mt5.exact(100.0)) == "100"
    assert mt5.write_or_none(0.0) is None


@pytest.mark.parametrize(
    ("number", "text"), [("1E+1", "10"), ("1E+2", "100"), ("1.8E+4", "18000"), ("1E-7", "0.0000001")]
)
def test_decimals_leave_in_plain_notation(number, text):
    assert mt5.write(Decimal(number)) == text
    assert mt5.write(mt5.exact(float(number))) == text
    assert mt5.write_or_none(float(number)) == text
    assert mt5.write(-mt5.exact(float(number))) == f"-{text}"
    with pytest.raises(ValueError, match="nan"):
        mt5.exact(math.nan)


@pytest.mark.parametrize(
    ("name", "symbol"), [("NQ 03-27", "NQ-03-27"), ("wing27", "Wing27"), ("$SPX", "X-SPX"), ("NQ", "X.NQ")]
)
def test_symbols_of_others_are_named_as_the_protocol_says(name, symbol):
    assert mt5.name_external(name, ["NQ"]) == symbol


def describe(account: str, mode: int, tick_value: float = 5.0) -> dict:
    """`instrument` of a symbol with profit in dollars, tick 0.25, contract size 10."""
    info = SimpleNamespace(name="NAS100", trade_tick_size=0.25, point=0.01, trade_tick_value=tick_value)
    vars(info).update(trade_contract_size=10.0, trade_calc_mode=mode, currency_profit="USD", expiration_time=0)
    vars(info).update(volume_step=0.1, volume_min=0.1, volume_max=50.0, trade_exemode=2)
    vars(info).update(filling_mode=1, order_mode=127, expiration_mode=15)
    return mt5.describe_instrument(info, mt5.SymbolFacts(info), "NAS100", account, AT_UTC)


CFD_INDEX, FOREX, FUTURE = 3, 0, 33


@pytest.mark.parametrize(
    ("account", "mode", "tick_value", "worth"),
    [
        ("USD", CFD_INDEX, 5.0, "20"),
        ("USD", FUTURE, 5.0, "20"),
        ("USD", CFD_INDEX, 0.0, "10"),  # not told yet; the contract size says it, too
        ("EUR", CFD_INDEX, 5.0, "10"),  # the tick value is in euros
        ("EUR", FOREX, 5.0, "10"),
        ("EUR", FUTURE, 5.0, None),  # a future's point is told by its tick value alone
    ],
)
def test_what_a_point_is_worth(account, mode, tick_value, worth):
    described = describe(account, mode, tick_value)
    assert (described["point_value"], described["currency"]) == (worth, "USD")
    assert (described["tick_size"], described["lot_step"]) == ("0.25", "0.1")


def test_without_a_tick_value_a_future_is_not_synchronised_yet():
    """Nobody would compare its multiplier."""
    with pytest.raises(mt5.NotSynchronised, match="tick value of 'NAS100' was 0"):
        describe("USD", FUTURE, 0.0)


# Identity.


def test_ids_are_those_of_the_gateway():
    for entry_id in (ENTRY_ID, OLD_ENTRY_ID):
        parts = m.find_client_order_id(entry_id)
        assert mt5.find_order_id(f"x{entry_id}#1") == entry_id
        assert mt5.find_order_id(f"NXG{entry_id}") == entry_id
        assert mt5.find_order_id(entry_id[:-1]) == ""
        assert mt5.find_order_id(entry_id[:-1] + "7") in ("", entry_id)
        assert mt5.magic_number(entry_id) == m.magic_number(entry_id)
        for role in (m.OrderRole.STOP_LOSS, m.OrderRole.TAKE_PROFIT):
            assert mt5.child_id(entry_id, role.value) == parts.id_of(role)


@pytest.mark.parametrize("role", list(m.OrderRole))
@pytest.mark.parametrize(("length", "attempts"), [(LENGTH, MAX_ATTEMPTS), (OLD_LENGTH, OLD_MAX_ATTEMPTS)])
def test_an_id_of_every_role_is_found(role, length, attempts):
    order_id = m.client_order_id(m.signal_key("some signal"), 31, role, attempts - 1, length)
    assert mt5.find_order_id(f"[{order_id}]") == order_id


def test_every_id_is_checked_as_the_gateway_does_it_and_none_that_was_cut():
    for attempt in range(8_000):  # among them some whose check characters give way to the old form
        order_id = m.client_order_id("ABCDEFGHIJKL", 3, m.OrderRole.ENTRY, attempt)
        assert mt5.find_order_id(order_id) == order_id
        assert mt5.find_order_id(order_id[:-1]) == ""
        assert mt5.child_id(order_id, "S") == m.find_client_order_id(order_id).id_of(m.OrderRole.STOP_LOSS)


def test_the_roles_that_open_a_position_are_those_of_the_engine():
    assert tuple(role.value for role in OPENING) == mt5.OPENING_ROLES


def order(ticket: int, **fields):
    base = {"type": 0, "magic": m.magic_number(ENTRY_ID), "comment": ENTRY_ID, "reason": 3, "position_id": 0}
    return SimpleNamespace(**(base | {"ticket": ticket} | fields))


@pytest.fixture
def ids(tmp_path):
    return mt5.OrderIds(str(tmp_path / "ids"), hedging=True)


def test_an_order_is_ours_by_magic_and_comment_together(ids):
    assert ids.of_order(order(1)) == ENTRY_ID
    assert ids.of_order(order(2, magic=7)) == "", "a copier has taken the comment over"
    assert ids.of_order(order(3, type=1)) == "", "a close by hand has the magic of what it closes"
    assert ids.of_order(order(4, reason=4)) == ""
    assert ids.of_order(order(5)) == "", "an expert copies the magic: an id is one ticket's"
    assert ids.of_tag(6, m.magic_number(ENTRY_ID), "") == ""
    assert ids.tickets == {ENTRY_ID: 1}
    assert ids.is_known(ENTRY_ID)


def test_a_closing_order_with_an_entrys_magic_is_not_the_entry(ids):
    assert ids.of_order(order(9, type=1, position_id=4)) == ""
    assert not ids.is_known(ENTRY_ID)


def test_a_rewritten_comment_is_known_by_the_file(ids, tmp_path):
    assert ids.of_order(order(1, comment="[rewritten]")) == ""
    ids.note(ENTRY_ID)
    again = mt5.OrderIds(str(tmp_path / "ids"), hedging=True)
    assert again.is_known(ENTRY_ID)
    assert again.of_order(order(1, comment="[rewritten]")) == ENTRY_ID
    assert (tmp_path / "ids").stat().st_mode & 0o77 == 0


# Ticks.


def rows_at(*stamps: int, **fields) -> np.ndarray:
    rows = np.zeros(len(stamps), mt5.ROW)
    rows["time_msc"] = stamps
    rows["time"] = rows["time_msc"] // 1000
    rows["bid"], rows["ask"] = 10.0, 11.0
    for name, value in fields.items():
        rows[name] = value
    return rows


class History:
    """copy_ticks_from over an array that grows."""

    def __init__(self) -> None:
        self.rows = rows_at()

    def read(self, cursor) -> np.ndarray:
        first = int(np.searchsorted(self.rows["time_msc"], cursor.second * 1000, "left"))
        return self.rows[first : first + cursor.count]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_cursor_takes_each_row_once_however_it_is_read(data):
    """Many rows a millisecond, equal rows, reads that are cut off, resumptions at any place."""
    history = History()
    now = 1_700_000_000_000
    taken: list[bytes] = []
    after_ms, after_count = now, 0
    cursor = None
    for _ in range(data.draw(st.integers(1, 12))):
        gaps = data.draw(st.lists(st.sampled_from([0, 0, 0, 1, 7, 400, 2500]), max_size=12))
        stamps = (now + np.cumsum(gaps, dtype=np.int64)).tolist()
        now = stamps[-1] if stamps else now
        history.rows = np.concatenate([history.rows, rows_at(*stamps, last=float(data.draw(st.integers(0, 1))))])
        if cursor is None or not cursor.has_begun or data.draw(st.booleans()):
            cursor = mt5.TickCursor(after_ms, after_count)
            cursor.count = data.draw(st.integers(1, 4))
            while (found := cursor.begin(history.read(cursor))) is None and cursor.is_behind:
                pass
            assert found or not taken
        if not cursor.has_begun:
            assert not len(history.rows)
            continue
        for _ in range(40):
            fresh = cursor.take(history.read(cursor))
            taken += [row.tobytes() for row in fresh]
            for stamp in fresh["time_msc"].tolist():
                after_count = after_count + 1 if stamp == after_ms else 1
                after_ms = stamp
            if not cursor.is_behind:
                break
        assert not cursor.is_behind
    assert taken == [row.tobytes() for row in history.rows]
    assert cursor.late == 0


def test_a_place_that_is_not_there_any_more_is_said():
    rows = rows_at(1_000_000, 1_000_000, 1_000_400)
    cursor = mt5.TickCursor(1_000_000, 3)
    assert cursor.begin(rows) is False
    assert cursor.take(rows)["time_msc"].tolist() == [1_000_400]


def test_late_rows_are_counted_and_not_sent():
    cursor = mt5.TickCursor(999_999, None)
    rows = rows_at(1_000_000, 1_000_500)
    assert cursor.begin(rows)
    assert len(cursor.take(rows)) == 2
    later = rows_at(1_000_000, 1_000_200, 1_000_500, 1_000_500, 1_000_700, last=np.array([0, 5, 0, 6, 7.0]))
    fresh = cursor.take(later)
    assert fresh["last"].tolist() == [6, 7], "what is not older than the newest is sent"
    assert cursor.late == 1
    assert len(cursor.take(later)) == 0
    assert cursor.late == 1, "counted once"


@pytest.mark.parametrize("shown", [0, 1, 2])
def test_an_empty_or_short_answer_makes_nothing_new_and_nothing_late(shown):
    rows = rows_at(1_000_000, 1_000_100, 1_000_200, 1_000_300)
    cursor = mt5.TickCursor(999_999, None)
    cursor.begin(rows[:3])
    assert len(cursor.take(rows[:3])) == 3
    for _ in range(2):
        assert not len(cursor.take(rows[:shown]))
        assert cursor.missing == 3 - shown
    assert cursor.take(rows)["time_msc"].tolist() == [1_000_300]
    assert (cursor.late, cursor.missing) == (0, 0)


def test_a_hole_in_an_answer_that_closes_again_brings_nothing_twice():
    rows = rows_at(1_000_000, 1_000_100, 1_000_100, 1_000_100, last=np.array([0, 1, 2, 3.0]))
    cursor = mt5.TickCursor(999_999, None)
    cursor.begin(rows[:3])
    cursor.take(rows[:3])
    assert cursor.take(rows[[0, 1, 3]])["last"].tolist() == [3.0]
    assert cursor.missing == 1
    assert not len(cursor.take(rows))
    assert (cursor.late, cursor.missing) == (0, 0)


def test_a_place_that_history_does_not_reach_yet_is_waited_for():
    """A terminal that has just started shows its history little by little."""
    rows = rows_at(1_000_000, 1_000_100, 1_000_100, 1_000_200)
    cursor = mt5.TickCursor(1_000_100, 2)
    for shown in (0, 1, 2):
        assert cursor.begin(rows[:shown]) is None
    assert not cursor.is_behind
    assert cursor.begin(rows[:3]) is True
    assert not len(cursor.take(rows[:3]))
    assert cursor.take(rows)["time_msc"].tolist() == [1_000_200]


class Shop:
    """What a TickReader sees of a terminal: a newest tick, a history."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.shown = 0
        self.fails = False
        self.error = (-1, "Terminal: Call failed")

    def announce(self, for_ms: int, doing: str) -> None:
        pass

    def call(self, name: str, *arguments):
        rows = self.rows[: self.shown]
        if self.fails or (name == "symbol_info_tick" and not len(rows)):
            return None
        if name == "symbol_info_tick":
            return SimpleNamespace(time_msc=int(rows["time_msc"][-1]))
        return rows[rows["time_msc"] >= arguments[1] * 1000][: arguments[2]]


@pytest.mark.parametrize(("shown", "fails"), [(1, False), (0, False), (4, True)])
def test_a_terminal_that_does_not_show_the_place_yet_costs_no_tick_and_doubles_none(shown, fails):
    """It was started again and is behind what it has delivered, or its first calls fail."""
    rows = rows_at(1_700_000_000_000, 1_700_000_000_400, 1_700_000_000_400, 1_700_000_000_700)
    shop = Shop(rows)
    shop.shown, shop.fails = shown, fails
    reader = mt5.TickReader(shop, AT_ZERO, mt5.ClockGauge(), NO_GATE, 0.002)
    after_ns = AT_ZERO.to_utc_ms(1_700_000_000_400) * 1_000_000
    wanted = WANTED | {"after_ns": after_ns, "after_count": 1}
    cursor, resumed, text = reader.begin(wanted)
    assert not resumed
    assert text
    stream = mt5.Stream(wanted, cursor)
    assert reader.poll(stream, 0.0) is None
    shop.shown, shop.fails = 4, False
    records = reader.poll(stream, 0.0)
    assert records is not None
    assert [AT_ZERO.to_server_ms(int(each) // 1_000_000) for each in records["ts_event_ns"]] == [
        1_700_000_000_400,
        1_700_000_000_700,
    ]
    assert not stream.has_hole


def test_a_busy_second_is_asked_for_in_larger_and_larger_pieces():
    rows = rows_at(*[1_000_000 + i // 20 for i in range(20_000)])
    cursor = mt5.TickCursor(999_999, None)
    history = History()
    history.rows = rows
    assert cursor.begin(history.read(cursor))
    taken = 0
    while True:
        taken += len(cursor.take(history.read(cursor)))
        if not cursor.is_behind:
            break
    assert taken == len(rows)
    assert cursor.count <= mt5.MOST_COUNT


NO_GATE = mt5.QuoteGate(False, None)
AT_ZERO = mt5.ServerClock({"utc_offset_minutes": 120, "dst": "none", "mode": "configured"})


def records_of(rows: np.ndarray, gate=NO_GATE) -> np.ndarray:
    return mt5.make_records(rows, 7, AT_ZERO, gate)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (2, mt5.BID),
        (6, mt5.BID | mt5.ASK),
        (1026, mt5.BID),
        (1028, mt5.ASK),
        (1080, mt5.TRADE | mt5.BUYER),
        (1112, mt5.TRADE | mt5.SELLER),
        (1144, mt5.TRADE),
        (1336, mt5.TRADE | mt5.BUYER),
        (16, mt5.TRADE),
        (0, 0),
        (0x400, 0),
    ],
)
def test_documented_flag_bits_and_no_others(flags, wanted):
    (record,) = records_of(rows_at(1_700_000_000_123, flags=flags, last=10.5, volume_real=3.0))
    assert record["flags"] == wanted
    assert record["ts_event_ns"] == (1_700_000_000_123 - 7_200_000) * 1_000_000
    assert (record["symbol"], record["bid"], record["ask"], record["last"], record["last_size"]) == (7, 10, 11, 10.5, 3)
    assert (record["seq"], record["ts_recv_ns"], record["source"]) == (0, 0, 0)


def test_a_price_of_zero_is_none_and_a_trade_without_a_price_is_no_trade():
    (record,) = records_of(rows_at(1_700_000_000_000, flags=58, bid=0.0, ask=math.inf, last=0.0))
    assert np.isnan([record["bid"], record["ask"], record["last"]]).all()
    assert record["flags"] == mt5.BID


def test_whole_volumes_serve_where_there_are_no_real_ones():
    assert records_of(rows_at(1_700_000_000_000, volume=4))["last_size"].tolist() == [4.0]
    assert records_of(rows_at(1_700_000_000_000, volume=4, volume_real=0.5))["last_size"].tolist() == [0.5]


def test_nonsense_quotes_are_gated_and_counted_and_their_trades_kept():
    gate = mt5.QuoteGate(True, None)
    rows = rows_at(*[1_700_000_000_000] * 4, bid=[192_490, 10, 9, 0], ask=[157_495, 10, 10, 10.0], last=5.0, flags=8)
    records = records_of(rows, gate)
    assert np.isnan(records["bid"]).tolist() == [True, True, False, True]
    assert np.isnan(records["ask"]).tolist() == [True, True, False, False]
    assert (records["flags"] == mt5.TRADE).all()
    assert gate.gated == 2
    locked_is_fine = mt5.QuoteGate(False, None)
    assert np.isnan(records_of(rows, locked_is_fine)["bid"]).tolist() == [True, False, False, True]


def test_quotes_outside_the_hours_are_gated():
    gate = mt5.QuoteGate(False, (9 * 60, 18 * 60 + 30))
    day = 1_700_006_400_000  # midnight
    assert day % 86_400_000 == 0
    hours = [8.99, 9, 18.49, 18.5, 23]
    records = records_of(rows_at(*[day + int(hour * 3_600_000) for hour in hours]), gate)
    assert np.isnan(records["bid"]).tolist() == [True, False, False, True, True]
    assert gate.gated == 3
    overnight = mt5.QuoteGate(False, (18 * 60, 17 * 60))
    records = records_of(rows_at(*[day + int(hour * 3_600_000) for hour in (16.5, 17.5, 19)]), overnight)
    assert np.isnan(records["bid"]).tolist() == [False, True, False]


def test_no_rows_no_records():
    assert len(records_of(rows_at())) == 0


WANTED = {"symbol_id": 1, "symbol": "NQ", "platform_symbol": "NQZ26", "after_ns": 0, "after_count": 0}


def test_a_history_that_stands_still_under_living_quotes_is_seen():
    newest = SimpleNamespace(time_msc=1_000_500)
    terminal = SimpleNamespace(call=lambda name, symbol: newest)
    reader = mt5.TickReader(terminal, AT_ZERO, mt5.ClockGauge(), NO_GATE, 0.002)
    stream = mt5.Stream(WANTED, mt5.TickCursor(999_999, None))
    assert not reader.lags(stream), "nothing was read yet"
    rows = rows_at(1_000_000, 1_000_500)
    stream.cursor.begin(rows)
    stream.cursor.take(rows)
    assert not reader.lags(stream)
    newest.time_msc += mt5.LAG_MS
    assert not reader.lags(stream)
    newest.time_msc += 1
    assert reader.lags(stream)
