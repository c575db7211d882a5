"""How full the disks are, how fast that grows, and when they are full at this rate.

The rate is measured, never guessed: from the rows that the journal has got within its last 24 hours, and from the
recording files that were written within the last 24 hours. What has a limit of its own (logs, paper accounts, and the
journal once its old events leave for archives) does not grow.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from ...shm.durations import NS_PER_DAY, NS_PER_HOUR, NS_PER_S
from ...shm.recording.file import data_files, read_header
from ..config import GatewayConfig
from ..errors import GatewayError
from ..journal import real_journal_path
from ..journal.retention.archive_file import Archive
from ..journal.retention.history import archive_folder, first_seq_since
from ..journal.retention.tables import archived_tables, columns_of
from ..journal.store import open_database

WARN_DAYS: Final = 7
_SHORTEST_NS: Final = NS_PER_HOUR
"""The rate of less than an hour is no measure of a day."""
_ROW_BYTES: Final = 16
"""A row's own header and its place in the page."""


class DiskUse(msgspec.Struct, frozen=True):
    """One thing on a disk. `bytes`: None = not measured, it cannot be read. `bytes_a_day`: growth, 0 = it has a limit
    and stands at it; None = not known yet.
    """

    what: str
    path: str
    bytes: int | None
    bytes_a_day: int | None


class DiskStatus(msgspec.Struct, frozen=True):
    """One file system that the gateway writes to.

    `bytes_a_day`: sum of what is known; None = nothing is. `full_ns`: when it is full at this rate, UTC ns; None = not
    at all, or not known. `stopped`: what has stopped for lack of space. `is_full_soon`: within a week. `free_bytes`:
    None = not measured. `trouble`: what could not be measured; empty = all was.
    """

    path: str
    uses: list[DiskUse]
    free_bytes: int | None
    bytes_a_day: int | None
    full_ns: int | None
    stopped: list[str]
    is_full_soon: bool
    trouble: str = ""


def measure_disks(config: GatewayConfig, now_ns: int) -> list[DiskStatus]:
    """Look at all file systems that this configuration writes to. `now_ns`: UTC."""
    measured: list[tuple[str, Path, Callable[[], DiskUse]]] = [
        ("journal", real_journal_path(config.journal_path), lambda: _journal_use(config, now_ns)),
        ("recordings", config.recorder.path, lambda: _recordings_use(config, now_ns)),
        ("logs", config.log_path, lambda: _folder_use("logs", config.log_path)),
        ("run folder", config.run_path, lambda: _folder_use("run folder", config.run_path)),
    ]
    disks: dict[int | str, list[DiskUse]] = {}
    for what, path, measure in measured:
        disk: int | str = str(path)
        try:
            disk = os.stat(_existing(path)).st_dev
            use = measure()
        except OSError:  # a mount that has gone, or a folder that may not be read
            use = DiskUse(what, str(path), None, None)
        disks.setdefault(disk, []).append(use)
    return [_disk(config, found, now_ns) for found in disks.values()]


def _disk(config: GatewayConfig, uses: list[DiskUse], now_ns: int) -> DiskStatus:
    try:
        path = _existing(Path(uses[0].path))
        free = shutil.disk_usage(path).free
    except OSError as error:
        return DiskStatus(uses[0].path, uses, None, None, None, [], False, f"not measured ({error})")
    unread = [use.what for use in uses if use.bytes is None]
    trouble = f"not measured: {', '.join(unread)}" if unread else ""
    known = [use.bytes_a_day for use in uses if use.bytes_a_day is not None]
    a_day = sum(known) if known else None
    full_ns = now_ns + int(free / a_day * NS_PER_DAY) if a_day else None
    if full_ns is not None and full_ns > now_ns + 36_500 * NS_PER_DAY:
        full_ns = None
    levels, names = config.disk, {use.what for use in uses}
    limits = (
        ("recordings", "recordings", levels.recorder_stops_bytes if config.recorder.enabled else 0),
        ("journal", "archives of the journal", levels.archives_stop_bytes),
        ("logs", "log lines below a warning", levels.logs_stop_bytes),
        ("journal", "entries", levels.entries_stop_bytes),
        ("journal", "checkpoints", levels.checkpoints_stop_bytes),
    )
    stopped = [text for what, text, below in limits if what in names and free < below]
    soon = full_ns is not None and full_ns <= now_ns + WARN_DAYS * NS_PER_DAY
    return DiskStatus(str(path), uses, free, a_day, full_ns, stopped, soon, trouble)


