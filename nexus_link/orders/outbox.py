"""The signals and changes of one NEXUS that are not over, on disk: a restart neither loses one nor trades one twice.

A row is written before its signal is sent, and removed when the signal is final. The file is SQLite, which survives
torn writes, full disks and kills. Reports are not kept: the gateway's journal has them, and a query returns them.
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
"""Longest wait of a write while another program uses the file; a longer one would delay the link's heartbeats."""
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Signal)
_change_decoder: msgspec.msgpack.Decoder[SignalCancel | SignalClose] = msgspec.msgpack.Decoder(
    SignalCancel | SignalClose
)


_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(
    Signal | SignalCancel | SignalReplace | SignalClose
)


class SignalInvalidError(GatewayError):
    """A field of the request has a value that the gateway would refuse to decode. It was neither kept nor sent."""


def validate_request(request: R) -> R:
    """Encode and decode a request; returns it as the gateway and the next process of this name will decode it.

    Messages are validated when they are decoded, not when they are constructed. An id with a space in it would be
    written to the outbox, refused by the gateway, and keep the next process from reading its outbox.

    Raises:
        SignalInvalidError: it cannot be decoded; the text names the field.
    """
    try:
        found = _request_decoder.decode(_encoder.encode(request))
    except (msgspec.MsgspecError, TypeError, ValueError, ArithmeticError) as error:
        name = str(getattr(request, "signal_id", ""))
        raise SignalInvalidError(
            f"{type(request).__name__} {name[:80]!r} was not sent, the gateway could not decode it: {error}; correct it"
        ) from error
    assert isinstance(found, type(request))
    return found


class OutboxError(GatewayError):
    """The outbox cannot be opened or written. The request that it is raised for was not sent and never will be."""


class Outbox:
    """One SQLite file (mode 0600) with the signals, cancels and closes that are not over.

    One process at a time has it open, ensured by a lock file; owned by `SignalDesk`, in the link's thread.
    """

    def __init__(self, path: Path, durability: Durability = "power") -> None:
        """Open the file, or create it.

        Args:
            durability: "power": a signal is synced to disk before it is sent, so it survives a power cut. "process":
                it is written without a sync, so it survives a kill of this process only.

        Raises:
            OutboxError: another process has it, it is damaged, or it cannot be written.
        """
        self.path = path
        self._durability = durability
        self._set_durability: Durability | None = None
        self._lock = _acquire_lock(path)
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
        """Keep a signal that is about to be sent; on disk when this returns. A known id changes nothing.

        Raises:
            OutboxError: it could not be written.
        """
        row = (signal.signal_id, _encoder.encode(signal))
        self._write(self._durability, "INSERT OR IGNORE INTO signals (signal_id, signal) VALUES (?, ?)", row)

    def mark_answered(self, signal_id: str) -> None:
        """Mark a signal as answered: the next process queries it and does not send it again.

        Not synced. If a power cut loses the mark, the signal is sent once more, and the gateway answers it as a
        duplicate.

        Raises:
            OutboxError: it could not be written.
        """
        self._write("process", "UPDATE signals SET answered = 1 WHERE signal_id = ?", (signal_id,))

    def remove(self, signal_id: str) -> None:
        """Remove a final signal. Not synced, as in `mark_answered`. Raises OutboxError."""
        self._write("process", "DELETE FROM signals WHERE signal_id = ?", (signal_id,))

    def signals(self) -> Iterator[tuple[Signal, bool]]:
        """All signals, oldest first, each with whether it is marked as answered.

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
        """Keep a change that is about to be sent; on disk when this returns its number.

        Raises:
            OutboxError: it could not be written.
        """
        self._write(self._durability, "INSERT INTO changes (change) VALUES (?)", (_encoder.encode(change),))
        (number,) = self._database.execute("SELECT max(number) FROM changes").fetchone()
        return int(number)

    def remove_change(self, number: int) -> None:
        """Remove an acknowledged change. Not synced: if lost, it is sent once more, which is harmless."""
        self._write("process", "DELETE FROM changes WHERE number = ?", (number,))

    def changes(self) -> list[tuple[int, SignalCancel | SignalClose]]:
        """All changes, oldest first, with their numbers.

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
        """Close the file and release its lock; the rows stay."""
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


def _acquire_lock(path: Path) -> int:
    # A lock file beside it: SQLite locks ranges of the database file itself.
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
        # `number` keeps the order in which the signals were given, which is the order in which they are sent.
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
