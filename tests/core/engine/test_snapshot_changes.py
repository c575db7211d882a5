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
from nexus_gateway.core.messages import LegState, OrderRole

from tests.support.orders import SECOND, Desk

LOST_ID = m.client_order_id("A" * 12, 0, OrderRole.ENTRY, 0, 22)


def settings(**changes) -> e.EngineSettings:
    return e.EngineSettings(client_order_id_chars=22, check_ms=30_000, proof_ms=3_600_000, **changes)


class Books(Desk):
    """A desk with one leg of two lots on `a`, its stop at work there; and what the platform lists of it."""

    def __init__(self) -> None:
        super().__init__("a", settings=settings())
        self.signal("a")
        self.entry = self.only()
        self.update(self.entry)
        self.booked = self.fill(self.entry)
        self.stop = self.only(role=OrderRole.STOP_LOSS)
        self.update(self.stop)
        self.now_ns += 60 * SECOND
        self.compare()
        self.now_ns += 60 * SECOND

    def link_up(self, platform: str, *args, **able) -> None:
        super().link_up(platform, *args, **({"brackets": False} | able))

    def listed(self, **changes) -> m.Snapshot:
        name = {"platform": "a", "account": "acc"}
        row = structs.replace(self.row(self.stop), platform_order_id=f"P-{self.stop.client_order_id[-6:]}")
        rows = {"positions": (m.Position(symbol="NQ", quantity=D(2)),), "orders": (row,), "fills": (self.booked,)}
        rows |= changes
        return m.Snapshot(
            request_id=self.engine.state.routes["a|acc"].request_id,
            **name,
            positions=m.Positions(**name, rows=rows["positions"]),
            working_orders=m.WorkingOrders(**name, rows=rows["orders"]),
            executions=m.Executions(**name, rows=rows["fills"]),
            complete=rows.get("complete", True),
        )

    def compare(self, **changes) -> None:
        self.want()
        self.give(e.AdapterSaid(message=self.listed(**changes)))

    def want(self) -> None:
        self.give(e.SnapshotWanted(platform="a", account="acc", reason="test"))

    def difference(self, **changes) -> str:
        found = self.engine.compare_snapshot(self.listed(**changes), self.now_ns)
        return "" if found is None else found.text

    def reduced(self, **changes) -> e.SnapshotChanges:
        self.want()
        event = self.engine.condense(e.AdapterSaid(message=self.listed(**changes)))
        assert isinstance(event, e.SnapshotChanges)
        return event

    def of(self, **changes) -> m.Fill:
        return structs.replace(self.booked, **changes)


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


ROWS = {
    "nothing new": {},
    "an execution that was lost on its way": {"fills": "booked and another"},
    "an execution at another price": {"fills": "at another price"},
    "an execution of another order": {"fills": "of no order"},
    "an execution twice": {"fills": "twice"},
    "a busted execution": {"fills": ()},
    "an order that is gone": {"orders": ()},
    "an order that ended": {"orders": "cancelled"},
    "an order of other terms": {"orders": "at another price"},
    "an order of another side": {"orders": "turned"},
    "an order of others": {"orders": "ours and theirs"},
    "an order of ours that is not known": {"orders": "ours and a lost one"},
    "another position": {"positions": (m.Position(symbol="NQ", quantity=D(3)),)},
    "another symbol": {"positions": (m.Position(symbol="ES", quantity=D(2)),)},
    "flat": {"positions": ()},
    "not complete": {"complete": False},
}


def rows_of(desk: Books, what: dict) -> dict:
    own = desk.listed().working_orders.rows[0]
    theirs = structs.replace(own, client_order_id="by hand", platform_order_id="H1")
    fills = {
        "booked and another": (desk.booked, desk.of(exec_id="lost", client_order_id="")),
        "at another price": (desk.of(price=D(20999)),),
        "of no order": (desk.of(client_order_id=""),),
        "twice": (desk.booked, desk.booked),
    }
    orders = {
        "cancelled": (structs.replace(own, state=LegState.CANCELLED),),
        "at another price": (structs.replace(own, stop_price=D(20980)),),
        "turned": (structs.replace(own, side=m.Side.BUY),),
        "ours and theirs": (own, theirs),
        "ours and a lost one": (own, structs.replace(theirs, client_order_id=LOST_ID)),
    }
    found = dict(what)
    if isinstance(what.get("fills"), str):
        found["fills"] = fills[what["fills"]]
    if isinstance(what.get("orders"), str):
        found["orders"] = orders[what["orders"]]
    return found


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


def test_a_fill_between_request_and_answer_of_a_bar_is_asked_about_again_at_once():
    """A closing order made the position larger while a snapshot was on its way: its bar stood for up to an hour."""
    desk = Books()
    desk.want()
    route = desk.engine.state.routes["a|acc"]
    route.positions["NQ"].over_closed_request = route.request_id + 1
    desk.give(e.AdapterSaid(message=desk.listed()))
    assert route.positions["NQ"].over_closed_request
    assert 0 < route.snapshot_due_ns <= desk.now_ns + 10 * SECOND


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
