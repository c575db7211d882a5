"""Restores that are cut off or refused by the disk, journals behind links, and starts without the journal."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from nexus_gateway.core.engine import ClockTicked
from nexus_gateway.core.journal import (
    Journal,
    JournalError,
    JournalRoom,
    backup,
    copies,
    kept_journal,
    restore,
    verify,
)
from nexus_gateway.core.journal.retention import archive_due, archive_folder, confirm_archive, remove_all
from nexus_gateway.core.journal.store import open_database

from tests.support.old_journals import NOW_NS, write_old_journal
from tests.support.shm_processes import linux_only


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "j.db"
    write_old_journal(made)
    return made


def archive(path: Path) -> list[str]:
    entries = list(archive_due(path, 30, NOW_NS, 3_000))
    with closing(open_database(path)) as connection:
        for entry in entries:
            confirm_archive(connection, entry)
        remove_all(connection)
    return [entry.name for entry in entries]


def back_up(path: Path, copy: Path) -> Path:
    with closing(open_database(path, read_only=True)) as connection:
        backup(connection, copy)
    return copy


def leave_in_log(path: Path, count: int) -> None:
    """Write events that only the write-ahead log holds, as a process that was killed leaves them."""
    folder = path.parent / "running"
    folder.mkdir()
    shutil.copy(path, folder / path.name)
    with Journal(folder / path.name) as journal:
        for _ in range(count):
            journal.append(ClockTicked(), NOW_NS)
            journal.commit()
        for suffix in ("", "-wal", "-shm"):
            shutil.copy(f"{folder / path.name}{suffix}", f"{path}{suffix}")
    shutil.rmtree(folder)


def events_of(path: Path) -> int:
    verdict = verify(path)
    assert verdict.is_sound, verdict
    return verdict.events


class DiedError(Exception):
    """The process was killed."""


def all_archives(folder: Path) -> set[bytes]:
    return {each.read_bytes() for each in folder.glob("*.archive/*.zip")}


@pytest.mark.parametrize("with_archives", [True, False], ids=["own archives", "archives of the old journal"])
def test_a_restore_that_dies_at_any_step_loses_nothing_and_can_be_repeated(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_archives: bool
) -> None:
    archive(path)
    before, archives = events_of(path), all_archives(tmp_path)
    copy = back_up(path, tmp_path / "copy.db")
    if not with_archives:
        shutil.rmtree(archive_folder(copy))
    leave_in_log(path, 3)
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path, whole)
    steps = 0
    for name in ("replace", "unlink"):
        original = getattr(os, name)

        def step(*given: object, original: object = original, **named: object) -> None:
            nonlocal steps
            steps += 1
            if steps == die_at:
                raise DiedError
            original(*given, **named)  # type: ignore[operator]

        monkeypatch.setattr(os, name, step)
    for die_at in range(1, 100):
        work = tmp_path / f"work {die_at}"
        shutil.copytree(whole, work)
        target, source, steps = work / "j.db", work / "copy.db", 0
        try:
            restore(source, target)
        except DiedError:
            pass
        else:
            break
        if target.exists():
            assert events_of(target) in (before, before + 3)
        else:
            with pytest.raises(JournalError, match="is missing"):
                Journal(target)
        steps = 1000
        assert restore(source, target).is_sound
        assert events_of(target) == before
        kept = [each for each in work.glob("j.db.old*") if each.suffix in (".old", ".old-2") and each.is_file()]
        assert before + 3 in [_rows(each) for each in kept]
        assert archives <= all_archives(work)
        shutil.rmtree(work)
    assert die_at > 5


def _rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT max(seq) FROM events").fetchone()[0])


def test_a_restore_deletes_no_archives_that_an_earlier_one_has_kept(path: Path, tmp_path: Path) -> None:
    copy = back_up(path, tmp_path / "copy.db")
    names = archive(path)
    restore(copy, path)
    path.with_name("j.db.old").unlink()  # its archives stay
    assert kept_journal(path).name == "j.db.old-2"
    archive(path)
    restore(copy, path)
    for folder in ("j.db.old.archive", "j.db.old-2.archive"):
        assert sorted(each.name for each in (tmp_path / folder).glob("*.zip")) == names


def test_an_archive_of_another_history_beside_the_backup_is_passed_over(path: Path, tmp_path: Path) -> None:
    names = archive(path)
    copy = back_up(path, tmp_path / "copy.db")
    (archive_folder(copy) / names[0]).write_bytes(b"another history")
    assert restore(copy, path).is_sound
    assert verify(path).is_sound


def test_a_disk_that_refuses_leaves_the_old_journal_and_a_message(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, before = back_up(path, tmp_path / "copy.db"), path.read_bytes()
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(source) == refused:
            raise PermissionError(f"{source} is in use")
        replace(source, target)

    refused = path
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(JournalError, match=r"is in use; .*j\.db is untouched"):
        restore(copy, path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("j.db.*"))
    refused = tmp_path / "j.db.part"
    with pytest.raises(JournalError, match=r"is in use; the journal that it replaces is .*j\.db\.old now"):
        restore(copy, path)
    with pytest.raises(JournalError, match=r"is missing.*j\.db\.old.*journal restore"):
        Journal(path)
    refused = tmp_path
    restore(copy, path)
    Journal(path).close()


def test_a_restore_that_goes_on_after_a_crash_keeps_the_old_journal_with_its_archives(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = back_up(path, tmp_path / "copy.db")
    names = archive(path)
    replace = os.replace

    def crash(source: Path, target: Path) -> None:
        if Path(source) == archive_folder(path):
            raise PermissionError("cut off here")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(JournalError, match="cut off here"):
            restore(copy, path)
    restore(copy, path)
    assert not list(tmp_path.glob("j.db.old-2*"))
    assert sorted(each.name for each in (tmp_path / "j.db.old.archive").glob("*.zip")) == names
    assert verify(tmp_path / "j.db.old").is_sound


def test_a_start_without_the_journal_names_its_archives(path: Path) -> None:
    names = archive(path)
    path.unlink()
    with pytest.raises(JournalError, match=rf"is missing.*{names[0]} and {len(names) - 1} more archives.*restore"):
        Journal(path)
    path.touch()  # SQLite takes it for a new one
    with pytest.raises(JournalError, match=f"is empty.*{names[0]}"):
        Journal(path)
    archive_folder(path).rename(path.with_name("moved away"))
    Journal(path).close()


@linux_only
def test_archives_and_reserve_of_a_journal_lie_beside_its_file_by_whatever_link_it_is_named(tmp_path: Path) -> None:
    real, link = tmp_path / "data" / "orders.sqlite", tmp_path / "link.sqlite"
    real.parent.mkdir()
    link.symlink_to(real)
    write_old_journal(real)
    names = archive(link)
    assert archive_folder(link) == real.with_name("orders.sqlite.archive")
    assert sorted(each.name for each in archive_folder(real).glob("*.zip")) == names
    assert verify(link).is_sound
    room = JournalRoom(link, reserve_bytes=4096)
    assert room.take_reserve()
    assert real.with_name("orders.sqlite.reserve").stat().st_size == 4096
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "link.sqlite"]


def test_a_reserve_that_is_too_small_is_missing_and_made_again(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    assert JournalRoom(path, reserve_bytes=4096).take_reserve()
    room = JournalRoom(path, reserve_bytes=8192)
    assert room.is_reserve_missing
    assert room.take_reserve()
    assert not room.is_reserve_missing
    assert path.with_name("orders.sqlite.reserve").stat().st_size == 8192
    path.with_name("orders.sqlite.reserve").write_bytes(b"")
    assert room.is_reserve_missing


def test_a_copy_that_waits_for_the_disk_beats(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[int] = []
    sync = copies._sync

    def wait_for_beats(file: Path) -> None:
        begun = len(beats)
        while len(beats) < begun + 2:
            pass
        sync(file)

    monkeypatch.setattr(copies, "_sync", wait_for_beats)
    with closing(open_database(path, read_only=True)) as connection:
        copies.copy_database(connection, tmp_path / "copy.db", lambda: beats.append(1))
    assert verify(tmp_path / "copy.db").events == events_of(path)
