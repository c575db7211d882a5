"""What the other processes of the shared-memory tests do. Each function is the whole life of one process."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import numpy as np
from nexus_gateway.shm import layout, run_folder
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.segment import Segment
from nexus_gateway.shm.symbols import Symbol, add_symbols, roll_symbol
from nexus_gateway.shm.tick import TICK_DTYPE, Platform, TickArray
from nexus_gateway.shm.writer import TickWriter, empty_ticks

from tests.support import shm_kernels


def hold_segment(path: Path) -> None:
    """Open a ring-shaped segment as its writer and live until killed."""

    def fill(segment: Segment) -> None:
        segment.set_field("capacity", 64)
        segment.set_field("record_bytes", layout.TICK_BYTES)

    Segment.open_writer(path, layout.RING, 4096, fill, lambda _: True)
    time.sleep(600)


def attach_and_exit(path: Path) -> None:
    Segment.attach(path, layout.RING)


def poke_mapping(path: Path) -> None:
    """Store through the raw address of a reader's mapping; the processor must refuse it."""
    import faulthandler

    faulthandler.disable()  # the fault is expected: no stack dump in the test's output
    segment = Segment.attach(path, layout.RING)
    ctypes.memset(segment.address + layout.RING.offset("tail"), 1, 8)


def add_symbols_one_by_one(folder: Path, worker: int, count: int) -> None:
    """Add names of its own and names that all workers add; check that each keeps its id."""
    for i in range(count):
        own, shared = add_symbols(folder, [Symbol(0, f"W{worker}-{i}"), Symbol(0, f"SHARED-{i}")])
        assert own != shared
        assert add_symbols(folder, [Symbol(0, f"SHARED-{i}")]) == [shared]


def roll_many_times(folder: Path, count: int) -> None:
    for generation in range(1, count + 1):
        roll_symbol(folder, "NQ", f"C{generation}", generation)


def count_for_ever(folder: Path) -> None:
    done = CountersPage.create(folder, "counting", ["done"]).counter("done")
    while True:
        done.add()


def publish_later(folder: Path, delay_s: float) -> None:
    writer = TickWriter(folder, "later", Platform.SIM, capacity=8, board_rows=0)
    time.sleep(delay_s)
    writer.publish(empty_ticks(1))
    time.sleep(600)


def read_with_cursor(folder: Path, ring: str) -> None:
    """Drain for ever with a published cursor."""
    reader = TickReader(folder, ring, start="first", cursor="victim")
    out = empty_ticks(64)
    while True:
        reader.drain(out)


def write_when_watched(folder: Path, capacity: int, last_seq: int, batch: int, pause: int, readers: int) -> None:
    """Publish derived records up to `last_seq` once that many readers have published a cursor."""
    writer, records = _open_derived(folder, capacity)
    _await_cursors(folder, readers)
    shm_kernels.write_derived(writer.state_address, int(records.ctypes.data), last_seq, batch, pause)
    writer.close()


def write_as_fast_as_read(folder: Path, capacity: int, last_seq: int, batch: int) -> None:
    """As `write_when_watched`, but never ahead of the one reader by more than the ring."""
    writer, records = _open_derived(folder, capacity)
    cursor = _await_cursors(folder, 1)[0]
    address = cursor.address + layout.CURSOR.offset("next_seq")
    shm_kernels.write_lossless(writer.state_address, int(records.ctypes.data), address, last_seq, batch)
    writer.close()


def write_until_killed(folder: Path, capacity: int, batch: int) -> None:
    """Publish derived records from the predecessor's number on, for ever."""
    writer, records = _open_derived(folder, capacity)
    shm_kernels.write_derived(writer.state_address, int(records.ctypes.data), 1 << 62, batch, 0)


def write_board_until_killed(folder: Path, first_seq: int) -> None:
    """Write row 5 of the board again and again, with growing numbers."""
    writer = TickWriter(folder, "sim", Platform.SIM, capacity=8, board_rows=8)
    row = writer._board.address + layout.BOARD.size_bytes + 5 * layout.TICK_BYTES
    record = np.zeros(1, TICK_DTYPE)
    shm_kernels.write_rows(row, int(record.ctypes.data), first_seq, 1 << 62)


def read_until_killed(folder: Path, number: int) -> None:
    """Drain as fast as possible; the file `reading-<number>` says that it has begun."""
    reader = TickReader(folder, "sim", cursor="victim")
    out = empty_ticks(shm_kernels.BATCH)
    (folder / f"reading-{number}").touch()
    shm_kernels.drain_derived(reader._state_address, int(out.ctypes.data), len(out), 1 << 62, 0, 1 << 62)


def _open_derived(folder: Path, capacity: int) -> tuple[TickWriter, TickArray]:
    return TickWriter(folder, "sim", Platform.SIM, capacity=capacity, board_rows=0), empty_ticks(shm_kernels.BATCH)


def _await_cursors(folder: Path, count: int) -> list[Segment]:
    while len(cursors := run_folder.attach_cursors(folder, "sim")) < count:
        time.sleep(0.0005)
    return cursors
