"""Regular comparisons: what differs is found, what a platform lists in its own way is no difference."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import LegState, OrderRole

from tests.support.books import LOST_ID, ROWS, Books, rows_of
from tests.support.orders import SECOND


@pytest.mark.parametrize("what", [each for each in ROWS if each not in ("nothing new",)])
def test_whatever_differs_is_found_by_a_regular_comparison(what):
    desk = Books()
    assert desk.difference() == ""
    # What is no difference: the text of an execution without our id says nothing of its order.
    expected = what != "an execution of another order"
    assert bool(desk.difference(**rows_of(desk, ROWS[what]))) is expected


def test_orders_of_others_are_the_same_in_whatever_sequence_the_platform_lists_them():
    desk = Books()
    own = desk.listed().working_orders.rows[0]
    theirs = [structs.replace(own, client_order_id="by hand", platform_order_id=name) for name in ("H1", "H2", "H3")]
    desk.compare(orders=(own, *theirs))
    desk.now_ns += 5 * SECOND
    assert desk.difference(orders=(*reversed(theirs), own)) == ""
    gone = desk.engine.compare_snapshot(desk.listed(orders=(own, *theirs[1:])), desk.now_ns)
    assert gone == e.Difference("orders of others are not the same", needs_whole=False)


def test_a_copy_of_an_id_of_ours_that_stays_is_no_difference():
    """A trade copier writes our comment on orders of another account: each comparison was a whole one for it."""
    desk = Books()
    desk.link_up("b")
    desk.signal("b", signal_id="s2")
    own = desk.listed().working_orders.rows[0]
    copy = structs.replace(own, client_order_id=desk.only("b").client_order_id, platform_order_id="C1")
    desk.compare(orders=(own, copy))
    desk.now_ns += 60 * SECOND
    assert desk.difference(orders=(copy, own)) == ""
    assert desk.difference() == "orders of others are not the same"


def test_two_tickets_of_one_symbol_repeat_their_positions_at_their_own_prices():
    desk = Books()
    tickets = tuple(
        m.Position(symbol="NQ", quantity=D(1), avg_price=D(price), ticket=f"T{price}") for price in (21000, 21004)
    )
    desk.compare(positions=tickets)
    desk.now_ns += 60 * SECOND
    assert desk.reduced(positions=tickets).same_positions
    desk.give(e.AdapterSaid(message=desk.listed(positions=tickets)))
    assert desk.difference(positions=tickets) == ""
    dearer = (tickets[0], structs.replace(tickets[1], avg_price=D(21005)))
    moved = desk.engine.compare_snapshot(desk.listed(positions=dearer), desk.now_ns)
    assert moved == e.Difference("positions are not as they were last reported", needs_whole=False)


def test_opposite_tickets_that_add_up_to_nothing_repeat_their_positions():
    desk = Books()
    held = m.Position(symbol="NQ", quantity=D(2))
    opposite = tuple(
        m.Position(symbol="ES", quantity=D(lots), avg_price=D(5000), ticket=f"T{lots}") for lots in (1, -1)
    )
    desk.compare(positions=(held, *opposite))
    desk.now_ns += 60 * SECOND
    assert desk.difference(positions=(held, *opposite)) == ""


@pytest.mark.parametrize("lacks", ["executions_history", "lists_orders", "lists_positions"])
def test_what_a_platform_cannot_list_is_no_difference(lacks):
    """Bookmap lists no orders, some vendors behind Quantower no executions: each comparison found them missing."""
    desk = Books()
    desk.link_down()
    desk.link_up("a", answer=False, **{lacks: False})
    lists = {"executions_history": {"fills": ()}, "lists_orders": {"orders": ()}, "lists_positions": {"positions": ()}}
    desk.give(e.AdapterSaid(message=desk.listed(**lists[lacks])))
    desk.now_ns += 60 * SECOND
    assert desk.difference(**lists[lacks]) == ""
    for part, missing in lists.items():
        if part != lacks:
            assert desk.difference(**lists[lacks], **missing), part


def test_an_order_that_has_traded_repeats_its_row_where_no_executions_are_listed():
    desk = Books()
    desk.signal("a", signal_id="s2", order_type=m.OrderType.LIMIT, limit_price=D(20999), quantity=D(2))
    entry = desk.only()
    desk.update(entry)
    desk.fill(entry, 1)
    desk.update(entry, LegState.PARTIALLY_FILLED, 1)
    stops = [each.order for each in desk.engine.state.orders.values() if each.live and each.role is OrderRole.STOP_LOSS]
    for stop in stops:
        desk.update(stop)
    desk.link_down()
    desk.link_up("a", answer=False, executions_history=False)
    rows = tuple(
        structs.replace(desk.row(order, state, filled), platform_order_id=f"P-{order.client_order_id[-6:]}")
        for order, state, filled in [
            *((stop, LegState.WORKING, 0) for stop in stops),
            (entry, LegState.PARTIALLY_FILLED, 1),
        ]
    )
    listed = {"orders": rows, "fills": (), "positions": (m.Position(symbol="NQ", quantity=D(3)),)}
    desk.give(e.AdapterSaid(message=desk.listed(**listed)))
    desk.now_ns += 60 * SECOND
    assert desk.difference(**listed) == ""


@pytest.mark.parametrize("end", [LegState.CANCELLED, LegState.EXPIRED, LegState.REJECTED])
def test_an_end_that_is_listed_in_another_way_than_it_was_reported_is_no_difference(end):
    desk = Books()
    own = desk.listed().working_orders.rows[0]
    desk.signal("a", signal_id="s2", order_type=m.OrderType.LIMIT, limit_price=D(20999), quantity=D(1))
    ended = desk.only()
    desk.update(ended)
    desk.update(ended, LegState.CANCELLED)
    row = structs.replace(desk.row(ended, end), platform_order_id=f"P-{ended.client_order_id[-6:]}")
    desk.compare(orders=(own, row))
    desk.now_ns += 60 * SECOND
    assert desk.difference(orders=(own, row)) == ""


def test_tickets_are_the_same_in_whatever_sequence_the_platform_lists_them():
    desk = Books()
    tickets = tuple(
        m.Position(symbol="NQ", quantity=D(1), avg_price=D(price), ticket=f"T{price}") for price in (21000, 21004)
    )
    desk.compare(positions=tickets)
    desk.now_ns += 60 * SECOND
    assert desk.difference(positions=tickets[::-1]) == ""


def test_a_bar_that_only_a_snapshot_of_the_engine_ends_is_a_difference():
    desk = Books()
    desk.engine.state.routes["a|acc"].positions["NQ"].over_closed_request = 7
    assert "closing orders are barred" in desk.difference()
    desk.engine.state.routes["a|acc"].positions["NQ"].over_closed_request = 0
    desk.engine.state.routes["a|acc"].flatten_sent_ns = desk.now_ns
    assert "closing orders are barred" in desk.difference()


def test_an_order_that_the_journal_has_lost_is_compared_once_and_again_when_it_changes():
    """A platform that lists the orders of the day: each comparison found the lost one, each was a whole one."""
    desk = Books()
    own = desk.listed().working_orders.rows[0]
    lost = structs.replace(own, client_order_id=LOST_ID, platform_order_id="L1", state=LegState.FILLED, filled=D(2))
    assert desk.difference(orders=(own, lost)) == f"order {LOST_ID} is not as it is listed"
    desk.compare(orders=(own, lost))
    desk.now_ns += 60 * SECOND
    assert desk.difference(orders=(own, lost)) == ""
    ended = structs.replace(lost, state=LegState.CANCELLED)
    assert desk.difference(orders=(own, ended)) == f"order {LOST_ID} is not as it is listed"
    assert desk.difference() == f"order {LOST_ID}, which the journal has lost, is not listed any more"


def test_what_is_on_its_way_is_no_difference():
    desk = Books()
    desk.ask(m.SignalClose(signal_id="s1"))
    assert desk.difference() == "", "the cancel of the stop has just left"
    desk.update(desk.stop, LegState.CANCELLED)
    leaving = desk.only(role=OrderRole.EXIT)
    assert desk.difference() == "", "a snapshot of just before lists the stop, and not the closing order"
    desk.fill(leaving)
    assert desk.difference() == "", "it holds the lots still"
    desk.now_ns += 10 * SECOND
    assert desk.difference(), "later it may not"
