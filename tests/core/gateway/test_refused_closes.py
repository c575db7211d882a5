"""A real gateway process, and platforms that refuse to close, or close a lot at a time: by the exchange's ledger."""

from __future__ import annotations

import time

import pytest
from nexus_gateway.core.messages import LegState, OrderRole, Side, SignalState

from tests.support.venue import Venue
from tests.support.venue_adapter import ZERO, D, Habits
from tests.support.venue_scene import VenueScene, venue_scene

NT8 = Habits(oco=True)
PLAIN = Habits(replace=False)


def assert_stopped_between_attempts(venue: Venue, lots: int) -> None:
    """Each refused closing order was preceded by the end of the stop, and followed by a stop for all lots."""
    stopped = True
    for moment in venue.moments:
        assert (moment.net, moment.stops in (ZERO, D(lots))) == (D(lots), True), moment
        if moment.what.startswith("stop_loss"):
            assert stopped is (moment.stops == 0), moment
            stopped = moment.stops == lots


@pytest.mark.parametrize("seconds", [pytest.param(6, id="few"), pytest.param(25, id="many", marks=pytest.mark.torture)])
@pytest.mark.parametrize("habits", [NT8, PLAIN], ids=["nt8", "plain"])
def test_a_close_that_is_refused_goes_on_until_it_trades_and_its_stop_stands_between(habits, seconds):
    """Finding A1: 20 closing orders in 19 s, then nothing more, and no stop."""
    with venue_scene({"nt8": habits}) as scene:
        venue = scene.venues["nt8"]
        signal_id = scene.held("nt8", lots=2)
        venue.moments.clear()
        venue.trouble.refuses = "X"
        scene.close(signal_id)
        refused_until_s = time.monotonic() + seconds
        scene.until(lambda: time.monotonic() > refused_until_s and len(venue.of_role(OrderRole.EXIT)) > 2)
        scene.until(lambda: venue.stop_lots() == 2)
        report = scene.report(signal_id, lambda report: report.state is SignalState.FLATTENING)
        assert report.legs[0].open_quantity == 2
        assert_stopped_between_attempts(venue, 2)
        refused = len(venue.of_role(OrderRole.EXIT))
        assert len(venue.of_role(OrderRole.STOP_LOSS)) == refused + 1
        venue.trouble.refuses = ""
        scene.until(lambda: scene.is_closed(signal_id), 90)
        assert len(venue.of_role(OrderRole.EXIT)) == refused + 1
        assert_flat(scene, venue)


def assert_flat(scene: VenueScene, venue: Venue) -> None:
    scene.until(lambda: not scene.differences())
    assert (venue.held(), venue.working(), venue.wrong, venue.reused_groups) == ({}, [], [], [])


def test_a_thin_book_is_closed_lot_by_lot_without_a_pause():
    """Finding A1, partial form: after 20 lots the gateway gave up, 10 lots open without a stop."""
    with venue_scene({"nt8": NT8}) as scene:
        venue = scene.venues["nt8"]
        signal_id = scene.held("nt8", lots=30)
        venue.trouble.lots_an_order = D(1)
        scene.close(signal_id)
        scene.until(lambda: scene.is_closed(signal_id), 60)
        closing = venue.of_role(OrderRole.EXIT)
        assert [order.quantity for order in closing] == [D(lots) for lots in range(30, 0, -1)]
        # In a pause its stop would have been placed again.
        assert len(venue.of_role(OrderRole.STOP_LOSS)) == 1
        assert_flat(scene, venue)


