"""Snapshots as differences: what repeats the books is left out, what differs is kept, and the outcome is the same."""

from __future__ import annotations

import itertools
from decimal import Decimal as D

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.engine import Engine
from nexus_gateway.core.journal.store import encode_event

from tests.support.books import ROWS, Books, rows_of, settings
from tests.support.orders import SECOND, Desk


def test_a_snapshot_that_repeats_the_books_keeps_no_row():
    event = Books().reduced()
    assert not event.snapshot.executions.rows
    assert not event.snapshot.working_orders.rows
    assert not event.snapshot.positions.rows
    assert event.same_positions
    assert event.same_external_orders
    assert not event.unlisted_executions
    assert not event.unlisted_orders


def test_its_size_follows_what_is_new_and_not_what_was_traded():
    desk = Books()
    sizes = []
    fills = [desk.booked]
    for number in range(40):
        other = desk.of(exec_id=f"e{number}", client_order_id="", ts_event_ns=desk.now_ns)
        fills.append(other)
        desk.give(e.AdapterSaid(message=other))
        position = (m.Position(symbol="NQ", quantity=D(2 * len(fills))),)
        sizes.append(len(encode_event(desk.reduced(fills=tuple(fills), positions=position))))
        desk.give(e.AdapterSaid(message=desk.listed(fills=tuple(fills), positions=position)))
    assert max(sizes) - min(sizes) <= 8, "a position of more digits"


@pytest.mark.parametrize("what", ROWS)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_reduced_snapshot_has_the_outcome_of_the_whole_one(what, times):
    desk = Books()
    for _ in range(times):
        desk.now_ns += 5 * SECOND
        rows = rows_of(desk, ROWS[what])
        reduced = desk.reduced(**rows)
        whole = structs.replace(reduced, snapshot=desk.listed(**rows), same_positions=False, same_external_orders=False)
        outcomes = []
        for event in (whole, reduced):
            twin = Engine.load(desk.engine.save())
            outcomes.append((twin.handle(event, desk.now_ns), twin.digest()))
        assert outcomes[0] == outcomes[1]
        desk.give(e.AdapterSaid(message=desk.listed(**rows)))


def test_a_fill_between_request_and_answer_of_a_bar_is_asked_about_again_at_once():
    """A closing order made the position larger while a snapshot was on its way: its bar stood for up to an hour."""
    desk = Books()
    desk.want()
    route = desk.engine.state.routes["a|acc"]
    route.positions["NQ"].over_closed_request = route.request_id + 1
    desk.give(e.AdapterSaid(message=desk.listed()))
    assert route.positions["NQ"].over_closed_request
    assert 0 < route.snapshot_due_ns <= desk.now_ns + 10 * SECOND


def test_an_answer_that_nobody_awaits_leaves_nothing_but_a_count():
    desk = Books()
    event = desk.engine.condense(e.AdapterSaid(message=desk.listed(fills=(desk.of(exec_id="x9"),))))
    assert isinstance(event, e.SnapshotChanges)
    assert not event.snapshot.executions.rows
    desk.give(event)
    assert desk.count("stale_snapshot") == 1


def test_the_engine_compares_the_whole_period_once_an_hour_and_before_the_day_ends():
    desk = Books()
    route = desk.engine.state.routes["a|acc"]
    hour_ns = 3_600 * SECOND
    assert route.whole_compared_ns + hour_ns == desk.engine.next_due_ns()
    day_ends_ns = desk.engine.state.day.ends_ns
    asked = []
    while desk.now_ns < day_ends_ns:
        due_ns = desk.engine.next_due_ns()
        assert due_ns is not None
        desk.now_ns = max(due_ns, desk.now_ns)
        desk.give(e.ClockTicked())
        if requests := desk.sent(m.SnapshotRequest):
            asked.append((desk.now_ns, requests[0].executions_from_ns))
            desk.give(e.AdapterSaid(message=desk.listed()))
    gaps_ns = [later[0] - earlier[0] for earlier, later in itertools.pairwise(asked)]
    assert all(gap_ns <= hour_ns for gap_ns in gaps_ns)
    last_ns, from_ns = asked[-1]
    assert 0 < day_ends_ns - last_ns <= 300 * SECOND
    assert from_ns <= day_ends_ns - 86_400 * SECOND, "the whole of the day that ends"


def test_an_old_bust_is_found_by_the_comparison_of_the_whole_period():
    desk = Books()
    desk.now_ns += 5 * 3_600 * SECOND
    for _ in range(2):
        desk.compare(fills=(), positions=())
        desk.now_ns += 2 * SECOND
    assert desk.count("bust_inferred") == 1
    assert desk.position() == 0


def test_a_stage_goes_up_only_after_the_whole_period_was_compared():
    desk = Desk("a", settings=settings())
    stages = dict(desk.limits.stages)
    stages[2] = structs.replace(stages[1], confirmation="up")
    desk.engine.state.limits = structs.replace(desk.limits, stages=stages)
    desk.now_ns += 600 * SECOND
    promote = m.StageChange(request_id=1, stage=2, by="x", confirmation="up", evidence="r")
    desk.ask(promote)
    assert desk.answers()[0].code is m.RejectCode.PLATFORM_NOT_READY
    assert "a|acc" in desk.answers()[0].text
    assert len(desk.sent(m.SnapshotRequest)) == 1
    desk.ask(promote)
    assert not desk.sent(m.SnapshotRequest), "one is on its way"
    desk.snapshot("a")
    desk.ask(promote)
    assert desk.answers()[0].accepted
    assert desk.engine.state.stage == 2


def test_a_comparison_after_a_trade_asks_for_what_is_new_and_puts_off_no_whole_one():
    desk = Books()
    route = desk.engine.state.routes["a|acc"]
    whole_ns, from_ns = route.whole_compared_ns, desk.now_ns - 400 * SECOND
    wanted = e.SnapshotWanted(platform="a", account="acc", reason="test", executions_from_ns=from_ns)
    desk.give(wanted)
    (request,) = desk.sent(m.SnapshotRequest)
    assert request.executions_from_ns == from_ns
    desk.give(e.AdapterSaid(message=desk.listed()))
    assert route.last_reconciled_ns == desk.now_ns
    assert route.whole_compared_ns == whole_ns
    desk.give(wanted)
    desk.wait(6_000)
    (request,) = desk.sent(m.SnapshotRequest)
    assert request.executions_from_ns < whole_ns, "it was lost: the next one asks for all"
