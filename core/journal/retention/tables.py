"""Tables of the journal whose rows belong to an event, and are archived and removed with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

Row: TypeAlias = tuple[Any, ...]

EVENT_COLUMNS: Final = {
    "events": "seq",
    **dict.fromkeys(("intents", "notes", "finished", "finished_records", "finished_executions"), "event_seq"),
}
"""Table -> its column with the number of the event. `checkpoints` is not here: only the newest are kept anyway."""

_WINDOW: Final = 100
"""Events that `read_in_windows` reads at a time. Between two windows no read transaction is open: a long one would keep
the write-ahead log of a gateway that is writing from being emptied."""


def archived_tables(connection: sqlite3.Connection) -> dict[str, str]:
    """Return `EVENT_COLUMNS` of the tables that this file has; one of an older schema lacks some."""
    found = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return {table: column for table, column in EVENT_COLUMNS.items() if table in found}


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the names of a table's columns, in their order in a row."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def read_table(connection: sqlite3.Connection, table: str, first_seq: int, last_seq: int) -> Iterator[Row]:
    """Yield a table's rows of the events `first_seq` to `last_seq`, in the order of writing."""
    event_column = EVENT_COLUMNS[table]
    described = connection.execute(f"PRAGMA table_info({table})").fetchall()
    key = [name for _, name, _, _, _, place in sorted(described, key=lambda row: row[5]) if place]
    order = ", ".join(dict.fromkeys((event_column, *key)))
    query = f"SELECT * FROM {table} WHERE {event_column} BETWEEN ? AND ? ORDER BY {order}"
    for row in connection.execute(query, (first_seq, last_seq)):  # noqa: UP028 # that closes the cursor, after the connection too
        yield row


def read_in_windows(connection: sqlite3.Connection, table: str, first_seq: int, last_seq: int) -> Iterator[Row]:
    """`read_table` for rows that no writer changes meanwhile, without a read transaction that lasts."""
    for start in range(first_seq, last_seq + 1, _WINDOW):
        yield from list(read_table(connection, table, start, min(start + _WINDOW - 1, last_seq)))
