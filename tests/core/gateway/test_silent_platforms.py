"""A real gateway process, and a platform that owes its proof: nothing known becomes unknown by it, nothing opens."""

from __future__ import annotations

from decimal import Decimal

from nexus_gateway.core.messages import LegState, OrderType, RejectCode, SignalState

from tests.support.lying_scene import lying_scene

D = Decimal


def test_snapshots_that_are_late_or_lack_a_part_make_nothing_unknown():
    """Every working stop became unknown, with a false alert, and its symbol was barred."""
    with lying_scene() as scene:
        for symbol in ("NQ", "ES"):
            scene.ended(scene.enter(symbol), SignalState.FILLED)
        limit = scene.enter(order_type=OrderType.LIMIT, limit_price=D(20_990))
        scene.ended(limit, SignalState.WORKING)
        scene.floor.until(lambda: len(scene.working_orders()) == 3)
        for part, times in (("whole", 2), ("orders", 1)):
            scene.exchange.incomplete = (part,)
            scene.proofs(times)
            assert [row.state for row in scene.working_orders()] == [LegState.WORKING] * 3
        scene.ended(scene.enter("ES"), SignalState.FILLED)  # and trading goes on
        scene.floor.until(lambda: len(scene.working_orders()) == 4)
        scene.exchange.incomplete = ()
        scene.proofs(1)
        assert [alert for alert in scene.alerts() if alert.code is RejectCode.OUTCOME_UNKNOWN] == []
        assert not scene.exchange.cancelled
        assert {row.state for row in scene.working_orders()} == {LegState.WORKING}
        scene.agree("ESESEES", NQ=1, ES=2)


def test_a_platform_that_proves_nothing_opens_nothing_until_it_answers_again():
    """It acknowledged, filled in silence and beat on: for 99 s it went on trading, without an alert."""
    with lying_scene() as scene:
        scene.exchange.mute, scene.exchange.answers = True, False
        signal_id = scene.enter()
        scene.ended(signal_id, SignalState.WORKING)
        report = scene.ended(signal_id, SignalState.UNKNOWN)
        assert (report.legs[0].state, report.filled, scene.exchange.held()) == (LegState.UNKNOWN, 0, {"NQ": 1})
        assert (scene.account().linked, scene.account().ready) == (True, False)
        named = [alert for alert in scene.alerts() if "no complete snapshot for" in alert.text]
        assert [alert.code for alert in named] == [RejectCode.PLATFORM_NOT_READY]
        refused = scene.ended(scene.enter(), SignalState.REJECTED)
        assert refused.legs[0].code is RejectCode.PLATFORM_NOT_READY
        assert scene.exchange.roles == "E"
        scene.exchange.mute, scene.exchange.answers = False, True
        report = scene.ended(signal_id, SignalState.FILLED)
        assert (report.filled, report.legs[0].open_quantity) == (1, 1)
        scene.floor.until(scene.has_stop)
        again = scene.enter()
        scene.ended(again, SignalState.FILLED)
        scene.floor.until(lambda: scene.exchange.roles == "ESES")
        scene.proofs(1)
        assert scene.account().ready
        assert scene.exchange.client.counts["links"] == 1
        scene.agree("ESES", NQ=2)
