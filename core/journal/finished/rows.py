"""Signals that have left the engine's state, as rows: written with the event of their leaving, found by their ids.

One row a signal in `finished`, with what the trade report needs of it; all that a recall needs in `finished_records`;
one row an execution in `finished_executions`. A signal that is recalled keeps its rows until it finishes again and
replaces them: as long as the engine's state has it, the state holds, and not the rows.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeAlias

from msgspec import Struct

from ...engine import FinishedExecution, SignalFinished
from ...engine.state.finished import read_finished
from ..schema import JournalError
from .results import make_result, write_result

Row: TypeAlias = tuple[object, ...]

_COMPRESSION = 1
"""A record is many times the same few keys: the quickest level makes a fifth of it."""
EXECUTION_TERMS = (
    "route, client_order_id, symbol, sign, quantity, price, fee, fee_currency, ticket, ts_event_ns, booked_ns, listed, "
    "presumed_busted"
)
"""Columns of an execution's row that `execution_of_row` takes, in this order."""

_LISTED = "FROM finished_executions WHERE route = ? AND ts_event_ns >= ? AND listed = 1 AND booked_ns > ?"


class FinishedRecord(Struct, frozen=True):
    """All that the state had of a signal: the fields of `SignalRecalled`."""

    signal_id: str
    layout: int
    payload: bytes


class FinishedRows:
    """The rows of one journal file. Rows that are held for the next commit are found as well."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._held: dict[str, SignalFinished] = {}
        self._held_rows: list[tuple[Row, Row, list[Row]]] = []

    def hold(self, event_seq: int, finished: SignalFinished) -> None:
        """Hold the rows of a signal for the commit of event `event_seq`."""
        signal_id, record = finished.signal_id, read_finished(finished.layout, finished.payload).record
        result = write_result(make_result(finished.report, record))
        packed = zlib.compress(finished.payload, _COMPRESSION)
        self._held[signal_id] = finished
        self._held_rows.append(
            (
                (signal_id, event_seq, finished.key, finished.at_ns, result),
                (signal_id, event_seq, finished.layout, packed),
                [_execution_row(event_seq, signal_id, each) for each in finished.executions],
            )
        )

    def write(self) -> None:
        """Write what is held; within the caller's transaction. Raises: sqlite3.Error."""
        for signal, record, executions in self._held_rows:
            self._connection.execute("INSERT OR REPLACE INTO finished VALUES (?,?,?,?,?)", signal)
            self._connection.execute("INSERT OR REPLACE INTO finished_records VALUES (?,?,?,?)", record)
            self._connection.executemany(
                "INSERT OR REPLACE INTO finished_executions VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", executions
            )

    def drop_held(self) -> None:
        """Hold nothing any more: it is on disk."""
        self._held.clear()
        self._held_rows.clear()

    def saved_seq(self, signal_id: str) -> int:
        """Return the number of the event with which a signal has last become rows; 0 = it never has."""
        row = self._one("SELECT event_seq FROM finished WHERE signal_id = ?", signal_id)
        return row[0] if row is not None else 0

    def of_key(self, key: str) -> FinishedRecord | None:
        """Return the signal whose id has this short hash (`signal_key`), which ClOrdIDs hold; None without one."""
        for each in self._held.values():
            if each.key == key:
                return FinishedRecord(each.signal_id, each.layout, each.payload)
        row = self._one(
            "SELECT signal_id, layout, payload FROM finished JOIN finished_records USING (signal_id) WHERE key = ?", key
        )
        return None if row is None else unpack_record(*row)

    def of_signal(self, signal_id: str) -> FinishedRecord | None:
        """Return a signal by its id; None without one."""
        if signal_id in self._held:
            each = self._held[signal_id]
            return FinishedRecord(signal_id, each.layout, each.payload)
        row = self._one("SELECT signal_id, layout, payload FROM finished_records WHERE signal_id = ?", signal_id)
        return None if row is None else unpack_record(*row)

    def execution(self, key: str) -> tuple[str, FinishedExecution] | None:
        """Return the signal's id and the execution with this key (platform|account|ExecID); None without one."""
        for each in self._held.values():
            for row in each.executions:
                if row.key == key:
                    return each.signal_id, row
        found = self._one(f"SELECT signal_id, {EXECUTION_TERMS} FROM finished_executions WHERE key = ?", key)
        return None if found is None else (found[0], execution_of_row(key, found[1:]))

    def signal_of_ticket(self, route: str, ticket: str) -> str:
        """Return the id of the newest signal with an execution on this position ticket; empty without one."""
        for each in reversed(self._held.values()):
            if any((row.route, row.ticket) == (route, ticket) for row in each.executions):
                return each.signal_id
        row = self._one(
            "SELECT signal_id FROM finished_executions WHERE route = ? AND ticket = ? AND ticket <> '' "
            "ORDER BY booked_ns DESC LIMIT 1",
            *(route, ticket),
        )
        return row[0] if row is not None else ""

    def count_listed(self, route: str, from_ns: int, after_ns: int) -> int:
        """Count the executions of an account since `from_ns` (TransactTime) that its snapshots have to list, of those
        that were booked after `after_ns`, engine's time.
        """
        row = self._one(f"SELECT count(*) {_LISTED}", route, from_ns, after_ns)
        return (row[0] if row is not None else 0) + len(self._held_listed(route, from_ns, after_ns))

    def listed(self, route: str, from_ns: int, after_ns: int) -> dict[str, str]:
        """Return the executions that `count_listed` counts: key -> the signal's id."""
        rows = self._all(f"SELECT key, signal_id {_LISTED}", route, from_ns, after_ns)
        return dict(rows) | self._held_listed(route, from_ns, after_ns)

    def newest_executions(self, route: str, since_ns: int, most: int) -> list[FinishedExecution]:
        """Return the newest executions of an account since `since_ns` (TransactTime) that count, the oldest first."""
        rows = self._all(
            f"SELECT key, {EXECUTION_TERMS} FROM finished_executions "
            "WHERE route = ? AND ts_event_ns >= ? AND listed = 1 ORDER BY ts_event_ns DESC LIMIT ?",
            *(route, since_ns, most),
        )
        return [execution_of_row(row[0], row[1:]) for row in reversed(rows)]

    def _held_listed(self, route: str, from_ns: int, after_ns: int) -> dict[str, str]:
        return {
            row.key: each.signal_id
            for each in self._held.values()
            for row in each.executions
            if row.route == route and row.listed and row.ts_event_ns >= from_ns and row.booked_ns > after_ns
        }

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        rows = self._all(sql, *values)
        return rows[0] if rows else None

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"rows of finished signals cannot be read: {error}") from error


