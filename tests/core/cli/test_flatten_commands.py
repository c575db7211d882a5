"""`nexus-gateway kill --level flatten` where a platform lets it and where it does not: exit code, and a true answer."""

from __future__ import annotations

import datetime
import threading
from pathlib import Path

import pytest
import yaml
from nexus_gateway.core.messages import OrderRole, OrderType, SignalState

from tests.support.operator_commands import Answer, run
from tests.support.venue_adapter import D, Habits
from tests.support.venue_scene import VenueScene, set_adapter, venue_scene

VERIFIED, NOT_VERIFIED = 0, 1
TWO = {"nt8": Habits(oco=True), "sierra": Habits(brackets=True)}
BY_CALENDAR = "nexus_gateway.adapters.nt8:Nt8Adapter"


def flatten(scene: VenueScene, timeout_s: float, *words: str, **options: object) -> Answer:
    return run(
        scene.floor, "kill", "--level", "flatten", "--timeout", str(timeout_s), "--reason", "test", *words, **options
    )


def line_of(answer: Answer, platform: str) -> str:
    """What the answer says of a platform."""
    (line,) = [line for line in answer.out.splitlines() if line.strip().startswith(f"{platform}|")]
    return line.partition(": ")[2]


def assert_verified(answer: Answer, *platforms: str) -> None:
    assert (answer.code, answer.out.splitlines()[0]) == (VERIFIED, "flatten: verified"), answer.out + answer.err
    for platform in platforms:
        assert "verified" in line_of(answer, platform)


def assert_not_verified(answer: Answer, *, lacking: str, others: tuple[str, ...] = (), words: tuple[str, ...] = ()):
    """The answer names the platform that lacks, says what it lacks (`words`) and that the gateway goes on."""
    assert answer.code == NOT_VERIFIED, answer.out + answer.err
    head = answer.out.splitlines()[0]
    assert "NOT verified" in head
    assert "the gateway goes on" in answer.out
    assert lacking in answer.out
    assert not line_of(answer, lacking).endswith("verified")
    for other in others:
        assert line_of(answer, other).endswith("verified")
    for word in words:
        assert word in line_of(answer, lacking), answer.out


def shut_days(path: Path) -> Path:
    """A file of hours in which CME's stock indices do not trade from yesterday to the day after tomorrow."""
    today = datetime.datetime.now(datetime.UTC).date()
    days = {today + datetime.timedelta(days=number): {"closed": True} for number in (-1, 0, 1, 2)}
    hours = {"from": datetime.date(2000, 1, 1), "open": "18:00:00", "open_day": "previous", "close": "17:00:00"}
    calendar = {"timezone": "America/New_York", "day_boundary": "17:00:00", "holidays": "cme", "hours": [hours]}
    path.write_text(yaml.safe_dump({"sessions": {"cme_equity": calendar | {"special_days": days}}}))
    return path


def restart(scene: VenueScene, adapter: str) -> None:
    """Another adapter in the configuration: the simulator's market is never shut, the others' by the calendar."""
    set_adapter(scene.floor, adapter)
    scene.floor.restart()
    scene.until(lambda: scene.nexus.client.is_up and scene.operator.client.is_up)
    scene.floor.ready(len(scene.venues))


def test_in_an_open_market_it_is_flat_and_verified():
    with venue_scene(TWO) as scene:
        signals = [scene.held("nt8", "sierra", lots=2), scene.held("nt8", target=True)]
        assert_verified(flatten(scene, 60), "nt8", "sierra")
        scene.until(lambda: all(scene.is_closed(each) for each in signals) and not scene.differences())
        for venue in scene.venues.values():
            assert (venue.held(), venue.working(), venue.wrong) == ({}, [], [])


