"""The journal on a real disk: commits, crashes, damage, migration, backup, restore, export."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from decimal import Decimal as D

import pytest
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine import ClockTicked, Engine, EngineSettings
from nexus_gateway.core.journal import (
    SCHEMA_VERSION,
    Journal,
    JournalError,
    LostEvents,
    backup,
    export,
    find_lost_events,
    kept_journal,
    rebuild,
    recovery,
    restore,
    verify,
)
from nexus_gateway.core.journal.schema import migrate

from tests.support.orders import SECOND, T0, Desk, market, wide_limits

SETTINGS = EngineSettings()


def traded(path, durability="process") -> Desk:
    """A desk whose whole history was journaled to `path`, turn by turn."""
    desk = Desk("a", "b")
    desk.signal("a", "b")
    desk.fill(desk.only("a"))
    desk.reject(desk.only("b"))
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.wait(2_500)
    engine = Engine(desk.settings, desk.limits)
    with Journal(path, durability) as journal:
        for at_ns, event in desk.events:
            journal.append(event, at_ns, engine.handle(event, at_ns))
            journal.commit()
    return desk


def rebuilt(path, **options):
    with Journal(path) as journal:
        return rebuild(journal.connection, SETTINGS, wide_limits(), **options)


@pytest.mark.parametrize("durability", ["power", "process"])
def test_state_after_replay_is_the_state_before(tmp_path, durability):
    desk = traded(tmp_path / "j.db", durability)
    again = rebuilt(tmp_path / "j.db")
    assert again.engine.digest() == desk.engine.digest()
    assert (again.events, again.differing) == (len(desk.events), [])


def test_durability_sets_how_hard_sqlite_syncs(tmp_path):
    for durability, level in (("power", 2), ("process", 1)):
        with Journal(tmp_path / durability, durability) as journal:
            assert journal.connection.execute("PRAGMA synchronous").fetchone()[0] == level
            assert journal.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_checkpoint_shortens_the_replay_and_changes_nothing(tmp_path):
    path = tmp_path / "j.db"
    desk = traded(path)
    with Journal(path) as journal:
        journal.checkpoint(desk.engine.save(), desk.now_ns)
    again = rebuilt(path)
    assert (again.events, again.from_checkpoint_seq) == (0, len(desk.events))
    assert again.engine.digest() == rebuilt(path, use_checkpoint=False).engine.digest() == desk.engine.digest()


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    path = tmp_path / "j.db"
    desk = traded(path)
    with Journal(path) as journal:
        journal.checkpoint(b"\x93 not a state", desk.now_ns)
    assert rebuilt(path).engine.digest() == desk.engine.digest()


@pytest.mark.processes
def test_uncommitted_events_are_not_there_after_a_crash(tmp_path):
    path = tmp_path / "j.db"
    code = f"""
        import os, sys
        from pathlib import Path
        from nexus_gateway.core.engine import ClockTicked
        from nexus_gateway.core.journal import Journal
        journal = Journal(Path({str(path)!r}), "power")
        for number in range(10):
            journal.append(ClockTicked(), number)
        journal.commit()
        journal.append(ClockTicked(), 99)
        print("ready", flush=True)
        sys.stdin.read()
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == b"ready\n"
    with pytest.raises(JournalError, match="another gateway"):
        Journal(path)
    os.kill(child.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    with Journal(path) as journal:
        assert journal.last_seq == 10
        assert journal.append(ClockTicked(), 11) == 11
    assert verify(path).problems == []


def test_intents_lie_beside_the_event_that_caused_them(tmp_path):
    path = tmp_path / "j.db"
    desk = traded(path)
    with Journal(path) as journal:
        rows = journal.connection.execute("SELECT kind, client_order_id FROM intents").fetchall()
    assert {name for kind, name in rows if kind == "order"} == set(desk.orders)


def test_a_program_that_decides_otherwise_is_noticed(tmp_path):
    path = tmp_path / "j.db"
    traded(path)
    with Journal(path) as journal:
        journal.connection.execute("DELETE FROM intents WHERE ordinal = (SELECT max(ordinal) FROM intents)")
    assert len(rebuilt(path).differing) == 1


def test_verify_finds_missing_and_altered_rows(tmp_path):
    path = tmp_path / "j.db"
    traded(path)
    assert verify(path).problems == []
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM events WHERE seq = 3")
    connection.execute("UPDATE events SET at_ns = at_ns + 1 WHERE seq = 5")
    connection.commit()
    connection.close()
    problems = verify(path).problems
    assert any("events 3 to 3 are missing" in problem for problem in problems)
    assert any("event 5 was altered" in problem for problem in problems)


def test_verify_finds_broken_pages(tmp_path):
    path = tmp_path / "j.db"
    traded(path)
    data = bytearray(path.read_bytes())
    whole = len(data)
    data[whole // 4 :] = b"\xff" * (whole - whole // 4)  # a single page may be an unused one
    path.write_bytes(data)
    assert verify(path).problems


def test_foreign_newer_and_broken_files_are_refused(tmp_path):
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE prices (x)")
    connection.close()
    with pytest.raises(JournalError, match="no journal"):
        Journal(foreign)
    newer = tmp_path / "newer.db"
    Journal(newer).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
    connection.close()
    with pytest.raises(JournalError, match="was 99"):
        Journal(newer)
    text = tmp_path / "text.db"
    text.write_text("no database" * 1_000)
    with pytest.raises(JournalError, match=r"text\.db"):
        Journal(text)


def test_an_older_schema_is_migrated_with_its_rows(tmp_path):
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path, isolation_level=None)
    assert migrate(connection, target=1) == (0, 1)
    connection.execute("INSERT INTO checkpoints VALUES (7, 7, x'00', 'd')")
    connection.close()
    with Journal(path) as journal:
        assert journal.migrated_from == 1
        assert journal.connection.execute("SELECT seq FROM checkpoints").fetchall() == [(7,)]
        assert journal.connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
        assert migrate(journal.connection) == (SCHEMA_VERSION, SCHEMA_VERSION)


def test_a_full_disk_is_an_error_and_keeps_the_events(tmp_path):
    path = tmp_path / "j.db"
    with Journal(path) as journal:
        journal.connection.execute("PRAGMA max_page_count = 20")
        for number in range(20_000):
            journal.append(ClockTicked(), number)
        with pytest.raises(JournalError, match="make room"):
            journal.commit()
        journal.connection.execute("PRAGMA max_page_count = 100000")
        journal.commit()
        last = journal.last_seq
    assert verify(path).events == last
    assert verify(path).problems == []


def test_backup_while_running_and_restore(tmp_path):
    path, copy = tmp_path / "j.db", tmp_path / "copy.db"
    desk = traded(path)
    with Journal(path) as journal:
        backup(journal.connection, copy)
        journal.append(ClockTicked(), desk.now_ns)
        journal.commit()
    assert verify(copy).events == len(desk.events)
    restore(copy, path)
    assert rebuilt(path).engine.digest() == desk.engine.digest()
    assert verify(tmp_path / "j.db.old").events == len(desk.events) + 1


def test_a_second_restore_keeps_what_the_first_one_has_replaced(tmp_path):
    path, copy = tmp_path / "j.db", tmp_path / "copy.db"
    desk = traded(path)
    with Journal(path) as journal:
        backup(journal.connection, copy)
    for number in (1, 2):
        with Journal(path) as journal:
            for _ in range(number):
                journal.append(ClockTicked(), desk.now_ns)
            journal.commit()
        assert kept_journal(path).name == ("j.db.old", "j.db.old-2")[number - 1]
        restore(copy, path)
    assert verify(tmp_path / "j.db.old").events == len(desk.events) + 1
    assert verify(tmp_path / "j.db.old-2").events == len(desk.events) + 2


def test_events_that_a_backup_does_not_hold_are_counted_with_their_time(tmp_path):
    path, copy = tmp_path / "j.db", tmp_path / "copy.db"
    traded(path)
    with Journal(path) as journal:
        backup(journal.connection, copy)
        assert find_lost_events(path, copy) == LostEvents(0)
        for number in range(3):
            journal.append(ClockTicked(), T0 + number * SECOND)
        journal.commit()
        lost = find_lost_events(path, copy)
        assert lost == LostEvents(3, T0, T0 + 2 * SECOND)
    text = lost.describe(tmp_path / "j.db.old")
    assert text.startswith(
        "3 events from 2025-10-09 08:53:20 UTC to 2025-10-09 08:53:22 UTC that the backup does not hold"
    )


def test_a_journal_that_went_on_differently_has_lost_events_from_where_it_parts(tmp_path):
    path, copy = tmp_path / "j.db", tmp_path / "copy.db"
    desk = traded(path)
    with Journal(path) as journal:
        backup(journal.connection, copy)
    for each, start, count in ((path, 1, 4), (copy, 2, 9)):
        with Journal(each) as journal:
            for number in range(count):
                journal.append(ClockTicked(), desk.now_ns + start * SECOND + number)
            journal.commit()
    assert find_lost_events(path, copy) == LostEvents(4, desk.now_ns + SECOND, desk.now_ns + SECOND + 3)
    assert find_lost_events(copy, path).count == 9


def test_what_a_damaged_journal_has_lost_is_unknown_and_said_so(tmp_path):
    path, copy = tmp_path / "j.db", tmp_path / "copy.db"
    traded(copy)
    path.write_bytes(b"no journal at all" * 1000)
    lost = find_lost_events(path, copy)
    assert lost.count is None
    assert "is unknown (" in lost.describe(path)


def test_a_broken_backup_is_not_restored(tmp_path):
    path, copy = tmp_path / "j.db", tmp_path / "copy.db"
    desk = traded(path)
    copy.write_bytes(path.read_bytes()[:-3_000])
    with pytest.raises(JournalError, match="not restored"):
        restore(copy, path)
    assert rebuilt(path).engine.digest() == desk.engine.digest()


def test_a_backup_that_cannot_be_written_leaves_no_half_file(tmp_path):
    traded(tmp_path / "j.db")
    with Journal(tmp_path / "j.db") as journal, pytest.raises(JournalError, match="backup"):
        backup(journal.connection, tmp_path / "no folder" / "copy.db")


def test_export_gives_events_intents_and_notes_in_order(tmp_path):
    path = tmp_path / "j.db"
    desk = traded(path)
    lines = [json.loads(line) for line in export(path)]
    assert [line["seq"] for line in lines] == sorted(line["seq"] for line in lines)
    assert sum(line["row"] == "event" for line in lines) == len(desk.events)
    checked = [line for line in lines if line["kind"] == "risk"]
    assert len(checked) == 2
    codes = {
        finding[0] if isinstance(finding, list) else finding["code"] for finding in checked[0]["content"]["findings"]
    }
    assert {"max_size", "daily_loss", "stale_quote"} <= codes


def test_decimals_survive_exactly(tmp_path):
    path = tmp_path / "j.db"
    desk = Desk("a")
    # On this instrument's grid: a price off the grid is not booked.
    quoted = market("a", desk.now_ns, tick_size=D("0.0000000001"), bid=D("20999.9999999999"))
    desk.signal(markets=(quoted,))
    fill = desk.fill(desk.only(), "0.30", price=D("21000.1000000001"))
    with Journal(path) as journal:
        for at_ns, event in desk.events:
            journal.append(event, at_ns)
    record = next(iter(rebuilt(path).engine.state.executions.values()))
    assert (str(record.quantity), str(record.price)) == (str(fill.quantity), str(fill.price))


def damage(path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DELETE FROM events WHERE seq = 3", "event 3 of the journal is missing"),
        ("DELETE FROM events WHERE seq = 1", "event 1 of the journal is missing"),
        ("UPDATE events SET at_ns = at_ns + 1 WHERE seq = 5", "event 5 of the journal is not as it was written"),
        ("UPDATE events SET payload = (SELECT payload FROM events WHERE seq = 4) WHERE seq = 6", "event 6 "),
    ],
)
def test_an_engine_is_not_rebuilt_from_events_that_are_missing_or_altered(tmp_path, statement, named):
    path = tmp_path / "j.db"
    traded(path)
    damage(path, statement)
    with pytest.raises(JournalError, match=named):
        rebuilt(path)


