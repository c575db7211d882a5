"""The operator's commands against a real gateway, and without one."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from nexus_gateway.core.kill_file import kill_file_path, read_kill_file
from nexus_gateway.core.messages import KillLevel, Order, RejectCode, Side, SignalClose, SignalState

from tests.support.trading_floor import FakeNexus, FakePlatform, Floor, make_signal, open_floor

D = Decimal


class Answer:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)


def run(floor: Floor, *words: str, stdin: str = "", meanwhile: Callable[[], object] | None = None) -> Answer:
    """Run a command in its own process while platforms and NEXUS go on; `meanwhile`: after its first line on stderr."""
    command = [sys.executable, "-P", "-m", "nexus_gateway.core.cli", *words, "--config", str(floor.write_config())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
        if meanwhile is not None:
            assert process.stderr is not None
            said = process.stderr.readline()
            meanwhile()
        floor.until(lambda: process.poll() is not None, patience_s=60)
        out, err = process.communicate()
    return Answer(process.returncode, out, said + err if meanwhile is not None else err)


Trading = tuple[Floor, FakePlatform, FakeNexus]


@pytest.fixture
def trading() -> Iterator[Trading]:
    with open_floor(("nt8", "work")) as (floor, (platform,), nexus):
        yield floor, platform, nexus


def open_position(floor: Floor, platform: FakePlatform, nexus: FakeNexus) -> str:
    platform.mode = "fill"
    entry = make_signal("nt8")
    nexus.client.send(entry)
    floor.until(lambda: (r := nexus.report(entry.signal_id)) is not None and r.state is SignalState.FILLED)
    return entry.signal_id


def test_orders_and_positions(trading: Trading) -> None:
    floor, platform, nexus = trading
    nexus.client.send(make_signal("nt8"))
    floor.until(lambda: platform.placed)
    shown = run(floor, "orders")
    assert platform.placed[0].client_order_id in shown.out, "whole, also in a pipe of 80 columns"
    (row,) = run(floor, "orders", "--json").json["orders"]
    assert (row["platform"], row["symbol"], row["role"], row["state"]) == ("nt8", "NQ", "entry", "working")
    platform.fill(platform.placed[0].client_order_id, D(1))
    floor.until(lambda: floor.counters()["fills"] == 1)
    page = run(floor, "positions", "--json").json
    (position,), (account,) = page["positions"], page["accounts"]
    assert (position["symbol"], position["quantity"]) == ("NQ", "1")
    assert (account["platform"], account["account"]) == ("nt8", "SIM1")
    assert position["reconciled_age_s"] == account["reconciled_age_s"] >= 0
    shown = run(floor, "positions")
    assert shown.code == 0
    assert "nt8, account SIM1: reconciled" in shown.out


def test_nothing_there_and_nothing_known_are_told_apart() -> None:
    with open_floor(("nt8", "work")) as (floor, _, _):
        assert "no positions\n  nt8, account SIM1: reconciled" in run(floor, "positions").out
    floor = Floor(("nt8",))
    try:
        floor.start()
        floor.until(lambda: floor.counters())
        assert "no positions are known: no such platform has ever linked" in run(floor, "positions").out
        platform = floor.platform("nt8")
        floor.until(lambda: platform.client.is_up)
        platform.hung = True  # it is linked, and does not answer the request for a snapshot
        floor.until(lambda: floor.counters()["routes_up"] == 1)
        shown = run(floor, "positions")
        assert shown.out == "no positions\n  nt8, account SIM1: NEVER reconciled\n"
        assert run(floor, "orders", "--json").json == {
            "orders": [],
            "accounts": [{"platform": "nt8", "account": "SIM1", "reconciled_age_s": None}],
        }
    finally:
        floor.close()


def test_a_platform_that_is_not_there_is_refused_and_nobody_looks_stopped(trading: Trading) -> None:
    floor, _, _ = trading
    for words in (
        ("kill", "--level", "flatten"),
        ("resume", "--reason", "x"),
        ("acknowledge", "NQ"),
        ("orders",),
        ("positions",),
    ):
        answer = run(floor, *words, "--platform", "nt88")
        assert (answer.code, answer.out) == (2, ""), words
        assert "platform was 'nt88', must be one of nt8; correct it" in answer.err
    assert not read_kill_file(kill_file_path(floor.folder))


def test_kill_flattens_and_says_so_only_when_the_platform_shows_it(trading: Trading) -> None:
    floor, platform, nexus = trading
    open_position(floor, platform, nexus)
    answer = run(floor, "kill", "--level", "flatten", "--reason", "practice", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["verified"]
    assert answer.json["platforms"]["nt8|SIM1"] == "flatten verified"
    assert platform.position == 0
    late = make_signal("nt8")
    nexus.client.send(late)
    floor.until(lambda: nexus.report(late.signal_id) is not None)
    assert nexus.report(late.signal_id).code is RejectCode.KILL_SWITCH  # type: ignore[union-attr]  # waited for
    refused = run(floor, "resume", "--reason", "over", "--json")
    assert refused.code == 0, refused.out
    assert not read_kill_file(kill_file_path(floor.folder))
    floor.quote()
    again = make_signal("nt8")
    nexus.client.send(again)
    floor.until(lambda: (r := nexus.report(again.signal_id)) is not None and r.state is SignalState.FILLED)


def test_a_kill_survives_a_restart_that_has_lost_its_journal(trading: Trading) -> None:
    floor, platform, nexus = trading
    assert run(floor, "kill", "--level", "no-new").code == 0
    floor.kill()
    journal = Path(floor.config.journal_path)
    for path in journal.parent.glob(journal.name + "*"):
        path.unlink()
    floor.start()
    links = nexus.client.counts["links"]
    floor.until(lambda: nexus.client.counts["links"] > links)
    assert floor.counters()["kill_level"] >= KillLevel.NO_NEW
    floor.ready(1)  # before that the answer is "not yet"
    signal_after = make_signal("nt8")
    nexus.client.send(signal_after)
    floor.until(lambda: nexus.report(signal_after.signal_id) is not None)
    report = nexus.report(signal_after.signal_id)
    assert report is not None
    assert report.code is RejectCode.KILL_SWITCH
    assert not platform.placed


def test_a_hung_gateway_is_named_and_stops_when_it_wakes(trading: Trading) -> None:
    floor, platform, nexus = trading
    open_position(floor, platform, nexus)
    assert floor.process is not None
    os.kill(floor.process.pid, signal.SIGSTOP)
    try:
        answer = run(floor, "kill", "--level", "flatten", "--timeout", "1")
    finally:
        os.kill(floor.process.pid, signal.SIGCONT)
    assert answer.code == 3
    assert "DOES NOT ANSWER" in answer.out
    assert [kill.level for kill in read_kill_file(kill_file_path(floor.folder))] == [KillLevel.FLATTEN]
    floor.until(lambda: platform.position == 0)


def test_a_kill_outwaits_a_gateway_that_hangs_and_is_restarted(trading: Trading) -> None:
    floor, platform, nexus = trading
    open_position(floor, platform, nexus)
    hung = floor.process
    assert hung is not None
    os.kill(hung.pid, signal.SIGSTOP)

    def restart() -> None:
        """As the launcher does after some seconds without a heartbeat."""
        hung.kill()
        hung.wait()
        floor.start()

    answer = run(floor, "kill", "--level", "flatten", "--timeout", "60", "--json", meanwhile=restart)
    assert "does not answer" in answer.err
    assert "is in force: adapters obey it now" in answer.err
    assert answer.code == 0, answer.out
    assert answer.json["platforms"] == {"nt8|SIM1": "flatten verified"}
    assert platform.position == 0


def test_a_kill_that_nobody_can_verify_says_so() -> None:
    floor = Floor(("nt8",))
    try:
        floor.start()
        floor.until(lambda: floor.counters())
        answer = run(floor, "kill", "--level", "flatten", "--timeout", "5", "--json")
        assert (answer.code, answer.json["answered"], answer.json["verified"]) == (1, True, False)
        assert answer.json["platforms"] == {"nt8": "no account of it has connected yet"}
        assert [kill.level for kill in read_kill_file(kill_file_path(floor.folder))] == [KillLevel.FLATTEN]
        shown = run(floor, "kill", "--level", "flatten", "--timeout", "5")
        assert "flatten: accepted, NOT verified: not confirmed within " in shown.out
        assert " s by nt8; the gateway goes on: repeat this command" in shown.out
        assert "check your positions at the platforms themselves" in shown.out
    finally:
        floor.close()


def test_sever_lets_the_gateway_flatten_before_adapters_are_told_to_cut(trading: Trading) -> None:
    floor, platform, nexus = trading
    open_position(floor, platform, nexus)
    path = kill_file_path(floor.folder)
    while_closing = []

    def place(order: Order) -> None:
        while_closing.append([kill.level for kill in read_kill_file(path)])
        FakePlatform._place(platform, order)

    platform._place = place  # type: ignore[method-assign]  # an adapter looks into the file at this moment
    answer = run(floor, "kill", "--level", "sever", "--timeout", "60", "--json")
    assert answer.code == 0, answer.out
    assert answer.json["platforms"] == {"nt8|SIM1": "sever severed and flat"}
    assert platform.position == 0
    assert while_closing == [[KillLevel.FLATTEN]], "at sever an adapter refuses the closing order and cuts the link"
    assert [kill.level for kill in read_kill_file(path)] == [KillLevel.SEVER]


def test_what_is_severed_before_it_was_flat_is_not_verified(trading: Trading) -> None:
    floor, platform, nexus = trading
    open_position(floor, platform, nexus)
    platform.mode = "reject"  # closing orders too
    answer = run(floor, "kill", "--level", "sever", "--timeout", "60", "--json")
    assert (answer.code, answer.json["verified"]) == (1, False), answer.out
    assert answer.json["platforms"]["nt8|SIM1"].startswith("sever ")
    assert "not everything was flat" in answer.json["text"]


def test_sever_cuts_the_link_and_keeps_it_cut(trading: Trading) -> None:
    floor, platform, _ = trading
    answer = run(floor, "kill", "--level", "sever", "--json")
    assert answer.code == 0, answer.out
    floor.until(lambda: platform.client.refusal is not None)
    assert platform.client.refusal is not None
    assert "resume first" in platform.client.refusal.text
    first = run(floor, "resume", "--reason", "again", "--json")
    assert (first.code, "resume once more" in first.json["lines"][0]) == (1, True)
    floor.ready(1)
    second = run(floor, "resume", "--reason", "again", "--json")
    assert second.code == 0, second.out
    assert not read_kill_file(kill_file_path(floor.folder))


def test_stage_goes_up_with_the_typed_sentence_only(trading: Trading) -> None:
    floor, _, _ = trading
    assert run(floor, "stage", "show", "--json").json["stage"] == 1
    wrong = run(floor, "stage", "promote", stdin="yes\n")
    assert wrong.code == 1
    assert "the sentence was 'yes'" in wrong.err
    right = run(floor, "stage", "promote", "--json", stdin="I promote to stage 2\n")
    assert right.code == 0, right.err
    assert right.json["accepted"]
    assert run(floor, "stage", "show", "--json").json["stage"] == 2
    highest = run(floor, "stage", "promote", stdin="\n")
    assert "highest" in highest.err
    assert run(floor, "stage", "demote").code == 0
    lowest = run(floor, "stage", "demote")
    assert (lowest.code, "lowest" in lowest.err) == (1, True)
    assert "-> 1 small" in run(floor, "stage", "show").out


def test_journal_commands(trading: Trading) -> None:
    floor, platform, nexus = trading
    open_position(floor, platform, nexus)
    copy = floor.root / "copy.sqlite"
    assert run(floor, "journal", "verify", "--json").json["sound"]
    assert run(floor, "journal", "backup", str(copy), "--json").json["events"] > 0
    in_use = run(floor, "journal", "restore", str(copy))
    assert (in_use.code, "in use" in in_use.err) == (1, True)
    exported = run(floor, "journal", "export")
    kinds = {json.loads(line)["kind"] for line in exported.out.splitlines()}
    assert {"started", "link_up", "signal_arrived", "order"} <= kinds
    assert floor.token not in exported.out
    file = floor.root / "journal.jsonl"
    assert run(floor, "journal", "export", "--json", "-o", str(file)).json["lines"] >= len(exported.out.splitlines())
    assert run(floor, "journal", "export", "--json").code == 2
    floor.kill()
    assert run(floor, "journal", "restore", str(copy), "--json").json["sound"]
    floor.start()
    links = nexus.client.counts["links"]
    floor.until(lambda: nexus.client.counts["links"] > links)
    copy.write_bytes(copy.read_bytes()[:8192])
    assert run(floor, "journal", "verify", str(copy)).code == 1


def test_report_counts_what_was_traded(trading: Trading) -> None:
    floor, platform, nexus = trading
    for price in (D(21_010), D(20_995)):
        platform.price = D(21_000)
        name = open_position(floor, platform, nexus)
        platform.price = price
        nexus.client.send(SignalClose(signal_id=name))
        floor.until(lambda name=name: (r := nexus.report(name)) is not None and r.state is SignalState.CLOSED)
    platform.mode = "reject"
    refused = make_signal("nt8", side=Side.SELL)
    nexus.client.send(refused)
    floor.until(lambda: (r := nexus.report(refused.signal_id)) is not None and r.legs[0].code is not RejectCode.NONE)
    page = run(floor, "report", "--json").json
    assert (page["signals"], page["trades"], page["wins"]) == (3, 2, 1)
    assert D(page["pnl_usd"]) == 10 * 20 - 5 * 20 - 2  # NQ: 20 USD a point, four fees of half a dollar
    assert 0 < page["win_rate_low"] < 0.5 < page["win_rate_high"] < 1
    assert page["rejects"] == {"platform_rejected": 1}
    rows = list(csv.DictReader(io.StringIO(run(floor, "report", "--csv").out)))
    assert [row["realized_usd"] for row in rows] == [trade["realized_usd"] for trade in page["trade_list"]]
    assert "n = 2" in run(floor, "report").out
    assert run(floor, "report", "--csv", "--json").code == 2


def test_without_a_gateway_each_command_says_so() -> None:
    floor = Floor(("nt8",))
    try:
        for words in (("orders",), ("positions",), ("stage", "show"), ("resume", "--reason", "x")):
            answer = run(floor, *words, "--timeout", "0.3")
            assert answer.code == 3, words
            assert "does not answer" in answer.err
        assert run(floor, "report").code == 2
        assert run(floor, "journal", "verify").code == 2
        killed = run(floor, "kill", "--level", "sever", "--timeout", "0.3", "--json")
        assert killed.code == 3
        assert killed.json["verified"] is False
        assert [kill.level for kill in read_kill_file(kill_file_path(floor.folder))] == [KillLevel.SEVER]
        wrong = run(floor, "kill", "--level", "explode")
        assert wrong.code == 2
        assert "'explode'" in wrong.err
    finally:
        floor.close()


def test_a_path_that_cannot_be_used_is_named_without_a_traceback() -> None:
    floor = Floor(("nt8",))
    try:
        floor.start()
        floor.until(lambda: floor.counters())
        for words, path in (
            (("journal", "export", "-o", str(floor.root)), str(floor.root)),
            (("journal", "backup", str(floor.root / "nowhere" / "copy")), "nowhere"),
            (("journal", "verify", str(floor.root)), str(floor.root)),
        ):
            answer = run(floor, *words)
            assert answer.code in (1, 2), words
            assert answer.err.startswith("error: "), answer.err
            assert path in answer.err
            assert "Traceback" not in answer.err
        floor.kill()
        Path(floor.config.journal_path).parent.chmod(0o755)
        answer = run(floor, "journal", "restore", str(floor.root / "copy"))
        assert answer.code == 2
        assert "has mode 0o755, allowed is 0o700" in answer.err
    finally:
        floor.close()


def test_keys_are_made(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "nexus_gateway.core.cli", "keys", str(tmp_path), "nexus", "--json"]
    made = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert Path(made["secret"]).stat().st_mode & 0o777 == 0o600
    assert Path(made["public"]).exists()
