"""Idle strategies: how a reader waits while there is nothing to read.

A strategy sets how often a kernel looks at the slots per call (GIL released), and what happens between two calls. The
default must let nine processes run on two cores; `busy_spin` is for a reader with a core of its own.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from typing import Final


class Idle(ABC):
    """Idle strategy of one reader; not shared between threads.

    Attributes:
        spins: looks at the slots in one kernel call, a few nanoseconds each.
    """

    spins: int = 1

    @abstractmethod
    def pause(self) -> None:
        """Called after a round of looks that found nothing."""

    def reset(self) -> None:  # noqa: B027  (most strategies remember nothing)
        """Called when something was found."""


class BusySpin(Idle):
    """Never yield. Lowest latency; needs a core of its own."""

    spins = 50_000

    def pause(self) -> None:
        pass


class Yield(Idle):
    """Look, then let another ready process run. Uses a whole core when no other process needs it."""

    spins = 200

    def pause(self) -> None:
        give_way()


class Backoff(Idle):
    """Spin while the market is busy, yield for a moment, then sleep longer and longer.

    With ticks closer together than some 100 us it never sleeps; with none it wakes up `1 / longest_sleep_s` times a
    second. The first tick after a silence can wait for `longest_sleep_s`.
    """

    spins = 200
    _YIELDS: Final = 100

    def __init__(self, shortest_sleep_s: float = 50e-6, longest_sleep_s: float = 2e-3) -> None:
        self._shortest_s = shortest_sleep_s
        self._longest_s = longest_sleep_s
        self._rounds = 0
        self._sleep_s = shortest_sleep_s

    def pause(self) -> None:
        self._rounds += 1
        if self._rounds <= self._YIELDS:
            give_way()
            return
        time.sleep(self._sleep_s)
        self._sleep_s = min(self._sleep_s * 2, self._longest_s)

    def reset(self) -> None:
        self._rounds = 0
        self._sleep_s = self._shortest_s


def give_way() -> None:
    """Let another ready thread of the machine run, if there is one."""
    if hasattr(os, "sched_yield"):
        os.sched_yield()
    else:
        time.sleep(0)


STRATEGIES: Final[dict[str, type[Idle]]] = {"busy_spin": BusySpin, "yield": Yield, "backoff": Backoff}
"""By the name used in the configuration (`idle`)."""


def make_idle(name: str) -> Idle:
    """A new strategy by its configuration name.

    Raises:
        ValueError: unknown name; the text lists the valid ones.
    """
    try:
        return STRATEGIES[name]()
    except KeyError:
        raise ValueError(f"idle strategy was {name!r}; use one of {', '.join(STRATEGIES)}") from None
