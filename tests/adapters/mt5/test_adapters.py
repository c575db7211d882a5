"""The MetaTrader 5 adapters against the reference bridge: identity, names, capabilities, switches, gated quotes."""

from __future__ import annotations

import ctypes
import math
import random
import re
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from nexus_gateway.adapters.base import LinkLostError
from nexus_gateway.adapters.bridge.counters import BRIDGE_COUNTERS
from nexus_gateway.adapters.bridge.process import BridgeFiles
from nexus_gateway.adapters.bridge.quote_hours import QuoteHours
from nexus_gateway.adapters.bridge.settings import BridgeSettings
from nexus_gateway.adapters.bridge.ticks import TickIntake
from nexus_gateway.adapters.feed import COUNTERS, TickFeed
from nexus_gateway.adapters.mt5.adapter import CAPABILITIES, Mt5BrazilAdapter, Mt5GlobalAdapter
from nexus_gateway.adapters.mt5.settings import Mt5BrazilSettings, Mt5GlobalSettings, Mt5Settings, NativeBridge
from nexus_gateway.adapters.symbol_watch import PlatformNames
from nexus_gateway.core import messages as m
from nexus_gateway.core.config import convert_settings
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.instruments.catalog import load_catalog
from nexus_gateway.core.instruments.refusals import SymbolRefused
from nexus_gateway.core.instruments.sessions import load_sessions
from nexus_gateway.core.instruments.symbols import SHIPPED_MAPPING
from nexus_gateway.core.logs import process_log
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.symbols import Symbol
from nexus_gateway.shm.tick import TICK_DTYPE, Platform, TickFlag

from tests.conformance.gateway_peer import make_order
from tests.reference_bridge import wire
from tests.support.bridges import Bench, reference_bridge
from tests.support.mt5_bridges import ROOT, load_bridge

SAO_PAULO = ZoneInfo("America/Sao_Paulo")
CATALOG = load_catalog()
WIN = Symbol(3, "WIN", "WINZ26", 5.0)
NAS100 = Symbol(4, "NAS100", "", 0.1)
WIN_AT_XP = m.Instrument(
    symbol="WIN",
    platform_symbol="WINZ26",
    tick_size=Decimal(5),
    lot_step=Decimal(1),
    point_value=Decimal("0.20"),
    currency="BRL",
)
NAS100_CFD = m.Instrument(
    symbol="NAS100",
    platform_symbol="NAS100.cash",
    tick_size=Decimal("0.1"),
    lot_step=Decimal("0.1"),
    point_value=Decimal(1),
    currency="USD",
)


def names_of(platform: str) -> PlatformNames:
    return PlatformNames(SHIPPED_MAPPING, platform, CATALOG, process_log("test"))


@pytest.fixture
def brazil(tmp_path):
    with reference_bridge("mt5_br", {"WINZ26": WIN_AT_XP}, currency="BRL") as (platform, server):
        details(platform, server="XPMT5-DEMO", company="XP Investimentos")
        yield from benches(tmp_path, platform, server, Mt5BrazilAdapter, Platform.MT5_BR)


@pytest.fixture
def hedging(tmp_path):
    with reference_bridge("mt5", {"NAS100.cash": NAS100_CFD}, mode="hedging") as (platform, server):
        details(platform, server="Broker-Demo", company="Broker Ltd")
        yield from benches(tmp_path, platform, server, Mt5GlobalAdapter, Platform.MT5)


def benches(folder, platform, server, adapter_class, key):
    made = []

    def make(**settings) -> Bench:
        defaults = {"names": {}}
        bench = Bench(folder, server.port, adapter_class=adapter_class, platform=key, **(defaults | settings))
        bench.adapter.names = names_of(key.key)
        made.append(bench)
        return bench

    yield make, platform
    for bench in made:
        bench.close()


def details(platform, **texts) -> None:
    describe = platform.describe
    platform.describe = lambda: describe() | {"details": texts}


