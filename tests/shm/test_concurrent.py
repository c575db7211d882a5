"""Writer and readers at the same time: nothing torn, nothing out of order, written = read + lost at any speed."""

from __future__ import annotations

import threading

import numba
import numpy as np
import pytest
from nexus_gateway.shm import layout
from nexus_gateway.shm.atomics import (
    as_pointer,
    cpu_pause,
    fence_acquire,
    fence_release,
    load_acquire,
    store_release,
)
from nexus_gateway.shm.jit import kernel
from nexus_gateway.shm.quotes import QuoteBoard
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.segment import SegmentState
from nexus_gateway.shm.writer import empty_ticks

from tests.support import shm_children, shm_kernels
from tests.support.shm_processes import finish, kill, linux_only, running, two_cores, wait_for
from tests.support.torture import rounds

pytestmark = [linux_only, two_cores]

_LOOKS = 1 << 40  # so many empty looks before a reader gives up: never, the test's own time limit comes first


def attach(run_dir, **options):
    wait_for(lambda: _is_ready(run_dir), "the writer's ring")
    return TickReader(run_dir, "sim", **options)


def _is_ready(run_dir):
    from nexus_gateway.shm import run_folder
    from nexus_gateway.shm.segment import inspect

    return inspect(run_folder.ring_path(run_dir, "sim"), layout.RING) is SegmentState.LIVE


def drain_all(reader, last_seq, *, limit=shm_kernels.BATCH, pause=0):
    out = empty_ticks(limit)
    return shm_kernels.drain_derived(reader._state_address, int(out.ctypes.data), limit, last_seq, pause, _LOOKS)


@pytest.mark.parametrize(
    ("capacity", "batch", "writer_pause", "reader_pause"),
    [
        (8, 1, 0, 0),
        (8, 100, 0, 0),
        (8, 1, 0, 50),
        (64, 7, 20, 0),
        (64, 64, 0, 500),
        (1024, 256, 0, 20),
        (1024, 1, 5, 0),
        (65536, 256, 0, 2000),
    ],
)
@pytest.mark.parametrize("after_lap", ["newest", "oldest"])
def test_written_is_read_plus_lost_at_any_speed(run_dir, capacity, batch, writer_pause, reader_pause, after_lap):
    last_seq = 300_000 if writer_pause == 0 else 100_000
    with running(shm_children.write_when_watched, run_dir, capacity, last_seq, batch, writer_pause, 2) as child:
        drained = attach(run_dir, start="first", after_lap=after_lap, cursor="drain")
        viewed = attach(run_dir, start="first", after_lap=after_lap, cursor="views")
        bad = {}
        thread = threading.Thread(target=lambda: bad.update(drain=drain_all(drained, last_seq, pause=reader_pause)))
        thread.start()
        bad["views"] = shm_kernels.view_derived(viewed._state_address, capacity, last_seq, reader_pause, _LOOKS)
        thread.join()
        finish(child)
    assert bad == {"drain": 0, "views": 0}
    for reader in (drained, viewed):
        assert reader.read + reader.lost == last_seq
        assert reader.torn <= reader.lost
        reader.close()


@rounds(2_000_000, 20_000_000)
def test_a_record_that_the_writer_is_about_to_overwrite(run_dir, rounds):
    # One by one, right before the writer: where a slot that kept its old number during the change would pass as whole.
    last_seq = rounds
    with running(shm_children.write_when_watched, run_dir, 8, last_seq, 1, 0, 1) as child:
        reader = attach(run_dir, start="first", after_lap="oldest", cursor="probe")
        assert shm_kernels.view_derived(reader._state_address, 1, last_seq, 0, _LOOKS) == 0
        finish(child)
    assert reader.read + reader.lost == last_seq
    reader.close()


@rounds(200_000, 1_000_000)
@pytest.mark.parametrize(("capacity", "batch"), [(8, 1), (8, 7), (1024, 256)])
def test_a_writer_that_waits_for_the_reader_loses_nothing(run_dir, capacity, batch, rounds):
    # It may fill the ring to the last slot while the reader stands between two looks at the awaited record.
    last_seq = rounds
    with running(shm_children.write_as_fast_as_read, run_dir, capacity, last_seq, batch) as child:
        reader = attach(run_dir, start="first", cursor="probe")
        assert drain_all(reader, last_seq) == 0
        finish(child)
    assert (reader.read, reader.lost) == (last_seq, 0)
    reader.close()


@rounds(5_000_000, 100_000_000)
def test_no_torn_record_in_millions_read(run_dir, rounds):
    last_seq = rounds
    with running(shm_children.write_as_fast_as_read, run_dir, 4096, last_seq, 16) as child:
        reader = attach(run_dir, start="first", cursor="probe")
        bad = shm_kernels.view_derived(reader._state_address, 64, last_seq, 0, _LOOKS)
        finish(child)
    assert bad == 0
    assert (reader.read, reader.lost) == (last_seq, 0)
    reader.close()


