"""A finished signal leaves the engine's memory, and nothing that is said of it later is lost, doubled or misjudged."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal as D
from pathlib import Path

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.invariants import check
from nexus_gateway.core.journal import verify
from nexus_gateway.core.messages import LegState, OrderRole, RejectCode, SignalState

from tests.support.finished_desk import FINISHED_AFTER_MS, FinishedDesk
from tests.support.orders import MS, SECOND


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[FinishedDesk]:
    made = FinishedDesk(tmp_path / "orders.sqlite", "a")
    yield made
    assert check(made.engine.state) == []
    assert verify(made.path).problems == []
    made.journal.close()


def everything(desk: FinishedDesk) -> dict[str, int]:
    state = desk.engine.state
    return {
        "signals": len(state.signals),
        "keys": len(state.signals_by_key),
        "orders": len(state.orders),
        "executions": len(state.executions),
        "listed": len(state.routes["a|acc"].executions),
        "over": len(state.over),
    }


def test_what_is_over_leaves_the_memory_and_the_books_stay(desk: FinishedDesk) -> None:
    desk.trade()
    desk.signal("a", signal_id="s2")
    desk.fill(desk.only())
    assert "s1" in desk.engine.state.signals
    desk.finish()
    assert everything(desk) == {"signals": 1, "keys": 1, "orders": 1, "executions": 1, "listed": 1, "over": 0}
    assert desk.position() == 2
    assert desk.engine.state.day.trades.keys() == {m.signal_key("s1"), m.signal_key("s2")}


def test_a_refused_signal_leaves_as_well(desk: FinishedDesk) -> None:
    desk.signal("b")
    desk.finish()
    assert everything(desk)["signals"] == 0


@pytest.mark.parametrize("restarts", [False, True])
def test_its_id_again_is_answered_with_its_report_and_never_traded_twice(desk: FinishedDesk, restarts: bool) -> None:
    desk.trade()
    before = structs.replace(desk.report(), duplicate=True)
    desk.finish()
    if restarts:
        desk.restart()
    desk.signal()
    (report,) = [each for each in desk.told() if isinstance(each, m.Report) and each.duplicate]
    assert report.has_same_content(before)
    assert (desk.recalled(), desk.sent(m.Order), desk.count("duplicate_signal")) == (["s1"], [], 1)
    desk.finish()
    assert everything(desk)["signals"] == 0


def test_a_question_for_its_report_is_answered_without_a_recall(desk: FinishedDesk) -> None:
    desk.trade()
    before, closed_ns = desk.report(), desk.wall_ns
    desk.finish()
    desk.ask(m.Query(request_id=4, what=m.QueryKind.REPORT, signal_id="s1"))
    (report,) = desk.answers()
    assert report.has_same_content(before)
    assert (report.changed_ns, desk.given) == (closed_ns, [])
    desk.ask(m.Query(request_id=5, what=m.QueryKind.REPORT, signal_id="s9"))
    assert desk.answers()[0].code is RejectCode.UNKNOWN_SIGNAL


def test_a_question_for_executions_lists_those_of_finished_signals_first(desk: FinishedDesk) -> None:
    fills = desk.trade()
    desk.finish()
    desk.signal(signal_id="s2")
    fills.append(desk.fill(desk.only()))
    desk.ask(m.Query(request_id=4, what=m.QueryKind.EXECUTIONS))
    (answer,) = desk.answers()
    assert [(row.exec_id, row.price, row.side) for row in answer.rows] == [
        (fill.exec_id, fill.price, fill.side) for fill in fills
    ]


def test_close_and_cancel_of_a_finished_signal_are_no_unknown_signals(desk: FinishedDesk) -> None:
    desk.trade()
    desk.finish()
    for request in (m.SignalClose(signal_id="s1"), m.SignalCancel(signal_id="s1")):
        desk.ask(request)
        assert not [each for each in desk.told() if isinstance(each, m.Reject)]
    assert desk.sent(m.Order) == []
    desk.ask(m.SignalReplace(signal_id="s1", limit_price=D(20990)))
    assert [each.code for each in desk.told() if isinstance(each, m.Reject)] == [RejectCode.REPLACE_REJECTED]


def test_snapshots_that_list_the_day_recall_nothing_and_give_the_engine_nothing_again(desk: FinishedDesk) -> None:
    fills = desk.trade()
    rows = [desk.ended(order) for order in desk.orders.values()]
    desk.finish()
    for _ in range(3):
        desk.wait(40_000)
        desk.snapshot(fills=fills, orders=rows)
        (event,) = desk.given
        assert isinstance(event, e.SnapshotChanges)
        assert (event.snapshot.executions.rows, event.snapshot.working_orders.rows) == ((), ())
    assert everything(desk)["signals"] == 0
    assert desk.engine.state.routes["a|acc"].ready


def test_a_regular_comparison_agrees_about_finished_executions_and_misses_them(desk: FinishedDesk) -> None:
    fills = desk.trade()
    rows = [desk.ended(order) for order in desk.orders.values()]
    desk.wait(31_000)
    desk.snapshot(fills=fills, orders=rows)
    desk.finish()
    snapshot = desk.make_snapshot(fills=fills, orders=rows)
    assert desk.journaled.compare_snapshot(snapshot, desk.now_ns) is None
    missing = desk.make_snapshot(fills=fills[1:], orders=rows)
    of_rows = e.Difference("more is said of finished signals: s1")
    assert desk.journaled.compare_snapshot(missing, desk.now_ns) == of_rows
    assert everything(desk)["signals"] == 0, "a comparison is no event, and recalls nothing"
    late = structs.replace(fills[1], exec_id="x9")
    more = desk.make_snapshot(fills=[*fills, late], orders=rows)
    assert desk.journaled.compare_snapshot(more, desk.now_ns) == of_rows


def test_executions_of_a_recalled_signal_are_listed_where_they_were_booked(desk: FinishedDesk) -> None:
    fills = desk.trade()
    desk.finish()
    desk.signal(signal_id="s2")
    desk.fill(desk.only())
    desk.give(e.AdapterSaid(message=structs.replace(fills[0], price=D(20999))))
    assert desk.recalled() == ["s1"]
    assert list(desk.engine.state.routes["a|acc"].executions) == ["a|acc|x1", "a|acc|x2", "a|acc|x3"]


def test_a_report_of_an_execution_or_an_end_again_is_dropped(desk: FinishedDesk) -> None:
    fills = desk.trade()
    entry = desk.only()
    desk.finish()
    for fill in fills:
        assert desk.give(e.AdapterSaid(message=fill)) == []
    assert desk.update(entry, LegState.FILLED, 2) == []
    assert (desk.given, desk.journaled.repetitions) == ([], 3)


@pytest.mark.parametrize("in_snapshot", [False, True])
def test_a_late_fill_of_its_order_is_booked_on_its_leg(desk: FinishedDesk, in_snapshot: bool) -> None:
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(21000))
    entry = desk.only()
    desk.update(entry)
    first = desk.fill(entry, 1)
    desk.ask(m.SignalCancel(signal_id="s1"))
    desk.update(entry, LegState.CANCELLED, 1)
    desk.ask(m.SignalClose(signal_id="s1"))
    closed = desk.fill(desk.only(role=OrderRole.EXIT))
    desk.update(desk.only(role=OrderRole.EXIT), LegState.FILLED, 1)
    desk.finish()
    assert everything(desk)["signals"] == 0
    late = desk.make_fill(entry, 1)
    if in_snapshot:
        desk.snapshot(fills=[first, closed, late], positions=[("NQ", 1)])
    else:
        desk.give(e.AdapterSaid(message=late))
    assert desk.recalled() == ["s1"]
    leg = desk.engine.state.signals["s1"].legs[0]
    assert (desk.position(), leg.executions.keys() >= {"a|acc|x1", "a|acc|x2", "a|acc|x3"}) == (1, True)
    # The leg is closing, so what has filled too late is closed again: as if it had never left.
    assert [order.quantity for order in desk.sent(m.Order)] == [D(1)]


@pytest.mark.parametrize("kind", list(m.CorrectionKind))
def test_a_correction_or_bust_of_its_execution_is_booked(desk: FinishedDesk, kind: m.CorrectionKind) -> None:
    fills = desk.trade()
    realized = desk.report().realized_usd
    desk.finish()
    terms = {"quantity": D(2), "price": D(21010)} if kind is m.CorrectionKind.CORRECT else {}
    correction = m.Correction(platform="a", account="acc", exec_id=fills[1].exec_id, kind=kind, revision=1, **terms)
    desk.give(e.AdapterSaid(message=correction))
    assert desk.recalled() == ["s1"]
    if kind is m.CorrectionKind.BUST:
        assert (desk.position(), desk.report().residual_quantity) == (2, 2)
    else:
        assert desk.report().realized_usd == realized + 40
        desk.finish()
        assert everything(desk)["signals"] == 0


def test_an_execution_that_two_snapshots_do_not_list_any_more_is_presumed_busted(desk: FinishedDesk) -> None:
    fills = desk.trade()
    desk.finish()
    desk.wait(31_000)
    desk.snapshot(fills=fills[:1], positions=[("NQ", 2)])
    assert desk.recalled() == ["s1"]
    desk.finish()
    assert everything(desk)["signals"] == 1, "it waits for the second snapshot"
    desk.snapshot(fills=fills[:1], positions=[("NQ", 2)])
    assert (desk.position(), desk.count("bust_inferred")) == (2, 1)
    desk.wait(1_100)
    desk.snapshot(fills=fills, positions=[])
    assert desk.position() == 0


def test_an_order_that_works_after_all_is_watched_again(desk: FinishedDesk) -> None:
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(20999))
    entry = desk.only()
    desk.update(entry)
    desk.ask(m.SignalCancel(signal_id="s1"))
    desk.update(entry, LegState.CANCELLED)
    desk.finish()
    desk.wait(31_000)
    desk.snapshot(orders=[desk.ended(entry, LegState.WORKING, 0)])
    assert desk.recalled() == ["s1"]
    assert desk.engine.state.orders[entry.client_order_id].live
    assert "s1" in desk.engine.state.active


def test_an_id_that_is_used_again_is_judged_by_the_engine(desk: FinishedDesk) -> None:
    fills = desk.trade()
    desk.finish()
    desk.signal(signal_id="s2")
    other = desk.make_fill(desk.only(), exec_id=fills[0].exec_id)
    desk.give(e.AdapterSaid(message=other))
    assert desk.recalled() == ["s1"]
    (standing,) = desk.engine.state.routes["a|acc"].contradictions.values()
    assert standing.kind is m.ContradictionKind.REUSED_ID
    desk.finish()
    assert "s1" in desk.engine.state.signals, "it stays while a contradiction names it"


def test_signals_whose_executions_share_an_id_are_recalled_together_or_not_at_all(desk: FinishedDesk) -> None:
    """Else a row of the one that is not recalled would be an order that nobody knows."""
    shared = desk.trade("s1")
    desk.signal(signal_id="s2", side=m.Side.SELL)
    other = desk.fill(desk.only(), exec_id=shared[0].exec_id)
    listed, held = [*shared, other], [("NQ", -2)]
    for _ in range(3):
        desk.snapshot(fills=listed, positions=held)
        desk.wait(4_000)
    assert desk.position() == -2, "two snapshots have confirmed the second use"
    desk.ask(m.SignalClose(signal_id="s2"))
    listed.append(desk.fill(desk.only(role=OrderRole.EXIT)))
    desk.finish()
    assert everything(desk)["signals"] == 0
    desk.wait(31_000)
    desk.snapshot(fills=listed)
    assert desk.recalled() == []
    desk.wait(31_000)
    desk.snapshot(fills=[structs.replace(listed[1], price=D(20900)), *listed[:1], *listed[2:]])
    assert sorted(desk.recalled()) == ["s1", "s2"]
    assert desk.engine.state.orphans == {}


def test_an_execution_by_the_ticket_of_its_position_is_booked_on_its_leg(tmp_path: Path) -> None:
    desk = FinishedDesk(tmp_path / "orders.sqlite", "b")
    desk.link_up("a", mode=m.AccountMode.HEDGING, close_by_ticket=True)
    desk.signal()
    desk.fill(desk.only(), position_ticket="T1")
    desk.ask(m.SignalClose(signal_id="s1"))
    exit_order = desk.only(role=OrderRole.EXIT)
    desk.fill(exit_order, position_ticket="T1")
    desk.finish()
    assert desk.engine.state.routes["a|acc"].ticket_owner == {}
    desk.fill(exit_order, 1, client_order_id="", position_ticket="T1")
    assert desk.recalled() == ["s1"]
    assert desk.engine.state.executions["a|acc|x3"].signal_id == "s1"
    assert desk.engine.state.routes["a|acc"].ticket_owner == {"T1": ("s1", 0)}
    desk.fill(exit_order, 1, client_order_id="", position_ticket="T2")
    assert desk.recalled() == []
    desk.journal.close()


def test_a_signal_whose_execution_has_no_value_yet_waits_for_its_rate(tmp_path: Path) -> None:
    desk = FinishedDesk(tmp_path / "orders.sqlite", "a")
    desk.trade()
    desk.engine.state.day.unpriced_executions["a|acc|x1"] = None
    desk.finish()
    assert "s1" in desk.engine.state.signals
    del desk.engine.state.day.unpriced_executions["a|acc|x1"]
    desk.finish()
    assert desk.engine.state.signals == {}
    desk.journal.close()


def test_what_is_recalled_after_a_roll_goes_by_its_names_of_now(tmp_path: Path) -> None:
    desk = FinishedDesk(tmp_path / "orders.sqlite")

    def link(front: str) -> None:
        names = {"NQ": front} | ({"NQH25": "NQH25"} if front == "NQM25" else {})
        instruments = [m.Instrument(symbol=s, platform_symbol=c, contract=c) for s, c in names.items()]
        desk.give(e.LinkUp(hello=structs.replace(hello, instruments=tuple(instruments))))
        desk.snapshot(fills=[structs.replace(fill, symbol=names_of[front]) for fill in fills])

    hello = desk.engine.state.routes["a|acc"].hello
    names_of = {"NQH25": "NQ", "NQM25": "NQH25"}
    fills: list[m.Fill] = []
    link("NQH25")
    fills = desk.trade()
    desk.finish()
    link("NQM25")
    assert desk.recalled() == ["s1"]
    state = desk.engine.state
    assert {state.signals["s1"].legs[0].symbol, *(each.symbol for each in state.executions.values())} == {"NQH25"}
    assert {order.order.symbol for order in state.orders.values()} == {"NQH25"}
    assert state.routes["a|acc"].contradictions == {}
    desk.finish()
    link("NQM25")
    assert desk.recalled() == [], "its rows have the new name by now"
    link("NQH25")
    assert {each.symbol for each in desk.engine.state.executions.values()} == {"NQ"}
    desk.journal.close()


def test_executions_from_before_an_account_was_retired_are_not_expected_in_its_snapshots(desk: FinishedDesk) -> None:
    fills = desk.trade()
    desk.finish()
    desk.link_down()
    desk.give(
        e.Started(boot_id="g2", settings=structs.replace(desk.settings, expected_platforms=("b",)), limits=desk.limits)
    )
    desk.ask(m.AccountRetire(request_id=9, platform="a", account="", confirmation="acc", by="me"))
    assert desk.answers()[0].done
    desk.link_up("a", answer=False)
    desk.snapshot(fills=fills[:1])
    assert desk.recalled() == []
    desk.give(e.AdapterSaid(message=structs.replace(fills[1], price=D(20999))))
    assert desk.recalled() == ["s1"]
    assert desk.engine.state.routes["a|acc"].executions == {}


def test_many_signals_finish_in_several_events_and_all_of_them_do(tmp_path: Path) -> None:
    desk = FinishedDesk(tmp_path / "orders.sqlite", "a")
    for number in range(45):
        desk.signal("b", signal_id=f"r{number}")
    left = []
    while desk.engine.state.signals:
        due_ns = desk.engine.next_due_ns()
        assert due_ns is not None
        desk.now_ns = max(desk.now_ns, due_ns)
        desk.give(e.ClockTicked())
        left.append(len(desk.engine.state.signals))
    assert [number for number in left if number < 45] == [25, 5, 0]
    desk.journal.close()


def test_signals_that_end_close_together_share_one_event(desk: FinishedDesk) -> None:
    round_ns = FINISHED_AFTER_MS * MS // 10
    desk.now_ns = -(-desk.now_ns // round_ns) * round_ns + 1
    for number in range(5):
        desk.signal("b", signal_id=f"r{number}")
        desk.now_ns += SECOND
    desk.link_down()
    due_ns = desk.engine.next_due_ns()
    assert due_ns is not None
    desk.now_ns = due_ns
    desk.give(e.ClockTicked())
    assert everything(desk)["signals"] == 0


def test_what_changes_again_counts_its_time_anew(desk: FinishedDesk) -> None:
    desk.trade()
    desk.wait(FINISHED_AFTER_MS // 2)
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.wait(FINISHED_AFTER_MS * 7 // 10)
    assert "s1" in desk.engine.state.signals
    desk.wait(FINISHED_AFTER_MS // 2)
    assert everything(desk)["signals"] == 0


def test_a_start_finds_every_finished_signal_and_remembers_none(desk: FinishedDesk) -> None:
    fills = desk.trade()
    desk.finish()
    digest = desk.engine.digest()
    desk.restart()
    assert desk.engine.digest() == digest
    desk.ask(m.Query(request_id=4, what=m.QueryKind.REPORT, signal_id="s1"))
    assert desk.answers()[0].state is SignalState.CLOSED
    desk.give(e.Started(boot_id="g2", settings=desk.settings, limits=desk.limits))
    desk.link_up("a", answer=False)
    desk.snapshot(fills=fills)
    assert (desk.recalled(), desk.position(), desk.count("evicted_fill")) == ([], 0, 0)


def test_what_others_trade_is_valued_by_the_market_of_a_finished_signal(desk: FinishedDesk) -> None:
    desk.signal(signal_id="s1")
    desk.fill(desk.only())
    desk.trade("s2")
    kill = m.Kill(request_id=7, level=m.KillLevel.FLATTEN, reason="out", by="me")
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.fill(desk.only(role=OrderRole.EXIT))
    desk.finish()
    assert everything(desk)["signals"] == 0
    by_hand = desk.make_fill(desk.only(), 1, client_order_id="by hand", side=m.Side.BUY)
    desk.give(e.AdapterSaid(message=by_hand))
    desk.ask(kill)
    desk.snapshot(fills=[], from_ns=desk.wall_ns, positions=[("NQ", 1)])
    desk.wait(1_100)
    closing = desk.only(role=OrderRole.EXIT)
    desk.fill(closing)
    assert desk.engine.state.day.unpriced_executions == {}
