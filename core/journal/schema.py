"""The journal's tables and their migration from older versions. The only file with SQL that changes tables.

events       every event that the engine has handled, in order; replaying them rebuilds its state
intents      every order, cancel and replace to be sent, written in the same commit as its event
notes        alerts and risk findings, for people and reports; not needed to rebuild
checkpoints  the engine's whole state after an event, so that a start replays only the events after it
meta         schema version; `rows_since`: the last event that was written before signals became rows
finished, finished_records, finished_executions
             signals that are over and have left the engine's state, by id, written in the same commit as the event
             with which they left: what they were, and all that a recall puts back (`finished/`)

`chain` is a running hash over all payloads: a missing or altered row in the middle is found by `verify`.
"""

from __future__ import annotations

import sqlite3

from ..errors import GatewayError

SCHEMA_VERSION = 3


class JournalError(GatewayError):
    """The journal is damaged, in use, of a newer version, or cannot be written; or the file is no journal."""


_VERSION_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, kind TEXT NOT NULL, payload BLOB NOT NULL, chain BLOB NOT NULL);
CREATE TABLE intents (
    event_seq INTEGER NOT NULL, ordinal INTEGER NOT NULL, kind TEXT NOT NULL, platform TEXT NOT NULL,
    client_order_id TEXT NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (event_seq, ordinal)) WITHOUT ROWID;
CREATE INDEX intents_by_order ON intents (client_order_id);
CREATE TABLE checkpoints (seq INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, state BLOB NOT NULL, digest TEXT NOT NULL);
"""

_VERSION_2 = """
CREATE TABLE notes (
    event_seq INTEGER NOT NULL, ordinal INTEGER NOT NULL, kind TEXT NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (event_seq, ordinal)) WITHOUT ROWID;
"""

_VERSION_3 = """
CREATE TABLE finished (
    signal_id TEXT PRIMARY KEY, event_seq INTEGER NOT NULL, key TEXT NOT NULL, at_ns INTEGER NOT NULL,
    result BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX finished_by_key ON finished (key);
CREATE INDEX finished_by_event ON finished (event_seq);
CREATE TABLE finished_records (
    signal_id TEXT PRIMARY KEY, event_seq INTEGER NOT NULL, layout INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE INDEX finished_records_by_event ON finished_records (event_seq);
CREATE TABLE finished_executions (
    key TEXT PRIMARY KEY, event_seq INTEGER NOT NULL, signal_id TEXT NOT NULL, route TEXT NOT NULL,
    client_order_id TEXT NOT NULL, symbol TEXT NOT NULL, sign INTEGER NOT NULL, quantity TEXT NOT NULL,
    price TEXT NOT NULL, fee TEXT NOT NULL, fee_currency TEXT NOT NULL, ticket TEXT NOT NULL,
    ts_event_ns INTEGER NOT NULL, booked_ns INTEGER NOT NULL, listed INTEGER NOT NULL,
    presumed_busted INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX finished_executions_by_time ON finished_executions (route, ts_event_ns, listed, booked_ns);
CREATE INDEX finished_executions_by_ticket ON finished_executions (route, ticket) WHERE ticket <> '';
CREATE INDEX finished_executions_by_event ON finished_executions (event_seq);
INSERT OR REPLACE INTO meta SELECT 'rows_since', coalesce(max(seq), 0) FROM events;
"""

_STEPS = {1: _VERSION_1, 2: _VERSION_2, 3: _VERSION_3}


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the version of an open file; 0 for an empty one.

    Raises: JournalError when the database is no journal.
    """
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return 0
    if not {"meta", "events"} <= tables:
        raise JournalError(f"this SQLite file is no journal: its tables are {sorted(tables)}; name another file")
    row = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
    if row is None:
        raise JournalError("this journal has no schema version; restore it from a backup")
    try:
        return int(row[0])
    except ValueError as error:
        raise JournalError(f"schema version was {row[0]!r}, which is no number; restore a backup") from error


def migrate(connection: sqlite3.Connection, target: int = SCHEMA_VERSION) -> tuple[int, int]:
    """Bring a file up to `target`, all steps in one transaction. Returns (version before, version after).

    Raises: JournalError when the file is newer than this program.
    """
    before = schema_version(connection)
    if before > SCHEMA_VERSION:
        raise JournalError(
            f"journal schema version was {before}, this program knows {SCHEMA_VERSION}; update the program"
        )
    if before >= target:
        return before, before
    script = "BEGIN IMMEDIATE;" + "".join(_STEPS[step] for step in range(before + 1, target + 1))
    script += f"INSERT OR REPLACE INTO meta VALUES ('schema_version', '{target}');COMMIT;"
    try:
        connection.executescript(script)
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        raise
    return before, target
