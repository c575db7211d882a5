"""Backs up, restores and exports journals with their archives. Backup and export work while a gateway is running."""

from __future__ import annotations

import heapq
import itertools
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from .retention.archive_file import file_digest
from .retention.history import archive_folder, archives_of, journal_path, read_rows
from .retention.tables import EVENT_COLUMNS
from .schema import JournalError, schema_version
from .store import open_database
from .verification import Verdict, verify


def backup(
    connection: sqlite3.Connection, target: Path, pages: int = 256, on_step: Callable[[], object] = lambda: None
) -> None:
    """Copy a journal that is in use to `target`, in small steps, and its archives to the folder beside `target`.

    `target` is complete or does not exist. Archives that are there already are not copied again, nor is one that the
    journal names and that is missing: `verify` of the copy says so. `on_step` is called after each `pages` pages.

    Raises: JournalError when the copy cannot be written.
    """
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        _copy_database(connection, part, pages, on_step)
        _copy_archives(part, (archive_folder(journal_path(connection)),), archive_folder(target))
        os.replace(part, target)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        raise JournalError(f"backup to {target} failed: {error}; the old file there is untouched") from error


def restore(source: Path, target: Path) -> Verdict:
    """Replace a journal that no gateway is using by a sound backup; the old one is kept beside it as `kept_journal`.

    The archives that the backup names are taken from beside it, or from those of the journal that it replaces. Without
    them the journal is restored all the same as long as it has a checkpoint to start from; the verdict names them.

    Raises: JournalError when the backup is not sound; the target is untouched then.
    """
    old_archives = archive_folder(target)
    folders = (archive_folder(source), old_archives)
    verdict = verify(source, folders)
    problems = list(verdict.problems)
    if verdict.missing_archives and not verdict.checkpoints:
        problems.append(f"it has no checkpoint, and archives are missing: {', '.join(verdict.missing_archives)}")
    if problems:
        raise JournalError(f"{source} was not restored: {'; '.join(problems[:5])}; use another backup")
    part = target.with_name(target.name + ".part")
    new_archives = old_archives.with_name(old_archives.name + ".part")
    part.unlink(missing_ok=True)
    shutil.rmtree(new_archives, ignore_errors=True)
    try:
        with closing(open_database(source, read_only=True)) as connection:
            _copy_database(connection, part)
        _copy_archives(part, folders, new_archives)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        shutil.rmtree(new_archives, ignore_errors=True)
        raise JournalError(f"{source} was not restored: {error}; {target} is untouched") from error
    kept_as = kept_journal(target)
    for suffix in ("-wal", "-shm"):
        # SQLite would replay the old file's write-ahead log into the new file.
        side = target.with_name(target.name + suffix)
        if side.exists():
            os.replace(side, kept_as.with_name(kept_as.name + suffix))
    if target.exists():
        os.replace(target, kept_as)
    if old_archives.exists():
        # Its archives may hold events that the restored journal has not had, and will give other numbers to.
        kept = archive_folder(kept_as)
        shutil.rmtree(kept, ignore_errors=True)
        os.replace(old_archives, kept)
    if new_archives.exists():
        os.replace(new_archives, old_archives)
    os.replace(part, target)
    return verdict


def kept_journal(target: Path) -> Path:
    """Return the name by which `restore` keeps the journal that it replaces: `.old`, or `.old-2` ... when taken.

    A second restore must not overwrite what the first one has replaced: it may hold events that are nowhere else.
    """
    names = itertools.chain([".old"], (f".old-{number}" for number in itertools.count(2)))
    return next(path for path in (target.with_name(target.name + name) for name in names) if not path.exists())


def _copy_database(
    connection: sqlite3.Connection, target: Path, pages: int = 256, on_step: Callable[[], object] = lambda: None
) -> None:
    with closing(sqlite3.connect(target)) as copy:
        connection.backup(copy, pages=pages, progress=lambda *_: on_step())
        copy.execute("PRAGMA journal_mode = DELETE")


def _copy_archives(journal: Path, sources: Sequence[Path], target: Path) -> None:
    """Copy the archives that `journal` names, each from the first of `sources` that has a sound one."""
    with closing(open_database(journal, read_only=True)) as connection:
        entries = archives_of(connection) if schema_version(connection) else []
    for entry in entries:
        copy = target / entry.name
        if copy.exists() and file_digest(copy) == entry.digest:
            continue
        for folder in sources:
            archive = folder / entry.name
            if archive.exists() and file_digest(archive) == entry.digest:
                target.mkdir(parents=True, exist_ok=True, mode=0o700)
                part = copy.with_name(copy.name + ".part")
                shutil.copy2(archive, part)
                os.replace(part, copy)
                break


def export(path: Path) -> Iterator[str]:
    """Yield a journal as JSON lines for people and spreadsheets: events, intents and notes in the order of writing.

    Raises: JournalError when the file cannot be opened.
    """
    connection = open_database(path, read_only=True)
    try:
        connection.execute("BEGIN")  # a gateway may be moving rows to an archive
        parts = [_in_order(connection, table, place) for place, table in enumerate(("events", "intents", "notes"))]
        for (seq, _), table, row in heapq.merge(*parts, key=lambda part: part[0]):
            line: dict[str, object] = {"seq": seq, "row": table.removesuffix("s"), "kind": row["kind"]}
            if table == "events":
                line["at_ns"] = row["at_ns"]
            line["content"] = msgspec.msgpack.decode(row["payload"])
            yield json.dumps(line, ensure_ascii=False)
    except sqlite3.DatabaseError as error:
        raise JournalError(f"journal {path} cannot be exported: {error}") from error
    finally:
        connection.close()


def _in_order(
    connection: sqlite3.Connection, table: str, place: int
) -> Iterator[tuple[tuple[Any, int], str, dict[str, Any]]]:
    """Yield a table's rows with a key that puts those of one event behind each other."""
    column = EVENT_COLUMNS[table]
    for row in read_rows(connection, table):
        yield (row[column], place), table, row
