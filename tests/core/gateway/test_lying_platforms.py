"""A real gateway process, and executions that cannot be true: nothing of them is booked, doubled, or left unsaid."""

from __future__ import annotations

import pytest
from nexus_gateway.core.messages import ContradictionKind as Kind
from nexus_gateway.core.messages import LegState, OrderRole, RejectCode, SignalState

from tests.support.lying_exchange import WRONG, of_role
from tests.support.lying_scene import lying_scene

BARRED = {Kind.WRONG_SIDE: ("NQ",), Kind.WRONG_SYMBOL: ("NQ", "ES")}
SAID = {Kind.WRONG_SIDE: "sell 1 NQ at 21000", Kind.WRONG_SYMBOL: "buy 1 ES at 6800"}
EXPECTED = {Kind.WRONG_SIDE: "a buy", Kind.WRONG_SYMBOL: "an execution of NQ"}


@pytest.mark.parametrize("kind", WRONG)
def test_a_lie_about_every_execution_sends_one_order_and_waits_for_the_true_figure(kind):
    """It bought 1,048,576 lots in 22 s: each fill on the wrong side was closed by an order twice as large."""
    with lying_scene() as scene:
        scene.exchange.live_lie = scene.exchange.listed_lie = WRONG[kind]
        signal_id = scene.enter()
        report = scene.contradicted(signal_id)
        assert (report.state, report.legs[0].state, report.filled) == (SignalState.UNKNOWN, LegState.UNKNOWN, 0)
        (shown,) = report.contradictions
        assert (shown.kind, shown.platform, shown.exec_id) == (kind, "nt8", "X-1")
        assert SAID[kind] in shown.said
        assert EXPECTED[kind] in shown.expected
        assert f"nothing is sent for {', '.join(BARRED[kind])} on this account" in shown.barred
        assert "acknowledge NQ --holds" in shown.ends
        scene.nothing_is_sent(*BARRED[kind])
        assert (scene.exchange.roles, scene.exchange.held()) == ("E", {"NQ": 1})
        refused = scene.acknowledge("NQ", -1)
        assert not refused.accepted
        assert "last reported 1 NQ, fills since included, you typed -1" in refused.text
        for symbol in BARRED[kind][1:]:
            assert scene.acknowledge(symbol, 0).accepted
            assert [each.kind for each in scene.account().contradictions] == [kind]
        assert scene.acknowledge("NQ", 1).accepted
        assert scene.account().contradictions == ()
        ended = scene.ended(signal_id, SignalState.NOT_FILLED)
        assert (ended.filled, ended.contradictions) == (0, ())
        scene.proofs(2)  # the platform goes on saying so, and a person has seen what it holds
        assert scene.account().contradictions == ()
        scene.agree("E", NQ=1)


@pytest.mark.parametrize("kind", WRONG)
def test_a_lie_that_the_snapshot_corrects_heals_by_itself(kind):
    with lying_scene() as scene:
        scene.exchange.live_lie = of_role(OrderRole.ENTRY, kind)
        signal_id = scene.enter()
        report = scene.ended(signal_id, SignalState.FILLED)
        assert (report.filled, report.legs[0].open_quantity, report.contradictions) == (1, 1, ())
        named = [alert.text for alert in scene.alerts() if alert.code is RejectCode.CONTRADICTION]
        assert len(named) == 1
        assert f"{kind} of execution X-1" in named[0]
        scene.floor.until(scene.has_stop)
        scene.agree("ES", NQ=1)
        scene.close(signal_id)
        closed = scene.ended(signal_id, SignalState.CLOSED)
        assert (closed.realized_usd, closed.residual_quantity) == (0, 0)
        scene.proofs(2)
        scene.agree("ESX")


@pytest.mark.parametrize("role", [OrderRole.EXIT, OrderRole.STOP_LOSS])
def test_a_closing_order_whose_execution_lies_is_not_followed_by_another(role):
    with lying_scene() as scene:
        signal_id = scene.enter()
        scene.ended(signal_id, SignalState.FILLED)
        scene.floor.until(scene.has_stop)
        scene.exchange.live_lie = scene.exchange.listed_lie = of_role(role, Kind.WRONG_SIDE)
        if role is OrderRole.EXIT:
            scene.close(signal_id)
        else:
            scene.exchange.trigger(scene.exchange.working(role)[0])
        report = scene.contradicted(signal_id)
        assert (report.state, report.contradictions[0].said) == (SignalState.UNKNOWN, "buy 1 NQ at 21000")
        roles = scene.exchange.roles
        scene.nothing_is_sent("NQ")
        assert scene.exchange.held() == {}
        assert scene.acknowledge("NQ", 0).accepted
        scene.ended(signal_id, SignalState.CLOSED)
        scene.proofs(2)
        scene.agree(roles)


def test_a_figure_that_the_platform_does_not_show_is_not_taken_for_a_symbol_that_it_never_held():
    """A symbol that a complete snapshot does not list is flat: a slip of the finger must not become a position."""
    kind = Kind.WRONG_SYMBOL
    with lying_scene() as scene:
        scene.exchange.live_lie = scene.exchange.listed_lie = WRONG[kind]
        scene.contradicted(scene.enter())
        scene.floor.until(lambda: scene.reported() == 1)
        refused = scene.acknowledge("ES", 3)
        assert not refused.accepted, refused.lines
        assert [each.kind for each in scene.account().contradictions] == [kind]
        assert scene.positions() == {}
        assert scene.acknowledge("ES", 0).accepted
        assert scene.acknowledge("NQ", 1).accepted
        scene.agree("E", NQ=1)
