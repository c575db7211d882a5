"""The floor of the order path: its four ZeroMQ hops and one commit, in plain Python, with nothing else in between."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import zmq

from benchmarks import machine
from benchmarks.order_rig import expect

ROW_BYTES = 1_600
"""Bytes of one signal with its order in the journal."""
MESSAGE_BYTES = 500


def _relay(root: str) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as nexus, context.socket(zmq.ROUTER) as platform:
        nexus.bind(f"ipc://{root}/bare-nexus")
        platform.bind(f"ipc://{root}/bare-platform")
        database = sqlite3.connect(f"{root}/bare.sqlite", isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, content BLOB)")
        poller = zmq.Poller()
        poller.register(nexus, zmq.POLLIN)
        poller.register(platform, zmq.POLLIN)
        to_nexus, to_platform = b"", platform.recv_multipart()[0]
        while True:
            for socket, _ in poller.poll():
                if socket is nexus:
                    to_nexus, content = nexus.recv_multipart()
                    if not content:
                        platform.send_multipart([to_platform, b""])
                        return
                    database.execute("INSERT INTO rows (content) VALUES (?)", (bytes(ROW_BYTES),))
                    platform.send_multipart([to_platform, content])
                else:
                    nexus.send_multipart([to_nexus, platform.recv_multipart()[1]])


def _echo(root: str) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(f"ipc://{root}/bare-platform")
        socket.send(b"here")
        while content := socket.recv():
            socket.send(content)


def measure_bare(root: Path, count: int) -> list[int]:
    """ns from NEXUS to platform and back by way of a relay that commits once."""
    started = [machine.context().Process(target=each, args=(str(root),), daemon=True) for each in (_relay, _echo)]
    for process in started:
        process.start()
    samples_ns = []
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(f"ipc://{root}/bare-nexus")
        for number in range(count):
            content = number.to_bytes(4, "little") + bytes(MESSAGE_BYTES)
            before_ns = time.perf_counter_ns()
            socket.send(content)
            answer = socket.recv()
            samples_ns.append(time.perf_counter_ns() - before_ns)
            expect(answer, content)
        socket.send(b"")
        for process in started:
            process.join(10)
    with sqlite3.connect(root / "bare.sqlite") as database:
        expect(database.execute("SELECT count(*) FROM rows").fetchone()[0], count)
    return samples_ns
