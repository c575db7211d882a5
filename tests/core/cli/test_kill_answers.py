"""What `kill` and `resume` print while a level does not hold yet: commands against a real gateway."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs
from nexus_gateway.core.cli import kill as kill_command
from nexus_gateway.core.messages import (
    AdminResult,
    Cancel,
    LegState,
    OrderType,
    Position,
    Reject,
    RejectCode,
    Side,
    SignalState,
    Snapshot,
    WorkingOrder,
)

from tests.support.operator_commands import run
from tests.support.trading_floor import FakeNexus, FakePlatform, Floor, make_signal, open_floor

D = Decimal
STOP = WorkingOrder(
    client_order_id="by hand",
    symbol="NQ",
    side=Side.SELL,
    state=LegState.WORKING,
    quantity=D(3),
    filled=D(0),
    platform_order_id="H1",
    order_type=OrderType.STOP,
    stop_price=D(20_900),
)


class Person(FakePlatform):
    """Holds 3 NQ of a person, with a stop of theirs, and refuses orders; notes what it is asked to cancel."""

    def __init__(self, floor: Floor, name: str, **options: object) -> None:
        super().__init__(floor, name, **options)  # type: ignore[arg-type]  # a test names what it varies
        self.cancelled: list[str] = []

    def _cancel(self, cancel: Cancel) -> None:
        self.cancelled.append(cancel.platform_order_id)

    def snapshot(self, request_id: int) -> Snapshot:
        true = super().snapshot(request_id)
        held = structs.replace(true.positions, rows=(Position(symbol="NQ", quantity=D(3)),))
        return structs.replace(true, positions=held, working_orders=structs.replace(true.working_orders, rows=(STOP,)))


class Stubborn(FakePlatform):
    """Refuses every cancel."""

    def _cancel(self, cancel: Cancel) -> None:
        self.say(
            Reject(
                code=RejectCode.CANCEL_REJECTED,
                text="not now",
                client_order_id=cancel.client_order_id,
                platform=self.name,
                account=self.account,
            )
        )


def write_shut_hours(folder: Path) -> tuple[Path, int]:
    """Hours by which NQ trades half an hour a day, in twelve hours. Returns the file and the hour of the opening."""
    hour = (datetime.now(UTC).hour + 12) % 24
    path = folder / "hours.yaml"
    path.write_text(
        f"""
sessions:
  cme_equity:
    timezone: UTC
    day_boundary: "23:59:00"
    holidays: cme
    hours:
      - {{from: 2000-01-01, open: "{hour:02}:00:00", close: "{hour:02}:30:00"}}
