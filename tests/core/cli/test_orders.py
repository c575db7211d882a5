"""The operator's commands against a real gateway, and without one."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from nexus_gateway.core.kill_file import kill_file_path, read_kill_file
from nexus_gateway.core.messages import KillLevel, Order, RejectCode, Side, SignalClose, SignalState

from tests.support.operator_commands import run
from tests.support.trading_floor import FakeNexus, FakePlatform, Floor, make_signal, open_floor

D = Decimal


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
    assert (account["linked"], account["ready"], account["overdue_s"]) == (True, True, None)
    assert page["contradictions"] == []
    shown = run(floor, "positions")
    assert shown.code == 0
    assert "nt8, account SIM1: linked, ready, reconciled" in shown.out


def test_nothing_there_and_nothing_known_are_told_apart() -> None:
    with open_floor(("nt8", "work")) as (floor, _, _):
        assert "no positions\n  nt8, account SIM1: linked, ready, reconciled" in run(floor, "positions").out
    floor = Floor(("nt8",))
    try:
        floor.start()
        floor.until(lambda: floor.counters())
        assert "no positions are known: no such platform has ever linked" in run(floor, "positions").out
        platform = floor.platform("nt8")
        platform.answers_snapshots = False
        floor.until(lambda: floor.counters()["routes_up"] == 1)
        assert re.match(
            r"no positions\n  nt8, account SIM1: (not )?linked, not ready, NEVER reconciled",
            run(floor, "positions").out,
        )
        page = run(floor, "orders", "--json").json
        (account,) = page["accounts"]
        assert (page["orders"], page["contradictions"]) == ([], [])
        assert (account["account"], account["ready"], account["reconciled_age_s"]) == ("SIM1", False, None)
    finally:
        floor.close()


def test_a_platform_that_is_not_there_is_refused_and_nobody_looks_stopped(trading: Trading) -> None:
    floor, _, _ = trading
    for words in (
        ("kill", "--level", "flatten"),
        ("resume", "--reason", "x"),
        ("acknowledge", "NQ", "--holds", "0"),
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
        assert " s by nt8; the gateway goes on; repeat this command to see how far it is" in shown.out
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
    for secret in floor.config.keys_path.glob("*/own.key_secret"):
        assert secret.read_text().split('"')[3] not in exported.out
    file = floor.root / "journal.jsonl"
    assert run(floor, "journal", "export", "--json", "-o", str(file)).json["lines"] >= len(exported.out.splitlines())
    assert run(floor, "journal", "export", "--json").code == 2
    floor.kill()
    restored = run(floor, "journal", "restore", str(copy), "--json").json
    assert restored["sound"]
    replaced = run(floor, "journal", "verify", restored["replaced"], "--json").json
    assert restored["lost"]["count"] == replaced["events"] - restored["events"]
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
