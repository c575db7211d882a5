"""Bounds and ids of closing orders, and the stop after a bust or a correction."""

from __future__ import annotations

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import LegState, OrderRole, Side, SignalState

from tests.support.doubt_desk import DoubtDesk, bust, entered, platform_stop
from tests.support.orders import D


def test_a_refused_execution_ends_with_its_bust_and_with_a_correction_that_makes_it_possible():
    desk, order = entered()
    lie = desk.fill(order, side=Side.SELL)
    bust = m.Correction(platform="a", account="acc", exec_id=lie.exec_id, kind=m.CorrectionKind.BUST, revision=1)
    desk.give(e.AdapterSaid(message=bust))
    assert (desk.kinds(), desk.route.positions.get("NQ")) == ([], None)
    lie = desk.fill(order, price=D(60))
    correction = m.Correction(platform="a", account="acc", exec_id=lie.exec_id, kind=m.CorrectionKind.CORRECT,
                              revision=1, quantity=D(2), price=D(21001))  # fmt: skip
    desk.give(e.AdapterSaid(message=correction))
    assert (desk.kinds(), desk.position(), desk.report().avg_price) == ([], 2, D(21001))


def test_no_closing_order_is_larger_than_what_was_entered_and_what_the_account_holds():
    """Whatever is booked on a leg: here a state that no event could have made."""
    desk, order = entered(2)
    desk.checks = False
    desk.fill(order)
    leg = desk.engine.state.signals["s1"].legs[0]
    leg.open = D(64)
    desk.ask(m.SignalClose(signal_id="s1"))
    assert [each.quantity for each in desk.closings()] == [2]
    desk, order = entered(2)
    desk.checks = False
    desk.fill(order)
    desk.engine.state.routes["a|acc"].positions["NQ"].net = D(1)
    desk.ask(m.SignalClose(signal_id="s1"))
    assert [each.quantity for each in desk.closings()] == [1]


ATTEMPTS = [pytest.param(1_100, id="more than two characters number"), pytest.param(5_000, marks=pytest.mark.torture)]


@pytest.mark.parametrize("attempts", ATTEMPTS)
def test_each_closing_attempt_of_a_leg_has_an_id_of_its_own(attempts):
    """The platform refuses each; NEXUS's command tries again at once."""
    desk = DoubtDesk(settings=e.EngineSettings(client_order_id_chars=22))
    desk.checks = False
    desk.signal()
    desk.fill(desk.only())
    ids: set[str] = set()
    while len(ids) < attempts:
        closing = desk.only(role=OrderRole.EXIT) if ids else None
        if closing is None or closing.client_order_id in ids:
            desk.ask(m.SignalClose(signal_id="s1"))
            closing = desk.only(role=OrderRole.EXIT)
        ids.add(closing.client_order_id)
        desk.reject(closing)
        desk.engine.state.signals["s1"].legs[0].retry_ns = 0
        desk.wait(1)
    parts = [m.find_client_order_id(each) for each in ids]
    assert {each.attempt for each in parts} == set(range(attempts))
    assert {len(each) for each in ids} == {22}
    assert desk.report().legs[0].open_quantity == 2


def test_a_bust_takes_the_stop_of_the_platform_with_it():
    """Finding B5 of the bridge: the stop would have opened a position."""
    desk, order = entered(1)
    fill = desk.fill(order)
    stop_id = m.client_order_id(m.signal_key("s1"), 0, OrderRole.STOP_LOSS, 0)
    stop = structs.replace(order, client_order_id=stop_id, side=Side.SELL, order_type=m.OrderType.STOP,
                           stop_price=D(20990))  # fmt: skip
    desk.update(stop)
    assert desk.engine.state.orders[stop_id].live
    bust(desk, fill)
    (cancel,) = desk.sent(m.Cancel)
    assert cancel.client_order_id == stop_id
    assert desk.count("bracket_taken_over") == 1
    desk.update(stop, LegState.CANCELLED)
    assert (desk.position(), desk.closings()) == (0, [])


def test_a_bust_of_a_part_shrinks_the_stop_of_the_platform():
    desk, order = entered(3)
    desk.fill(order, 1)
    fill = desk.fill(order, 2)
    stop_id = m.client_order_id(m.signal_key("s1"), 0, OrderRole.STOP_LOSS, 0)
    stop = structs.replace(order, client_order_id=stop_id, side=Side.SELL, order_type=m.OrderType.STOP,
                           stop_price=D(20990))  # fmt: skip
    desk.update(stop)
    bust(desk, fill)
    (replace,) = desk.sent(m.Replace)
    assert (replace.client_order_id, replace.quantity) == (stop_id, 1)


def test_a_bust_of_a_part_where_nothing_can_be_replaced_leaves_a_stop_for_the_rest():
    desk = DoubtDesk("b")
    desk.link_up("a", replace=False)
    desk.signal(quantity=D(3))
    order = desk.only()
    desk.fill(order, 1)
    fill = desk.fill(order, 2)
    stop = platform_stop(desk, order)
    bust(desk, fill)
    assert [each.client_order_id for each in desk.sent(m.Cancel)] == [stop.client_order_id]
    desk.update(stop, LegState.CANCELLED)
    again = desk.only(role=OrderRole.STOP_LOSS)
    assert (again.client_order_id != stop.client_order_id, again.quantity, again.stop_price) == (True, 1, D(20990))
    assert desk.report().legs[0].protection is m.Protection.GATEWAY


def test_a_bust_of_the_stop_itself_brings_a_stop_back():
    desk, order = entered()
    desk.fill(order)
    stop = platform_stop(desk, order)
    fill = desk.fill(stop, price=D(20990))
    desk.update(stop, LegState.FILLED, 2)
    assert desk.report().state is SignalState.CLOSED
    bust(desk, fill)
    entry = next(each for _, event in desk.events if isinstance(each := getattr(event, "message", None), m.Fill))
    desk.prove(("NQ", 2), fills=[entry], orders=[desk.row(stop, LegState.FILLED, 2)])
    again = desk.only(role=OrderRole.STOP_LOSS)
    assert (desk.report().legs[0].open_quantity, again.quantity, again.stop_price) == (2, 2, D(20990))
    assert "kept by the gateway from now on" in desk.report().legs[0].text


def test_a_correction_of_an_entry_shrinks_the_stop_of_the_platform():
    desk, order = entered(3)
    fill = desk.fill(order, 3)
    stop = platform_stop(desk, order)
    desk.give(e.AdapterSaid(message=m.Correction(
        platform="a", account="acc", exec_id=fill.exec_id, kind=m.CorrectionKind.CORRECT, revision=1, quantity=D(1),
        price=fill.price,
    )))  # fmt: skip
    desk.prove(("NQ", 1), fills=[structs.replace(fill, quantity=D(1))], orders=[desk.row(stop)])
    replaces = [each.message for each in desk.all_effects
                if isinstance(each, e.SendToPlatform) and isinstance(each.message, m.Replace)]  # fmt: skip
    assert {(each.client_order_id, each.quantity) for each in replaces} == {(stop.client_order_id, 1)}