def test_an_account_as_configured(brazil):
    make, _ = brazil
    bench = make(account="Sim101", server="xpmt5-demo", company="XP Investimentos", mode="netting")
    assert bench.open(WIN).complete
    account = bench.adapter.account
    assert (account.name, account.currency, account.mode) == ("Sim101", "BRL", m.AccountMode.NETTING)
    (instrument,) = account.instruments
    assert (instrument.symbol, instrument.platform_symbol, instrument.contract) == ("WIN", "WINZ26", "WINZ26")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"account": "70012345"}, "account at the terminal was 'Sim101', must be '70012345'"),
        ({"server": "XPMT5-PRD"}, "server at the terminal was 'XPMT5-DEMO', must be 'XPMT5-PRD'"),
        ({"company": "Rico"}, "company at the terminal was 'XP Investimentos', must be 'Rico'"),
        ({"mode": "hedging"}, "mode at the terminal was 'netting', must be 'hedging'"),
        ({"currency": "USD"}, "currency at the terminal was 'BRL', must be 'USD'"),
    ],
)
def test_another_account_is_refused_for_good(brazil, settings, text):
    make, platform = brazil
    bench = make(**settings)
    with pytest.raises(ConfigError, match=text):
        bench.adapter.connect()
    assert not platform.is_subscribed


def test_a_dollar_account_is_no_account_of_b3(tmp_path):
    with reference_bridge("mt5_br", {"WINZ26": WIN_AT_XP}, currency="USD") as (_, server):
        bench = Bench(tmp_path, server.port, adapter_class=Mt5BrazilAdapter, platform=Platform.MT5_BR)
        with pytest.raises(ConfigError, match="currency at the terminal was 'USD', must be 'BRL'"):
            bench.adapter.connect()
        bench.close()


def test_a_terminal_without_a_login_is_waited_for(brazil):
    make, platform = brazil
    describe = platform.describe
    platform.describe = lambda: describe() | {"accounts": []}
    with pytest.raises(LinkLostError, match="not logged in to any account"):
        make().adapter.connect()


def test_the_bridge_of_the_other_terminal_is_refused(hedging, tmp_path):
    make, _ = hedging
    bench = make()
    other = Bench(tmp_path, bench.adapter._port, adapter_class=Mt5BrazilAdapter, platform=Platform.MT5_BR)
    with pytest.raises(LinkLostError, match="the bridge was for 'mt5', must be for 'mt5_br'"):
        other.adapter.connect()
    other.close()


def test_capabilities_are_those_of_the_account_mode(brazil, hedging):
    make, _ = brazil
    netting = make()
    netting.open(WIN)
    # The paper platform says that it can do OCO and reduce-only; MetaTrader 5 cannot.
    can = netting.adapter.capabilities
    assert (can.oco, can.reduce_only, can.brackets, can.close_by_ticket, can.replace) == (
        *(False, False, False, False, True),
    )
    make, platform = hedging
    bench = make(suffix=".cash")
    bench.open(NAS100)
    can = bench.adapter.capabilities
    assert (can.oco, can.reduce_only, can.brackets, can.close_by_ticket, can.replace) == (
        *(False, False, True, True, True),
    )
    assert not can.replace_quantity, "whatever a bridge says: the terminal has no request for it"
    bench.adapter.close()
    said = msgspec.to_builtins(can) | {"replace": False, "times_in_force": ["day", "fok"]}
    describe = platform.describe
    platform.describe = lambda: describe() | {"capabilities": said}
    bench.open(NAS100)
    assert not bench.adapter.capabilities.replace, "never more than the bridge says"
    assert bench.adapter.capabilities.times_in_force == (m.TimeInForce.DAY, m.TimeInForce.FOK)
    assert set(CAPABILITIES) == set(m.AccountMode)


def test_orders_are_off_with_a_reason_and_on_again(brazil):
    make, platform = brazil
    bench = make()
    bench.open(WIN)
    order = order_for(bench)
    platform.orders_up = False
    platform.server.send(
        {
            "type": "status",
            "data_up": True,
            "orders_up": False,
            "text": "Algo Trading is off: press the button",
        }
    )
    bench.until(lambda: not bench.adapter.orders_up)
    bench.adapter.execute(order)
    (reject,) = bench.desk.events
    assert reject.code is m.RejectCode.LINK_DOWN
    assert reject.text == "the platform takes no orders now: Algo Trading is off: press the button"
    platform.set_status()
    assert "a new snapshot is needed" in bench.until_lost()
    bench.open(WIN)
    bench.adapter.execute(order)
    bench.until(lambda: [event for event in bench.desk.events if isinstance(event, m.OrderUpdate)])


def test_switches_that_are_off_at_the_hello(brazil):
    make, platform = brazil
    describe = platform.describe
    platform.describe = lambda: describe() | {"orders_up": False, "text": "external API is disabled in the options"}
    bench = make()
    assert not bench.open(WIN).complete
    bench.adapter.execute(order_for(bench))
    assert "external API is disabled in the options" in bench.desk.events[-1].text


