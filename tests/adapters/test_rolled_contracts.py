"""Adapters through a roll: which symbols are subscribed, the flag once and never lost, names, hours, guards."""

from __future__ import annotations

import itertools
import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from nexus_gateway.adapters.base import PlatformAccount
from nexus_gateway.adapters.feed import TickFeed
from nexus_gateway.adapters.orders.guard import refuse_command
from nexus_gateway.adapters.session import AdapterSession, SessionPolicy
from nexus_gateway.adapters.symbol_watch import ContractWatch, MarketHours, PlatformNames, describe_from_catalog
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.instruments.catalog import load_catalog
from nexus_gateway.core.instruments.refusals import SymbolRefused
from nexus_gateway.core.instruments.sessions import load_sessions
from nexus_gateway.core.instruments.symbols import SHIPPED_MAPPING
from nexus_gateway.core.logs import process_log
from nexus_gateway.core.messages import (
    AccountMode,
    KillLevel,
    Order,
    OrderRole,
    OrderType,
    RejectCode,
    Side,
    client_order_id,
    signal_key,
)
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.symbols import Symbol, add_symbols, roll_symbol
from nexus_gateway.shm.tick import TickFlag
from nexus_gateway.shm.writer import empty_ticks

from tests.support.feeds import ScriptedAdapter, close_feed, make_feed, publish_quote
from tests.support.links import CAN_ALL

LOG = process_log("test")
CATALOG, SESSIONS = load_catalog(), load_sessions()
OLD, NEW = "NQH25", "NQM25"
ROLL = int(TickFlag.ROLL)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


