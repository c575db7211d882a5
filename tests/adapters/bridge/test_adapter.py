"""The bridge adapter against the reference bridge, over TCP: what the conformance suite does not ask."""

from __future__ import annotations

import os
import random
import socket
import time
from decimal import Decimal

import msgspec
import numpy as np
import pytest
from nexus_gateway.adapters.base import LinkLostError
from nexus_gateway.adapters.bridge.adapter import BridgeAdapter
from nexus_gateway.adapters.bridge.settings import PORTS, BridgeSettings
from nexus_gateway.adapters.paper.adapter import PaperAdapter
from nexus_gateway.adapters.paper.settings import PaperSettings
from nexus_gateway.core import messages as m
from nexus_gateway.core.config import convert_settings
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.instruments.refusals import SymbolRefused
from nexus_gateway.shm.symbols import Symbol
from nexus_gateway.shm.tick import Platform, TickFlag

from tests.conformance.gateway_peer import make_order
from tests.reference_bridge import wire
from tests.support.bridges import NQ, Bench, Liar, reference_bridge
from tests.support.patience import patient

ONE = Decimal(1)


@pytest.fixture
def parts(tmp_path):
    with reference_bridge() as (platform, server):
        bench = Bench(tmp_path, server.port)
        yield bench, platform, server
        bench.close()


def order_for(bench: Bench, **terms) -> m.Order:
    account = bench.adapter.account
    assert account is not None
    hello = m.Hello(
        role=m.Role.ADAPTER,
        name="nt8",
        boot_id="x",
        platform="nt8",
        account=account.name,
        capabilities=bench.adapter.capabilities,
        instruments=account.instruments,
    )
    return make_order(hello, **({"symbol": "NQ", "quantity": ONE} | terms))


def test_the_session_describes_account_capabilities_and_instruments(parts):
    bench, _, _ = parts
    assert bench.adapter.capabilities is not None
    assert not bench.adapter.capabilities.replace, "nothing is promised before the bridge has said it"
    assert bench.open().complete
    account = bench.adapter.account
    assert (account.name, account.mode, account.currency) == ("Sim101", m.AccountMode.NETTING, "USD")
    (instrument,) = account.instruments
    assert (instrument.symbol, instrument.platform_symbol, instrument.contract) == ("NQ", "NQ 12-26", "NQZ26")
    assert bench.adapter.instruments == account.instruments
    assert bench.adapter.capabilities.replace


def test_state_comes_after_a_subscription(parts):
    bench, platform, _ = parts
    bench.open()
    platform.quote("NQ", 18000, 18000.25, 5, 7)
    bench.until(lambda: len(bench.ticks()))
    bench.adapter.close()
    bench.open()
    (tick,) = bench.until(bench.ticks_or_none)
    assert tick["bid"] == 18000
    assert tick["flags"] & TickFlag.SNAPSHOT
    assert tick["ts_recv_ns"] > tick["ts_event_ns"]


def test_resume_names_the_newest_tick_and_how_many_had_its_time(parts):
    bench, platform, _ = parts
    bench.open()
    asked = []
    subscribe = platform.subscribe
    platform.subscribe = lambda wanted: (asked.append(wanted), subscribe(wanted))[1]
    quoted_ns = platform.quote("NQ", 18000, 18000.25, 5, 7)
    bench.until(lambda: len(bench.ticks()))
    bench.adapter.close()
    bench.open()
    ((wanted,),) = asked
    assert (wanted["after_ns"], wanted["after_count"]) == (quoted_ns, 1)
    assert bench.count("bridge_gaps") == 1, "this platform keeps no history, and says so"
    bench.adapter.subscribe((NQ,))
    assert bench.count("bridge_gaps") == 1, "within a session ticks just go on"