def test_a_checkpoint_with_a_wrong_digit_is_passed_over_and_found(tmp_path):
    path = tmp_path / "j.db"
    desk = traded(path)
    with Journal(path) as journal:
        journal.checkpoint(desk.engine.save(), desk.now_ns)
        state = desk.engine.save().replace(b"21000", b"11000")
        assert state != desk.engine.save()
        journal.connection.execute("UPDATE checkpoints SET state = ?", (state,))
    again = rebuilt(path)
    assert (again.from_checkpoint_seq, again.engine.digest()) == (0, desk.engine.digest())
    assert any("checkpoint" in problem for problem in verify(path).problems)


def test_a_checkpoint_beyond_the_last_event_is_passed_over(tmp_path):
    """Else what is written next would have numbers below it, and be skipped at the next start."""
    path = tmp_path / "j.db"
    desk = traded(path)
    with Journal(path) as journal:
        journal.checkpoint(desk.engine.save(), desk.now_ns)
    damage(path, "DELETE FROM events WHERE seq > 4")
    assert (rebuilt(path).from_checkpoint_seq, rebuilt(path).events) == (0, 4)


def test_a_journal_that_cannot_be_read_any_more_is_a_journal_error(tmp_path):
    path = tmp_path / "j.db"
    traded(path)
    damage(path, "PRAGMA journal_mode = DELETE")
    data = bytearray(path.read_bytes())
    for at in range(8_192, len(data)):
        data[at] = 0xA5
    path.write_bytes(data)
    with pytest.raises(JournalError):
        rebuilt(path)


