"""The kill ladder, stages and the automatic step down. A rung is verified by a snapshot, or it is not verified."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import KillLevel, LegState, OrderRole, RejectCode, Side

from tests.support.orders import Desk, wide_limits


def kill(desk: Desk, level: KillLevel, platform: str = "", own_only: bool = False) -> m.AdminResult:
    desk.ask(m.Kill(request_id=9, level=level, reason="test", by="desk", platform=platform, own_only=own_only))
    return desk.answers()[0]


def busy_desk() -> Desk:
    """A filled signal with gateway-kept stop, and a working limit entry."""
    desk = Desk("b")
    desk.link_up("a", brackets=False)
    desk.signal()
    desk.fill(desk.only())
    desk.update(desk.only(role=OrderRole.STOP_LOSS))
    desk.signal(signal_id="s2", order_type=m.OrderType.LIMIT, limit_price=D(20999), quantity=D(1))
    desk.update(desk.only())
    return desk


def verified(desk: Desk) -> bool:
    return desk.engine.state.kills["a|acc"].verified


def proofs(desk: Desk, **snapshot) -> None:
    fills = [event.message for _, event in desk.events if isinstance(getattr(event, "message", None), m.Fill)]
    snapshot = {"fills": fills} | snapshot
    desk.snapshot(**snapshot)
    if not verified(desk):
        desk.wait(1_100)
        if desk.engine.state.routes["a|acc"].request_pending:
            desk.snapshot(**snapshot)


def test_no_new_refuses_entries_and_leaves_the_rest():
    desk = busy_desk()
    kill(desk, KillLevel.NO_NEW)
    desk.signal(signal_id="s3")
    assert desk.report("s3").code is RejectCode.KILL_SWITCH
    assert not desk.sent(m.Cancel)
    assert verified(desk)
    desk.ask(m.SignalClose(signal_id="s1"))
    assert desk.sent(m.Cancel)  # getting out is always allowed


def test_no_new_is_not_verified_while_an_entry_is_unanswered():
    desk = Desk("a")
    desk.signal()
    kill(desk, KillLevel.NO_NEW)
    assert not verified(desk)
    desk.update(desk.only())
    assert verified(desk)


def test_reduce_only_cancels_entries_and_keeps_stops():
    desk = busy_desk()
    entry = desk.only()
    kill(desk, KillLevel.REDUCE_ONLY)
    assert [c.client_order_id for c in desk.sent(m.Cancel)] == [entry.client_order_id]
    desk.update(entry, LegState.CANCELLED)
    assert not verified(desk)  # the platform has not shown it yet
    proofs(desk, orders=[desk.row(desk.only(role=OrderRole.STOP_LOSS))], positions=[("NQ", 2)])
    assert verified(desk)


def test_cancel_all_cancels_stops_too_and_does_not_place_them_again():
    desk = busy_desk()
    kill(desk, KillLevel.CANCEL_ALL)
    assert len(desk.sent(m.Cancel)) == 2
    for role in (OrderRole.ENTRY, OrderRole.STOP_LOSS):
        desk.update(desk.only(role=role), LegState.CANCELLED)
    proofs(desk, positions=[("NQ", 2)])
    assert verified(desk)
    sent = len(desk.orders)
    desk.wait(5_000)
    assert len(desk.orders) == sent


def test_cancel_all_is_not_verified_while_the_platform_still_shows_an_order():
    desk = busy_desk()
    kill(desk, KillLevel.CANCEL_ALL)
    for role in (OrderRole.ENTRY, OrderRole.STOP_LOSS):
        desk.update(desk.only(role=role), LegState.CANCELLED)
    desk.now_ns += 10_000_000_000
    desk.wait(0)
    proofs(desk, orders=[desk.row(desk.only(role=OrderRole.STOP_LOSS))], positions=[("NQ", 2)])
    assert not verified(desk)


def test_flatten_closes_ours_first_then_the_account_and_proves_it():
    desk = Desk("b")
    desk.link_up("a", answer=False)
    desk.snapshot("a", positions=[("NQ", 3)])  # somebody's position
    desk.signal()
    fill = desk.fill(desk.only())
    kill(desk, KillLevel.FLATTEN)
    own = desk.only(role=OrderRole.EXIT)
    assert (own.quantity, own.side) == (D(2), Side.SELL)
    closed = desk.fill(own)
    fills = [fill, closed]
    for _ in range(4):
        desk.wait(1_100)
        if desk.engine.state.routes["a|acc"].request_pending:
            desk.snapshot(fills=fills, positions=[("NQ", 3)])
    rest = desk.only(role=OrderRole.EXIT)
    assert (rest.quantity, rest.side) == (D(3), Side.SELL)
    fills.append(desk.fill(rest))
    for _ in range(4):
        desk.wait(1_100)
        if desk.engine.state.routes["a|acc"].request_pending:
            desk.snapshot(fills=fills)
    assert verified(desk)
    assert desk.position() == 0
    done = [x.message for x in desk.all_effects if isinstance(x, e.AnswerAdmin) and x.message.done]
    assert any("flatten verified" in line for result in done for line in result.lines)


def test_own_only_leaves_the_positions_of_others():
    desk = Desk("b")
    desk.link_up("a", answer=False)
    desk.snapshot("a", positions=[("NQ", 3)])
    kill(desk, KillLevel.FLATTEN, own_only=True)
    proofs(desk, positions=[("NQ", 3)])
    assert verified(desk)
    assert not desk.orders


def test_sever_cuts_when_flat_and_keeps_the_link_out():
    desk = Desk("a")
    kill(desk, KillLevel.SEVER)
    desk.snapshot()
    assert [x.platform for x in desk.effects if isinstance(x, e.CutLink)] == ["a"]
    desk.link_down()
    assert verified(desk)
    desk.link_up("a", answer=False)
    assert any(isinstance(x, e.CutLink) for x in desk.effects)
    assert not desk.engine.state.routes["a|acc"].up


def test_sever_cuts_after_its_patience_even_when_not_flat():
    desk = Desk("a")
    desk.signal()
    desk.fill(desk.only())
    kill(desk, KillLevel.SEVER)
    for _ in range(12):
        desk.wait(1_000)
    assert any(isinstance(x, e.CutLink) for x in desk.all_effects)


def test_a_kill_on_one_platform_leaves_the_other():
    desk = Desk("a", "b")
    kill(desk, KillLevel.NO_NEW, "a")
    desk.signal("a", "b")
    assert desk.report().legs[0].code is RejectCode.KILL_SWITCH
    assert [order.platform for order in desk.sent(m.Order)] == ["b"]


def test_a_platform_that_connects_later_is_under_the_switch():
    desk = Desk("a")
    kill(desk, KillLevel.REDUCE_ONLY)
    desk.link_up("b")
    desk.signal("b")
    assert desk.report().code is RejectCode.KILL_SWITCH
    assert desk.engine.state.kills["b|acc"].level is KillLevel.REDUCE_ONLY


def test_the_ladder_never_climbs_down_by_a_kill():
    desk = Desk("a")
    kill(desk, KillLevel.FLATTEN)
    kill(desk, KillLevel.NO_NEW)
    assert desk.engine.state.kill is KillLevel.FLATTEN


def test_resume_is_refused_while_something_is_unknown():
    desk = Desk("a")
    desk.signal()
    desk.wait(2_000)
    kill(desk, KillLevel.NO_NEW)
    desk.ask(m.Resume(request_id=2, reason="ok", by="desk"))
    assert not desk.answers()[0].accepted
    assert "unknown outcome" in desk.answers()[0].lines[0]
    desk.update(desk.only())
    desk.wait(1_000)
    desk.snapshot(orders=[desk.row(desk.only())])
    desk.ask(m.Resume(request_id=3, reason="ok", by="desk"))
    assert desk.answers()[0].accepted
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.NONE


def staged() -> Desk:
    one = wide_limits().stages[1]
    two = type(one)(**{**{n: getattr(one, n) for n in one.__struct_fields__}, "confirmation": "I promote"})
    return Desk("a", limits=wide_limits(stages={1: one, 2: two, 3: two}, stage=1))


@pytest.mark.parametrize(
    ("stage", "fields", "accepted"),
    [
        (2, {"confirmation": "I promote", "evidence": "report 7"}, True),
        (2, {"confirmation": "i promote", "evidence": "report 7"}, False),
        (2, {"confirmation": "I promote"}, False),
        (3, {"confirmation": "I promote", "evidence": "report 7"}, False),
        (9, {}, False),
    ],
)
def test_going_up_needs_evidence_and_the_typed_sentence(stage, fields, accepted):
    desk = staged()
    desk.ask(m.StageChange(request_id=1, stage=stage, by="desk", **fields))
    assert desk.answers()[0].accepted is accepted
    assert desk.engine.state.stage == (stage if accepted else 1)


def test_a_loss_limit_steps_down_and_turns_to_reduce_only_by_itself():
    desk = staged()
    desk.ask(m.StageChange(request_id=1, stage=2, by="desk", confirmation="I promote", evidence="r"))
    desk.signal(quantity=D(1))
    desk.fill(desk.only(), price=D(21000))
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.fill(desk.only(role=OrderRole.EXIT), price=D(20750))  # 250 points x $2
    assert desk.engine.state.day.realized_usd == -500
    assert (desk.engine.state.stage, desk.engine.state.kill) == (1, KillLevel.REDUCE_ONLY)
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.KILL_SWITCH
    desk.ask(m.StageChange(request_id=2, stage=2, by="desk", confirmation="I promote", evidence="r"))
    assert not desk.answers()[0].accepted


def test_status_names_stage_rung_and_orphans():
    desk = busy_desk()
    desk.ask(m.Query(request_id=1, what=m.QueryKind.STATUS))
    text = "\n".join(desk.answers()[0].lines)
    assert "stage 1 (test)" in text
    assert "a|acc: link up, reconciled, normal, 2 working, 0 unknown" in text


def test_queries_answer_per_account():
    desk = busy_desk()
    for what, kind in (
        (m.QueryKind.POSITIONS, m.Positions),
        (m.QueryKind.EXECUTIONS, m.Executions),
        (m.QueryKind.WORKING_ORDERS, m.WorkingOrders),
    ):
        desk.ask(m.Query(request_id=1, what=what, platform="a"))
        (answer,) = desk.answers()
        assert isinstance(answer, kind)
        assert answer.rows
    desk.ask(m.Query(request_id=1, what=m.QueryKind.REPORT, signal_id="s1"))
    assert desk.answers()[0].filled == 2
    desk.ask(m.Query(request_id=1, what=m.QueryKind.REPORT, signal_id="none"))
    assert desk.answers()[0].code is RejectCode.UNKNOWN_SIGNAL


def test_what_has_never_connected_proves_nothing():
    desk = Desk("a", settings=e.EngineSettings(expected_platforms=("a", "b")))
    assert not kill(desk, KillLevel.FLATTEN, "misspelt").done
    assert "misspelt: no account of it has connected yet" in desk.answers()[0].lines
    answer = kill(desk, KillLevel.NO_NEW)
    assert not answer.done
    assert "b: no account of it has connected yet" in answer.lines


def test_a_later_and_milder_command_does_not_spare_what_the_earlier_one_meant():
    desk = Desk("a")
    kill(desk, KillLevel.FLATTEN)
    kill(desk, KillLevel.NO_NEW, own_only=True)
    desk.link_up("b", answer=False)
    assert not desk.engine.state.kills["b|acc"].own_only


def test_reduce_only_is_verified_beside_an_orphaned_stop_which_it_leaves():
    desk = busy_desk()
    stop = desk.only(role=OrderRole.STOP_LOSS)
    new = Desk("b")
    new.link_up("a", answer=False)
    new.snapshot(orders=[new.row(stop)], positions=[("NQ", 2)])
    assert new.engine.state.orphans
    kill(new, KillLevel.REDUCE_ONLY)
    assert not new.sent(m.Cancel)
    proofs(new, orders=[new.row(stop)], positions=[("NQ", 2)])
    assert verified(new)


def test_flatten_once_more_tries_at_once():
    desk = Desk("a")
    desk.signal()
    desk.fill(desk.only())
    kill(desk, KillLevel.FLATTEN, own_only=True)
    for _ in range(6):
        desk.reject(desk.only(role=OrderRole.EXIT))
        desk.wait(70_000)
    desk.reject(desk.only(role=OrderRole.EXIT))
    sent = len(desk.orders)
    desk.wait(1_000)
    assert len(desk.orders) == sent  # the pause has grown
    kill(desk, KillLevel.FLATTEN, own_only=True)
    assert len(desk.orders) == sent + 1


def test_orders_of_others_are_cancelled_once_and_again_only_when_an_answer_is_overdue():
    desk = Desk("b")
    desk.link_up("a", answer=False)
    theirs = [
        m.WorkingOrder(
            client_order_id=f"by hand {n}",
            symbol="NQ",
            side=Side.BUY,
            state=LegState.WORKING,
            quantity=D(1),
            filled=D(0),
            platform_order_id=f"P{n}",
        )
        for n in range(5)
    ]
    desk.snapshot(orders=theirs)
    kill(desk, KillLevel.CANCEL_ALL)
    assert len(desk.sent(m.Cancel)) == 5
    desk.give(e.AdapterSaid(message=m.Account(platform="a", account="acc", currency="USD", balance=D(1), equity=D(1))))
    assert not desk.sent(m.Cancel)
    desk.snapshot(orders=theirs)
    assert not desk.sent(m.Cancel)
    desk.wait(2_000)
    assert len(desk.sent(m.Cancel)) == 5


def test_a_misspelt_platform_is_named_by_resume():
    desk = Desk("a")
    desk.ask(m.Resume(request_id=1, reason="", by="desk", platform="misspelt"))
    assert "no account of misspelt has connected" in desk.answers()[0].text


def test_a_drawdown_that_lasts_is_one_breach_and_not_one_a_day():
    desk = staged()
    funds = {"platform": "a", "account": "acc", "currency": "USD", "balance": D(10_000)}

    def equity(amount: int) -> None:
        desk.give(e.AdapterSaid(message=m.Account(**funds, equity=D(amount), as_of_ns=desk.now_ns)))

    for stage in (2, 3):
        desk.ask(m.StageChange(request_id=1, stage=stage, by="desk", confirmation="I promote", evidence="r"))
    equity(20_000)
    equity(19_600)
    desk.wait(86_400_000)
    equity(19_200)
    desk.wait(86_400_000)
    assert desk.engine.state.stage == 3
    for amount in (18_800, 18_500):  # no day has lost 500, all of them together 1,500
        equity(amount)
        desk.wait(86_400_000)
    assert (desk.engine.state.stage, desk.engine.state.kill) == (2, KillLevel.REDUCE_ONLY)
    for _ in range(3):
        desk.wait(86_400_000)
        desk.snapshot(positions=[])
        equity(18_500)
    assert desk.engine.state.stage == 2
    desk.engine.state.kill = KillLevel.NORMAL
    desk.engine.state.kills.clear()
    desk.signal()
    assert desk.report().code is RejectCode.DRAWDOWN  # refused all the while
    equity(19_000)
    equity(18_500)
    assert desk.engine.state.stage == 1  # it had ended, and begins anew
