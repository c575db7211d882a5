"""A real gateway with few file descriptors, under more connections than it has: it goes on, and stops when told."""

from __future__ import annotations

import multiprocessing
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
from nexus_gateway.core.messages import KillLevel, SignalState

from tests.support.ports import free_port
from tests.support.shm_processes import linux_only
from tests.support.trading_floor import FakeNexus, Floor, make_signal, open_floor

pytestmark = linux_only


def crowd(port: int, said: bytes, stopping: threading.Event, made: object) -> None:
    """Holds up to 300 connections and renews them without end, each with `said` and nothing else."""
    held: list[socket.socket] = []
    while not stopping.is_set():
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
        held.append(one)
        made.value += 1  # type: ignore[attr-defined]  # a shared number
        if len(held) >= 300:
            _, writable, _ = select.select([], held, [], 0.05)
            for each in writable:
                try:
                    each.sendall(said)
                except OSError:
                    pass  # thrown out, or full
            for each in held[:100]:
                each.close()
            del held[:100]


@contextmanager
def strangers(ports: tuple[int, ...], said: bytes) -> Iterator[Callable[[], int]]:
    """Two processes of strangers for each port. Yields the number of their connections so far."""
    context = multiprocessing.get_context("spawn")
    stopping = context.Event()
    counts = [context.Value("q", 0, lock=False) for _ in range(2 * len(ports))]
    crowds = [
        context.Process(target=crowd, args=(ports[number % len(ports)], said, stopping, count), daemon=True)
        for number, count in enumerate(counts)
    ]
    for each in crowds:
        each.start()
    try:
        yield lambda: sum(int(count.value) for count in counts)
    finally:
        stopping.set()
        for each in crowds:
            each.join()


def trades(floor: Floor, nexus: FakeNexus) -> None:
    floor.quote()
    signal = make_signal("nt8")
    nexus.client.send(signal)
    floor.until(lambda: (r := nexus.report(signal.signal_id)) is not None and r.state is SignalState.FILLED)
    assert nexus.client.counts["links"] == 1


@pytest.mark.parametrize(("limit", "said"), [(256, b""), (1_024, b"\xff" * 4_000)], ids=["silent", "garbage"])
def test_strangers_use_up_neither_descriptors_nor_memory_and_trading_and_kill_go_on(limit: int, said: bytes) -> None:
    ports = free_port(), free_port()
    with open_floor(("nt8", "fill"), adapter_port=ports[0], nexus_port=ports[1]) as (floor, (platform,), nexus):
        assert floor.process is not None
        process = psutil.Process(floor.process.pid)
        process.rlimit(psutil.RLIMIT_NOFILE, (limit, limit))
        trades(floor, nexus)
        floor.nexus_endpoint = f"tcp://127.0.0.1:{ports[1]}"
        by_tcp = floor.nexus("by-tcp")
        floor.until(lambda: by_tcp.client.is_up)
        before = process.memory_info().rss
        with strangers(ports, said) as count:
            floor.until(lambda: count() > 500)
            seen = count()
            trades(floor, nexus)
            trades(floor, by_tcp)
            floor.until(lambda: count() > seen + 2_000)
            trades(floor, nexus)
            assert process.num_fds() < 256
            assert floor.counters()["kill_level"] == 0
            # A command of its own process, beside the crowd.
            folder = floor.write_config()
            arguments = ("kill", "--level", "flatten", "--reason", "test", "--timeout", "60", "-c", str(folder))
            command = [sys.executable, "-m", "nexus_gateway.core.cli", *arguments]
            killing = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            floor.until(lambda: killing.poll() is not None, 60)
            said_by_it, _ = killing.communicate()
            assert killing.returncode == 0, said_by_it
            assert sum(fill.side.sign * fill.quantity for fill in platform.fills) == 0, "flat at the platform"
        assert floor.counters()["kill_level"] == KillLevel.FLATTEN
        assert process.memory_info().rss - before < 50 << 20
        assert process.is_running()
        assert floor.process.poll() is None
        log = floor.log()
        assert "kill file cannot be read" not in log
        assert "Too many open files" not in log
        assert all(person.client.counts["links"] == 1 for person in floor.people)
        names = [
            f"{link}_{name}" for link in ("adapters", "nexus") for name in ("strangers_evicted", "handshakes_failed")
        ]
        assert sum(floor.counters()[name] for name in names) > 0
