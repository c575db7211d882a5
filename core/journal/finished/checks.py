"""Checks the rows of finished signals: each can be read, belongs to its signal and event, and none of them is missing.

The rows have no hash of their own, as events have the chain. But one signal is in three tables: its record repeats its
key and all of its executions, so an altered or a missing row shows in the comparison with the others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ...engine import FinishedExecution
from ...engine.state.finished import FinishedSignal, read_finished
from ...errors import GatewayError
from .results import read_result
from .rows import EXECUTION_TERMS, execution_of_row, unpack_record

_SAME: Final = (
    *("route", "client_order_id", "symbol", "sign", "quantity", "price", "fee", "fee_currency", "ticket"),
    *("ts_event_ns", "booked_ns", "presumed_busted"),
)
"""Fields that an execution has in its row as in its signal's record."""
_UNREADABLE: Final = (GatewayError, msgspec.MsgspecError, ValueError, TypeError, ArithmeticError)


def find_damaged_rows(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield what is wrong with the rows that the journal file holds, one sentence each. Those of archives are covered
    by the digests of the archives.
    """
    last_seq = connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
    query = (
        "SELECT r.signal_id, r.event_seq, layout, payload, key, result, f.event_seq FROM finished_records r "
        "LEFT JOIN finished f USING (signal_id) ORDER BY r.signal_id"
    )
    for row in connection.execute(query):
        for what in _signal_problems(connection, row, last_seq):
            yield f"finished signal {row[0]}: {what}"
    for (signal_id,) in connection.execute(
        "SELECT signal_id FROM finished WHERE signal_id NOT IN (SELECT signal_id FROM finished_records)"
    ):
        yield f"finished signal {signal_id}: its record is missing"
    for key, signal_id in connection.execute(
        "SELECT key, signal_id FROM finished_executions WHERE signal_id NOT IN (SELECT signal_id FROM finished_records)"
    ):
        yield f"execution {key}: its finished signal {signal_id} is missing"


def _signal_problems(connection: sqlite3.Connection, row: tuple[Any, ...], last_seq: int) -> Iterator[str]:
    signal_id, seq, layout, payload, key, result, result_seq = row
    if seq > last_seq:
        yield f"its event is {seq}, the last one is {last_seq}"
    if key is None or result is None:
        yield "its result is missing"
    elif result_seq != seq:
        yield f"its result is of event {result_seq}, its record of event {seq}"
    try:
        record = unpack_record(signal_id, layout, payload)
        finished = read_finished(record.layout, record.payload)
    except _UNREADABLE as error:
        yield f"its record cannot be read: {error}"
        return
    found = finished.record.signal.signal_id
    if found != signal_id:
        yield f"its record is of signal {found}"
    if key is not None and finished.record.key != key:
        yield f"its key is {key}, {finished.record.key} in its record"
    if result is not None:
        try:
            named = read_result(result).signal_id
            if named != signal_id:
                yield f"its result is of signal {named}"
        except _UNREADABLE as error:
            yield f"its result cannot be read: {error}"
    yield from _execution_problems(connection, signal_id, seq, finished)


def _execution_problems(
    connection: sqlite3.Connection, signal_id: str, seq: int, finished: FinishedSignal
) -> Iterator[str]:
    rows: dict[str, tuple[Any, ...]] = {
        row[0]: row[1:]
        for row in connection.execute(
            f"SELECT key, event_seq, {EXECUTION_TERMS} FROM finished_executions WHERE signal_id = ?", (signal_id,)
        )
    }
    for key, booked in finished.executions.items():
        row = rows.pop(key, None)
        if row is None:
            # A correction may have given it to another signal, which has finished since.
            later = connection.execute("SELECT event_seq FROM finished_executions WHERE key = ?", (key,)).fetchone()
            if later is None or later[0] < seq:
                yield f"its execution {key} is missing"
            continue
        if row[0] != seq:
            yield f"its execution {key} is of event {row[0]}, its record of event {seq}"
        try:
            execution = execution_of_row(key, row[1:])
        except _UNREADABLE as error:
            yield f"its execution {key} cannot be read: {error or type(error).__name__}"
            continue
        differing = [name for name in _SAME if getattr(execution, name) != getattr(booked, name)]
        if not _is_listed_rightly(execution, finished):
            differing.append("listed")
        if differing:
            yield f"its execution {key} differs from its record in {', '.join(differing)}"
    for key, row in rows.items():
        # One of an earlier end stays when a correction has taken it from the signal.
        if row[0] >= seq:
            yield f"execution {key} of event {row[0]} is not in its record"


def _is_listed_rightly(execution: FinishedExecution, finished: FinishedSignal) -> bool:
    return execution.listed == (execution.key not in finished.unlisted and finished.executions[execution.key].counts)