def order_for(bench: Bench, **terms) -> m.Order:
    account = bench.adapter.account
    hello = m.Hello(
        role=m.Role.ADAPTER,
        name=bench.feed.name,
        boot_id="x",
        platform=bench.feed.name,
        account=account.name,
        capabilities=bench.adapter.capabilities,
        instruments=account.instruments,
    )
    return make_order(hello, **({"symbol": account.instruments[0].symbol, "quantity": Decimal(1)} | terms))


@pytest.mark.parametrize(
    ("symbol", "settings", "name"),
    [
        (NAS100, {}, "NAS100"),
        (NAS100, {"suffix": ".cash"}, "NAS100.cash"),
        (NAS100, {"suffix": ".cash", "names": {"NAS100": "USTEC.m"}}, "USTEC.m"),
        (NAS100, {"names": {"NAS100": "MyBroker-Tech"}}, "MyBroker-Tech"),
        (Symbol(5, "NQ", "NQZ26", 0.25), {"connection": "future", "suffix": ".cash"}, "NQZ26"),
        (Symbol(5, "NQ", "NQZ26", 0.25), {"names": {"NQ": "NQZ26"}}, "NQZ26"),
    ],
)
def test_global_names(hedging, symbol, settings, name):
    make, _ = hedging
    assert make(**settings).adapter.name_at_platform(symbol) == name


@pytest.mark.parametrize(
    ("names", "error", "text"),
    [
        ({"NAS100": "US30.cash"}, ConfigError, "was 'US30.cash', which is a name of US30"),
        ({"NAS100": "NQZ26"}, ConfigError, "was 'NQZ26', which is a name of NQ"),
        ({"NAS100": "x" * 30}, SymbolRefused, "30 characters; MetaTrader 5 allows 29"),
    ],
)
def test_global_names_that_are_wrong(hedging, names, error, text):
    make, _ = hedging
    with pytest.raises(error, match=text):
        make(names=names).adapter.name_at_platform(NAS100)


def test_brazilian_names_follow_the_contract_in_front(brazil):
    make, _ = brazil
    adapter = make().adapter
    assert adapter.name_at_platform(WIN) == "WINZ26"
    assert adapter.name_at_platform(Symbol(3, "WIN", "WING27", 5.0)) == "WING27"
    assert adapter.name_at_platform(Symbol(9, "WDOX26", "WDOX26", 0.5)) == "WDOX26"  # the last one, after a roll
    with pytest.raises(SymbolRefused, match="needs a contract month"):
        adapter.name_at_platform(Symbol(3, "WIN", "", 5.0))


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("WIN$", "is a continuous series for data only"),
        ("WIN@N", "is a continuous series for data only"),
        ("WINFUT", "names whichever contract is current"),
        ("WI1V26Z26", "is a roll of two contracts"),
        ("WINV26", "the contract in front is WINZ26; remove the line"),
    ],
)
def test_a_continuous_series_or_another_month_is_never_subscribed(brazil, written, text):
    make, _ = brazil
    adapter = make(names={"WIN": written}).adapter
    with pytest.raises(SymbolRefused, match=text):
        adapter.name_at_platform(WIN)


def test_the_dollar_is_not_subscribed_as_the_index(brazil):
    make, _ = brazil
    with pytest.raises(ConfigError, match="which is a name of WDO"):
        make(names={"WIN": "WDOZ26"}).adapter.name_at_platform(WIN)


@pytest.mark.parametrize(
    ("offset_minutes", "told", "kept"),
    [
        ("-180", "2025-12-18T01:15:00", "2025-12-17T23:59:59"),  # 22:15 at B3
        ("-180", "2025-12-17T21:25:00", "2025-12-17T21:25:00"),
        ("120", "2025-12-16T22:30:00", "2025-12-17T23:59:59"),  # half past midnight at the broker
        ("", "2025-12-18T01:15:00", "2025-12-18T01:15:00"),
    ],
)
def test_of_an_expiry_the_day_at_the_broker_counts(brazil, offset_minutes, told, kept):
    make, _ = brazil
    adapter = make().adapter
    adapter.connect()
    hello = msgspec.structs.replace(adapter.session.hello, details={"utc_offset_minutes": offset_minutes})
    expiry_ns, kept_ns = (int(datetime.fromisoformat(f"{at}+00:00").timestamp()) * 10**9 for at in (told, kept))
    instrument = msgspec.structs.replace(WIN_AT_XP, expiry_ns=expiry_ns)
    assert adapter.correct_instrument(instrument, hello).expiry_ns == kept_ns
    assert adapter.correct_instrument(WIN_AT_XP, hello).expiry_ns == 0