def _journal_use(config: GatewayConfig, now_ns: int) -> DiskUse:
    path = real_journal_path(config.journal_path)
    sides = (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", ".reserve")))
    size = sum(_size(file) for file in sides) + _bytes_below(archive_folder(path))
    named = config.journal_path  # beside which paper accounts lie, wherever its links lead
    size += sum(_size(file) for file in named.parent.glob(f"{named.stem}.*.paper*"))
    if not path.exists():
        return DiskUse("journal", str(path), size, None)
    try:
        with closing(open_database(path, read_only=True)) as connection:
            # Below their level no archives are made, and the journal grows.
            is_archived = shutil.disk_usage(path.parent).free >= config.disk.archives_stop_bytes
            a_day = _journal_growth(connection, config.orders.keep_days if is_archived else None)
    except (sqlite3.Error, GatewayError):
        return DiskUse("journal", str(path), size, None)  # `journal verify` names what is damaged
    if a_day is not None:
        a_day += _archives_growth(path, now_ns)
    return DiskUse("journal", str(path), size, a_day)


def _archives_growth(journal: Path, now_ns: int) -> int:
    """Bytes a day of the archives written within the last 24 hours, over the days that their events are of: the first
    ones, and those after a shorter `keep_days`, hold many days at once.
    """
    size, first_ns, last_ns = 0, now_ns, 0
    for file in archive_folder(journal).glob("*.zip"):
        if _mtime_ns(file) < now_ns - NS_PER_DAY:
            continue
        size += _size(file)
        try:
            with Archive(file) as archive:
                first_ns = min(first_ns, archive.manifest.first_at_ns)
                last_ns = max(last_ns, archive.manifest.last_at_ns)
        except GatewayError:
            continue  # `journal verify` names it
    return int(size * NS_PER_DAY / max(last_ns - first_ns, NS_PER_DAY))


def _journal_growth(connection: sqlite3.Connection, keep_days: int | None) -> int | None:
    """Bytes of the rows of the last 24 hours of trading; 0 when as many leave for the archives."""
    connection.execute("BEGIN")  # one state of it, while a gateway goes on writing
    first = connection.execute("SELECT seq, at_ns FROM events ORDER BY seq LIMIT 1").fetchone()
    last = connection.execute("SELECT seq, at_ns FROM events ORDER BY seq DESC LIMIT 1").fetchone()
    if first is None:
        return None
    if keep_days is not None and last[1] - first[1] >= (keep_days - 1) * NS_PER_DAY:
        return 0
    low = first_seq_since(connection, last[1] - NS_PER_DAY, first[0], last[0])
    span_ns = min(last[1] - first[1], NS_PER_DAY)
    if span_ns < _SHORTEST_NS:
        return None
    size = 0
    for table, column in archived_tables(connection).items():
        lengths = " + ".join(f"coalesce(length({name}), 0)" for name in columns_of(connection, table))
        query = f"SELECT total({lengths}), count(*) FROM {table} WHERE {column} >= ?"
        values, rows = connection.execute(query, (low,)).fetchone()
        size += int(values) + rows * _ROW_BYTES
    return int(size * NS_PER_DAY / span_ns)


def _recordings_use(config: GatewayConfig, now_ns: int) -> DiskUse:
    settings = config.recorder
    folder = settings.path
    files = [file for ring in folder.glob("*/") for file in ring.iterdir()] if folder.is_dir() else []
    size = sum(_size(file) for file in files)
    young = [file for file in files if _mtime_ns(file) >= now_ns - NS_PER_DAY]
    oldest_ns = min((_mtime_ns(file) for file in files), default=now_ns)
    a_day: int | None
    if (
        not young
        or (settings.keep_bytes is not None and size >= 0.9 * settings.keep_bytes)
        or (settings.keep_days is not None and oldest_ns <= now_ns - settings.keep_days * NS_PER_DAY)
    ):
        a_day = 0
    else:
        begun_ns = min(_begun_ns(folder, {file.stem for file in young}), default=now_ns)
        span_ns = min(now_ns - begun_ns, NS_PER_DAY)
        a_day = None if span_ns < _SHORTEST_NS else int(sum(map(_size, young)) * NS_PER_DAY / span_ns)
    return DiskUse("recordings", str(folder), size, a_day)


def _begun_ns(folder: Path, stems: set[str]) -> Iterable[int]:
    for ring in folder.glob("*/"):
        for path in data_files(ring):
            if path.stem in stems:
                try:
                    header = read_header(path)
                except (OSError, GatewayError, ValueError):
                    continue
                if header is not None:
                    yield header.created_ns
                    break


def describe_disk(disk: DiskStatus) -> str:
    """Return what is wrong with a disk, in plain words; empty when nothing is."""
    found = []
    if disk.trouble:
        found.append(f"{disk.trouble}; look whether it is mounted and may be read")
    if disk.stopped and disk.free_bytes is not None:
        found.append(f"{disk.free_bytes >> 20:,} MiB free, too little: stopped are {', '.join(disk.stopped)}")
    if disk.is_full_soon and disk.full_ns is not None:
        found.append(f"full on {day_text(disk.full_ns)} at this rate")
    cure = "; make room" if disk.stopped or disk.is_full_soon else ""
    return f"DISK {disk.path}: {'; '.join(found)}{cure}" if found else ""


def day_text(utc_ns: int) -> str:
    """Return the date of a time, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(utc_ns // NS_PER_S))


def _existing(path: Path) -> Path:
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _folder_use(what: str, folder: Path) -> DiskUse:
    return DiskUse(what, str(folder), _bytes_below(folder), 0)


def _bytes_below(folder: Path) -> int:
    return sum(_size(file) for file in folder.rglob("*")) if folder.is_dir() else 0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:
        return 0  # gone meanwhile


def _mtime_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