def test_a_schema_version_that_is_no_number_is_refused_by_name(tmp_path):
    path = tmp_path / "j.db"
    traded(path)
    damage(path, "UPDATE meta SET value = 'two' WHERE name = 'schema_version'")
    with pytest.raises(JournalError, match="'two'"):
        Journal(path)


class Watching:
    """An observer of a replay that writes a checkpoint after chosen events, and dies after one."""

    def __init__(self, journal, save_after=(), die_after=0):
        self.journal, self.save_after, self.die_after = journal, save_after, die_after
        self.shares: list[float] = []

    def progress(self, share: float) -> None:
        self.shares.append(share)

    def save(self, engine, seq, at_ns) -> None:
        if seq in self.save_after:
            self.journal.checkpoint(engine.save(), at_ns, seq=seq)
        if seq == self.die_after:
            raise InterruptedError


def test_a_replay_says_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(recovery, "_PROGRESS_NS", 0)
    path = tmp_path / "j.db"
    desk = traded(path)
    with Journal(path) as journal:
        watching = Watching(journal)
        rebuild(journal.connection, SETTINGS, wide_limits(), watching)
    count = len(desk.events)
    assert watching.shares == [number / count for number in range(1, count + 1)]


def test_one_statement_that_reads_much_says_that_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(recovery, "_PROGRESS_NS", 0)
    monkeypatch.setattr(recovery, "_SQL_STEPS", 1)
    path = tmp_path / "j.db"
    desk = traded(path)
    with Journal(path) as journal:
        watching = Watching(journal)
        rebuild(journal.connection, SETTINGS, wide_limits(), watching)
        assert len(watching.shares) > 2 * len(desk.events)
        watching.progress = lambda share: 1 / 0
        with pytest.raises(ZeroDivisionError):
            rebuild(journal.connection, SETTINGS, wide_limits(), watching)


