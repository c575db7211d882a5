"""A step of the wall clock: what is on its way to or from the paper exchange arrives as it would have without it."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from nexus_gateway.core import messages as m

from tests.support.paper import MS, PaperDesk

STEPS = [-86_400, -3_600, -60, 60, 3_600, 86_400]
SECOND = 1_000 * MS


class SteppedDesk(PaperDesk):
    def step_clock(self, seconds: int) -> None:
        self.now_ns += seconds * SECOND
        self.exchange.follow_step(seconds * SECOND)


@pytest.fixture
def desk() -> SteppedDesk:
    desk = SteppedDesk(latency_ms=200)
    desk.quote(100, 100.25)
    return desk


@pytest.mark.parametrize("step_s", STEPS)
def test_an_order_on_its_way_arrives_in_time(desk, step_s):
    order = desk.place(2)
    desk.step_clock(step_s)
    desk.wait(199)
    assert not desk.fills(order)
    desk.wait(1)
    assert desk.fills(order)


@pytest.mark.parametrize("step_s", STEPS)
def test_an_order_behind_the_step_arrives_in_time(desk, step_s):
    desk.place(2)
    desk.wait(200)
    desk.step_clock(step_s)
    desk.quote(100, 100.25)
    order = desk.place(2, m.Side.SELL)
    desk.wait(200)
    (fill,) = desk.of(m.Fill, order)
    assert fill.ts_event_ns == desk.now_ns
    assert desk.snapshot().positions.rows == ()


@pytest.mark.parametrize("step_s", [-3_600, -60, 60, 3_600])
@pytest.mark.parametrize(
    "scenario", ["timeout_then_ack", "partial_then_fill", "correction", "unsolicited_cancel", "mute_link"]
)
def test_what_a_scenario_delays_is_delayed_by_as_much(scenario, step_s):
    without, desk = SteppedDesk(rehearse=True), SteppedDesk(rehearse=True)
    for each in (without, desk):
        each.quote(100, 100.25, 100, 100)
        each.provoke(scenario)
    desk.step_clock(step_s)
    heard = []
    for _ in range(14):
        heard.append(([type(each) for each in desk.heard], [type(each) for each in without.heard]))
        for each in (without, desk):
            each.wait(500)
    assert [first for first, _ in heard] == [second for _, second in heard]
    assert desk.exchange.timeline.lost_reports == without.exchange.timeline.lost_reports
    assert desk.heard or scenario == "mute_link"


@pytest.mark.parametrize("step_s", [-3_600, 3_600])
def test_an_order_good_till_a_date_ends_by_the_wall_clock(step_s):
    desk = SteppedDesk()
    desk.quote(100, 100.25)
    till_ns = desk.now_ns + 7_200 * SECOND
    terms = {"order_type": m.OrderType.LIMIT, "limit_price": D(90), "time_in_force": m.TimeInForce.GTD}
    order = desk.place(good_till_ns=till_ns, **terms)
    desk.step_clock(step_s)
    desk.wait((till_ns - desk.now_ns) // MS - 1)
    assert desk.exchange.book.by_client_id[order.client_order_id].live
    desk.wait(1)
    assert not desk.exchange.book.by_client_id[order.client_order_id].live
