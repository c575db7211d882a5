"""Kernels of the broadcast ring: one writer, any number of readers, none of which ever waits for another.

Ordering pairs (each release names its acquire):

- SYNC slot.seq: the writer stores a record's number into its slot with release, last; a reader loads it with acquire
  and, when it is the number it waits for, sees the whole record.
- SYNC slot.zero: before it overwrites a slot the writer stores 0 there, then fences with release; a reader that saw
  any byte of the new payload therefore sees, after its acquire fence, that `seq` is no longer its own number.
- SYNC ring.tail: stored with release once a batch; a reader that loads it with acquire sees all records up to it.

The writer goes through the slots in order, so when the first slot of a batch still holds its number after use, none
of the batch was overwritten. The slot at its highest address shows that the file was not cut meanwhile. Kernels take
addresses and counts, check nothing and allocate nothing; the classes in `writer.py`, `reader.py` and `fan_in.py` have
checked once, when they were made.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray

from .atomics import (
    as_pointer,
    copy_payload,
    copy_records,
    fence_acquire,
    fence_release,
    load_acquire,
    store_release,
)
from .clock import utc_ns
from .jit import kernel
from .layout import CURSOR, RING, TICK, TICK_BYTES
from .tick import TICK_DTYPE

_CURSOR_READ: Final = CURSOR.offset("read") - CURSOR.offset("next_seq")
_CURSOR_LOST: Final = CURSOR.offset("lost") - CURSOR.offset("next_seq")
_CURSOR_TORN: Final = CURSOR.offset("torn") - CURSOR.offset("next_seq")
_TS_RECV: Final = TICK.offset("ts_recv_ns")
_MAGIC_AT: Final = RING.offset("magic") - RING.size_bytes  # from slot 0
_VERSION_AT: Final = RING.offset("version") - RING.size_bytes
_MAGIC: Final = int.from_bytes(RING.magic, "little")
_VERSION: Final = RING.version
_LONGEST_BATCH: Final = 1 << 32  # records that a tail can be behind the slots; no memory holds more
# What a copy loses when the writer comes round meanwhile; a quarter of a level-1 cache, so checking costs nothing.
_DRAIN_CHUNK: Final = 256

WRITER_STATE: Final = np.dtype(
    [
        ("slots", "<i8"),  # address of slot 0
        ("mask", "<i8"),  # capacity - 1
        ("next_seq", "<i8"),
        ("tail", "<i8"),  # address of the tail word
        ("board", "<i8"),  # address of row 0 of the quote board, 0 = none
        ("board_rows", "<i8"),
    ]
)
"""Private memory of the one writer."""

READER_STATE: Final = np.dtype(
    [
        ("slots", "<i8"),
        ("mask", "<i8"),
        ("next_seq", "<i8"),  # number of the record it waits for
        ("tail", "<i8"),
        ("keep", "<i8"),  # how many of the newest records to go on with after having been lapped
        ("read", "<i8"),
        ("lost", "<i8"),
        ("torn", "<i8"),  # of the lost ones, those overwritten while in use
        ("cursor", "<i8"),  # address of the published cursor words, 0 = none
        ("head_ns", "<i8"),  # ts_recv_ns of the awaited record, for fan-in; NOTHING_READY = not there
    ]
)
"""Private memory of one reader of one ring."""


@kernel("void(int64, int64)")
def write_board_row(row: int, record: int) -> None:
    """Replace a quote-board row by a record (addresses). SYNC slot.seq, slot.zero."""
    seq = load_acquire(record)
    store_release(row, 0)
    fence_release()
    copy_payload(row, record)
    store_release(row, seq)


@kernel("int64(int64, int64, int64, int64)", brief=True)
def publish_records(state: int, source: int, count: int, stamp: int) -> int:
    """Publish `count` records that lie at address `source`; their `seq` is ignored.

    Args:
        stamp: 1 = set `ts_recv_ns` to now, one clock reading for the batch; 0 = keep each record's own.

    Returns:
        Number of the last record published.
    """
    writer = carray(as_pointer(state), 1, WRITER_STATE)[0]
    slots, mask, seq = writer.slots, writer.mask, writer.next_seq
    board, board_rows = writer.board, writer.board_rows
    now_ns = utc_ns() if stamp else 0
    for i in range(count):
        slot = slots + ((seq - 1) & mask) * TICK_BYTES
        store_release(slot, 0)
        fence_release()
        copy_payload(slot, source + i * TICK_BYTES)
        if stamp:
            carray(as_pointer(slot + _TS_RECV), 1, np.int64)[0] = now_ns
        store_release(slot, seq)
        if board:
            symbol = np.int64(carray(as_pointer(slot), 1, TICK_DTYPE)[0].symbol)
            if symbol < board_rows:
                write_board_row(board + symbol * TICK_BYTES, slot)
        seq += 1
    writer.next_seq = seq
    store_release(writer.tail, seq - 1)
    return seq - 1


@kernel("int64(int64, int64)")
def find_tail(slots: int, mask: int) -> int:
    """Number of the newest complete record in a ring's slots, 0 = none.

    A writer that died in a batch left the tail word any number behind, even more than the ring has slots.

    Returns:
        -1 when a slot holds a number that belongs elsewhere: the file was overwritten.
    """
    tail = 0
    for i in range(mask + 1):
        seq = load_acquire(slots + i * TICK_BYTES)
        if seq < 0 or (seq != 0 and (seq - 1) & mask != i):
            return -1
        tail = max(tail, seq)
    return tail


@kernel("int64(int64, int64)", brief=True)
def find_newest(state: int, found: int) -> int:
    """Number of the newest record published, for a reader that was lapped or leaves the ring; 0 = none.

    Args:
        found: the number in the awaited slot; in the middle of a batch it is newer than the tail word. 0 = none.

    Returns:
        -1 when the file is damaged: its numbers would make any number of lost records.
    """
    reader = carray(as_pointer(state), 1, READER_STATE)[0]
    slots, mask = reader.slots, reader.mask
    magic = carray(as_pointer(slots + _MAGIC_AT), 1, np.int64)[0]
    version = carray(as_pointer(slots + _VERSION_AT), 1, np.int64)[0]
    if magic != _MAGIC or version != _VERSION:
        return -1
    tail = load_acquire(reader.tail)  # SYNC ring.tail
    if tail < 0:
        return -1
    if tail > 0:
        # The tail never runs ahead of the slots; 0 = being overwritten.
        at_tail = load_acquire(slots + ((tail - 1) & mask) * TICK_BYTES)
        if at_tail != 0 and at_tail < tail:
            return -1
    if found != 0 and ((found - reader.next_seq) & mask != 0 or found - tail >= _LONGEST_BATCH):
        return -1
    return max(tail, found)


@kernel("int64(int64, int64)")
def skip_lapped(state: int, found: int) -> int:
    """Called when the awaited record is overwritten: go on at the newest, count what is lost exactly.

    Args:
        found: as for `find_newest`.

    Returns:
        1 when it went on; 0 when the file is damaged, and nothing has changed.
    """
    reader = carray(as_pointer(state), 1, READER_STATE)[0]
    newest = find_newest(state, found)
    if newest < 0:
        return 0
    resume = max(newest - reader.keep + 1, reader.next_seq + 1)
    reader.lost += resume - reader.next_seq
    reader.next_seq = resume
    return 1


@kernel("int64(int64)", brief=True)
def count_ready(state: int) -> int:
    """How many records wait to be read, in order, from the awaited one on; skips and counts when lapped.

    0 for a damaged file, too: what it seems to have lost is no count of records.
    """
    reader = carray(as_pointer(state), 1, READER_STATE)[0]
    while True:
        seq = reader.next_seq
        slot = reader.slots + ((seq - 1) & reader.mask) * TICK_BYTES
        found = load_acquire(slot)  # SYNC slot.seq
        if found == 0:
            if load_acquire(reader.tail) < seq:  # SYNC ring.tail
                return 0  # never written, or being written
            # It has been published: either between these two looks, or it is being overwritten and stays 0. Without
            # the second look a reader that lost its core in between counts a record as lost that is there.
            found = load_acquire(slot)
        elif found < seq:
            return 0
        if found == seq:
            # The next slot tells whether this is the only one: a reader that keeps up with the writer would otherwise
            # take the tail's cache line away from it with every record (three times slower one by one).
            following = reader.slots + (seq & reader.mask) * TICK_BYTES
            if load_acquire(following) != seq + 1:  # SYNC slot.seq
                return 1
            # The tail may lag behind a batch that is being published, never run ahead of the slots. A writer that
            # laps us right now can make the difference larger than the ring: no copy may go past its end.
            ready = load_acquire(reader.tail) - seq + 1  # SYNC ring.tail
            return min(max(ready, 2), reader.mask + 1)
        if not skip_lapped(state, found):
            return 0


@kernel("void(int64)", brief=True)
def publish_cursor(state: int) -> None:
    """Let other processes see how far this reader is: next_seq, read, lost, torn."""
    reader = carray(as_pointer(state), 1, READER_STATE)[0]
    if reader.cursor:
        store_release(reader.cursor + _CURSOR_READ, reader.read)
        store_release(reader.cursor + _CURSOR_LOST, reader.lost)
        store_release(reader.cursor + _CURSOR_TORN, reader.torn)
        # Last: a replay at full speed may overwrite everything before it as soon as it sees this.
        store_release(reader.cursor, reader.next_seq)


@kernel("int64(int64, int64)", brief=True)
def finish_batch(state: int, count: int) -> int:
    """After use of `count` records from the awaited one on: 1 when none was overwritten or cut meanwhile, else 0.

    Either way the cursor moves past them; the others are counted as lost and torn.
    """
    reader = carray(as_pointer(state), 1, READER_STATE)[0]
    seq = reader.next_seq
    start = (seq - 1) & reader.mask
    # A file that is cut loses its end: all of the batch was there if the record at the highest address still is.
    highest = min(start + count - 1, reader.mask)
    fence_acquire()
    intact = load_acquire(reader.slots + start * TICK_BYTES) == seq  # SYNC slot.zero
    intact = intact and load_acquire(reader.slots + highest * TICK_BYTES) == seq + highest - start
    reader.next_seq = seq + count
    if intact:
        reader.read += count
    else:
        reader.lost += count
        reader.torn += count
    publish_cursor(state)
    return 1 if intact else 0


@kernel("int64(int64, int64, int64)", brief=True)
def drain_one(state: int, out: int, capacity: int) -> int:
    """Copy up to `capacity` records of one ring to address `out`. Returns how many.

    It ends early when the writer lapped it during a copy: otherwise a faster writer could keep it here forever.
    """
    reader = carray(as_pointer(state), 1, READER_STATE)[0]
    slots, mask = reader.slots, reader.mask
    filled = 0
    while filled < capacity:
        count = min(count_ready(state), capacity - filled, _DRAIN_CHUNK)
        if count == 0:
            break
        start = (reader.next_seq - 1) & mask
        first = min(count, mask + 1 - start)
        copy_records(out + filled * TICK_BYTES, slots + start * TICK_BYTES, first)
        copy_records(out + (filled + first) * TICK_BYTES, slots, count - first)
        if not finish_batch(state, count):
            break
        filled += count
    return filled


def make_state(dtype: np.dtype[np.void], rows: int = 1) -> Any:
    """Zeroed private state, C-contiguous, shape (rows,)."""
    return np.zeros(rows, dtype)