def _execution_row(seq: int, signal_id: str, row: FinishedExecution) -> Row:
    return (
        row.key,
        seq,
        signal_id,
        row.route,
        row.client_order_id,
        row.symbol,
        row.sign,
        str(row.quantity),
        str(row.price),
        str(row.fee),
        row.fee_currency,
        row.ticket,
        row.ts_event_ns,
        row.booked_ns,
        int(row.listed),
        int(row.presumed_busted),
    )


def unpack_record(signal_id: str, layout: int, payload: bytes) -> FinishedRecord:
    """Return a row of `finished_records`; `payload` as it is stored there.

    Raises: JournalError when it is damaged.
    """
    try:
        return FinishedRecord(signal_id, layout, zlib.decompress(payload))
    except (zlib.error, TypeError) as error:
        raise JournalError(
            f"the row of finished signal {signal_id} cannot be read: {error}; run `nexus-gateway journal verify` "
            "and restore the last backup"
        ) from error


def execution_of_row(key: str, values: Iterable[Any]) -> FinishedExecution:
    """Return the execution of a row with the columns `EXECUTION_TERMS`.

    Raises: ValueError, TypeError or ArithmeticError when a value is damaged.
    """
    route, order_id, symbol, sign, quantity, price, fee, currency, ticket, ts_ns, booked_ns, listed, presumed = values
    return FinishedExecution(
        key=key,
        route=route,
        client_order_id=order_id,
        symbol=symbol,
        sign=sign,
        quantity=Decimal(quantity),
        price=Decimal(price),
        fee=Decimal(fee),
        fee_currency=currency,
        ticket=ticket,
        ts_event_ns=ts_ns,
        booked_ns=booked_ns,
        listed=bool(listed),
        presumed_busted=bool(presumed),
    )
