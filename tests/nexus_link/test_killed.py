"""NEXUS and gateway killed with real processes: no signal is lost, none is executed twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nexus_gateway.core.messages import SignalState
from nexus_gateway.nexus_link.interface import NexusGatewayInterface
from nexus_gateway.nexus_link.orders.outbox import Outbox

from tests.support.nexus_children import EXIT_CODE_OF_KILL, MOMENTS, start
from tests.support.patience import patient
from tests.support.scripted_gateway import ScriptedGateway, make_signal, options_of, short_folder, until
from tests.support.shm_processes import linux_only
from tests.support.torture import rounds

pytestmark = linux_only


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.mark.parametrize("moment", MOMENTS)
def test_nexus_killed_at_each_step_neither_loses_nor_repeats(folder, moment):
    gateway = ScriptedGateway(folder, journal=folder / "executed")
    try:
        killed = start("nexus", folder, "a", moment)
        assert killed.wait(patient(60)) == EXIT_CODE_OF_KILL
        killed.communicate()
        outbox = Outbox(folder / "nexus" / "nexus.outbox")  # the lock of the dead is free
        kept = [signal.signal_id for signal, answered in outbox.signals()]
        outbox.close()
        before = dict(gateway.executed)
        nexus = NexusGatewayInterface(options_of(folder))
        told = []
        nexus.set_callbacks(on_outcome=told.append)
        assert nexus.connect(patient(30))
        if moment == "before_keeping":
            # Nothing was promised: `send_signal` had not returned.
            assert (kept, before) == ([], {})
            assert nexus.outcome("a") is None
        else:
            assert kept == ["a"]
            assert before == ({} if moment == "between_keeping_and_sending" else {"a": 1})
            assert nexus.wait_settled("a", patient(30)).state is SignalState.FILLED
            until(lambda: told)
        # It decides the same once more, as a NEXUS does that reads its ticks again.
        assert nexus.send_signal(make_signal("a"), 30).state is SignalState.FILLED
        assert gateway.executed == {"a": 1}
        nexus.close()
    finally:
        gateway.stop()


@rounds(5, 60)
def test_a_gateway_killed_again_and_again_executes_every_signal_once(folder, chance, rounds):
    """The gateway's memory is a file that is written before anything is said, as the journal is."""
    journal = folder / "executed"
    nexus = NexusGatewayInterface(options_of(folder))
    nexus.connect(0)
    sent = []
    process = start("gateway", folder, journal)
    try:
        for round_number in range(rounds):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for _ in range(5):
                sent.append(f"s{len(sent)}")
                assert nexus.send_signal(make_signal(sent[-1]), chance.choice((0, 0.02))).state in (
                    SignalState.FILLED,
                    SignalState.UNKNOWN,
                )
            until(lambda: chance.random() < 0.02, 60)
            if round_number < rounds - 1:
                process.kill()
                process.communicate()
                process = start("gateway", folder, journal)
        for signal_id in sent:
            assert nexus.wait_settled(signal_id, patient(60)).state is SignalState.FILLED
        executed = journal.read_text().split()
        assert sorted(executed) == sorted(sent)
    finally:
        process.kill()
        process.communicate()
        nexus.close()
