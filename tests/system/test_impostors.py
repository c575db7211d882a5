"""A program takes the gateway's ports after a kill: no process of ours tells it anything or does what it says."""

from __future__ import annotations

import time

import pytest
from nexus_gateway.core.messages import SignalState
from nexus_gateway.core.transport.keys import read_pair
from zmq.utils import z85

from tests.support.impostor import NO_SECURITY, Impostor
from tests.support.patience import patient
from tests.support.ports import free_port
from tests.support.shm_processes import linux_only
from tests.support.system import System, make_signal

PLATFORMS = ("nt8", "sierra")


def take(port: int, answer: bytes) -> Impostor:
    """Take a port as soon as its owner is gone."""
    deadline_s = time.monotonic() + patient(30)
    while True:
        try:
            return Impostor(port, answer)
        except OSError:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)


@linux_only  # only there a path can be too long for socket files
@pytest.mark.parametrize("answer", [b"", NO_SECURITY], ids=["silent", "no security"])
def test_whoever_takes_the_ports_after_a_kill_hears_and_moves_nothing_and_all_comes_back(answer: bytes) -> None:
    ports = free_port(), free_port()
    with System({name: {} for name in PLATFORMS}, ("NQ",), lookalike_window_ms=0, ports=ports) as system:
        nexus = system.connect()
        first = make_signal("first", PLATFORMS)
        nexus.send_signal(first, 0)
        assert system.settled(nexus, first).state is SignalState.FILLED
        orders = {name: system.counters(name)["commands_received"] for name in PLATFORMS}
        keys = system.config.keys_path
        secrets = [read_pair(file.parent).secret for file in keys.glob("*/own.key_secret")]
        assert len(secrets) == 1 + 2 + len(PLATFORMS)
        system.kill(("gateway",))
        impostors = [take(port, answer) for port in ports]
        try:
            system.until(lambda: system.counters().get("ports_taken") == 2)
            nexus.send_signal(make_signal("meanwhile", PLATFORMS), 0)
            system.until(lambda: all(len(each.heard) >= 10 for each in impostors))
            system.rest(2.0)
            for name in PLATFORMS:
                assert system.counters(name)["order_link_up"] == 0
                assert system.counters(name)["commands_received"] == orders[name]
            assert not nexus.status.is_up
        finally:
            for each in impostors:
                each.stop()
        for heard in (bytes(each.heard) for each in impostors):
            for secret in secrets:
                assert secret not in heard
                assert z85.encode(secret) not in heard
            for word in (b"hello", b"PAPER", b"meanwhile", b"nexus", b"NQ"):
                assert word not in heard
        system.until(lambda: system.counters().get("routes_ready") == len(PLATFORMS))
        assert system.counters()["ports_taken"] == 0
        last = make_signal("last", PLATFORMS)
        nexus.send_signal(last, 0)
        assert system.settled(nexus, last).state is SignalState.FILLED
