"""The stand-in's module: calling conventions, limits, results, errors (mt5.md A.1 to A.4, and the wheel's own code)."""

from __future__ import annotations

import datetime
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.mt5_terminal.attached import attached, pend, send
from tests.mt5_terminal.control import StandIn
from tests.mt5_terminal.market import tick_row
from tests.mt5_terminal.module import MetaTrader5 as mt5

OK = (1, "Success")
ORDER = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "NAS100", "volume": 1.0, "type": mt5.ORDER_TYPE_BUY}


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory):
    with attached(tmp_path_factory.mktemp("mt5")) as running:
        assert mt5.symbol_select("NAS100", True)
        running.quote("NAS100", 18000.0, 18001.0)
        yield running


def test_keywords_are_refused_where_the_c_function_takes_none(stand_in):
    for function, keywords in (
        (mt5.symbol_info, {"symbol": "NAS100"}),
        (mt5.symbol_info_tick, {"symbol": "NAS100"}),
        (mt5.symbol_select, {"symbol": "NAS100"}),
        (mt5.copy_ticks_from, {"symbol": "NAS100", "date_from": 1, "count": 1, "flags": -1}),
        (mt5.market_book_add, {"symbol": "NAS100"}),
        (mt5.history_deals_total, {"date_from": 1, "date_to": 2}),
        (mt5.last_error, {"x": 1}),
        (mt5.shutdown, {"x": 1}),
    ):
        with pytest.raises(TypeError):
            function(**keywords)
    with pytest.raises(TypeError):
        mt5.version(1)


def test_none_false_and_empty_mean_different_things(stand_in):
    assert mt5.positions_get() == ()
    assert mt5.positions_get(ticket=123456) == ()
    assert mt5.orders_get(symbol="NAS100") == ()
    assert mt5.last_error() == OK
    assert mt5.positions_get("NAS100") is None
    assert mt5.last_error() == (-2, "Unnamed arguments not allowed")
    assert mt5.symbol_info("NOSUCH") is None
    assert mt5.last_error() == (-4, "Terminal: Not found")
    assert mt5.symbol_select("NOSUCH", True) is False
    assert mt5.last_error() == (-4, "Terminal: Not found")
    assert mt5.copy_ticks_from("NOSUCH", 1_000_000_000, 10, mt5.COPY_TICKS_ALL) is None
    assert mt5.market_book_add("NOSUCH") is False
    assert mt5.market_book_add(5) is None
    assert mt5.last_error() == (-2, "Invalid arguments")
    # The wheel's own inconsistency: the only list that says False when its arguments are wrong.
    assert mt5.symbols_get("A*", "B*") is False
    assert mt5.last_error() == (-2, "Invalid number of arguments")
    assert mt5.symbols_get(group=5) is False
    assert mt5.symbols_get(group="nothing*") == ()


def test_the_error_pair_is_reset_by_the_next_call(stand_in):
    mt5.symbol_info("NOSUCH")
    assert mt5.last_error()[0] == -4
    assert mt5.last_error()[0] == -4, "asking does not change it"
    mt5.symbols_total()
    assert mt5.last_error() == OK


def test_symbols_and_groups(stand_in):
    assert mt5.symbols_total() == 7
    assert [each.name for each in mt5.symbols_get("US*,!US30")] == ["US100.cash", "USTEC.m", "US500"]
    assert [each.name for each in mt5.symbols_get(group="NAS*")] == ["NAS100"]
    assert len(mt5.symbols_get()) == 7


def test_a_symbol_must_be_selected(stand_in):
    assert not mt5.symbol_info("US30").select
    assert mt5.symbol_info_tick("US30") is None
    assert mt5.last_error() == (-4, "Terminal: Not found")
    stand_in.quote("US30", 40000.0, 40002.0)
    assert mt5.symbol_info("US30").bid == 0.0, "stale zeros as long as nobody watches it"
    assert mt5.symbol_select("US30")
    assert mt5.symbol_info("US30").bid == 40000.0
    assert mt5.symbol_select("US30", False)


