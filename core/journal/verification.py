"""Verifies a journal with its archives from end to end. Works while a gateway is running."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from .finished.checks import find_damaged_rows
from .retention.archive_file import Archive
from .retention.history import archive_folder, archives_of, chain_before, find_archive, first_seq
from .retention.tables import archived_tables
from .schema import JournalError, schema_version
from .store import GENESIS, chain_hash, open_database


class Verdict(Struct):
    """Result of a check of a journal with its archives.

    Attributes:
        events, intents: in the journal and its archives.
        problems: what is damaged; empty when nothing is.
        missing_archives: archives that the journal names and that were not found.
        archives: those that were found.
        checkpoints: sound ones.
        first_seq: of the first event that is in the journal itself.
    """

    events: int
    intents: int
    last_at_ns: int
    problems: list[str]
    archives: int = 0
    missing_archives: list[str] = []
    checkpoints: int = 0
    first_seq: int = 1

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged and nothing is missing."""
        return not self.problems and not self.missing_archives


def verify(path: Path, archive_folders: Sequence[Path] = ()) -> Verdict:
    """Check a journal from end to end: archives, pages, event numbers, hash chain, intents, checkpoints, and each
    row of finished signals.

    Args:
        archive_folders: where its archives may be; none = beside it.

    Raises: JournalError when it cannot be opened at all.
    """
    connection = open_database(path, read_only=True)
    try:
        connection.execute("BEGIN")  # one state of it, while a gateway goes on writing
        problems = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        version = schema_version(connection)
        if not version:
            return Verdict(0, 0, 0, [*problems, "the file holds no journal"])
        problems += _cut_off(connection, path)
        verdict = Verdict(0, 0, 0, problems, first_seq=first_seq(connection))
        _verify_archives(connection, archive_folders or (archive_folder(path),), verdict)
        verdict.events, verdict.last_at_ns = _verify_chain(connection, problems)
        verdict.intents += connection.execute("SELECT count(*) FROM intents").fetchone()[0]
        stray = connection.execute(
            "SELECT count(*) FROM intents WHERE event_seq NOT IN (SELECT seq FROM events)"
        ).fetchone()[0]
        if stray:
            problems.append(f"{stray} intents belong to no event")
        for seq, state, digest in connection.execute("SELECT seq, state, digest FROM checkpoints"):
            if state is None or hashlib.blake2b(state, digest_size=16).hexdigest() != digest:
                problems.append(f"checkpoint {seq} is not as it was written")
            else:
                verdict.checkpoints += 1
        if "finished" in archived_tables(connection):
            problems += find_damaged_rows(connection)
        return verdict
    except sqlite3.DatabaseError as error:
        return Verdict(0, 0, 0, [f"not readable: {error}"])
    finally:
        connection.close()


def _verify_archives(connection: sqlite3.Connection, folders: Sequence[Path], verdict: Verdict) -> None:
    """Follow the chain through the archives up to the journal's first event."""
    start, chain, expected = verdict.first_seq, GENESIS.hex(), 1
    for entry in archives_of(connection):
        if (entry.first_seq, entry.chain_before) != (expected, chain):
            verdict.problems.append(f"archive {entry.name} does not follow the one before it")
        chain, expected = entry.chain_after, entry.last_seq + 1
        found = [folder / entry.name for folder in folders if (folder / entry.name).exists()]
        if not found:
            verdict.missing_archives.append(entry.name)
            continue
        verdict.archives += 1
        try:
            path = find_archive(entry, folders)
            if path is None:
                verdict.problems.append(f"archive {found[0]} is not as it was written; bring it back from a backup")
            else:
                _verify_archive(connection, path, verdict)
        except (JournalError, OSError) as error:
            verdict.problems.append(str(error))
    if expected < start:
        verdict.problems.append(f"events {expected} to {start - 1} are neither in the journal nor in an archive")


def _verify_archive(connection: sqlite3.Connection, path: Path, verdict: Verdict) -> None:
    """Check an archive's rows, and that the journal continues them. Raises JournalError when they are damaged."""
    with Archive(path) as archive:
        counts = archive.check()
        manifest = archive.manifest
        start = verdict.first_seq
        if manifest.last_seq < start:
            verdict.intents += counts.get("intents", 0)
            joined = manifest.last_seq < start - 1 or bytes.fromhex(manifest.chain_after) == chain_before(connection)
        else:
            # Its rows are still being removed from the journal.
            seq_at = manifest.tables["intents"].columns.index("event_seq")
            verdict.intents += sum(row[seq_at] < start for row in archive.rows("intents"))
            chain_at = manifest.tables["events"].columns.index("chain")
            last = [row[chain_at] for row in archive.rows("events") if row[0] == start - 1]
            joined = start <= manifest.first_seq or last == [chain_before(connection)]
    if not joined:
        verdict.problems.append(f"the journal does not continue archive {path.name}")


def _cut_off(connection: sqlite3.Connection, path: Path) -> list[str]:
    """Find a truncated file, which SQLite does not: it reads missing pages at the end as empty ones.

    While a write-ahead log exists, the missing pages may rightly be in there.
    """
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        return []
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    found = path.stat().st_size
    return [] if found >= pages * size else [f"the file is cut off: {found} of {pages * size} bytes"]


def _verify_chain(connection: sqlite3.Connection, problems: list[str]) -> tuple[int, int]:
    chain, expected, last_at_ns = chain_before(connection), first_seq(connection), 0
    for seq, at_ns, payload, stored in connection.execute("SELECT seq, at_ns, payload, chain FROM events ORDER BY seq"):
        if at_ns is None or payload is None or stored is None:
            # SQLite reads a missing page as an empty one.
            problems.append(f"event {seq} cannot be read, nor what follows it")
            return expected - 1, last_at_ns
        chain = chain_hash(chain, at_ns, payload)
        last_at_ns = at_ns
        if seq != expected:
            problems.append(f"events {expected} to {seq - 1} are missing")
        elif chain != stored:
            problems.append(f"event {seq} was altered, or one before it")
        # Go on from the stored hash: else each event behind one altered event would be named as well.
        chain, expected = stored, seq + 1
    return expected - 1, last_at_ns
