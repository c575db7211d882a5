"""A real gateway archives its journal while it trades."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from nexus_gateway.core.journal import export, verify
from nexus_gateway.core.journal.retention import archive_due, archive_folder, first_seq
from nexus_gateway.core.journal.store import open_database
from nexus_gateway.core.messages import SignalState

from tests.support.old_journals import write_old_journal
from tests.support.trading_floor import Floor, make_signal, open_floor


def begins_at(path: Path) -> int:
    with closing(open_database(path, read_only=True)) as connection:
        return first_seq(connection)


def trade(floor: Floor, nexus, platform: str = "nt8") -> None:
    order = make_signal(platform)
    nexus.client.send(order)
    floor.until(lambda: (r := nexus.report(order.signal_id)) is not None and r.state is SignalState.FILLED)


def test_a_gateway_trades_on_while_old_events_leave_its_journal(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    desk = write_old_journal(path, days=200)
    before = "\n".join(export(path))
    with open_floor(("nt8", "fill"), journal=str(path)) as (floor, (platform,), nexus):
        trades = 0
        while f"events archived archive={1:012d}-" not in floor.log() or begins_at(path) < len(desk.events):
            assert trades < 45, "the limits allow 50 lots"
            trade(floor, nexus)
            trades += 1
            assert verify(path).is_sound
            floor.rest(0.2)
        assert len(platform.placed) >= trades
        trade(floor, nexus)
        assert floor.counters()["journal_failures"] == 0
        links = nexus.client.counts["links"]
        floor.kill()
    verdict = verify(path)
    assert verdict.is_sound
    assert verdict.archives >= 1
    assert links == 1
    assert "\n".join(export(path)).startswith(before + "\n")


def test_a_gateway_that_is_killed_while_it_removes_rows_goes_on_at_its_next_start(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    desk = write_old_journal(path, days=200)
    with open_floor(("nt8", "fill"), journal=str(path)) as (floor, (platform,), nexus):
        floor.until(lambda: begins_at(path) > 1)
        floor.kill()
        assert 1 < begins_at(path) < len(desk.events), "killed too late for this test: give it more events"
        links = {person: person.client.counts["links"] for person in (nexus, platform)}
        floor.start()
        floor.until(lambda: all(person.client.counts["links"] > before for person, before in links.items()))
        floor.ready(1)
        floor.until(lambda: begins_at(path) == len(desk.events))
        trade(floor, nexus)
    assert verify(path).is_sound


def test_a_gateway_uses_an_archive_that_the_command_has_written(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    desk = write_old_journal(path)
    (entry,) = archive_due(path, 30, time.time_ns())
    with open_floor(("nt8", "fill"), journal=str(path)) as (floor, _, _nexus):
        floor.until(lambda: begins_at(path) == len(desk.events))
    assert [file.name for file in archive_folder(path).glob("*.zip")] == [entry.name]


def test_without_keep_days_nothing_leaves_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    write_old_journal(path)
    with open_floor(("nt8", "fill"), journal=str(path), keep_days=None) as (floor, _, nexus):
        trade(floor, nexus)
        floor.rest(0.5)
        assert floor.process is not None
        floor.process.send_signal(signal.SIGTERM)
        floor.process.wait()
    assert begins_at(path) == 1
    assert not archive_folder(path).exists()


def test_archives_that_cannot_be_written_are_said_and_stop_no_trading(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    write_old_journal(path)
    archive_folder(path).write_text("a file where the folder should be")
    with open_floor(("nt8", "fill"), journal=str(path)) as (floor, _, nexus):
        floor.until(lambda: "old events stay in the journal" in floor.log())
        trade(floor, nexus)
    assert begins_at(path) == 1


@pytest.mark.parametrize("statement", ["UPDATE events SET at_ns = at_ns + 1 WHERE seq = 9"])
def test_a_damaged_old_event_is_said_and_stays(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "orders.sqlite"
    write_old_journal(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    with open_floor(("nt8", "fill"), journal=str(path)) as (floor, _, nexus):
        floor.until(lambda: "event 9 was altered" in floor.log())
        trade(floor, nexus)
    assert begins_at(path) == 1
