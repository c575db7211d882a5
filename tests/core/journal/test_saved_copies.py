"""A start goes on with a journal that holds what was saved of a lost one, and with no other file of its name."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from nexus_gateway.core.engine import ClockTicked
from nexus_gateway.core.journal import Journal, JournalError, backup, check_saved_copies
from nexus_gateway.core.journal.retention.archive_file import ArchiveEntry
from nexus_gateway.core.journal.retention.history import ARCHIVE_PREFIX, FIRST_SEQ


def write(path: Path, events: int) -> None:
    with closing(Journal(path)) as journal:
        for _ in range(events):
            journal.append(ClockTicked(), journal.last_seq + 1)
        journal.commit()


def save_copy(path: Path) -> Path:
    """As a gateway does whose journal's file is lost."""
    saved = path.with_name(path.name + ".rescued")
    with closing(Journal(path)) as journal:
        backup(journal.connection, saved)
    return saved


def check(path: Path) -> None:
    with closing(Journal(path)) as journal:
        check_saved_copies(journal.connection)


def test_the_journal_itself_and_what_goes_on_from_the_copy_may_start_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    write(path, 3)
    saved = save_copy(path)
    check(path)
    write(path, 2)
    check(path)
    path.unlink()
    path.write_bytes(saved.read_bytes())
    write(path, 1)
    check(path)


@pytest.mark.parametrize("events", [1, 5])
def test_another_file_under_its_name_is_refused(tmp_path: Path, events: int) -> None:
    path, other = tmp_path / "orders.sqlite", tmp_path / "other.sqlite"
    write(path, 3)
    save_copy(path)
    with closing(Journal(other)) as journal:
        for number in range(events):
            journal.append(ClockTicked(), 1_000 + number)
        journal.commit()
    other.replace(path)
    with pytest.raises(
        JournalError, match=r"orders\.sqlite\.rescued was saved .* event 3, .*lacks it: this is another"
    ):
        check(path)


def test_another_file_whose_first_events_are_archived_is_refused_as_well(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    write(path, 3)
    save_copy(path)
    path.unlink()
    for each in tmp_path.glob("orders.sqlite-*"):
        each.unlink()
    saved = path.with_name("orders.sqlite.rescued").rename(tmp_path / "aside")
    with closing(Journal(path)) as journal:
        for number in range(9):
            journal.append(ClockTicked(), 1_000 + number)
        journal.commit()
        journal.connection.execute("DELETE FROM events WHERE seq < 6")
        journal.connection.execute("INSERT INTO meta VALUES (?, '6')", (FIRST_SEQ,))
    saved.rename(path.with_name("orders.sqlite.rescued"))
    with pytest.raises(JournalError, match="lacks it: this is another file"):
        check(path)


def test_a_file_whose_archive_is_missing_is_refused_since_it_may_lack_the_event(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    write(path, 3)
    save_copy(path)
    write(path, 6)
    gone = ArchiveEntry(name="gone.zip", first_seq=1, last_seq=5, chain_before="", chain_after="", digest="")
    with closing(Journal(path)) as journal:
        journal.connection.execute("DELETE FROM events WHERE seq < 6")
        journal.connection.execute("INSERT INTO meta VALUES (?, '6')", (FIRST_SEQ,))
        entry = msgspec.json.encode(gone).decode()
        journal.connection.execute("INSERT INTO meta VALUES (?, ?)", (f"{ARCHIVE_PREFIX}000000000001", entry))
    with pytest.raises(JournalError, match=r"may lack it: archive .*gone\.zip is missing"):
        check(path)


def test_a_copy_that_was_cut_off_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    write(path, 3)
    saved = save_copy(path)
    saved.write_bytes(saved.read_bytes()[:100])
    write(path, 1)
    check(path)
