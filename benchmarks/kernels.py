"""Kernels of the benchmarks: both ends of a ping-pong and of a lossless stream, over bare words and over rings."""

from __future__ import annotations

import numba
import numpy as np
from nexus_gateway.shm.atomics import as_pointer, cpu_pause, load_acquire, store_release
from nexus_gateway.shm.clock import utc_ns
from nexus_gateway.shm.layout import TICK_BYTES
from nexus_gateway.shm.ring_kernels import READER_STATE, WRITER_STATE, count_ready, finish_batch, publish_records
from nexus_gateway.shm.tick import TICK_DTYPE
from numba import carray

READER_CHUNK = 256
"""Records that a reader reads before it publishes its cursor."""
REST_PAUSES = 30


@numba.njit("void(int64, int64, int64, int64)", nogil=True)
def ping_words(there: int, back: int, first: int, rounds: int) -> None:
    """Store `first`, `first + 1`, ... and wait for each to come back."""
    for number in range(first, first + rounds):
        store_release(there, number)
        while load_acquire(back) != number:
            pass


@numba.njit("void(int64, int64, int64)", nogil=True)
def pong_words(there: int, back: int, rounds: int) -> None:
    """The other end of `ping_words`."""
    for number in range(1, rounds + 1):
        while load_acquire(there) != number:
            pass
        store_release(back, number)


@numba.njit
def await_record(state: int) -> int:
    """Spin until the awaited record of a reader state is there; its address."""
    reader = carray(as_pointer(state), 1, READER_STATE)
    seq = reader[0].next_seq
    slot = reader[0].slots + ((seq - 1) & reader[0].mask) * TICK_BYTES
    while load_acquire(slot) != seq:  # SYNC slot.seq
        pass
    return slot


@numba.njit("int64(int64, int64, int64, int64, int64)", nogil=True)
def ping_ring(writer: int, reader: int, record: int, half_ns: int, rounds: int) -> int:
    """Publish a record and wait for its echo, `rounds` times; `half_ns` (float64) gets half of each round trip.

    Returns how many echoes were not the record sent: must be 0.
    """
    times = carray(as_pointer(half_ns), rounds, np.float64)
    own = carray(as_pointer(record), 1, TICK_DTYPE)
    wrong = 0
    for i in range(rounds):
        own[0].ts_event_ns = i
        before_ns = utc_ns()
        publish_records(writer, record, 1, 0)
        echo = carray(as_pointer(await_record(reader)), 1, TICK_DTYPE)
        right = echo[0].ts_event_ns == i
        times[i] = (utc_ns() - before_ns) / 2
        if not finish_batch(reader, 1) or not right:
            wrong += 1
    return wrong


@numba.njit("void(int64, int64, int64)", nogil=True)
def pong_ring(reader: int, writer: int, rounds: int) -> None:
    """The other end of `ping_ring`: publishes each record again from where it lies."""
    for _ in range(rounds):
        publish_records(writer, await_record(reader), 1, 0)
        finish_batch(reader, 1)


@numba.njit("void(int64, int64, int64, int64, int64)", nogil=True)
def stream(writer: int, records: int, cursor: int, total: int, batch: int) -> None:
    """Publish `total` records, numbered in `ts_event_ns`, and never overwrite what the reader has not taken.

    The reader's cursor is looked at only when its last known place leaves no room: it costs a cache-line transfer.
    """
    own = carray(as_pointer(records), batch, TICK_DTYPE)
    mask = carray(as_pointer(writer), 1, WRITER_STATE)[0].mask
    sent, taken = 0, 0
    while sent < total:
        count = min(batch, total - sent)
        while sent + count - taken > mask:
            taken = load_acquire(cursor) - 1
        for i in range(count):
            own[i].ts_event_ns = sent + i + 1
        publish_records(writer, records, count, 0)
        sent += count


@numba.njit("int64(int64, int64, int64)", nogil=True)
def take_stream(state: int, first: int, total: int) -> int:
    """Read `total` records of `stream` where they lie, from number `first` on.

    Returns the sum of their numbers, or -1 when one was out of order.
    """
    reader = carray(as_pointer(state), 1, READER_STATE)
    slots, mask = reader[0].slots, reader[0].mask
    seen, summed, in_order = 0, 0, True
    while seen < total:
        count = min(count_ready(state), READER_CHUNK, total - seen)
        if count == 0:
            # A pause of some 0.3 us: a reader that polls without one takes the slot's cache line from the writer twice
            # per record, which slows both.
            for _ in range(REST_PAUSES):
                cpu_pause()
            continue
        start = reader[0].next_seq - 1
        for i in range(count):
            record = carray(as_pointer(slots + ((start + i) & mask) * TICK_BYTES), 1, TICK_DTYPE)
            summed += record[0].ts_event_ns
            in_order &= record[0].ts_event_ns == first + seen + i
        in_order &= finish_batch(state, count) == 1
        seen += count
    return summed if in_order else -1
