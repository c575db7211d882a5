"""The paper book on disk, so that the account survives the adapter's process as on a real platform.

A small SQLite file beside the gateway's journal, so that both are kept equally long: an account that had lost what the
journal remembers would be a position mismatch after each reboot. It has one row for each order, execution, position and
reject; only changed rows are written, in one transaction, before anything of it is reported. Rejected: rewriting a
whole file (its cost grows with each order of the day), and a process of its own (one more to supervise). A power cut
may lose the last trades, never the file.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ...core.errors import ConfigError
from ...shm import host
from .book import PaperBook, PaperExecution, PaperFunds, PaperOrder, PaperPosition

_FORMAT: Final = 1
_WAL_BYTES: Final = 1 << 20
"""The write-ahead log is cut to this size when it was emptied."""
_TABLES: Final[dict[str, Any]] = {
    "funds": PaperFunds,
    "orders": PaperOrder,
    "executions": PaperExecution,
    "positions": PaperPosition,
    "refused": str,
}


class PaperStore:
    """One account's file. Used by the adapter's thread."""

    def __init__(self, path: Path) -> None:
        """Open the file; created when missing, readable by this user only.

        Raises:
            ConfigError: it is not a paper account of this release.
        """
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            os.close(host.open_private(path, create=True))
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _FORMAT):
                raise ConfigError(f"paper account {path} has format {version}, must be {_FORMAT}; {_CURE}")
            self._connection.execute(f"PRAGMA user_version = {_FORMAT}")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, kind TEXT, key TEXT, value BLOB, "
                "UNIQUE (kind, key))"
            )
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"paper account {path} cannot be read: {error}; {_CURE}") from error

    def load(self) -> PaperBook | None:
        """Return the account as last saved, None when it is new. Raises ConfigError when it is damaged."""
        read: dict[str, dict[str, Any]] = {kind: {} for kind in _TABLES}
        try:
            for kind, key, value in self._connection.execute("SELECT kind, key, value FROM rows ORDER BY number"):
                read[kind][key] = msgspec.msgpack.decode(value, type=_TABLES[kind])
        except (sqlite3.DatabaseError, msgspec.MsgspecError, KeyError) as error:
            raise ConfigError(f"paper account {self._path} is damaged: {error}; {_CURE}") from error
        if not read["funds"]:
            return None
        book = PaperBook(
            funds=read["funds"][""],
            executions=read["executions"],
            positions=read["positions"],
            refused=read["refused"],
        )
        for order in read["orders"].values():
            book.add_order(order)
        book.changed.clear()
        return book

    def save(self, book: PaperBook) -> None:
        """Write the changed rows in one transaction."""
        if not book.changed:
            return
        connection = self._connection
        connection.execute("BEGIN")
        for kind, key in book.changed:
            row: Struct | str | None = book.funds if kind == "funds" else getattr(book, kind).get(key)
            if row is None:
                connection.execute("DELETE FROM rows WHERE kind = ? AND key = ?", (kind, key))
            else:
                # An update keeps the row's number: rows are read back in the order in which they were added.
                connection.execute(
                    "INSERT INTO rows (kind, key, value) VALUES (?, ?, ?) "
                    "ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value",
                    (kind, key, msgspec.msgpack.encode(row)),
                )
        connection.execute("COMMIT")
        book.changed.clear()

    def close(self) -> None:
        """Close the file; the account stays."""
        self._connection.close()


_CURE: Final = "stop the gateway and remove the file to begin with a new account"
