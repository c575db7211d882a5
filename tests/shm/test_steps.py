"""A step of the wall clock is told from the time that has passed: not by a drift, a sleep or a pause of the process."""

from __future__ import annotations

import time

import pytest
from nexus_gateway.shm import host
from nexus_gateway.shm.steps import STEP_NS, StepWatch

SECOND = 10**9
START_NS = 1_760_000_000 * SECOND


class Clocks:
    """Both clocks of a computer; `pauses`: how long the process stands still within each of the next readings."""

    def __init__(self) -> None:
        self.wall, self.steady = START_NS, 5 * SECOND
        self.pauses: list[int] = []

    def pass_time(self, ns: int) -> None:
        self.wall += ns
        self.steady += ns

    def wall_ns(self) -> int:
        if self.pauses:
            self.pass_time(self.pauses.pop(0))
        return self.wall

    def steady_ns(self) -> int:
        return self.steady

    def watch(self) -> StepWatch:
        return StepWatch(self.wall_ns, self.steady_ns)


@pytest.mark.parametrize("step_s", [-86_400, -3_600, -60, -1, 1, 60, 3_600, 86_400])
def test_a_step_is_returned_once(step_s):
    clocks = Clocks()
    watch = clocks.watch()
    clocks.pass_time(SECOND)
    clocks.wall += step_s * SECOND
    assert watch.read() == (clocks.wall, step_s * SECOND)
    clocks.pass_time(SECOND)
    assert watch.read() == (clocks.wall, 0)


def test_a_drift_is_no_step():
    clocks = Clocks()
    watch = clocks.watch()
    for correction_ns in (STEP_NS, -STEP_NS, 500_000):
        clocks.pass_time(SECOND)
        clocks.wall += correction_ns
        assert watch.read() == (clocks.wall, 0)


def test_a_sleep_of_the_computer_is_no_step():
    clocks = Clocks()
    watch = clocks.watch()
    clocks.pass_time(8 * 3_600 * SECOND)
    assert watch.read() == (clocks.wall, 0)


def test_a_pause_between_the_two_readings_is_no_step():
    clocks = Clocks()
    clocks.pauses = [3 * SECOND, 2 * SECOND]
    watch = clocks.watch()
    clocks.pauses = [3 * SECOND]
    assert watch.read()[1] == 0


def test_the_computers_own_clocks_agree():
    watch = StepWatch()
    before_ns = host.steady_ns()
    time.sleep(0.01)
    assert host.steady_ns() - before_ns >= 9_000_000
    assert watch.read()[1] == 0
