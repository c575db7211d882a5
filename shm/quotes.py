"""The quote board: the newest record of each symbol of one adapter, readable in constant time at any moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numba import carray

from . import layout, run_folder
from .atomics import as_pointer, copy_payload, cpu_pause, fence_acquire, load_acquire, store_release
from .jit import entry_point, kernel
from .layout import TICK_BYTES
from .segment import Segment, SegmentState
from .tick import TICK_DTYPE, Platform, TickArray


@kernel("int64(int64, int64)", brief=True)
def read_board_row(row: int, out: int) -> int:
    """Copy a board row to a record of ours (addresses); returns its seq, 0 = this symbol has had no tick.

    A row that is being written is retried for some 100 us. A writer that died in the middle leaves 0 in it. The
    row then counts as empty, because a half-written price is worse than none.
    """
    for _ in range(4096):
        seq = load_acquire(row)  # SYNC slot.seq
        if seq != 0:
            copy_payload(out, row)
            fence_acquire()
            if load_acquire(row) == seq:  # SYNC slot.zero
                store_release(out, seq)
                return seq
        elif carray(as_pointer(row), 1, TICK_DTYPE)[0].ts_recv_ns == 0:
            break
        cpu_pause()
    store_release(out, 0)
    return 0


_read_board_row: Final = entry_point(read_board_row)


class QuoteBoard:
    """Read-only view of `<ring>.board`. Any process may attach; each object is used by one thread."""

    def __init__(self, folder: Path, ring: str) -> None:
        """Raises SegmentError when the board is not there, not ready, of another version, or damaged."""
        self._segment = Segment.attach(run_folder.board_path(folder, ring), layout.BOARD)
        self.name = ring
        self.rows = self._segment.field("capacity")
        self.platform = Platform(self._segment.field("platform"))
        self._rows_address = self._segment.address + layout.BOARD.size_bytes
        self._row: TickArray = np.zeros(1, TICK_DTYPE)
        self._row_address = int(self._row.ctypes.data)
        symbols: Any = self._row["symbol"]
        self._row_symbol = memoryview(symbols)

    def latest(self, symbol: int) -> np.void | None:
        """Newest record of a symbol id, a read-only copy; None when it has had none. Some 0.5 us.

        Raises:
            IndexError: the id is beyond the board.
        """
        if not 0 <= symbol < self.rows:
            raise IndexError(f"symbol id was {symbol}; the board of {self.name!r} has rows 0 to {self.rows - 1}")
        if _read_board_row(self._rows_address + symbol * TICK_BYTES, self._row_address) == 0:
            return None
        if self._row_symbol[0] != symbol:
            return None  # the file was overwritten: such a price is not used
        # By way of bytes: numpy's own copy of a structured record goes field by field and takes 2 us.
        record: np.void = np.frombuffer(self._row.tobytes(), TICK_DTYPE)[0]
        return record

    def state(self) -> SegmentState:
        return self._segment.state()

    def heartbeat_age_ns(self) -> int:
        return self._segment.heartbeat_age_ns()

    def is_closed(self) -> bool:
        """Whether the writer has ended cleanly; one load, unlike `state`."""
        return self._segment.field("closed") == 1

    def is_replaced(self) -> bool:
        return self._segment.is_replaced()
