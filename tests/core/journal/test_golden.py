"""A journal of every released state layout opens with today's program, and holds the facts that its writer knew."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
from pathlib import Path

import msgspec
import pytest
from nexus_gateway.core.config import GatewayConfig, OrdersConfig
from nexus_gateway.core.engine import Engine
from nexus_gateway.core.engine.state import STATE_LAYOUT, EngineState
from nexus_gateway.core.engine.state.layouts import CONVERTERS, find_difference
from nexus_gateway.core.gateway.journaled_engine import JournaledEngine, engine_settings
from nexus_gateway.core.journal import Rebuilt, rebuild, verify
from nexus_gateway.core.logs import process_log

from tests.golden.journal import FACTS, FOLDER, JOURNAL, write
from tests.golden.journal_facts import read_facts

GOLDEN = sorted(path for path in FOLDER.iterdir() if path.is_dir())
by_layout = pytest.mark.parametrize("folder", GOLDEN, ids=lambda path: path.name)


def expected(folder: Path) -> dict:
    return json.loads((folder / FACTS).read_text(encoding="utf-8"))


def copied(folder: Path, tmp_path: Path) -> Path:
    """The golden file itself is never opened for writing."""
    return Path(shutil.copyfile(folder / JOURNAL, tmp_path / JOURNAL))


def rebuilt(path: Path, use_checkpoint: bool = True) -> Rebuilt:
    config = GatewayConfig()
    connection = sqlite3.connect(path)
    try:
        return rebuild(connection, engine_settings(config), config.limits, use_checkpoint=use_checkpoint)
    finally:
        connection.close()


NOT_SAVED_BEFORE = {
    6: {"reported", "reported_ns", "reported_net", "avg_price"},
    7: {"booked_ns", "last_news_ns", "messages", "traded", "traded_usd", "unpriced_executions"},
}
"""Layout -> fields that a checkpoint of an earlier one does not hold, and that its events tell: what platforms last
reported of their positions, of which a converted state has none until the next snapshot; when an execution was booked,
for which a converted state has the platform's stamp; what was sent, and what was traded in USD today, which it has at
the next rates."""


DECIDES_OTHERWISE_SINCE = 7
"""Layout from which on stops grow by a replace and closing orders have other pauses. What an earlier release has sent
was sent: its replay differs, and comes to the same facts."""


LEFT_BY_OTHER_DECISIONS = {"retry_ns", "look_again_ns", "unprotected_ns", "revision", "most_qty"}
"""What the decisions on the way leave behind although the orders are the same: pauses, gaps, numbers."""


def facts_of(engine: Engine, layout: int) -> dict:
    """The facts; without how often a signal has changed where other decisions were made on the way."""
    facts = read_facts(engine)
    if layout < DECIDES_OTHERWISE_SINCE:
        for signal in facts["signals"].values():
            del signal["revision"]
    return facts


def told_facts(told: dict) -> dict:
    if told["layout"] < DECIDES_OTHERWISE_SINCE:
        for signal in told["facts"]["signals"].values():
            signal.pop("revision", None)
    return told["facts"]


def comparable(made: Rebuilt, layout: int) -> object:
    """The state as plain builtins. A text that has been reworded since is no difference."""
    ignored = {"text"} | (set() if layout >= DECIDES_OTHERWISE_SINCE else LEFT_BY_OTHER_DECISIONS)
    ignored = ignored.union(*(fields for since, fields in NOT_SAVED_BEFORE.items() if layout < since))

    def strip(value: object) -> object:
        if isinstance(value, dict):
            return {key: strip(each) for key, each in value.items() if key not in ignored}
        return [strip(each) for each in value] if isinstance(value, list) else value

    return strip(msgspec.msgpack.decode(made.engine.save()))


def saved_checkpoint(path: Path) -> bytes:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT state FROM checkpoints").fetchone()[0]
    finally:
        connection.close()


def test_the_layout_of_today_has_a_golden_journal():
    assert f"layout_{STATE_LAYOUT}" in [path.name for path in GOLDEN], "python -m tests.golden.journal"
    assert [expected(folder)["layout"] for folder in GOLDEN] == [int(path.name.split("_")[1]) for path in GOLDEN]


def test_each_former_layout_from_the_first_golden_one_has_a_converter():
    assert sorted(CONVERTERS) == list(range(min(expected(folder)["layout"] for folder in GOLDEN), STATE_LAYOUT))


@by_layout
def test_its_checkpoint_and_the_events_behind_it_give_the_facts(folder, tmp_path):
    told = expected(folder)
    made = rebuilt(copied(folder, tmp_path))
    assert facts_of(made.engine, told["layout"]) == told_facts(told)
    assert (made.from_checkpoint_seq, made.events) == (told["checkpoint_seq"], told["events_behind_checkpoint"])
    assert made.events >= 20
    assert made.passed_over == []
    assert bool(made.differing) is (told["layout"] < DECIDES_OTHERWISE_SINCE)


@by_layout
def test_all_its_events_without_the_checkpoint_give_the_same(folder, tmp_path):
    told = expected(folder)
    path = copied(folder, tmp_path)
    made = rebuilt(path, use_checkpoint=False)
    assert facts_of(made.engine, told["layout"]) == told_facts(told)
    assert (made.from_checkpoint_seq, made.events) == (0, told["events"])
    assert bool(made.differing) is (told["layout"] < DECIDES_OTHERWISE_SINCE)
    # More than the facts: no field of the state is another one by way of the checkpoint.
    by_checkpoint = comparable(rebuilt(path), told["layout"])
    assert find_difference(comparable(made, told["layout"]), by_checkpoint) == ""


@by_layout
def test_a_gateway_starts_on_it(folder, tmp_path, caplog):
    told = expected(folder)
    path = copied(folder, tmp_path)
    config = GatewayConfig(orders=OrdersConfig(journal=str(path)))
    with caplog.at_level(logging.WARNING):
        journaled = JournaledEngine.open(config, process_log("gateway"))
    try:
        assert facts_of(journaled.engine, told["layout"]) == told_facts(told)
        # An upgrade does not read the history anew: its checkpoint is converted.
        assert journaled._schedule.events == told["events_behind_checkpoint"] < told["events"]
        # What it saves now is of today's layout, and is read before any older one.
        journaled.checkpoint(journaled.engine.state.now_ns, always=True)
    finally:
        journaled.close()
    warned = [record.message for record in caplog.records]
    assert len(warned) == (told["layout"] < DECIDES_OTHERWISE_SINCE)
    assert all(each.startswith("this program would have sent other orders") for each in warned)
    again = rebuilt(path)
    assert (again.from_checkpoint_seq, again.events) == (told["events"], 0)
    assert facts_of(again.engine, told["layout"]) == told_facts(told)


@by_layout
def test_it_is_a_sound_journal(folder, tmp_path):
    told = expected(folder)
    verdict = verify(copied(folder, tmp_path))
    assert (verdict.problems, verdict.events) == ([], told["events"])
    assert [path.name for path in sorted(folder.iterdir())] == [FACTS, JOURNAL]


def test_no_field_of_todays_golden_checkpoint_is_lost_or_filled_in(tmp_path):
    """A field renamed without a new layout would be dropped in silence: its default would stand in for what was."""
    data = saved_checkpoint(copied(FOLDER / f"layout_{STATE_LAYOUT}", tmp_path))
    again = msgspec.msgpack.encode(msgspec.msgpack.decode(data, type=EngineState))
    assert find_difference(msgspec.msgpack.decode(data), msgspec.msgpack.decode(again)) == ""


def test_a_golden_journal_is_made_once_and_the_script_still_makes_one(tmp_path):
    write(tmp_path / "new")
    told = expected(tmp_path / "new")
    assert told["layout"] == STATE_LAYOUT
    assert read_facts(rebuilt(tmp_path / "new" / JOURNAL).engine) == told["facts"]
    with pytest.raises(FileExistsError):
        write(tmp_path / "new")
