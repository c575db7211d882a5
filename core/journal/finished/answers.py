"""Answers to queries about signals that have left the engine's state, from the journal's rows."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from ....shm.durations import NS_PER_MS
from ...engine import AnswerAdmin, Effect, EngineState, route_of
from ...engine.orders.executions import fill_of
from ...engine.state.finished import read_finished
from ...messages import AdminResult, Executions, Query, QueryKind, RejectCode, Report
from .rows import FinishedRows

_MOST_ROWS: Final = 5_000
"""Executions in one answer, as the engine lists them."""


def report_of(rows: FinishedRows, signal_id: str) -> Report | None:
    """Return the last report of a finished signal; None when there is no such signal.

    Raises: JournalError or GatewayError when its row cannot be read.
    """
    record = rows.of_signal(signal_id)
    return None if record is None else read_finished(record.layout, record.payload).report


def complete_answers(rows: FinishedRows, state: EngineState, query: Query, effects: list[Effect]) -> list[Effect]:
    """Return the engine's answers to a query, with what it does not remember any more.

    Raises: JournalError or GatewayError when a row cannot be read.
    """
    made: list[Effect] = []
    for effect in effects:
        message = effect.message if isinstance(effect, AnswerAdmin) else None
        if isinstance(effect, AnswerAdmin) and isinstance(message, AdminResult) and query.what is QueryKind.REPORT:
            report = report_of(rows, query.signal_id)
            made.append(effect if report is None else AnswerAdmin(report, effect.peer))
        elif isinstance(effect, AnswerAdmin) and isinstance(message, Executions):
            made.append(AnswerAdmin(_with_finished(rows, state, message), effect.peer))
        else:
            made.append(effect)
    return made


def answer_without_rows(query: Query, effects: list[Effect], why: str) -> list[Effect]:
    """Return the engine's answers where the rows cannot be read: a list is not complete, a report is not known."""
    made: list[Effect] = []
    for effect in effects:
        message = effect.message if isinstance(effect, AnswerAdmin) else None
        if isinstance(effect, AnswerAdmin) and isinstance(message, Executions):
            made.append(AnswerAdmin(structs.replace(message, complete=False), effect.peer))
        elif isinstance(effect, AnswerAdmin) and isinstance(message, AdminResult) and query.what is QueryKind.REPORT:
            made.append(AnswerAdmin(structs.replace(message, code=RejectCode.NOT_ALLOWED, text=why[:512]), effect.peer))
        else:
            made.append(effect)
    return made


def _with_finished(rows: FinishedRows, state: EngineState, answer: Executions) -> Executions:
    """Put the finished executions of an account's last days before those that the engine remembers."""
    name = route_of(answer.platform, answer.account)
    since_ns = state.now_ns + state.wall_offset_ns - state.settings.retention_ms * NS_PER_MS
    room = max(_MOST_ROWS - len(answer.rows), 0)
    known = [each for each in rows.newest_executions(name, since_ns, room) if each.key not in state.executions]
    return structs.replace(answer, rows=(*(fill_of(each.key, each) for each in known), *answer.rows))