@pytest.mark.parametrize("seed", range(5))
def test_a_platform_with_history_loses_and_doubles_nothing_over_reconnects(tmp_path, seed):
    """Many ticks share a time, and some are equal: only time and count together say where to go on."""
    chance = random.Random(seed)
    times = sorted(time.time_ns() // 10**6 * 10**6 - chance.randrange(300) * 10**6 for _ in range(2000))
    history = [wire.Tick(NQ.id, at_ns, wire.TRADE, last=float(chance.randrange(3)), last_size=1) for at_ns in times]

    def go_on_and_die(liar: Liar, connection: socket.socket) -> None:
        (wanted,) = liar.wanted
        later = [i for i, tick in enumerate(history) if tick.ts_event_ns >= wanted["after_ns"]]
        start = later[0] + wanted["after_count"] if later else len(history)
        for _ in range(chance.randrange(10)):
            records = [wire.pack_tick(tick) for tick in history[start : start + chance.randrange(1, 60)]]
            if records:
                connection.sendall(wire.pack_ticks(records))
            start += len(records)
        if start < len(history):
            connection.sendall(wire.pack_ticks([wire.pack_tick(history[start])])[: chance.randrange(72)])
            connection.shutdown(socket.SHUT_RDWR)

    liar = Liar(go_on_and_die)
    bench = Bench(tmp_path, liar.port)
    while bench.feed.writer.tail < len(history):
        bench.meet(lambda: bench.feed.writer.tail >= len(history))
    ticks = bench.ticks()
    assert ticks["ts_event_ns"].tolist() == times
    assert ticks["last"].tolist() == [tick.last for tick in history]
    assert liar.connections > 5
    bench.close()
    liar.close()


def test_a_roll_in_the_session_never_mixes_contracts(parts):
    bench, platform, server = parts
    bench.open()
    platform.quote("NQ", 18000, 18000.25, 5, 7)
    bench.until(lambda: len(bench.ticks()))
    bench.adapter.settings.names["NQ"] = "NQ 03-27"
    platform.quote("NQ", 18001, 18001.25, 5, 7)  # under way while the subscription changes
    bench.adapter.subscribe([Symbol(3, "NQ", "NQH27", 0.25)])
    assert 18001 not in bench.ticks()["bid"]
    platform.quote("NQ", 19000, 19000.25, 5, 7)
    bench.until(lambda: 19000 in bench.ticks()["bid"])
    (instrument,) = bench.adapter.account.instruments
    assert (instrument.platform_symbol, instrument.contract) == ("NQ 03-27", "NQH27")
    assert server.has_session


def test_an_unchanged_symbol_goes_on_through_a_new_subscription(parts):
    bench, platform, _ = parts
    bench.open()
    bench.adapter.settings.names["ES"] = "NQ 03-27"
    for number in range(20):
        platform.quote("NQ", 18000 + number, 18100, 5, 7)
        if number == 10:
            bench.adapter.subscribe([NQ, Symbol(4, "ES", "ESZ26", 0.25)])
    seen: list[float] = []
    bench.until(lambda: seen.extend(bench.ticks()["bid"].tolist()) or 18019 in seen)
    assert seen == [18000 + number for number in range(20)]


def test_symbols_that_the_platform_does_not_have(parts):
    bench, _, _ = parts
    unknown = Symbol(4, "ES", "ESZ26", 0.25)
    bench.adapter.settings.names["ES"] = "ES 12-26"
    bench.open(NQ, unknown)
    assert bench.count("bridge_symbols_refused") == 1
    assert [each.symbol for each in bench.adapter.instruments] == ["NQ"]
    with pytest.raises(LinkLostError, match="none of the symbols: no such instrument"):
        bench.open(unknown)


def test_two_symbols_may_not_be_one_instrument(parts):
    bench, _, _ = parts
    bench.adapter.settings.names["ES"] = "NQ 12-26"
    with pytest.raises(ConfigError, match="'NQ 12-26' would be two of our symbols, ES the second"):
        bench.open(NQ, Symbol(4, "ES", "ESZ26", 0.25))


def test_names_come_from_the_settings_then_from_the_mappings(parts):
    bench, _, _ = parts

    class Names:
        def name_of(self, symbol, connection):
            if symbol.name == "ZZ":
                raise SymbolRefused("symbol_not_offered", "no such root")
            return msgspec.defstruct("Named", [("name", str)])(f"{symbol.contract}@{connection}")

    adapter = bench.adapter
    adapter.names = Names()
    assert adapter.name_at_platform(NQ) == "NQ 12-26"
    assert adapter.name_at_platform(Symbol(5, "ES", "ESZ26")) == "ESZ26@None"
    bench.open(NQ, Symbol(6, "ZZ", "", 1.0))
    assert bench.count("bridge_symbols_refused") == 1


def test_status_marks_quotes_stale_and_refuses_commands(parts):
    bench, platform, _ = parts
    bench.open()
    platform.quote("NQ", 18000, 18000.25, 5, 7)
    bench.until(lambda: len(bench.ticks()))
    platform.set_status(data_up=False, orders_up=False)
    bench.until(lambda: [tick for tick in bench.ticks() if tick["flags"] & TickFlag.STALE])
    order = order_for(bench)
    bench.adapter.execute(order)
    cancel = m.Cancel(client_order_id=order.client_order_id, platform="nt8", account="Sim101", symbol="NQ")
    bench.adapter.execute(cancel)
    codes = [event.code for event in bench.desk.events if isinstance(event, m.Reject)]
    assert codes == [m.RejectCode.LINK_DOWN, m.RejectCode.CANCEL_REJECTED]
    snapshot = bench.snapshot()
    assert not snapshot.complete, "what is read while the broker is away proves nothing"
    assert not snapshot.working_orders.rows, "nothing has reached the platform"
    platform.set_status()
    assert "a new snapshot is needed" in bench.until_lost()


def test_events_before_the_first_snapshot_are_left_to_it(parts):
    bench, platform, _ = parts
    bench.adapter.connect()
    bench.adapter.subscribe([NQ])
    order = order_for(bench)
    platform.place({"order": msgspec.to_builtins(order)})
    bench.listen(0.2)
    assert bench.desk.events == []
    (row,) = bench.snapshot().working_orders.rows
    assert row.client_order_id == order.client_order_id


def test_a_snapshot_that_is_late_is_incomplete_and_never_taken_for_another(parts):
    bench, platform, _ = parts
    bench.open()
    answer, slow = platform.snapshot, []

    def answer_late(request):
        if not slow:
            slow.append(request)
            time.sleep(0.35)
        return answer(request)

    platform.snapshot = answer_late
    late = bench.snapshot()
    assert (late.complete, late.request_id) == (False, 77)
    assert bench.count("bridge_snapshots_late") == 1
    time.sleep(0.3)
    assert bench.snapshot().complete


def test_without_a_first_snapshot_there_is_no_session(parts):
    bench, platform, _ = parts
    platform.snapshot = lambda request: {"type": "notice", "level": "info", "text": "busy"}
    with pytest.raises(LinkLostError, match="gave no snapshot within"):
        bench.open()


def test_paper_orders_on_live_data_never_touch_the_platform(parts, tmp_path):
    bench, platform, _ = parts
    paper = PaperAdapter(bench.adapter, PaperSettings(), tmp_path / "nt8.paper")
    paper.connect()
    paper.subscribe([NQ])
    platform.quote("NQ", 18000, 18000.25, 5, 7)
    platform.place({"order": msgspec.to_builtins(order_for(bench))})  # somebody trades there by hand
    order = m.Order(
        **{name: getattr(order_for(bench), name) for name in m.Order.__struct_fields__} | {"account": "PAPER-nt8"}
    )
    deadline = time.monotonic() + patient(20)
    while not bench.feed.writer.tail:
        assert time.monotonic() < deadline
        paper.poll(0.01)
    paper.execute(order)
    while not [event for event in bench.desk.events if isinstance(event, m.Fill)]:
        assert time.monotonic() < deadline
        paper.poll(0.01)
    assert {event.account for event in bench.desk.events} == {"PAPER-nt8"}
    paper.close()
    paper.close_account()
    assert order.client_order_id not in [row.client_order_id for row in bench.open().working_orders.rows]


def test_an_order_by_a_clock_that_is_ahead(parts, monkeypatch):
    """The bridge's machine is two minutes ahead: an order that may be sent for one minute must still pass."""
    bench, _, _ = parts
    real_ns = time.time_ns

    def ahead() -> int:
        return real_ns() + 120 * 10**9

    monkeypatch.setattr("tests.reference_bridge.server.time", _Clock(ahead))
    monkeypatch.setattr("tests.reference_bridge.paper_platform.time", _Clock(ahead))
    bench.open()
    bench.adapter.execute(order_for(bench, not_after_s=60))
    bench.until(lambda: [event for event in bench.desk.events if isinstance(event, m.OrderUpdate)])
    bench.adapter.execute(order_for(bench, not_after_s=-1))
    bench.until(lambda: [e for e in bench.desk.events if isinstance(e, m.Reject) and e.code == "too_late_to_send"])
    bench.until(lambda: bench.count("bridge_clock_offset_us") > 119_000_000)


class _Clock:
    def __init__(self, time_ns) -> None:
        self.time_ns = time_ns
        self.monotonic, self.sleep = time.monotonic, time.sleep


def test_wrong_token_is_a_configuration_error(parts):
    bench, _, server = parts
    server.token = "another token, also long enough"
    with pytest.raises(ConfigError, match="refused the token"):
        bench.adapter.connect()


def test_the_newest_adapter_that_knows_the_token_wins(parts, tmp_path):
    bench, _, server = parts
    bench.open()
    other = BridgeAdapter(bench.feed, {"port": server.port, "token_file": str(tmp_path / "bridge.token")})
    other.connect()
    assert "replaced: another adapter has logged in" in bench.until_lost()
    other.close()


def settings_of(**changes: object) -> BridgeSettings:
    mapping = {"token_file": "/nowhere"} | changes
    return convert_settings(BridgeSettings, mapping, "platform 'nt8': settings")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"host": "192.168.1.7"}, "which is not this machine"),
        ({"host": "bridge.example"}, "which is not this machine"),
        ({"token_file": None}, "token_file is missing"),
        ({"token_env": "BOTH"}, "not both"),
        ({"colour": 1}, "is not a known key"),
        ({"timing": {"heartbeat_ms": 100, "mute_after_ms": 100}}, "must be at least twice heartbeat_ms"),
    ],
)
def test_bad_settings(settings, text):
    with pytest.raises(ConfigError, match=text):
        settings_of(**settings)


