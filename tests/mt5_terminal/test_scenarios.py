"""The stand-in's scenarios: what each does to an order, as its README says and as the module's caller sees it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from nexus_gateway.adapters.paper.scenarios import SCENARIOS as PAPER_SCENARIOS

from tests.mt5_terminal import scenarios
from tests.mt5_terminal.attached import attached, deals_of, pend, send, until
from tests.mt5_terminal.control import MODULE_FOLDER, StandIn
from tests.mt5_terminal.module import MetaTrader5 as mt5
from tests.support.patience import patient

BUY = mt5.ORDER_TYPE_BUY
DONE, PLACED, PARTIAL = mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_PLACED, mt5.TRADE_RETCODE_DONE_PARTIAL
SYMBOLS = {"global": "NAS100", "futures": "NQZ26"}


@pytest.fixture(scope="module", params=SYMBOLS)
def running(request, tmp_path_factory):
    """A stand-in of each kind of execution: MARKET (hedging), EXCHANGE (netting)."""
    preset = request.param
    with attached(tmp_path_factory.mktemp("mt5"), preset, rehearse=True, exchange_delay_ms=10) as stand_in:
        mt5.symbol_select(SYMBOLS[preset])
        yield stand_in, SYMBOLS[preset]


@pytest.fixture
def stand_in(running):
    """The same, with a quiet market and nothing left of the test before."""
    terminal, symbol = running
    terminal.script_all(None)
    terminal.quote(symbol, 18000.0, 18000.25)
    for order in terminal.truth().orders:
        terminal.hand_cancel(order["ticket"])
    terminal.hand_close()
    return terminal


@pytest.fixture
def symbol(running):
    return running[1]


def listed(order: int, count: int = 1) -> tuple:
    return until(lambda: deals_of(order) if len(deals_of(order)) >= count else (), f"{count} deals of {order}")


def history(order: int) -> object:
    return until(lambda: mt5.history_orders_get(ticket=order), "the order in the history")[0]


def test_every_scenario_of_the_paper_account_has_its_twin():
    for name in PAPER_SCENARIOS:
        assert scenarios.make_plan(name, {}).name == name
    with pytest.raises(ValueError, match="must be one of reject"):
        scenarios.make_plan("no such", {})
    with pytest.raises(ValueError, match="terms of reject"):
        scenarios.make_plan("reject", {"after_ms": 5})


@pytest.mark.parametrize("retcode", [10004, 10006, 10018, 10019, 10020, 10021, 10024])
def test_refused_with_any_retcode(stand_in, symbol, retcode):
    stand_in.script("reject", retcode=retcode)
    result = send(symbol, BUY, 1.0)
    assert (result.retcode, result.deal, result.order) == (retcode, 0, 0)
    assert (result.bid, result.ask) == (18000.0, 18000.25)
    assert stand_in.truth().positions == []


def test_partial_then_fill(stand_in, symbol):
    stand_in.script("partial_then_fill", after_ms=300)
    result = send(symbol, BUY, 12.0)
    assert result.retcode == (PARTIAL if symbol == "NAS100" else PLACED)
    (first,) = listed(result.order)
    (order,) = mt5.orders_get(ticket=result.order)
    assert (order.state, order.volume_initial, order.volume_current) == (mt5.ORDER_STATE_PARTIAL, 12.0, 6.0)
    deals = listed(result.order, 2)
    assert [deal.volume for deal in deals] == [6.0, 6.0]
    assert first.ticket == deals[0].ticket
    assert history(result.order).state == mt5.ORDER_STATE_FILLED
    assert mt5.positions_get(symbol=symbol)[0].volume == 12.0


def test_partial_then_cancel_by_volume(stand_in, symbol):
    result = send(symbol, BUY, 13.0)
    (deal,) = listed(result.order)
    order = history(result.order)
    assert (order.state, order.volume_current) == (mt5.ORDER_STATE_CANCELED, 13.0 - deal.volume)
    assert 0 < deal.volume < 13.0


@pytest.mark.parametrize("lots", [14.0, 15.0])
def test_filled_by_the_very_command_that_would_change_it(stand_in, symbol, lots):
    order = pend(symbol, mt5.ORDER_TYPE_BUY_LIMIT, lots, 17000.0).order
    action = mt5.TRADE_ACTION_REMOVE if lots == 14.0 else mt5.TRADE_ACTION_MODIFY
    result = mt5.order_send({"action": action, "order": order, "symbol": symbol, "price": 17500.0})
    assert result.retcode == mt5.TRADE_RETCODE_INVALID
    assert listed(order)[0].volume == lots
    assert mt5.orders_get(ticket=order) == ()


def test_market_orders_rest_when_they_are_told_to(stand_in, symbol):
    order = send(symbol, BUY, 35.0).order
    assert mt5.orders_get(ticket=order)[0].state == mt5.ORDER_STATE_PLACED
    assert mt5.order_send({"action": mt5.TRADE_ACTION_REMOVE, "order": order}).retcode == DONE
    stubborn = send(symbol, BUY, 34.0).order
    assert mt5.order_send({"action": mt5.TRADE_ACTION_REMOVE, "order": stubborn}).retcode == mt5.TRADE_RETCODE_FROZEN
    assert len(mt5.orders_get(ticket=stubborn)) == 1
    stand_in.script("unsolicited_cancel", after_ms=100)
    assert history(send(symbol, BUY, 1.0).order).state == mt5.ORDER_STATE_CANCELED


def test_accepted_first_and_rejected_later(stand_in, symbol):
    stand_in.script("rejected_later", after_ms=100)
    result = send(symbol, BUY, 1.0)
    assert (result.retcode, result.deal) == (PLACED, 0)
    assert history(result.order).state == mt5.ORDER_STATE_REJECTED
    assert deals_of(result.order) == ()


def test_deals_twice_too_many_and_out_of_order(stand_in, symbol):
    twice = listed(send(symbol, BUY, 17.0).order, 2)
    assert twice[0] == twice[1]
    over = listed(send(symbol, BUY, 23.0).order, 2)
    assert [deal.volume for deal in over] == [23.0, stand_in_step(symbol)]
    order = send(symbol, BUY, 24.0).order
    (second,) = listed(order)
    first, again = listed(order, 2)
    assert again == second
    assert first.ticket < second.ticket


def stand_in_step(symbol: str) -> float:
    return float(mt5.symbol_info(symbol).volume_step)


@pytest.mark.parametrize(
    ("name", "retcode"), [("silent_fill", None), ("late_deals", None), ("timeout_then_ack", 10012)]
)
def test_deals_that_are_listed_late(stand_in, symbol, name, retcode):
    stand_in.script(name, after_ms=2000)  # time for the look at what is not listed yet, on a busy machine
    result = send(symbol, BUY, 1.0)
    assert result.retcode == (retcode or (DONE if symbol == "NAS100" else PLACED))
    held = until(lambda: mt5.positions_get(symbol=symbol), "the position")
    assert held[0].volume == 1.0
    (true_deal,) = [deal for deal in stand_in.truth().deals if deal["position_id"] == held[0].identifier]
    assert deals_of(true_deal["order"]) == ()
    assert mt5.history_orders_get(ticket=true_deal["order"]) == ()
    assert listed(true_deal["order"])[0].ticket == true_deal["ticket"]


def test_answers_that_say_nothing_about_the_order(stand_in, symbol):
    stand_in.script("timeout_then_nothing")
    assert send(symbol, BUY, 1.0).retcode == mt5.TRADE_RETCODE_TIMEOUT
    stand_in.script("retcode", retcode=10011, executed=False)
    assert send(symbol, BUY, 1.0).retcode == mt5.TRADE_RETCODE_ERROR
    stand_in.script("no_answer", code=-10001, executed=False)
    assert send(symbol, BUY, 1.0) is None
    assert mt5.last_error() == (-10001, "IPC send failed")
    assert stand_in.truth().positions == []
    stand_in.script("retcode", retcode=10031, executed=True)
    assert send(symbol, BUY, 2.0).retcode == mt5.TRADE_RETCODE_CONNECTION
    stand_in.script("no_answer", executed=True)
    assert send(symbol, BUY, 3.0) is None
    assert mt5.last_error() == (-10002, "IPC recv failed")
    until(lambda: stand_in.truth().net(symbol) == 5.0, "both executed")


def test_slow_answers(stand_in, symbol):
    stand_in.script("slow", after_ms=300)
    started = time.monotonic()
    result = send(symbol, BUY, 1.0)
    assert time.monotonic() - started >= 0.3
    deal = listed(result.order)[0]
    stand_in.script("fill_before_ack", after_ms=300)
    result = send(symbol, BUY, 1.0)
    answered_msc = stand_in.server_now_ms()
    assert answered_msc - listed(result.order)[0].time_msc >= 250, "it was done long before the answer"
    assert deal.volume == 1.0


def test_bust_and_correction_afterwards(stand_in, symbol):
    stand_in.script("bust", after_ms=100)
    order = send(symbol, BUY, 1.0).order
    listed(order)
    until(lambda: deals_of(order)[0].type == mt5.DEAL_TYPE_BUY_CANCELED, "the bust")
    assert mt5.positions_get(symbol=symbol) == ()
    stand_in.script("correction", after_ms=100)
    order = send(symbol, BUY, 1.0).order
    before = listed(order)[0]
    tick = mt5.symbol_info(symbol).trade_tick_size
    until(lambda: deals_of(order)[0].price == before.price + tick, "the correction")
    assert deals_of(order)[0].ticket == before.ticket


def test_hands_that_follow_the_order(stand_in, symbol):
    for lots, expected in ((27.0, 28.0), (28.0, 0.0)):
        stand_in.hand_close()
        send(symbol, BUY, lots)
        until(lambda expected=expected: stand_in.truth().net(symbol) == expected, f"{expected} lots")
    send(symbol, BUY, 29.0)
    (order,) = until(lambda: [each for each in mt5.orders_get() if each.magic == 0], "an order by hand")
    assert (order.type, order.reason, order.volume_current) == (mt5.ORDER_TYPE_BUY_LIMIT, 0, 1.0)


def test_both_stops_of_a_position_strike(stand_in, symbol):
    stand_in.script("late_sibling", after_ms=5000)
    order = send(symbol, BUY, 2.0, sl=17990.0, tp=18010.0).order
    listed(order)
    stand_in.quote(symbol, 18010.0, 18010.25)
    until(lambda: stand_in.truth().net(symbol) == 0, "the target")
    stand_in.quote(symbol, 17990.0, 17990.25)
    until(lambda: stand_in.truth().net(symbol) == -2.0, "the stop as well: the account has turned over")


def test_a_mute_terminal_shows_what_it_knew(stand_in, symbol):
    stand_in.script("mute_link", after_ms=600)
    send(symbol, BUY, 1.0)
    until(lambda: stand_in.truth().net(symbol) == 1.0, "the execution")
    assert mt5.positions_get(symbol=symbol) == ()
    assert mt5.terminal_info().connected
    until(lambda: mt5.positions_get(symbol=symbol), "news again")


def test_prices_slip_and_comments_change(stand_in, symbol):
    stand_in.script("slip", ticks=3)
    stand_in.script("comment", text="rewritten by the server")
    slipped, renamed = send(symbol, BUY, 1.0), send(symbol, BUY, 1.0, comment="tag")
    assert listed(slipped.order)[0].price == 18000.25 + 3 * mt5.symbol_info(symbol).trade_tick_size
    assert listed(renamed.order)[0].comment == "rewritten by the server"


@pytest.mark.parametrize(
    ("scenario", "is_order", "is_trade"),
    [("death_before_accept", False, False), ("death_after_accept", True, True), ("death_after_fill", True, True)],
)
def test_the_caller_dies_at_a_chosen_moment(stand_in, symbol, scenario, is_order, is_trade):
    stand_in.script(scenario)
    known = len(stand_in.truth().history_orders)
    code = (
        "import MetaTrader5 as m\n"
        f"m.initialize({str(stand_in.exe)!r})\n"
        f"m.order_send(dict(action=1, symbol={symbol!r}, type=0, volume=1.0, type_filling=1))\n"
        "raise SystemExit(9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], env=stand_in.environment(), check=False)
    assert ended.returncode not in (0, 9)
    if is_trade:
        until(lambda: stand_in.truth().net(symbol) == 1.0, "the execution")
    assert (len(stand_in.truth().history_orders) > known) == is_order


@pytest.mark.parametrize(("lots", "lots_held"), [(31.0, 0.0), (33.0, 33.0)])
def test_another_process_dies_and_the_caller_is_answered(stand_in, symbol, lots, lots_held):
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    stand_in.set_victim(victim.pid)
    result = send(symbol, BUY, lots)
    assert victim.wait(patient(20)) != 0
    stand_in.set_victim(0)
    assert (result.retcode == mt5.TRADE_RETCODE_REJECT) == (lots_held == 0)
    until(lambda: stand_in.truth().net(symbol) == lots_held, "what was executed")


def test_readme_names_every_scenario_and_every_call():
    readme = (MODULE_FOLDER.parent / "README.md").read_text()
    calls = [name for name, value in vars(StandIn).items() if callable(value) and not name.startswith("_")]
    missing = [name for name in (*calls, *filter(None, scenarios.NAMES)) if f"`{name}" not in readme]
    assert missing == []


def test_a_scripted_scenario_comes_before_the_one_of_the_volume(stand_in, symbol):
    stand_in.script("", count=1)
    result = send(symbol, BUY, 11.0)
    assert result.retcode in (DONE, PLACED)
    assert send(symbol, BUY, 11.0).retcode == mt5.TRADE_RETCODE_REJECT
    stand_in.script_all("reject", retcode=10018)
    assert [send(symbol, BUY, 1.0).retcode for _ in range(3)] == [10018] * 3
