"""Several rings read as one stream, ordered by the time of publication."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from . import fan_in_kernels, ring_kernels
from .idle import Idle
from .jit import entry_point
from .reader import TickReader, check_out, wait_any
from .tick import TickArray

_drain_many: Final = entry_point(fan_in_kernels.drain_many)
_SYMBOLS: Final = 1 << 16


class FanIn:
    """Reads many rings in one call. From then on read through it, not through the readers that it was given.

    One thread of one process uses it; the readers' counts (`read`, `lost`, `torn`) stay valid.

    Attributes:
        latency: as given; may be changed between calls.
    """

    def __init__(
        self, readers: Sequence[TickReader], *, symbols: Iterable[int] | None = None, latency: int = 0
    ) -> None:
        """
        Args:
            symbols: ids wanted; the others are read and dropped. None = all.
            latency: address of a histogram (`CountersPage.histogram_address`) that gets the nanoseconds from
                publication to delivery of each record; 0 = none.
        """
        self.readers = list(readers)
        self._states = ring_kernels.make_state(ring_kernels.READER_STATE, max(len(self.readers), 1))
        for i, reader in enumerate(self.readers):
            reader.move_state(self._states[i : i + 1])
        self._address = int(self._states.ctypes.data)
        self._wanted = None
        self._wanted_address = 0
        if symbols is not None:
            self._wanted = np.zeros(_SYMBOLS, np.uint8)
            for symbol in symbols:
                if not 0 <= symbol < _SYMBOLS:
                    raise ValueError(f"symbol id was {symbol}; use 0 to {_SYMBOLS - 1}")
                self._wanted[symbol] = 1
            self._wanted_address = int(self._wanted.ctypes.data)
        self.latency = latency
        self._out: TickArray | None = None
        self._out_address = 0

    def drain(self, out: TickArray) -> int:
        """Copy the next records of all rings into `out`, ordered by `ts_recv_ns`. Returns how many; never waits.

        Args:
            out: shape (n,), TICK_DTYPE, C-contiguous, yours; give the same array again, checks are skipped then.
        """
        if out is not self._out:
            check_out(out)
            self._out, self._out_address = out, int(out.ctypes.data)
        return _drain_many(
            self._address, len(self.readers), self._wanted_address, self._out_address, len(out), self.latency
        )

    def run(self, kernel: Callable[[Any, Any], Any], state: Any, limit: int = 1 << 62) -> int:
        """`TickReader.run` over all rings, in the order of `drain`, for the wanted symbols."""
        run_loop = fan_in_kernels.make_run_loop(kernel)
        handled: int = run_loop(self._address, len(self.readers), self._wanted_address, limit, self.latency, state)
        return handled

    def wait(self, idle: Idle, timeout_s: float) -> bool:
        """Block until any ring has something (True) or `timeout_s` has passed (False)."""
        return wait_any(self._address, len(self.readers), idle, timeout_s)

    @property
    def read(self) -> int:
        return int(self._states["read"].sum())

    @property
    def lost(self) -> int:
        return int(self._states["lost"].sum())

    @property
    def torn(self) -> int:
        return int(self._states["torn"].sum())

    def close(self) -> None:
        """Close all readers."""
        for reader in self.readers:
            reader.close()
