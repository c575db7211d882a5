"""The gateway's two clocks. Given to it from outside, so that a simulation can set them."""

from __future__ import annotations

import time

from ...shm.durations import NS_PER_S
from ..logs import Log


class Clock:
    """The computer's clocks. Wall time stamps what is journaled and sent, steady time measures."""

    def wall_ns(self) -> int:
        """Return UTC ns. May step back or forward when the clock is set."""
        return time.time_ns()

    def steady_ns(self) -> int:
        """Return ns since some moment; never steps."""
        return time.monotonic_ns()


class ClockWatch:
    """Logs when the wall clock was set back. The engine's time never runs back: it stands still until the clock has
    caught up, no deadline falls due meanwhile, and without this line nothing would show why.
    """

    def __init__(self, clock: Clock, log: Log) -> None:
        self._clock = clock
        self._log = log
        self._is_behind = False

    def check(self, engine_ns: int) -> None:
        """Compare the wall clock with the engine's time, UTC ns; call it about once a second."""
        behind_s = (engine_ns - self._clock.wall_ns()) // NS_PER_S
        if behind_s > 0 and not self._is_behind:
            text = (
                "the clock was set back: until it has caught up signals are refused as stale and no deadline falls due"
            )
            self._log.error(text, seconds=behind_s)
        elif behind_s <= 0 and self._is_behind:
            self._log.warning("the clock has caught up")
        self._is_behind = behind_s > 0
