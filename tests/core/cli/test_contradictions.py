"""What an operator sees and does when a platform contradicts itself: commands against a real gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from nexus_gateway.core.cli import kill as kill_command
from nexus_gateway.core.cli.unproven import check_unproven
from nexus_gateway.core.config import GatewayConfig
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.kill_file import KillEntry, kill_file_path, read_kill_file
from nexus_gateway.core.messages import Fill, KillLevel, Message, Position, Side, Snapshot

from tests.support.operator_commands import run, run_typing
from tests.support.trading_floor import FakeNexus, FakePlatform, Floor, make_signal

D = Decimal


class Liar(FakePlatform):
    """Reports the executions of its first order on the wrong side, in snapshots as well. Holds what was traded."""

    def say(self, body: Message) -> None:
        super().say(self._lie(body) if isinstance(body, Fill) else body)

    def snapshot(self, request_id: int) -> Snapshot:
        true = super().snapshot(request_id)
        rows = tuple(self._lie(fill) for fill in true.executions.rows)
        held = tuple(structs.replace(row, avg_price=self.price) for row in true.positions.rows)
        return structs.replace(
            true,
            executions=structs.replace(true.executions, rows=rows),
            positions=structs.replace(true.positions, rows=held),
        )

    def _lie(self, fill: Fill) -> Fill:
        if fill.client_order_id != self.placed[0].client_order_id:
            return fill
        return structs.replace(fill, side=Side.SELL if fill.side is Side.BUY else Side.BUY)


class Unexplained(FakePlatform):
    """Holds 3 ES that no execution explains, once `holds_more`."""

    holds_more = False

    def snapshot(self, request_id: int) -> Snapshot:
        true = super().snapshot(request_id)
        rows = (*true.positions.rows, Position(symbol="ES", quantity=D(3))) if self.holds_more else true.positions.rows
        return structs.replace(true, positions=structs.replace(true.positions, rows=rows))


class NoSnapshots(FakePlatform):
    """Its link is alive, and it answers no request for a snapshot."""

    def turn(self) -> None:
        self.client.receive()
        self.client.tick()


def open_link(floor: Floor, platform: FakePlatform) -> FakeNexus:
    floor.people.append(platform)
    nexus = floor.nexus()
    floor.until(lambda: nexus.client.is_up and floor.counters().get("routes_up") == 1)
    return nexus


@pytest.fixture
def lied() -> Iterator[tuple[Floor, Liar]]:
    """A platform that holds 1 NQ and says that it was sold; a snapshot has shown both."""
    floor = Floor(("nt8",))
    try:
        floor.quote()
        floor.start()
        floor.until(lambda: floor.counters())
        platform = Liar(floor, "nt8")
        nexus = open_link(floor, platform)
        floor.ready(1)
        nexus.client.send(make_signal("nt8"))
        floor.until(lambda: floor.counters()["contradictions"] == 1 and floor.counters()["positions_unsettled"] == 1)
        yield floor, platform
    finally:
        floor.close()


def test_what_a_platform_contradicts_is_shown(lied: tuple[Floor, Liar]) -> None:
    floor, platform = lied
    for command in ("orders", "positions"):
        shown = run(floor, command)
        assert shown.code == 0
        assert "nt8, account SIM1: linked, ready, reconciled" in shown.out
        assert "CONTRADICTION wrong_side on nt8, account SIM1, NQ, for " in shown.out
        for line in (
            "  execution: nt8-1",
            f"  order:     {platform.placed[0].client_order_id}",
            "  said:      sell 1 NQ at 21000",
            "  expected:  a buy, as its order is",
            "  barred:    nothing is sent for NQ on this account",
            "`acknowledge NQ --holds LOTS --platform nt8`",
        ):
            assert line in shown.out, shown.out
        page = run(floor, command, "--json").json
        (contradiction,) = page["contradictions"]
        assert contradiction["since_ns"] > 0
        assert {key: contradiction[key] for key in ("kind", "platform", "account", "symbol", "exec_id")} == {
            "kind": "wrong_side", "platform": "nt8", "account": "SIM1", "symbol": "NQ", "exec_id": "nt8-1",
        }  # fmt: skip
        assert all(contradiction[key] for key in ("said", "expected", "barred", "ends", "client_order_id"))
    (row,) = page["positions"]
    assert (row["quantity"], row["reported"], row["agrees"], row["avg_price"]) == ("0", "1", False, "21000")
    assert row["reported_age_s"] >= 0
    assert "DIFFERS: booked 0, the platform says 1; the contradiction below has to end first" in shown.out

    status = run(floor, "status")
    assert status.code == 1
    words = " ".join(status.out.split())
    assert "TROUBLE: 1 contradiction of a platform, 1 position is not settled; type: nexus-gateway orders" in words
    assert "orders: 1 of 1 linked, 1 ready" in words
    page = run(floor, "status", "--json").json
    assert not page["is_healthy"]
    assert (page["orders"]["contradictions"], page["orders"]["positions_unsettled"]) == (1, 1)
    # From shared memory alone: also when nobody could answer.
    floor.kill()
    status = run(floor, "status")
    assert status.code == 1
    assert "the gateway's last figures: it is dead writer" in " ".join(status.out.split())
    assert run(floor, "status", "--json").json["orders"]["contradictions"] == 1


def test_a_typed_figure_ends_it_if_it_is_the_platforms_own(lied: tuple[Floor, Liar]) -> None:
    floor, platform = lied
    resumed = run(floor, "resume", "--reason", "x")
    assert (resumed.code, "see `nexus-gateway orders`" in resumed.out) == (1, True), resumed.out
    missing = run(floor, "acknowledge", "NQ")
    assert (missing.code, missing.out) == (2, "")
    assert "--holds" in missing.err
    for words in ("NaN", "inf", "one"):
        refused = run(floor, "acknowledge", "NQ", "--holds", words)
        assert (refused.code, refused.out) == (2, "")
        assert f"holds was {words!r}, must be a plain decimal number" in refused.err
    wrong = run(floor, "acknowledge", "NQ", "--holds", "-1", "--platform", "nt8")
    assert wrong.code == 1
    assert "the platform itself has last reported 1 NQ, fills since included, you typed -1" in wrong.out
    elsewhere = run(floor, "acknowledge", "NQ", "--holds", "1", "--account", "SIM2", "--json")
    assert (elsewhere.code, elsewhere.json["accepted"]) == (1, False)
    right = run(floor, "acknowledge", "NQ", "--holds", "1", "--platform", "nt8", "--account", "SIM1", "--json")
    assert (right.code, right.json["accepted"]) == (0, True), right.out
    assert "NQ holds 1" in right.json["lines"][0]
    page = run(floor, "positions", "--json").json
    assert page["contradictions"] == []
    assert [(row["quantity"], row["agrees"]) for row in page["positions"]] == [("1", True)]
    floor.until(lambda: not floor.counters()["contradictions"])
    assert "CONTRADICTION" not in run(floor, "orders").out
    assert "TROUBLE" not in run(floor, "status").out
    # Its lots are the account's, and no signal's.
    killed = run(floor, "kill", "--level", "flatten", "--platform", "nt8", "--json")
    assert (killed.code, platform.position) == (0, 0), killed.out


def test_unproven_is_refused_before_anything_is_written_or_sent(lied: tuple[Floor, Liar]) -> None:
    floor, platform = lied
    for typed, said in (("nt9", "the name was 'nt9', must be 'nt8'"), ("", "the name was ''")):
        refused = run_typing(floor, "kill", "--level", "flatten", "--unproven", "nt8", typed=typed)
        assert (refused.code, refused.out) == (1, "")
        assert said in refused.err
    for words, said in (
        (("--unproven", "nt8"), "'nt8' cannot be typed once more; run it in a terminal, or add --yes"),
        (("--unproven", "nt88", "--yes"), "platform was 'nt88', must be one of nt8"),
        (("--unproven", "nt8", "--json"), "with --unproven add --yes"),
    ):
        answer = run(floor, "kill", "--level", "flatten", *words, stdin="nt8\n")
        assert (answer.code, answer.out) == (2, ""), words
        assert said in answer.err
    assert not kill_file_path(floor.folder).exists()
    assert len(platform.placed) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"level": KillLevel.SEVER}, "level was 'sever', must be 'flatten'"),
        ({"own_only": True}, "--own-only was given"),
        ({"platform": "sierra"}, "platform was 'sierra', must be 'nt8'"),
        ({"unproven": ""}, "--yes was given, it goes with --unproven PLATFORM only"),
    ],
)
def test_options_that_contradict_unproven_are_refused(changes: dict[str, Any], said: str) -> None:
    values: dict[str, Any] = {"unproven": "nt8", "level": KillLevel.FLATTEN, "platform": "", "own_only": False}
    check_unproven(**values, is_confirmed=True, as_json=True)
    with pytest.raises(ConfigError, match=said):
        check_unproven(**(values | changes), is_confirmed=True, as_json=False)


def test_flatten_unproven_closes_once_and_leaves_an_ordinary_kill_file(lied: tuple[Floor, Liar]) -> None:
    floor, platform = lied
    answer = run_typing(floor, "kill", "--level", "flatten", "--unproven", "nt8", "--timeout", "6", typed="nt8")
    assert "To go on type the platform's name" in answer.err
    assert "nt8|SIM1: flatten asked; sent once: -1 NQ" in answer.err, "at once, not after the time is up"
    assert "nt8|SIM1: flatten asked; sent once: -1 NQ" in answer.out
    assert "repeat this command" not in answer.out, "repeated, it would close a second time"
    assert "acknowledge SYMBOL --holds 0 --platform nt8" in answer.out
    assert answer.code == 1, "nothing is verified while the contradiction stands"
    assert [(order.side, order.quantity) for order in platform.placed[1:]] == [(Side.SELL, 1)]
    assert platform.position == 0
    (entry,) = read_kill_file(kill_file_path(floor.folder))
    assert (entry.level, entry.platform, entry.own_only) == (KillLevel.FLATTEN, "nt8", False)
    (written,) = json.loads(kill_file_path(floor.folder).read_bytes())["kills"]
    assert written.keys() <= set(KillEntry.__struct_fields__)

    acknowledged = run(floor, "acknowledge", "NQ", "--holds", "0", "--platform", "nt8")
    assert acknowledged.code == 0, acknowledged.out
    again = run(floor, "kill", "--level", "flatten", "--platform", "nt8", "--json")
    assert again.code == 0, again.out
    assert (again.json["platforms"], again.json["unproven"]) == ({"nt8|SIM1": "flatten verified"}, False)
    assert len(platform.placed) == 2
    assert run(floor, "resume", "--reason", "settled").code == 0
    assert not kill_file_path(floor.folder).exists()


def test_without_a_gateway_nothing_is_closed_and_it_is_said() -> None:
    floor = Floor(("nt8",))
    try:
        words = ("kill", "--level", "flatten", "--unproven", "nt8", "--yes", "--timeout", "0.5")
        answer = run(floor, *words)
        assert answer.code == 3
        assert "nothing was closed unproven: no gateway answered; flatten at nt8 itself" in answer.out
        page = run(floor, *words, "--json").json
        assert (page["was_sent"], page["sent"], page["platform"]) == (False, {}, "nt8")
        assert [kill.level for kill in read_kill_file(kill_file_path(floor.folder))] == [KillLevel.FLATTEN]
    finally:
        floor.close()


@pytest.mark.parametrize("has_left", [True, False])
def test_what_closes_unproven_figures_leaves_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_left: bool
) -> None:
    """The gateway may have closed before it went away: a second command would close the same lots again."""
    config = GatewayConfig(run_folder=str(tmp_path))
    config.keys_path.mkdir()
    entry = KillEntry(level=KillLevel.FLATTEN, platform="nt8", reason="r", by="ops", at_ns=1)
    silent = {"answered": True, "verified": False, "platforms": {}, "text": "the gateway went away", "is_silent": True}
    first = silent | {"asked": {"nt8|SIM1": "flatten asked; sent once: -1 NQ"}, "has_left": has_left}
    last = silent | {"verified": True, "is_silent": False, "asked": {"nt8|SIM1": "flatten asked"}, "has_left": True}
    replies, asked = [dict(first), dict(last)], []

    def send(*_: object, is_unproven: bool) -> dict[str, Any]:
        asked.append(is_unproven)
        return replies.pop(0)

    monkeypatch.setattr(kill_command, "_send_kill", send)
    result = kill_command._ask_gateway(config, entry, 30.0, is_unproven=True)
    assert asked == [True, not has_left]
    assert (result["verified"], result["was_sent"]) == (True, True)
    assert result["sent"] == (first if has_left else last)["asked"]


def test_a_position_that_waits_is_marked_in_words_and_ended_by_its_figure() -> None:
    """Finding B5: it was a row like any other."""
    floor = Floor(("nt8",))
    try:
        floor.start()
        floor.until(lambda: floor.counters())
        platform = Unexplained(floor, "nt8")
        open_link(floor, platform)
        floor.ready(1)
        platform.holds_more = True
        floor.until(lambda: floor.counters()["engine_position_drift"] == 1)
        shown = run(floor, "positions")
        assert "NO" in shown.out
        assert "WAITS for `acknowledge ES --holds LOTS --platform nt8`" in shown.out
        (row,) = run(floor, "positions", "--json").json["positions"]
        assert (row["quantity"], row["reported"], row["agrees"], row["acknowledged"]) == ("3", "3", False, False)
        assert "TROUBLE: 1 position is not settled" in run(floor, "status").out
        assert run(floor, "acknowledge", "ES", "--holds", "3").code == 0
        (row,) = run(floor, "positions", "--json").json["positions"]
        assert (row["quantity"], row["agrees"], row["acknowledged"], row["note"]) == ("3", True, True, "")
    finally:
        floor.close()


def test_an_overdue_snapshot_is_shown_with_its_age() -> None:
    floor = Floor(("nt8",))
    try:
        floor.start()
        floor.until(lambda: floor.counters())
        open_link(floor, NoSnapshots(floor, "nt8"))
        floor.until(lambda: floor.counters()["routes_overdue"] == 1)
        shown = run(floor, "orders").out
        assert "nt8, account SIM1: linked, not ready, NEVER reconciled; a snapshot has been OVERDUE for " in shown
        (account,) = run(floor, "orders", "--json").json["accounts"]
        assert (account["linked"], account["ready"], account["reconciled_age_s"]) == (True, False, None)
        assert account["overdue_s"] >= 0
        status = run(floor, "status")
        assert status.code == 1
        assert "TROUBLE: 1 account owes a snapshot; type: nexus-gateway orders" in " ".join(status.out.split())
        assert not run(floor, "status", "--json").json["is_healthy"]
    finally:
        floor.close()
