"""Checkpoints of former state layouts: converted step by step, and passed over when that is not possible."""

from __future__ import annotations

import hashlib
import logging
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nexus_gateway.core.config import GatewayConfig, OrdersConfig
from nexus_gateway.core.engine import Engine, MarketMoved
from nexus_gateway.core.engine.state import STATE_LAYOUT
from nexus_gateway.core.engine.state.layouts import CONVERTERS, read_state
from nexus_gateway.core.errors import GatewayError
from nexus_gateway.core.gateway.journaled_engine import JournaledEngine, engine_settings
from nexus_gateway.core.journal import Rebuilt, rebuild
from nexus_gateway.core.logs import process_log

from tests.golden.journal import FOLDER, JOURNAL, write
from tests.golden.journal_facts import read_facts

FORMER, BEFORE_THAT = STATE_LAYOUT - 1, STATE_LAYOUT - 2
Plain = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "journal"
    write(folder)
    return folder / JOURNAL


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(made, tmp_path / JOURNAL))


def rename(record: Plain, old: str, new: str) -> None:
    record[new] = record.pop(old)


def to_former(state: Plain) -> Plain:
    """As an imagined layout before this one had it: other names in the state and in each order, no kill record text."""
    rename(state, "boot_id", "process_id")
    for order in state["orders"].values():
        rename(order, "sent_ns", "left_ns")
    for kill in state["kills"].values():
        del kill["text"]
    return state | {"layout": FORMER}


def from_former(state: Plain) -> Plain:
    rename(state, "process_id", "boot_id")
    for order in state["orders"].values():
        rename(order, "left_ns", "sent_ns")
    for kill in state["kills"].values():
        kill["text"] = ""
    return state


def to_the_one_before(state: Plain) -> Plain:
    rename(state, "process_id", "pid")
    return state | {"layout": BEFORE_THAT}


def from_the_one_before(state: Plain) -> Plain:
    rename(state, "pid", "process_id")
    return state


def rewritten(data: bytes, *changes: Callable[[Plain], Plain]) -> bytes:
    state = msgspec.msgpack.decode(data)
    for change in changes:
        state = change(state)
    return msgspec.msgpack.encode(state)


def checkpoint_of(path: Path) -> bytes:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT state FROM checkpoints").fetchone()[0]
    finally:
        connection.close()


def add_checkpoint(path: Path, seq: int, state: bytes) -> None:
    """In the place of one of the same number."""
    digest = hashlib.blake2b(state, digest_size=16).hexdigest()
    connection = sqlite3.connect(path)
    try:
        connection.execute("INSERT OR REPLACE INTO checkpoints SELECT seq, at_ns, ?, ? FROM events WHERE seq = ?",
                           (state, digest, seq))  # fmt: skip
        connection.commit()
    finally:
        connection.close()


def rebuilt(path: Path, use_checkpoint: bool = True) -> Rebuilt:
    config = GatewayConfig()
    connection = sqlite3.connect(path)
    try:
        return rebuild(connection, engine_settings(config), config.limits, use_checkpoint=use_checkpoint)
    finally:
        connection.close()


def test_a_state_of_a_former_layout_is_the_same_state_afterwards(path: Path) -> None:
    data = checkpoint_of(path)
    former = rewritten(data, to_former)
    assert msgspec.msgpack.encode(read_state(former, {FORMER: from_former})) == data


def test_converters_are_applied_one_after_the_other(path: Path) -> None:
    data = checkpoint_of(path)
    older = rewritten(data, to_former, to_the_one_before)
    converters = {BEFORE_THAT: from_the_one_before, FORMER: from_former}
    assert msgspec.msgpack.encode(read_state(older, converters)) == data