# Quotes of closed hours.


def sp_ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=SAO_PAULO).timestamp() * 10**9)


class Clock:
    def __init__(self, text: str) -> None:
        self.now_ns = sp_ns(text)

    def __call__(self) -> int:
        return self.now_ns


def gate(clock: Clock, **options) -> tuple[TickIntake, QuoteHours]:
    intake = TickIntake(Platform.MT5_BR)
    intake.allow(WIN.id)
    hours = QuoteHours(intake, CATALOG, load_sessions(), utc_ns=clock, **options)
    hours.gate_symbols([WIN])
    return intake, hours


def take(intake: TickIntake, *ticks: wire.Tick) -> list[tuple[float, float, float]]:
    data = bytearray(wire.pack_ticks([wire.pack_tick(tick) for tick in ticks]))
    address = ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data))
    assert intake.process_frames(address, len(data)) == len(data)
    assert intake.sound == len(ticks), "no record is lost by the gate"
    out = np.frombuffer(ctypes.string_at(intake.first, 64 * intake.sound), TICK_DTYPE)
    return [(float(row["bid"]), float(row["ask"]), float(row["last"])) for row in out]


def quote(at: str, bid: float = 100.0, ask: float = 105.0, last: float = 100.0) -> wire.Tick:
    return wire.Tick(WIN.id, sp_ns(at), wire.BID | wire.ASK | wire.TRADE, bid, ask, last, 3, 4, 1)


def passes(row: tuple[float, float, float]) -> bool:
    assert row[2] == 100, "the trade stays"
    assert math.isnan(row[0]) == math.isnan(row[1])
    return not math.isnan(row[0])


@pytest.mark.parametrize(
    ("now", "at", "open_"),
    [
        ("2025-11-18T10:00", "2025-11-18T10:00", True),
        ("2025-11-18T10:00", "2025-11-18T09:00", True),
        ("2025-11-18T10:00", "2025-11-18T08:59:59", False),  # the auction before the opening
        ("2025-11-18T10:00", "2025-11-17T18:25", False),  # caught up: happened after the last close
        ("2025-11-18T10:00", "2025-11-17T18:24:59", True),
        ("2025-11-18T18:20", "2025-11-18T18:25", False),
        ("2025-11-18T18:30", "2025-11-18T18:24:59", True),
        ("2025-11-18T18:30", "2025-11-18T18:29", False),
        ("2025-11-18T23:00", "2025-11-18T22:00", False),
        ("2025-11-19T03:00", "2025-11-19T03:00", False),
        ("2025-11-23T12:00", "2025-11-23T12:00", False),  # a Sunday
        ("2025-11-23T12:00", "2025-11-21T18:00", True),
        ("2025-11-20T12:00", "2025-11-20T12:00", False),  # a holiday
        ("2025-11-20T12:00", "2025-11-19T18:00", True),
        ("2025-03-05T12:00", "2025-03-05T12:00", False),  # Ash Wednesday opens at one
        ("2025-03-05T13:30", "2025-03-05T13:00", True),
    ],
)
def test_a_quote_counts_by_the_hour_in_which_it_happened(now, at, open_):
    intake, _ = gate(Clock(now))
    (row,) = take(intake, quote(at))
    assert passes(row) is open_
    assert intake.blanked == (0 if open_ else 1)


def test_the_gate_moves_with_the_sessions():
    clock = Clock("2025-11-18T18:24")
    intake, hours = gate(clock)
    steps = (("2025-11-18T18:26", False), ("2025-11-19T08:00", False), ("2025-11-19T09:01", True))
    set_back = (("2025-11-18T18:30", False), ("2025-11-18T18:20", True))
    for now, open_ in (*steps, *set_back):
        clock.now_ns = sp_ns(now)
        hours.turn()
        (row,) = take(intake, quote(now))
        assert passes(row) is open_


@pytest.mark.parametrize(
    ("bid", "ask", "open_"),
    [(100, 105, True), (105, 105, False), (192_490, 157_495, False), (math.nan, 105, True), (100, math.nan, True)],
)
def test_crossed_quotes_are_gated_at_any_hour(bid, ask, open_):
    intake, _ = gate(Clock("2025-11-18T10:00"))
    (row,) = take(intake, quote("2025-11-18T10:00", bid, ask))
    assert (not (math.isnan(row[0]) and math.isnan(row[1]))) is open_
    assert intake.blanked == (not open_)