@pytest.mark.parametrize(
    "habits",
    [NT8, PLAIN, Habits(reduce_only=True), Habits(brackets=True)],
    ids=["nt8", "plain", "reduce-only", "brackets"],
)
def test_a_reduce_only_order_closes_what_a_stop_protects_and_the_stop_shrinks(habits):
    """Finding A2: the stop was counted as a reduction, and the order refused with nothing_to_close."""
    with venue_scene({"nt8": habits}) as scene:
        venue = scene.venues["nt8"]
        signal_id = scene.held("nt8", lots=3)
        out = scene.enter("nt8", side=Side.SELL, reduce_only=True, bracket=None)
        report = scene.report(out, lambda report: report.legs[0].state.final)
        assert (report.legs[0].state, report.filled) == (LegState.FILLED, 1), report.legs[0].text
        scene.until(lambda: venue.stop_lots() == 2)
        assert venue.held() == {"NQ": 2}
        assert scene.report(signal_id, lambda report: report.residual_quantity == 2).state is SignalState.FILLED
        scene.until(lambda: not scene.differences())
        scene.close(signal_id)
        scene.until(lambda: scene.is_closed(signal_id))
        assert_flat(scene, venue)


@pytest.mark.parametrize("habits", [NT8, PLAIN, Habits(brackets=True)], ids=["nt8", "plain", "brackets"])
def test_a_stop_that_trades_before_its_cancel_arrives_is_not_followed_by_a_closing_order(habits):
    with venue_scene({"nt8": habits}) as scene:
        venue = scene.venues["nt8"]
        signal_id = scene.held("nt8", lots=2)
        venue.trouble.stop_first = 1
        scene.close(signal_id)
        scene.until(lambda: scene.is_closed(signal_id))
        assert venue.of_role(OrderRole.EXIT) == []
        assert_flat(scene, venue)


def test_a_close_on_the_heels_of_its_entry_does_not_trade_beside_the_platforms_own_stop():
    """The closing order left with the entry's fill, before the platform had said that its stop works."""
    with venue_scene({"sierra": Habits(brackets=True)}) as scene:
        venue = scene.venues["sierra"]
        for _ in range(5):
            venue.trouble.stop_first = 1
            signal_id = scene.enter("sierra", lots=2)
            scene.close(signal_id)
            scene.until(lambda signal_id=signal_id: scene.is_closed(signal_id))
            assert_flat(scene, venue)


@pytest.mark.parametrize("habits", [NT8, PLAIN], ids=["nt8", "plain"])
def test_no_closing_order_leaves_beside_a_stop_whose_cancel_was_lost(habits):
    """Where the platform does not keep both from trading: it waits until a snapshot has shown the stop, and cancels."""
    with venue_scene({"nt8": habits}) as scene:
        venue = scene.venues["nt8"]
        signal_id = scene.held("nt8", lots=2)
        venue.trouble.swallows = 1
        scene.close(signal_id)
        scene.until(lambda: not venue.trouble.swallows)
        asked = venue.requests
        scene.until(lambda: venue.requests > asked + 1 or not venue.stop_lots())
        scene.until(lambda: scene.is_closed(signal_id))
        whole = [
            moment.what for moment in venue.moments if moment.what.startswith(("exit rests", "stop_loss cancelled"))
        ]
        assert whole == ["stop_loss cancelled", "exit rests"]
        assert_flat(scene, venue)


@pytest.mark.parametrize("replace", [True, False], ids=["resizes", "pairs"])
def test_a_first_target_that_fills_leaves_stop_and_target_for_the_other_lots(replace):
    """Finding A2 of the bridge: one group for all orders of a leg died with the first target, and was used again."""
    with venue_scene({"nt8": Habits(oco=True, replace=replace)}) as scene:
        venue = scene.venues["nt8"]
        venue.one_by_one = True
        signal_id = scene.held("nt8", lots=4, target=True)
        for left in (3, 2, 1):
            scene.until(lambda left=left: _target_lots(venue) == left + 1)
            venue.trade(venue.working(OrderRole.TAKE_PROFIT)[0], D(1))
            scene.until(lambda left=left: (venue.stop_lots(), _target_lots(venue)) == (left, left))
            assert venue.held() == {"NQ": left}
            scene.until(lambda: not scene.differences())
        assert venue.reused_groups == []
        assert venue.of_role(OrderRole.EXIT) == []
        venue.trade(venue.working(OrderRole.STOP_LOSS)[0])
        scene.until(lambda: scene.is_closed(signal_id))
        assert_flat(scene, venue)


def _target_lots(venue: Venue) -> object:
    return sum(each.row.quantity - each.row.filled for each in venue.working(OrderRole.TAKE_PROFIT))
