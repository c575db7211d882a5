"""Notices when the wall clock was set. Python code; any process may use one of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from . import host
from .durations import NS_PER_MS

STEP_NS: Final = 500 * NS_PER_MS
"""By more than this the wall clock moves against the steady one only when it is set. Less is the correction of a drift,
and followed."""
_APART_NS: Final = NS_PER_MS
_READINGS: Final = 5


class StepWatch:
    """Reads the wall clock, and tells its steps from the time that has passed. Used by one thread.

    A computer that sleeps is no step: both clocks go on.
    """

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, steady_ns: Callable[[], int] = host.steady_ns
    ) -> None:
        """`steady_ns`: a clock that is never set and goes on while the computer sleeps."""
        self._read_wall_ns, self._read_steady_ns = wall_ns, steady_ns
        self._wall_ns, self._steady_ns = self._read_both()

    def read(self) -> tuple[int, int]:
        """Return the wall clock, UTC ns, and by how much it was set since the last call; negative = back, 0 = not."""
        wall_ns, steady_ns = self._read_both()
        step_ns = (wall_ns - self._wall_ns) - (steady_ns - self._steady_ns)
        self._wall_ns, self._steady_ns = wall_ns, steady_ns
        return wall_ns, step_ns if abs(step_ns) > STEP_NS else 0

    def _read_both(self) -> tuple[int, int]:
        """Read both clocks at one moment: a pause of this process between the two would look like a step."""
        for _ in range(_READINGS):
            before_ns = self._read_steady_ns()
            wall_ns = self._read_wall_ns()
            after_ns = self._read_steady_ns()
            if after_ns - before_ns <= _APART_NS:
                break
        return wall_ns, before_ns + (after_ns - before_ns) // 2
