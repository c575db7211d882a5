"""Steps of the wall clock: they change the stamps, and nothing else.

The engine's time starts as UTC and then goes on steadily: deadlines are kept in it. The wall clock is that time plus
`EngineState.wall_offset_ns`, the sum of the steps that it has been set by since.

Times in the state are the engine's, but for those that others have stamped (executions, funds, quotes, rates, signals)
and the bounds of the trading day. `Turn.stamp` converts one that is shown to others.
"""

from __future__ import annotations

from ...shm.durations import NS_PER_S
from ..messages import RejectCode
from .events import ClockStepped, Event, Started
from .state import EngineState
from .turn import Turn


def follow_clock(turn: Turn, event: Event) -> None:
    """Follow a step of the wall clock, or that of a new process: stamps move by it, deadlines do not.

    Before anything else of an event, since the trading day begins by the wall clock.
    """
    if isinstance(event, ClockStepped):
        turn.count("clock_steps")
        _set_offset(turn, turn.state.wall_offset_ns + event.step_ns)
        _alert(turn, event.step_ns, "")
    elif isinstance(event, Started):
        _set_offset(turn, event.wall_offset_ns)
        if event.wall_offset_ns:
            _alert(turn, event.wall_offset_ns, " while no gateway ran")


def _alert(turn: Turn, step_ns: int, when: str) -> None:
    way = "back" if step_ns < 0 else "forward"
    text = f"the computer's clock was set {way} by {abs(step_ns) / NS_PER_S:.1f} s{when}"
    turn.alert(RejectCode.NONE, f"{text}; waiting times go on as they were")


def _set_offset(turn: Turn, offset_ns: int) -> None:
    state = turn.state
    state.clock_stepped = state.clock_stepped or offset_ns != state.wall_offset_ns
    state.wall_offset_ns = offset_ns
    state.lowest_offset_ns = min(state.lowest_offset_ns, offset_ns)
    limits = state.limits
    state.day.end_within_two(turn.wall_ns, limits.day_zone, limits.day_starts)


def roll_day(turn: Turn) -> bool:
    """Start a new trading day when the wall clock has reached its beginning; True when it did."""
    state = turn.state
    is_new = state.day.roll(turn.wall_ns, state.limits.day_zone, state.limits.day_starts)
    if is_new:
        # A step may have begun this day: what was stamped just before it is asked for until a day without one is over.
        if not state.clock_stepped:
            state.lowest_offset_ns = state.wall_offset_ns
        state.clock_stepped = False
    return is_new


def earliest_wall_ns(state: EngineState, engine_ns: int) -> int:
    """Return the earliest wall time at which something that happened at `engine_ns`, or later, can have been stamped.

    The clock may have been set back since, and forward again: what happened then has the lowest stamps of the day.
    """
    return engine_ns + min(0, state.lowest_offset_ns, state.wall_offset_ns)
