"""Removes archived rows from the journal, in steps that are short enough for a trading gateway.

Only the journal's writer does this. Each step moves the journal's beginning (`first_seq`, `chain_before` in `meta`) in
the same transaction as it deletes, so at any moment the archives and the journal are one chain. The file does not
shrink: SQLite uses the freed pages for new events. `VACUUM` would rewrite the file, which takes too long in a gateway.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from ..schema import JournalError
from .archive_file import ArchiveEntry
from .history import ARCHIVE_PREFIX, CHAIN_BEFORE, FIRST_SEQ, chain_before, first_seq, last_spare_seq, newest_archive
from .tables import archived_tables

STEP_EVENTS: Final = 64
STEP_BYTES: Final = 256 << 10
"""Most events and payload bytes of one step: about a millisecond."""


def confirm_archive(connection: sqlite3.Connection, entry: ArchiveEntry) -> None:
    """Name a complete archive in the journal; its rows may be removed from then on.

    Raises: JournalError when it does not continue the journal's archives, or the disk takes no more.
    """
    newest = newest_archive(connection)
    if entry == newest:
        return
    expected = newest.last_seq + 1 if newest else first_seq(connection)
    before = newest.chain_after if newest else chain_before(connection).hex()
    last = connection.execute("SELECT chain FROM events WHERE seq = ?", (entry.last_seq,)).fetchone()
    if (
        (entry.first_seq, entry.chain_before) != (expected, before)
        or last is None
        or last[0].hex() != entry.chain_after
    ):
        raise JournalError(f"archive {entry.name} does not belong to this journal; remove it, it will be written again")
    value = msgspec.json.encode(entry).decode()
    _put(connection, {f"{ARCHIVE_PREFIX}{entry.first_seq:012d}": value})


def remove_step(connection: sqlite3.Connection, max_events: int = STEP_EVENTS, max_bytes: int = STEP_BYTES) -> bool:
    """Remove some rows that a confirmed archive holds. Returns whether there is more to remove.

    Raises: JournalError when the disk takes no more; nothing is removed then.
    """
    newest = newest_archive(connection)
    if newest is None:
        return False
    first = first_seq(connection)
    last = min(newest.last_seq, last_spare_seq(connection))
    through, size = 0, 0
    chain = b""
    # The length of a payload is in its row's header: this reads none of them.
    for seq, after, payload_bytes in connection.execute(
        "SELECT seq, chain, length(payload) FROM events WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
        (first, last, max_events),
    ):
        if through and size + payload_bytes > max_bytes:
            break
        through, chain, size = seq, after, size + payload_bytes
    if not through:
        return False
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    # Without waiting for the disk: lost in a power failure, the rows are there still, and are removed again. The next
    # commit of events waits for both.
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        _put(connection, {FIRST_SEQ: str(through + 1), CHAIN_BEFORE: chain.hex()}, remove_through=through)
    finally:
        connection.execute(f"PRAGMA synchronous = {synchronous}")
    return through < last


def remove_all(connection: sqlite3.Connection) -> None:
    """Remove all rows that confirmed archives hold, while no gateway runs, and shrink the file.

    Raises: JournalError when the disk takes no more, such as room for the shrunk copy.
    """
    while remove_step(connection, 10_000, 64 << 20):
        pass
    try:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise JournalError(f"the journal was not shrunk: {error}; nothing is lost, make room and try again") from error


def _put(connection: sqlite3.Connection, values: dict[str, str], remove_through: int | None = None) -> None:
    tables = archived_tables(connection)
    try:
        connection.execute("BEGIN IMMEDIATE")
        if remove_through is not None:
            for table, column in tables.items():
                # From the beginning: a replay of archived events may have written rows of theirs again.
                connection.execute(f"DELETE FROM {table} WHERE {column} <= ?", (remove_through,))
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", values.items())
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise JournalError(f"archived rows stay in the journal: {error}") from error