def test_each_renamed_field_of_layout_4_keeps_its_own_value() -> None:
    # Another value in each: two names that were swapped would show, which the journal's defaults would hide.
    plain = msgspec.msgpack.decode(checkpoint_of(FOLDER / "layout_4" / JOURNAL))
    execution = next(iter(plain["executions"].values()))
    execution |= {"order_id": "NXGX", "absent": 11, "bust_inferred": True}
    order = next(iter(plain["orders"].values()))
    order |= {
        "filled": "12",
        "reported": "13",
        "absent": 14,
        "inferred_end": True,
        "missing_confirmed": 15,
        "cancels": 16,
    }
    orphan = next(iter(plain["orphans"].values()))
    orphan |= {"leg": 17, "since_ns": 18}
    signal = next(each for each in plain["signals"].values() if any(leg["leaving"] for leg in each["legs"]))
    signal |= {"peers": ["nexus|a", "nexus|b"]}
    number, leg = next((number, leg) for number, leg in enumerate(signal["legs"]) if leg["leaving"])
    leg |= {
        "adjusted": "19",
        "exit_failures": 20,
        "session_ns": 21,
        "carries": 0,
        "carry_until_ns": 22,
        "carried": True,
    }
    leg["leaving"] |= {"carry": False, "shift": "23"}
    route = next(each for each in plain["routes"].values() if each["positions"])
    route |= {
        "known_before": True,
        "proof_ns": 24,
        "unsettled": {"o1": None},
        "holders": {"s1": None},
        "forgotten_ns": 25,
    }
    position = next(iter(route["positions"].values()))
    position |= {"mismatches": 26}
    kill = next(iter(plain["kills"].values()))
    kill |= {"asked_ns": 27, "proof_request": 28, "others_ns": 29}
    plain |= {"waiting_for": {"nt8": None}, "keys": {"k1": "s1"}, "seen_keys": {"k2": 30}}
    plain["counts"] = {"closed_by_other_hand": 31, "orders": 32, "forgotten_fill": 33}

    state = read_state(msgspec.msgpack.encode(plain))
    found = next(iter(state.executions.values()))
    assert (found.client_order_id, found.missed_snapshots, found.presumed_busted) == ("NXGX", 11, True)
    record = next(iter(state.orders.values()))
    assert (record.cum_qty, record.platform_cum_qty, record.missed_snapshots) == (12, 13, 14)
    assert (record.presumed_ended, record.qty_mismatch_snapshots, record.cancels_sent) == (True, 15, 16)
    lost = next(iter(state.orphans.values()))
    assert (lost.target, lost.found_ns) == (17, 18)
    converted = state.signals[signal["signal"]["signal_id"]]
    assert converted.report_to == ["nexus|a", "nexus|b"]
    after = converted.legs[number]
    assert (after.external_qty, after.exit_attempts, after.session_opened_ns) == (19, 20, 21)
    assert (after.rolls_over_from, after.roll_over_until_ns, after.roll_over_ended) == (0, 22, True)
    assert after.roll_out is not None
    assert (after.roll_out.roll_over, after.roll_out.price_shift) == (False, 23)
    way = state.routes[f"{route['platform']}|{route['account']}"]
    assert (way.reconciled_before, way.last_reconciled_ns, way.evicted_until_ns) == (True, 24, 25)
    assert (way.unreported_orders, way.holding_signals) == ({"o1": None}, {"s1": None})
    assert next(iter(way.positions.values())).mismatch_snapshots == 26
    level = next(iter(state.kills.values()))
    assert (level.requested_ns, level.verifying_request_id, level.external_cancelled_ns) == (27, 28, 29)
    assert (state.awaited_platforms, state.signals_by_key) == ({"nt8": None}, {"k1": "s1"})
    assert state.found_keys == {"k2": 30}
    assert list(state.counts.items()) == [("closed_externally", 31), ("orders", 32), ("evicted_fill", 33)]


def test_what_layout_6_has_traded_today_counts_once_a_rate_is_known() -> None:
    plain = msgspec.msgpack.decode(checkpoint_of(FOLDER / "layout_6" / JOURNAL))
    ours = {key: each for key, each in plain["executions"].items() if each["client_order_id"] or each["signal_id"]}
    assert ours
    engine = Engine.load(msgspec.msgpack.encode(plain))
    today = [key for key, each in ours.items() if each["ts_event_ns"] >= plain["day"]["started_ns"]]
    day = engine.state.day
    assert (list(day.unpriced_executions), day.traded_usd, sum(day.fills.values())) == (today, 0, len(today))
    assert not engine.state.latches
    assert (engine.state.limits.max_working_orders, engine.state.limits.repeated_entries_latch) == (None, False)
    engine.handle(MarketMoved(markets=()), engine.state.now_ns)
    assert set(day.traded) | set(day.unpriced_executions) == set(today)
    known = [engine.state.executions[key] for key in day.traded]
    assert all(each.quantity * each.price > 0 for each in known if each.counts)
    assert day.traded_usd == sum(day.traded.values())


def test_a_state_of_layout_6_lists_the_live_orders_that_close_lots() -> None:
    plain = msgspec.msgpack.decode(checkpoint_of(FOLDER / "layout_6" / JOURNAL))
    live = [(name, order_id) for name, route in plain["routes"].items() for order_id in route["live"]]
    orders = {order_id: plain["orders"][order_id] for _, order_id in live}
    entry = next(order_id for order_id, order in orders.items() if order["role"] == "E")
    stop = next(order_id for order_id, order in orders.items() if order["role"] == "S")
    plain["signals"][orders[entry]["signal_id"]]["signal"]["reduce_only"] = True
    orders[stop]["role"] = "X"
    routes = Engine.load(msgspec.msgpack.encode(plain)).state.routes
    assert {order_id for route in routes.values() for order_id in route.live_closing} == {entry, stop}


