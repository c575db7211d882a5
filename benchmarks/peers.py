"""The usual ways to pass 64 bytes between two Python processes, measured as the ring is: peers, for the ratio.

Each uses its own best API for single messages; none is asked for what only a ring does (many readers, no waiting).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zmq

from benchmarks.between_processes import Percentiles
from benchmarks.machine import context, partner

_PAYLOAD = bytes(64)


def _measure(send: Callable[[bytes], Any], receive: Callable[[], Any], rounds: int) -> Percentiles:
    half_ns = np.zeros(rounds)
    for i in range(rounds):
        before_ns = time.perf_counter_ns()
        send(_PAYLOAD)
        echo = receive()
        half_ns[i] = (time.perf_counter_ns() - before_ns) / 2
        if echo != _PAYLOAD:
            raise RuntimeError("the benchmark's own check failed: the echo was another message")
    return Percentiles.of(half_ns)


def _echo(receive: Callable[[], Any], send: Callable[[Any], Any], rounds: int) -> None:
    for _ in range(rounds):
        send(receive())


def _echo_queue(there: Any, back: Any, rounds: int) -> None:
    _echo(there.get, back.put, rounds)


def queue(rounds: int = 20_000) -> Percentiles:
    """`multiprocessing.Queue`, one each way."""
    there, back = context().Queue(), context().Queue()
    with partner(_echo_queue, there, back, rounds):
        result = _measure(there.put, back.get, rounds)
    for end in (there, back):
        end.close()
        end.join_thread()
    return result


def _echo_pipe(connection: Any, rounds: int) -> None:
    _echo(connection.recv_bytes, connection.send_bytes, rounds)


def pipe(rounds: int = 20_000) -> Percentiles:
    """`multiprocessing.Pipe`, bytes."""
    ours, theirs = context().Pipe()
    with partner(_echo_pipe, theirs, rounds):
        result = _measure(ours.send_bytes, ours.recv_bytes, rounds)
    ours.close()
    theirs.close()
    return result


def _echo_zeromq(folder: str, rounds: int) -> None:
    with zmq.Context() as sockets, sockets.socket(zmq.PULL) as there, sockets.socket(zmq.PUSH) as back:
        there.connect(f"ipc://{folder}/there")
        back.connect(f"ipc://{folder}/back")
        _echo(there.recv, back.send, rounds)


def zeromq(rounds: int = 20_000) -> Percentiles:
    """ZeroMQ PUSH/PULL over ipc, one pair each way."""
    with (
        tempfile.TemporaryDirectory() as folder,
        partner(_echo_zeromq, folder, rounds),
        zmq.Context() as sockets,
        sockets.socket(zmq.PUSH) as there,
        sockets.socket(zmq.PULL) as back,
    ):
        there.bind(f"ipc://{folder}/there")
        back.bind(f"ipc://{folder}/back")
        return _measure(there.send, back.recv, rounds)


ALL: dict[str, Callable[[], Percentiles]] = {
    "multiprocessing.Pipe": pipe,
    "ZeroMQ ipc PUSH/PULL": zeromq,
    "multiprocessing.Queue": queue,
}
