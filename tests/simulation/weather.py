"""What befalls platforms and the computer: periods of refusals, shut markets, sleep, a clock that is set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.simulation.faults import Faults
from tests.simulation.gateway import SimulatedGateway
from tests.simulation.hours import draw_hours
from tests.simulation.platform import FakePlatform
from tests.simulation.refusals import LONG_S, SCOPES, SHORT_S
from tests.simulation.schedule import SECOND, START_NS, Schedule

CLOCK_STEPS_S: Final = (60, 3_600, 86_400)
LONG_RUNS: Final = 0.08
"""Runs in which a platform refuses for ten minutes, and in which the storm lasts as much longer."""


class Weather:
    """`cut`: breaks the link of a platform for so many ns. `storm_ns`: how long the storm lasts. `act`: somebody wants
    to be out of the market of this platform while it is shut.
    """

    def __init__(
        self,
        schedule: Schedule,
        faults: Faults,
        platforms: list[FakePlatform],
        gateway: SimulatedGateway,
        cut: Callable[[str, int], None],
        storm_ns: int,
        act: Callable[[str], None],
    ) -> None:
        self.schedule, self.faults, self.platforms = schedule, faults, platforms
        self.gateway, self.cut = gateway, cut
        self.ends_ns = START_NS + storm_ns
        rng = schedule.extra
        self.long_at_ns = 0
        if faults.refusal and rng.random() < LONG_RUNS:
            self.long_at_ns = START_NS + rng.randrange(20, 70) * SECOND
            self.ends_ns = self.long_at_ns + (LONG_S + 10) * SECOND
        for platform in platforms if faults.shut_market else ():
            if rng.random() < 0.8:
                platform.hours = draw_hours(rng, START_NS, storm_ns, faults.wrong_calendar)
            for from_ns, _ in platform.hours.true:
                in_ns = from_ns - schedule.now_ns
                schedule.at(in_ns, lambda: faults.note("shut_market"))
                schedule.at(in_ns + rng.randrange(1, 12) * SECOND, lambda name=platform.name: act(name))
            if platform.hours.lies:
                faults.note("wrong_calendar")

    def step(self) -> None:
        """Once a second until the storm is over."""
        now_ns, rng = self.schedule.now_ns, self.schedule.extra
        if now_ns >= self.ends_ns:
            return
        if self.long_at_ns and now_ns >= self.long_at_ns:
            self.long_at_ns = 0
            self._refuse(rng.choice(self.platforms), LONG_S)
        for platform in self.platforms:
            if self.faults.happens("refusal", self.schedule):
                self._refuse(platform, rng.choice(SHORT_S))
        if self.faults.happens("sleep", self.schedule):
            asleep_ns = rng.randrange(5, 60) * SECOND
            self.gateway.sleep_until(now_ns + asleep_ns)
            for platform in self.platforms:
                self.cut(platform.name, asleep_ns)
        if self.faults.happens("clock_step", self.schedule):
            self.schedule.wall_step_ns += rng.choice(CLOCK_STEPS_S) * rng.choice((-1, 1)) * SECOND
            self.schedule.trace("clock")
        self.schedule.at(SECOND, self.step)

    def _refuse(self, platform: FakePlatform, seconds: int) -> None:
        scope = self.schedule.extra.choice(SCOPES)
        if seconds == LONG_S:
            scope = self.schedule.extra.choice(("orders", "closing", "closing"))
        platform.refusals.begin(scope, self.schedule.now_ns, seconds)
        self.faults.note(f"refusal of {scope}")
        self.faults.note(f"refusal for {seconds} s")

    def calm(self) -> None:
        """Platforms take orders again, markets are open, and calendars say so."""
        for platform in self.platforms:
            platform.refusals.end_all(self.schedule.now_ns)
            platform.hours.tell_truth_from(self.schedule.now_ns)
