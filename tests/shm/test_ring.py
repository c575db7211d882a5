"""Writer and readers in one process: what is published is what is read, in every way of reading; misuse is refused."""

from __future__ import annotations

import time

import numba
import numpy as np
import pytest
from nexus_gateway.shm import layout, run_folder
from nexus_gateway.shm.fan_in import FanIn
from nexus_gateway.shm.idle import BusySpin, Yield
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.segment import Segment, SegmentError, SegmentState
from nexus_gateway.shm.tick import TICK_DTYPE, Platform, TickFlag
from nexus_gateway.shm.writer import TickWriter, empty_ticks

from tests.support import shm_children
from tests.support.shm_processes import linux_only, running, wait_for

_CAPACITY = 16


@pytest.fixture
def writer(run_dir):
    writer = TickWriter(run_dir, "sim", Platform.SIM, capacity=_CAPACITY, board_rows=8)
    yield writer
    writer.close()


def ticks(first, count):
    """Records whose event time and prices follow from their number, as they would be numbered from `first` on."""
    records = empty_ticks(count)
    records["ts_event_ns"] = np.arange(first, first + count)
    records["bid"] = records["ts_event_ns"] * 0.25
    records["symbol"] = records["ts_event_ns"] % 5
    return records


def publish(writer, count):
    return writer.publish(ticks(writer.tail + 1, count))


def drain(reader, limit=1024):
    out = empty_ticks(limit)
    return out[: reader.drain(out)]


# -- publishing ---------------------------------------------------------------------------------------------------


