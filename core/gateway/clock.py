"""The gateway's clocks. Given to it from outside, so that a simulation can set them."""

from __future__ import annotations

import time
from typing import Protocol

from ...shm import host
from ...shm.steps import StepWatch


class Clocks(Protocol):
    """The clocks of a computer."""

    def wall_ns(self) -> int:
        """Return UTC ns. May step back or forward when the clock is set."""
        ...

    def steady_ns(self) -> int:
        """Return ns since some moment; never steps, and goes on while the computer sleeps."""
        ...


class Clock:
    """Clocks of this computer. Wall time stamps what others read, steady time measures."""

    def wall_ns(self) -> int:
        """See `Clocks.wall_ns`."""
        return time.time_ns()

    def steady_ns(self) -> int:
        """See `Clocks.steady_ns`."""
        return host.steady_ns()


class EngineClock:
    """The engine's time: the wall clock without its steps. Used by the gateway's thread.

    It follows the wall clock, so that a drift of the steady one does not add up over months; but not when that is set.
    It stands still, for half a second at most, rather than run back.

    Attributes:
        now_ns: the engine's time as last read.
        offset_ns: wall clock less the engine's time: the sum of the steps.
    """

    def __init__(self, clocks: Clocks, last_ns: int) -> None:
        """`last_ns`: the engine's time when the former process ended; 0 = there was none.

        A wall clock that is behind it was set back while no gateway ran: the engine's time goes on from there. One that
        is ahead is taken as it is: no clock can say how long nothing ran.
        """
        self._watch = StepWatch(clocks.wall_ns, clocks.steady_ns)
        wall_ns, _ = self._watch.read()
        self.offset_ns = min(wall_ns - last_ns, 0)
        self.now_ns = wall_ns - self.offset_ns

    def read(self) -> int:
        """Read the clocks and return the engine's time. A step of the wall clock changes `offset_ns` alone."""
        wall_ns, step_ns = self._watch.read()
        self.offset_ns += step_ns
        self.now_ns = max(self.now_ns, wall_ns - self.offset_ns)
        return self.now_ns
