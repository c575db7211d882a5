"""When a child process is killed, restarted or given up: a pure policy, with no process, clock or randomness inside."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final

from ..config import LauncherConfig
from ..process import EXIT_CLEAN, EXIT_CONFIG

_LEAST_JITTER: Final = 0.5


class ChildState(Enum):
    """What a child is doing, as people are told."""

    WAITING = "waiting"  # to be started, at once or after a pause
    STARTING = "starting"  # runs, has given no sign of life yet
    RUNNING = "running"
    KILLED = "killed"  # did not answer; its end is awaited
    FINISHED = "finished"  # ended by itself, cleanly
    FAILED = "failed"  # stays down: configuration error, or too many restarts
    STOPPED = "stopped"  # by the launcher


DOWN: Final = frozenset({ChildState.FINISHED, ChildState.FAILED, ChildState.STOPPED})
"""States that end a child's story."""


class Supervision:
    """The policy for one child. All times are seconds of one monotonic clock.

    Attributes:
        restarts: how often it was started again, ever.
        detail: why it is in its state, or was restarted last; empty when it never failed.
        due_s: when a WAITING child is to be started.
    """

    def __init__(self, limits: LauncherConfig) -> None:
        self._limits = limits
        self._recent_s: deque[float] = deque()
        self._started_s = 0.0
        self._watched_from_s = 0.0
        self.state = ChildState.WAITING
        self.restarts = 0
        self.due_s = 0.0
        self.detail = ""

    def note_start(self, now_s: float) -> None:
        """The process was created."""
        self.state = ChildState.STARTING
        self._started_s = self._watched_from_s = now_s

    def note_own_pause(self, now_s: float) -> None:
        """The launcher itself did not run for a while (machine asleep, stopped in a debugger).

        The children's silence meanwhile proves nothing: they stood still too. It counts from now.
        """
        self._watched_from_s = now_s

    def judge(self, now_s: float, last_beat_s: float | None) -> bool:
        """Whether the child hangs and must be killed now.

        Args:
            last_beat_s: its last sign of life, None = none yet.
        """
        if self.state is ChildState.STARTING and last_beat_s is not None:
            self.state = ChildState.RUNNING
        if self.state is ChildState.STARTING:
            limit_s, heard_s = self._limits.start_timeout_s, self._started_s
        elif self.state is ChildState.RUNNING:
            assert last_beat_s is not None
            limit_s, heard_s = self._limits.heartbeat_timeout_s, last_beat_s
        else:
            return False
        silence_s = now_s - max(heard_s, self._watched_from_s)
        if silence_s <= limit_s:
            return False
        self.state = ChildState.KILLED
        self.detail = f"no sign of life for {silence_s:.1f} s, limit {limit_s:g} s"
        return True

    def note_exit(self, now_s: float, code: int, luck: float) -> None:
        """The process has ended: decide what becomes of it.

        Args:
            code: exit code; negative = ended by that signal.
            luck: 0.0 to 1.0, random. Spreads restarts, so that children that died together do not come back together.
        """
        hung = self.state is ChildState.KILLED
        if not hung and code == EXIT_CLEAN:
            self.state, self.detail = ChildState.FINISHED, ""
            return
        if not hung and code == EXIT_CONFIG:
            self.state, self.detail = ChildState.FAILED, "configuration error"
            return
        reason = self.detail if hung else describe_exit(code)
        while self._recent_s and self._recent_s[0] < now_s - self._limits.restart_window_s:
            self._recent_s.popleft()
        if len(self._recent_s) >= self._limits.max_restarts:
            self.state = ChildState.FAILED
            self.detail = f"{reason}; {len(self._recent_s)} restarts in {self._limits.restart_window_s:g} s used up"
            return
        pause_s = min(self._limits.backoff_first_s * 2.0 ** len(self._recent_s), self._limits.backoff_max_s)
        self._recent_s.append(now_s)
        self.restarts += 1
        self.due_s = now_s + pause_s * (_LEAST_JITTER + (1 - _LEAST_JITTER) * luck)
        self.state, self.detail = ChildState.WAITING, reason

    def note_stop(self, detail: str = "") -> None:
        """The launcher has stopped the child, or will not start it any more."""
        if self.state not in DOWN:
            self.state, self.detail = ChildState.STOPPED, detail


def describe_exit(code: int) -> str:
    """An exit code as people read it."""
    return f"ended by signal {-code}" if code < 0 else f"exit code {code}"
