"""Whether a journal holds what a gateway has saved of a lost one: else another file lies under its name."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from .files import saved_copies
from .retention.archive_file import Archive
from .retention.history import archive_folder, archives_of, first_seq, journal_path
from .schema import JournalError


def check_saved_copies(connection: sqlite3.Connection) -> None:
    """Refuse an open journal that lacks the newest event of a copy beside it (`<journal>.rescued`). A copy that was cut
    off proves nothing.

    Raises: JournalError naming both files, and the ways to go on.
    """
    real = journal_path(connection)
    for copy in saved_copies(real):
        newest = _newest_event(copy)
        if newest is None:
            continue
        seq, chain = newest
        try:
            held = _chain_of(connection, seq)
            why = "" if held == chain else "lacks it: this is another file"
        except JournalError as error:
            why = f"may lack it: {error}"
        if why:
            raise JournalError(
                f"{copy} was saved when the file of its journal was lost, up to event {seq}, and {real} {why}. To "
                f"go on with the copy, rename it to {real.name} (no {real.name}-wal or {real.name}-shm beside it); "
                f"to go on with {real.name}, move the copy to another folder"
            )


def _newest_event(copy: Path) -> tuple[int, bytes] | None:
    """Return number and running hash of the newest event of a copy; None without one, or when it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            row = connection.execute("SELECT seq, chain FROM events ORDER BY seq DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else (row[0], row[1])


def _chain_of(connection: sqlite3.Connection, seq: int) -> bytes | None:
    """Return the running hash of an event of the journal or its archives; None when there is no such event.

    Raises: JournalError when its archive cannot be read.
    """
    if seq >= first_seq(connection):
        row = connection.execute("SELECT chain FROM events WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else bytes(row[0])
    for entry in archives_of(connection):
        if entry.first_seq <= seq <= entry.last_seq:
            with Archive(archive_folder(journal_path(connection)) / entry.name) as archive:
                columns = archive.manifest.tables["events"].columns
                place, hashed = columns.index("seq"), columns.index("chain")
                return next((bytes(row[hashed]) for row in archive.rows("events") if row[place] == seq), None)
    return None
