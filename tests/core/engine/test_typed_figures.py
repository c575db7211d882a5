"""The operator ends a contradiction: the typed figure, and a flatten of what was last reported."""

from __future__ import annotations

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import ContradictionKind as Kind
from nexus_gateway.core.messages import LegState, OrderRole, RejectCode, Side, SignalState

from tests.support.doubt_desk import DoubtDesk, entered, platform_stop
from tests.support.orders import D


def test_the_wrong_side_again_and_again_sends_nothing_and_ends_by_the_typed_figure():
    """Finding A1: it bought 1,048,576 lots in 22 s."""
    desk = DoubtDesk()
    desk.signal(quantity=D(1))
    lie = desk.fill(desk.only(), side=Side.SELL)
    desk.update(desk.only(), LegState.FILLED, 1)
    for _ in range(20):
        desk.prove(("NQ", 1), fills=[lie])
    assert (len(desk.orders), desk.kinds()) == (1, [Kind.WRONG_SIDE])
    refused = desk.acknowledge(-1)
    assert (refused.accepted, desk.kinds()) == (False, [Kind.WRONG_SIDE])
    assert "last reported 1 NQ, fills since included, you typed -1" in refused.text
    assert desk.acknowledge(1).accepted
    assert (desk.kinds(), desk.position(), desk.report().filled) == ([], 1, 0)
    assert desk.route.positions["NQ"].external == 1
    for _ in range(3):
        desk.prove(("NQ", 1), fills=[lie])  # it goes on saying so, and a person has seen what is held
    assert (desk.kinds(), desk.position(), len(desk.orders)) == ([], 1, 1)
    assert desk.report().state is SignalState.NOT_FILLED


def test_the_figure_ends_a_contradiction_where_the_platform_lists_no_positions():
    desk = DoubtDesk("b")
    desk.link_up("a", lists_positions=False, executions_history=False)
    desk.signal(quantity=D(1))
    desk.fill(desk.only(), side=Side.SELL)
    desk.prove(fills=[])
    assert desk.kinds() == [Kind.WRONG_SIDE]
    assert desk.acknowledge(1).accepted
    assert (desk.kinds(), desk.position()) == ([], 1)


def test_a_figure_that_explains_the_execution_books_it():
    """An id used twice, at a platform without a history: the operator types what is held."""
    desk = DoubtDesk("b")
    desk.link_up("a", executions_history=False)
    desk.signal(quantity=D(1))
    first = desk.fill(desk.only())
    desk.signal(signal_id="s2", quantity=D(1))
    desk.fill(desk.only(), exec_id=first.exec_id, price=D(21001))
    desk.prove(("NQ", 2), fills=[])
    assert desk.kinds() == [Kind.REUSED_ID]
    assert desk.acknowledge(2).accepted
    assert (desk.position(), desk.report("s2").filled, desk.report("s2").legs[0].open_quantity) == (2, 1, 1)


def test_acknowledge_takes_one_account_and_a_contradiction_of_two_symbols_needs_both():
    desk = DoubtDesk("a", "b")
    for platform in ("a", "b"):
        desk.signal(platform, signal_id=platform)
        desk.fill(desk.only(platform), symbol="ES")
    refused = desk.acknowledge(2, platform="")
    assert not refused.accepted
    assert "name one with --platform" in refused.text
    assert desk.acknowledge(0, symbol="ES").accepted
    assert desk.kinds() == [Kind.WRONG_SYMBOL]
    assert desk.acknowledge(0).accepted
    assert desk.kinds() == []
    assert not desk.acknowledge(0).accepted


def test_flatten_unproven_closes_once_what_the_platform_last_reported():
    desk, order = entered(1)
    lie = desk.fill(order, side=Side.SELL)
    desk.prove(("NQ", 1), fills=[lie], times=1)
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    assert "sent once: -1 NQ" in desk.answers()[0].lines[0]
    (closing,) = desk.closings()
    assert (closing.side, closing.quantity) == (Side.SELL, 1)
    desk.prove(("NQ", 1), fills=[lie], times=5)
    assert len(desk.closings()) == 1, "once"
    again = desk.fill(closing, side=Side.BUY)
    desk.update(closing, LegState.FILLED, 1)
    desk.prove(fills=[lie, again])
    assert len(desk.closings()) == 1
    assert desk.acknowledge(0).accepted
    desk.prove(fills=[lie, again], times=3)
    assert (desk.kinds(), desk.position()) == ([], 0)
    assert desk.engine.state.kills["a|acc"].verified


def test_flatten_unproven_uses_the_platforms_own_flatten_and_waits_for_what_it_did():
    desk = DoubtDesk("b")
    desk.link_up("a", flatten=True)
    desk.signal()
    fills = [desk.fill(desk.only())]
    desk.prove(("NQ", 2), fills=fills, times=1)
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    (command,) = desk.sent(m.Flatten)
    assert (command.platform, command.account, desk.closings()) == ("a", "acc", [])
    desk.wait(1_000)
    desk.snapshot(positions=[("NQ", 2)], fills=fills)  # asked for before it could have been done
    assert desk.closings() == []
    closed = desk.make_fill(desk.only(), side=Side.SELL, client_order_id="")
    desk.give(e.AdapterSaid(message=closed))
    desk.prove(fills=[*fills, closed])
    assert (desk.position(), desk.closings(), desk.report().residual_quantity) == (0, [], 0)


