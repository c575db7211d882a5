"""Writes the journal: one commit per turn of the gateway, however many events the turn had.

journal.append(event, now_ns, effects)   ...once per event of the turn
journal.commit()                         ...then the effects may be carried out
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from ...shm import host
from ..engine import Alert, Effect, Event, RiskChecked, SendToPlatform, SignalFinished
from ..messages import Flatten, SnapshotRequest
from .files import JournalFiles, check_before_opening, lock_path, move_log_into_journal, real_journal_path
from .finished.rows import FinishedRows
from .room import JournalRoom
from .schema import JournalError, migrate

Durability = Literal["power", "process"]

_encoder = msgspec.msgpack.Encoder()
_WAL_BYTES = 32 << 20
"""The write-ahead log is cut to this size when it was emptied; else it keeps the size of its largest transaction."""
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
"""A full disk is the second one where the file of the write-ahead log's index should grow."""
BUSY_MS = 100
"""How long a turn of the gateway waits for a lock that another process has on the journal: far below `mute_after_ms`,
or its peers would take it for dead."""
_WRITE_LOCK_BYTE = 120
"""Of the `-shm` file: the lock of the one writer (WAL_WRITE_LOCK of SQLite's file format)."""
GENESIS = b"\x00" * 8


def chain_hash(previous: bytes, at_ns: int, payload: bytes) -> bytes:
    """Return the running hash after one more event: 8 bytes."""
    return hashlib.blake2b(previous + at_ns.to_bytes(8, "little") + payload, digest_size=8).digest()


def encode_event(event: Event) -> bytes:
    """Encode an event as it is stored in the journal."""
    return _encoder.encode(event)


class JournalBusyError(JournalError):
    """Another process holds a lock on the journal's files; it goes when that process ends."""


