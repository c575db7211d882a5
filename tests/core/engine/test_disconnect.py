"""A NEXUS that is gone: its working entries are cancelled, and nothing that closes, protects or hedges."""

from __future__ import annotations

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine import Engine

from tests.support.orders import D, Desk

LIMIT = {"order_type": m.OrderType.LIMIT, "limit_price": D(21000)}
SETTINGS = e.EngineSettings(client_order_id_chars=22, cancel_on_disconnect_ms=30_000)
LOST = e.NexusLost(peer="nexus")


def make_desk(*platforms: str) -> Desk:
    return Desk(*(platforms or ("a",)), settings=SETTINGS)


def cancelled(desk: Desk) -> list[str]:
    return [each.client_order_id for each in desk.sent(m.Cancel)]


def alerts(desk: Desk) -> list[str]:
    return [each.text for each in desk.all_effects if isinstance(each, e.Alert) and "was gone" in each.text]


def test_working_entries_end_and_the_reports_say_why():
    desk = make_desk("a", "b")
    desk.signal("a", "b", **LIMIT)
    orders = [desk.only("a"), desk.only("b")]
    for order in orders:
        desk.update(order)
    desk.give(LOST)
    assert cancelled(desk) == [each.client_order_id for each in orders]
    for order in orders:
        desk.update(order, m.LegState.CANCELLED)
    report = desk.report()
    assert report.state is m.SignalState.NOT_FILLED
    assert (
        report.text == "NEXUS nexus was gone for 30 s: working entries are cancelled (orders.cancel_on_disconnect_ms)"
    )
    assert {leg.text for leg in report.legs} == {report.text}
    assert alerts(desk) == ["NEXUS nexus was gone for 30 s: 2 working entries cancelled, what is held keeps its stops"]
    assert desk.count("nexus_lost") == 1
    desk.give(LOST)
    assert (cancelled(desk), len(alerts(desk)), desk.count("nexus_lost")) == ([], 1, 1)


def test_what_is_held_keeps_its_stop_and_target():
    desk = make_desk()
    desk.link_up("a", brackets=False)
    desk.signal(quantity=D(2), bracket=m.Bracket(stop_loss=D(20990), take_profit=D(21010)), **LIMIT)
    entry = desk.only()
    desk.update(entry)
    desk.fill(entry, 1)
    guards = [desk.only(role=m.OrderRole.STOP_LOSS), desk.only(role=m.OrderRole.TAKE_PROFIT)]
    for order in guards:
        desk.update(order)
    desk.give(LOST)
    assert cancelled(desk) == [entry.client_order_id]
    desk.update(entry, m.LegState.CANCELLED, 1)
    assert [desk.engine.state.orders[each.client_order_id].live for each in guards] == [True, True]
    assert (desk.report().legs[0].open_quantity, desk.sent(m.Cancel), desk.sent(m.Order)) == (1, [], [])


def test_what_closes_works_on():
    desk = make_desk()
    desk.signal(quantity=D(2))
    desk.fill(desk.only())
    desk.signal(signal_id="s2", side=m.Side.SELL, reduce_only=True, bracket=None, quantity=D(1),
                order_type=m.OrderType.LIMIT, limit_price=D(21010))  # fmt: skip
    desk.update(desk.only())
    desk.give(LOST)
    assert cancelled(desk) == []
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.give(LOST)
    assert cancelled(desk) == []
    assert alerts(desk) == []


def test_a_hedge_works_on():
    desk = make_desk("a", "b")
    policy = m.FanOut(kind=m.FanOutKind.PRIMARY_THEN_HEDGE)
    desk.signal("a", "b", policy=policy, quantity=D(2), **LIMIT)
    entry = desk.only("a")
    desk.update(entry)
    desk.fill(entry, 1)
    hedge = desk.only("b", m.OrderRole.HEDGE)
    desk.update(hedge)
    desk.give(LOST)
    assert cancelled(desk) == [entry.client_order_id]


def test_the_policy_decides_about_a_cancelled_entry_as_about_any_other():
    desk = make_desk("a", "b")
    desk.signal("a", "b", policy=m.FanOut(kind=m.FanOutKind.ALL_OR_FLATTEN), **LIMIT)
    desk.fill(desk.only("a"))
    entry = desk.only("b")
    desk.update(entry)
    desk.give(LOST)
    assert cancelled(desk) == [entry.client_order_id]
    desk.update(entry, m.LegState.CANCELLED)
    assert desk.report().state is m.SignalState.FLATTENING, "all or nothing was asked for"


def test_a_signal_of_another_or_of_two_is_left_alone():
    desk = make_desk()
    desk.signal(**LIMIT)
    desk.update(desk.only())
    desk.give(e.NexusLost(peer="other"))
    assert cancelled(desk) == []
    signal = desk.engine.state.signals["s1"].signal
    desk.give(e.SignalArrived(signal=signal, markets=(), peer="other"))
    desk.give(LOST)
    assert cancelled(desk) == [], "the other one follows it"


@pytest.mark.parametrize("acknowledged", [True, False])
def test_the_cancel_waits_for_a_link_and_survives_a_restart(acknowledged: bool):
    desk = make_desk()
    desk.signal(**LIMIT)
    order = desk.only()
    if acknowledged:
        desk.update(order)
    desk.link_down()
    desk.give(LOST)
    assert cancelled(desk) == []
    desk.engine = Engine.load(desk.engine.save())
    desk.link_up("a", answer=False)
    desk.snapshot(orders=[desk.row(order)])
    desk.wait(3_000)
    sent = [each.message for each in desk.all_effects if isinstance(each, e.SendToPlatform)]
    assert order.client_order_id in [each.client_order_id for each in sent if isinstance(each, m.Cancel)]
