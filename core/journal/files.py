"""Watches the files of an open journal from outside: whether their names still lead to what this process writes.

SQLite goes on writing into a file that was deleted, renamed or replaced, and notices nothing: every order would be
journaled into a file that the next start does not find. So the names are compared with the files regularly. Only by
`os.stat`: a second descriptor of the journal, once closed, would drop SQLite's locks on it.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from enum import Enum
from pathlib import Path
from typing import Final

from .schema import JournalError

_CHECK_NS: Final = 200_000_000
_SIDES: Final = ("-wal", "-shm")
ARCHIVES: Final = ".archive"
"""End of the name of the folder with a journal's archives."""
RESCUED: Final = ".rescued"
"""End of the name of the copy that a gateway saves of a journal whose file is lost; `.rescued-2`, ... when taken."""
KEPT: Final = ".old"
"""End of the name of a journal that `journal restore` has replaced; `.old-2`, ... when taken."""


class Loss(Enum):
    """What has happened to a journal's files."""

    MISSING = "missing"  # no file of its name: deleted or renamed
    REPLACED = "replaced"  # its name leads to another file
    CUT = "cut"  # it is shorter than it was
    SHARED = "shared"  # it has a second name, by which it may be opened as well
    SIDE_MISSING = "side missing"  # the journal is there, the file of its write-ahead log is not


class JournalLostError(JournalError):
    """The journal's files are not what this process has opened: nothing may be written until they are again."""

    def __init__(self, loss: Loss, text: str) -> None:
        super().__init__(text)
        self.loss = loss


def real_journal_path(path: Path) -> Path:
    """Resolve links: one file has one path, and so one lock and one write-ahead log."""
    return Path(os.path.realpath(path))


def lock_path(path: Path) -> Path:
    """The lock file of a journal, the same by whatever links it is named."""
    real = real_journal_path(path)
    return real.with_name(real.name + "-lock")


def kept_journals(path: Path) -> list[Path]:
    """Return the files that `journal restore` keeps of the journal `path`, by name."""
    return _numbered(real_journal_path(path), KEPT)


def saved_copies(path: Path) -> list[Path]:
    """Return the copies that gateways have saved of the journal `path` when its file was lost, by name."""
    return _numbered(real_journal_path(path), RESCUED)


def check_before_opening(path: Path) -> None:
    """Refuse a journal that could be opened by a second path at the same time: each would have its own log and lock.
    And a missing one of which the write-ahead log, a copy or archives lie beside it: the gateway would begin without
    its orders and positions.

    Raises: JournalError naming the other way to it, or what is beside it, and the cure.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        _check_new(path, "is missing")
        return
    if not status.st_size:
        _check_new(path, "is empty")
    if status.st_nlink > 1:
        raise JournalError(_shared_text(path, status))
    if _is_mount_point(path):
        raise JournalError(
            f"journal {path} is a mount of a single file: its write-ahead log would lie beside this name, and a "
            "program that opens the file by its other path would not see it; mount the folder that holds it"
        )


def _is_mount_point(path: Path) -> bool:
    """Whether a file system, or a single file, is mounted exactly at `path`. False where the system does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    real = os.path.realpath(path)
    escaped = real.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")
    return any(line.split(" ")[4] == escaped for line in lines)


