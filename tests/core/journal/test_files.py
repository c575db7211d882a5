"""The files of an open journal: whatever happens to their names is noticed, and one file has one gateway."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from nexus_gateway.core.engine import ClockTicked
from nexus_gateway.core.journal import Journal, JournalError, JournalLostError, Loss, files, verify

linux_only = pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody rename or delete an open file")


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call looks."""
    monkeypatch.setattr(files, "_CHECK_NS", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    made = Journal(path)
    add_event(made)
    yield made
    made._events.clear()
    made.close()


def add_event(journal: Journal) -> None:
    journal.append(ClockTicked(), journal.last_seq + 1)
    journal.commit()


def delete(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def rename_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("folder-elsewhere"))


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    os.replace(copy, path)


def link(path: Path) -> None:
    os.link(path, path.with_name("second-name"))


def empty(path: Path) -> None:
    os.truncate(path, 0)


@linux_only
@pytest.mark.parametrize(
    ("suffix", "harm", "loss"),
    [
        ("", delete, Loss.MISSING),
        ("", rename, Loss.MISSING),
        ("", rename_folder, Loss.MISSING),
        ("", replace, Loss.REPLACED),
        ("", link, Loss.SHARED),
        ("", empty, Loss.CUT),
        ("-wal", delete, Loss.SIDE_MISSING),
        ("-wal", rename, Loss.SIDE_MISSING),
        ("-wal", replace, Loss.REPLACED),
        ("-wal", empty, Loss.CUT),
        ("-shm", delete, Loss.SIDE_MISSING),
        ("-shm", replace, Loss.REPLACED),
    ],
)
def test_what_happens_to_a_file_is_noticed_and_nothing_is_written_meanwhile(
    tmp_path: Path, suffix: str, harm: Callable[[Path], None], loss: Loss
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "orders.sqlite"
    journal = Journal(path)
    add_event(journal)
    journal.check_files()
    harm(path.with_name(path.name + suffix))
    for attempt in (journal.check_files, journal.check_files, lambda: add_event(journal)):
        with pytest.raises(JournalLostError, match=str(tmp_path)) as raised:
            attempt()
        assert raised.value.loss is loss
    assert journal.connection.execute("SELECT count(*) FROM events").fetchone()[0] == 1
    journal._events.clear()
    journal.close()


@linux_only
def test_a_file_that_is_put_back_is_written_again(journal: Journal, path: Path) -> None:
    rename(path)
    with pytest.raises(JournalLostError):
        add_event(journal)
    path.with_name("elsewhere").rename(path)
    journal.check_files()
    journal.commit()
    assert journal.connection.execute("SELECT count(*) FROM events").fetchone()[0] == 2


def test_a_log_that_another_program_has_emptied_by_sqlite_is_no_loss(tmp_path: Path) -> None:
    """As tools do that copy a database continuously."""
    path = tmp_path / "orders.sqlite"
    with Journal(path) as journal:
        for _ in range(50):
            add_event(journal)
        journal.check_files()
        code = f"import sqlite3; sqlite3.connect({str(path)!r}).execute('PRAGMA wal_checkpoint(TRUNCATE)')"
        subprocess.run([sys.executable, "-c", code], check=True)
        assert path.with_name(path.name + "-wal").stat().st_size == 0
        journal.check_files()
        add_event(journal)
        journal.check_files()
    assert (verify(path).events, verify(path).problems) == (51, [])


@linux_only
def test_a_link_that_is_turned_elsewhere_is_noticed(tmp_path: Path) -> None:
    real, other, by_link = tmp_path / "real.sqlite", tmp_path / "other.sqlite", tmp_path / "link.sqlite"
    by_link.symlink_to(real)
    with Journal(by_link) as journal:
        add_event(journal)
        journal.check_files()
        Journal(other).close()
        by_link.unlink()
        by_link.symlink_to(other)
        with pytest.raises(JournalLostError, match=r"link\.sqlite was replaced"):
            journal.check_files()


@linux_only
def test_a_log_that_was_deleted_can_be_moved_into_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    journal = Journal(path)
    for _ in range(50):
        add_event(journal)
    path.with_name(path.name + "-wal").unlink()
    with pytest.raises(JournalLostError):
        journal.check_files()
    journal.move_log_into_file()
    # As after a death of the process, since a clean end would move it by itself.
    copied = shutil.copy(path, tmp_path / "copied.sqlite")
    assert (verify(copied).events, verify(copied).problems) == (50, [])
    journal.close()


@pytest.mark.parametrize("way", ["same path", "symbolic link", "link of the folder"])
def test_one_file_has_one_gateway_by_whatever_path_it_is_opened(tmp_path: Path, way: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "orders.sqlite"
    second = path
    if way == "symbolic link":
        second = tmp_path / "link.sqlite"
        second.symlink_to(path)
    elif way == "link of the folder":
        (tmp_path / "other").symlink_to(folder)
        second = tmp_path / "other" / "orders.sqlite"
    with Journal(path), pytest.raises(JournalError, match="in use by another gateway"):
        Journal(second)
    with Journal(second), pytest.raises(JournalError, match="in use by another gateway"):
        Journal(path)


def test_a_journal_with_a_second_name_is_not_opened(tmp_path: Path) -> None:
    path, second = tmp_path / "orders.sqlite", tmp_path / "second.sqlite"
    Journal(path).close()
    os.link(path, second)
    for each in (path, second):
        with pytest.raises(JournalError, match="has 2 names"):
            Journal(each)
    second.unlink()
    Journal(path).close()


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root mounts")
def test_a_single_file_that_is_mounted_is_not_opened_and_a_mounted_folder_is_one_journal(tmp_path: Path) -> None:
    folder, other = tmp_path / "a folder", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    path = folder / "orders.sqlite"
    Journal(path).close()
    mounted = tmp_path / "a mounted.sqlite"
    mounted.touch()
    for source, target in ((path, mounted), (folder, other)):
        if subprocess.run(["mount", "--bind", str(source), str(target)], capture_output=True, check=False).returncode:
            pytest.skip("this system allows no mount")
    try:
        with pytest.raises(JournalError, match="mount of a single file"):
            Journal(mounted)
        with Journal(path), pytest.raises(JournalError, match="in use by another gateway"):
            Journal(other / path.name)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
        subprocess.run(["umount", str(other)], check=True)


@linux_only
def test_a_lock_that_was_deleted_is_taken_again(journal: Journal, path: Path) -> None:
    files.lock_path(path).unlink()
    journal.check_files()
    with pytest.raises(JournalError, match="in use by another gateway"):
        Journal(path)


@linux_only
def test_a_lock_that_another_gateway_has_taken_meanwhile_stops_this_one(journal: Journal, path: Path) -> None:
    files.lock_path(path).unlink()
    with Journal(path), pytest.raises(JournalError, match="in use by another gateway"):
        journal.check_files()
    journal.check_files()


def test_a_start_without_the_journal_is_refused_while_its_write_ahead_log_lies_there(tmp_path: Path) -> None:
    """The gateway was killed, and the file was moved away before the next start: SQLite deleted what the log held."""
    path, aside = tmp_path / "orders.sqlite", tmp_path / "aside"
    kill_after_writing(path)
    log = path.with_name("orders.sqlite-wal")
    held = log.read_bytes()
    assert held
    path.rename(aside)
    for _ in range(2):
        with pytest.raises(JournalError, match=r"is missing, and beside it lie .*orders\.sqlite-wal: .*bring it back"):
            Journal(path)
        assert log.read_bytes() == held
    aside.rename(path)
    with closing(Journal(path)) as again:
        assert again.last_seq == 3


def kill_after_writing(path: Path) -> None:
    """Write three events in a process that is killed: they are in the log alone."""
    code = (
        "import os, sys; from pathlib import Path; from nexus_gateway.core.engine import ClockTicked; "
        "from nexus_gateway.core.journal import Journal; j = Journal(Path(sys.argv[1])); "
        "[j.append(ClockTicked(), n) for n in (1, 2, 3)]; j.commit(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
