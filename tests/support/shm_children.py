"""What the other processes of the shared-memory tests do. Each function is the whole life of one process."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from nexus_gateway.shm import layout
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.segment import Segment
from nexus_gateway.shm.symbols import Symbol, add_symbols, roll_symbol
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter, empty_ticks


def hold_segment(path: Path) -> None:
    """Open a ring-shaped segment as its writer and live until killed."""
    Segment.open_writer(path, layout.RING, 4096, lambda segment: segment.set_field("capacity", 64), lambda _: True)
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
