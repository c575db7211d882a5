"""Snapshots that are late, incomplete or lag behind prove nothing, and have consequences."""

from __future__ import annotations

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import LegState, RejectCode, Side, SignalState

from tests.support.doubt_desk import DoubtDesk, entered
from tests.support.orders import D


def test_a_gateway_that_slept_is_not_owed_anything():
    desk = DoubtDesk()
    desk.wait(31_000)
    assert desk.route.request_pending
    desk.wait(3_600_000)
    assert desk.count("snapshot_overdue") == 0
    desk.prove(times=1)
    assert desk.route.owes_since_ns == 0


def test_a_position_list_that_lags_behind_a_fill_is_not_adopted():
    desk, order = entered()
    desk.wait(31_000)
    fill = desk.fill(order)
    desk.snapshot(positions=[], fills=[fill])
    desk.wait(1_000)
    desk.snapshot(positions=[], fills=[fill])
    assert (desk.count("position_drift"), desk.position()) == (0, 2)
    desk.prove(("NQ", 2), fills=[fill], times=1)
    assert (desk.position(), desk.route.positions["NQ"].mismatch_snapshots) == (2, 0)


def test_a_wrong_order_status_ends_at_a_platform_without_a_history():
    desk = DoubtDesk("b")
    desk.link_up("a", executions_history=False)
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(20999))
    order = desk.only()
    desk.update(order, side=Side.SELL)
    desk.prove(orders=[desk.row(order)])
    assert desk.kinds() == []


def test_a_doubt_without_a_second_snapshot_is_said():
    desk, order = entered()
    fill = desk.fill(order)
    desk.prove(("NQ", 3), fills=[fill], times=1)
    for _ in range(6):
        desk.wait(6_000)
    (alert,) = [each for each in desk.all_effects if isinstance(each, e.Alert) and "no complete snapshot" in each.text]
    assert "nothing at all is sent for NQ until then or `acknowledge SYMBOL --holds LOTS`" in alert.text
    assert "a second snapshot decides" in desk.report().legs[0].text


def test_a_platform_that_owes_its_snapshot_opens_nothing_and_its_legs_are_unknown():
    """Finding B2: 99 s without any proof, and it went on trading."""
    desk, order = entered()
    fills = [desk.fill(order)]
    desk.prove(("NQ", 2), fills=fills, times=1)
    for _ in range(10):
        desk.wait(5_000)
    report = desk.report()
    assert (report.state, report.legs[0].state, desk.count("snapshot_overdue")) == (
        SignalState.UNKNOWN, LegState.UNKNOWN, 1
    )  # fmt: skip
    assert desk.route.positions["NQ"].net == 2
    alerts = [each for each in desk.all_effects if isinstance(each, e.Alert) and "no complete snapshot" in each.text]
    assert len(alerts) == 1
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.PLATFORM_NOT_READY
    assert "owes a complete snapshot" in desk.report("s2").text
    desk.ask(m.SignalClose(signal_id="s1"))
    assert [each.quantity for each in desk.closings()] == [2], "exits go on"
    desk.fill(desk.closings()[0])
    desk.prove(fills=[*fills, structs.replace(desk.make_fill(desk.closings()[0]), exec_id="x2")], times=1)
    assert (desk.report().state, desk.route.overdue_since_ns) == (SignalState.CLOSED, 0)


def test_incomplete_snapshots_are_no_payment():
    desk = DoubtDesk()
    for _ in range(40):
        desk.wait(1_000)
        if desk.route.request_pending:
            desk.snapshot(complete=False)
    for _ in range(20):
        desk.wait(1_000)
        if desk.route.request_pending:
            desk.snapshot(complete=False)
    assert desk.count("snapshot_overdue") == 1
    desk.signal()
    assert desk.report().code is RejectCode.PLATFORM_NOT_READY


@pytest.mark.parametrize("part", ["whole", "orders"])
def test_a_late_snapshot_makes_nothing_unknown_that_was_known(part):
    """Finding B1 of the bridge: every working order became unknown, with a false alert."""
    desk = DoubtDesk()
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(20999))
    desk.update(desk.only())
    for _ in range(4):
        desk.wait(31_000)
        name = {"platform": "a", "account": "acc"}
        snapshot = m.Snapshot(
            request_id=desk.route.request_id,
            **name,
            positions=m.Positions(**name, rows=()),
            working_orders=m.WorkingOrders(**name, rows=(), complete=part == "whole"),
            executions=m.Executions(**name, rows=()),
            complete=part != "whole",
        )
        desk.give(e.AdapterSaid(message=snapshot))
    state = desk.engine.state.orders[desk.only().client_order_id]
    assert (state.state, state.missed_snapshots, desk.count("unknown")) == (LegState.WORKING, 0, 0)


def test_completeness_is_per_part_and_what_a_platform_cannot_list_does_not_count():
    """Bookmap cannot list its orders: positions and executions still prove, an unknown order waits for a person."""
    desk = DoubtDesk("b")
    desk.link_up("a", lists_orders=False)
    desk.signal()
    order = desk.only()
    desk.wait(3_000)
    assert desk.engine.state.orders[order.client_order_id].state is LegState.UNKNOWN
    desk.prove()
    assert desk.route.ready
    assert desk.engine.state.orders[order.client_order_id].state is LegState.UNKNOWN
    assert desk.acknowledge(0).accepted
    assert desk.engine.state.orders[order.client_order_id].state is LegState.CANCELLED


def test_positions_prove_nothing_where_the_executions_are_not_all_listed():
    """Which of them the positions hold is not known: a right position was adopted a second time."""
    desk, order = entered()
    fill = desk.fill(order)
    name = {"platform": "a", "account": "acc"}
    for _ in range(3):
        desk.wait(31_000)
        desk.give(e.AdapterSaid(message=m.Snapshot(
            request_id=desk.route.request_id, **name,
            positions=m.Positions(**name, rows=(m.Position(symbol="NQ", quantity=D(2)),)),
            working_orders=m.WorkingOrders(**name, rows=()),
            executions=m.Executions(**name, rows=(), complete=False),
        )))  # fmt: skip
    assert (desk.position(), desk.count("position_drift"), desk.route.positions["NQ"].reported) == (2, 0, 2)
    desk.prove(("NQ", 2), fills=[fill], times=1)
    assert desk.route.ready
