"""The signals of one NEXUS that may still need the gateway's word, on disk: a restart neither loses nor repeats one.

A row is written before its signal leaves, and goes when nothing of the signal can change any more. SQLite, because
torn writes, full disks and kills are its trade. The reports are not kept here: the gateway has them, and is asked.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from ...core.errors import GatewayError
from ...core.messages import Signal, SignalCancel, SignalClose, SignalReplace
from ...shm import host

Durability = Literal["power", "process"]
Request = Signal | SignalCancel | SignalReplace | SignalClose
R = TypeVar("R", bound=Request)

_SCHEMA: Final = 1
_BUSY_S: Final = 1.0
"""Longer, and somebody who looks into the file would cost the link its heartbeats."""
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Signal)
_change_decoder: msgspec.msgpack.Decoder[SignalCancel | SignalClose] = msgspec.msgpack.Decoder(
    SignalCancel | SignalClose
)


_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(
    Signal | SignalCancel | SignalReplace | SignalClose
)


class SignalInvalidError(GatewayError):
    """What was given is nothing that the gateway could read. It was neither kept nor sent, and never will be."""


def read_back(request: R) -> R:
    """The request as the gateway will read it, and the next process of this name.

    Constructors do not look at the fields of a message, only whoever decodes it does: an id with a space in it, or one
    that is too long, would be kept, refused over there, and keep the next process from reading its outbox.

    Raises:
        SignalInvalidError: it cannot be read; the text names the field.
    """
    try:
        found = _request_decoder.decode(_encoder.encode(request))
    except (msgspec.MsgspecError, TypeError, ValueError, ArithmeticError) as error:
        name = str(getattr(request, "signal_id", ""))
        raise SignalInvalidError(
            f"{type(request).__name__} {name[:80]!r} was not sent, for nobody could read it: {error}; correct it"
        ) from error
    assert isinstance(found, type(request))
    return found


class OutboxError(GatewayError):
    """The outbox cannot be used or written. The signal it is raised for was not sent and will not be."""


class Outbox:
    """One file, owned by one process at a time; one thread of it uses an object. Mode 0600."""

    def __init__(self, path: Path, durability: Durability = "power") -> None:
        """Open, or make, the file.

        Args:
            durability: "power": a signal survives a power cut from the moment it leaves. "process": it survives the
                death of this process only, and costs no wait for the disk.

        Raises:
            OutboxError: another process has it, it is damaged, or it cannot be written.
        """
        self.path = path
        self._durability = durability
        self._set_durability: Durability | None = None
        self._lock = _take_lock(path)
        try:
            self._database = _open(path)
        except (sqlite3.Error, OSError) as error:
            os.close(self._lock)
            raise OutboxError(
                f"outbox {path} cannot be opened: {error}; free the disk, or move the file away after comparing the "
                "platforms' orders with your own records"
            ) from error
        except OutboxError:
            os.close(self._lock)
            raise

    def add(self, signal: Signal) -> None:
        """Keep a signal that is about to leave. It is on disk when this returns; a second time changes nothing.

        Raises:
            OutboxError: it could not be written.
        """
        row = (signal.signal_id, _encoder.encode(signal))
        self._write(self._durability, "INSERT OR IGNORE INTO signals (signal_id, signal) VALUES (?, ?)", row)

    def mark_answered(self, signal_id: str) -> None:
        """From now on it is asked for, and never sent again. Not synced: if lost, the gateway answers it once more."""
        self._write("process", "UPDATE signals SET answered = 1 WHERE signal_id = ?", (signal_id,))

    def remove(self, signal_id: str) -> None:
        """Nothing of it can change any more. Not synced, as `mark_answered`."""
        self._write("process", "DELETE FROM signals WHERE signal_id = ?", (signal_id,))

    def signals(self) -> Iterator[tuple[Signal, bool]]:
        """All signals kept, oldest first, and whether the gateway has ever answered.

        Raises:
            OutboxError: a row is damaged, or of another release.
        """
        for signal_id, data, answered in self._database.execute(
            "SELECT signal_id, signal, answered FROM signals ORDER BY number"
        ).fetchall():
            try:
                yield _decoder.decode(data), bool(answered)
            except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:
                raise OutboxError(
                    f"outbox {self.path}: signal {signal_id!r} cannot be read ({error}); look it up in the gateway's "
                    "reports, then move the file away"
                ) from error

    def add_change(self, change: SignalCancel | SignalClose) -> int:
        """Keep a change of a signal that is about to leave; returns its number. On disk when this returns.

        Raises:
            OutboxError: it could not be written.
        """
        self._write(self._durability, "INSERT INTO changes (change) VALUES (?)", (_encoder.encode(change),))
        (number,) = self._database.execute("SELECT max(number) FROM changes").fetchone()
        return int(number)

    def remove_change(self, number: int) -> None:
        """The gateway has it. Not synced: if lost, it is said once more, which is harmless."""
        self._write("process", "DELETE FROM changes WHERE number = ?", (number,))

    def changes(self) -> list[tuple[int, SignalCancel | SignalClose]]:
        """All changes kept, oldest first, with their numbers.

        Raises:
            OutboxError: a row is damaged, or of another release.
        """
        rows = self._database.execute("SELECT number, change FROM changes ORDER BY number").fetchall()
        try:
            return [(number, _change_decoder.decode(data)) for number, data in rows]
        except (msgspec.MsgspecError, ValueError) as error:
            raise OutboxError(
                f"outbox {self.path}: a cancel or close cannot be read ({error}); look at what is open "
                "in the gateway, then move the file away"
            ) from error

    def close(self) -> None:
        """Give the file back; what is in it stays."""
        self._database.close()
        os.close(self._lock)

    def _write(self, durability: Durability, statement: str, values: tuple[object, ...]) -> None:
        try:
            if durability != self._set_durability:
                self._database.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
                self._set_durability = durability
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise OutboxError(f"outbox {self.path} cannot be written: {error}; free the disk") from error


def _take_lock(path: Path) -> int:
    # A file of its own: SQLite locks ranges of the database file itself.
    lock_path = path.with_name(path.name + ".lock")
    try:
        host.make_private_folder(path.parent)
        descriptor = host.open_private(lock_path, create=True)
    except OSError as error:
        raise OutboxError(f"outbox folder {path.parent} cannot be used: {error}; name another one") from error
    if not host.try_lock(descriptor):
        owner = os.read(descriptor, 32).decode("ascii", "replace")
        os.close(descriptor)
        raise OutboxError(
            f"outbox {path} is in use by process {owner or '(unknown)'}; two processes of one name would take each "
            "other's link: stop the other one, or give this one a name of its own"
        )
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def _open(path: Path) -> sqlite3.Connection:
    os.close(host.open_private(path, create=True))  # SQLite gives its other files the mode of this one
    database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _SCHEMA):
            raise OutboxError(f"outbox {path} has version {version}, this release reads {_SCHEMA}; use the newer one")
        # `number` keeps the order: what was signalled first is sent first.
        database.execute(
            "CREATE TABLE IF NOT EXISTS signals (number INTEGER PRIMARY KEY, signal_id TEXT NOT NULL UNIQUE, "
            "signal BLOB NOT NULL, answered INTEGER NOT NULL DEFAULT 0)"
        )
        database.execute("CREATE TABLE IF NOT EXISTS changes (number INTEGER PRIMARY KEY, change BLOB NOT NULL)")
        database.execute(f"PRAGMA user_version = {_SCHEMA}")
    except BaseException:
        database.close()
        raise
    return database
