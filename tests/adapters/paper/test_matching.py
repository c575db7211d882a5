"""The paper exchange's prices and sizes: what trades, at what, and what does not."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from nexus_gateway.adapters.paper.matching import make_quote
from nexus_gateway.core import messages as m

from tests.support.paper import STEP, TICK, PaperDesk

D = Decimal
LIMIT, STOP, STOP_LIMIT = m.OrderType.LIMIT, m.OrderType.STOP, m.OrderType.STOP_LIMIT
SELL = m.Side.SELL
TIF = m.TimeInForce


@pytest.mark.parametrize(
    ("bid", "ask"), [(math.nan, math.nan), (0.0, 0.0), (math.inf, math.nan), (101.0, 100.0), (0.0, math.nan)]
)
def test_no_quote_from_prices_that_are_none(bid, ask):
    assert make_quote(bid, ask, 1, 1, TICK, STEP) is None


def test_floats_are_put_back_on_the_grid():
    quote = make_quote(0.1 + 0.2, 1.0850000000000002, 2.9999, math.nan, D("0.00005"), D("0.01"))
    assert (quote.bid, quote.ask) == (D("0.30000"), D("1.08500"))
    assert (quote.bid_size, quote.ask_size) == (D("2.99"), None)


def test_negative_prices_are_prices():
    quote = make_quote(-37.75, -37.5, 0, 0, TICK, STEP)
    assert (quote.bid, quote.ask) == (D("-37.75"), D("-37.5"))


def test_market_orders_take_the_quote_and_slip():
    desk = PaperDesk(slippage_ticks=2)
    desk.quote(100, 100.25)
    assert desk.fills(desk.place()) == [(1, D("100.75"))]
    assert desk.fills(desk.place(side=SELL)) == [(1, D("99.5"))]


def test_a_market_order_without_a_quote_waits_for_one():
    desk = PaperDesk()
    order = desk.place()
    assert desk.states(order) == ["working"]
    desk.quote(100, 100.25)
    assert desk.fills(order) == [(1, D("100.25"))]


def test_limits_get_the_quote_on_arrival_and_their_own_price_in_the_book():
    desk = PaperDesk()
    desk.quote(100, 100.25)
    assert desk.fills(desk.place(order_type=LIMIT, limit_price=101)) == [(1, D("100.25"))]
    resting = desk.place(order_type=LIMIT, limit_price=99)
    desk.quote(98, 98.25)
    assert desk.fills(resting) == [(1, D(99))]
    assert desk.fills(desk.place(side=SELL, order_type=LIMIT, limit_price=97)) == [(1, D(98))]


def test_a_limit_moved_through_the_market_gets_the_quote_that_it_finds():
    desk = PaperDesk()
    desk.quote(100, 100.25, 10, 10)
    moved, larger = (desk.place(order_type=LIMIT, limit_price=99) for _ in range(2))
    desk.replace(moved, limit_price=105)
    assert desk.fills(moved) == [(1, D("100.25"))], "not its own price: nobody pays more than is asked"
    desk.replace(larger, quantity=2)
    desk.quote(98, 98.25)
    assert desk.fills(larger) == [(2, D(99))], "it has waited at its price, and still does"


def test_stops_trigger_on_the_side_they_trade_on_and_trade_at_the_market():
    desk = PaperDesk()
    desk.quote(100, 100.25)
    buy = desk.place(order_type=STOP, stop_price=101)
    sell = desk.place(side=SELL, order_type=STOP, stop_price=99)
    desk.quote(100.5, 100.75)
    desk.quote(99.25, 99.5)
    assert desk.fills(buy) == desk.fills(sell) == []
    desk.quote(97, 97.25)
    assert desk.fills(sell) == [(1, D(97))], "a gap costs"
    desk.quote(101, 101.5)
    assert desk.fills(buy) == [(1, D("101.5"))]


def test_stop_limits_become_limits():
    desk = PaperDesk()
    desk.quote(100, 100.25)
    order = desk.place(order_type=STOP_LIMIT, stop_price=101, limit_price=101.25)
    desk.quote(102, 102.25)
    assert desk.fills(order) == [], "triggered, and too expensive"
    desk.quote(100, 100.25)
    assert desk.fills(order) == [(1, D("101.25"))]


def test_a_triggered_stop_that_is_moved_away_waits_again():
    desk = PaperDesk()
    desk.quote(100, 100.25)
    moved, cheaper = (desk.place(order_type=STOP_LIMIT, stop_price=101, limit_price=101.25) for _ in range(2))
    desk.quote(102, 102.25)
    desk.replace(moved, stop_price=105, limit_price=105.25)
    desk.replace(cheaper, limit_price=101)
    assert desk.fills(moved) == desk.fills(cheaper) == []
    desk.quote(100.75, 101)
    assert desk.fills(cheaper) == [(1, D(101))], "its stop has been reached for good"
    desk.quote(105, 105.25)
    assert desk.fills(moved) == [(1, D("105.25"))]


def test_quoted_sizes_are_used_up_until_the_next_quote():
    desk = PaperDesk()
    desk.quote(100, 100.25, 10, 3)
    first, second = desk.place(2), desk.place(2)
    assert desk.fills(first) == [(2, D("100.25"))]
    assert desk.fills(second) == [(1, D("100.25"))]
    assert desk.states(second)[-1] == "partially_filled"
    desk.quote(100, 100.5, 10, 3)
    assert desk.fills(second) == [(1, D("100.25")), (1, D("100.5"))]
    free = PaperDesk(fill_by_quoted_size=False)
    free.quote(100, 100.25, 1, 1)
    assert free.fills(free.place(7)) == [(7, D("100.25"))]


def test_immediate_or_cancel_and_fill_or_kill():
    desk = PaperDesk()
    desk.quote(100, 100.25, 5, 2)
    kill = desk.place(3, time_in_force=TIF.FOK)
    assert (desk.fills(kill), desk.states(kill)[-1]) == ([], "cancelled")
    part = desk.place(3, time_in_force=TIF.IOC)
    assert (desk.fills(part), desk.states(part)[-1]) == ([(2, D("100.25"))], "cancelled")
    desk.quote(100, 100.25, 5, 2)
    whole = desk.place(2, time_in_force=TIF.FOK)
    assert (desk.fills(whole), desk.states(whole)[-1]) == ([(2, D("100.25"))], "filled")


def test_fill_or_kill_that_would_turn_the_position_is_killed_whole():
    desk = PaperDesk()
    desk.quote(100, 100.25)
    desk.place(2)
    order = desk.place(3, SELL, reduce_only=True, time_in_force=TIF.FOK)
    assert (desk.fills(order), desk.states(order)[-1]) == ([], "cancelled")
    assert desk.net() == 2


def test_an_order_whose_time_is_over_is_refused_and_never_trades():
    desk = PaperDesk(latency_ms=5)
    desk.quote(100, 100.25)
    order = desk.place(time_in_force=TIF.GTD, good_till_ns=desk.now_ns + 1_000_000)
    desk.wait(10)
    assert "it is" in desk.of(m.Reject, order)[0].text
    assert desk.of(m.Fill) == []


def test_orders_end_at_their_time():
    desk = PaperDesk(day_ends_utc="22:00")
    desk.quote(100, 100.25)
    terms = {"order_type": LIMIT, "limit_price": 90}
    dated = desk.place(time_in_force=TIF.GTD, good_till_ns=desk.now_ns + 5_000_000_000, **terms)
    day, lasting = desk.place(**terms), desk.place(time_in_force=TIF.GTC, **terms)
    desk.wait(6_000)
    assert desk.states(dated)[-1] == "expired"
    assert desk.states(day)[-1] == "working"
    desk.wait(10 * 3600 * 1000)
    assert desk.states(day)[-1] == "expired"
    assert desk.states(lasting)[-1] == "working"


def test_the_platform_refuses_what_is_off_its_grid_or_does_not_reduce():
    desk = PaperDesk()
    desk.quote(100, 100.25)
    for terms, text in (
        ({"quantity": "1.5"}, "multiple of 1"),
        ({"order_type": LIMIT, "limit_price": "99.1"}, "multiple of 0.25"),
        ({"symbol": "CL"}, "does not trade"),
        ({"reduce_only": True}, "does not reduce"),
        ({"close_ticket": "T1"}, "does not reduce"),
    ):
        order = desk.place(**terms)
        (reject,) = desk.of(m.Reject, order)
        assert reject.code is m.RejectCode.PLATFORM_REJECTED
        assert text in reject.text
    assert desk.of(m.Fill) == []


def test_a_reduce_only_order_never_turns_the_position():
    desk = PaperDesk()
    desk.quote(100, 100.25)
    desk.place(3)
    resting = desk.place(3, SELL, order_type=LIMIT, limit_price=101, reduce_only=True)
    desk.place(2, SELL)
    desk.quote(101, 101.25)
    assert desk.fills(resting) == [(1, D(101))]
    assert desk.net() == 0
    desk.quote(101, 101.25)
    assert desk.states(resting)[-1] == "cancelled"


def test_stale_quotes_trade_nothing():
    desk = PaperDesk()
    desk.quote(100, 100.25)
    desk.exchange.set_quote("NQ", None, desk.now_ns)
    assert desk.fills(desk.place()) == []