@pytest.mark.parametrize("name", ["volume", "price", "stoplimit", "sl", "tp"])
def test_prices_and_volumes_must_be_float(stand_in, name):
    for refused in (1, "1", None, np.int64(1)):
        assert mt5.order_send(ORDER | {name: refused}) is None
        assert mt5.last_error() == (-2, f'Invalid "{name}" argument')
    result = mt5.order_check(
        {"action": mt5.TRADE_ACTION_DEAL, "symbol": "NAS100", "volume": 1.0} | {name: np.float64(1)}
    )
    assert result is not None, "numpy's float64 is a float"


@pytest.mark.parametrize(
    "name", ["action", "magic", "order", "deviation", "type", "type_filling", "type_time", "position", "position_by"]
)
def test_numbers_must_be_int_and_fit(stand_in, name):
    for refused in (1.0, "1", None, np.int64(1)):
        assert mt5.order_send(ORDER | {name: refused}) is None
        assert mt5.last_error() == (-2, f'Invalid "{name}" argument')
    for refused in (-1, 1 << 64):
        # The C code leaves the OverflowError behind.
        with pytest.raises(SystemError, match="returned a result with an exception set"):
            mt5.order_send(ORDER | {name: refused})
        assert mt5.last_error() == (-2, f'Invalid "{name}" argument')


def test_the_longest_symbol_and_comment(stand_in):
    assert send("NAS100", mt5.ORDER_TYPE_BUY, 1.0, comment="c" * 30) is None
    assert mt5.last_error() == (-2, 'Invalid "comment" argument')
    assert send("S" * 30, mt5.ORDER_TYPE_BUY, 1.0) is None
    assert mt5.last_error() == (-2, 'Invalid "symbol" argument')
    assert send("S" * 29, mt5.ORDER_TYPE_BUY, 1.0).retcode == mt5.TRADE_RETCODE_INVALID
    assert mt5.symbol_info("S" * 29) is None
    assert mt5.last_error()[0] == -4
    assert mt5.symbol_info("S" * 30) is None
    assert mt5.last_error() == (-2, "Invalid arguments")
    assert mt5.positions_get(group="g" * 1997) == ()
    assert mt5.positions_get(group="g" * 1998) is None
    assert send("NAS100", mt5.ORDER_TYPE_BUY, 1.0, expiration=datetime.datetime(2030, 1, 1)) is None
    assert mt5.last_error() == (-2, 'Invalid "expiration" argument')
    assert mt5.initialize(path="p" * 258) is False
    assert mt5.last_error() == (-2, 'Invalid "path" argument')
    assert mt5.initialize(str(stand_in.exe)), "refused arguments have closed the line all the same"


def test_the_request_and_what_becomes_of_wrong_ones(stand_in):
    assert mt5.order_send({"volum": 1.0}).retcode == mt5.TRADE_RETCODE_INVALID, "unknown keys are ignored in silence"
    zero = mt5.order_send(request={"action": mt5.TRADE_ACTION_DEAL})
    assert zero.request == (0, 0, 0, "", 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0, "", 0, 0)
    assert zero.retcode == mt5.TRADE_RETCODE_INVALID
    assert mt5.order_send({"action": 1}, volume=1.0) is None
    assert mt5.last_error() == (-2, "Unnamed arguments not allowed")
    assert mt5.order_send() is None
    assert mt5.last_error() == (-2, "Invalid number of arguments")
    assert mt5.order_send([1]) is None
    assert mt5.last_error() == (-2, "Invalid arguments")
    by_keywords = mt5.order_send(action=mt5.TRADE_ACTION_DEAL, symbol="NAS100", volume=0.05, magic=3)
    assert (by_keywords.retcode, by_keywords.request.magic) == (mt5.TRADE_RETCODE_INVALID_VOLUME, 3)