class Journal:
    """The only writer of a journal file; owned by one thread of the gateway process.

    `last_seq`, `last_payload_bytes`: number and size of the newest event. `path`: as configured; `real_path`: the file
    to which its links led when it was opened.

    `durability` "power": a commit is on disk before it returns (synchronous=FULL), so that no order that has left is
    lost in a power failure. "process": a commit survives the death of the process, not of the machine.
    """

    def __init__(self, path: Path, durability: Durability = "power", room: JournalRoom | None = None) -> None:
        """Open or create the file, migrating an older one. `room`: of its disk; None = without a reserve and limits.

        Raises: JournalError when the file is damaged, foreign, newer, or in use by another gateway.
        """
        self.path = path
        self.real_path = real_journal_path(path)
        self.room = JournalRoom(path) if room is None else room
        self._lock = _acquire_lock(path)
        try:
            check_before_opening(path)
            host.make_private_file(self.real_path)
            self._connection = open_database(self.real_path)
        except OSError as error:
            self._lock.close()
            raise _not_created(path, error) from error
        except BaseException:
            self._lock.close()
            raise
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
            self._connection.execute("PRAGMA wal_autocheckpoint = 4000")
            self._connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
            self.migrated_from, _ = migrate(self._connection)
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            last = self._connection.execute("SELECT seq, chain FROM events ORDER BY seq DESC LIMIT 1").fetchone()
            self._files = JournalFiles(path, self._connection)
        except sqlite3.DatabaseError as error:
            self._release()
            raise _explain(path, error) from error
        except OSError as error:
            self._release()
            raise JournalError(f"journal {path}: {error}; it was removed while it was opened, start again") from error
        except JournalError:
            self._release()
            raise
        self.last_seq: int = last[0] if last is not None else 0
        self._chain: bytes = last[1] if last is not None else GENESIS
        self.last_payload_bytes = 0
        self._events: list[tuple[int, int, str, bytes, bytes]] = []
        self._intents: list[tuple[int, int, str, str, str, bytes]] = []
        self._notes: list[tuple[int, int, str, bytes]] = []
        self.finished = FinishedRows(self._connection)

    def append(self, event: Event, now_ns: int, effects: Iterable[Effect] = ()) -> int:
        """Hold an event, its intents and its notes for the next commit. Returns the event's number."""
        self.last_seq += 1
        seq = self.last_seq
        payload = _encoder.encode(event)
        self.last_payload_bytes = len(payload)
        self._chain = chain_hash(self._chain, now_ns, payload)
        self._events.append((seq, now_ns, str(event.__struct_config__.tag), payload, self._chain))
        for ordinal, effect in enumerate(effects):
            if isinstance(effect, SendToPlatform):
                message = effect.message
                if isinstance(message, SnapshotRequest):
                    continue  # it asks only, and is sent again after a restart
                kind = str(message.__struct_config__.tag)
                name = "" if isinstance(message, Flatten) else message.client_order_id
                self._intents.append((seq, ordinal, kind, message.platform, name, _encoder.encode(message)))
            elif isinstance(effect, RiskChecked | Alert):
                self._notes.append((seq, ordinal, str(effect.__struct_config__.tag), _encoder.encode(effect)))
            elif isinstance(effect, SignalFinished):
                self.finished.hold(seq, effect)
        return seq

    def commit(self) -> None:
        """Put everything held on disk in one transaction; does nothing when nothing is held.

        Raises: JournalError when the disk refuses (full, gone), or the file is not the one that was opened. The events
        are still held, and none of their effects may be carried out.
        """
        if not self._events:
            return
        self.check_files()
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO events VALUES (?,?,?,?,?)", self._events)
            if self._intents:
                connection.executemany("INSERT INTO intents VALUES (?,?,?,?,?,?)", self._intents)
            if self._notes:
                connection.executemany("INSERT INTO notes VALUES (?,?,?,?)", self._notes)
            self.finished.write()
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            is_helped = _is_short_of_files(error) and host.descriptor_reserve.release()
            if is_helped or (error.sqlite_errorcode & 0xFF in _NO_ROOM and self.room.release_reserve()):
                self.commit()
                return
            raise _explain(self.path, error) from error
        self._events.clear()
        self._intents.clear()
        self._notes.clear()
        self.finished.drop_held()

    def keep_finished(self, event_seq: int, finished: SignalFinished) -> None:
        """Write the rows of a signal at once; a replay has found that event `event_seq` should have written them.

        Raises: JournalError when events are held uncommitted, or the disk refuses.
        """
        if self._events:
            raise JournalError("rows of a replay with uncommitted events; commit first")
        self.check_files()
        self.finished.hold(event_seq, finished)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self.finished.write()
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise _explain(self.path, error) from error
        finally:
            self.finished.drop_held()

    def checkpoint(self, state: bytes, now_ns: int, keep: int = 3, *, seq: int | None = None) -> None:
        """Save the engine's state after the last committed event, so that a start replays only the events after it.

        `seq`: save that after an earlier event, inside a replay. The newest `keep` checkpoints stay, and this one:
        newer ones may be there that this program cannot read.

        Raises: JournalError when events are held uncommitted, or the disk refuses.
        """
        if self._events:
            raise JournalError("checkpoint with uncommitted events; commit first")
        self.room.check_checkpoint()
        seq = self.last_seq if seq is None else seq
        digest = hashlib.blake2b(state, digest_size=16).hexdigest()
        try:
            self._connection.execute(
                "INSERT OR REPLACE INTO checkpoints VALUES (?,?,?,?)", (seq, now_ns, state, digest)
            )
            self._connection.execute(
                "DELETE FROM checkpoints WHERE seq != ? "
                "AND seq NOT IN (SELECT seq FROM checkpoints ORDER BY seq DESC LIMIT ?)",
                (seq, keep),
            )
        except sqlite3.Error as error:
            raise _explain(self.path, error) from error

    def check_files(self) -> None:
        """Compare the journal's names with its open files; call it several times a second. Takes some 10 us.

        A lock file that was deleted is made and locked again.

        Raises: JournalLostError when they were deleted, renamed, replaced, cut, or got a second name; JournalError when
        another gateway has taken the lock.
        """
        self._files.check()
        if self._files.is_lock_lost():
            lock = _acquire_lock(self.path)
            self._lock.close()
            self._lock = lock
            self._files.note_lock()

    def move_log_into_file(self) -> None:
        """Write what only the write-ahead log holds into the journal file.

        Raises: JournalError when a part of it could not be written.
        """
        move_log_into_journal(self._connection, self.path)

    @property
    def connection(self) -> sqlite3.Connection:
        """For `recovery` and `archive`, which read this file while it is open here."""
        return self._connection

    def close(self) -> None:
        """Commit what is held and release the file."""
        try:
            self.commit()
        finally:
            self._release()

    def _release(self) -> None:
        self._connection.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _acquire_lock(path: Path) -> sqlite3.Connection:
    """Keep other gateways off this journal by an exclusive transaction on a lock file beside it.

    A file of its own, since a lock on the journal would keep readers out as well. The operating system releases it when
    the process dies.
    """
    try:
        try:
            return _lock(path)
        except (sqlite3.OperationalError, OSError) as error:
            if not _is_short_of_files(error) or not host.descriptor_reserve.release():
                raise
            return _lock(path)
    except OSError as error:
        raise _not_created(path, error) from error
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise JournalError(f"journal {path} is in use by another gateway; stop that one first") from error
        raise _explain(path, error) from error


def _is_short_of_files(error: sqlite3.Error | OSError) -> bool:
    # SQLite has one code for all that keeps a file from being opened.
    if isinstance(error, sqlite3.Error):
        return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CANTOPEN
    return host.is_want_of_resources(error)


def _not_created(path: Path, error: OSError) -> JournalError:
    return JournalError(f"journal {path} cannot be created: {error}; correct orders.journal or its folder")


def _lock(path: Path) -> sqlite3.Connection:
    host.make_private_file(lock_path(path))
    lock = sqlite3.connect(lock_path(path), isolation_level=None, timeout=0)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error:
        lock.close()
        raise
    return lock


def open_database(path: Path, read_only: bool = False) -> sqlite3.Connection:
    """Open a journal file; transactions are explicit.

    Raises: JournalError when the file cannot be opened.
    """
    try:
        if read_only:
            return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5)
        return sqlite3.connect(path, isolation_level=None, timeout=5)
    except sqlite3.Error as error:
        raise _explain(path, error) from error


def _explain(path: Path, error: sqlite3.Error) -> JournalError:
    if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalBusyError(f"journal {path}: {error}: {_describe_holder(path)}")
    return JournalError(
        f"journal {path}: {error}; if it is damaged, run `nexus-gateway journal verify` and restore the last backup; "
        "if the disk is full, make room"
    )


def _describe_holder(path: Path) -> str:
    real = real_journal_path(path)
    index = real.with_name(real.name + "-shm")
    pids = host.find_lock_holders(index, _WRITE_LOCK_BYTE)
    who = f" with pid {' and '.join(map(str, pids))}" if pids else ""
    return f"held by another process{who} ({index}); end it, and writing goes on by itself"
