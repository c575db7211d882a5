"""Lots beyond an order's size: confirmed by snapshots, split from the order's own, closed or kept."""

from __future__ import annotations

from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import ContradictionKind as Kind
from nexus_gateway.core.messages import LegState, OrderRole, Side, SignalState

from tests.support.doubt_desk import CLOSING, DoubtDesk, bust, entered
from tests.support.orders import D


def test_lots_beyond_the_orders_size_belong_to_the_account_once_two_snapshots_confirm_them():
    desk, order = entered(settings=CLOSING)
    first = desk.fill(order, 2)
    extra = desk.fill(order, 1)
    assert (desk.kinds(), desk.position()) == ([Kind.OVERFILL], 2)
    desk.prove(("NQ", 3), fills=[first, extra], times=1)
    assert desk.kinds() == [Kind.OVERFILL]
    desk.prove(("NQ", 3), fills=[first, extra], times=1)
    assert (desk.kinds(), desk.position(), desk.report().residual_quantity) == ([], 3, 2)
    assert desk.count("overfill_confirmed") == 1
    closing = [each for each in desk.closings() if each.symbol == "NQ"]
    assert [(each.side, each.quantity) for each in closing] == [(Side.SELL, 1)]
    desk.reject(closing[0])
    desk.wait(1_000)
    again = desk.closings()[1]
    desk.fill(again)
    desk.update(again, LegState.FILLED, 1)
    desk.wait(600_000)
    assert (desk.position(), desk.report().residual_quantity, len(desk.closings())) == (2, 2, 2)
    assert desk.route.positions["NQ"].overfilled == 0


def test_a_confirmed_overfill_is_kept_where_it_is_so_configured():
    desk, order = entered()
    fills = [desk.fill(order, 2), desk.fill(order, 1)]
    desk.prove(("NQ", 3), fills=fills)
    desk.prove(("NQ", 3), fills=fills)
    assert (desk.kinds(), desk.position(), desk.closings()) == ([], 3, [])
    assert desk.route.positions["NQ"].external == 1


def test_an_overfill_that_two_snapshots_do_not_show_was_none():
    desk, order = entered()
    fills = [desk.fill(order, 2)]
    desk.fill(order, 1)
    desk.prove(("NQ", 2), fills=fills, times=1)
    assert desk.kinds() == [Kind.OVERFILL]
    desk.prove(("NQ", 2), fills=fills, times=1)
    assert (desk.kinds(), desk.position(), desk.report().state) == ([], 2, SignalState.FILLED)


def test_one_execution_larger_than_its_order_fills_the_order_and_only_the_rest_is_external():
    """Finding of an attack: the leg's own lots were nobody's, with no stop and no close."""
    desk = DoubtDesk("b")
    desk.link_up("a", brackets=False)
    desk.signal()
    fill = desk.fill(desk.only(), 3)
    desk.prove(("NQ", 3), fills=[fill])
    desk.prove(("NQ", 3), fills=[fill])
    report = desk.report()
    assert (report.state, report.filled, report.residual_quantity) == (SignalState.FILLED, 2, 2)
    assert (desk.position(), desk.route.positions["NQ"].external) == (3, 1)
    assert desk.only(role=OrderRole.STOP_LOSS).quantity == 2
    assert desk.count("overfill_confirmed") == 1
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.update(desk.only(role=OrderRole.STOP_LOSS), LegState.CANCELLED)
    closing = desk.only(role=OrderRole.EXIT)
    assert closing.quantity == 2
    extra = desk.fill(closing, 3, price=D(20000))
    desk.prove(fills=[fill, extra])
    assert (desk.position(), desk.report().realized_usd) == (0, -4000)
    bust(desk, fill)
    assert (desk.position(), desk.route.positions["NQ"].external) == (-3, -1)


def test_an_order_that_a_person_makes_larger_may_fill_larger():
    desk = DoubtDesk()
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    desk.update(order, quantity=D(5))
    desk.fill(order, 5)
    assert (desk.kinds(), desk.position(), desk.report().legs[0].open_quantity) == ([], 5, 5)


def test_a_ticket_closes_no_more_than_it_holds():
    desk = DoubtDesk("b")
    desk.link_up("a", m.AccountMode.HEDGING, close_by_ticket=True)
    desk.signal()
    desk.fill(desk.only(), position_ticket="T1")
    said = desk.make_fill(desk.only(), 5, side=Side.SELL, client_order_id="", position_ticket="T1")
    desk.give(e.AdapterSaid(message=said))
    assert (desk.kinds(), desk.report().legs[0].open_quantity, desk.closings()) == ([Kind.OVERFILL], 2, [])
