"""Faults of archiving: each is logged, tried again after a pause, and the gateway trades on."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from nexus_gateway.core.gateway import archiving
from nexus_gateway.core.gateway.archiving import JournalArchiving
from nexus_gateway.core.journal import Journal, JournalError, verify
from nexus_gateway.core.journal.retention import archive_due, archive_folder, confirm_archive, first_seq, last_due_seq
from nexus_gateway.core.journal.retention.__main__ import main
from nexus_gateway.core.logs import process_log

from tests.support.old_journals import NOW_NS, write_old_journal

HOUR_NS = 3_600_000_000_000


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    path = tmp_path / "orders.sqlite"
    write_old_journal(path)
    with closing(Journal(path, "process")) as opened:
        yield opened


def make(journal: Journal, stop_below_bytes: int = 0, keep_days: int | None = 30) -> JournalArchiving:
    return JournalArchiving(journal, keep_days, stop_below_bytes, process_log("test"))


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    logged = [record.__dict__["fields"] for record in caplog.records if "stay in the journal" in record.message]
    return [fields["reason"] for fields in logged]


def test_a_removal_that_fails_is_tried_again_after_an_hour(
    journal: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Exception] = []

    def fail(_: sqlite3.Connection) -> bool:
        tries.append(faults[len(tries) % len(faults)])
        raise tries[-1]

    faults = [JournalError("full"), sqlite3.OperationalError("disk I/O error"), ValueError("first_seq was x")]
    monkeypatch.setattr(archiving, "remove_step", fail)
    monkeypatch.setattr(archiving, "last_due_seq", lambda *_: 0)
    archives = make(journal)
    for hour in range(3):
        for turn in range(5):
            archives.step(NOW_NS + hour * HOUR_NS + turn)
    assert reasons(caplog) == [str(fault) for fault in faults]
    archives.close()


def test_a_removal_goes_on_while_no_archive_can_be_written(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    for entry in archive_due(journal.path, 30, NOW_NS, 3_000):
        confirm_archive(journal.connection, entry)
        break
    archives = make(journal, 1 << 60)
    run_until(archives, lambda: bool(reasons(caplog)))
    assert first_seq(journal.connection) == entry.last_seq + 1
    assert "archives stop below" in reasons(caplog)[0]
    archives.close()


def run_until(archives: JournalArchiving, is_done: object) -> None:
    assert callable(is_done)
    for _ in range(3_000):
        archives.step(NOW_NS)
        if is_done():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 30 s")


@pytest.mark.parametrize(
    "program",
    ['print(\'{"name": "0000\')', "print('{}')", "print('[]'); print('no JSON')"],
    ids=["cut within a line", "fields missing", "no archive"],
)
def test_a_process_that_writes_half_a_line_costs_an_hour_and_not_the_gateway(
    journal: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    popen = archiving.subprocess.Popen
    monkeypatch.setattr(
        archiving.subprocess,
        "Popen",
        lambda command, **options: popen([command[0], "-c", program], **options),
    )
    archives = make(journal)
    run_until(archives, lambda: bool(reasons(caplog)))
    for _ in range(5):
        archives.step(NOW_NS)
    assert len(reasons(caplog)) == 1
    monkeypatch.setattr(archiving.subprocess, "Popen", popen)
    before = first_seq(journal.connection)
    for _ in range(3_000):
        archives.step(NOW_NS + HOUR_NS)
        if first_seq(journal.connection) > before:
            break
        time.sleep(0.01)
    assert first_seq(journal.connection) > before
    archives.close()


def test_a_journal_that_cannot_be_read_stops_no_trading(
    journal: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(archiving, "last_due_seq", fail)
    archives = make(journal)
    for turn in range(9):
        archives.step(NOW_NS + turn)
    assert reasons(caplog) == ["database disk image is malformed"]
    archives.close()


def test_no_archive_is_written_below_the_level_of_its_disk(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free = [500 << 20]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    written = archive_due(journal.path, 30, NOW_NS, 3_000, stop_below_bytes=192 << 20)
    next(written)
    free[0] = 191 << 20
    with pytest.raises(JournalError, match="191 MiB free, archives stop below 192 MiB"):
        next(written)
    assert len(list(archive_folder(journal.path).glob("*.zip"))) == 1
    assert not list(archive_folder(journal.path).glob("*.part"))
    assert main([str(journal.path), "30", str(NOW_NS), str(192 << 20)]) == 1
    assert "191 MiB free, archives stop below 192 MiB" in capsys.readouterr().err
    free[0] = 0
    assert list(archive_due(journal.path, 30, NOW_NS)), "0 = whatever is free"


def test_an_archive_that_was_begun_ends_when_its_disk_fills(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter([200 << 20, 200 << 20, 100 << 20])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(left)))
    monkeypatch.setattr("nexus_gateway.core.journal.retention.archive_file._ROOM_EACH_BYTES", 1_000)
    with pytest.raises(JournalError, match="100 MiB free"):
        list(archive_due(journal.path, 30, NOW_NS, stop_below_bytes=192 << 20))
    assert not list(archive_folder(journal.path).glob("*.zip"))
    assert not list(archive_folder(journal.path).glob("*.part"))


@pytest.mark.parametrize("keep_days", [None, 36_500])
def test_archives_of_the_command_are_used_whatever_keep_days_is(journal: Journal, keep_days: int | None) -> None:
    archives = make(journal, keep_days=keep_days)
    for _ in range(3):
        archives.step(NOW_NS)
    assert not archive_folder(journal.path).exists()
    assert first_seq(journal.connection) == 1
    entries = list(archive_due(journal.path, 30, NOW_NS, 3_000))
    for _ in range(3_000):
        archives.step(NOW_NS + 24 * HOUR_NS)  # at the change of the day
        if first_seq(journal.connection) > entries[-1].last_seq:
            break
        time.sleep(0.01)
    assert first_seq(journal.connection) == entries[-1].last_seq + 1
    assert [each.name for each in sorted(archive_folder(journal.path).glob("*.zip"))] == [each.name for each in entries]
    archives.close()
    assert verify(journal.path).is_sound


def test_with_fewer_days_all_that_is_too_old_leaves_at_once_and_comes_back_with_none(journal: Journal) -> None:
    due = last_due_seq(journal.connection, 30, NOW_NS)
    assert due > 1
    for keep_days, begin in ((36_500, 1), (30, due + 1), (None, due + 1)):
        archives = make(journal, keep_days=keep_days)
        for _ in range(3_000):
            archives.step(NOW_NS)
            if first_seq(journal.connection) == begin and archives._writer is None and not archives._removing:
                break
            time.sleep(0.01)
        archives.close()
        assert first_seq(journal.connection) == begin
    assert verify(journal.path).is_sound
