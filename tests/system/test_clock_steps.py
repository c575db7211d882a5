"""The wall clock is set while positions are held: what is closed or killed goes on at once, in real processes."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from nexus_gateway.core.engine import ClockStepped
from nexus_gateway.core.journal.recovery import decode_event
from nexus_gateway.core.messages import Kill, KillLevel, Role, Signal, SignalClose, SignalState

from tests.support.commands import command
from tests.support.shifted_clock import ShiftedClock
from tests.support.system import System
from tests.support.system import make_signal as make_one
from tests.support.trading_floor import FakeNexus, make_signal, open_floor

PLATFORMS = {"mt5": {"paper": {"currency": "USD"}}, "nt8": {"paper": {"latency_ms": 50}}}
STEPS = [-3_600, 3_600]


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShiftedClock:
    return ShiftedClock(tmp_path, monkeypatch)


def journaled_steps_s(journal: Path) -> list[int]:
    with closing(sqlite3.connect(journal)) as connection:
        rows = connection.execute("SELECT seq, payload FROM events ORDER BY seq").fetchall()
    events = [decode_event(payload, seq) for seq, payload in rows]
    return [round(event.step_ns / 1e9) for event in events if isinstance(event, ClockStepped)]


def state_of(nexus: FakeNexus, signal: Signal) -> SignalState | None:
    report = nexus.report(signal.signal_id)
    return None if report is None else report.state


@pytest.mark.parametrize("step_s", STEPS)
def test_what_paper_accounts_hold_is_closed_and_flattened_after_a_step(clock: ShiftedClock, step_s: int) -> None:
    with System(PLATFORMS, ("NQ", "ES")) as system:
        nexus = system.connect()
        closed, killed = make_one("closed", list(PLATFORMS)), make_one("killed", list(PLATFORMS), "ES")
        for signal in (closed, killed):
            nexus.send_signal(signal, 0)
            assert system.settled(nexus, signal).state is SignalState.FILLED
        clock.set(step_s)
        nexus.change_signal(SignalClose(signal_id="closed"))
        system.until(lambda: nexus.outcome("closed").state is SignalState.CLOSED)
        words = command("kill", "--level", "flatten", "--timeout", "60", "--json", "--config", system.write_config())
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            system.until(lambda: process.poll() is not None)
            out, err = process.communicate()
        assert process.returncode == 0, out + err
        assert json.loads(out)["answered"]
        system.until(lambda: nexus.outcome("killed").state is SignalState.CLOSED)
        system.stop()
        assert [system.book(name).net(symbol) for name in PLATFORMS for symbol in ("NQ", "ES")] == [0, 0, 0, 0]
        assert journaled_steps_s(system.root / "orders.sqlite") == [step_s]


@pytest.mark.parametrize("step_s", STEPS)
def test_a_flatten_whose_closing_order_is_refused_goes_on_until_it_is_proven(clock: ShiftedClock, step_s: int) -> None:
    with open_floor(("nt8", "fill")) as (floor, (platform,), nexus):
        signal = make_signal("nt8")
        nexus.client.send(signal)
        floor.until(lambda: state_of(nexus, signal) is SignalState.FILLED)
        clock.set(step_s)
        platform.mode, placed = "reject", len(platform.placed)
        desk = floor.nexus("desk", Role.ADMIN)
        floor.until(lambda: desk.client.is_up)
        desk.client.send(Kill(request_id=7, level=KillLevel.FLATTEN, reason="test", by="desk"))
        floor.until(lambda: len(platform.placed) > placed)
        platform.mode = "fill"
        floor.until(lambda: platform.position == 0)
        floor.until(lambda: any(result.done for result in desk.results(7)))
        assert journaled_steps_s(floor.root / "orders.sqlite") == [step_s]


@pytest.mark.parametrize("step_s", STEPS)
def test_a_silent_close_becomes_unknown_and_is_cleared_up_by_snapshots(clock: ShiftedClock, step_s: int) -> None:
    with open_floor(("nt8", "fill")) as (floor, (platform,), nexus):
        signal = make_signal("nt8")
        nexus.client.send(signal)
        floor.until(lambda: state_of(nexus, signal) is SignalState.FILLED)
        clock.set(step_s)
        platform.mode = "silent"
        nexus.client.send(SignalClose(signal_id=signal.signal_id))
        floor.until(lambda: state_of(nexus, signal) is SignalState.UNKNOWN)
        (close,) = [order for order in platform.placed if order.side is not signal.side and order.stop_price is None]
        platform.mode = "work"
        if platform.position:
            platform.fill(close.client_order_id, close.quantity)
        floor.until(lambda: state_of(nexus, signal) is SignalState.CLOSED)
        assert platform.position == 0