def test_another_machine_must_be_meant():
    assert settings_of(host="192.168.1.7", remote=True).host == "192.168.1.7"


def test_token_files_that_are_no_secret(tmp_path):
    path = tmp_path / "bridge.token"
    settings = settings_of(token_file=str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        settings.read_token("nt8")
    path.touch(0o600)
    path.write_text("short")
    with pytest.raises(ConfigError, match="had 5 characters, must be at least 16"):
        settings.read_token("nt8")
    path.write_text("abcde" * 4)
    with pytest.raises(ConfigError, match="had 5 different characters, must be at least 6; make one with python -c"):
        settings.read_token("nt8")
    path.write_text("long enough to be a token\n")
    assert settings.read_token("nt8") == "long enough to be a token"


@pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX")
def test_token_files_that_others_may_read(tmp_path):
    path = tmp_path / "bridge.token"
    path.write_text("long enough to be a token")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=r"mode 0o644.*chmod 600"):
        settings_of(token_file=str(path)).read_token("nt8")


def test_token_from_the_environment(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "0123456789abcdef")
    assert settings_of(token_file=None, token_env="A_TOKEN").read_token("nt8") == "0123456789abcdef"


def test_ports_are_those_of_the_page():
    assert {platform.key: port for platform, port in PORTS.items()} == {
        "nt8": 9001,
        "quantower": 9002,
        "bookmap": 9003,
        "mt5": 9011,
        "mt5_br": 9012,
    }
    assert Platform.SIERRA not in PORTS


def test_no_tick_is_lost_or_doubled_in_a_storm(parts):
    bench, platform, _ = parts
    bench.open()
    bids: list[float] = []
    for number in range(20_000):
        platform.quote("NQ", 10_000 + number, 40_000, 1, 1)
        if number % 200 == 0:
            bench.adapter.poll(0)
            bids += bench.ticks()["bid"].tolist()

    def take() -> bool:
        bids.extend(bench.ticks()["bid"].tolist())
        return bids[-1:] == [29_999.0]

    bench.until(take)
    assert bench.reader.lost == 0
    assert np.array_equal(np.sort(np.unique(bids)), np.array(bids)), "in order, none twice"
    bench.listen(0.2)
    assert len(bids) + bench.count("ticks_dropped_at_source") == 20_000, "what is missing was conflated, and counted"
