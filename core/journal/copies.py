"""Backs up, restores and exports journals with their archives. Backup and export work while a gateway is running."""

from __future__ import annotations

import heapq
import itertools
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from ...shm import host
from .files import KEPT, kept_journals, real_journal_path
from .retention.archive_file import sync_folder
from .retention.history import archive_folder, archives_of, find_archive, journal_path, read_rows
from .retention.tables import EVENT_COLUMNS
from .schema import JournalError, schema_version
from .store import open_database
from .verification import Verdict, verify

_STEP_S: Final = 0.1


def copy_database(
    connection: sqlite3.Connection, target: Path, on_step: Callable[[], object] = lambda: None, pages: int = 256
) -> None:
    """Copy the database of an open journal to `target`, in steps of so many `pages`; without its archives.

    `target` is complete and on the disk, or as it was before. `on_step` is called after each step, and some times a
    second while the disk is waited for, in the caller's thread.

    Raises: JournalError when the copy cannot be written.
    """
    part = _part(target)
    try:
        _write_database(connection, part, on_step, pages)
        os.replace(part, target)
        sync_folder(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise _not_written(part, target, error) from error


def backup(connection: sqlite3.Connection, target: Path, pages: int = 256) -> None:
    """Copy a journal that is in use to `target`, in steps of so many `pages`, and its archives to the folder beside it.

    `target` is complete or as it was before. Archives that are there already are not copied again, nor is one that the
    journal names and that is missing: `verify` of the copy names it.

    Raises: JournalError when the copy cannot be written.
    """
    target = real_journal_path(target)
    part = _part(target)
    try:
        _write_database(connection, part, lambda: None, pages)
        _copy_archives(part, (archive_folder(journal_path(connection)),), archive_folder(target))
        os.replace(part, target)
        sync_folder(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise _not_written(part, target, error) from error


def restore(source: Path, target: Path) -> Verdict:
    """Replace a journal that no gateway is using by a sound backup; the old one is kept beside it as `kept_journal`,
    with its archives.

    The archives that the backup names are taken from beside it, or from those of the journals that it replaces or that
    are kept. Without them the journal is restored all the same as long as it has a checkpoint to start from; the
    verdict names them. No archive is deleted.

    A crash in between leaves the old journal as it was; or no journal, which a gateway refuses to start without: run it
    again then.

    Raises: JournalError when the backup is not sound, or files cannot be written or renamed.
    """
    target = real_journal_path(target)
    folders = tuple(dict.fromkeys(archive_folder(each) for each in (source, target, *kept_journals(target))))
    verdict = verify(source, folders)
    problems = list(verdict.problems)
    if verdict.missing_archives and not verdict.checkpoints:
        problems.append(f"it has no checkpoint, and archives are missing: {', '.join(verdict.missing_archives)}")
    if problems:
        raise JournalError(f"{source} was not restored: {'; '.join(problems[:5])}; use another backup")
    part = _part(target)
    new_archives = archive_folder(target).with_name(archive_folder(target).name + ".part")
    begun = _kept_before_a_crash(target)
    kept_as = begun or kept_journal(target)
    try:
        shutil.rmtree(new_archives, ignore_errors=True)  # copies, which a crash has left
        with closing(open_database(source, read_only=True)) as connection:
            _write_database(connection, part)
        _copy_archives(part, folders, new_archives)
        if begun is None:
            _copy_sides(target, kept_as)
        if target.exists():
            os.replace(target, kept_as)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        shutil.rmtree(new_archives, ignore_errors=True)
        for side in _sides(kept_as) if begun is None else ():
            side.unlink(missing_ok=True)
        raise JournalError(f"{source} was not restored: {error}; {target} is untouched") from error
    try:
        _put_in_place(part, new_archives, target, kept_as)
    except OSError as error:
        raise JournalError(
            f"{source} was not restored: {error}; the journal that it replaces is {kept_as} now; correct the cause and "
            "restore again, no gateway starts before"
        ) from error
    return verdict


def kept_journal(target: Path) -> Path:
    """Return the name by which `restore` keeps the journal that it replaces: `.old`, or `.old-2` ... when taken.

    A second restore must not overwrite what the first one has replaced: it may hold events that are nowhere else.
    """
    target = real_journal_path(target)
    names = itertools.chain([KEPT], (f"{KEPT}-{number}" for number in itertools.count(2)))
    paths = (target.with_name(target.name + name) for name in names)
    return next(
        path for path in paths if not any(os.path.lexists(each) for each in (path, archive_folder(path), *_sides(path)))
    )


def _kept_before_a_crash(target: Path) -> Path | None:
    """Return the kept journal of a restore that a crash has cut off behind the renaming of the old one: its archives
    still lie under the old name. None = there was no such crash.
    """
    newest = max(kept_journals(target), key=lambda path: (len(path.name), path.name), default=None)
    if target.exists() or newest is None or archive_folder(newest).exists():
        return None
    try:
        with closing(open_database(newest, read_only=True)) as connection:
            named = archives_of(connection)
        lie_there = bool(named) and all(find_archive(entry, (archive_folder(target),)) for entry in named)
    except (sqlite3.Error, OSError, JournalError):
        return None  # whose archives these are is not known: they get a name of their own
    return newest if lie_there else None


def _put_in_place(part: Path, new_archives: Path, target: Path, kept_as: Path) -> None:
    """Put a restored journal where the old one was, which has its new name `kept_as` by now."""
    archives = archive_folder(target)
    if archives.exists():
        # They may hold events that the restored journal has not had, and will give their numbers to others.
        os.replace(archives, archive_folder(kept_as))
    for side in _sides(target):
        # SQLite would replay the old file's write-ahead log into the new file. It is copied: see `_copy_sides`.
        side.unlink(missing_ok=True)
    if new_archives.exists():
        os.replace(new_archives, archives)
    os.replace(part, target)
    sync_folder(target.parent)


def _copy_sides(target: Path, kept_as: Path) -> None:
    """Put a copy of the old journal's write-ahead log beside its new name, before it gets that name: moved, it would be
    missing to either when a crash comes in between, and events with it.
    """
    for side, copy in zip(_sides(target), _sides(kept_as), strict=True):
        if side.exists():
            host.copy_private(side, copy)
            _sync(copy)


def _sides(journal: Path) -> list[Path]:
    return [journal.with_name(journal.name + suffix) for suffix in ("-wal", "-shm")]


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _not_written(part: Path, target: Path, error: Exception) -> JournalError:
    """Remove what was written of a copy. Returns the error to raise."""
    try:
        part.unlink(missing_ok=True)
    except OSError:
        pass  # the folder is gone: the first error names it
    return JournalError(f"backup to {target} failed: {error}; the old file there is untouched")


def _write_database(
    connection: sqlite3.Connection, target: Path, on_step: Callable[[], object] = lambda: None, pages: int = 256
) -> None:
    """Write a copy of a database to `target`, and wait until it is on the disk."""
    target.unlink(missing_ok=True)
    host.make_private_file(target)
    with closing(sqlite3.connect(target)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # all of it would be synced in one call, without a step
        connection.backup(copy, pages=pages, progress=lambda *_: on_step())
        copy.execute("PRAGMA journal_mode = DELETE")
    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(_sync, target)
        while wait((synced,), _STEP_S).not_done:
            on_step()
        synced.result()


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _copy_archives(journal: Path, sources: Sequence[Path], target: Path) -> None:
    """Copy the archives that `journal` names, each from the first of `sources` that has a sound one."""
    with closing(open_database(journal, read_only=True)) as connection:
        entries = archives_of(connection) if schema_version(connection) else []
    for entry in entries:
        copy = target / entry.name
        if find_archive(entry, (target,)) is not None:
            continue
        archive = find_archive(entry, sources)
        if archive is not None:
            target.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = _part(copy)
            host.copy_private(archive, part)
            _sync(part)
            os.replace(part, copy)
            sync_folder(target)


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
