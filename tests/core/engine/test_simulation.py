"""The seeded simulation in small: clean seeds, byte for byte the same again, and planted bugs that it catches."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import fields

import pytest
from nexus_gateway.core.engine.orders import links
from nexus_gateway.core.engine.signals import arrival as signals
from nexus_gateway.core.engine.signals import fanout
from nexus_gateway.core.messages import RejectCode

from tests.simulation.faults import Faults
from tests.simulation.gateway import Plants
from tests.simulation.run import World, run_seed


@pytest.mark.parametrize("first", [1, 101, 201, 301])
def test_invariants_hold_over_seeds(first):
    for seed in range(first, first + 12):
        outcome = run_seed(seed)
        assert outcome.violations == [], f"python -m tests.simulation --seeds 1 --first {seed} --show"


def test_the_storm_is_one():
    """A simulation that never crashes, loses or doubles anything would prove nothing."""
    outcomes = [run_seed(seed) for seed in range(401, 421)]
    seen = {name for outcome in outcomes for name in outcome.counts}
    assert sum(outcome.crashes for outcome in outcomes) > 20
    assert {"unknown", "duplicate_fill", "orphan", "correction", "unknown_resolved_absent", "snapshot_timeout"} <= seen
    assert {"rolls", "carried", "roll_residual", "limit_breached"} <= seen
    happened: Counter[str] = Counter()
    for outcome in outcomes:
        happened.update(outcome.faults)
    kinds = {field.name for field in fields(Faults)} - {"lists_ended_orders", "seen"}
    points = {"crash before the commit", "crash after the commit", "crash between two effects"}
    assert kinds | points == set(happened)


def test_a_seed_reproduces_byte_for_byte():
    assert run_seed(7).digest == run_seed(7).digest
    code = "from tests.simulation.run import run_seed; print(run_seed(7).digest)"
    other = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout.strip()
        for env in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"})
    ]
    assert other == [run_seed(7).digest] * 2


@pytest.mark.parametrize(
    ("bug", "symptom"),
    [
        ("skip_journal", "without a journaled intent"),
        ("resend_timeout", "was sent 2 times"),
        ("forget_executions", "executions"),
        ("reset_counters", "signals traded, limit"),
        ("rebase_equity", "began the day with"),
        ("forget_second_half", "lots opened at the roll"),
    ],
)
def test_planted_bugs_are_caught(bug, symptom):
    for seed in range(1, 60):
        violations = run_seed(seed, Plants(**{bug: True})).violations
        if any(symptom in violation for violation in violations):
            return
    pytest.fail(f"{bug} went unnoticed")


@pytest.mark.parametrize(
    ("place", "name", "wrong", "symptom"),
    [
        (links, "executions_from_ns", lambda turn, route: turn.state.day.started_ns, "counted None"),
        (fanout, "_primary_is_over", lambda turn, record: False, "of a primary that is flat"),
    ],
)
def test_rules_that_are_broken_are_noticed(monkeypatch, place, name, wrong, symptom):
    monkeypatch.setattr(place, name, wrong)
    for seed in range(1, 120):
        if any(symptom in violation for violation in run_seed(seed).violations):
            return
    pytest.fail(f"nothing noticed that {name} is wrong")


def _refused_stops(seeds: range) -> tuple[int, int]:
    refused = orders = 0
    for seed in seeds:
        world = World(seed, faults=Faults())
        orders += world.run().orders
        refused += sum(platform.stops_that_reduced_nothing for platform in world.platforms)
    return refused, orders


def test_no_stop_is_refused_as_reducing_nothing_and_it_would_be_if_entries_were_let_through(monkeypatch):
    refused, orders = _refused_stops(range(1, 9))
    assert refused == 0
    assert orders > 500
    monkeypatch.setattr(signals, "refuse_opposed", lambda *_: (RejectCode.NONE, ""))
    assert _refused_stops(range(1, 9))[0] > 0


def test_the_command_prints_one_summary_line():
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "2", "--first", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stdout.startswith("simulation: 2 seeds from 1, 0 failed [], ")
    assert len(result.stdout.splitlines()) == 1
