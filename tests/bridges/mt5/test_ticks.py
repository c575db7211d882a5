"""Ticks from a stand-in terminal through the real bridge into the ring: all of them, once, whatever dies on the way.

What has arrived is compared with the server's own history, record by record. `MT5_STALL_S` sets the length of the stall
(77 s have been seen in life); the default is what a run in CI can afford.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from nexus_gateway.adapters.base import LinkLostError
from nexus_gateway.shm.symbols import Symbol
from nexus_gateway.shm.tick import TickFlag

from tests.mt5_terminal.attached import attached
from tests.mt5_terminal.control import TICK_DTYPE
from tests.mt5_terminal.module import MetaTrader5 as module
from tests.support.mt5_benches import Mt5Bench
from tests.support.mt5_bridges import load_bridge
from tests.support.patience import patient

STALL_S = float(os.environ.get("MT5_STALL_S", "4"))
RING_SLOTS = 1 << 19
EXTRA_BITS = 0x400
BUY, SELL, LAST, VOLUME, BID, ASK = 32, 64, 8, 16, 2, 4


def make_burst(rng: np.random.Generator, count: int, newest_ms: int, span_ms: int) -> np.ndarray:
    """As WIN at the open: many rows a millisecond, equal trades one after the other, undocumented bits."""
    rows = np.zeros(count, TICK_DTYPE)
    rows["time_msc"] = np.sort(rng.integers(newest_ms - span_ms, newest_ms + 1, count))
    rows["time"] = rows["time_msc"] // 1000
    mid = 130_000 + 5 * rng.integers(-20, 20, count)
    rows["bid"], rows["ask"], rows["last"] = mid, mid + 5, mid
    rows["volume"] = rng.integers(1, 4, count)
    rows["volume_real"] = rows["volume"]
    kinds = np.array([BID, ASK, BID | ASK, LAST | VOLUME | BUY, LAST | VOLUME | SELL], np.uint32)
    rows["flags"] = kinds[rng.integers(0, len(kinds), count)] | EXTRA_BITS
    return rows


class Feed:
    """Pushes rows as if they happened now, from a thread of its own: `rate` a second, and once `burst` more."""

    def __init__(self, bench: Mt5Bench, rate: int, seed: int = 1) -> None:
        self._bench = bench
        self._rate = rate
        self._rng = np.random.default_rng(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._clock_s = time.monotonic()
        self._base_ms = bench.stand_in.server_now_ms()
        self.burst = 0

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        # The stand-in's control line is the test's alone: stamps come from our own clock.
        last_ms = self._base_ms
        while not self._over.wait(0.04):
            now_ms = self._base_ms + int((time.monotonic() - self._clock_s) * 1000)
            span_ms = now_ms - last_ms - 1
            if span_ms > 0:
                count = max(self._rate * span_ms // 1000, 1) + self.burst
                self.burst = 0
                self._push(make_burst(self._rng, count, now_ms, span_ms))
                last_ms = now_ms

    def _push(self, rows: np.ndarray) -> None:
        with self._bench.line:
            self._bench.stand_in.push_ticks(self._bench.name, rows)


@pytest.fixture
def win(tmp_path: Path) -> Iterator[Mt5Bench]:
    """WINZ26 at a Brazilian broker, a session open and nothing missed so far."""
    with Mt5Bench(tmp_path, "b3", slots=RING_SLOTS) as bench:
        bench.bridge.start()
        bench.quote(130_000, 130_005, last=130_000, volume=1)
        bench.open()
        yield bench


def compare(bench: Mt5Bench) -> int:
    """Everything after the first quote is in the ring, in the server's order, each record as its row says."""
    rows = bench.stand_in.ticks(bench.name)[1:]
    arrived: list[np.ndarray] = []

    def complete() -> bool:
        arrived.append(bench.moved())
        return sum(map(len, arrived)) >= len(rows)

    deadline = time.monotonic() + patient(30)
    while not complete():
        assert time.monotonic() < deadline, f"{sum(map(len, arrived))} of {len(rows)} ticks have come"
        try:
            bench.adapter.poll(0.01)
        except LinkLostError:
            bench.reopen()
    bench.keep_open(0.2)
    complete()
    ticks = np.concatenate(arrived)
    assert len(ticks) == len(rows), "none lost, none twice"
    assert np.array_equal(ticks["ts_event_ns"] // 1_000_000, rows["time_msc"] + 3 * 3_600_000), "Brasilia time"
    for name in ("bid", "ask", "last"):
        assert np.array_equal(ticks[name], rows[name]), name
    assert np.array_equal(ticks["last_size"], rows["volume_real"].astype(np.float32))
    for bit, flag in ((BID, TickFlag.BID), (ASK, TickFlag.ASK), (LAST, TickFlag.TRADE), (BUY, TickFlag.BUYER)):
        assert np.array_equal(rows["flags"] & bit != 0, ticks["flags"] & flag != 0), flag
    assert bench.page.values()["bridge_ticks_refused"] == 0
    return len(rows)


def run_while(bench: Mt5Bench, rate: int, deeds: list[Callable[[], None]], pause_s: float = 0.7) -> int:
    """Feed while the deeds are done one after the other; then compare."""
    with Feed(bench, rate):
        bench.keep_open(pause_s)
        for deed in deeds:
            with bench.line:
                deed()
            bench.keep_open(pause_s)
    return compare(bench)


def test_win_at_the_open(win):
    """6,000 ticks a second for 4 s, and 20,000 more within some 40 ms."""
    with Feed(win, 6_000) as feed:
        win.keep_open(2.0)
        feed.burst = 20_000
        win.keep_open(2.0)
    assert compare(win) > 35_000


def test_adapter_reconnects_lose_nothing(win):
    assert run_while(win, 4_000, [win.adapter.close, win.adapter.close, win.adapter.close]) > 5_000


def test_an_adapter_that_dies_leaves_its_place_to_its_successor(win):
    """Nothing of it is left but its ring: what came meanwhile is asked for, and nothing twice."""
    assert run_while(win, 4_000, [win.succeed, win.succeed]) > 4_000


def test_a_killed_bridge_loses_nothing(win):
    def die() -> None:
        win.bridge.kill()
        time.sleep(0.3)
        win.bridge.start()

    assert run_while(win, 4_000, [die, die, die]) > 5_000


def test_a_terminal_that_dies_loses_nothing(win):
    def stay_away() -> None:
        win.stand_in.kill_terminal(stay_down=True)
        threading.Timer(0.5, lambda: _launch(win)).start()

    deeds = [win.stand_in.kill_terminal, win.stand_in.drop_clients, stay_away]
    assert run_while(win, 4_000, deeds, pause_s=1.2) > 5_000


def _launch(bench: Mt5Bench) -> None:
    with bench.line:
        bench.stand_in.launch_terminal()


def test_a_stall_loses_nothing_and_is_seen(win):
    """77 s in life: beyond `mute_after_ms` the adapter marks its quotes stale, and goes on where it was."""
    with Feed(win, 1_000):
        win.keep_open(0.5)
        with win.line:
            win.stand_in.stall(STALL_S)
        began = time.monotonic()
        reason = win.until_lost()
        assert "nothing heard" in reason or "does not listen" in reason
        win.reopen(STALL_S + 30)
        assert time.monotonic() - began > STALL_S - 0.2
        win.keep_open(0.5)
    assert compare(win) > 1_000 * STALL_S * 0.7


def test_a_broker_away_and_back_brings_what_was_missed(win):
    deeds = [win.stand_in.disconnect, win.stand_in.reconnect]
    assert run_while(win, 1_000, deeds, pause_s=2.5) > 2_000


def test_a_slow_adapter_is_waited_for_and_nothing_is_dropped(win):
    with Feed(win, 20_000):
        time.sleep(2.5)  # the adapter reads nothing; its heartbeats stop, too
    assert compare(win) > 40_000
    assert win.page.values()["ticks_dropped_at_source"] == 0


def test_late_ticks_are_counted_and_told(win):
    newest = win.stand_in.ticks(win.name)[-1:]
    win.keep_open(0.3)
    rows = np.concatenate([newest] * 3)
    rows["time_msc"] += np.array([10, 20, 30])
    rows["time"] = rows["time_msc"] // 1000
    win.stand_in.push_ticks(win.name, rows)
    win.wait_moved(3)
    late = rows[:1].copy()
    late["time_msc"] += 5
    win.stand_in.push_late_ticks(win.name, late)
    win.until(lambda: win.page.values()["ticks_dropped_at_source"] == 1, "the late one, counted")
    assert not win.moved().size
    assert "too late" in win.bridge.log()


def test_nonsense_quotes_of_b3_are_gated_and_absent_prices_are_nan(win):
    win.quote(192_490, 157_495, last=176_290, volume=1, flags=BID | ASK | LAST)
    win.quote(0, 130_005)
    win.quote(130_000, 130_000)
    win.quote(130_000, 130_005)
    ticks = win.wait_moved(4)
    assert np.isnan(ticks["bid"]).tolist() == [True, True, True, False]
    assert np.isnan(ticks["ask"]).tolist() == [True, False, True, False]
    assert ticks["last"][0] == 176_290
    win.until(lambda: "2 quotes were none" in win.bridge.log(), "a notice")


def test_a_global_broker_without_trades(tmp_path):
    """New York + 7 h, no last, no volume; locked quotes are quotes there."""
    with Mt5Bench(tmp_path, "global") as bench:
        bench.start(20_000.0, 20_001.0)
        row = bench.quote(20_000.5, 20_000.5)
        (tick,) = bench.wait_moved(1)
        assert (tick["bid"], tick["ask"]) == (20_000.5, 20_000.5)
        assert np.isnan(tick["last"])
        hours = round((int(row["time_msc"]) - tick["ts_event_ns"] / 1e6) / 3_600_000, 3)
        assert hours in (2.0, 3.0)
        assert abs(tick["ts_event_ns"] - time.time_ns()) < 20e9


def test_the_first_tick_ever_is_not_missed(tmp_path):
    with Mt5Bench(tmp_path, "global") as bench:
        bench.bridge.start()
        bench.open()
        for i in range(3):
            bench.quote(20_000.0 + i, 20_001.0 + i)
        assert bench.wait_moved(3)["bid"].tolist() == [20_000.0, 20_001.0, 20_002.0]


def test_a_series_and_an_expired_contract_are_refused(tmp_path):
    with Mt5Bench(tmp_path, "b3") as bench:
        bench.start(130_000, 130_005)
        for change in ({"trade_mode": 0}, {"trade_mode": 4, "expiration_time": 1_600_000_000}):
            bench.stand_in.set_symbol("WINZ26", **change)
            with pytest.raises(LinkLostError, match=r"cannot be traded|has expired"):
                bench.adapter.subscribe((bench.symbol,))


@pytest.mark.parametrize(
    "gone", [{"trade_tick_size": 0.0, "point": 0.0}, {"volume_step": 0.0}, {"trade_tick_value": 0.0}]
)
def test_a_symbol_that_is_not_synchronised_yet_is_waited_for_then_refused(tmp_path, gone):
    """Just selected, its terms are 0: nothing to trade by, and nothing that ends the bridge."""
    with Mt5Bench(tmp_path) as bench:
        bench.start()
        there = {"trade_tick_size": 0.25, "point": 0.25, "volume_step": 1.0, "trade_tick_value": 5.0}
        bench.stand_in.set_symbol(bench.name, **gone)
        with pytest.raises(LinkLostError, match=r"not synchronised yet|tick value of 'NQZ26' was 0"):
            bench.adapter.subscribe((bench.symbol,))
        coming = threading.Timer(0.4, lambda: bench.stand_in.set_symbol(bench.name, **there))
        coming.start()
        bench.reopen()
        coming.join()
        assert bench.adapter.instruments[0].tick_size == Decimal("0.25")
        assert "Traceback" not in bench.bridge.log()


def test_a_date_that_the_module_cannot_take_stops_one_symbol_alone(tmp_path):
    """Its C code raises for dates beyond 2038."""
    with Mt5Bench(tmp_path) as bench:
        bench.stand_in.set_symbol("ESZ26", expiration_time=0)
        bench.start()
        es = Symbol(7, "ES", "ESZ26", 0.25)
        bench.adapter.resume_from(es, 9_000_000_000 * 10**9)
        bench.adapter.subscribe((bench.symbol, es))
        bench.until(lambda: "ES: no ticks, SystemError" in bench.bridge.log(), "a word on it")
        bench.quote(18_001, 18_001.25)
        assert bench.wait_moved(1)["bid"].tolist() == [18_001]
        bench.wait_filled(bench.place())


def test_a_name_that_is_not_there_is_answered_with_those_like_it(tmp_path):
    bridge = load_bridge()
    with attached(tmp_path, "b3"):
        terminal = bridge.Terminal(module, None, None)
        with pytest.raises(bridge.SymbolRefused, match=r"no symbol 'winZ6'.*'WINZ26'"):
            bridge.open_symbol(terminal, "winZ6", 0)
        with pytest.raises(bridge.SymbolRefused) as refused:
            bridge.open_symbol(terminal, "QQQQ", 0)
        assert "it has" not in str(refused.value)


@pytest.mark.parametrize("zone_minutes", [0, 60])
def test_a_wrong_clock_is_told(tmp_path, zone_minutes):
    """Configured an hour off: the ticks' times are wrong, and everybody is told so."""
    with Mt5Bench(
        tmp_path, bridge={"clock": {"utc_offset_minutes": zone_minutes, "dst": "none", "mode": "configured"}}
    ) as bench:
        bench.start()
        for i in range(12):
            bench.quote(18_000 + i, 18_001 + i)
            bench.listen(0.1)
        bench.listen(1.2)
        assert ("configured are 60" in bench.bridge.log()) == (zone_minutes == 60)


def test_a_measured_clock_is_waited_for_and_told(tmp_path):
    clock = {"utc_offset_minutes": 0, "dst": "none", "mode": "measured"}
    with Mt5Bench(tmp_path, "b3", bridge={"clock": clock}) as bench:
        bench.bridge.start()
        bench.quote(130_000, 130_005)
        bench.open()
        assert not bench.adapter.data_up
        stop = time.monotonic() + patient(20)
        while "from now on" not in bench.bridge.log():
            assert time.monotonic() < stop
            bench.quote(130_000, 130_005)
            bench.listen(0.4)
        assert "is -180 minutes ahead of UTC from now on" in bench.bridge.log()
        bench.until(lambda: bench.adapter.data_up, "a status")
        bench.quote(130_005, 130_010)
        tick = bench.wait_moved(1)[-1]
        assert abs(tick["ts_event_ns"] - time.time_ns()) < 20e9


def test_a_roll_within_a_session(tmp_path):
    """What an id stands for changes: its new contract's ticks alone come, and the other symbol just goes on."""
    with Mt5Bench(tmp_path) as bench:
        for name in ("ESZ26", "NQH27"):
            bench.stand_in.set_symbol(name, expiration_time=0)
        bench.start()
        es, rolled = Symbol(7, "ES", "ESZ26", 0.25), Symbol(7, "ES", "NQH27", 0.25)
        bench.stand_in.quote("NQH27", 21_000, 21_000.25)
        bench.adapter.subscribe((bench.symbol, es))
        bench.stand_in.quote("ESZ26", 5_000, 5_000.25)
        bench.quote(18_001, 18_001.25)
        first = bench.wait_moved(2)
        assert {(int(tick["symbol"]), float(tick["bid"])) for tick in first} == {(7, 5_000.0), (3, 18_001.0)}
        for i in range(200):
            bench.stand_in.quote("ESZ26", 5_001 + i, 5_001.25 + i)
        before = bench.feed.writer.tail
        bench.adapter.subscribe((bench.symbol, rolled))
        bench.stand_in.quote("ESZ26", 6_000, 6_000.25)
        bench.stand_in.quote("NQH27", 21_001, 21_001.25)
        bench.quote(18_002, 18_002.25)
        bench.until(lambda: bench.feed.writer.tail >= before + 3, "the new contract's ticks")
        bench.listen(0.2)
        ticks = bench.ticks()
        after = ticks[ticks["seq"] > before]
        assert {(int(tick["symbol"]), float(tick["bid"])) for tick in after} == {
            (7, 21_000.0),
            (7, 21_001.0),
            (3, 18_002.0),
        }
        assert after["flags"][after["bid"] == 21_000.0].tolist() == [TickFlag.SNAPSHOT]
        assert {each.symbol: each.platform_symbol for each in bench.adapter.instruments} == {
            "NQ": "NQZ26",
            "ES": "NQH27",
        }
