"""The one writer of a tick ring and its quote board."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

from . import layout, ring_kernels, run_folder
from .jit import entry_point
from .layout import RING_CAPACITY_LEAST, TICK_BYTES
from .segment import Segment
from .tick import TICK_DTYPE, Platform, TickArray

DEFAULT_CAPACITY: Final = 1 << 16
DEFAULT_BOARD_ROWS: Final = 4096
_LARGEST_CAPACITY: Final = 1 << 28

_publish_records: Final = entry_point(ring_kernels.publish_records)
_find_tail: Final = entry_point(ring_kernels.find_tail)


class TickWriter:
    """Publishes ticks into `<name>.ticks` and `<name>.board` of a run folder.

    Created and used by one thread of the adapter's process. After a dead or closed writer it continues at the next
    number in the same segment; readers stay attached.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        platform: Platform,
        *,
        capacity: int = DEFAULT_CAPACITY,
        board_rows: int = DEFAULT_BOARD_ROWS,
    ) -> None:
        """
        Args:
            capacity: slots of the ring, a power of two from 8 to 2**28; 64 bytes each.
            board_rows: symbol ids below this have a row on the board, 64 bytes each; 0 = no board.

        Raises:
            ValueError: capacity or board_rows out of range.
            SegmentInUseError: another live process writes this ring.
        """
        _check_sizes(capacity, board_rows)
        self.name = name
        self.platform = platform
        self._ring = _open_table(run_folder.ring_path(folder, name), layout.RING, capacity, platform)
        self._board = None
        try:
            if board_rows:
                self._board = _open_table(run_folder.board_path(folder, name), layout.BOARD, board_rows, platform)
        except BaseException:
            self._ring.close_writer()
            raise

        state = ring_kernels.make_state(ring_kernels.WRITER_STATE)
        state["slots"] = self._ring.address + layout.RING.size_bytes
        state["mask"] = capacity - 1
        state["tail"] = self._ring.address + layout.RING.offset("tail")
        if self._board is not None:
            state["board"] = self._board.address + layout.BOARD.size_bytes
            state["board_rows"] = board_rows
        tail = _find_tail(int(state["slots"][0]), capacity - 1)
        state["next_seq"] = tail + 1
        self._ring.set_field("tail", tail)
        self._state = state  # kernels hold its address
        self._state_address = int(state.ctypes.data)
        self._bound: TickArray | None = None
        self._bound_address = 0

    def publish(self, records: TickArray, *, stamp: bool = True) -> int:
        """Publish records in order; they are copied, `records` may be reused at once.

        Calling it again with the same array object skips the checks, so a preallocated one is fastest.

        Args:
            records: shape (n,), TICK_DTYPE, C-contiguous. `seq` is ignored.
            stamp: set `ts_recv_ns` of what is published to now; False keeps each record's own.

        Returns:
            Number of the last record published.
        """
        if records is not self._bound:
            _check_records(records)
            self._bound = records
            self._bound_address = int(records.ctypes.data)
        return self.publish_at(self._bound_address, len(records), stamp=stamp)

    def publish_at(self, address: int, count: int, *, stamp: bool = True) -> int:
        """`publish` for records that lie at a memory address, for decoders that fill memory of their own."""
        return _publish_records(self._state_address or self._refuse_closed(), address, count, 1 if stamp else 0)

    @property
    def state_address(self) -> int:
        """Of the WRITER_STATE row, for kernels that publish (`ring_kernels.publish_records`)."""
        return self._state_address

    @property
    def tail(self) -> int:
        """Number of the newest record published, by this writer or a predecessor; 0 = none yet."""
        return int(self._state["next_seq"][0]) - 1

    @property
    def capacity(self) -> int:
        return int(self._state["mask"][0]) + 1

    def board_row(self, symbol: int) -> TickArray:
        """The board's newest record of a symbol: shape (1,), a copy; `seq` 0 = none yet. For the writer's own use."""
        if self._board is None:
            raise ValueError(f"ring {self.name!r} was made without a board")
        start = layout.BOARD.size_bytes + symbol * TICK_BYTES
        return self._board.bytes[start : start + TICK_BYTES].view(TICK_DTYPE).copy()

    def beat(self) -> None:
        """Write the heartbeats of ring and board; call it several times a second."""
        self._ring.beat()
        if self._board is not None:
            self._board.beat()

    def close(self) -> None:
        """End cleanly: readers see the state CLOSED. The records stay until the run folder's owner cleans up."""
        self._state_address = 0  # the lock is released next: a store after that would mix with another writer's
        self._ring.close_writer()
        if self._board is not None:
            self._board.close_writer()

    def _refuse_closed(self) -> NoReturn:
        raise ValueError(f"ring {self.name!r} was closed by this writer; make a new TickWriter to publish")

    def unlink(self) -> None:
        """Remove both files; before `close`. Attached readers keep what they mapped."""
        self._ring.unlink()
        if self._board is not None:
            self._board.unlink()


def _open_table(path: Path, kind: layout.Layout, rows: int, platform: Platform) -> Segment:
    """Ring or board: a header that states the number of rows, then that many 64-byte records."""

    def fill(segment: Segment) -> None:
        segment.set_field("capacity", rows)
        segment.set_field("record_bytes", TICK_BYTES)
        segment.set_field("platform", int(platform))
        segment.set_field("created_ns", time.time_ns())
        segment.bytes[kind.size_bytes :: 4096] = 0  # touch each page now, not at its first tick

    def fits(segment: Segment) -> bool:
        if (segment.field("capacity"), segment.field("platform")) != (rows, platform):
            return False
        # Of a ring that was overwritten behind a sound header the numbers cannot be continued.
        return kind is not layout.RING or _find_tail(segment.address + kind.size_bytes, rows - 1) >= 0

    return Segment.open_writer(path, kind, rows * TICK_BYTES, fill, fits)


def _check_sizes(capacity: int, board_rows: int) -> None:
    power_of_two = capacity > 0 and capacity & (capacity - 1) == 0
    if not power_of_two or not RING_CAPACITY_LEAST <= capacity <= _LARGEST_CAPACITY:
        raise ValueError(
            f"ring capacity was {capacity}; use a power of two from {RING_CAPACITY_LEAST} to {_LARGEST_CAPACITY}"
        )
    if not 0 <= board_rows <= 65536:
        raise ValueError(f"board_rows was {board_rows}; use 0 (no board) to 65536")


def _check_records(records: TickArray) -> None:
    if records.dtype != TICK_DTYPE or records.ndim != 1 or not records.flags.c_contiguous:
        raise ValueError(
            f"records were {records.ndim}-dimensional {records.dtype}; give one C-contiguous dimension of TICK_DTYPE"
        )


def empty_ticks(count: int) -> TickArray:
    """Array of `count` zeroed ticks whose prices are NaN (never seen)."""
    ticks = np.zeros(count, TICK_DTYPE)
    for name in ("bid", "ask", "last"):
        ticks[name] = np.nan
    return ticks