def test_a_state_of_today_needs_no_converter_and_meets_none(path: Path) -> None:
    def fail(state: Plain) -> Plain:
        raise AssertionError

    data = checkpoint_of(path)
    assert msgspec.msgpack.encode(read_state(data, {FORMER: fail, STATE_LAYOUT: fail})) == data


def forget_new_name(state: Plain) -> Plain:
    state = from_former(state)
    for order in state["orders"].values():
        order["left_ns"] = order["sent_ns"]
    return state


def fill_in_nothing(state: Plain) -> Plain:
    state = from_former(state)
    for kill in state["kills"].values():
        del kill["text"]
    return state


def write_a_number(state: Plain) -> Plain:
    state = from_former(state)
    for order in state["orders"].values():
        order["cum_qty"] = int(order["cum_qty"])
    return state


@pytest.mark.parametrize(
    ("converters", "reason"),
    [
        ({}, f"there is no converter from {FORMER}"),
        ({FORMER: lambda state: state["no such key"]}, "cannot be converted: KeyError: 'no such key'"),
        ({FORMER: lambda state: None}, "cannot be converted: TypeError"),
        ({FORMER: lambda state: state}, "cannot be converted: ValidationError: Object missing required field"),
        ({FORMER: forget_new_name}, r"not whole after conversion: state\.orders\.\w+\.left_ns is not known"),
        ({FORMER: fill_in_nothing}, r"not whole after conversion: state\.kills\.[\w|]+\.text is missing"),
        ({FORMER: write_a_number}, r"not whole after conversion: state\.orders\.\w+\.cum_qty became another value"),
    ],
)
def test_a_conversion_that_fails_or_loses_something_is_refused(path: Path, converters: dict, reason: str) -> None:
    with pytest.raises(GatewayError, match=reason):
        read_state(rewritten(checkpoint_of(path), to_former), converters)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"layout": STATE_LAYOUT + 1, "something": "new"}, f"layout {STATE_LAYOUT + 1}, this program knows up to"),
        ({"layout": "four"}, "cannot be read"),
        ({"layout": 0}, "there is no converter from 0"),
        ({"orders": 1}, "cannot be read"),
    ],
)
def test_a_newer_or_a_damaged_state_is_refused(path: Path, change: Plain, reason: str) -> None:
    with pytest.raises(GatewayError, match=reason):
        Engine.load(rewritten(checkpoint_of(path), lambda state: state | change))


def test_a_journal_goes_on_from_a_converted_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rebuilt(path)
    add_checkpoint(path, before.from_checkpoint_seq, rewritten(checkpoint_of(path), to_former))
    monkeypatch.setitem(CONVERTERS, FORMER, from_former)
    after = rebuilt(path)
    assert (after.from_checkpoint_seq, after.events) == (before.from_checkpoint_seq, before.events)
    assert (after.differing, after.passed_over) == ([], [])
    assert read_facts(after.engine) == read_facts(before.engine)
    assert after.engine.digest() == before.engine.digest()


@pytest.mark.parametrize(
    ("newest", "reason"),
    [
        (to_former, f"state layout {FORMER}: there is no converter"),
        (lambda state: state | {"layout": STATE_LAYOUT + 1}, f"state layout {STATE_LAYOUT + 1}, this program knows"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_passed_over_for_an_older_one_and_said(
    path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    newest: Callable[[Plain], Plain],
    reason: str,
) -> None:
    monkeypatch.delitem(CONVERTERS, FORMER, raising=False)
    before = rebuilt(path)
    seq = before.from_checkpoint_seq + 5
    add_checkpoint(path, seq, rewritten(checkpoint_of(path), newest))
    after = rebuilt(path)
    assert (after.from_checkpoint_seq, after.engine.digest()) == (before.from_checkpoint_seq, before.engine.digest())
    (told,) = after.passed_over
    assert told.startswith(f"checkpoint {seq}: ")
    assert reason in told
    config = GatewayConfig(orders=OrdersConfig(journal=str(path)))
    with caplog.at_level(logging.WARNING):
        JournaledEngine.open(config, process_log("gateway")).close()
    (record,) = caplog.records
    assert record.fields["reasons"] == [told]


def test_without_a_checkpoint_that_can_be_read_the_events_alone_serve(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(CONVERTERS, FORMER, raising=False)
    before = rebuilt(path)
    add_checkpoint(path, before.from_checkpoint_seq, rewritten(checkpoint_of(path), to_former))
    after = rebuilt(path)
    assert (after.from_checkpoint_seq, len(after.passed_over)) == (0, 1)
    assert after.engine.digest() == before.engine.digest()