def test_results_are_struct_sequences(stand_in):
    tick = mt5.symbol_info_tick("NAS100")
    assert isinstance(tick, tuple)
    assert tick == tuple(tick)
    assert (tick.bid, tick[1], tick._asdict()["bid"]) == (18000.0, 18000.0, 18000.0)
    assert tick.n_fields == 8
    assert repr(tick).startswith("Tick(time=")
    assert not hasattr(tick, "_fields")
    assert not hasattr(tick, "_replace")
    with pytest.raises(pickle.PicklingError, match="attribute lookup Tick on builtins failed"):
        pickle.dumps(tick)
    with pytest.raises(AttributeError):
        tick.bid = 1.0
    sizes = [len(each) for each in (mt5.account_info(), mt5.terminal_info(), mt5.symbol_info("NAS100"))]
    assert sizes == [28, 22, 96]
    assert isinstance(mt5.account_info().trade_allowed, bool)
    assert isinstance(mt5.symbol_info("NAS100").volume_min, float)
    assert mt5.version() == (500, 5833, "12 Nov 2026")


def test_arrays_are_packed_to_60_bytes_a_row(stand_in):
    ticks = mt5.copy_ticks_from("NAS100", 1_000_000_000, 1, mt5.COPY_TICKS_ALL)
    bars = mt5.copy_rates_from_pos("NAS100", mt5.TIMEFRAME_M1, 0, 10)
    assert (ticks.dtype.itemsize, bars.dtype.itemsize) == (60, 60)
    assert [ticks.dtype.fields[name][1] for name in ticks.dtype.names] == [0, 8, 16, 24, 32, 40, 48, 52]
    assert ticks.dtype.names == ("time", "bid", "ask", "last", "volume", "time_msc", "flags", "volume_real")
    assert bars.dtype.names == ("time", "open", "high", "low", "close", "tick_volume", "spread", "real_volume")
    assert bars[-1]["close"] == 18000.0
    assert bars[-1]["time"] % 60 == 0
    assert len(mt5.copy_rates_range("NAS100", mt5.TIMEFRAME_H1, 0.5e9, 2e9)) == 1


def test_dates_are_whole_seconds_of_32_bits(stand_in):
    stand_in.set_symbol("DATES", digits=2)
    assert mt5.symbol_select("DATES")
    first_ms = 1_700_000_000_000
    rows = np.concatenate(
        [tick_row(bid=float(n), ask=n + 1.0, time_msc=first_ms + 250 * n, flags=6) for n in range(1, 9)]
    )
    stand_in.push_ticks("DATES", rows)

    def first_bid(date: object) -> float:
        return mt5.copy_ticks_from("DATES", date, 1, mt5.COPY_TICKS_ALL)["bid"][0]

    assert first_bid(1_700_000_001) == 4.0
    assert first_bid(1_700_000_001.999) == 4.0, "the part of a second is cut off"
    assert first_bid(datetime.datetime.fromtimestamp(1_700_000_001.9)) == 4.0, "naive: local time of this machine"
    assert first_bid(datetime.datetime.fromtimestamp(1_700_000_001, datetime.UTC)) == 4.0
    with pytest.raises(SystemError) as raised:
        first_bid(first_ms)
    assert isinstance(raised.value.__cause__, OverflowError), "milliseconds do not fit a C long of Windows"
    assert first_bid(float(first_ms)) == 1.0, "a float that does not fit becomes the smallest integer"
    assert len(mt5.copy_ticks_from("DATES", 0, 100, mt5.COPY_TICKS_ALL)) == 0, "0 leaves an undefined date"
    assert len(mt5.copy_ticks_range("DATES", 1_700_000_001, 1_700_000_001, mt5.COPY_TICKS_ALL)) == 1
    assert len(mt5.copy_ticks_range("DATES", 1_700_000_000, 1_700_000_002, mt5.COPY_TICKS_ALL)) == 8
    assert mt5.copy_ticks_from("DATES", "2023", 1, mt5.COPY_TICKS_ALL) is None
    assert mt5.copy_ticks_from("DATES", 1, 1) is None
    with pytest.raises(SystemError):
        mt5.copy_ticks_from("DATES", 1, "1", mt5.COPY_TICKS_ALL)


