"""Brackets by distance and by target: each leg's own prices, on its own grid, in size, checks, order and stop alike."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import OrderRole, OrderType, RejectCode, Side

from tests.support.orders import Desk, market

CFD = {"bid": D("21100.0"), "ask": D("21101.3"), "tick_size": D("0.1"), "point_value": D(1)}


def two_levels(desk: Desk) -> tuple:
    """The future at 21000, and a CFD in its place a hundred points higher on another grid."""
    return market("a", desk.now_ns), market("b", desk.now_ns, **CFD)


def test_distances_are_measured_from_each_legs_own_quote_and_stepped_onto_its_own_grid():
    desk = Desk("a", "b")
    bracket = m.Bracket(stop_distance=D("10.05"), take_profit_distance=D("20.05"))
    desk.signal("a", "b", markets=two_levels(desk), bracket=bracket)
    assert (desk.only("a").stop_loss, desk.only("a").take_profit) == (D("20990.00"), D("21020.00"))
    assert (desk.only("b").stop_loss, desk.only("b").take_profit) == (D("21091.3"), D("21121.3"))
    assert desk.only("a").quantity == 2


def test_a_sell_measures_from_the_bid_and_the_other_way():
    desk = Desk("a", "b")
    bracket = m.Bracket(stop_distance=D(10), take_profit_distance=D(20))
    desk.signal("a", "b", markets=two_levels(desk), bracket=bracket, side=Side.SELL)
    assert (desk.only("a").stop_loss, desk.only("a").take_profit) == (D("21009.75"), D("20979.75"))
    assert (desk.only("b").stop_loss, desk.only("b").take_profit) == (D("21110.0"), D("21080.0"))


def test_an_order_with_a_price_of_its_own_measures_from_that():
    desk = Desk("a")
    desk.signal(order_type=OrderType.LIMIT, limit_price=D(20980), bracket=m.Bracket(stop_distance=D(5)))
    assert desk.only().stop_loss == D(20975)


def test_a_targets_own_bracket_stands_in_the_signals_place_as_a_whole():
    desk = Desk("a", "b")
    own = m.Target(platform="b", bracket=m.Bracket(stop_loss=D("21090.7")))
    desk.signal(
        "a", "b", markets=two_levels(desk), targets=(m.Target(platform="a"), own),
        bracket=m.Bracket(stop_loss=D(20990), take_profit=D(21020)),
    )  # fmt: skip
    assert (desk.only("a").stop_loss, desk.only("a").take_profit) == (D(20990), D(21020))
    assert (desk.only("b").stop_loss, desk.only("b").take_profit) == (D("21090.7"), None)


def test_each_leg_is_sized_by_its_own_stop_distance():
    desk = Desk("a", "b")
    own = m.Target(platform="b", bracket=m.Bracket(stop_distance=D(20)))
    desk.signal(
        "a", "b", markets=two_levels(desk), risk_usd=D(80), targets=(m.Target(platform="a"), own),
        bracket=m.Bracket(stop_distance=D(10)),
    )  # fmt: skip
    assert (desk.only("a").quantity, desk.only("b").quantity) == (D(4), D(4))  # 10 x 2 USD, 20 x 1 USD a lot


def test_the_gateways_own_stop_stands_at_the_legs_own_price():
    desk = Desk("a")
    desk.link_up("b", brackets=False)
    desk.signal("a", "b", markets=two_levels(desk), bracket=m.Bracket(stop_distance=D(10), take_profit_distance=D(20)))
    desk.fill(desk.only("b"))
    assert desk.only("b", OrderRole.STOP_LOSS).stop_price == D("21091.3")
    assert desk.only("b", OrderRole.TAKE_PROFIT).limit_price == D("21121.3")


def test_risk_is_checked_by_the_legs_own_stop():
    desk = Desk("a", "b")
    far = m.Target(platform="b", bracket=m.Bracket(stop_distance=D(600)))
    desk.signal("a", "b", markets=two_levels(desk), targets=(m.Target(platform="a"), far))
    legs = desk.report().legs
    assert (legs[0].code, legs[1].code) == (RejectCode.NONE, RejectCode.RISK_PER_TRADE)  # 2 x 600 x 1 USD of 1000


@pytest.mark.parametrize(
    ("bracket", "code"),
    [
        (m.Bracket(stop_loss=D("20990.10")), RejectCode.NOT_ON_TICK),
        (m.Bracket(stop_loss=D(20990), take_profit=D("21010.10")), RejectCode.NOT_ON_TICK),
        (m.Bracket(stop_loss=D(21001)), RejectCode.BRACKET_INVALID),
        (m.Bracket(stop_loss=D(20990), take_profit=D(20995)), RejectCode.BRACKET_INVALID),
        (m.Bracket(stop_distance=D("0.2")), RejectCode.BRACKET_INVALID),
        (m.Bracket(stop_distance=D(10**9), take_profit_distance=D(10**9)), RejectCode.BRACKET_INVALID),
        (m.Bracket(take_profit=D(21010)), RejectCode.RISK_NOT_MEASURABLE),
    ],
)
def test_a_bracket_that_cannot_stand_there_is_refused_before_sending(bracket, code):
    desk = Desk("a")
    desk.signal(bracket=bracket)
    assert (desk.report().legs[0].code, len(desk.orders)) == (code, 0)


def test_a_distance_without_a_quote_is_refused():
    desk = Desk("a")
    desk.signal(markets=(market("a", desk.now_ns, ask=None),), bracket=m.Bracket(stop_distance=D(10)))
    assert desk.report().legs[0].code is RejectCode.BAD_QUOTE


def test_price_and_distance_together_are_refused_at_the_edge():
    with pytest.raises(ValueError, match="stop_loss was 1 and stop_distance 2"):
        m.Bracket(stop_loss=D(1), stop_distance=D(2))
    with pytest.raises(ValueError, match="take_profit was 1 and take_profit_distance 2"):
        m.Bracket(take_profit=D(1), take_profit_distance=D(2))
    with pytest.raises(ValueError, match="above zero, was 0"):
        m.Bracket(stop_distance=D(0))


def test_risk_needs_a_stop_for_each_target():
    bare = m.Target(platform="b", bracket=m.Bracket(take_profit=D(2)))
    with pytest.raises(ValueError, match="a stop for each target"):
        Desk("a").signal("a", "b", risk_usd=D(10), targets=(m.Target(platform="a"), bare))


@given(
    distance=st.decimals("0.01", "500", places=2),
    tick=st.sampled_from([D("0.25"), D("0.1"), D("0.01"), D(1), D(5)]),
    side=st.sampled_from(list(Side)),
)
def test_a_distance_is_never_exceeded_and_always_on_the_grid(distance, tick, side):
    desk = Desk("a")
    ask = D(21000)
    desk.signal(
        side=side, quantity=D(1), markets=(market("a", desk.now_ns, tick_size=tick, bid=ask - tick, ask=ask),),
        bracket=m.Bracket(stop_distance=distance, take_profit_distance=distance),
    )  # fmt: skip
    entry = ask if side is Side.BUY else ask - tick
    if not desk.orders:
        assert distance < tick or desk.report().legs[0].code is RejectCode.BRACKET_INVALID
        return
    for price in (desk.only().stop_loss, desk.only().take_profit):
        assert price is not None
        assert price % tick == 0
        assert distance - tick < abs(price - entry) <= distance


def test_a_stop_that_the_platform_keeps_is_shown_as_the_stop_it_is():
    desk = Desk("a")
    desk.signal(bracket=m.Bracket(stop_loss=D(20990)))
    entry = desk.only()
    desk.fill(entry)
    parts = m.find_client_order_id(entry.client_order_id)
    assert parts is not None
    stop_id = m.client_order_id(parts.key, 0, OrderRole.STOP_LOSS, 0)
    stop = msgspec.structs.replace(
        entry, client_order_id=stop_id, side=Side.SELL, order_type=OrderType.STOP, stop_price=D(20990), stop_loss=None
    )
    desk.update(stop)
    answer = desk.ask(m.Query(request_id=1, what=m.QueryKind.WORKING_ORDERS, platform="a"))
    (row,) = answer[0].message.rows
    assert (row.client_order_id, row.order_type, row.stop_price) == (stop_id, OrderType.STOP, D(20990))
    assert desk.count("order_recovered") == 0, "nothing was lost: the platform made it with the entry"