@pytest.mark.parametrize("by", ["kill", "signal_close"])
def test_in_a_shut_market_the_stop_stays_and_the_answer_says_that_it_is_shut(tmp_path, by):
    """Finding A4: the stop was taken away at once, on a Friday evening, and nothing was said of it."""
    hours = str(shut_days(tmp_path / "hours.yaml"))
    with venue_scene({"nt8": Habits(oco=True)}, hours_file=hours) as scene:
        venue = scene.venues["nt8"]
        simulator = scene.floor.config.platforms["nt8"].adapter
        signal_id = scene.held("nt8", lots=2, target=True)
        restart(scene, BY_CALENDAR)
        venue.moments.clear()
        venue.trouble.refuses = "X"  # as an exchange does that is shut
        if by == "kill":
            answer = flatten(scene, 5)
            assert_not_verified(answer, lacking="nt8")
        else:
            scene.close(signal_id)
        report = scene.report(signal_id, lambda report: "shut" in report.legs[0].text)
        assert (report.state, report.legs[0].open_quantity) == (SignalState.FLATTENING, 2)
        assert "its stop stays" in report.legs[0].text
        asked = venue.requests
        scene.until(lambda: venue.requests > asked + 3)
        assert (venue.stop_lots(), venue.held(), venue.of_role(OrderRole.EXIT)) == (2, {"NQ": 2}, [])
        assert [moment for moment in venue.moments if moment.stops < 2] == []
        venue.trouble.refuses = ""
        restart(scene, simulator)
        scene.until(lambda: scene.is_closed(signal_id) and not scene.differences())
        assert (venue.held(), venue.working(), venue.wrong) == ({}, [], [])


def test_a_platform_that_refuses_for_a_while_is_named_until_it_is_flat():
    with venue_scene(TWO) as scene:
        signal_id = scene.held("nt8", "sierra")
        venue = scene.venues["nt8"]
        venue.trouble.refuses = "X"
        assert_not_verified(flatten(scene, 6), lacking="nt8", others=("sierra",))
        assert (venue.held(), scene.venues["sierra"].held()) == ({"NQ": 1}, {})
        scene.until(lambda: venue.stop_lots() == 1)
        venue.trouble.refuses = ""
        assert_verified(flatten(scene, 60), "nt8", "sierra")
        scene.until(lambda: scene.is_closed(signal_id) and not scene.differences())
        assert (venue.held(), venue.working(), venue.wrong) == ({}, [], [])


def test_a_command_that_waits_long_enough_outlasts_a_platform_that_refuses():
    with venue_scene(TWO) as scene:
        scene.held("nt8", "sierra")
        venue = scene.venues["nt8"]
        venue.trouble.refuses = "X"
        ended = threading.Timer(15, lambda: setattr(venue.trouble, "refuses", ""))
        ended.start()
        try:
            assert_verified(flatten(scene, 120), "nt8", "sierra")
        finally:
            ended.cancel()
            ended.join()
        assert len(venue.of_role(OrderRole.EXIT)) > 3
        assert (venue.held(), venue.working(), venue.wrong) == ({}, [], [])


def test_a_platform_that_answers_no_snapshot_is_not_called_flat():
    with venue_scene(TWO) as scene:
        scene.held("nt8", "sierra")
        venue = scene.venues["nt8"]
        venue.trouble.answers = False
        assert_not_verified(flatten(scene, 6), lacking="nt8", others=("sierra",))
        venue.trouble.answers = True
        assert_verified(flatten(scene, 60), "nt8", "sierra")
        assert (venue.held(), venue.working(), venue.wrong) == ({}, [], [])


@pytest.mark.parametrize("role", [OrderRole.ENTRY, OrderRole.STOP_LOSS])
def test_an_order_that_cannot_be_cancelled_is_not_called_gone(role):
    with venue_scene(TWO) as scene:
        venue = scene.venues["nt8"]
        if role is OrderRole.ENTRY:
            signal_id = scene.enter("nt8", order_type=OrderType.LIMIT, limit_price=D(20_990))
            scene.report(signal_id, lambda report: report.state is SignalState.WORKING)
            scene.until(lambda: venue.working(role))
        else:
            signal_id = scene.held("nt8")
        scene.held("sierra")
        venue.trouble.refuses = "C"
        assert_not_verified(flatten(scene, 6), lacking="nt8", others=("sierra",))
        # Where stop and close could both trade, no closing order may stand beside a stop that works on.
        assert (len(venue.working(role)), venue.of_role(OrderRole.EXIT)) == (1, [])
        venue.trouble.refuses = ""
        assert_verified(flatten(scene, 60), "nt8", "sierra")
        scene.until(lambda: scene.is_closed(signal_id) and not scene.differences())
        assert (venue.held(), venue.working(), venue.wrong) == ({}, [], [])