@pytest.fixture
def feed(tmp_path: Path):
    feed = make_feed(tmp_path)
    yield feed
    close_feed(feed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add_symbols(tmp_path, [Symbol(0, "NQ", OLD, 0.25), Symbol(0, "ES", "ESH25", 0.25)])
    return tmp_path


def watch(folder: Path, *names: str) -> ContractWatch:
    return ContractWatch(folder, "nt8", names or ("NQ",), monotonic_s=Clock())


def session_of(adapter: ScriptedAdapter, contracts: ContractWatch, **options) -> AdapterSession:
    clock = options.pop("clock", Clock())
    policy = SessionPolicy(silence_s=options.pop("silence_s", None))
    return AdapterSession(adapter, (), policy, LOG, contracts=contracts, monotonic_s=clock, **options)


def ticks_of(feed: TickFeed) -> list[tuple[int, int, float]]:
    out = empty_ticks(64)
    count = TickReader(feed.folder, feed.name, start="first").drain(out)
    return [(int(t["symbol"]), int(t["flags"]), float(t["bid"])) for t in out[:count]]


def warm_up(folder: Path) -> int:
    (symbol_id,) = add_symbols(folder, [Symbol(0, NEW, NEW, 0.25)])
    return symbol_id


def test_a_contract_beside_the_one_in_front_is_subscribed_where_its_root_is(folder):
    ours, theirs = watch(folder), watch(folder, "ES")
    warm_up(folder)
    assert ours.refresh()
    assert [symbol.name for symbol in ours.symbols] == ["NQ", NEW]
    assert not theirs.refresh()
    roll_symbol(folder, "NQ", NEW, 1)
    add_symbols(folder, [Symbol(0, OLD, OLD, 0.25)])
    assert ours.refresh()
    # The one in front is not heard twice, the one before keeps a name of its own.
    assert [(symbol.name, symbol.contract) for symbol in ours.symbols] == [("NQ", NEW), (OLD, OLD)]
    roll_symbol(folder, OLD, "", 0)
    assert ours.refresh()
    assert [symbol.name for symbol in ours.symbols] == ["NQ"]


def test_a_symbol_that_the_directory_lacks_is_a_fault_of_the_configuration(folder):
    with pytest.raises(ConfigError, match="no symbol id for GC"):
        watch(folder, "NQ", "GC")


def test_the_first_tick_of_the_new_contract_says_roll(folder, feed):
    new_id = warm_up(folder)
    adapter = ScriptedAdapter(feed, [])
    session = session_of(adapter, watch(folder))
    session.step(0.0)
    publish_quote(feed, 1, 100.0, 100.25)
    publish_quote(feed, new_id, 101.0, 101.25)
    roll_symbol(folder, "NQ", NEW, 1)
    session.step(0.0)
    publish_quote(feed, 1, 101.25, 101.5)
    assert adapter.calls == ["connect", "subscribe", "subscribe", "poll"]
    flags = int(TickFlag.ROLL | TickFlag.SNAPSHOT | TickFlag.BID | TickFlag.ASK)
    assert ticks_of(feed)[2:] == [(1, flags, 101.0), (1, 3, 101.25)]
    session.step(0.0)
    assert feed.counters.values()["rolls"] == 1


def test_a_successor_says_the_roll_that_its_predecessor_owed(folder, feed):
    new_id = warm_up(folder)
    session_of(ScriptedAdapter(feed, []), watch(folder)).step(0.0)
    publish_quote(feed, 1, 100.0, 100.25)
    publish_quote(feed, new_id, 101.0, 101.25)
    roll_symbol(folder, "NQ", NEW, 1)
    # kill -9 here: nobody has looked yet. The next process starts:
    session_of(ScriptedAdapter(feed, []), watch(folder))
    rolls = [tick for tick in ticks_of(feed) if tick[1] & ROLL]
    assert [(symbol, bid) for symbol, _, bid in rolls] == [(1, 101.0)]
    session_of(ScriptedAdapter(feed, []), watch(folder))
    assert feed.counters.values()["rolls"] == 1


def test_a_ring_without_the_old_contract_has_nothing_to_roll(folder, feed):
    session = session_of(ScriptedAdapter(feed, []), watch(folder))
    session.step(0.0)
    roll_symbol(folder, "NQ", NEW, 1)
    session.step(0.0)
    assert ticks_of(feed) == []


def test_without_a_price_of_the_new_contract_the_roll_says_so(folder, feed):
    session = session_of(ScriptedAdapter(feed, []), watch(folder))
    session.step(0.0)
    publish_quote(feed, 1, 100.0, 100.25)
    roll_symbol(folder, "NQ", NEW, 1)
    session.step(0.0)
    ((symbol, flags, bid),) = ticks_of(feed)[1:]
    assert (symbol, flags) == (1, int(TickFlag.ROLL | TickFlag.SNAPSHOT | TickFlag.STALE))
    assert bid != bid  # NaN: the old contract's price under the new name would be a lie


def test_silence_is_a_fault_only_while_the_market_trades(folder, feed):
    is_open = False
    session = session_of(ScriptedAdapter(feed, []), watch(folder), silence_s=5.0, market_open=lambda: is_open)
    for _ in range(20):
        session.step(0.0)
    assert feed.counters.values()["silences"] == 0
    is_open = True
    for _ in range(4):
        session.step(0.0)
    assert feed.counters.values()["silences"] == 0  # counted from the opening, not from the last tick of yesterday
    for _ in range(10):
        session.step(0.0)
    assert feed.counters.values()["silences"] >= 1


def test_market_hours_of_a_platform():
    def is_open(when: datetime, *names: str) -> bool:
        hours = MarketHours(names, CATALOG, SESSIONS, utc_ns=lambda: int(when.timestamp()) * 10**9)
        return hours.is_open()

    daily_break = datetime(2025, 3, 12, 21, 30, tzinfo=UTC)  # 17:30 New York
    assert not is_open(daily_break, "NQ", "ES")
    assert is_open(datetime(2025, 3, 12, 22, 30, tzinfo=UTC), "NQ")
    assert is_open(daily_break, "NQ", "MINE")  # its hours are not known
    saturday = datetime(2025, 3, 15, 12, tzinfo=UTC)
    assert not is_open(saturday, "NQ", "WIN")


def test_market_hours_follow_the_clock():
    now = datetime(2025, 3, 12, 20, 59, 59, tzinfo=UTC)
    hours = MarketHours(["NQ"], CATALOG, SESSIONS, utc_ns=lambda: int(now.timestamp()) * 10**9)
    assert hours.is_open()
    now = datetime(2025, 3, 12, 21, 0, 0, tzinfo=UTC)
    assert not hours.is_open()
    now = datetime(2025, 3, 12, 22, 0, 0, tzinfo=UTC)
    assert hours.is_open()
    now = datetime(2025, 3, 12, 21, 30, 0, tzinfo=UTC)  # set back
    assert not hours.is_open()


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "symbol_mappings.json"
    path.write_bytes(SHIPPED_MAPPING.read_bytes())
    return path


def test_names_at_a_platform_come_from_the_mapping(mapping):
    names = PlatformNames(mapping, "nt8", CATALOG, LOG)
    symbols = [Symbol(1, "NQ", NEW, 0.25), Symbol(2, OLD, OLD, 0.25)]
    assert [names.name_of(symbol).name for symbol in symbols] == ["NQ 06-25", "NQ 03-25"]
    with pytest.raises(SymbolRefused, match="needs a contract month"):
        names.name_of(Symbol(3, "ES"))
    with pytest.raises(SymbolRefused, match="which trades NAS100 in its place"):
        PlatformNames(mapping, "mt5", CATALOG, LOG).name_of(symbols[0])


def test_a_changed_mapping_is_taken_in_and_a_bad_one_refused_whole(mapping):
    clock = itertools.count(0.0, 10.0)
    names = PlatformNames(mapping, "nt8", CATALOG, LOG, monotonic_s=lambda: next(clock))
    symbol = Symbol(1, "NQ", NEW, 0.25)
    content = json.loads(mapping.read_text())
    form = content["platforms"]["nt8"]["default"]
    assert not names.reload_if_changed()
    mapping.write_text("{")
    assert not names.reload_if_changed()
    assert names.name_of(symbol).name == "NQ 06-25"
    content["platforms"]["nt8"]["forms"][form]["name"] = "{root}{M}{YYYY}"
    mapping.write_text(json.dumps(content))
    os.utime(mapping, ns=(1, 1))
    assert names.reload_if_changed()
    assert names.name_of(symbol).name == "NQM2025"


def order(symbol: str, contract: str, role: OrderRole = OrderRole.ENTRY) -> Order:
    return Order(
        client_order_id=client_order_id(signal_key("s1"), 0, role, 0),
        platform="nt8",
        account="acc",
        symbol=symbol,
        contract=contract,
        side=Side.BUY,
        quantity=Decimal(1),
        order_type=OrderType.MARKET,
    )


def guard(command: Order, at: datetime) -> RejectCode:
    described = describe_from_catalog([Symbol(1, "NQ", NEW, 0.25), Symbol(2, OLD, OLD, 0.25)], CATALOG, SESSIONS)
    account = PlatformAccount(
        name="acc", mode=AccountMode.NETTING, currency="USD", instruments=tuple(described.values())
    )
    now_ns = int(at.timestamp()) * 10**9
    return refuse_command(command, "nt8", account, CAN_ALL, KillLevel.NORMAL, "", now_ns)[0]


def test_no_order_gets_to_a_contract_that_is_not_in_front():
    after_roll = datetime(2025, 3, 18, 15, tzinfo=UTC)
    expired = datetime(2025, 3, 21, 21, 30, tzinfo=UTC)
    assert guard(order("NQ", NEW), after_roll) is RejectCode.NONE
    assert guard(order("NQ", OLD), after_roll) is RejectCode.IDENTITY_MISMATCH
    assert guard(order(OLD, OLD), after_roll) is RejectCode.CONTRACT_EXPIRED
    assert guard(order(OLD, OLD, OrderRole.EXIT), after_roll) is RejectCode.NONE  # what is open can be closed
    assert guard(order(OLD, OLD, OrderRole.EXIT), expired) is RejectCode.CONTRACT_EXPIRED


def test_a_contract_takes_no_order_from_its_own_last_minute_on():
    """The index settles on the opening of the stocks: from 09:30 in New York there is nothing left to close."""
    last_minute = datetime(2025, 6, 20, 13, 29, tzinfo=UTC)
    assert guard(order("NQ", NEW, OrderRole.EXIT), last_minute) is RejectCode.NONE
    assert guard(order("NQ", NEW, OrderRole.EXIT), last_minute.replace(minute=30)) is RejectCode.CONTRACT_EXPIRED
