"""Reading one tick ring, in three ways, without ever delaying its writer.

A reader that is too slow is lapped: overwritten records are counted exactly (`lost`), and it continues at the newest
one, since old prices are of less use than being up to date. Once it has caught up, `read + lost` equals the number of
records published since its start.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from . import fan_in_kernels, layout, ring_kernels, run_folder
from .idle import Idle
from .jit import entry_point
from .segment import Segment, SegmentState
from .tick import TICK_DTYPE, Platform, TickArray

Start = Literal["new", "oldest", "first"]
"""Where a reader begins: after the newest record, at the oldest still there, or at number 1 (what is gone is lost)."""

AfterLap = Literal["newest", "oldest"]
"""Where it goes on after having been lapped: at the newest record (freshness) or at old ones still safe (recorder)."""

_count_ready: Final = entry_point(ring_kernels.count_ready)
_finish_batch: Final = entry_point(ring_kernels.finish_batch)
_publish_cursor: Final = entry_point(ring_kernels.publish_cursor)
_find_newest: Final = entry_point(ring_kernels.find_newest)
_drain_one: Final = entry_point(ring_kernels.drain_one)
_NEXT_SEQ: Final = list(ring_kernels.READER_STATE.names or ()).index("next_seq")
_spin_any: Final = entry_point(fan_in_kernels.spin_any)


class TickReader:
    """Reader of one ring; used by one thread. Any process may make any number of them.

    Attributes:
        name: of the ring.
        platform: of the ring's writer.
    """

    def __init__(
        self,
        folder: Path,
        ring: str,
        *,
        start: Start | int = "new",
        after_lap: AfterLap = "newest",
        cursor: str | None = None,
    ) -> None:
        """
        Args:
            start: where to begin, or the number of the first record wanted.
            cursor: name under which to publish this reader's position, for monitoring and for a replay at full speed;
                None = do not publish it.

        Raises:
            SegmentError: the ring is not there, not ready, of another version, or damaged.
            ValueError: start or after_lap is none of those named.
        """
        if after_lap not in ("newest", "oldest"):
            raise ValueError(f"after_lap was {after_lap!r}; use 'newest' or 'oldest'")
        segment = Segment.attach(run_folder.ring_path(folder, ring), layout.RING)
        capacity = segment.field("capacity")
        self.name = ring
        self.platform = Platform(segment.field("platform"))
        self._segment = segment
        self._slots: TickArray = segment.bytes[layout.RING.size_bytes :].view(TICK_DTYPE)
        self._cursor = None if cursor is None else _open_cursor(folder, ring, cursor)

        state = ring_kernels.make_state(ring_kernels.READER_STATE)
        state["slots"] = segment.address + layout.RING.size_bytes
        state["mask"] = capacity - 1
        state["tail"] = segment.address + layout.RING.offset("tail")
        state["keep"] = 1 if after_lap == "newest" else capacity * 3 // 4
        state["next_seq"] = _first_seq(start, segment.field("tail"), capacity)
        if self._cursor is not None:
            state["cursor"] = self._cursor.address + layout.CURSOR.offset("next_seq")
        self._bind(state)
        _publish_cursor(self._state_address)
        self._batch = 0
        self._out: TickArray | None = None
        self._out_address = 0

    def ready(self) -> int:
        """Number of records that can be read now; 0.3 us when there are none."""
        return _count_ready(self._state_address)

    def views(self, limit: int = 1 << 62) -> list[TickArray]:
        """The next records where they lie in the ring: up to two read-only arrays, in order, nothing copied.

        Use them, then call `confirm`. Values taken from them count only if it says True.

        Args:
            limit: at most this many records in all.

        Raises:
            ValueError: limit is negative.
        """
        if limit < 0:
            raise ValueError(f"limit was {limit}; use 0 or more")
        count = min(_count_ready(self._state_address), limit)
        self._batch = count
        if count == 0:
            return []
        start = (self.next_seq - 1) & (len(self._slots) - 1)
        head = self._slots[start : start + count]
        if len(head) == count:
            return [head]
        return [head, self._slots[: count - len(head)]]

    def confirm(self) -> bool:
        """End the use of the last `views` and move on.

        Returns:
            True: nothing was overwritten while in use. False: the writer came round, what was computed may be torn
            and must be dropped; the batch is counted as lost (and `torn`).
        """
        count, self._batch = self._batch, 0  # `drain` and `run` end the use of the views, too
        return count == 0 or _finish_batch(self._state_address, count) == 1

    def drain(self, out: TickArray) -> int:
        """Copy the next records into `out` (n,), TICK_DTYPE, C-contiguous, yours. Returns how many; never waits."""
        if out is not self._out:
            check_out(out)
            self._out, self._out_address = out, int(out.ctypes.data)
        self._batch = 0
        return _drain_one(self._state_address, self._out_address, len(out))

    def run(self, kernel: Callable[[Any, Any], Any], state: Any, limit: int = 1 << 62) -> int:
        """Call your `@numba.njit` function `kernel(tick, state)` on each waiting record in place; never waits.

        A record overwritten during the call counts in `lost` and `torn`: if `torn` grew, `state` saw a torn record.

        Args:
            kernel: compiled into the loop at its first use (some 0.3 s). It must not keep `tick`, and must not store
                into it: that memory is read-only, and the processor ends the whole process.
            state: anything numba can pass, such as a structured array; yours.

        Returns:
            Number of calls made.
        """
        self._batch = 0
        if _count_ready(self._state_address) == 0:
            return 0
        handled: int = fan_in_kernels.make_run_loop(kernel)(self._state_address, 1, 0, limit, 0, state)
        return handled

    def wait(self, idle: Idle, timeout_s: float) -> bool:
        """Block until a record is there (True) or `timeout_s` has passed (False); other threads keep running."""
        return wait_any(self._state_address, 1, idle, timeout_s)

    @property
    def next_seq(self) -> int:
        """Number of the next record to read."""
        return self._words[_NEXT_SEQ]

    @property
    def read(self) -> int:
        return int(self._state["read"][0])

    @property
    def lost(self) -> int:
        return int(self._state["lost"][0])

    @property
    def torn(self) -> int:
        return int(self._state["torn"][0])

    @property
    def tail(self) -> int:
        """Number of the newest record in the ring."""
        return self._segment.field("tail")

    def unread(self) -> int | None:
        """Number of records published and not yet read, overwritten ones included; None when the file was overwritten
        or cut, so that it is not known.
        """
        newest = _find_newest(self._state_address, 0)
        return None if newest < 0 else max(newest + 1 - self.next_seq, 0)

    @property
    def capacity(self) -> int:
        return len(self._slots)

    @property
    def created_ns(self) -> int:
        """Creation time of the ring's segment, UTC ns; a `seq` identifies a record only together with it."""
        return self._segment.field("created_ns")

    def state(self) -> SegmentState:
        """LIVE, CLOSED or DEAD_WRITER."""
        return self._segment.state()

    def heartbeat_age_ns(self) -> int:
        """Nanoseconds since the writer's last heartbeat."""
        return self._segment.heartbeat_age_ns()

    def is_replaced(self) -> bool:
        """Whether the writer has created a new segment (another capacity): make a new reader then."""
        return self._segment.is_replaced()

    def close(self) -> None:
        """Remove the published cursor. The mapping is released with this object and all views of it."""
        if self._cursor is not None:
            try:
                self._cursor.unlink()
            except PermissionError:
                pass  # Windows: still mapped. It is marked closed; the run folder's owner removes it at the next start
            self._cursor.close_writer()
            self._cursor = None
            self._state["cursor"] = 0

    def move_state(self, row: Any) -> None:
        """Move the private state to `row` (shape (1,), READER_STATE): a fan-in keeps all its states in one array."""
        row[:] = self._state
        self._bind(row)

    def _bind(self, state: Any) -> None:
        self._state = state
        self._words = memoryview(state.view(np.int64))  # a field through numpy's record takes 0.2 us, so 0.03
        self._state_address = int(state.ctypes.data)


