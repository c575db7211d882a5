"""Between two pinned processes: half-round-trip of one word, one-way latency, lossless throughput.

Each measurement is taken between two half-round-trips of one word, because a virtual machine moves the cores: figures
of different rounds can only be compared through it. Each checks its own answer: count, order and sum.
"""

from __future__ import annotations

import mmap
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nexus_gateway.shm import host, layout, run_folder
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.segment import SegmentError
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter, empty_ticks

from benchmarks import kernels
from benchmarks.machine import partner

CAPACITY = 1 << 13
"""Slots: 512 KiB, so that ring and caches are in the proportion of a real one."""
_WORD_RUNS = 200
_WORD_ROUNDS = 1_000
_WARM_UP = 2_000
_HEATS = 40
_HEAT_RECORDS = 250_000


@dataclass(frozen=True)
class Percentiles:
    """Of one-way latencies, nanoseconds."""

    p50: float
    p99: float
    p999: float
    max: float

    @classmethod
    def of(cls, half_ns: Any) -> Percentiles:
        """Percentiles of an array; the first rounds, in which pages and caches fill, are left out."""
        return cls(*(float(value) for value in np.percentile(half_ns[_WARM_UP:], [50, 99, 99.9, 100])))


def folder() -> tempfile.TemporaryDirectory[str]:
    base = host.default_run_folder().parent
    return tempfile.TemporaryDirectory(dir=base if base.is_dir() else None)


def half_round_trip_ns() -> float:
    """Nanoseconds for one word from core to core, median of many short runs."""
    words = np.frombuffer(mmap.mmap(-1, 4096), np.int64)
    there, back = int(words.ctypes.data), int(words.ctypes.data) + 1024
    with partner(kernels.pong_words, there, back, _WORD_RUNS * _WORD_ROUNDS):
        half_ns = []
        for run in range(_WORD_RUNS):
            before = time.perf_counter_ns()
            kernels.ping_words(there, back, 1 + run * _WORD_ROUNDS, _WORD_ROUNDS)
            half_ns.append((time.perf_counter_ns() - before) / _WORD_ROUNDS / 2)
        return statistics.median(half_ns)


def _echo_in_kernels(path: Path, rounds: int) -> None:
    reader, writer = _reader(path, "there"), _writer(path, "back")
    kernels.pong_ring(reader._state_address, writer.state_address, rounds)


def latency_between_kernels(rounds: int = 200_000) -> Percentiles:
    """One way from kernel to kernel: half of a round trip through two rings."""
    with folder() as name:
        path = Path(name)
        writer = _writer(path, "there")
        with partner(_echo_in_kernels, path, rounds):
            reader = _reader(path, "back")
            half_ns, record = np.zeros(rounds), empty_ticks(1)
            wrong = kernels.ping_ring(
                writer.state_address, reader._state_address, int(record.ctypes.data), int(half_ns.ctypes.data), rounds
            )
        _expect(wrong, 0)
        return Percentiles.of(half_ns)


def _echo_in_python(path: Path, rounds: int) -> None:
    reader, writer = _reader(path, "there"), _writer(path, "back")
    record = empty_ticks(1)
    for _ in range(rounds):
        while not reader.drain(record):
            pass
        writer.publish(record)


def latency_between_python(rounds: int = 50_000) -> Percentiles:
    """One way from Python to Python: `publish` of one, `drain` into one, both in plain loops."""
    with folder() as name:
        path = Path(name)
        writer = _writer(path, "there")
        with partner(_echo_in_python, path, rounds):
            reader = _reader(path, "back")
            record, echo, half_ns = empty_ticks(1), empty_ticks(1), np.zeros(rounds)
            for i in range(rounds):
                record["ts_event_ns"] = i
                before_ns = time.perf_counter_ns()
                writer.publish(record)
                while not reader.drain(echo):
                    pass
                half_ns[i] = (time.perf_counter_ns() - before_ns) / 2
                _expect(int(echo["ts_event_ns"][0]), i)
        return Percentiles.of(half_ns)


def _stream(path: Path, total: int, batch: int) -> None:
    writer, records = _writer(path, "stream"), empty_ticks(max(batch, 1))
    while not (cursors := run_folder.attach_cursors(path, "stream")):
        time.sleep(0.001)
    cursor = cursors[0].address + layout.CURSOR.offset("next_seq")
    kernels.stream(writer.state_address, int(records.ctypes.data), cursor, total, batch)


def lossless_per_second(batch: int) -> float:
    """Records per second through one ring in batches, each read and checked; median over the parts of one stream."""
    total = _HEATS * _HEAT_RECORDS
    with folder() as name, partner(_stream, Path(name), total, batch):
        reader = _reader(Path(name), "stream", cursor="benchmark")
        while reader.ready() == 0:
            pass
        rates, summed = [], 0
        for heat in range(_HEATS):
            before = time.perf_counter_ns()
            summed += kernels.take_stream(reader._state_address, 1 + heat * _HEAT_RECORDS, _HEAT_RECORDS)
            rates.append(_HEAT_RECORDS * 1e9 / (time.perf_counter_ns() - before))
        _expect(summed, total * (total + 1) // 2)
        _expect((reader.read, reader.lost), (total, 0))
        reader.close()
        return statistics.median(rates)


def between_two(measure: Callable[[], Any]) -> tuple[float, Any, float]:
    """The half-round-trip before, the result, the half-round-trip after."""
    return half_round_trip_ns(), measure(), half_round_trip_ns()


def _writer(path: Path, name: str) -> TickWriter:
    return TickWriter(path, name, Platform.SIM, capacity=CAPACITY, board_rows=0)


def _reader(path: Path, name: str, **options: Any) -> TickReader:
    while True:
        try:
            return TickReader(path, name, start="first", **options)
        except SegmentError:  # its writer is still creating it
            time.sleep(0.001)


def _expect(was: object, wanted: object) -> None:
    if was != wanted:
        raise RuntimeError(f"the benchmark's own check failed: was {was}, wanted {wanted}")
