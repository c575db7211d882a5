"""The gateway's two clocks. Given to it from outside, so that a simulation can set them."""

from __future__ import annotations

import time


class Clock:
    """The computer's clocks. Wall time stamps what is journaled and sent, steady time measures."""

    def wall_ns(self) -> int:
        """Return UTC ns. May step back or forward when the clock is set."""
        return time.time_ns()

    def steady_ns(self) -> int:
        """Return ns since some moment; never steps."""
        return time.monotonic_ns()