@pytest.mark.torture
def test_no_torn_record_in_a_hundred_million_written_without_regard(run_dir):
    last_seq = 100_000_000
    with running(shm_children.write_when_watched, run_dir, 4096, last_seq, 16, 2, 1) as child:
        reader = attach(run_dir, start="first", after_lap="oldest", cursor="probe")
        bad = shm_kernels.view_derived(reader._state_address, 2048, last_seq, 0, _LOOKS)
        finish(child)
    assert bad == 0
    assert reader.read + reader.lost == last_seq
    assert reader.torn > 0, "inconclusive: the writer never came round while the reader was looking"
    reader.close()


def test_the_board_never_shows_a_torn_row(run_dir):
    with running(shm_children.write_board_until_killed, run_dir, 1) as child:
        board = attach_board(run_dir)
        row = board._rows_address + 5 * layout.TICK_BYTES
        out = empty_ticks(1)
        assert shm_kernels.watch_row(row, int(out.ctypes.data), 5_000_000, _LOOKS) == 0
        kill(child)
    assert board.state() is SegmentState.DEAD_WRITER


def attach_board(run_dir):
    from nexus_gateway.shm import run_folder
    from nexus_gateway.shm.segment import inspect

    wait_for(lambda: inspect(run_folder.board_path(run_dir, "sim"), layout.BOARD) is SegmentState.LIVE, "the board")
    return QuoteBoard(run_dir, "sim")


# -- memory ordering on this machine --------------------------------------------------------------------------------
#
# Two threads without the GIL, as two processes would be: the memory model knows no difference.


_START = 512  # bytes from the data to the word with which the reader says that it looks


@numba.njit
def carray_word(address):
    return numba.carray(as_pointer(address), 1, np.int64)


@numba.njit
def await_partner(data):
    while load_acquire(data + _START) == 0:
        cpu_pause()


@kernel("void(int64, int64, int64)")
def send(flag, data, messages):
    """data := n, then flag := n with release (SYNC slot.seq)."""
    cell = carray_word(data)
    await_partner(data)
    for number in range(1, messages + 1):
        cell[0] = number
        store_release(flag, number)
        cpu_pause()


@kernel("void(int64, int64, int64, int64)")
def receive(flag, data, messages, outcomes):
    """Load flag with acquire, then data; count (data = flag, data newer, data older, flags seen)."""
    cell, counts = carray_word(data), numba.carray(as_pointer(outcomes), 4, np.int64)
    store_release(data + _START, 1)
    previous = 0
    while previous < messages:
        number = load_acquire(flag)
        value = cell[0]
        if number != previous:
            counts[3] += 1
        previous = number
        counts[0 if value == number else 1 if value > number else 2] += 1


@kernel("void(int64, int64, int64)")
def overwrite(flag, data, messages):
    """flag := 0, fence, data := n, flag := n with release (SYNC slot.zero)."""
    first, second = carray_word(data), carray_word(data + 8)
    await_partner(data)
    for number in range(1, messages + 1):
        store_release(flag, 0)
        fence_release()
        first[0] = number
        second[0] = number
        store_release(flag, number)
        cpu_pause()  # time to be seen between two messages


@kernel("void(int64, int64, int64, int64)")
def look_twice(flag, data, messages, outcomes):
    """flag, both words, fence, flag again; count (unchanged and whole, changed, unchanged but torn, flags seen)."""
    first, second = carray_word(data), carray_word(data + 8)
    counts = numba.carray(as_pointer(outcomes), 4, np.int64)
    store_release(data + _START, 1)
    previous = 0
    while previous < messages:
        number = load_acquire(flag)
        if number == 0:
            continue
        one, two = first[0], second[0]
        fence_acquire()
        if load_acquire(flag) != number:
            counts[1] += 1
        else:
            counts[0 if one == number and two == number else 2] += 1
        if number != previous:
            counts[3] += 1
        previous = number


def _race(writing, reading, messages=5_000_000):
    memory, outcomes = np.zeros(128, np.int64), np.zeros(4, np.int64)
    flag, data = int(memory.ctypes.data), int(memory.ctypes.data) + 256
    writer = threading.Thread(target=writing, args=(flag, data, messages))
    writer.start()
    reading(flag, data, messages, int(outcomes.ctypes.data))
    writer.join()
    return outcomes.tolist()


def test_litmus_message_passing():
    same, newer, older, flags_seen = _race(send, receive)
    assert flags_seen > 1, "inconclusive: the threads never ran at the same time"
    # acceptable: the data of the very message whose flag was seen.
    assert same > 0
    # acceptable: the data of a later message, stored between the two loads.
    assert newer >= 0
    # forbidden: the flag of a message whose data has not arrived; a reader would take an old price for the new one.
    assert older == 0


def test_litmus_overwriting():
    whole, changed, torn, flags_seen = _race(overwrite, look_twice)
    assert flags_seen > 1, "inconclusive: the threads never ran at the same time"
    # acceptable: the flag is unchanged and the words belong to it.
    assert whole > 0
    # acceptable: the flag has changed; what was read is thrown away.
    assert changed >= 0
    # forbidden: the flag is unchanged although a word of a later message was seen; confirm() would let it pass.
    assert torn == 0