"""
    )
    return path, hour


def open_position(floor: Floor, platform: FakePlatform, nexus: FakeNexus) -> None:
    platform.mode = "fill"
    entry = make_signal("nt8")
    nexus.client.send(entry)
    floor.until(lambda: (r := nexus.report(entry.signal_id)) is not None and r.state is SignalState.FILLED)


def test_a_shut_market_is_named_with_its_opening_and_a_persons_stop_stays(tmp_path: Path) -> None:
    hours, hour = write_shut_hours(tmp_path)
    floor = Floor(("nt8",), hours_file=str(hours))
    try:
        real = structs.replace(floor.config.platforms["nt8"], adapter="nexus_gateway.adapters.bridge:BridgeAdapter")
        floor.config = structs.replace(floor.config, platforms={"nt8": real})
        floor.quote()
        floor.start()
        platform = Person(floor, "nt8", mode="reject")
        floor.people.append(platform)
        floor.ready(1)
        answer = run(floor, "kill", "--level", "flatten", "--timeout", "4")
        assert answer.code == 1
        assert "flatten: accepted, NOT verified: not confirmed within 4 s by nt8|SIM1" in answer.out
        assert "holds +3 NQ: market shut until 20" in answer.out
        assert f" {hour:02}:00 UTC by the calendar; its stop stays; it is closed when the market opens" in answer.out
        assert "1 external orders that protect NQ stay while the market is shut" in answer.out
        assert "nt8|SIM1: flatten not verified yet: " in answer.err, "while it waits"
        assert platform.cancelled == []
        page = run(floor, "kill", "--level", "flatten", "--timeout", "1", "--json").json
        assert "market shut until" in page["platforms"]["nt8|SIM1"]
        (line,) = [each for each in run(floor, "resume", "--reason", "x", "--json").json["lines"] if "shut" in each]
        assert line.startswith("nt8|SIM1: NQ: market shut until 20")
    finally:
        floor.close()


def test_a_platform_that_refuses_to_close_is_quoted() -> None:
    with open_floor(("nt8", "fill")) as (floor, (platform,), nexus):
        open_position(floor, platform, nexus)
        platform.mode = "reject"
        answer = run(floor, "kill", "--level", "flatten", "--timeout", "6")
        assert answer.code == 1
        assert "holds +1 NQ: " in answer.out
        assert "is being closed: 1 NQ, closing order refused " in answer.out
        assert " times (no)" in answer.out
        assert "closing order refused" in answer.err, "while it waits"
        assert len(answer.err.splitlines()) <= 4, answer.err
        platform.mode = "fill"
        assert run(floor, "kill", "--level", "flatten", "--json").json["platforms"] == {"nt8|SIM1": "flatten verified"}


def test_a_silent_platform_and_a_link_that_is_down_are_named() -> None:
    with open_floor(("nt8", "work")) as (floor, (platform,), _):
        platform.answers_snapshots = False
        answer = run(floor, "kill", "--level", "flatten", "--timeout", "4", "--json")
        assert (answer.code, answer.json["verified"]) == (1, False)
        assert "waits for a snapshot of the platform, requested " in answer.json["platforms"]["nt8|SIM1"]
        floor.people.remove(platform)
        platform.client.close()
        floor.until(lambda: not floor.counters()["routes_up"])
        answer = run(floor, "kill", "--level", "flatten", "--timeout", "1", "--json")
        assert "its link is down: nothing can be sent" in answer.json["platforms"]["nt8|SIM1"]
        refused = run(floor, "resume", "--reason", "x")
        assert refused.code == 1
        assert "nt8|SIM1: not connected and reconciled: its link is down" in refused.out


def test_an_entry_that_cannot_be_cancelled_is_named_by_both() -> None:
    floor = Floor(("nt8",))
    try:
        floor.quote()
        floor.start()
        platform = Stubborn(floor, "nt8", mode="work")
        floor.people.append(platform)
        nexus = floor.nexus()
        floor.until(lambda: nexus.client.is_up)
        floor.ready(1)
        nexus.client.send(make_signal("nt8"))
        floor.until(lambda: platform.placed)
        answer = run(floor, "kill", "--level", "cancel-all", "--timeout", "5", "--json")
        assert answer.code == 1
        said = f"entry {platform.placed[0].client_order_id}: 1 NQ still works, its cancel was sent "
        assert said in answer.json["platforms"]["nt8|SIM1"]
        assert "times and is sent again every 0.6 s" in answer.json["platforms"]["nt8|SIM1"]
        resumed = run(floor, "resume", "--reason", "on")
        assert resumed.code == 0
        assert said in resumed.out
        assert "it is cancelled further" in resumed.out
    finally:
        floor.close()


def test_what_is_lacking_is_shown_once_it_has_lasted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    answers = kill_command._Answers(shows_first=False)

    def told(line: str, *, done: bool = False) -> bool:
        received.append(AdminResult(request_id=kill_command.REQUEST, accepted=True, done=done, lines=(line,)))
        return answers.read(received)

    received: list = []
    assert not told("a|acc: flatten asked")
    assert not told("a|acc: flatten not verified yet: holds +2 NQ")
    assert capsys.readouterr().err == ""
    now_s[0] += 2.5
    assert not answers.read(received)
    assert not answers.read(received)
    assert capsys.readouterr().err == "a|acc: flatten not verified yet: holds +2 NQ\n"
    assert not told("a|acc: flatten not verified yet: market shut")
    assert capsys.readouterr().err == "", "not more often than every 2 s"
    assert told("a|acc: flatten verified", done=True)
    assert not told("a|acc: flatten not verified yet: a late fill")
    assert (answers.missing, answers.first) == ({"a|acc"}, {"a|acc": "flatten asked"})
    assert answers.newest == {"a|acc": "flatten not verified yet: a late fill"}


@pytest.mark.parametrize(
    ("line", "holds"),
    [
        ("flatten verified", True),
        ("cancel_all verified; +2 NQ held, its stops were cancelled as well", True),
        ("flatten verified, but the platform lists no positions: look there whether one is left", True),
        ("sever severed and flat", True),
        ("sever was cut before it was flat: holds +1 NQ", False),
        ("flatten not verified yet: holds +1 NQ", False),
        ("flatten asked, link is down", False),
    ],
)
def test_a_line_that_says_more_is_verified_all_the_same(line: str, holds: bool) -> None:
    assert bool(kill_command.VERIFIED.match(line)) is holds
