"""The policy for child processes: when to kill, restart or give up. Pure: no processes, clock or randomness inside."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final

from ..config import LauncherConfig
from ..process import EXIT_CLEAN, EXIT_CONFIG, EXIT_FILES, EXIT_RESOURCES

_LEAST_JITTER: Final = 0.5
_MOST_DOUBLINGS: Final = 30  # a power of two with an unbounded exponent overflows


class ChildState(Enum):
    """State of a child; the values are shown by `describe` and in the demo's errors."""

    WAITING = "waiting"  # to be started at `due_s`
    STARTING = "starting"  # runs, no heartbeat yet
    RECOVERING = "recovering"  # reads its journal; each heartbeat stands for progress
    RUNNING = "running"
    KILLED = "killed"  # was unresponsive; waiting for its end
    FINISHED = "finished"  # ended by itself with exit code 0
    FAILED = "failed"  # stays down: configuration error, or too many restarts
    STOPPED = "stopped"  # stopped by the launcher


_ALIVE: Final = frozenset({ChildState.STARTING, ChildState.RECOVERING, ChildState.RUNNING})
DOWN: Final = frozenset({ChildState.FINISHED, ChildState.FAILED, ChildState.STOPPED})
"""States in which a child does not run and will not be started again."""


class Supervision:
    """The policy for one child. All times are seconds of one monotonic clock.

    Attributes:
        restarts: number of restarts since the launcher started.
        detail: reason of its state or of its last restart; empty when it never failed.
        due_s: time at which a WAITING child is to be started.
    """

    def __init__(self, limits: LauncherConfig) -> None:
        self._limits = limits
        self._recent_s: deque[float] = deque()
        self._recent_losses_s: deque[float] = deque()
        self._started_s = 0.0
        self._watched_from_s = self._last_beat_s = 0.0
        self._has_lost_files = False
        self.state = ChildState.WAITING
        self.restarts = 0
        self.due_s = 0.0
        self.detail = ""

    def on_start(self, now_s: float) -> None:
        """The process was created."""
        self.state = ChildState.STARTING
        self._started_s = self._watched_from_s = now_s
        self._has_lost_files = False

    def on_own_pause(self, now_s: float) -> None:
        """The launcher itself did not run for a while (machine asleep, stopped in a debugger).

        The children did not run either, or their heartbeats could not be read. Their silence counts from now: else
        all of them would be killed when a laptop is opened.
        """
        self._watched_from_s = now_s

    def check_heartbeat(self, now_s: float, last_beat_s: float | None, is_recovering: bool = False) -> bool:
        """Whether the child is unresponsive and must be killed now. Returns True once per start.

        Args:
            last_beat_s: its last heartbeat; None = none yet, or not to be seen now. The first one ends the start.
            is_recovering: whether it reads its journal, at a start or after a fault of its engine.
        """
        if self.state in _ALIVE and last_beat_s is not None:
            self._last_beat_s = last_beat_s
            self.state = ChildState.RECOVERING if is_recovering else ChildState.RUNNING
        what = "heartbeat"
        if self.state is ChildState.STARTING:
            # Compiling kernels at the very first start takes far longer than any healthy turn of a loop.
            limit_s, from_s = self._limits.start_timeout_s, self._started_s
        elif self.state is ChildState.RUNNING:
            limit_s, from_s = self._limits.heartbeat_timeout_s, self._last_beat_s
        elif self.state is ChildState.RECOVERING:
            # Without progress, not in all: a long journal takes as long as it takes, and after a kill it begins again.
            limit_s, from_s = self._limits.recovery_timeout_s, self._last_beat_s
            what = "progress in reading the journal"
        else:
            return False
        silence_s = now_s - max(from_s, self._watched_from_s)
        if silence_s <= limit_s:
            return False
        self.state = ChildState.KILLED
        self.detail = f"no {what} for {silence_s:.1f} s, limit {limit_s:g} s"
        return True

    def on_files_lost(self, now_s: float, reason: str) -> bool:
        """The files that all processes share were lost: this one must restart with new ones.

        Returns:
            Whether there is a process, which the caller kills now. One that has failed is tried again: perhaps it did
            for want of a file.
        """
        if self.state is ChildState.FAILED:
            self.state, self.due_s = ChildState.WAITING, now_s
        if self.state in DOWN:
            return False
        self.detail = reason
        if self.state is ChildState.WAITING:
            return False
        self.state, self._has_lost_files = ChildState.KILLED, True
        return True

    def on_exit(self, now_s: float, code: int, jitter: float) -> None:
        """The process has ended: decide whether it is restarted, and when.

        Args:
            code: exit code; negative = ended by that signal.
            jitter: random, 0.0 to 1.0. Spreads restarts, so that children that died together do not all start at once.
        """
        # A child that we killed is restarted whatever its code: codes 0 and 2 then come from its own clean-up.
        hung = self.state is ChildState.KILLED
        if not hung and code == EXIT_CLEAN:
            self.state, self.detail = ChildState.FINISHED, ""
            return
        if not hung and code == EXIT_CONFIG:
            self.state, self.detail = ChildState.FAILED, "configuration error"
            return
        # Only restarts within the window count: one crash a day must never use up the budget.
        reason = self.detail if hung else describe_exit(code)
        # Neither is a fault of the process: it is tried for as long as it takes, ever more slowly.
        has_limit = not self._has_lost_files and (hung or code not in (EXIT_FILES, EXIT_RESOURCES))
        recent_s = self._recent_s if has_limit else self._recent_losses_s
        while recent_s and recent_s[0] < now_s - self._limits.restart_window_s:
            recent_s.popleft()
        if has_limit and len(recent_s) >= self._limits.max_restarts:
            self.state = ChildState.FAILED
            self.detail = f"{reason}; {len(recent_s)} restarts in {self._limits.restart_window_s:g} s used up"
            return
        doublings = min(len(recent_s), _MOST_DOUBLINGS)
        pause_s = min(self._limits.backoff_first_s * 2.0**doublings, self._limits.backoff_max_s)
        recent_s.append(now_s)
        self.restarts += 1
        self.due_s = now_s + pause_s * (_LEAST_JITTER + (1 - _LEAST_JITTER) * jitter)
        self.state, self.detail = ChildState.WAITING, reason

    def on_stop(self, detail: str = "") -> None:
        """The launcher has stopped the child, or will not start it any more. A child that is down keeps its state."""
        if self.state not in DOWN:
            self.state, self.detail = ChildState.STOPPED, detail


def describe_exit(code: int) -> str:
    """An exit code as text."""
    if code == EXIT_FILES:
        return "a file of it in the run folder was removed or damaged"
    if code == EXIT_RESOURCES:
        return "the system had no descriptor or memory for it"
    return f"ended by signal {-code}" if code < 0 else f"exit code {code}"
