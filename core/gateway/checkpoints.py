"""When to write a checkpoint: by what the next start would have to replay, never by the number of events alone.

The state is encoded and written in the trading thread, so a checkpoint waits for a turn in which nothing happens. It
does not wait for ever: at a multiple of the bounds it is written in any turn, later when the state is large.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ...shm.durations import NS_PER_MS
from ..engine import Engine
from ..journal import Journal, JournalError, Rebuilt
from ..logs import Log

_LARGE_NS: Final = 50 * NS_PER_MS
"""A checkpoint that costs more processor time than this is felt in the turn that writes it."""
_FORCED_AT: Final = 2
_FORCED_AT_LARGE: Final = 8
_REPLAY_PER_COST: Final = 10
"""Between two checkpoints lies a replay of at least this many times their cost: a large state is written less often."""


class CheckpointBounds(Struct, frozen=True):
    """What a start may have to replay. `payload_bytes`: of the events. `replay_ns`: processor time."""

    events: int
    payload_bytes: int
    replay_ns: int


class CheckpointSchedule:
    """Counts what has come since the last checkpoint. Used by one thread.

    Attributes:
        events: since the last checkpoint.
    """

    def __init__(self, bounds: CheckpointBounds) -> None:
        self._bounds = bounds
        self.events = 0
        self._payload_bytes = 0
        self._replay_ns = 0
        self._cost_ns = 0

    def add(self, payload_bytes: int, handling_ns: int) -> None:
        """Count one event, with the processor time that the engine took for it."""
        self.events += 1
        self._payload_bytes += payload_bytes
        self._replay_ns += handling_ns

    def begin(self, rebuilt: Rebuilt) -> None:
        """The engine was rebuilt: the next start would have to replay the same."""
        self.events = rebuilt.events
        self._payload_bytes, self._replay_ns = rebuilt.payload_bytes, rebuilt.replay_ns
        self._cost_ns = max(self._cost_ns, rebuilt.load_ns)  # to write a state takes about as long as to read it

    def restart(self, cost_ns: int = 0) -> None:
        """A checkpoint was written, or could not be; `cost_ns`: its processor time, 0 = unknown."""
        self.events = self._payload_bytes = self._replay_ns = 0
        self._cost_ns = cost_ns or self._cost_ns

    def is_due(self, *, is_quiet: bool) -> bool:
        """Whether to write one in this turn. `is_quiet`: nothing happens in it, so nobody waits."""
        factor = 1
        if not is_quiet:
            factor = _FORCED_AT if self._cost_ns <= _LARGE_NS else _FORCED_AT_LARGE
        bounds = self._bounds
        reached = (
            self.events >= factor * bounds.events
            or self._payload_bytes >= factor * bounds.payload_bytes
            or self._replay_ns >= factor * bounds.replay_ns
        )
        return reached and self._replay_ns >= _REPLAY_PER_COST * self._cost_ns


class ReplayCheckpoints:
    """Writes checkpoints inside a long replay, so that a process that is killed in it goes on from there.

    A `ReplayObserver`; used for one replay.
    """

    def __init__(self, journal: Journal, every_ns: int, on_progress: Callable[[float], None], log: Log) -> None:
        """`every_ns`: processor time of the replay between two checkpoints, more when the state is large."""
        self._journal = journal
        self._every_ns = every_ns
        self._log = log
        self._cost_ns = 0
        self._last_ns = time.thread_time_ns()
        self.progress = on_progress

    def save(self, engine: Engine, seq: int, at_ns: int) -> None:
        """Write a checkpoint after event `seq` when the last one is long ago."""
        now_ns = time.thread_time_ns()
        if now_ns - self._last_ns < max(self._every_ns, _REPLAY_PER_COST * self._cost_ns):
            return
        try:
            self._journal.checkpoint(engine.save(), at_ns, seq=seq)
        except JournalError as error:
            self._log.warning("no checkpoint within the replay: it would begin anew", reason=str(error))
        self._last_ns = time.thread_time_ns()
        self._cost_ns = self._last_ns - now_ns
