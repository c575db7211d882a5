"""The table of an order's states: what it allows is applied, anything else is alerted and changes nothing."""

from __future__ import annotations

import itertools

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.orders.lifecycle import move
from nexus_gateway.core.engine.orders.transitions import TRANSITIONS, OrderEvent
from nexus_gateway.core.engine.turn import Turn
from nexus_gateway.core.messages import LegState, RejectCode
from nexus_gateway.core.messages.terms import FINAL_STATES

from tests.support.orders import D, Desk

STATES = [state for state in LegState if state is not LegState.PENDING]  # a leg is pending, never an order
LIVE = [state for state in STATES if state not in FINAL_STATES]
ALL = list(itertools.product(STATES, OrderEvent))


@pytest.mark.parametrize(("state", "event"), ALL, ids=[f"{state}-{event}" for state, event in ALL])
def test_each_state_and_event(state, event):
    desk = Desk("a")
    desk.signal()
    record = desk.engine.state.orders[desk.only().client_order_id]
    record.state = state
    turn = Turn(desk.engine.state, desk.now_ns)
    row = TRANSITIONS.get((state, event))
    assert move(turn, record, event) is (row is not None)
    assert record.state is (state if row is None else row.state)
    alerts = [effect for effect in turn.effects if effect.code is RejectCode.NOT_ALLOWED]
    assert len(alerts) == desk.count("illegal_transition") == (row is None)
    if row is None:
        move(turn, record, event)
        assert len(turn.effects) == len(alerts), "alerted once"


def test_every_row_names_its_case():
    cases = [row.case for row in TRANSITIONS.values()]
    assert all(len(case.split()) > 1 for case in cases)
    assert {state for state, _ in TRANSITIONS} == set(STATES)


def test_what_the_table_says_of_all_states():
    """An order that may trade can end in each way; one that has ended trades again only if it reappears."""
    for state in LIVE:
        ends = {row.state for (before, _), row in TRANSITIONS.items() if before is state and row.state.final}
        assert ends >= {LegState.FILLED, LegState.CANCELLED, LegState.EXPIRED}
        assert TRANSITIONS[state, OrderEvent.UNANSWERED].state is LegState.UNKNOWN
    back = {event for (before, event), row in TRANSITIONS.items() if before.final and not row.state.final}
    assert back == {OrderEvent.REAPPEARED}


def test_a_filled_order_that_is_reported_as_rejected_stays_filled_and_is_shown():
    desk = Desk("a")
    desk.signal(quantity=D(2))
    order = desk.only()
    desk.update(order)
    desk.fill(order)
    for _ in range(3):
        desk.update(order, m.LegState.REJECTED)
    assert (desk.report().legs[0].state, desk.position()) == (LegState.FILLED, D(2))
    assert desk.count("illegal_transition") == 3
    alerts = [effect.text for effect in desk.all_effects if isinstance(effect, e.Alert)]
    assert [text.split(": ", 1)[1] for text in alerts if "rejected" in text] == [
        "reported as rejected after it was filled: not applied, look at the platform"
    ]


def test_a_rejected_order_that_trades_is_no_rejected_one():
    desk = Desk("a")
    desk.signal(quantity=D(2))
    order = desk.only()
    desk.reject(order, RejectCode.PLATFORM_REJECTED)
    desk.fill(order, 1)
    record = desk.engine.state.orders[order.client_order_id]
    assert (record.state, record.cum_qty, desk.position()) == (LegState.CANCELLED, D(1), D(1))
    desk.fill(order, 1)
    assert (record.state, desk.position()) == (LegState.FILLED, D(2))


def test_the_same_end_twice_and_a_late_status_keep_the_reason_of_the_end():
    desk = Desk("a")
    desk.signal(quantity=D(2))
    order = desk.only()
    desk.update(order)
    desk.fill(order, 1)
    for _ in range(2):
        desk.update(order, LegState.REJECTED, 1, text="the exchange refused the rest")
    record = desk.engine.state.orders[order.client_order_id]
    assert (record.state, record.text) == (LegState.CANCELLED, "the exchange refused the rest")
    desk.signal(signal_id="s2", quantity=D(2))
    other = desk.only()
    desk.reject(other)
    desk.update(other, LegState.PARTIALLY_FILLED, 1)
    assert desk.engine.state.orders[other.client_order_id].text == "no"
    assert desk.count("illegal_transition") == 0
    desk.update(other, LegState.FILLED, 2)
    desk.update(order, LegState.EXPIRED, 1)
    assert desk.count("illegal_transition") == 0


@pytest.mark.parametrize("status_first", [True, False])
def test_a_fill_at_the_old_size_while_a_larger_one_is_asked_for(status_first):
    """The platform says that it has filled: then nothing of the order works, whatever became of the replace."""
    desk = Desk("a")
    desk.link_down()
    desk.link_up("a", executions_history=False)
    desk.signal(quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(2)))
    desk.update(order, quantity=D(2), replace_revision=1)
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(3)))
    record = desk.engine.state.orders[order.client_order_id]
    if status_first:
        desk.update(order, LegState.FILLED, 2, quantity=D(2))
    desk.fill(order, 2)
    if not status_first:
        assert (record.state, record.live) == (LegState.PARTIALLY_FILLED, True), "the larger size may be accepted"
        desk.update(order, LegState.FILLED, 2, quantity=D(2))
    assert (record.state, record.quantity, record.replace) == (LegState.FILLED, D(2), None)
    desk.ask(m.SignalClose(signal_id="s1"))
    assert [each.quantity for each in desk.sent(m.Order)] == [2], "the close leaves at once"


def test_a_larger_size_that_is_accepted_behind_the_fill_of_the_old_one_works_on():
    desk = Desk("a")
    desk.signal(quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(2)))
    desk.update(order, quantity=D(2), replace_revision=1)
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(3)))
    desk.fill(order, 2)
    desk.update(order, LegState.PARTIALLY_FILLED, 2, quantity=D(3), replace_revision=2)
    record = desk.engine.state.orders[order.client_order_id]
    assert (record.live, record.leaves_qty) == (True, D(1))
    desk.fill(order, 1)
    assert (record.state, desk.position()) == (LegState.FILLED, D(3))


def test_a_larger_size_that_is_refused_behind_the_fill_of_the_old_one_is_filled():
    desk = Desk("a")
    desk.signal(quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(2)))
    desk.update(order, quantity=D(2), replace_revision=1)
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(3)))
    desk.fill(order, 2)
    desk.reject(order, RejectCode.REPLACE_REJECTED, replace_revision=2)
    assert desk.engine.state.orders[order.client_order_id].state is LegState.FILLED
