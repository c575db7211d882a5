"""Kernels of the concurrent shared-memory tests: writers whose every field follows from `seq`, readers that check each.

They are cached as the product's kernels are. What they call lies in this file, whose change numba sees by itself, or in
the product, whose change makes another cache folder; keep it so.
"""

from __future__ import annotations

import numba
import numpy as np
from nexus_gateway.shm.atomics import as_pointer, cpu_pause, load_acquire
from nexus_gateway.shm.jit import kernel
from nexus_gateway.shm.layout import TICK_BYTES
from nexus_gateway.shm.quotes import read_board_row
from nexus_gateway.shm.ring_kernels import (
    READER_STATE,
    WRITER_STATE,
    count_ready,
    drain_one,
    finish_batch,
    publish_records,
    write_board_row,
)
from nexus_gateway.shm.tick import TICK_DTYPE
from numba import carray

BATCH = 256
"""Records in a writer's own buffer."""


@numba.njit
def derive(record, seq):
    """Set every field of a record but `seq` as a function of it; distinct in each field for neighbours."""
    record.ts_event_ns = seq * 3
    record.ts_recv_ns = seq * 5
    record.bid = seq * 0.25
    record.ask = seq * 0.5
    record.last = seq * 0.75
    record.bid_size = seq & 0xFFFFF
    record.ask_size = (seq >> 3) & 0xFFFFF
    record.last_size = (seq * 7) & 0xFFFFF
    record.symbol = seq & 0xFFFF
    record.source = (seq >> 4) & 0xFF
    record.flags = seq & 0xFF


@numba.njit
def is_derived(record):
    """Whether all fields belong to the same `seq`."""
    seq = np.int64(record.seq)
    return (
        record.ts_event_ns == seq * 3
        and record.ts_recv_ns == seq * 5
        and record.bid == seq * 0.25
        and record.ask == seq * 0.5
        and record.last == seq * 0.75
        and record.bid_size == np.float32(seq & 0xFFFFF)
        and record.ask_size == np.float32((seq >> 3) & 0xFFFFF)
        and record.last_size == np.float32((seq * 7) & 0xFFFFF)
        and record.symbol == seq & 0xFFFF
        and record.source == (seq >> 4) & 0xFF
        and record.flags == seq & 0xFF
    )


@numba.njit
def spin(rounds):
    for _ in range(rounds):
        cpu_pause()


@kernel("void(int64, int64, int64, int64, int64)")
def write_derived(state, records, last_seq, batch, pause):
    """Publish up to number `last_seq` in batches; `pause` rounds of rest after each. `records`: BATCH of them, ours."""
    buffer = carray(as_pointer(records), BATCH, TICK_DTYPE)
    writer = carray(as_pointer(state), 1, WRITER_STATE)
    while writer[0].next_seq <= last_seq:
        count = min(batch, last_seq - writer[0].next_seq + 1)
        for i in range(count):
            derive(buffer[i], writer[0].next_seq + i)
        publish_records(state, records, count, 0)
        spin(pause)


@kernel("void(int64, int64, int64, int64, int64)")
def write_lossless(state, records, cursor, last_seq, batch):
    """`write_derived` that fills every slot but overwrites none that the reader behind the cursor needs."""
    buffer = carray(as_pointer(records), BATCH, TICK_DTYPE)
    writer = carray(as_pointer(state), 1, WRITER_STATE)
    while writer[0].next_seq <= last_seq:
        room = load_acquire(cursor) + writer[0].mask - writer[0].next_seq + 1
        count = min(batch, last_seq - writer[0].next_seq + 1, room)
        for i in range(count):
            derive(buffer[i], writer[0].next_seq + i)
        if count > 0:
            publish_records(state, records, count, 0)


@kernel("int64(int64, int64, int64)")
def count_bad(records, count, previous):
    """How many of `count` copied records are torn, repeated or out of order after number `previous`."""
    copied = carray(as_pointer(records), count, TICK_DTYPE)
    bad = 0
    for i in range(count):
        if not is_derived(copied[i]) or np.int64(copied[i].seq) <= previous:
            bad += 1
        previous = np.int64(copied[i].seq)
    return bad


@kernel("int64(int64, int64, int64, int64, int64, int64)")
def drain_derived(state, out, limit, last_seq, pause, idle_rounds):
    """Drain until `last_seq` is past or nothing came for `idle_rounds` looks; `pause` rounds of rest after each drain.

    Returns the number of records whose fields do not belong together or whose order is wrong: must be 0.
    """
    records = carray(as_pointer(out), limit, TICK_DTYPE)
    reader = carray(as_pointer(state), 1, READER_STATE)
    bad, previous, idle = 0, np.int64(0), 0
    while reader[0].next_seq <= last_seq and idle < idle_rounds:
        count = drain_one(state, out, limit)
        if count == 0:
            idle += 1
            continue
        idle = 0
        bad += count_bad(out, count, previous)
        previous = np.int64(records[count - 1].seq)
        spin(pause)
    return bad


@kernel("int64(int64, int64, int64, int64, int64)")
def view_derived(state, limit, last_seq, pause, idle_rounds):
    """As `drain_derived`, but looks at the records where they lie and confirms: only confirmed ones must be whole."""
    reader = carray(as_pointer(state), 1, READER_STATE)
    bad, idle = 0, 0
    while reader[0].next_seq <= last_seq and idle < idle_rounds:
        count = min(count_ready(state), limit)
        if count == 0:
            idle += 1
            continue
        idle = 0
        first, bad_here = reader[0].next_seq, 0
        for i in range(count):
            slot = reader[0].slots + ((first + i - 1) & reader[0].mask) * TICK_BYTES
            record = carray(as_pointer(slot), 1, TICK_DTYPE)[0]
            if not is_derived(record) or np.int64(record.seq) != first + i:
                bad_here += 1
        spin(pause)
        if finish_batch(state, count):
            bad += bad_here
    return bad


@kernel("void(int64, int64, int64, int64)")
def write_rows(row, record, first_seq, last_seq):
    """Write one board row again and again, with the derived records of these numbers. `record`: one, ours."""
    own = carray(as_pointer(record), 1, TICK_DTYPE)
    for seq in range(first_seq, last_seq + 1):
        derive(own[0], seq)
        own[0].seq = seq
        write_board_row(row, record)


@kernel("int64(int64, int64, int64, int64)")
def watch_row(row, out, last_seq, idle_rounds):
    """Read one board row again and again; returns how many readings were torn or went back. SYNC slot.seq."""
    record = carray(as_pointer(out), 1, TICK_DTYPE)
    bad, previous, idle = 0, np.int64(0), 0
    while previous < last_seq and idle < idle_rounds:
        seq = read_board_row(row, out)
        idle = idle + 1 if seq <= previous else 0
        if seq == 0:
            continue
        if not is_derived(record[0]) or seq < previous:
            bad += 1
        previous = seq
    return bad