def wait_any(state: int, rings: int, idle: Idle, timeout_s: float) -> bool:
    """Wait with an idle strategy until one of the rings of `state` has a record; False after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while _spin_any(state, rings, idle.spins) == 0:
        if time.monotonic() >= deadline:
            return False
        idle.pause()
    idle.reset()
    return True


def check_out(out: TickArray) -> None:
    """Raises ValueError unless `out` can be filled by a kernel."""
    if out.dtype != TICK_DTYPE or out.ndim != 1 or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(
            f"out was {out.ndim}-dimensional {out.dtype}, writeable {out.flags.writeable}; give one writeable "
            "C-contiguous dimension of TICK_DTYPE"
        )


_cursor_numbers = itertools.count(1)


def _open_cursor(folder: Path, ring: str, reader: str) -> Segment:
    def fill(segment: Segment) -> None:
        segment.set_field("ring", ring.encode())
        segment.set_field("reader", reader.encode())

    path = run_folder.cursor_path(folder, ring, reader, os.getpid(), next(_cursor_numbers))
    return Segment.open_writer(path, layout.CURSOR, 0, fill, lambda segment: False)


def _first_seq(start: Start | int, tail: int, capacity: int) -> int:
    if isinstance(start, int) and start >= 1:
        return start
    if start == "new":
        return tail + 1
    if start == "first":
        return 1
    if start == "oldest":
        # The oldest slots are overwritten next: start some way behind them.
        return max(1, tail - capacity * 3 // 4 + 1)
    raise ValueError(f"start was {start!r}; use 'new', 'oldest', 'first' or a record's number from 1")