def test_a_replay_that_is_cut_off_goes_on_from_the_checkpoint_within_it(tmp_path, monkeypatch):
    monkeypatch.setattr(recovery, "_PROGRESS_NS", 0)
    path = tmp_path / "j.db"
    desk = traded(path)
    with Journal(path) as journal, pytest.raises(InterruptedError):
        rebuild(journal.connection, SETTINGS, wide_limits(), Watching(journal, save_after=(3, 5), die_after=6))
    again = rebuilt(path)
    assert (again.from_checkpoint_seq, again.events) == (5, len(desk.events) - 5)
    assert again.engine.digest() == desk.engine.digest()
    assert again.differing == []


def test_a_checkpoint_within_a_replay_stays_beside_newer_ones_that_cannot_be_read(tmp_path):
    path = tmp_path / "j.db"
    desk = traded(path)
    with Journal(path) as journal:
        last = journal.last_seq
        for seq in (last - 2, last - 1, last):
            journal.checkpoint(b"\x93 of a newer release", desk.now_ns, seq=seq)
        for seq in (2, 4):
            engine = Engine(desk.settings, desk.limits)
            for at_ns, event in desk.events[:seq]:
                engine.handle(event, at_ns)
            journal.checkpoint(engine.save(), desk.events[seq - 1][0], seq=seq)
        assert [row[0] for row in journal.connection.execute("SELECT seq FROM checkpoints")] == [
            4,
            last - 2,
            last - 1,
            last,
        ]
    again = rebuilt(path)
    assert again.from_checkpoint_seq == 4
    assert len(again.passed_over) == 3
    assert again.engine.digest() == desk.engine.digest()