def test_unproven_needs_one_platform_and_the_whole_account():
    for wrong in ({"platform": ""}, {"level": m.KillLevel.SEVER}, {"own_only": True}):
        values = {"request_id": 1, "level": m.KillLevel.FLATTEN, "platform": "a", "reason": "r", "by": "o"} | wrong
        with pytest.raises(ValueError, match="unproven goes with level flatten and one platform"):
            m.Kill(**values, unproven=True)


def test_unproven_on_a_link_that_is_down_sends_nothing_and_says_so():
    desk, order = entered(1)
    desk.fill(order, side=Side.SELL)
    desk.link_down()
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    assert "its link is down, so nothing was sent" in desk.answers()[0].lines[0]
    assert desk.closings() == []


def test_account_state_shows_what_is_known_and_what_contradicts():
    desk, order = entered()
    fills = [desk.fill(order)]
    desk.prove(("NQ", 3), fills=fills, times=1)
    desk.update(desk.only(), side=Side.SELL)
    desk.ask(m.Query(request_id=1, what=m.QueryKind.ACCOUNT_STATE))
    (state,) = desk.answers()
    (row,) = state.positions
    assert (state.linked, state.ready, row.quantity, row.reported, row.agrees) == (True, True, 2, 3, False)
    assert [each.kind for each in state.contradictions] == [Kind.WRONG_ORDER]
    desk.ask(m.Query(request_id=1, what=m.QueryKind.STATUS))
    lines = "\n".join(desk.answers()[0].lines)
    assert "wrong_order" in lines
    assert "NQ booked 2, platform 3" in lines


def test_what_a_figure_closes_has_no_result():
    desk, order = entered()
    fill = desk.fill(order)
    desk.ask(m.SignalClose(signal_id="s1"))
    lie = desk.fill(desk.closings()[0], side=Side.BUY, price=D(20000))
    desk.prove(fills=[fill, lie], times=1)
    assert desk.acknowledge(0).accepted
    report = desk.report()
    assert (report.realized_usd, report.legs[0].realized_usd, report.residual_quantity) == (None, None, 0)
    assert "their result is not known" in report.legs[0].text


def test_the_figure_is_the_platforms_newest_with_the_fills_since():
    desk, order = entered(2)
    first = desk.fill(order, 1)
    desk.wait(31_000)
    desk.snapshot(positions=[("NQ", 2)], fills=[first], complete=False)
    desk.update(order, side=Side.SELL)
    desk.fill(order, 1)
    assert not desk.acknowledge(2).accepted
    assert desk.acknowledge(3).accepted
    assert desk.position() == 3


def test_unproven_closes_nothing_that_has_gone_since_the_report():
    desk, order = entered()
    fill = desk.fill(order)
    stop = platform_stop(desk, order)
    desk.update(order, side=Side.SELL)
    desk.wait(31_000)
    desk.snapshot(positions=[("NQ", 2)], fills=[fill], complete=False)
    desk.fill(stop, price=D(20990))
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    assert desk.closings() == []


def test_a_slow_flatten_of_the_platform_is_not_closed_beside():
    desk = DoubtDesk("b")
    desk.link_up("a", flatten=True)
    desk.signal()
    fills = [desk.fill(desk.only())]
    desk.prove(("NQ", 2), fills=fills, times=1)
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    working = m.WorkingOrder(client_order_id="", symbol="NQ", side=Side.SELL, state=LegState.WORKING, quantity=D(2),
                             filled=D(0), platform_order_id="own")  # fmt: skip
    desk.prove(("NQ", 2), fills=fills, orders=[working], times=4)
    assert desk.closings() == []
    desk.prove(("NQ", 2), fills=fills, times=2)
    assert [each.quantity for each in desk.closings()] == [2], "it has ended, and has closed nothing"


def test_a_refused_flatten_is_told_and_bars_nothing_any_more():
    desk = DoubtDesk("b")
    desk.link_up("a", flatten=True)
    desk.signal()
    desk.fill(desk.only())
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    assert desk.closings() == []
    desk.give(e.AdapterSaid(message=m.Reject(code=RejectCode.LINK_DOWN, text="no", platform="a", account="acc")))
    assert any("flatten was refused" in each.text for each in desk.effects if isinstance(each, e.Alert))
    assert [each.quantity for each in desk.closings()] == [2]


def test_flatten_does_not_wait_for_a_symbol_in_doubt_to_close_another():
    desk = DoubtDesk("b")
    desk.link_up("a", brackets=False)
    desk.signal()
    fills = [desk.fill(desk.only())]
    stop = desk.only(role=OrderRole.STOP_LOSS)
    desk.update(stop)
    desk.prove(("NQ", 2), ("ES", 3), fills=fills, orders=[desk.row(stop)])
    desk.update(stop, side=Side.BUY)
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, reason="r", by="ops"))
    desk.prove(("NQ", 2), ("ES", 3), fills=fills, orders=[structs.replace(desk.row(stop), side=Side.BUY)], times=3)
    assert {(each.symbol, each.quantity) for each in desk.closings()} == {("ES", 3)}


def test_the_refused_cancel_of_an_external_order_does_not_end_a_flatten():
    desk = DoubtDesk("b")
    desk.link_up("a", flatten=True)
    desk.signal()
    desk.fill(desk.only())
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    refused = m.Reject(code=RejectCode.CANCEL_REJECTED, text="gone", platform="a", account="acc")
    desk.give(e.AdapterSaid(message=refused))
    assert (bool(desk.route.flatten_sent_ns), desk.closings()) == (True, [])