def test_the_gate_does_what_its_plain_twin_does():
    chance = random.Random(7)
    now_ns = sp_ns("2025-11-18T10:00")
    edges = [now_ns + minutes * 60 * 10**9 for minutes in (-60, 60, 120)]
    intake = TickIntake(Platform.MT5_BR)
    intake.allow(WIN.id)
    intake.gate(WIN.id, *edges)
    prices = [math.nan, 0.0, 99.5, 100.0, 100.5]
    ticks = [
        wire.Tick(
            WIN.id,
            chance.choice(edges) + chance.randrange(-2, 3),
            wire.TRADE,
            chance.choice(prices),
            chance.choice(prices),
            100.0,
        )
        for _ in range(2000)
    ]
    gated = 0
    for row, tick in zip(take(intake, *ticks), ticks, strict=True):
        shut = edges[0] <= tick.ts_event_ns < edges[1] or tick.ts_event_ns >= edges[2]
        blank = (shut or tick.bid >= tick.ask) and not (math.isnan(tick.bid) and math.isnan(tick.ask))
        gated += blank
        wanted = (math.nan, math.nan) if blank else (tick.bid, tick.ask)
        assert np.array_equal(row[:2], wanted, equal_nan=True)
    assert intake.blanked == gated > 0


def test_closed_hours_may_be_let_through_for_a_rehearsal():
    intake, _ = gate(Clock("2025-11-23T12:00"), keep_closed=True)
    row, crossed = take(intake, quote("2025-11-23T12:00"), quote("2025-11-23T12:00", 105, 100))
    assert passes(row)
    assert not passes(crossed)


def test_a_market_without_hours_is_gated_for_crossed_quotes_alone():
    intake, hours = gate(Clock("2025-11-23T12:00"))
    hours.gate_symbols([Symbol(WIN.id, "MYSTOCK", "", 0.01)])
    (row,) = take(intake, quote("2025-11-23T12:00"))
    assert passes(row)


def test_gated_quotes_are_counted_and_their_trades_reach_the_ring(brazil):
    make, platform = brazil
    bench = make(quotes_outside_session=True)
    bench.open(WIN)
    platform.quote("WIN", 192_490, 157_495, 5, 5)
    bench.until(lambda: bench.count("bridge_quotes_gated") == 1)
    (tick,) = bench.ticks()
    assert math.isnan(tick["bid"])
    assert math.isnan(tick["ask"])
    platform.quote("WIN", 176_290, 176_295, 5, 5)
    (tick,) = bench.until(bench.ticks_or_none)
    assert (tick["bid"], tick["ask"]) == (176_290, 176_295)
    assert bench.count("bridge_quotes_gated") == 1


def test_global_quotes_are_not_gated(hedging):
    make, platform = hedging
    bench = make(suffix=".cash")
    bench.open(NAS100)
    platform.quote("NAS100", 20_000, 20_000, 5, 5)  # no spread: usual on raw accounts
    (tick,) = bench.until(bench.ticks_or_none)
    assert (tick["bid"], tick["flags"]) == (20_000, TickFlag.BID | TickFlag.ASK)


# Settings.

NATIVE = {
    "backend": "native",
    "account": "70012345",
    "server": "XPMT5-DEMO",
    "native": {"terminal_path": "C:\\MT5 Brazil\\terminal64.exe"},
}


def settings_of(kind: type[Mt5Settings] = Mt5BrazilSettings, **changes: object) -> Mt5Settings:
    return convert_settings(kind, changes, "platform 'mt5_br': settings")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "token_file is missing"),
        ({"backend": "mt5linux", "token_env": "T"}, "must be one of native, remote"),
        ({"backend": "native"}, "native belongs to backend: native, which needs it"),
        ({"native": {"terminal_path": "x"}, "token_env": "T"}, "native belongs to backend: native"),
        ({**NATIVE, "native": {}}, "terminal_path is missing"),
        ({**NATIVE, "account": None}, "account was None, must be the number of the account"),
        ({**NATIVE, "account": "Sim101"}, "account was 'Sim101', must be the number"),
        ({**NATIVE, "server": None}, "server is missing"),
        ({**NATIVE, "remote": True}, "remote was true, must be false"),
        ({**NATIVE, "native": {"terminal_path": "x", "options": {"port": 1}}}, "options has port, which the gateway"),
        (
            {**NATIVE, "native": {"terminal_path": "x", "script": "Z:\\opt\\mt5_bridge.py"}},
            "name the folder mt5_bridge, or",
        ),
        ({"host": "192.168.1.7", "token_env": "T"}, "which is not this machine"),
        ({"token_env": "T", "mode": "both"}, "must be one of hedging, netting"),
        ({"token_env": "T", "suffix": ".cash"}, "suffix is not a known key"),
        ({"token_env": "T", "port": 9012, "ticks_port": 9012}, "ticks_port was 9012, as port"),
        (
            {**NATIVE, "ticks_port": 9022, "native": {"terminal_path": "x", "options": {"role": "both"}}},
            "native.options has role",
        ),
    ],
)
def test_bad_settings(settings, text):
    with pytest.raises(ConfigError, match=text):
        settings_of(**settings)