def test_records_arrive_whole_and_numbered(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    records = ticks(1, 3)
    records["ask"], records["last"] = 2.5, 3.5
    records["bid_size"], records["ask_size"], records["last_size"] = 1, 2, 3
    records["source"], records["flags"] = Platform.SIM, TickFlag.TRADE | TickFlag.BUYER
    before = time.time_ns()
    assert writer.publish(records) == 3
    got = drain(reader)
    assert got["seq"].tolist() == [1, 2, 3]
    assert (got["ts_recv_ns"] >= before).all()
    assert (got["ts_recv_ns"] <= time.time_ns()).all()
    for name in TICK_DTYPE.names:
        if name not in ("seq", "ts_recv_ns"):
            assert got[name].tobytes() == records[name].tobytes(), name
    assert (records["seq"] == 0).all(), "the caller's records are not touched"


def test_a_record_can_keep_its_own_stamp(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    records = ticks(1, 2)
    records["ts_recv_ns"] = [123, 122]
    writer.publish(records, stamp=False)
    assert drain(reader)["ts_recv_ns"].tolist() == [123, 122]


def test_publishing_from_an_address(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    records = ticks(1, 5)
    assert writer.publish_at(int(records.ctypes.data) + layout.TICK_BYTES, 2) == 2
    assert drain(reader)["ts_event_ns"].tolist() == [2, 3]


def test_nothing_to_publish(run_dir, writer):
    assert writer.publish(ticks(1, 0)) == 0
    assert publish(writer, 2) == 2
    assert writer.publish(ticks(1, 0)) == 2
    assert writer.tail == TickReader(run_dir, "sim").tail == 2


def test_a_batch_larger_than_the_ring(run_dir, writer):
    reader = TickReader(run_dir, "sim", start="first")
    assert publish(writer, 50) == 50
    assert drain(reader)["seq"].tolist() == [50]
    assert (reader.read, reader.lost) == (1, 49)


@pytest.mark.parametrize("capacity", [0, -8, 4, 12, 100, 1 << 29])
def test_capacity_is_checked(run_dir, capacity):
    with pytest.raises(ValueError, match=f"ring capacity was {capacity}; use a power of two from 8"):
        TickWriter(run_dir, "sim", Platform.SIM, capacity=capacity)


@pytest.mark.parametrize("rows", [-1, 65537])
def test_board_rows_are_checked(run_dir, rows):
    with pytest.raises(ValueError, match=f"board_rows was {rows}; use 0"):
        TickWriter(run_dir, "sim", Platform.SIM, board_rows=rows)


@pytest.mark.parametrize(
    "records",
    [np.zeros(2, np.float64), np.zeros((2, 2), TICK_DTYPE), np.zeros(4, TICK_DTYPE)[::2]],
    ids=["dtype", "dimensions", "stride"],
)
def test_records_are_checked(writer, records):
    with pytest.raises(ValueError, match="give one C-contiguous dimension of TICK_DTYPE"):
        writer.publish(records)


def test_a_closed_writer_publishes_nothing(run_dir, writer):
    # It has given its lock back: what it stored now would mix with the records of its successor.
    records = ticks(1, 1)
    writer.publish(records)
    writer.close()
    for attempt in (
        lambda: writer.publish(records),
        lambda: writer.publish_at(int(records.ctypes.data), 1),
    ):
        with pytest.raises(ValueError, match="ring 'sim' was closed"):
            attempt()
    assert TickReader(run_dir, "sim").tail == writer.tail == 1


def test_a_writer_without_a_board(run_dir):
    writer = TickWriter(run_dir, "bare", Platform.SIM, capacity=8, board_rows=0)
    publish(writer, 3)
    assert not run_folder.board_path(run_dir, "bare").exists()
    with pytest.raises(ValueError, match="made without a board"):
        writer.board_row(1)
    writer.beat()
    writer.close()


def test_a_writer_whose_board_is_taken_lets_go_of_the_ring(run_dir, monkeypatch):
    monkeypatch.setattr("nexus_gateway.shm.segment._LOCK_PATIENCE_S", 0.02)
    board = Segment.open_writer(run_folder.board_path(run_dir, "a"), layout.BOARD, 64, lambda _: None, lambda _: True)
    with pytest.raises(SegmentError):
        TickWriter(run_dir, "a", Platform.SIM, capacity=8)
    board.close_writer()
    TickWriter(run_dir, "a", Platform.SIM, capacity=8).close()


# -- restart ------------------------------------------------------------------------------------------------------


def test_a_restarted_writer_goes_on_with_the_numbers(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    publish(writer, 5)
    writer.close()
    assert reader.state() is SegmentState.CLOSED
    again = TickWriter(run_dir, "sim", Platform.SIM, capacity=_CAPACITY, board_rows=8)
    assert reader.state() is SegmentState.LIVE
    assert publish(again, 2) == 7
    assert drain(reader)["seq"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert not reader.is_replaced()
    again.close()


@pytest.mark.parametrize("tail_word", range(0, 43, 3))
@pytest.mark.parametrize("half_written", [False, True])
def test_a_successor_finds_the_newest_number_wherever_the_tail_word_was_left(run_dir, writer, tail_word, half_written):
    # A writer killed in a batch leaves the tail word any number behind, even more than a whole ring, and perhaps a
    # half-written slot. Numbering that went back would give readers other records under numbers they have read.
    publish(writer, 42)
    writer._ring.set_field("tail", tail_word)
    if half_written:
        slots = writer._ring.bytes[layout.RING.size_bytes :].view(TICK_DTYPE)
        slots["seq"][42 % _CAPACITY] = 0
    writer.close()
    again = TickWriter(run_dir, "sim", Platform.SIM, capacity=_CAPACITY, board_rows=8)
    assert again.tail == 42
    assert TickReader(run_dir, "sim").tail == 42
    assert publish(again, 1) == 43
    again.close()


def test_another_capacity_is_a_new_ring(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    publish(writer, 5)
    writer.close()
    again = TickWriter(run_dir, "sim", Platform.SIM, capacity=32, board_rows=8)
    assert again.tail == 0
    assert reader.is_replaced()
    again.close()


def test_another_platform_is_a_new_ring(run_dir, writer):
    writer.close()
    again = TickWriter(run_dir, "sim", Platform.NT8, capacity=_CAPACITY, board_rows=8)
    assert TickReader(run_dir, "sim").platform is Platform.NT8
    again.close()


def test_unlink_then_a_new_ring(run_dir, writer):
    writer.unlink()
    assert run_folder.ring_names(run_dir) == []
    with pytest.raises(SegmentError) as caught:
        TickReader(run_dir, "sim")
    assert caught.value.state is SegmentState.NOT_THERE


# -- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "first"), [("new", 21), ("first", 20), ("oldest", 9), (17, 17), (21, 21)])
def test_where_a_reader_begins(run_dir, writer, start, first):
    publish(writer, 20)
    reader = TickReader(run_dir, "sim", start=start)
    publish(writer, 0)
    got = drain(reader)["seq"].tolist()
    assert got == list(range(first, 21))
    assert reader.lost == (19 if start == "first" else 0)


@pytest.mark.parametrize("start", [0, -1, "newest"])
def test_a_start_that_is_none(run_dir, writer, start):
    with pytest.raises(ValueError, match=f"start was {start!r}"):
        TickReader(run_dir, "sim", start=start)


@pytest.mark.parametrize(("after_lap", "first"), [("newest", 40), ("oldest", 29)])
def test_where_a_lapped_reader_goes_on(run_dir, writer, after_lap, first):
    reader = TickReader(run_dir, "sim", after_lap=after_lap)
    publish(writer, 40)
    assert reader.ready() == 40 - first + 1
    assert drain(reader)["seq"].tolist() == list(range(first, 41))
    assert (reader.read, reader.lost, reader.torn) == (41 - first, first - 1, 0)


def test_after_lap_is_checked(run_dir, writer):
    with pytest.raises(ValueError, match="after_lap was 'freshest'"):
        TickReader(run_dir, "sim", after_lap="freshest")


def test_a_full_ring_is_not_lapped(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    publish(writer, _CAPACITY)
    assert reader.ready() == _CAPACITY
    assert drain(reader)["seq"].tolist() == list(range(1, _CAPACITY + 1))
    assert reader.lost == 0


def test_a_record_that_is_being_overwritten_counts_as_lapped(run_dir, writer):
    # The writer stands in the middle of record 17, in the slot of record 1.
    reader = TickReader(run_dir, "sim")
    publish(writer, _CAPACITY)
    slots = writer._ring.bytes[layout.RING.size_bytes :].view(TICK_DTYPE)
    slots["seq"][0] = 0
    assert drain(reader)["seq"].tolist() == [_CAPACITY]
    assert (reader.read, reader.lost) == (1, _CAPACITY - 1)


def test_a_record_that_is_being_written_is_not_there_yet(run_dir, writer):
    publish(writer, _CAPACITY)
    reader = TickReader(run_dir, "sim")
    slots = writer._ring.bytes[layout.RING.size_bytes :].view(TICK_DTYPE)
    slots["seq"][0] = 0
    assert reader.ready() == 0
    assert reader.lost == 0


def test_draining_wraps_and_stops_at_the_arrays_end(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    publish(writer, 12)
    assert len(drain(reader)) == 12
    publish(writer, 9)
    assert drain(reader, 5)["seq"].tolist() == [13, 14, 15, 16, 17]
    assert drain(reader, 0)["seq"].tolist() == []
    assert drain(reader)["seq"].tolist() == [18, 19, 20, 21]
    assert drain(reader)["seq"].tolist() == []
    assert reader.next_seq == 22


@pytest.mark.parametrize(
    "out",
    [np.zeros(2, np.float64), np.zeros((2, 2), TICK_DTYPE), np.zeros(4, TICK_DTYPE)[::2], np.zeros(2, TICK_DTYPE)],
    ids=["dtype", "dimensions", "stride", "read-only"],
)
def test_out_is_checked(run_dir, writer, out):
    out.flags.writeable = False
    with pytest.raises(ValueError, match="give one writeable C-contiguous dimension"):
        TickReader(run_dir, "sim").drain(out)


def test_views_point_into_the_ring(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    publish(writer, 12)
    (view,) = reader.views()
    assert np.shares_memory(view, reader._slots)
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        view["bid"] = 1
    assert view["seq"].tolist() == list(range(1, 13))
    assert reader.read == 0, "nothing counts before it is confirmed"
    assert reader.confirm()
    publish(writer, 9)
    head, rest = reader.views()
    assert (len(head), len(rest)) == (4, 5)
    assert np.concatenate([head, rest])["seq"].tolist() == list(range(13, 22))
    assert reader.confirm()
    assert reader.views() == []
    assert reader.confirm()
    assert (reader.read, reader.lost, reader.torn) == (21, 0, 0)


def test_views_with_a_limit(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    publish(writer, 10)
    assert [len(view) for view in reader.views(3)] == [3]
    assert reader.confirm()
    assert reader.next_seq == 4
    assert reader.views(0) == []
    with pytest.raises(ValueError, match="limit was -1"):
        reader.views(-1)


def test_views_taken_again_without_confirm_are_the_same(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    publish(writer, 3)
    first, second = reader.views()[0]["seq"].tolist(), reader.views()[0]["seq"].tolist()
    assert first == second == [1, 2, 3]
    assert reader.confirm()
    assert reader.read == 3


def test_overwritten_while_in_use(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    publish(writer, 10)
    reader.views()
    publish(writer, 7)  # record 17 overwrites record 1
    assert not reader.confirm()
    assert (reader.read, reader.lost, reader.torn) == (0, 10, 10)
    assert drain(reader)["seq"].tolist() == list(range(11, 18))
    assert reader.read + reader.lost == 17


def test_reading_otherwise_gives_views_up(run_dir, writer):
    # A confirm afterwards must not count the batch a second time, beyond what was published.
    reader = TickReader(run_dir, "sim")
    publish(writer, 5)
    reader.views()
    drain(reader)
    assert reader.confirm()
    assert (reader.read, reader.next_seq) == (5, 6)
    publish(writer, 2)
    reader.views()
    reader.run(add_up, np.zeros(3))
    assert reader.confirm()
    assert (reader.read, reader.next_seq) == (7, 8)


@numba.njit
def add_up(tick, state):
    state[0] += 1
    state[1] += tick.seq
    state[2] += tick.bid


def test_run_calls_the_users_kernel_in_place(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    sums = np.zeros(3)
    assert reader.run(add_up, sums) == 0
    publish(writer, 10)
    assert reader.run(add_up, sums, limit=4) == 4
    assert sums.tolist() == [4, 10, 2.5]
    assert reader.run(add_up, sums) == 6
    assert sums.tolist() == [10, 55, 13.75]
    assert (reader.read, reader.lost, reader.torn) == (10, 0, 0)


@numba.njit
def fail_at_three(tick, state):
    if tick.seq == 3:
        raise ValueError("three")
    state[0] += 1


def test_run_gives_a_record_again_after_the_users_kernel_has_raised(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    publish(writer, 5)
    done = np.zeros(1)
    with pytest.raises(ValueError, match="three"):
        reader.run(fail_at_three, done)
    assert (done[0], reader.next_seq, reader.read) == (2, 3, 2)
    assert drain(reader)["seq"].tolist() == [3, 4, 5]


def test_run_loops_are_compiled_once_for_all_readers(run_dir, writer):
    from nexus_gateway.shm.fan_in_kernels import make_run_loop

    assert make_run_loop(add_up) is make_run_loop(add_up)
    assert make_run_loop(add_up) is not make_run_loop(fail_at_three)


def test_waiting(run_dir, writer):
    reader = TickReader(run_dir, "sim")
    assert not reader.wait(Yield(), 0.01)
    publish(writer, 1)
    assert reader.wait(BusySpin(), 10)
    drain(reader)
    assert not reader.wait(BusySpin(), 0)
    publish(writer, 40)
    assert reader.wait(Yield(), 10), "lapped is something to read, too"


def test_waiting_where_a_dead_writer_stopped(run_dir, writer):
    # Lapped, and the awaited slot was left half written: the newest records are there nevertheless.
    reader = TickReader(run_dir, "sim")
    publish(writer, _CAPACITY)
    slots = writer._ring.bytes[layout.RING.size_bytes :].view(TICK_DTYPE)
    slots["seq"][0] = 0
    assert reader.wait(Yield(), 0.2)


@linux_only
def test_waiting_for_another_process(run_dir):
    with running(shm_children.publish_later, run_dir, 0.05):
        wait_for(lambda: run_folder.ring_path(run_dir, "later").exists(), "the ring")
        wait_for(lambda: _attachable(run_dir, "later"), "the ring to be ready")
        reader = TickReader(run_dir, "later", start="first")
        assert reader.wait(Yield(), 60)
        assert drain(reader)["seq"].tolist() == [1]


def _attachable(folder, ring):
    try:
        TickReader(folder, ring)
    except SegmentError:
        return False
    return True


# -- what others see ----------------------------------------------------------------------------------------------


def test_a_published_cursor(run_dir, writer):
    publish(writer, 4)
    reader = TickReader(run_dir, "sim", start="first", cursor="probe")
    hidden = TickReader(run_dir, "sim")
    (cursor,) = run_folder.attach_cursors(run_dir, "sim")
    assert (cursor.text("ring"), cursor.text("reader")) == ("sim", "probe")
    assert cursor.field("next_seq") == 1
    drain(reader, 3)
    assert (cursor.field("next_seq"), cursor.field("read"), cursor.field("lost")) == (4, 3, 0)
    publish(writer, 40)
    drain(reader)
    assert (cursor.field("next_seq"), cursor.field("read"), cursor.field("lost")) == (45, 4, 40)
    reader.close()
    assert cursor.state() is SegmentState.CLOSED
    assert run_folder.attach_cursors(run_dir, "sim") == []
    assert list(run_dir.glob("*.cursor")) == []
    reader.close()
    hidden.close()


@linux_only
def test_a_dead_readers_cursor_is_ignored(run_dir, writer):
    with running(shm_children.read_with_cursor, run_dir, "sim"):
        wait_for(lambda: len(run_folder.attach_cursors(run_dir, "sim")) == 1, "a cursor")
    assert run_folder.attach_cursors(run_dir, "sim") == []
    left = list(run_dir.glob("*.cursor"))
    assert len(left) == 1
    assert run_folder.remove_stale_segments(run_dir) == left


def test_what_a_reader_tells(run_dir, writer):
    publish(writer, 3)
    reader = TickReader(run_dir, "sim")
    assert (reader.name, reader.platform, reader.tail, reader.capacity) == ("sim", Platform.SIM, 3, _CAPACITY)
    time.sleep(0.002)
    before = reader.heartbeat_age_ns()
    writer.beat()
    assert reader.heartbeat_age_ns() < before
    assert writer.capacity == _CAPACITY
    assert reader.created_ns > 0


def test_a_reader_keeps_what_it_mapped_when_it_is_the_last(run_dir, writer):
    publish(writer, 3)
    reader = TickReader(run_dir, "sim", start="first")
    views = reader.views()
    del reader
    assert views[0]["seq"].tolist() == [1, 2, 3]


def _overwrite(path, start, stop=None):
    """Noise in place: nothing but the content tells."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(np.random.default_rng(1).bytes((stop or path.stat().st_size) - start))


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, None),
        (0, layout.RING.size_bytes),
        (layout.RING.offset("tail"), layout.RING.offset("tail") + 8),
        (layout.RING.size_bytes, None),
    ],
    ids=["all", "header", "tail", "slots"],
)
@linux_only
def test_noise_in_place_of_a_ring_is_no_count_of_lost_records(run_dir, writer, start, stop):
    reader = TickReader(run_dir, "sim")
    publish(writer, 3)
    out = empty_ticks(8)
    assert reader.drain(out) == 3
    publish(writer, 2)
    assert reader.unread() == 2
    _overwrite(run_folder.ring_path(run_dir, "sim"), start, stop)
    fan_in = FanIn([reader])
    for _ in range(3):
        fan_in.drain(out)
        assert reader.read + reader.lost <= 5
    assert reader.lost == 0
    assert reader.unread() is None


@linux_only
def test_a_writer_does_not_continue_the_numbers_of_a_ring_that_was_overwritten(run_dir, writer):
    publish(writer, 3)
    reader = TickReader(run_dir, "sim")
    writer.close()
    _overwrite(run_folder.ring_path(run_dir, "sim"), layout.RING.size_bytes)
    successor = TickWriter(run_dir, "sim", Platform.SIM, capacity=_CAPACITY, board_rows=8)
    assert successor.tail == 0
    assert reader.is_replaced()
    successor.close()
