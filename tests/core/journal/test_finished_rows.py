"""Rows of finished signals on a real disk: written with their event or not at all, found by their ids, complete."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import msgspec
import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.state import STATE_LAYOUT
from nexus_gateway.core.engine.state.finished import CONVERTERS, FIRST_LAYOUT, read_finished
from nexus_gateway.core.errors import GatewayError
from nexus_gateway.core.gateway.journaled_engine import EngineFaultError
from nexus_gateway.core.journal import Journal, JournalError

from tests.support.finished_desk import FinishedDesk


@pytest.fixture
def desk(tmp_path):
    made = FinishedDesk(tmp_path / "orders.sqlite", "a")
    yield made
    made.journal.close()


def on_disk(desk, table):
    with closing(sqlite3.connect(f"file:{desk.path}?mode=ro", uri=True)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def finish_uncommitted(desk):
    desk.now_ns += 70_000_000_000
    desk.journaled.handle(e.ClockTicked(), desk.now_ns)


def test_rows_are_written_with_the_commit_of_their_event_and_found_before_it(desk):
    desk.trade()
    finish_uncommitted(desk)
    tables = ("finished", "finished_records", "finished_executions")
    assert [on_disk(desk, table) for table in tables] == [0, 0, 0]
    rows, key = desk.journal.finished, m.signal_key("s1")
    before = rows.of_key(key), rows.of_signal("s1"), rows.execution("a|acc|x1"), rows.listed("a|acc", 0, 0)
    assert None not in before
    assert before[3] == {"a|acc|x1": "s1", "a|acc|x2": "s1"}
    desk.journaled.commit()
    assert [on_disk(desk, table) for table in tables] == [1, 1, 2]
    assert (rows.of_key(key), rows.of_signal("s1"), rows.execution("a|acc|x1"), rows.listed("a|acc", 0, 0)) == before


def test_rows_of_a_commit_that_the_disk_refuses_are_held_with_their_event(desk):
    desk.trade()
    finish_uncommitted(desk)
    with closing(sqlite3.connect(desk.path, isolation_level=None)) as other:
        desk.journal.connection.execute("PRAGMA busy_timeout = 1")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError):
            desk.journaled.commit()
        assert desk.journal.finished.of_signal("s1") is not None
        other.execute("ROLLBACK")
    desk.journaled.commit()
    assert on_disk(desk, "finished") == 1


def test_a_process_that_dies_before_the_commit_leaves_no_row_and_has_the_signal_again(desk):
    desk.trade()
    finish_uncommitted(desk)
    desk.journal._events.clear()  # what a dead process held is gone
    desk.journal.finished.drop_held()
    desk.restart()
    assert on_disk(desk, "finished") == 0
    assert "s1" in desk.engine.state.signals


def test_a_signal_that_finishes_again_replaces_its_rows(desk):
    fills = desk.trade()
    desk.finish()
    first = desk.journal.finished.saved_seq("s1")
    correction = m.Correction(
        platform="a", account="acc", exec_id=fills[0].exec_id, kind=m.CorrectionKind.BUST, revision=1
    )
    desk.give(e.AdapterSaid(message=correction))
    assert desk.journal.finished.saved_seq("s1") == first, "the rows stay until there are new ones"
    desk.fill(desk.only(), exec_id="x9")
    desk.finish()
    assert desk.journal.finished.saved_seq("s1") > first
    assert desk.journal.finished.listed("a|acc", 0, 0).keys() == {"a|acc|x2", "a|acc|x9"}
    assert on_disk(desk, "finished") == 1


def test_a_start_writes_the_rows_that_the_program_before_has_not_written(desk):
    """Another release may decide otherwise when a signal finishes."""
    desk.trade()
    desk.finish()
    for table in ("finished", "finished_records", "finished_executions"):
        desk.journal.connection.execute(f"DELETE FROM {table}")
    desk.restart()
    assert (on_disk(desk, "finished"), on_disk(desk, "finished_executions")) == (1, 2)
    desk.signal()
    assert desk.recalled() == ["s1"]


def test_a_row_that_cannot_be_read_is_named_with_its_cure(desk):
    desk.trade()
    desk.finish()
    desk.journal.connection.execute("UPDATE finished_records SET payload = x'00'")
    with pytest.raises(JournalError, match=r"finished signal s1 cannot be read.*journal verify"):
        desk.journal.finished.of_signal("s1")
    with pytest.raises(GatewayError, match="cannot be read"):
        read_finished(STATE_LAYOUT, b"\x00")
    with pytest.raises(GatewayError, match=f"layout {STATE_LAYOUT + 1}, this program knows up to {STATE_LAYOUT}"):
        read_finished(STATE_LAYOUT + 1, msgspec.msgpack.encode({}))


def test_each_layout_since_there_were_rows_has_a_converter_to_the_next():
    assert set(CONVERTERS) == set(range(FIRST_LAYOUT, STATE_LAYOUT))


def test_a_row_of_a_former_layout_is_converted_step_by_step(desk):
    desk.trade()
    desk.finish()
    record = desk.journal.finished.of_signal("s1")
    plain = msgspec.msgpack.decode(record.payload)
    plain["record"]["received"] = plain["record"].pop("received_ns")
    older = msgspec.msgpack.encode(plain)

    def rename(row):
        row["record"]["received_ns"] = row["record"].pop("received")
        return row

    steps = {STATE_LAYOUT - 2: lambda row: row, STATE_LAYOUT - 1: rename}
    assert read_finished(STATE_LAYOUT - 2, older, steps) == read_finished(STATE_LAYOUT, record.payload)
    with pytest.raises(GatewayError, match=f"layout {STATE_LAYOUT - 2} cannot be read: KeyError"):
        read_finished(STATE_LAYOUT - 2, older, {})


def test_a_damaged_row_costs_its_message_and_not_the_gateway(desk):
    fills = desk.trade()
    desk.finish()
    desk.journal.connection.execute("UPDATE finished_records SET payload = x'00'")
    before = desk.journal.last_seq
    again = structs.replace(fills[0], quantity=fills[0].quantity + 1)
    with pytest.raises(EngineFaultError, match="rows of finished signals cannot be read"):
        desk.give(e.AdapterSaid(message=again))
    assert desk.journal.last_seq == before
    desk.ask(m.Query(request_id=1, what=m.QueryKind.REPORT, signal_id="s1"))
    assert "finished signal s1 cannot be read" in desk.answers()[0].text
    desk.journal.connection.execute("UPDATE finished_executions SET quantity = 'two'")
    desk.ask(m.Query(request_id=2, what=m.QueryKind.EXECUTIONS))
    assert not desk.answers()[0].complete
    desk.journal.connection.execute("DELETE FROM finished_executions")
    desk.trade("s2")
    assert desk.engine.report("s2").state is m.SignalState.CLOSED


def test_an_older_journal_gets_the_tables_and_its_signals_finish_after_the_start(tmp_path):
    with Journal(tmp_path / "orders.sqlite") as journal:
        for table in ("finished", "finished_records", "finished_executions"):
            journal.connection.execute(f"DROP TABLE {table}")
        journal.connection.execute("UPDATE meta SET value = '2' WHERE name = 'schema_version'")
    desk = FinishedDesk(tmp_path / "orders.sqlite", "a")
    assert desk.journal.migrated_from == 2
    desk.trade()
    desk.finish()
    assert on_disk(desk, "finished") == 1
    desk.journal.close()
