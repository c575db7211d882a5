"""`verify` reads each row of finished signals: what is altered or missing is named."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core.engine.state import STATE_LAYOUT
from nexus_gateway.core.journal import verify
from nexus_gateway.core.journal.finished.results import read_result, write_result

from tests.support.finished_desk import FinishedDesk


@pytest.fixture
def desk(tmp_path):
    made = FinishedDesk(tmp_path / "orders.sqlite", "a")
    made.trade("s1")
    made.trade("s2")
    made.finish()
    yield made
    made.journal.close()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE finished_records SET payload = x'00'", "s1: its record cannot be read"),
        ("UPDATE finished_records SET payload = 'text'", "s1: its record cannot be read"),
        (f"UPDATE finished_records SET layout = {STATE_LAYOUT + 1}", f"has layout {STATE_LAYOUT + 1}"),
        ("UPDATE finished_records SET layout = 1", "layout 1 cannot be read"),
        (
            "UPDATE finished_records SET payload = (SELECT payload FROM finished_records WHERE signal_id = 's2')",
            "s1: its record is of signal s2",
        ),
        ("UPDATE finished_records SET event_seq = 99999 WHERE signal_id = 's1'", "s1: its event is 99999"),
        ("DELETE FROM finished_records WHERE signal_id = 's1'", "s1: its record is missing"),
        ("DELETE FROM finished WHERE signal_id = 's1'", "s1: its result is missing"),
        ("UPDATE finished SET result = x'00'", "s1: its result cannot be read"),
        ("UPDATE finished SET key = 'other' WHERE signal_id = 's1'", "s1: its key is other"),
        ("UPDATE finished SET event_seq = 1", "its result is of event 1"),
        ("DELETE FROM finished_executions WHERE key = 'a|acc|x1'", "s1: its execution a|acc|x1 is missing"),
        ("UPDATE finished_executions SET quantity = 'two'", "its execution a|acc|x1 cannot be read"),
        ("UPDATE finished_executions SET quantity = '77'", "a|acc|x1 differs from its record in quantity"),
        ("UPDATE finished_executions SET sign = -sign", "a|acc|x1 differs from its record in sign"),
        ("UPDATE finished_executions SET listed = 0", "a|acc|x1 differs from its record in listed"),
        ("UPDATE finished_executions SET event_seq = 1", "its execution a|acc|x1 is of event 1"),
        (
            "UPDATE finished_executions SET signal_id = 'lost' WHERE key = 'a|acc|x1'",
            "execution a|acc|x1: its finished signal lost is missing",
        ),
    ],
)
def test_an_altered_or_missing_row_is_named(desk, statement, named):
    assert verify(desk.path).is_sound
    desk.journal.connection.execute(statement)
    assert named in "; ".join(verify(desk.path).problems)


def test_a_result_of_another_signal_is_named(desk):
    (data,) = desk.journal.connection.execute("SELECT result FROM finished WHERE signal_id = 's1'").fetchone()
    other = write_result(structs.replace(read_result(data), signal_id="s9"))
    desk.journal.connection.execute("UPDATE finished SET result = ? WHERE signal_id = 's1'", (other,))
    assert verify(desk.path).problems == ["finished signal s1: its result is of signal s9"]
    desk.journal.connection.execute("UPDATE finished SET result = ?", (msgspec.msgpack.encode(["s1"]),))
    assert "its result cannot be read" in verify(desk.path).problems[0]


def test_rows_of_a_signal_that_was_recalled_and_has_finished_again_are_sound(desk):
    desk.signal("s1")
    assert desk.recalled() == ["s1"]
    assert verify(desk.path).is_sound
    desk.give(e.ClockTicked())
    desk.finish()
    assert verify(desk.path).is_sound
