"""The trading day, and a new process, on a computer whose clock is set."""

from __future__ import annotations

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core.messages import LegState, OrderRole

from tests.core.engine.test_clock import (
    DAY,
    HOUR,
    MINUTE,
    STEPS,
    flatten_refused,
    held,
    listed,
)
from tests.support.orders import SECOND, Desk, wide_limits


def traded(**limits: object) -> Desk:
    """A desk that has used up one trade of the day."""
    desk = Desk("a", limits=wide_limits(**limits))
    desk.signal()
    desk.fill(desk.only())
    return desk


@pytest.mark.parametrize("step_s", [-MINUTE, -HOUR, -DAY, -3 * DAY])
def test_a_clock_that_is_set_back_starts_no_day_and_resets_nothing(step_s):
    desk = traded()
    desk.now_ns = desk.engine.state.day.ends_ns + 30 * SECOND
    desk.wait(0)
    desk.signal(signal_id="s2")
    before = dict(desk.engine.state.day.trades)
    assert before
    desk.step_clock(step_s)
    for _ in range(20):  # up to the same beginning of a day once more, by the wall clock
        desk.wait(min(-step_s, DAY - MINUTE) * 100)
        assert desk.engine.state.day.trades == before


def test_a_clock_that_is_set_forward_starts_the_next_day_once():
    desk = traded()
    desk.step_clock(DAY)
    assert not desk.engine.state.day.trades
    desk.signal(signal_id="s2")
    assert len(desk.engine.state.day.trades) == 1
    desk.step_clock(-DAY)
    desk.step_clock(DAY)
    desk.wait(1_000)
    assert len(desk.engine.state.day.trades) == 1


@pytest.mark.parametrize("ahead_s", [DAY, 30 * DAY, 400 * DAY])
def test_a_day_that_a_wrong_clock_has_begun_ends_within_two(ahead_s):
    desk = traded()
    desk.step_clock(ahead_s)
    desk.signal(signal_id="s2")
    desk.step_clock(-ahead_s)
    assert len(desk.engine.state.day.trades) == 1
    desk.now_ns += 2 * DAY * SECOND
    desk.wait(0)
    assert not desk.engine.state.day.trades


@pytest.mark.parametrize("step_s", STEPS)
def test_the_day_ends_by_the_wall_clock(step_s):
    desk = traded()
    desk.step_clock(step_s)
    state = desk.engine.state
    left_ns = state.day.ends_ns - desk.wall_ns
    desk.now_ns += left_ns - 1
    desk.wait(0)
    ends_ns = state.day.ends_ns
    desk.now_ns += 1
    assert desk.engine.next_due_ns() <= desk.now_ns
    desk.wait(0)
    assert state.day.ends_ns > ends_ns


# A new process.


def test_a_process_that_starts_behind_the_engines_time_goes_on_from_there():
    desk = flatten_refused()
    first = desk.only(role=OrderRole.EXIT)
    offset_ns = -HOUR * SECOND
    desk.give(e.Started(boot_id="g2", settings=desk.settings, limits=desk.limits, wall_offset_ns=offset_ns))
    assert any("set back by 3600.0 s while no gateway ran" in x.text for x in desk.effects if isinstance(x, e.Alert))
    desk.link_up("a", answer=False, brackets=False)
    stop = desk.only(role=OrderRole.STOP_LOSS)  # it stands again since the first closing order was refused
    desk.snapshot(orders=[desk.row(stop)], fills=listed(desk), positions=[("NQ", 2)])
    desk.wait(1_000)
    desk.update(stop, LegState.CANCELLED)
    second = desk.only(role=OrderRole.EXIT)
    assert second is not first
    assert second.not_after_ns == desk.now_ns + offset_ns + SECOND


def test_a_start_with_the_right_clock_says_nothing():
    desk = held()
    desk.step_clock(HOUR)
    desk.give(e.Started(boot_id="g2", settings=desk.settings, limits=desk.limits))
    assert desk.engine.state.wall_offset_ns == 0
    assert not [x for x in desk.effects if isinstance(x, e.Alert) and "clock" in x.text]
