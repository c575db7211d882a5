"""A real gateway process, and what ends a contradiction there: snapshots, a bust, a person; and not a kill -9."""

from __future__ import annotations

from decimal import Decimal
from itertools import repeat

import pytest
from nexus_gateway.core.messages import ContradictionKind as Kind
from nexus_gateway.core.messages import OrderRole, RejectCode, Side, SignalState

from tests.support.lying_exchange import WRONG, of_role, role_of
from tests.support.lying_scene import lying_scene

D = Decimal


def test_one_execution_id_for_two_orders_bars_both_until_snapshots_tell_them_apart():
    """A lot was lost, a price overwritten, and half a million of profit invented."""
    with lying_scene() as scene:
        scene.exchange.exec_ids = repeat("X-1")
        first = scene.enter("ES")
        scene.ended(first, SignalState.FILLED)
        scene.floor.until(lambda: scene.has_stop("ES"))
        scene.exchange.answers = False  # so that it stands while the test looks
        second = scene.enter("NQ")
        report = scene.contradicted(second)
        assert [each.kind for each in report.contradictions] == [Kind.REUSED_ID]
        assert (report.state, report.filled, report.realized_usd) == (SignalState.UNKNOWN, 0, 0)
        before = scene.contradicted(first)
        assert (before.state, before.legs[0].avg_price, before.realized_usd) == (SignalState.UNKNOWN, 6_800, 0)
        assert scene.loss_today() == "0 USD"
        scene.close(second)
        for symbol in ("ES", "NQ"):
            refused = scene.ended(scene.enter(symbol), SignalState.REJECTED)
            assert refused.legs[0].code is RejectCode.CONTRADICTION
        assert (scene.exchange.roles, scene.exchange.cancelled) == ("ESE", [])
        scene.exchange.exec_ids = iter(["X-2"])
        scene.exchange.prices["NQ"] = D(21_005)
        scene.exchange.answers = True
        closed = scene.ended(second, SignalState.CLOSED)
        assert (closed.legs[0].avg_price, closed.filled, closed.realized_usd) == (21_000, 1, 100)
        kept = scene.ended(first, SignalState.FILLED)
        assert (kept.legs[0].avg_price, kept.legs[0].open_quantity, kept.realized_usd) == (6_800, 1, 0)
        scene.proofs(2)
        assert scene.account().contradictions == ()
        closing = [order for order in scene.exchange.placed if role_of(order.client_order_id) is OrderRole.EXIT]
        assert [(order.symbol, order.side, order.quantity) for order in closing] == [("NQ", Side.SELL, 1)]
        assert scene.has_stop("ES")
        scene.agree("ESEX", ES=1)


def test_two_executions_of_one_id_are_both_booked_and_each_is_closed_alone():
    with lying_scene() as scene:
        scene.exchange.exec_ids = iter(["X-1", "X-1", "X-2"])
        first = scene.enter("ES")
        scene.ended(first, SignalState.FILLED)
        second = scene.enter("NQ")
        scene.contradicted(second)
        for signal_id, price in ((second, 21_000), (first, 6_800)):
            report = scene.ended(signal_id, SignalState.FILLED)
            assert (report.legs[0].avg_price, report.legs[0].open_quantity, report.realized_usd) == (price, 1, 0)
        scene.floor.until(lambda: scene.has_stop("ES") and scene.has_stop("NQ"))
        assert scene.loss_today() == "0 USD"
        scene.agree("ESES", ES=1, NQ=1)
        scene.close(first)
        scene.ended(first, SignalState.CLOSED)
        scene.proofs(2)
        assert scene.has_stop("NQ")
        scene.agree("ESESX", NQ=1)


