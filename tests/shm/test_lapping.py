"""Loss is counted exactly: random schedules of publishing and reading equal the plain-Python twins."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nexus_gateway.shm import layout, run_folder
from nexus_gateway.shm.fan_in import FanIn
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter, empty_ticks

from tests import naive
from tests.support.shm_processes import linux_only

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 70)),
        st.tuples(st.just("drain"), st.integers(1, 40)),
        st.tuples(st.just("views"), st.integers(0, 40), st.integers(0, 70)),
        st.tuples(st.just("run"), st.integers(0, 40)),
        st.tuples(st.just("ready")),
        st.tuples(st.just("restart")),
    ),
    max_size=30,
)


@numba.njit
def note(tick, notes):
    notes[notes[0] + 1] = tick.ts_event_ns
    notes[0] += 1


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([8, 16, 32]),
    st.integers(0, 60),
    st.sampled_from(["new", "oldest", "first"]),
    st.sampled_from(["newest", "oldest"]),
    _STEPS,
)
def test_random_schedules_equal_the_twin(capacity, before, start, after_lap, steps):
    with tempfile.TemporaryDirectory() as folder:
        writer = TickWriter(Path(folder), "sim", Platform.SIM, capacity=capacity, board_rows=0)
        ring = naive.NaiveRing(capacity)
        out, notes = empty_ticks(64), np.zeros(80, np.int64)
        _publish(writer, ring, before)
        reader = TickReader(Path(folder), "sim", start=start, after_lap=after_lap)
        twin = naive.NaiveReader(ring, start, after_lap)
        for step in steps:
            match step:
                case ("publish", count):
                    _publish(writer, ring, count)
                case ("drain", limit):
                    got = out[: reader.drain(out[:limit])]
                    assert got["ts_event_ns"].tolist() == got["seq"].tolist() == twin.take(limit)
                case ("run", limit):
                    notes[0] = 0
                    assert reader.run(note, notes, limit) == notes[0]
                    assert notes[1 : notes[0] + 1].tolist() == twin.take(limit)
                case ("views", limit, meanwhile):
                    seen = [seq for view in reader.views(limit) for seq in view["seq"].tolist()]
                    count = min(twin.ready(), limit)
                    assert seen == [twin.next_seq + i for i in range(count)]
                    _publish(writer, ring, meanwhile)
                    assert reader.confirm() == (twin.confirm(count) if count else True)
                case ("ready",):
                    assert reader.ready() == twin.ready()
                case ("restart",):
                    writer.close()
                    writer = TickWriter(Path(folder), "sim", Platform.SIM, capacity=capacity, board_rows=0)
            assert (reader.next_seq, reader.read, reader.lost, reader.torn) == (
                twin.next_seq,
                twin.read,
                twin.lost,
                twin.torn,
            )
        while reader.drain(out):
            pass
        assert writer.tail == len(ring.published)
        assert reader.read + reader.lost == writer.tail - (twin.first_seq - 1), "written = read + lost"
        writer.close()


@linux_only
@pytest.mark.parametrize("before", [20, 100])  # a batch in the order of its addresses, and one that wraps
@pytest.mark.parametrize("slots_left", [0, 1, 19, 20, 40, 99, 100, 127])
def test_a_batch_of_which_the_file_has_lost_a_part_is_never_confirmed(run_dir, before, slots_left):
    """What is cut off reads as zeros: ticks at a price of 0."""
    writer = TickWriter(run_dir, "sim", Platform.SIM, capacity=128, board_rows=0)
    ring = naive.NaiveRing(128)
    _publish(writer, ring, before)
    reader = TickReader(run_dir, "sim")
    twin = naive.NaiveReader(ring, "new", "newest")
    _publish(writer, ring, 80)
    count = sum(map(len, reader.views()))
    assert count == twin.ready() == 80
    path = run_folder.ring_path(run_dir, "sim")
    os.truncate(path, layout.RING.size_bytes + slots_left * layout.TICK_BYTES)
    ring.slots_left = slots_left
    assert reader.confirm() == twin.confirm(count)
    assert (reader.next_seq, reader.read, reader.lost, reader.torn) == (
        twin.next_seq,
        twin.read,
        twin.lost,
        twin.torn,
    )
    writer.close()


def _publish(writer, ring, count):
    records = empty_ticks(count)
    records["ts_event_ns"] = np.arange(ring.tail + 1, ring.tail + 1 + count)
    writer.publish(records)
    ring.publish(records["ts_event_ns"].tolist())


# -- fan-in -------------------------------------------------------------------------------------------------------

_STAMPS = st.lists(st.integers(0, 6), max_size=8)


@settings(max_examples=100, deadline=None)
@given(st.lists(_STAMPS, min_size=1, max_size=4), st.integers(1, 40), st.none() | st.sets(st.integers(0, 3)))
def test_fan_in_orders_and_filters_as_its_twin(rings, limit, symbols):
    with tempfile.TemporaryDirectory() as folder:
        writers, readers, lists = [], [], []
        for i, stamps in enumerate(rings):
            writer = TickWriter(Path(folder), f"r{i}", Platform.SIM, capacity=8, board_rows=0)
            readers.append(TickReader(Path(folder), f"r{i}"))
            records = empty_ticks(len(stamps))
            records["ts_recv_ns"] = stamps
            records["ts_event_ns"] = np.arange(len(stamps)) + 100 * i
            records["symbol"] = np.arange(len(stamps)) % 4
            writer.publish(records, stamp=False)
            writers.append(writer)
            lists.append([(stamp, (100 * i + j, j % 4)) for j, stamp in enumerate(stamps)])
        expected = [number for number, symbol in naive.merge_by_time(lists) if symbols is None or symbol in symbols]
        fan_in = FanIn(readers, symbols=symbols)
        out, got = empty_ticks(limit), []
        while count := fan_in.drain(out):
            got += out["ts_event_ns"][:count].tolist()
        assert got == expected
        assert fan_in.read == sum(map(len, rings)), "what nobody wanted counts as read"
        assert (fan_in.lost, fan_in.torn) == (0, 0)
        for writer in writers:
            writer.close()


@pytest.fixture
def pair(run_dir):
    """Two writers, a reader of each."""
    writers = [TickWriter(run_dir, name, Platform.SIM, capacity=8, board_rows=0) for name in ("a", "b")]
    readers = [TickReader(run_dir, name) for name in ("a", "b")]
    yield writers, readers
    for writer in writers:
        writer.close()


def publish_stamped(writer, stamps):
    records = empty_ticks(len(stamps))
    records["ts_recv_ns"] = stamps
    writer.publish(records, stamp=False)


def test_fan_in_runs_a_kernel_in_the_order_of_time(pair):
    (a, b), readers = pair
    publish_stamped(a, [1, 4])
    publish_stamped(b, [2, 3])
    fan_in = FanIn(readers, symbols=[0])
    order = np.zeros(10, np.int64)
    assert fan_in.run(note_stamp, order, limit=3) == 3
    assert fan_in.run(note_stamp, order) == 1
    assert order[1:5].tolist() == [1, 2, 3, 4]


@numba.njit
def note_stamp(tick, notes):
    notes[notes[0] + 1] = tick.ts_recv_ns
    notes[0] += 1


def test_fan_in_counts_the_loss_of_each_ring(pair):
    (a, b), readers = pair
    fan_in = FanIn(readers)
    a.publish(empty_ticks(30))
    b.publish(empty_ticks(3))
    assert fan_in.drain(empty_ticks(64)) == 4
    assert [(reader.read, reader.lost) for reader in readers] == [(1, 29), (3, 0)]
    assert (fan_in.read, fan_in.lost, fan_in.torn) == (4, 29, 0)


def test_a_stamp_in_the_farthest_future_does_not_stop_its_ring(pair):
    (a, _), readers = pair
    publish_stamped(a, [(1 << 63) - 1, 5])
    assert FanIn(readers).drain(empty_ticks(8)) == 2


def test_fan_in_measures_the_age_of_what_it_delivers(pair, run_dir):
    from nexus_gateway.shm.counters import CountersPage

    (a, b), readers = pair
    page = CountersPage.create(run_dir, "reader", [], ["age_ns"])
    fan_in = FanIn(readers, symbols=[0], latency=page.histogram_address("age_ns"))
    a.publish(empty_ticks(3))
    unwanted = empty_ticks(2)
    unwanted["symbol"] = 1
    b.publish(unwanted)
    assert fan_in.drain(empty_ticks(8)) == 3
    b.publish(empty_ticks(1))
    fan_in.run(note_stamp, np.zeros(4, np.int64))
    snapshot = page.histogram("age_ns")
    assert snapshot.count == 4
    assert snapshot.minimum > 0
    page.close()


@pytest.mark.parametrize("symbol", [-1, 65536])
def test_wanted_symbols_are_checked(pair, symbol):
    with pytest.raises(ValueError, match=f"symbol id was {symbol}; use 0 to 65535"):
        FanIn(pair[1], symbols=[3, symbol])


def test_fan_in_waits_for_any_ring(pair):
    from nexus_gateway.shm.idle import Backoff

    (_, b), readers = pair
    fan_in = FanIn(readers)
    assert not fan_in.wait(Backoff(), 0.01)
    b.publish(empty_ticks(1))
    assert fan_in.wait(Backoff(), 10)
    with pytest.raises(ValueError, match="TICK_DTYPE"):
        fan_in.drain(np.zeros(3))


def test_fan_in_of_no_rings():
    fan_in = FanIn([])
    assert fan_in.drain(empty_ticks(4)) == 0
    assert (fan_in.read, fan_in.lost, fan_in.torn) == (0, 0, 0)
    fan_in.close()


def test_fan_in_closes_its_readers(run_dir, pair):
    from nexus_gateway.shm import run_folder

    reader = TickReader(run_dir, "a", cursor="probe")
    fan_in = FanIn([reader])
    assert len(run_folder.attach_cursors(run_dir, "a")) == 1
    fan_in.drain(empty_ticks(1))
    fan_in.close()
    assert run_folder.attach_cursors(run_dir, "a") == []
