"""Single operations called from Python, one process: `pytest benchmarks/bench_micro.py`. Each checks its own answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from nexus_gateway.shm.fan_in import FanIn
from nexus_gateway.shm.quotes import QuoteBoard
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter, empty_ticks

_SIZES = pytest.mark.parametrize("count", [1, 16, 256])


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[TickWriter]:
    writer = TickWriter(tmp_path, "bench", Platform.SIM)
    yield writer
    writer.close()


@_SIZES
def test_publish(benchmark: Any, writer: TickWriter, count: int) -> None:
    records = empty_ticks(count)
    last = benchmark(writer.publish, records)
    assert last == writer.tail
    assert last % count == 0


def test_empty_poll(benchmark: Any, tmp_path: Path, writer: TickWriter) -> None:
    reader = TickReader(tmp_path, "bench")
    assert benchmark(reader.ready) == 0


def test_empty_drain(benchmark: Any, tmp_path: Path, writer: TickWriter) -> None:
    reader, out = TickReader(tmp_path, "bench"), empty_ticks(256)
    assert benchmark(reader.drain, out) == 0


@_SIZES
def test_publish_then_drain(benchmark: Any, tmp_path: Path, writer: TickWriter, count: int) -> None:
    reader, records, out = TickReader(tmp_path, "bench"), empty_ticks(count), empty_ticks(count)

    def both() -> int:
        writer.publish(records)
        return reader.drain(out)

    assert benchmark(both) == count
    assert (reader.read, reader.lost) == (writer.tail, 0)


@_SIZES
def test_publish_then_views_and_confirm(benchmark: Any, tmp_path: Path, writer: TickWriter, count: int) -> None:
    reader, records = TickReader(tmp_path, "bench"), empty_ticks(count)

    def both() -> bool:
        writer.publish(records)
        reader.views()
        return reader.confirm()

    assert benchmark(both)
    assert (reader.read, reader.lost) == (writer.tail, 0)


@numba.njit
def _add_up(tick: Any, state: Any) -> None:
    state[0] += 1


def test_publish_then_run_over_256(benchmark: Any, tmp_path: Path, writer: TickWriter) -> None:
    reader, records, state = TickReader(tmp_path, "bench"), empty_ticks(256), np.zeros(1)

    def both() -> int:
        writer.publish(records)
        return reader.run(_add_up, state)

    assert benchmark(both) == 256
    assert state[0] == reader.read == writer.tail


def test_board_read(benchmark: Any, tmp_path: Path, writer: TickWriter) -> None:
    record = empty_ticks(1)
    record["symbol"], record["bid"] = 7, 1.0
    writer.publish(record)
    board = QuoteBoard(tmp_path, "bench")
    assert benchmark(board.latest, 7)["bid"] == 1.0


def test_publish_then_fan_in_of_six_rings(benchmark: Any, tmp_path: Path) -> None:
    writers = [TickWriter(tmp_path, f"r{i}", Platform.SIM) for i in range(6)]
    fan_in = FanIn([TickReader(tmp_path, f"r{i}") for i in range(6)])
    records, out = empty_ticks(16), empty_ticks(256)

    def all_six() -> int:
        for writer in writers:
            writer.publish(records)
        return fan_in.drain(out)

    assert benchmark(all_six) == 96
    assert (out["ts_recv_ns"][1:96] >= out["ts_recv_ns"][:95]).all()
    assert fan_in.lost == 0
    for writer in writers:
        writer.close()