@pytest.mark.parametrize(
    ("overfills", "roles", "held", "counted"),
    [("close", "ESX", 1, D(1)), ("close", "ESX", 1, None), ("keep", "ES", 2, D(1))],
    ids=["close, counts its size", "close, counts all", "keep"],
)
def test_lots_beyond_an_orders_size_are_closed_once_or_kept_as_configured(overfills, roles, held, counted):
    with lying_scene(overfills=overfills) as scene:
        scene.exchange.parts, scene.exchange.most_counted = [D(1), D(1)], counted
        signal_id = scene.enter()
        report = scene.contradicted(signal_id)
        assert Kind.OVERFILL in [each.kind for each in report.contradictions]
        assert scene.exchange.held() == {"NQ": 2}
        scene.exchange.parts = None
        report = scene.ended(signal_id, SignalState.FILLED)
        assert (report.filled, report.residual_quantity) == (1, 1)
        scene.floor.until(lambda: scene.exchange.held() == {"NQ": held} and scene.has_stop())
        scene.proofs(3)
        assert scene.account().contradictions == ()
        assert any("was overfilled by 1 NQ" in alert.text for alert in scene.alerts())
        assert scene.report(signal_id, lambda _: True).residual_quantity == 1
        assert scene.has_stop()
        scene.agree(roles, NQ=held)


@pytest.mark.parametrize("row_follows", [True, False], ids=["count taken back", "count kept"])
def test_a_bust_takes_the_stop_that_the_platform_holds_with_it(row_follows):
    """The stop would have opened a position that no signal asked for."""
    with lying_scene(brackets=True) as scene:
        signal_id = scene.enter()
        scene.ended(signal_id, SignalState.FILLED)
        scene.floor.until(lambda: scene.has_stop() and len(scene.working_orders()) == 1)
        scene.exchange.bust(scene.exchange.executions[0], row_follows=row_follows)
        scene.floor.until(lambda: not scene.exchange.working(OrderRole.STOP_LOSS))
        assert [role_of(cancel.client_order_id) for cancel in scene.exchange.cancelled] == [OrderRole.STOP_LOSS]
        scene.proofs(2)
        assert scene.working_orders() == ()
        assert any("after a bust or a correction, 0 lots are held" in alert.text for alert in scene.alerts())
        scene.agree("E")


@pytest.mark.parametrize("flatten", [False, True], ids=["an order", "its own flatten"])
def test_flatten_unproven_closes_once_what_the_platform_last_reported(flatten):
    with lying_scene(flatten=flatten) as scene:
        scene.exchange.live_lie = scene.exchange.listed_lie = of_role(OrderRole.ENTRY, Kind.WRONG_SIDE)
        scene.contradicted(scene.enter())
        scene.floor.until(lambda: scene.reported() == 1)
        answer = scene.flatten_unproven()
        assert answer.accepted
        assert ("its own flatten was sent, once" if flatten else "sent once: -1 NQ") in answer.lines[0]
        scene.floor.until(lambda: not scene.exchange.held())
        scene.proofs(1)
        roles = "E" if flatten else "EX"
        assert (scene.exchange.roles, len(scene.exchange.flattened)) == (roles, int(flatten))
        assert not scene.resume().accepted
        assert scene.acknowledge("NQ", 0).accepted
        scene.proofs(1)
        assert scene.account().contradictions == ()
        scene.floor.until(lambda: scene.resume().accepted)
        scene.agree(roles)
        assert len(scene.exchange.flattened) == int(flatten)


def test_a_contradiction_survives_a_kill_of_the_gateway_and_can_be_ended_then():
    kind = Kind.WRONG_SIDE
    with lying_scene() as scene:
        scene.exchange.live_lie = scene.exchange.listed_lie = WRONG[kind]
        signal_id = scene.enter()
        before = scene.contradicted(signal_id).contradictions
        scene.floor.restart()
        scene.quote()
        assert scene.account().contradictions == before
        scene.nothing_is_sent("NQ")
        assert (scene.exchange.roles, scene.exchange.held()) == ("E", {"NQ": 1})
        assert scene.acknowledge("NQ", 1).accepted
        scene.ended(signal_id, SignalState.NOT_FILLED)
        scene.proofs(2)
        assert scene.account().contradictions == ()
        scene.agree("E", NQ=1)
