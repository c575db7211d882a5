"""Regular comparisons: one that agrees is no event, one that differs or is not answered has the engine ask itself."""

from __future__ import annotations

import itertools
from decimal import Decimal as D
from typing import Any, cast

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.gateway.journaled_engine import JournaledEngine
from nexus_gateway.core.gateway.snapshot_checks import SnapshotChecks, is_check

from tests.simulation.surroundings import make_log
from tests.support.orders import SECOND, Desk

CHECK_S = 30


class Inside:
    """Stands for the stand-ins of a gateway without any."""

    def outward(self, message: m.Message) -> m.Message:
        return message


class Around(Desk):
    """What is around the engine, without sockets: `asked` holds the requests that have left."""

    def __init__(self, *platforms: str) -> None:
        super().__init__(
            *platforms,
            settings=e.EngineSettings(client_order_id_chars=22, check_ms=CHECK_S * 1_000, proof_ms=3_600_000),
        )
        self.asked: list[tuple[int, str, m.SnapshotRequest]] = []
        self.checks_of = SnapshotChecks(
            cast("JournaledEngine", self), cast("Any", self), cast("Any", Inside()), make_log()
        )

    def compare_snapshot(self, snapshot: m.Snapshot, sent_ns: int) -> e.Difference | None:
        return self.engine.compare_snapshot(snapshot, sent_ns)

    def send(self, peer: str, *bodies: m.Message) -> bool:
        for body in bodies:
            assert isinstance(body, m.SnapshotRequest)
            self.asked.append((self.now_ns, peer, body))
        return True

    def run(self, seconds: int, answer: bool = True) -> list[e.Event]:
        """Let the time pass in steps of 100 ms, each request answered with what an empty account lists."""
        events: list[e.Event] = []
        for _ in range(seconds * 10):
            self.now_ns += SECOND // 10
            before = len(self.asked)
            events += self.checks_of.run(self.now_ns)
            for _, _, request in self.asked[before:] if answer else ():
                events += self.checks_of.take(self.listed(request), self.now_ns)
        return events

    def until_asked(self, platform: str) -> m.SnapshotRequest:
        """Let the time pass until this platform has been asked; its answer is for the test to give."""
        while True:
            self.now_ns += SECOND // 10
            before = len(self.asked)
            self.checks_of.run(self.now_ns)
            for _, peer, request in self.asked[before:]:
                if peer == f"{platform}|acc":
                    return request
                self.checks_of.take(self.listed(request), self.now_ns)

    def listed(self, request: m.SnapshotRequest, **changes: Any) -> m.Snapshot:
        name = {"platform": request.platform, "account": request.account}
        values: dict[str, Any] = {
            "request_id": request.request_id,
            **name,
            "positions": m.Positions(**name, rows=()),
            "working_orders": m.WorkingOrders(**name, rows=()),
            "executions": m.Executions(**name, rows=(), from_ns=request.executions_from_ns),
        }
        return m.Snapshot(**(values | changes))


@pytest.fixture
def desk() -> Around:
    return Around("a", "b", "c")


def test_what_agrees_is_no_event_and_shows_the_time_at_which_it_did(desk):
    before = desk.engine.digest()
    assert desk.run(600) == []
    assert desk.engine.digest() == before
    desk.ask(m.Query(request_id=1, what=m.QueryKind.ACCOUNT_STATE))
    for answer in desk.answers():
        assert desk.now_ns - answer.reconciled_ns <= (CHECK_S + 1) * SECOND


def test_platforms_are_asked_one_after_the_other_each_once_a_period(desk):
    desk.run(300)
    at = {name: [ns for ns, peer, _ in desk.asked if peer == f"{name}|acc"] for name in "abc"}
    for name in "abc":
        gaps = [later - earlier for earlier, later in zip(at[name], at[name][1:], strict=False)]
        assert len(gaps) >= 300 // CHECK_S - 3
        assert all(CHECK_S * SECOND <= gap <= (CHECK_S + 1) * SECOND for gap in gaps)
    firsts = sorted(times[0] for times in at.values())
    assert all(later - earlier >= 5 * SECOND for earlier, later in itertools.pairwise(firsts))


