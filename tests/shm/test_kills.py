"""kill -9 at random points, hundreds of times: of writers, whose successors go on, of readers, whom nobody misses."""

from __future__ import annotations

import threading

import pytest
from nexus_gateway.shm import layout, run_folder
from nexus_gateway.shm.quotes import read_board_row
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.segment import Segment, SegmentState, inspect
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter, empty_ticks

from tests.support import shm_children, shm_kernels
from tests.support.shm_processes import SIGKILL_EXIT, kill, linux_only, start, two_cores, wait_for
from tests.support.torture import rounds

pytestmark = [linux_only, two_cores]

_LOOKS = 1 << 40
_FOR_EVER = 1 << 62


class Watcher:
    """Reads derived records in a thread until told to stop; `bad` counts what was torn, repeated or out of order."""

    def __init__(self, run_dir, after_lap):
        self.reader = TickReader(run_dir, "sim", start="first", after_lap=after_lap)
        self.bad = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self):
        out, previous = empty_ticks(shm_kernels.BATCH), 0
        while not self._stop.is_set():
            count = self.reader.drain(out)
            if count:
                self.bad += shm_kernels.count_bad(int(out.ctypes.data), count, previous)
                previous = int(out["seq"][count - 1])
            else:
                self._stop.wait(0.0002)

    def stop(self):
        self._stop.set()
        self._thread.join()
        out = empty_ticks(shm_kernels.BATCH)
        while count := self.reader.drain(out):
            self.bad += shm_kernels.count_bad(int(out.ctypes.data), count, 0)


@rounds(8, 80)
@pytest.mark.parametrize(("capacity", "batch"), [(8, 100), (64, 1), (4096, 256)])
def test_writers_killed_at_random_points(run_dir, chance, capacity, batch, rounds):
    TickWriter(run_dir, "sim", Platform.SIM, capacity=capacity, board_rows=0).close()
    ring = Segment.attach(run_folder.ring_path(run_dir, "sim"), layout.RING)
    watchers = [Watcher(run_dir, "newest"), Watcher(run_dir, "oldest")]
    incarnation, tail = ring.field("incarnation"), 0
    for _ in range(rounds):
        child = start(shm_children.write_until_killed, run_dir, capacity, batch)
        incarnation += 1
        wait_for(lambda: ring.field("incarnation") == incarnation, "the successor")  # noqa: B023 (called at once)
        wait_for(lambda: ring.field("tail") > tail, "its first records")  # noqa: B023
        threading.Event().wait(chance.random() * 0.004)
        kill(child)
        assert child.exitcode == SIGKILL_EXIT
        assert ring.state() is SegmentState.DEAD_WRITER
        assert ring.field("tail") > tail, "the numbering went back"
        tail = ring.field("tail")
    successor = TickWriter(run_dir, "sim", Platform.SIM, capacity=capacity, board_rows=0)
    assert successor.tail >= tail
    for watcher in watchers:
        watcher.stop()
        assert watcher.bad == 0
        assert watcher.reader.read + watcher.reader.lost == successor.tail, "written = read + lost, over all successors"
        assert not watcher.reader.is_replaced()
    successor.close()


@rounds(8, 60)
def test_readers_killed_at_random_points(run_dir, chance, rounds):
    writer = start(shm_children.write_until_killed, run_dir, 1024, 16)
    path = run_folder.ring_path(run_dir, "sim")
    wait_for(lambda: inspect(path, layout.RING) is SegmentState.LIVE, "the writer")
    ring = Segment.attach(path, layout.RING)
    watcher = Watcher(run_dir, "newest")
    for number in range(rounds):
        reader = start(shm_children.read_until_killed, run_dir, number)
        wait_for((run_dir / f"reading-{number}").exists, "the reader")
        threading.Event().wait(chance.random() * 0.002)
        kill(reader)
        before = ring.field("tail")
        wait_for(lambda: ring.field("tail") > before, "the writer to go on")  # noqa: B023
        assert run_folder.attach_cursors(run_dir, "sim") == [], "a dead reader's cursor must hold nobody back"
    assert ring.state() is SegmentState.LIVE
    kill(writer)
    watcher.stop()
    assert watcher.bad == 0


@rounds(8, 30)
def test_board_writers_killed_at_random_points(run_dir, chance, rounds):
    TickWriter(run_dir, "sim", Platform.SIM, capacity=8, board_rows=8).close()
    previous, out = 0, empty_ticks(1)
    segment = Segment.attach(run_folder.board_path(run_dir, "sim"), layout.BOARD)
    address = segment.address + layout.BOARD.size_bytes + 5 * layout.TICK_BYTES  # its records are of any symbol
    for number in range(rounds):
        incarnation = segment.field("incarnation") + 1
        child = start(shm_children.write_board_until_killed, run_dir, incarnation << 32)
        wait_for(lambda: segment.field("incarnation") == incarnation, "the successor")  # noqa: B023
        if number % 2:  # the others may be killed before their first row
            wait_for(lambda: read_board_row(address, out.ctypes.data) >> 32 == incarnation, "its rows")  # noqa: B023
        threading.Event().wait(chance.random() * 0.002)
        kill(child)
        # 0 when it died in the middle of the row: half a price is worse than none.
        if read_board_row(address, out.ctypes.data):
            assert shm_kernels.count_bad(int(out.ctypes.data), 1, previous - 1) == 0
            previous = int(out["seq"][0])
    assert segment.state() is SegmentState.DEAD_WRITER
