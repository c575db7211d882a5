"""The stand-in's terminal: its deaths, stalls, switches, clock and ticks (mt5.md A.1, A.6)."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from tests.mt5_terminal.attached import FUTURE_S, attached, send, until
from tests.mt5_terminal.clock import ServerClock
from tests.mt5_terminal.control import StandIn
from tests.mt5_terminal.market import tick_row
from tests.mt5_terminal.module import MetaTrader5 as mt5
from tests.mt5_terminal.module.MetaTrader5.pipe import PORT_FILE
from tests.mt5_terminal.opening import make_opening, play
from tests.support.patience import patient

BUY, SELL, ALL = mt5.ORDER_TYPE_BUY, mt5.ORDER_TYPE_SELL, mt5.COPY_TICKS_ALL
SYMBOL = "NAS100"


@pytest.fixture
def terminal(tmp_path):
    with attached(tmp_path) as stand_in:
        mt5.symbol_select(SYMBOL)
        stand_in.quote(SYMBOL, 18000.0, 18001.0)
        yield stand_in


def start(stand_in: StandIn, code: str) -> subprocess.Popen:
    """Run this in a process of its own, where MetaTrader5 is the stand-in."""
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, env=stand_in.environment(), stdout=subprocess.PIPE, text=True)


def test_a_killed_terminal_comes_back_with_everything(terminal):
    opened = send(SYMBOL, BUY, 1.0)
    terminal.kill_terminal(stay_down=True)
    assert not terminal.is_running
    assert not (terminal.folder / PORT_FILE).exists()
    assert mt5.positions_get() is None
    assert mt5.last_error() == (-10001, "IPC send failed")
    assert mt5.positions_get() is None
    assert mt5.last_error() == (-10001, "IPC send failed")
    terminal.quote(SYMBOL, 18010.0, 18011.0)  # the market goes on without it
    terminal.hand_trade(SYMBOL, "buy", 2.0)
    terminal.launch_terminal(build=5900)
    assert mt5.initialize(str(terminal.exe))
    assert mt5.terminal_info().build == 5900
    assert mt5.version()[1] == 5900
    assert [each.volume for each in mt5.positions_get()] == [1.0, 2.0]
    assert mt5.positions_get()[0].ticket == opened.order
    assert list(mt5.copy_ticks_from(SYMBOL, 1_000_000_000, 10, ALL)["bid"]) == [18000.0, 18010.0]
    assert mt5.symbol_info(SYMBOL).select, "the Market Watch is kept"


def test_a_terminal_that_dies_within_a_call_closes_the_line(terminal):
    terminal.script("answer_lost")
    assert send(SYMBOL, BUY, 1.0) is None
    assert mt5.last_error() == (-10002, "IPC recv failed")
    assert mt5.account_info() is None
    assert mt5.last_error() == (-10004, "No IPC connection"), "the broken read has closed the handle"
    assert mt5.initialize(str(terminal.exe))
    assert len(mt5.positions_get()) == 1, "executed, though nobody was told"


def test_initialize_launches_the_terminal(terminal):
    terminal.kill_terminal()
    assert mt5.initialize(str(terminal.exe), portable=True)
    assert terminal.is_running
    assert terminal.launches() == ["/portable"]


def test_a_terminal_that_is_not_launched_is_waited_for_in_vain(tmp_path):
    with StandIn(tmp_path, launches=False, running=False, launch_wait_s=1.0) as stand_in:
        assert mt5.initialize(str(stand_in.exe)) is False
        assert mt5.last_error() == (-10003, "IPC initialize failed, Pipe server didn't answer in 60 sec")
        stand_in.launch_terminal()
        assert mt5.initialize(str(stand_in.exe))
        mt5.shutdown()


def test_logging_in(terminal):
    path = str(terminal.exe)
    assert mt5.initialize(path, login=5001234, server="StandIn-Demo", password="right")
    assert mt5.login(5001234, "right", "StandIn-Demo")
    for wrong in ({"login": 1}, {"login": 5001234, "password": "wrong"}, {"login": 5001234, "server": "Other"}):
        assert mt5.login(**wrong) is False
        assert mt5.last_error() == (-6, "Terminal: Authorization failed")
    terminal.refuse_login()
    assert mt5.initialize(path) is False
    assert mt5.last_error() == (-6, "Terminal: Authorization failed")
    assert mt5.positions_get() is None
    assert mt5.last_error()[0] == -10004, "a failed initialize leaves no line"
    terminal.never_ready()
    assert mt5.initialize(path, timeout=300) is False
    assert mt5.last_error() == (-10005, "IPC timeout")
    terminal.never_ready(False)
    assert mt5.initialize(path)
    terminal.set_account(login=77, server="Elsewhere", company="Other Ltd")
    assert mt5.account_info()[0] == 77


def test_a_stall_blocks_every_call_and_loses_nothing(terminal):
    terminal.stall(0.5)
    rows = make_opening(1000, terminal.server_now_ms())
    terminal.push_ticks(SYMBOL, rows)
    started = time.monotonic()
    ticks = mt5.copy_ticks_from(SYMBOL, int(rows["time"][0]), 5000, ALL)
    assert time.monotonic() - started > 0.3
    assert np.array_equal(ticks[-1000:], rows)


@pytest.mark.skipif(sys.platform == "win32", reason="there terminate is a kill")
def test_a_hung_terminal_answers_when_it_is_released(terminal):
    """From a process of its own: none of its signal handlers runs, nothing but a kill ends it."""
    code = (
        "import MetaTrader5 as m, os, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(3))\n"
        "print('calls', flush=True)\n"
        f"print(m.initialize({str(terminal.exe)!r}), m.positions_total(), flush=True)\n"
    )
    for is_asked_to_end in (True, False):
        terminal.hang()
        child = start(terminal, code)
        assert child.stdout.readline() == "calls\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1.0)
        if is_asked_to_end:
            child.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.5)
        terminal.release()
        out, _ = child.communicate(timeout=patient(20))
        assert (child.returncode, out.split()) == ((3, []) if is_asked_to_end else (0, ["True", "0"]))


def test_an_order_that_waited_in_a_hung_terminal_is_executed(terminal):
    terminal.stall(0.3)
    assert send(SYMBOL, BUY, 1.0).retcode == mt5.TRADE_RETCODE_DONE


def test_a_client_that_stopped_reading_stops_nobody_else(terminal):
    first_msc = 1_800_000_000_000
    rows = make_opening(300_000, first_msc)  # 18 MB: more than any socket buffer holds
    terminal.push_ticks(SYMBOL, rows)
    code = (
        f"import MetaTrader5 as m; m.initialize({str(terminal.exe)!r})\n"
        f"print(len(m.copy_ticks_from({SYMBOL!r}, {first_msc // 1000}, 1_000_000, -1)))"
    )
    terminal.slow_calls("copy_ticks_from", 0.3)
    child = psutil.Process((process := start(terminal, code)).pid)
    until(lambda: terminal.calls().get("copy_ticks_from"), "its call")
    child.suspend()
    time.sleep(0.5)
    assert terminal.quote(SYMBOL, 18002.0, 18003.0, time_msc=int(rows["time_msc"][-1]) + 1)["bid"] == 18002.0
    assert mt5.symbol_info_tick(SYMBOL).bid == 18002.0
    child.resume()
    assert process.communicate(timeout=patient(20))[0].split() == [str(len(rows))]


def test_a_busy_terminal_lets_the_next_client_in_when_one_goes(tmp_path):
    with StandIn(tmp_path, clients_max=1) as stand_in:
        assert mt5.initialize(str(stand_in.exe))
        code = (
            "import MetaTrader5 as m; print('calls', flush=True)\n"
            f"print(m.initialize({str(stand_in.exe)!r}), m.positions_total())"
        )
        child = start(stand_in, code)
        assert child.stdout.readline() == "calls\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1.0)
        mt5.shutdown()
        assert child.communicate(timeout=patient(20))[0].split() == ["True", "0"]


def test_two_clients_on_one_terminal(terminal):
    code = f"import MetaTrader5 as m; m.initialize({str(terminal.exe)!r}); print(m.positions_total())"
    send(SYMBOL, BUY, 1.0)
    assert start(terminal, code).communicate(timeout=patient(20))[0].split() == ["1"]


def test_without_the_broker_the_terminal_shows_what_it_knew(terminal):
    send(SYMBOL, BUY, 1.0)
    terminal.disconnect()
    assert not mt5.terminal_info().connected
    terminal.quote(SYMBOL, 18010.0, 18011.0)
    terminal.hand_close()
    assert mt5.symbol_info_tick(SYMBOL).bid == 18000.0
    assert len(mt5.copy_ticks_from(SYMBOL, 1_000_000_000, 10, ALL)) == 1
    assert len(mt5.positions_get()) == 1
    assert send(SYMBOL, BUY, 1.0).retcode == mt5.TRADE_RETCODE_CONNECTION
    terminal.reconnect()
    assert mt5.positions_get() == ()
    assert list(mt5.copy_ticks_from(SYMBOL, 1_000_000_000, 10, ALL)["bid"]) == [18000.0, 18010.0]
    assert len(mt5.history_deals_get(1_000, FUTURE_S)) == 3
    terminal.freeze()
    terminal.quote(SYMBOL, 18020.0, 18021.0)
    assert mt5.terminal_info().connected, "the silent loss: nothing new, and all seems well"
    assert mt5.symbol_info_tick(SYMBOL).bid == 18010.0
    terminal.thaw()


@pytest.mark.parametrize(
    ("switch", "retcode"),
    [
        (lambda each: each.set_switches(trade_allowed=False), mt5.TRADE_RETCODE_CLIENT_DISABLES_AT),
        (lambda each: each.set_account(trade_expert=False), mt5.TRADE_RETCODE_SERVER_DISABLES_AT),
        (lambda each: each.set_account(trade_allowed=False), mt5.TRADE_RETCODE_TRADE_DISABLED),
    ],
)
def test_switches(terminal, switch, retcode):
    switch(terminal)
    assert send(SYMBOL, BUY, 1.0).retcode == retcode
    flags = (mt5.terminal_info().trade_allowed, mt5.account_info().trade_expert, mt5.account_info().trade_allowed)
    assert flags.count(False) == 1
    assert mt5.positions_get() == ()


def test_the_option_that_disables_the_python_api(terminal):
    terminal.set_switches(tradeapi_disabled=True)
    assert send(SYMBOL, BUY, 1.0) is None
    assert mt5.last_error() == (-8, "Auto-Trading using Python API disabled in Terminal")
    assert mt5.terminal_info().tradeapi_disabled
    assert mt5.positions_get() == (), "data calls go on"


def test_ticks_are_kept_to_the_bit(terminal):
    first_msc = 1_800_000_000_000
    rows = make_opening(20_000, first_msc)
    for part in np.array_split(rows, 7):
        terminal.push_ticks(SYMBOL, part)
    assert np.array_equal(terminal.ticks(SYMBOL)[1:], rows)
    assert np.array_equal(mt5.copy_ticks_from(SYMBOL, first_msc // 1000, 100_000, ALL), rows)
    second = int(rows["time"][10_000])
    expected = rows[rows["time"] >= second][:500]
    assert np.array_equal(mt5.copy_ticks_from(SYMBOL, second, 500, ALL), expected)
    assert len(np.unique(rows["time_msc"])) < len(rows) / 2, "many share a millisecond"
    quotes = mt5.copy_ticks_from(SYMBOL, first_msc // 1000, 100_000, mt5.COPY_TICKS_INFO)
    trades = mt5.copy_ticks_from(SYMBOL, first_msc // 1000, 100_000, mt5.COPY_TICKS_TRADE)
    assert np.array_equal(quotes, rows[rows["flags"] & 6 != 0])
    assert np.array_equal(trades, rows[rows["flags"] & 24 != 0])


def test_an_opening_in_real_time(terminal):
    began_msc = terminal.server_now_ms()
    played = play(terminal, SYMBOL, make_opening(2_000, 0), ticks_per_s=4_000)
    assert np.array_equal(terminal.ticks(SYMBOL)[1:], played)
    assert played["time_msc"][-1] - played["time_msc"][0] >= 400, "it took its time"
    assert began_msc <= played["time_msc"][0]
    assert np.array_equal(played["last"], make_opening(2_000, 0)["last"])
    equal = played[1:] == played[:-1]
    assert equal.any(), "equal trades in a row, in the same millisecond"


def test_late_ticks_lie_behind_those_of_the_same_millisecond(terminal):
    base = 1_800_000_000_000
    rows = [tick_row(bid=float(n), ask=9.0, time_msc=base + n // 2, flags=6) for n in range(4)]
    terminal.push_ticks(SYMBOL, np.concatenate(rows))
    terminal.push_late_ticks(SYMBOL, tick_row(bid=50.0, ask=59.0, time_msc=base, flags=6))
    bids = mt5.copy_ticks_from(SYMBOL, base // 1000, 100, ALL)["bid"]
    assert list(bids) == [0.0, 1.0, 50.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="goes back"):
        terminal.push_ticks(SYMBOL, tick_row(bid=1.0, ask=2.0, time_msc=base))
    terminal.forget_ticks(SYMBOL, base + 1)
    assert list(mt5.copy_ticks_from(SYMBOL, 1_000_000_000, 100, ALL)["bid"]) == [2.0, 3.0]


def test_the_clock_is_the_servers_wall_clock(terminal):
    winter = datetime.datetime(2026, 1, 15, tzinfo=datetime.UTC)
    summer = datetime.datetime(2026, 7, 15, tzinfo=datetime.UTC)
    clock = ServerClock("ny+7")
    hours = [clock.offset_ms(int(each.timestamp() * 1000)) / 3_600_000 for each in (winter, summer)]
    assert hours == [2.0, 3.0]
    # Europe's clocks had changed on 2026-03-29, America's on 2026-03-08: the server follows America.
    between = datetime.datetime(2026, 3, 15, tzinfo=datetime.UTC)
    assert clock.offset_ms(int(between.timestamp() * 1000)) == 3 * 3_600_000
    row = terminal.quote(SYMBOL, 18002.0, 18003.0)
    hour_ms = 3_600_000
    ahead = (int(row["time_msc"]) - time.time_ns() // 1_000_000) / hour_ms
    assert round(ahead) in (2, 3)
    deal = mt5.history_deals_get(1_000, FUTURE_S)[0]
    assert abs(deal.time_msc - int(row["time_msc"])) < hour_ms / 2, "all times are of one clock"
    assert mt5.history_deals_get(1_000, int(time.time())) == (), "an end in UTC misses the newest deals"
    terminal.set_clock(zone="utc-3")
    assert round((terminal.server_now_ms() - time.time_ns() // 1_000_000) / hour_ms) == -3


def test_depth(terminal):
    assert mt5.market_book_get(SYMBOL) is None
    assert mt5.market_book_add(SYMBOL) is True
    assert mt5.market_book_get(SYMBOL) == (), "subscribed, and no level: as on the demo servers probed"
    terminal.set_depth(SYMBOL, [(1, 18002.0, 5.0), (1, 18001.0, 3.0), (2, 18000.0, 4.0)])
    assert mt5.market_book_get(SYMBOL)[0] == (1, 18002.0, 5, 5.0)
    assert mt5.market_book_release(SYMBOL) is True
    assert mt5.market_book_release(SYMBOL) is False


def test_the_bridge_dies_and_the_terminal_remembers(terminal):
    code = (
        "import MetaTrader5 as m, os\n"
        f"m.initialize({str(terminal.exe)!r})\n"
        f"m.order_send(dict(action=1, symbol={SYMBOL!r}, type=0, volume=1.0, type_filling=1))\n"
        "os._exit(9)\n"
    )
    start(terminal, code).communicate(timeout=patient(20))
    assert until(mt5.positions_get, "the position")[0].volume == 1.0
    assert terminal.truth().net(SYMBOL) == 1.0
    assert terminal.calls()["order_send"] == 1
    assert terminal.requests()[0]["retcode"] == mt5.TRADE_RETCODE_DONE
