"""Kernels that read several rings as one stream, ordered by `ts_recv_ns`.

`state` is the address of READER_STATE rows, one per ring. The order holds among the records present at the moment of
choice. A slower adapter's record with an older stamp can come later: waiting for it would delay all others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numba
import numpy as np
from numba import carray

from .atomics import as_pointer, copy_records, cpu_pause, fence_acquire, load_acquire
from .clock import utc_ns
from .histogram import observe
from .jit import kernel
from .layout import TICK_BYTES
from .ring_kernels import READER_STATE, count_ready, publish_cursor
from .tick import TICK_DTYPE

_STATE_BYTES: Final = READER_STATE.itemsize
NOTHING_READY: Final = np.iinfo(np.int64).max


@kernel("void(int64)")
def refresh_head(state: int) -> None:
    """Store the time of one ring's awaited record, or that it is not there yet."""
    reader = carray(as_pointer(state), 1, READER_STATE)[0]
    if count_ready(state):
        slot = reader.slots + ((reader.next_seq - 1) & reader.mask) * TICK_BYTES
        # It may be overwritten meanwhile: that affects only the order, since the copy is checked on its own.
        reader.head_ns = min(carray(as_pointer(slot), 1, TICK_DTYPE)[0].ts_recv_ns, NOTHING_READY - 1)
    else:
        reader.head_ns = NOTHING_READY


@kernel("int64(int64, int64)")
def pick_earliest(state: int, rings: int) -> int:
    """Address of the reader state whose awaited record is the earliest, 0 when none is ready."""
    readers = carray(as_pointer(state), rings, READER_STATE)
    chosen, earliest = 0, NOTHING_READY
    for i in range(rings):
        if readers[i].head_ns < earliest:
            earliest = readers[i].head_ns
            chosen = state + i * _STATE_BYTES
    return chosen


@kernel("void(int64, int64)")
def publish_cursors(state: int, rings: int) -> None:
    """`publish_cursor` for every ring."""
    for i in range(rings):
        publish_cursor(state + i * _STATE_BYTES)


@kernel("int64(int64)")
def advance_one(state: int) -> int:
    """After use of the awaited record: move on; 1 when it was not overwritten meanwhile, else 0 and counted."""
    reader = carray(as_pointer(state), 1, READER_STATE)[0]
    seq = reader.next_seq
    fence_acquire()
    intact = load_acquire(reader.slots + ((seq - 1) & reader.mask) * TICK_BYTES) == seq  # SYNC slot.zero
    reader.next_seq = seq + 1
    if intact:
        reader.read += 1
        return 1
    reader.lost += 1
    reader.torn += 1
    return 0


@kernel("int64(int64, int64, int64, int64, int64, int64)", brief=True)
def drain_many(state: int, rings: int, wanted: int, out: int, capacity: int, latency: int) -> int:
    """Copy up to `capacity` records of all rings to address `out`.

    Args:
        wanted: address of 65536 bytes, non-zero = symbol id wanted; 0 = all. Unwanted records count as read.
        latency: address of a histogram that gets now - ts_recv_ns of each record delivered; 0 = none.

    Returns:
        How many records were delivered.
    """
    for i in range(rings):
        refresh_head(state + i * _STATE_BYTES)
    filled = 0
    while filled < capacity:
        chosen = pick_earliest(state, rings)
        if chosen == 0:
            break
        reader = carray(as_pointer(chosen), 1, READER_STATE)[0]
        target = out + filled * TICK_BYTES
        copy_records(target, reader.slots + ((reader.next_seq - 1) & reader.mask) * TICK_BYTES, 1)
        if advance_one(chosen):
            record = carray(as_pointer(target), 1, TICK_DTYPE)[0]
            if wanted == 0 or carray(as_pointer(wanted), 65536, np.uint8)[record.symbol]:
                if latency:
                    observe(latency, utc_ns() - record.ts_recv_ns)
                filled += 1
        refresh_head(chosen)
    publish_cursors(state, rings)
    return filled


@kernel("int64(int64, int64, int64)")
def spin_any(state: int, rings: int, spins: int) -> int:
    """Watch the awaited slots of all rings for at most `spins` rounds; 1 as soon as one has something, else 0."""
    readers = carray(as_pointer(state), rings, READER_STATE)
    for i in range(rings):
        # Covers a case that the loop below cannot see: a writer that died while it overwrote the awaited slot left 0
        # there. It counts no loss, since this may run in another thread than the reader's.
        if load_acquire(readers[i].tail) >= readers[i].next_seq:  # SYNC ring.tail
            return 1
    for _ in range(spins):
        for i in range(rings):
            reader = readers[i]
            seq = reader.next_seq
            if load_acquire(reader.slots + ((seq - 1) & reader.mask) * TICK_BYTES) >= seq:  # SYNC slot.seq
                return 1
        cpu_pause()
    return 0


@cache
def make_run_loop(user_kernel: Callable[[Any, Any], Any]) -> Any:
    """The loop that calls a user's `@njit` function `(tick, state)` on each record in place; one for each function.

    The loop is specialised for that function, so the call is inlined; it is compiled at first use (some 0.3 s), since
    a cached copy could not tell when the user's function changes.

    Returns:
        Dispatcher (state, rings, wanted, limit, latency, user_state) -> records handed over; see `drain_many`.
    """

    def run_loop(state: int, rings: int, wanted: int, limit: int, latency: int, user_state: Any) -> int:
        for i in range(rings):
            refresh_head(state + i * _STATE_BYTES)
        handled = 0
        while handled < limit:
            chosen = pick_earliest(state, rings)
            if chosen == 0:
                break
            reader = carray(as_pointer(chosen), 1, READER_STATE)[0]
            slot = reader.slots + ((reader.next_seq - 1) & reader.mask) * TICK_BYTES
            record = carray(as_pointer(slot), 1, TICK_DTYPE)[0]
            if wanted == 0 or carray(as_pointer(wanted), 65536, np.uint8)[record.symbol]:
                if latency:
                    observe(latency, utc_ns() - record.ts_recv_ns)
                user_kernel(record, user_state)
                handled += 1
            advance_one(chosen)
            refresh_head(chosen)
        publish_cursors(state, rings)
        return handled

    return numba.njit(nogil=True)(run_loop)