def test_history_wants_a_range_a_ticket_or_a_position(stand_in):
    assert mt5.history_deals_get() is None
    assert mt5.last_error() == (-2, "Invalid arguments")
    assert mt5.history_deals_get(1_000) is None
    assert mt5.history_deals_get(1_000, ticket=5) is None
    assert mt5.last_error() == (-2, "Unnamed arguments not allowed")
    assert mt5.history_orders_get(ticket=5) == ()
    assert mt5.history_deals_get(position=5) == ()
    (deposit,) = mt5.history_deals_get(1_000, 2**31 - 1)
    assert (deposit.type, deposit.symbol, deposit.profit) == (mt5.DEAL_TYPE_BALANCE, "", 1_000_000.0)
    assert mt5.history_deals_total(1_000, 2**31 - 1) == 1
    assert mt5.history_deals_get(1_000, 2**31 - 1, group="NAS*") == ()


def test_calculations(stand_in):
    assert mt5.order_calc_profit(mt5.ORDER_TYPE_BUY, "NAS100", 2.0, 18000.0, 18010.0) == 20.0
    assert mt5.order_calc_profit(mt5.ORDER_TYPE_SELL, "NAS100", 2, 18000, 18010) == -20.0, "ints are welcome here"
    assert mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, "NAS100", 1.0, 18000.0) == 180.0
    assert mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, "NOSUCH", 1.0, 18000.0) is None
    with pytest.raises(SystemError):
        mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, "NAS100", "1", 18000.0)


def test_a_call_holds_the_interpreter(stand_in):
    """No other thread of the process runs while the terminal thinks; a sleep lets it run."""
    counted = [0]
    over = threading.Event()

    def count() -> None:
        while not over.is_set():
            counted[0] += 1

    def counts_during(action) -> int:
        before = counted[0]
        action()
        return counted[0] - before

    thread = threading.Thread(target=count)
    thread.start()
    try:
        free = counts_during(lambda: time.sleep(0.6))
        stand_in.slow_calls("copy_ticks_from", 0.6)
        held = counts_during(lambda: mt5.copy_ticks_from("NAS100", 1_000_000_000, 10, mt5.COPY_TICKS_ALL))
        stand_in.script("slow", after_ms=600)
        held_by_order = counts_during(lambda: pend("NAS100", mt5.ORDER_TYPE_BUY_LIMIT, 1.0, 17000.0))
    finally:
        over.set()
        thread.join()
    # Not zero: before and after the call itself, Python switches threads as ever.
    assert held < free / 5
    assert held_by_order < free / 5


def test_without_a_terminal(tmp_path: Path):
    mt5.shutdown()
    assert mt5.account_info() is None
    assert mt5.last_error() == (-10004, "No IPC connection")
    assert mt5.order_send({"action": 1}) is None
    assert mt5.last_error() == (-10004, "No IPC connection")
    assert mt5.positions_get() is None
    assert mt5.symbol_select("NAS100") is False
    assert mt5.initialize() is False
    assert mt5.last_error() == (-10003, "IPC initialize failed, MetaTrader 5 x64 not found")
    missing = str(tmp_path / "terminal64.exe")
    assert mt5.initialize(missing) is False
    assert mt5.last_error() == (-10003, f"IPC initialize failed, Process create failed '{missing}'")
    assert mt5.initialize(missing, "x") is False
    assert mt5.last_error() == (-2, "Invalid number of arguments")
    assert mt5.login() is False
    assert mt5.last_error() == (-2, 'Invalid "login" argument')
    assert mt5.shutdown() is True


def test_each_process_has_one_line_and_the_path_picks_the_terminal(tmp_path: Path):
    with StandIn(tmp_path / "a", "global") as first, StandIn(tmp_path / "b", "b3") as second:
        assert mt5.initialize(str(first.exe), portable=True)
        assert mt5.account_info().currency == "USD"
        assert mt5.initialize(str(second.exe)), "again is a reconnect"
        assert mt5.account_info().currency == "BRL"
        assert mt5.terminal_info().path == str(tmp_path / "b")
        mt5.shutdown()