def test_each_asks_from_the_last_moment_at_which_all_agreed_less_a_margin(desk):
    desk.run(3 * 3_600)
    asked_ns, _, request = desk.asked[-1]
    assert 300 * SECOND <= asked_ns - request.executions_from_ns <= (2 * CHECK_S + 310) * SECOND


def test_a_platform_whose_clock_is_late_is_asked_by_its_clock(desk):
    first = desk.until_asked("a")
    late_ns = desk.now_ns - 7_200 * SECOND
    executions = structs.replace(desk.listed(first).executions, as_of_ns=late_ns)
    assert desk.checks_of.take(desk.listed(first, executions=executions), desk.now_ns) == []
    assert desk.until_asked("a").executions_from_ns <= late_ns - 300 * SECOND


def test_what_differs_has_the_engine_request_a_snapshot_itself(desk):
    request = desk.until_asked("b")
    held = m.Positions(platform="b", account="acc", rows=(m.Position(symbol="NQ", quantity=D(1)),))
    (wanted,) = desk.checks_of.take(desk.listed(request, positions=held), desk.now_ns)
    assert isinstance(wanted, e.SnapshotWanted)
    assert "NQ" in wanted.reason
    assert not wanted.executions_from_ns, "the whole period is in question"
    desk.give(wanted)
    assert [each.platform for each in desk.sent(m.SnapshotRequest)] == ["b"]
    assert not is_check(desk.listed(desk.sent(m.SnapshotRequest)[0]))


def test_an_account_whose_equity_has_moved_is_an_event_of_its_own(desk):
    request = desk.until_asked("a")
    funds = m.Account(platform="a", account="acc", currency="USD", balance=D(1), equity=D(2), as_of_ns=desk.now_ns)
    (said,) = desk.checks_of.take(desk.listed(request, funds=funds), desk.now_ns)
    assert isinstance(said, e.AdapterSaid)
    desk.give(said)
    request = desk.until_asked("a")
    same = structs.replace(funds, as_of_ns=desk.now_ns)
    assert desk.checks_of.take(desk.listed(request, funds=same), desk.now_ns) == []


def test_silence_has_the_engine_ask_and_then_count(desk):
    events = desk.run(CHECK_S + 10, answer=False)
    assert sorted(each.platform for each in events) == ["a", "b", "c"]
    for each in events:
        desk.give(each)
        assert desk.engine.state.routes[f"{each.platform}|acc"].request_pending


def test_a_late_answer_and_one_of_an_earlier_session_say_nothing(desk):
    late = desk.until_asked("a")
    desk.run(10)
    assert desk.checks_of.take(desk.listed(late), desk.now_ns) == []
    before = desk.until_asked("b")
    desk.link_down("b")
    desk.checks_of.run(desk.now_ns + SECOND)
    assert desk.checks_of.take(desk.listed(before), desk.now_ns) == []


def test_nothing_is_asked_of_a_platform_that_is_not_ready_or_that_the_engine_asks(desk):
    desk.link_down("a")
    desk.give(e.SnapshotWanted(platform="b", account="acc", reason="test"))
    desk.run(2 * CHECK_S)
    assert {peer for _, peer, _ in desk.asked} == {"c|acc"}


def test_without_the_setting_only_the_engine_compares():
    desk = Around("a")
    desk.engine.state.settings = structs.replace(desk.settings, check_ms=None)
    desk.run(120)
    assert not desk.asked


def test_a_position_that_has_moved_by_known_executions_needs_no_whole_period(desk):
    desk.signal("a")
    fill = desk.fill(desk.only())
    desk.run(20, answer=False)
    request = desk.until_asked("a")
    name = {"platform": "a", "account": "acc"}
    held = m.Positions(**name, rows=(m.Position(symbol="NQ", quantity=D(2)),))
    fills = m.Executions(**name, rows=(fill,), from_ns=request.executions_from_ns)
    working = m.WorkingOrders(**name, rows=())
    listed = desk.listed(request, positions=held, executions=fills, working_orders=working)
    (wanted,) = desk.checks_of.take(listed, desk.now_ns)
    assert wanted.executions_from_ns == request.executions_from_ns
