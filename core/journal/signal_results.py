"""The result of every signal of a journal, without replaying it: from the rows of finished signals, and from the state.

Rows are written when a signal leaves the engine's state; what is still in the state is read from it, after the events
behind the newest checkpoint. Events that were written before there were rows are replayed.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec import structs

from ..engine import Engine, EngineSettings, TellNexus
from ..errors import ConfigError
from ..messages import Report
from ..risk import Limits
from .finished.results import SignalResult, make_result, read_result
from .recovery import decode_event, rebuild
from .retention.history import read_rows
from .retention.tables import archived_tables
from .schema import JournalError
from .store import open_database


def read_results(journal: Path, limits: Limits) -> dict[str, SignalResult]:
    """Return signal id -> its result as of the journal's last event; also while a gateway uses the journal.

    Raises:
        ConfigError: the file cannot be read.
        JournalError: the journal, or an archive of it, is damaged.
    """
    with closing(open_database(journal, read_only=True)) as connection:
        try:
            connection.execute("BEGIN")  # all of it as of one moment: a gateway may be moving rows to an archive
            return _results(connection, limits)
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"journal {journal} cannot be read: {error}; run: nexus-gateway journal verify"
            ) from error


def _results(connection: sqlite3.Connection, limits: Limits) -> dict[str, SignalResult]:
    if "finished" not in archived_tables(connection):
        return replay_all(connection, limits)
    engine = rebuild(connection, EngineSettings(), limits).engine
    if engine.state.settings.finished_after_ms is None:
        return replay_all(connection, limits)
    since = int(connection.execute("SELECT value FROM meta WHERE name = 'rows_since'").fetchone()[0])
    found = replay_all(connection, limits, since) if since else {}
    for row in read_rows(connection, "finished"):  # a signal that was recalled has a newer row behind the older one
        found[row["signal_id"]] = _result_of(row["signal_id"], row["result"])
    for signal_id, record in engine.state.signals.items():
        report = structs.replace(engine.report(signal_id), changed_ns=record.changed_ns)
        found[signal_id] = make_result(report, record)
    return found


def _result_of(signal_id: str, data: bytes) -> SignalResult:
    try:
        return read_result(data)
    except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:
        raise JournalError(
            f"the result of signal {signal_id} cannot be read: {error}; run `nexus-gateway journal verify` and restore "
            "the last backup"
        ) from error


def replay_all(connection: sqlite3.Connection, limits: Limits, until_seq: int | None = None) -> dict[str, SignalResult]:
    """Replay the events, up to `until_seq`, and return the result in the last report of each signal."""
    engine = Engine(EngineSettings(), limits)  # the first event holds the journaled ones, which replace these
    found: dict[str, SignalResult] = {}
    for row in read_rows(connection, "events"):
        if until_seq is not None and row["seq"] > until_seq:
            break
        event = decode_event(row["payload"], row["seq"])
        for effect in (*engine.handle(event, row["at_ns"]), *engine.pop_reports()):
            message = effect.message if isinstance(effect, TellNexus) else None
            if isinstance(message, Report) and not message.duplicate:
                found[message.signal_id] = make_result(message, engine.state.signals.get(message.signal_id))
    return found
