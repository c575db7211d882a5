"""Verifies, backs up, restores and exports journal files. Backup and export work while a gateway is running."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from .schema import JournalError, schema_version
from .store import GENESIS, chain_hash, open_database


class Verdict(Struct):
    """Result of a check of a journal; `problems` is empty when it is sound."""

    events: int
    intents: int
    last_at_ns: int
    problems: list[str]


def verify(path: Path) -> Verdict:
    """Check a journal file from end to end: pages, event numbers, hash chain, intents, checkpoints.

    Raises: JournalError when it cannot be opened at all.
    """
    connection = open_database(path, read_only=True)
    try:
        problems = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        version = schema_version(connection)
        if not version:
            return Verdict(0, 0, 0, [*problems, "the file holds no journal"])
        problems += _cut_off(connection, path)
        events, last_at_ns = _verify_chain(connection, problems)
        intents = connection.execute("SELECT count(*) FROM intents").fetchone()[0]
        stray = connection.execute(
            "SELECT count(*) FROM intents WHERE event_seq NOT IN (SELECT seq FROM events)"
        ).fetchone()[0]
        if stray:
            problems.append(f"{stray} intents belong to no event")
        for seq, state, digest in connection.execute("SELECT seq, state, digest FROM checkpoints"):
            if state is None or hashlib.blake2b(state, digest_size=16).hexdigest() != digest:
                problems.append(f"checkpoint {seq} is not as it was written")
        return Verdict(events, intents, last_at_ns, problems)
    except sqlite3.DatabaseError as error:
        return Verdict(0, 0, 0, [f"not readable: {error}"])
    finally:
        connection.close()


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
    chain, expected, last_at_ns = GENESIS, 1, 0
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


def backup(connection: sqlite3.Connection, target: Path, pages: int = 256) -> None:
    """Copy a journal that is in use to `target`, in small steps; `target` is complete or does not exist.

    Raises: JournalError when the copy cannot be written.
    """
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        with_copy = sqlite3.connect(part)
        try:
            connection.backup(with_copy, pages=pages)
            with_copy.execute("PRAGMA journal_mode = DELETE")
        finally:
            with_copy.close()
        os.replace(part, target)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        raise JournalError(f"backup to {target} failed: {error}; the old file there is untouched") from error


def restore(source: Path, target: Path) -> Verdict:
    """Replace a journal that no gateway is using by a sound backup; the old file is kept beside it as `.old`.

    Raises: JournalError when the backup is not sound; the target is untouched then.
    """
    verdict = verify(source)
    if verdict.problems:
        raise JournalError(f"{source} was not restored: {'; '.join(verdict.problems[:5])}; use another backup")
    part = target.with_name(target.name + ".part")
    connection = open_database(source, read_only=True)
    try:
        backup(connection, part)
    finally:
        connection.close()
    for suffix in ("-wal", "-shm"):
        # SQLite would replay the old file's write-ahead log into the new file.
        side = target.with_name(target.name + suffix)
        if side.exists():
            os.replace(side, target.with_name(target.name + ".old" + suffix))
    if target.exists():
        os.replace(target, target.with_name(target.name + ".old"))
    os.replace(part, target)
    return verdict


def export(path: Path) -> Iterator[str]:
    """Yield a journal as JSON lines for people and spreadsheets: events, intents and notes in the order of writing.

    Raises: JournalError when the file cannot be opened.
    """
    connection = open_database(path, read_only=True)
    try:
        rows = connection.execute(
            "SELECT seq, at_ns, 0, 0, kind, payload FROM events "
            "UNION ALL SELECT event_seq, 0, 1, ordinal, kind, payload FROM intents "
            "UNION ALL SELECT event_seq, 0, 2, ordinal, kind, payload FROM notes ORDER BY 1, 3, 4"
        )
        tables = ("event", "intent", "note")
        for seq, at_ns, table, _, kind, payload in rows:
            line: dict[str, object] = {"seq": seq, "row": tables[table], "kind": kind}
            if table == 0:
                line["at_ns"] = at_ns
            line["content"] = msgspec.msgpack.decode(payload)
            yield json.dumps(line, ensure_ascii=False)
    except sqlite3.DatabaseError as error:
        raise JournalError(f"journal {path} cannot be exported: {error}") from error
    finally:
        connection.close()
