"""The journal and its archives read as one, in the order of writing.

The journal's `meta` table states where the journal begins (`first_seq`, `chain_before`) and names each archive of what
came before (`archive.<first seq>`), so that a missing one is known by name. The files lie beside the journal, in
`<journal name>.archive`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from ..files import ARCHIVES, real_journal_path
from ..schema import JournalError
from ..store import GENESIS
from .archive_file import Archive, ArchiveEntry, file_digest
from .tables import EVENT_COLUMNS, Row, columns_of, read_table

FIRST_SEQ: Final = "first_seq"
CHAIN_BEFORE: Final = "chain_before"
ARCHIVE_PREFIX: Final = "archive."


def archive_folder(journal: Path) -> Path:
    """Return the folder of a journal file's archives, beside the file that links lead to; it need not exist."""
    real = real_journal_path(journal)
    return real.with_name(real.name + ARCHIVES)


def find_archive(entry: ArchiveEntry, folders: Iterable[Path]) -> Path | None:
    """Return the first sound file of an archive in these folders: one of its name may be of another history.

    Raises: OSError when one is there and cannot be read.
    """
    paths = (folder / entry.name for folder in folders)
    return next((path for path in paths if path.exists() and file_digest(path) == entry.digest), None)


def journal_path(connection: sqlite3.Connection) -> Path:
    """Return the file of an open journal."""
    return Path(next(row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main"))


def first_seq(connection: sqlite3.Connection) -> int:
    """Return the number of the first event that is still in the journal, or will be: 1 until something is archived."""
    return int(_meta(connection, FIRST_SEQ) or 1)


def chain_before(connection: sqlite3.Connection) -> bytes:
    """Return the running hash before the journal's first event."""
    text = _meta(connection, CHAIN_BEFORE)
    return GENESIS if text is None else bytes.fromhex(text)


def last_spare_seq(connection: sqlite3.Connection) -> int:
    """Return the last event that a start does not need: the one before the oldest checkpoint's; 0 without one."""
    query = "SELECT min(seq) FROM checkpoints JOIN events USING (seq)"
    oldest = connection.execute(query).fetchone()[0]
    return 0 if oldest is None else int(oldest) - 1


def first_seq_since(connection: sqlite3.Connection, since_ns: int, low: int, high: int) -> int:
    """Return the number of the first of the events `low` to `high` that was written at `since_ns` (UTC) or later;
    `high` + 1 when all of them are older. One that is missing counts as later.

    Times rise with the numbers, so halving finds the place without reading all rows of a month.
    """
    while low <= high:
        middle = (low + high) // 2
        row = connection.execute("SELECT at_ns FROM events WHERE seq = ?", (middle,)).fetchone()
        if row is None or row[0] >= since_ns:
            high = middle - 1
        else:
            low = middle + 1
    return low


def archives_of(connection: sqlite3.Connection) -> list[ArchiveEntry]:
    """Return the archives that the journal names, oldest first.

    Raises: JournalError when an entry cannot be read.
    """
    return _entries(connection, "SELECT value FROM meta WHERE name LIKE ? ORDER BY name")


def newest_archive(connection: sqlite3.Connection) -> ArchiveEntry | None:
    """Return the last archive that the journal names. Raises JournalError when its entry cannot be read."""
    return next(iter(_entries(connection, "SELECT value FROM meta WHERE name LIKE ? ORDER BY name DESC LIMIT 1")), None)


def read_rows(connection: sqlite3.Connection, table: str, after_seq: int = 0) -> Iterator[dict[str, Any]]:
    """Yield a table's rows, column -> value, of all events after `after_seq`: from the archives, then the journal.

    What is in both is read once. Where a gateway may be moving rows to an archive, call it within a transaction.

    Raises: JournalError when an archive is missing or damaged.
    """
    start = first_seq(connection)
    last = connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
    entries = archives_of(connection) if after_seq < start - 1 else []
    covered = after_seq
    for entry in entries:
        if entry.last_seq <= covered:
            continue
        if entry.first_seq > covered + 1:
            break
        with Archive(archive_folder(journal_path(connection)) / entry.name) as archive:
            member = archive.manifest.tables.get(table)
            if member is not None:
                seq_at = member.columns.index(EVENT_COLUMNS[table])
                for row in archive.rows(table):
                    if after_seq < row[seq_at] < start:
                        yield dict(zip(member.columns, row, strict=True))
        covered = entry.last_seq
    if covered < start - 1:
        raise JournalError(f"events {covered + 1} to {start - 1} are neither in the journal nor in an archive")
    columns = columns_of(connection, table)
    for row in read_table(connection, table, max(after_seq + 1, start), last):
        yield dict(zip(columns, row, strict=True))


def _entries(connection: sqlite3.Connection, query: str) -> list[ArchiveEntry]:
    rows = connection.execute(query, (ARCHIVE_PREFIX + "%",)).fetchall()
    try:
        return [msgspec.json.decode(value, type=ArchiveEntry) for (value,) in rows]
    except msgspec.MsgspecError as error:
        raise JournalError(f"the journal's list of archives cannot be read: {error}; restore a backup") from error


def _meta(connection: sqlite3.Connection, name: str) -> str | None:
    row: Row | None = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])
