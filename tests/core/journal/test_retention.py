"""Archives of the journal: complete at every moment, checked against the chain, read as one with the journal."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from nexus_gateway.core.engine import AdminAsked, ClockTicked, EngineSettings
from nexus_gateway.core.journal import Journal, JournalError, backup, export, rebuild, restore, verify
from nexus_gateway.core.journal.retention import (
    Archive,
    archive_due,
    archive_folder,
    archives_of,
    confirm_archive,
    first_seq,
    last_due_seq,
    read_rows,
    remove_all,
    remove_step,
)
from nexus_gateway.core.journal.retention.history import first_seq_since
from nexus_gateway.core.journal.store import open_database
from nexus_gateway.core.journal.trade_report import read_trades
from nexus_gateway.core.messages import Kill, KillLevel

from tests.support.old_journals import NOW_NS, append_history, write_old_journal
from tests.support.orders import wide_limits
from tests.support.small_disk import small_disk_of

LIMITS = wide_limits()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "j.db"


@pytest.fixture
def desk(path):
    return write_old_journal(path)


def whole_state(path):
    """Everything that a user sees of a journal, and the engine that a start without a checkpoint rebuilds."""
    verdict = verify(path)
    assert verdict.is_sound, verdict
    with closing(open_database(path, read_only=True)) as connection:
        rebuilt = rebuild(connection, EngineSettings(), LIMITS, use_checkpoint=False)
    assert rebuilt.differing == []
    figures = (verdict.events, verdict.intents, verdict.last_at_ns)
    return "\n".join(export(path)), read_trades(path, LIMITS), figures, rebuilt.engine.digest()


def archive(path, keep_days=30, max_bytes=1 << 30):
    """Archive and remove what is due, as the command does without a gateway."""
    entries = list(archive_due(path, keep_days, NOW_NS, max_bytes))
    with closing(open_database(path)) as connection:
        for entry in entries:
            confirm_archive(connection, entry)
        remove_all(connection)
    return entries


@pytest.mark.parametrize("max_bytes", [1 << 30, 3_000, 1])
def test_archives_and_journal_read_as_the_journal_did(path, desk, max_bytes):
    before = whole_state(path)
    entries = archive(path, max_bytes=max_bytes)
    assert whole_state(path) == before
    with closing(open_database(path, read_only=True)) as connection:
        assert first_seq(connection) == len(desk.events), "all but the checkpoint's own event has left"
        assert archives_of(connection) == entries
        assert connection.execute("SELECT min(seq), count(*) FROM events").fetchone() == (len(desk.events), 1)
        for table in ("intents", "notes"):
            oldest = connection.execute(f"SELECT min(event_seq) FROM {table}").fetchone()[0]
            assert oldest is None or oldest >= len(desk.events)
    assert len(entries) == (len(desk.events) - 1 if max_bytes == 1 else len(entries))


def test_every_moment_between_writing_and_the_last_removed_row_is_complete(path, desk):
    before = whole_state(path)
    entries = list(archive_due(path, 30, NOW_NS, 3_000))
    assert len(entries) > 2
    assert whole_state(path) == before, "written, not confirmed"
    with closing(open_database(path)) as connection:
        for entry in entries:
            confirm_archive(connection, entry)
            assert whole_state(path) == before, "confirmed, not removed"
        steps = 1
        while remove_step(connection, max_events=3):
            steps += 1
            assert whole_state(path) == before, "removed in part"
    assert whole_state(path) == before
    assert steps == -(-(len(desk.events) - 1) // 3)


def test_trading_goes_on_behind_the_archived_events(path, desk):
    archive(path)
    last = len(desk.events)
    for number in range(3):
        desk.signal("a", signal_id=f"later{number}")
        desk.fill(desk.only("a"))
    append_history(path, desk, last)
    assert verify(path).events == len(desk.events)
    assert whole_state(path)[3] == desk.engine.digest()
    with Journal(path) as journal:
        journal.checkpoint(desk.engine.save(), desk.now_ns)
        journal.connection.execute("DELETE FROM checkpoints WHERE seq = ?", (last,))
    before = whole_state(path)
    (entry,) = archive(path)
    assert (entry.first_seq, entry.last_seq) == (last, len(desk.events) - 1)
    assert whole_state(path) == before


def test_a_start_from_a_checkpoint_reads_no_archive(path, desk):
    archive(path)
    shutil.rmtree(archive_folder(path))
    with Journal(path) as journal:
        again = rebuild(journal.connection, EngineSettings(), LIMITS)
    assert again.engine.digest() == desk.engine.digest()


def test_young_events_and_those_from_the_oldest_checkpoint_on_stay(path):
    desk = write_old_journal(path)
    times = [at_ns for at_ns, _ in desk.events]
    day_ns = 86_400 * 10**9
    with Journal(path) as journal:
        connection = journal.connection
        for keep_days in (8, 9, 30):
            for now_ns in (times[0], times[20] + keep_days * day_ns, times[-1] + keep_days * day_ns, NOW_NS):
                old = [seq for seq, at_ns in enumerate(times, 1) if at_ns < now_ns - keep_days * day_ns]
                assert last_due_seq(connection, keep_days, now_ns) == min(len(old), len(times) - 1)
        for seq in (12, 5):
            connection.execute("INSERT INTO checkpoints VALUES (?, 1, x'00', 'not sound, but kept')", (seq,))
            assert last_due_seq(connection, 8, NOW_NS) == seq - 1
        connection.execute("DELETE FROM checkpoints")
        assert last_due_seq(connection, 8, NOW_NS) == 0, "without a checkpoint a start needs every event"
        # One beyond the last event is no checkpoint of this journal: its last event must stay.
        connection.execute("INSERT INTO checkpoints VALUES (1000000, 1, x'00', '')")
        assert last_due_seq(connection, 8, NOW_NS) == 0


def test_a_missing_archive_is_named(path, desk):
    entries = archive(path, max_bytes=3_000)
    name = entries[1].name
    (archive_folder(path) / name).unlink()
    verdict = verify(path)
    assert (verdict.problems, verdict.missing_archives, verdict.is_sound) == ([], [name], False)
    assert verdict.events == len(desk.events)
    with (
        closing(open_database(path, read_only=True)) as connection,
        pytest.raises(JournalError, match=f"{name} is miss"),
    ):
        rebuild(connection, EngineSettings(), LIMITS, use_checkpoint=False)
    with pytest.raises(JournalError, match=f"{name} is missing"):
        list(export(path))
    with pytest.raises(JournalError, match=f"{name} is missing"):
        read_trades(path, LIMITS)


def test_every_altered_byte_of_an_archive_is_found(path, desk):
    (entry,) = archive(path)
    file = archive_folder(path) / entry.name
    sound = file.read_bytes()
    unread = 0
    for at in range(0, len(sound), 7):
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 0x55]) + sound[at + 1 :])
        assert any(entry.name in problem for problem in verify(path).problems)
        try:
            with Archive(file) as altered:
                altered.check()
        except JournalError:
            pass
        else:
            unread += 1  # a time stamp of the ZIP format, or a part of it that nobody reads
    assert unread < len(sound) / 7 / 3
    for length in (0, 10, len(sound) // 2, len(sound) - 1):
        file.write_bytes(sound[:length])
        assert any(entry.name in problem for problem in verify(path).problems)
        with pytest.raises(JournalError, match=entry.name):
            list(export(path))
    file.write_bytes(sound)
    assert verify(path).is_sound


def test_archives_that_do_not_follow_each_other_are_found(path, desk):
    entries = archive(path, max_bytes=3_000)
    with Journal(path) as journal:
        connection = journal.connection
        names = [
            name for (name,) in connection.execute("SELECT name FROM meta WHERE name LIKE 'archive.%' ORDER BY name")
        ]
        connection.execute("DELETE FROM meta WHERE name = ?", (names[1],))
    assert any("does not follow" in problem for problem in verify(path).problems)
    with pytest.raises(JournalError, match=f"events {entries[1].first_seq} to "):
        list(export(path))
    with Journal(path) as journal:
        journal.connection.execute("DELETE FROM meta WHERE name LIKE 'archive.%'")
    assert any(f"events 1 to {len(desk.events) - 1} are neither" in problem for problem in verify(path).problems)


def test_a_journal_whose_beginning_was_altered_does_not_continue_its_archive(path, desk):
    archive(path)
    with Journal(path) as journal:
        journal.connection.execute("UPDATE meta SET value = '0123456789abcdef' WHERE name = 'chain_before'")
    problems = verify(path).problems
    assert any("does not continue" in problem for problem in problems)
    assert any("was altered" in problem for problem in problems)


def test_a_damaged_event_is_not_archived(path, desk):
    with Journal(path) as journal:
        journal.connection.execute("UPDATE events SET at_ns = at_ns + 1 WHERE seq = 9")
    with pytest.raises(JournalError, match="event 9 was altered"):
        list(archive_due(path, 30, NOW_NS))
    assert [each.name for each in archive_folder(path).iterdir()] == ["lock"]
    with Journal(path) as journal:
        journal.connection.execute("UPDATE events SET at_ns = at_ns - 1 WHERE seq = 9")
        journal.connection.execute("DELETE FROM events WHERE seq = 11")
    with pytest.raises(JournalError, match="event 11"):
        list(archive_due(path, 30, NOW_NS))


def test_what_a_killed_process_has_left_is_removed_and_what_it_has_finished_is_used(path, desk):
    first = next(iter(archive_due(path, 30, NOW_NS, 3_000)))
    folder = archive_folder(path)
    stamp = (folder / first.name).stat().st_mtime_ns
    (folder / "000000000001.4711.part").write_bytes(b"half")
    entries = list(archive_due(path, 30, NOW_NS, 3_000))
    assert entries[0] == first
    assert (folder / first.name).stat().st_mtime_ns == stamp
    assert not list(folder.glob("*.part"))


def test_an_archive_of_another_history_is_put_aside(path, desk, tmp_path):
    first = next(iter(archive_due(path, 30, NOW_NS, 3_000)))
    (archive_folder(path) / first.name).rename(tmp_path / "first")
    other = tmp_path / "other.db"
    write_old_journal(other, days=3, prefix="other")
    (foreign,) = archive_due(other, 30, NOW_NS)
    shutil.copy(archive_folder(other) / foreign.name, archive_folder(path) / f"000000000001-{10**11}.zip")
    before = whole_state(path)
    archive(path)
    assert whole_state(path) == before
    assert len(list(archive_folder(path).glob("*.foreign"))) == 1


def test_an_archive_that_does_not_belong_to_the_journal_is_not_confirmed(path, desk, tmp_path):
    other = tmp_path / "other.db"
    write_old_journal(other, days=3, prefix="other")
    (foreign,) = archive_due(other, 30, NOW_NS)
    with Journal(path) as journal:
        with pytest.raises(JournalError, match="does not belong"):
            confirm_archive(journal.connection, foreign)
        assert not remove_step(journal.connection)
    assert verify(path).first_seq == 1


def test_two_processes_do_not_archive_at_the_same_time(path, desk):
    running = archive_due(path, 30, NOW_NS, 3_000)
    next(running)
    with pytest.raises(JournalError, match="another process"):
        list(archive_due(path, 30, NOW_NS, 3_000))
    running.close()
    assert list(archive_due(path, 30, NOW_NS, 3_000))


def test_a_full_disk_leaves_journal_and_archives_as_they_were(tmp_path):
    with small_disk_of(2 << 20, tmp_path) as disk:
        path = disk / "j.db"
        write_old_journal(path)
        before = whole_state(path)
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(os.urandom(1024)):
                    pass
            except OSError:
                pass
        with pytest.raises(JournalError, match="No space left"):
            list(archive_due(path, 30, NOW_NS))
        assert not list(archive_folder(path).glob("*.part"))
        ballast.unlink()
        assert whole_state(path) == before
        archive(path)
        assert whole_state(path) == before


def test_rows_of_one_table_are_read_without_the_others(path, desk, monkeypatch):
    before = list(read_all(path, "intents"))
    archive(path, max_bytes=3_000)
    real = Archive.rows
    read = []
    monkeypatch.setattr(Archive, "rows", lambda self, table: read.append(table) or real(self, table))
    assert list(read_all(path, "intents")) == before
    assert set(read) == {"intents"}


def read_all(path, table):
    with closing(open_database(path, read_only=True)) as connection:
        yield from read_rows(connection, table)


def test_rows_of_finished_signals_go_with_their_event_and_are_read_in_order(path, desk):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM finished")
        for seq in range(5, len(desk.events) + 1, 3):
            values = (f"signal {1_000 - seq}", seq, seq * 7, b"result")
            connection.execute("INSERT INTO finished VALUES (?, ?, 'k', ?, ?)", values)
    before = list(read_all(path, "finished"))
    assert [row["event_seq"] for row in before] == list(range(5, len(desk.events) + 1, 3))
    archive(path, max_bytes=3_000)
    assert list(read_all(path, "finished")) == before
    with closing(open_database(path, read_only=True)) as connection:
        left = connection.execute("SELECT count(*) FROM finished").fetchone()[0]
    assert left == sum(row["event_seq"] == len(desk.events) for row in before)
    assert verify(path).problems == ["finished signal signal 962: its record is missing"], "these rows are invented"


def test_a_backup_holds_the_archives_and_a_restore_brings_them_back(path, desk, tmp_path):
    archive(path, max_bytes=3_000)
    before = whole_state(path)
    copy = tmp_path / "safe" / "copy.db"
    copy.parent.mkdir()
    with Journal(path) as journal:
        backup(journal.connection, copy)
    assert whole_state(copy) == before
    shutil.rmtree(archive_folder(path))
    path.unlink()
    assert restore(copy, path).is_sound
    assert whole_state(path) == before


def test_a_backup_without_its_archives_is_restored_as_long_as_it_has_a_checkpoint(path, desk, tmp_path):
    entries = archive(path)
    copy = tmp_path / "copy.db"
    with Journal(path) as journal:
        backup(journal.connection, copy)
    shutil.rmtree(archive_folder(copy))
    shutil.rmtree(archive_folder(path))
    assert restore(copy, path).missing_archives == [entries[0].name]
    with Journal(path) as journal:
        assert rebuild(journal.connection, EngineSettings(), LIMITS).engine.digest() == desk.engine.digest()
        journal.connection.execute("DELETE FROM checkpoints")
        copy.unlink()
        backup(journal.connection, copy)
    with pytest.raises(JournalError, match=entries[0].name):
        restore(copy, path)


def test_a_restore_puts_archives_aside_that_the_backup_does_not_know(path, desk, tmp_path):
    """Their events are not in the restored journal, which will give their numbers to others."""
    copy = tmp_path / "copy.db"
    with Journal(path) as journal:
        backup(journal.connection, copy)
    before = whole_state(path)
    entries = archive(path)
    restore(copy, path)
    assert whole_state(path) == before
    assert not archive_folder(path).exists()
    old = path.with_name("j.db.old")
    assert [each.name for each in archive_folder(old).glob("*.zip")] == [entries[0].name]
    assert whole_state(old) == before


def test_removal_takes_a_few_rows_at_a_time(path):
    large = Kill(request_id=0, level=KillLevel.NO_NEW, reason="x" * 300, by="test")
    with Journal(path) as journal:
        for number in range(1_000):
            journal.append(AdminAsked(request=large, peer="p") if number % 50 == 0 else ClockTicked(), number)
        journal.commit()
        journal.checkpoint(b"", 0)
        (entry,) = archive_due(path, 30, NOW_NS)
        confirm_archive(journal.connection, entry)
        sizes = [size for (size,) in journal.connection.execute("SELECT length(payload) FROM events ORDER BY seq")]
        synchronous = journal.connection.execute("PRAGMA synchronous").fetchone()
        left = len(sizes)
        more = True
        while more:
            more = remove_step(journal.connection, max_events=64, max_bytes=350)
            now = journal.connection.execute("SELECT count(*) FROM events").fetchone()[0]
            removed = sizes[len(sizes) - left : len(sizes) - now]
            assert 1 <= len(removed) <= 64
            assert sum(removed) <= 350 or len(removed) == 1, "one large event is a step of its own"
            left = now
            assert journal.connection.execute("PRAGMA synchronous").fetchone() == synchronous
        assert left == 1


def test_an_older_schema_and_a_newer_one(path, desk):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(JournalError, match="was 99"):
        list(archive_due(path, 30, NOW_NS))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE meta SET value = '1' WHERE name = 'schema_version'")
        connection.execute("DROP TABLE notes")
    (entry,) = archive_due(path, 30, NOW_NS)
    with Archive(archive_folder(path) / entry.name) as old:
        assert list(old.rows("notes")) == []
        assert "notes" not in old.manifest.tables


def test_the_first_event_since_a_time_is_found_by_halving(path, desk):
    with closing(open_database(path, read_only=True)) as connection:
        rows = connection.execute("SELECT seq, at_ns FROM events ORDER BY seq").fetchall()
        low, high = rows[0][0], rows[-1][0]
        for since_ns in (0, *(at_ns + step for _, at_ns in rows for step in (0, 1))):
            expected = next((seq for seq, at_ns in rows if at_ns >= since_ns), high + 1)
            assert first_seq_since(connection, since_ns, low, high) == expected
        assert first_seq_since(connection, 0, 5, 4) == 5, "none of them"
