"""The gateway's time: steps of the wall clock are journaled before what follows them, and move no deadline."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.config import GatewayConfig, OrdersConfig
from nexus_gateway.core.gateway.clock import EngineClock
from nexus_gateway.core.gateway.gateway import Gateway
from nexus_gateway.core.gateway.journaled_engine import JournaledEngine
from nexus_gateway.core.gateway.kill_instructions import KillInstructions
from nexus_gateway.core.journal.recovery import decode_event
from nexus_gateway.core.logs import process_log
from nexus_gateway.shm import host

from tests.shm.test_steps import SECOND, START_NS, Clocks
from tests.simulation.ports import Port, Ports
from tests.simulation.surroundings import make_counters, make_kill_file, make_log
from tests.support.links import adapter_hello

STEPS = [-86_400, -3_600, -60, 60, 3_600, 86_400]
HELLO = adapter_hello("nt8", "SIM1")
ROUTE = "nt8|SIM1"


def test_the_engines_time_follows_the_wall_clock_and_never_runs_back():
    clocks = Clocks()
    clock = EngineClock(clocks, 0)
    assert clock.read() == START_NS
    clocks.wall += 400_000_000
    assert clock.read() == START_NS + 400_000_000
    clocks.wall -= 400_000_000
    assert clock.read() == START_NS + 400_000_000
    clocks.pass_time(SECOND)
    assert (clock.read(), clock.offset_ns) == (START_NS + SECOND, 0)


@pytest.mark.parametrize("step_s", STEPS)
def test_a_step_of_the_wall_clock_is_none_of_the_engines_time(step_s):
    clocks = Clocks()
    clock = EngineClock(clocks, 0)
    clocks.wall += step_s * SECOND
    clocks.pass_time(SECOND)
    assert (clock.read(), clock.offset_ns) == (START_NS + SECOND, step_s * SECOND)
    clocks.wall -= step_s * SECOND
    assert (clock.read(), clock.offset_ns) == (START_NS + SECOND, 0)


def test_a_process_goes_on_from_the_time_of_the_one_before():
    clocks = Clocks()
    behind = EngineClock(clocks, START_NS + 3_600 * SECOND)
    assert (behind.read(), behind.offset_ns) == (START_NS + 3_600 * SECOND, -3_600 * SECOND)
    ahead = EngineClock(clocks, START_NS - 3_600 * SECOND)
    assert (ahead.read(), ahead.offset_ns) == (START_NS, 0)


class Process:
    """A gateway with a journal on disk, clocks of the test, and an adapter that says nothing."""

    def __init__(self, folder: Path, clocks: Clocks) -> None:
        self.config = GatewayConfig(orders=OrdersConfig(journal=str(folder / "orders.sqlite")))
        self.clocks, self.sent = clocks, []
        self.journaled = JournaledEngine.open(self.config, process_log("gateway"))
        self.adapters = Port(lambda peer, body: self.sent.append(body), lambda peer: None)
        nothing: Any = lambda *_: None  # noqa: E731
        stand_ins = SimpleNamespace(inward=lambda message: message, outward=lambda message: message)
        markets: Any = SimpleNamespace(stand_ins=stand_ins, refresh=nothing, currency_context=nothing, context=nothing)
        contracts: Any = SimpleNamespace(step=lambda *_: [], apply=nothing)
        context: Any = SimpleNamespace(log=make_log(), sleep=nothing)
        ports: Any = Ports(self.adapters, Port(nothing, nothing))
        kills: Any = make_kill_file()
        counters: Any = make_counters({})
        self.gateway = Gateway(
            context, clocks, self.journaled, markets, contracts, ports, kills, counters, f"b{id(self)}"
        )
        self.gateway.start()

    @property
    def state(self) -> e.EngineState:
        return self.journaled.engine.state

    def turn(self, seconds: float = 0) -> list:
        """Let time pass, turn once, and return what the adapter was sent."""
        self.clocks.pass_time(int(seconds * SECOND))
        self.sent.clear()
        self.gateway.turn()
        return list(self.sent)

    def events(self) -> list[tuple[int, e.Event]]:
        with closing(sqlite3.connect(self.config.journal_path)) as connection:
            rows = connection.execute("SELECT seq, at_ns, payload FROM events ORDER BY seq").fetchall()
        return [(at_ns, decode_event(payload, seq)) for seq, at_ns, payload in rows]


@pytest.fixture
def process(tmp_path: Path):
    made = Process(tmp_path, Clocks())
    yield made
    made.journaled.close()


@pytest.mark.parametrize("step_s", STEPS)
def test_a_step_is_journaled_before_the_next_event_and_deadlines_go_on(process, step_s):
    process.adapters.up(ROUTE, HELLO)
    assert [type(body) for body in process.turn()] == [m.SnapshotRequest]
    process.clocks.wall += step_s * SECOND
    assert process.turn(4.9) == []  # the request is repeated after 5 s
    assert [type(body) for body in process.turn(0.1)] == [m.SnapshotRequest]
    stepped, ticked = process.events()[-2:]
    assert stepped == (START_NS + 4_900_000_000, e.ClockStepped(step_ns=step_s * SECOND))
    assert ticked == (START_NS + 5 * SECOND, e.ClockTicked())
    assert process.state.wall_offset_ns == step_s * SECOND


def test_what_comes_right_after_a_step_finds_it_journaled(process):
    process.turn(1)
    process.clocks.wall -= 3_600 * SECOND
    process.adapters.up(ROUTE, HELLO)
    process.turn()
    kinds = [type(event) for _, event in process.events()]
    assert kinds[-2:] == [e.ClockStepped, e.LinkUp]


def test_a_sleep_of_the_computer_is_no_step_and_what_fell_due_meanwhile_is_done(process):
    process.adapters.up(ROUTE, HELLO)
    process.turn()
    assert [type(body) for body in process.turn(8 * 3_600)] == [m.SnapshotRequest]
    assert not any(isinstance(event, e.ClockStepped) for _, event in process.events())


@pytest.mark.parametrize(("step_s", "offset_s"), [(-3_600, -3_590), (3_600, 0)])
def test_the_next_process_starts_with_the_clock_as_it_is(tmp_path, step_s, offset_s):
    first = Process(tmp_path, Clocks())
    first.turn(1)
    first.gateway._apply(e.ClockTicked())
    first.gateway.turn()
    first.journaled.close()
    last_ns = first.state.now_ns
    first.clocks.pass_time(10 * SECOND)
    first.clocks.wall += step_s * SECOND
    second = Process(tmp_path, first.clocks)
    second.turn()
    (started,) = [event for _, event in second.events()[-1:] if isinstance(event, e.Started)]
    assert started.wall_offset_ns == offset_s * SECOND == second.state.wall_offset_ns
    assert second.state.now_ns == (last_ns if offset_s else first.clocks.wall)
    second.turn(1)
    assert not any(isinstance(event, e.ClockStepped) for _, event in second.events())
    second.journaled.close()


def test_entries_are_barred_while_the_kill_file_cannot_be_opened_and_no_kill_is_journaled(
    process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    process.gateway._kills = KillInstructions(tmp_path / "kill.json", process_log("gateway"))

    def refuse(*_: object) -> bytes:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    monkeypatch.setattr(host, "read_regular", refuse)
    process.turn(1)
    assert "the kill file cannot be opened" in process.state.entries_barred
    process.turn(1)
    monkeypatch.undo()
    process.turn(1)
    assert process.state.entries_barred == ""
    assert process.state.kill is m.KillLevel.NORMAL
    events = [event for _, event in process.events()]
    assert [bool(event.reason) for event in events if isinstance(event, e.EntriesBarred)] == [True, False]
    assert not any(isinstance(event, e.AdminAsked) for event in events)