def test_what_a_native_bridge_is_started_with():
    settings = settings_of(
        **NATIVE
        | {
            "native": {
                "terminal_path": "C:\\MT5 Brazil\\terminal64.exe",
                "interpreter": ["wine", "C:\\Python312\\python.exe"],
                "script": "/opt/mt5_bridge.pyz",
                "options": {"poll_ms": 5},
            }
        }
    )
    (start,) = settings.native_starts(Platform.MT5_BR)
    assert start.command == ("wine", "C:\\Python312\\python.exe", "/opt/mt5_bridge.pyz")
    assert start.configuration == {
        "platform": "mt5_br",
        "terminal_path": "C:\\MT5 Brazil\\terminal64.exe",
        "login": 70012345,
        "server": "XPMT5-DEMO",
        "company": None,
        "host": "127.0.0.1",
        "port": 9012,
        "poll_ms": 5,
    }
    assert settings_of(Mt5GlobalSettings, token_env="T").native_starts(Platform.MT5) == ()


def test_with_a_port_for_ticks_two_bridges_are_started():
    settings = settings_of(**NATIVE | {"ticks_port": 9022})
    starts = settings.native_starts(Platform.MT5_BR)
    assert [(each.part, each.configuration["role"], each.configuration["port"]) for each in starts] == [
        ("", "orders", 9012),
        ("ticks", "ticks", 9022),
    ]


def keys_of(page: str, heading: str) -> set[str]:
    """Keys in the first column of the tables below a heading."""
    text = (ROOT / "docs" / "platforms" / page).read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {key for cell in first for key in re.findall(r"`(\w+)`", cell)}


def test_every_setting_is_on_the_page():
    shared = set(BridgeSettings.__struct_fields__)
    own = {*Mt5GlobalSettings.__struct_fields__, *Mt5BrazilSettings.__struct_fields__} - shared
    assert keys_of("README.md", "Settings of every bridged platform") == shared
    assert keys_of("mt5.md", "Settings") == own | {"account"} | set(NativeBridge.__struct_fields__)


def test_every_counter_is_on_the_page():
    page = keys_of("README.md", "Counters that every bridged platform adds (`nexus-gateway status`)")
    assert page == {*BRIDGE_COUNTERS, "ticks_dropped_at_source"}


def test_every_retcode_of_the_bridge_is_on_the_page():
    text = (ROOT / "docs" / "platforms" / "mt5.md").read_text(encoding="utf-8")
    missing = [code for code in load_bridge().RETCODES if str(code) not in text]
    assert not missing


def test_a_token_that_was_lost_is_made_anew_and_the_next_attempt_uses_it(run_dir):
    """Kept in memory, it would differ for ever from what the bridge's next process finds."""
    settings = {
        "backend": "native",
        "account": "5001234",
        "server": "Broker-Demo",
        "connect_timeout_s": 0.1,
        "port": 1,  # nothing listens there
        "native": {"terminal_path": "/terminal64.exe", "script": "/bridge.py"},
    }
    page = CountersPage.create(run_dir, "mt5", (*COUNTERS, *BRIDGE_COUNTERS))
    feed = TickFeed(run_dir, "mt5", Platform.MT5, page, capacity=64, board_rows=64)
    adapter = Mt5GlobalAdapter(feed, settings)
    path = BridgeFiles(run_dir, "mt5").token
    for damage in (Path.unlink, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"\xff" * 32)):
        before = adapter._token
        damage(path)
        with pytest.raises(LinkLostError):
            adapter.connect()
        assert adapter._token == path.read_text() != before
    adapter.close()
    feed.close()
    page.close()
