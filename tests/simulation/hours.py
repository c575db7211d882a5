"""When a platform's market is shut, and when a calendar says so, which may be wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tests.simulation.schedule import MS, SECOND

Span = tuple[int, int]
"""Shut from, until."""


@dataclass
class Hours:
    """`true`: when it is shut; `said`: when the calendar says so. `takes_stops`: stops are taken while it is shut."""

    true: list[Span] = field(default_factory=list)
    said: list[Span] = field(default_factory=list)
    takes_stops: bool = False
    lies: bool = False

    def is_shut(self, now_ns: int) -> bool:
        return any(from_ns <= now_ns < until_ns for from_ns, until_ns in self.true)

    def says_shut(self, now_ns: int) -> bool:
        return any(from_ns <= now_ns < until_ns for from_ns, until_ns in self.said)

    def opens_ns(self, now_ns: int) -> int:
        return max((until_ns for from_ns, until_ns in self.true if from_ns <= now_ns < until_ns), default=now_ns)

    def changes_ns(self, now_ns: int) -> int:
        """When the calendar's word changes next; 0 = not known."""
        return min((at_ns for span in self.said for at_ns in span if at_ns > now_ns), default=0)

    def tell_truth_from(self, now_ns: int) -> None:
        """End of the storm: the market is open, and the calendar says so."""
        self.true = [(from_ns, min(until_ns, now_ns)) for from_ns, until_ns in self.true if from_ns < now_ns]
        self.said = list(self.true)


def draw_hours(rng: Random, start_ns: int, storm_ns: int, wrong: float) -> Hours:
    """One or two spans in the storm. `wrong`: how likely the calendar is wrong about them, either way."""
    hours = Hours(takes_stops=rng.random() < 0.4)
    at_ns = start_ns
    for _ in range(rng.randrange(1, 3)):
        at_ns += rng.randrange(5_000, storm_ns // MS // 3) * MS
        until_ns = at_ns + rng.choice([3, 15, 30, 50]) * SECOND
        if until_ns >= start_ns + storm_ns:
            break
        hours.true.append((at_ns, until_ns))
        at_ns = until_ns
    hours.said = list(hours.true)
    if hours.true and rng.random() < wrong:
        hours.lies = True
        way = rng.randrange(4)
        from_ns, until_ns = hours.true[0]
        shift_ns = rng.randrange(2, 15) * SECOND
        if way == 0:
            hours.said = hours.said[1:]  # says open, and it is shut
        elif way == 1:
            hours.said[0] = from_ns, until_ns + shift_ns  # opens late by the calendar
        elif way == 2:
            hours.said[0] = from_ns + shift_ns // 4, until_ns - shift_ns // 8  # shuts late, opens early
        else:
            hours.true = hours.true[1:]  # says shut, and it is open
    return hours
