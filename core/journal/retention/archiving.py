"""Writes what is due for the archives of a journal, in a process of its own or while no gateway runs.

It only reads the journal, so it works beside a gateway. The rows stay in the journal until its only writer has
confirmed the archive and removed them, see `removal`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from ....shm import host
from ....shm.durations import NS_PER_DAY
from ..schema import SCHEMA_VERSION, JournalError, schema_version
from ..store import open_database
from .archive_file import SUFFIX, Archive, ArchiveEntry, write_archive
from .history import (
    archive_folder,
    chain_before,
    first_seq,
    first_seq_since,
    journal_path,
    last_spare_seq,
    newest_archive,
)

_LOCK: Final = "lock"
MAX_ARCHIVE_BYTES: Final = 256 << 20
"""Rows of one archive, uncompressed. More is split, so that reading one stays quick and a retry repeats little."""


def last_due_seq(connection: sqlite3.Connection, keep_days: int, now_ns: int) -> int:
    """Return the last event that may leave the journal: older than `keep_days`, and before the oldest checkpoint.

    0 when none may. A start replays from a checkpoint, so what follows the oldest one stays, however old it is.
    """
    first = first_seq(connection)
    before_ns = now_ns - keep_days * NS_PER_DAY
    last = first_seq_since(connection, before_ns, first, last_spare_seq(connection)) - 1
    return last if last >= first else 0


def has_written(connection: sqlite3.Connection) -> bool:
    """Whether an archive lies there that continues the journal's archives and that the journal does not name yet: of
    the command `journal archive`, or of a process that has died.
    """
    seq, _ = _next_archive(connection)
    return any(archive_folder(journal_path(connection)).glob(f"{seq:012d}-*{SUFFIX}"))


def archive_due(
    journal: Path,
    keep_days: int | None,
    now_ns: int,
    max_bytes: int = MAX_ARCHIVE_BYTES,
    stop_below_bytes: int = 0,
) -> Iterator[ArchiveEntry]:
    """Write all archives that are due, one after another, and yield each as soon as it is complete. `keep_days`: None =
    none is due.

    One that was written and never confirmed is checked against the journal and yielded again, however young its events
    are: the command `journal archive` may have kept fewer days. `stop_below_bytes`: none
    is written, nor is one that was begun finished, with less free space on the disk of the archives; 0 = whatever is
    free.

    Raises: JournalError when another process writes archives, the journal is damaged, or the disk takes no more.
    """
    folder = archive_folder(journal)

    def check_room() -> None:
        free = shutil.disk_usage(folder).free if stop_below_bytes else 0
        if free < stop_below_bytes:
            raise JournalError(
                f"the disk of {folder} has {free >> 20:,} MiB free, archives stop below {stop_below_bytes >> 20:,} MiB "
                "(disk.archives_stop_bytes); make room"
            )

    with closing(open_database(journal, read_only=True)) as connection:
        version = schema_version(connection)
        if version > SCHEMA_VERSION:
            raise JournalError(f"journal schema version was {version}, this program knows {SCHEMA_VERSION}; update it")
        last = last_due_seq(connection, keep_days, now_ns) if version and keep_days is not None else 0
        if not version or not (last or has_written(connection)):
            return
        with _locked(folder):
            seq, chain = _next_archive(connection)
            while seq <= last_spare_seq(connection):
                entry = _find_written(connection, folder, seq, chain)
                if entry is None and seq <= last:
                    entry = write_archive(connection, folder, seq, last, chain, max_bytes, check_room)
                if entry is None:
                    break
                yield entry
                seq, chain = entry.last_seq + 1, bytes.fromhex(entry.chain_after)


def _next_archive(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """Return the first event of the next archive, and the running hash before it."""
    seq, newest = first_seq(connection), newest_archive(connection)
    if newest is not None and newest.last_seq >= seq:
        # Its rows are still being removed: go on behind it.
        return newest.last_seq + 1, bytes.fromhex(newest.chain_after)
    return seq, chain_before(connection)


def _find_written(connection: sqlite3.Connection, folder: Path, seq: int, chain: bytes) -> ArchiveEntry | None:
    """Return a sound archive of this journal that begins with `seq`. Any other of that name is put aside."""
    for path in sorted(folder.glob(f"{seq:012d}-*{SUFFIX}")):
        try:
            with Archive(path) as archive:
                archive.check()
                entry = archive.entry()
            row = connection.execute("SELECT chain FROM events WHERE seq = ?", (entry.last_seq,)).fetchone()
            if (entry.chain_before, row and row[0].hex()) == (chain.hex(), entry.chain_after):
                return entry
        except JournalError:
            pass  # it is put aside, as one of another history is, such as that before a restore
        os.replace(path, path.with_name(path.name + ".foreign"))
    return None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other archiving processes off: two would cut the same events into different files."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = host.open_private(folder / _LOCK, create=True)
    except OSError as error:
        raise JournalError(f"archives cannot be written to {folder}: {error}; correct its permissions") from error
    try:
        if not host.try_lock(descriptor):
            raise JournalError(f"another process writes archives to {folder}; wait until it has ended")
        for part in folder.glob("*.part"):
            part.unlink(missing_ok=True)  # of a process that died: a living one would hold the lock
        yield
    finally:
        os.close(descriptor)