class JournalFiles:
    """The files of one open journal: the file itself, its write-ahead log, and that log's index."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Call it after the first statement, when SQLite has made all of them. `path`: as configured."""
        self._connection = connection
        self._path = path
        self._real = real_journal_path(path)
        self._main = os.stat(self._real)
        self._lock = os.stat(lock_path(path))
        self._sides = {suffix: _stat(self._side(suffix)) for suffix in _SIDES}
        self._due_ns = 0

    def check(self) -> None:
        """Look at the files, at most each 200 ms; costs some 10 us then.

        Raises: JournalLostError, at every call until they are again what they were.
        """
        now_ns = time.monotonic_ns()
        if now_ns < self._due_ns:
            return
        self._check_main()
        for suffix in _SIDES:
            self._check_side(suffix)
        self._due_ns = now_ns + _CHECK_NS  # not after a failure: the next call looks again

    def is_lock_lost(self) -> bool:
        """Whether the lock file was deleted or replaced, so that a second gateway could lock a new one."""
        now = _stat(lock_path(self._path))
        return now is None or not os.path.samestat(now, self._lock)

    def note_lock(self) -> None:
        """The lock file that is there now is held."""
        self._lock = os.stat(lock_path(self._path))

    def _check_main(self) -> None:
        # By the configured path, which may lead over links: where it leads is what the next start opens.
        now = _stat(self._path)
        if now is None:
            raise JournalLostError(
                Loss.MISSING,
                f"journal {self._path} was deleted or renamed while the gateway writes it; put it back by that name "
                "and trading goes on",
            )
        if not os.path.samestat(now, self._main):
            raise JournalLostError(
                Loss.REPLACED,
                f"journal {self._path} was replaced by another file while the gateway writes the old one; put the old "
                "one back and trading goes on; to use the other one, stop the gateway and run `nexus-gateway journal "
                "restore FILE`",
            )
        if now.st_nlink > 1:
            raise JournalLostError(Loss.SHARED, _shared_text(self._path, now))
        if now.st_size < self._main.st_size:
            raise JournalLostError(
                Loss.CUT,
                f"journal {self._path} was cut from {self._main.st_size} to {now.st_size} bytes by another program; "
                "stop the gateway and restore the last backup",
            )
        self._main = now

    def _check_side(self, suffix: str) -> None:
        path, now, before = self._side(suffix), _stat(self._side(suffix)), self._sides[suffix]
        if before is None:
            self._sides[suffix] = now
        elif now is None:
            raise JournalLostError(
                Loss.SIDE_MISSING, f"{path}, part of the open journal, was deleted; the gateway is restarted without it"
            )
        elif not os.path.samestat(now, before):
            raise JournalLostError(
                Loss.REPLACED, f"{path}, part of the open journal, was replaced by another file; remove that file"
            )
        elif suffix == "-shm" or now.st_size >= before.st_size or self._is_log_moved():
            self._sides[suffix] = now

    def _is_log_moved(self) -> bool:
        """Whether a log that has become shorter was emptied by SQLite, its own or another program's: then nothing of it
        is missing. False = another reader keeps that from being known now.

        Raises: JournalLostError when a part of it cannot be read.
        """
        try:
            busy, in_log, moved = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            raise JournalLostError(
                Loss.CUT,
                f"{self._side('-wal')}, part of the open journal, was cut by another program: {error}; stop the "
                "gateway and restore the last backup",
            ) from error
        return not busy and in_log == moved

    def _side(self, suffix: str) -> Path:
        return self._real.with_name(self._real.name + suffix)


def move_log_into_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Write everything that only the write-ahead log holds into the journal file itself.

    Raises: JournalError when a part of it could not be written.
    """
    try:
        busy, in_log, moved = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    except sqlite3.Error as error:
        raise JournalError(f"journal {path}: its write-ahead log could not be moved into it: {error}") from error
    if busy or in_log != moved:
        raise JournalError(f"journal {path}: {in_log - moved} pages of its write-ahead log wait for another reader")


def _check_new(path: Path, what: str) -> None:
    """Raises: JournalError when a journal of this name was there before."""
    real = real_journal_path(path)
    rescued, kept = saved_copies(real), kept_journals(real)
    archives = sorted(real.with_name(real.name + ARCHIVES).glob("*.zip"))
    # SQLite would delete the log of a file that is not there, and the events that only the log holds.
    log = _stat(real.with_name(real.name + "-wal"))
    logs = [real.with_name(real.name + "-wal")] if log is not None and log.st_size else []
    if not (rescued or kept or archives or logs):
        return
    if rescued:
        cure = (
            f"{max(rescued, key=_changed_ns)} is the newest copy that a gateway has saved of it: rename it to "
            f"{real.name} (no {real.name}-wal or {real.name}-shm beside it)"
        )
    else:
        cure = "bring it back, or run `nexus-gateway journal restore FILE` with its last backup"
    found = ", ".join(str(each) for each in (*logs, *rescued, *kept, *archives[:1]))
    more = f" and {len(archives) - 1} more archives" if len(archives) > 1 else ""
    raise JournalError(
        f"journal {real} {what}, and beside it lie {found}{more}: a start without it would know of no order and no "
        f"position; {cure}; to begin a new journal all the same, move these files to another folder"
    )


def _numbered(real: Path, end: str) -> list[Path]:
    """Return the files of the name `<journal><end>`, and of those with a number behind it."""
    pattern = re.compile(re.escape(real.name + end) + r"(-\d+)?")
    try:
        names = sorted(os.listdir(real.parent))
    except OSError:
        return []
    return [real.with_name(name) for name in names if pattern.fullmatch(name)]


def _changed_ns(path: Path) -> int:
    status = _stat(path)
    return 0 if status is None else status.st_mtime_ns


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:  # a name that leads to nothing, or into a folder that is gone
        return None


def _shared_text(path: Path, status: os.stat_result) -> str:
    return (
        f"journal {path} has {status.st_nlink} names (hard links): opened by another of them it would get a second "
        f"write-ahead log, and be destroyed; remove the other names (find them by inode {status.st_ino})"
    )
