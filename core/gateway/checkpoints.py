"""When to write a checkpoint, by what the next start would have to replay, and how: with as little as possible of it in
the trading thread.

The state is encoded in that thread, so a checkpoint waits for a turn in which nothing happens. It does not wait for
ever: at a multiple of the bounds it is made in any turn, later when the state is large. A large state is packed by a
thread of its own, and a later turn writes the little that is left of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ...shm.durations import NS_PER_MS
from ..engine import Engine, SignalFinished
from ..journal import LARGE_BYTES, Journal, JournalError, Rebuilt, pack_state
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

    def restart(self, cost_ns: int) -> None:
        """A checkpoint was made; `cost_ns`: the processor time that it took of the trading thread."""
        self.events = self._payload_bytes = self._replay_ns = 0
        self._cost_ns = cost_ns

    def is_due(self, *, is_quiet: bool) -> bool:
        """Whether to write one in this turn. `is_quiet`: the turn has no event, so no order waits for it."""
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


class CheckpointWriter:
    """Makes the checkpoints of an engine while it trades. Used by the gateway's thread."""

    def __init__(
        self, journal: Journal, schedule: CheckpointSchedule, log: Log, processor_ns: Callable[[], int]
    ) -> None:
        """`processor_ns`: the processor time of this thread."""
        self._journal = journal
        self._schedule = schedule
        self._log = log
        self._processor_ns = processor_ns
        self._packing: _Packing | None = None

    def step(self, engine: Engine, now_ns: int, is_quiet: Callable[[], bool]) -> None:
        """Make the checkpoint that is due, or write the one that is packed by now. Call it after the turn's commit.

        `is_quiet`: whether nothing happens in this turn; asked only when one is due.
        """
        if self._packing is not None:
            if self._packing.is_done:
                self._write(self._packing)
                self._packing = None
            return
        schedule = self._schedule
        if schedule.is_due(is_quiet=True) and (schedule.is_due(is_quiet=False) or is_quiet()):
            self._packing = self._encode(engine, now_ns)
            if self._packing.is_done:
                self._write(self._packing)
                self._packing = None

    def write_now(self, engine: Engine, now_ns: int) -> None:
        """Make a checkpoint in any case, unless nothing has come since the last one, and wait until it is written."""
        if self._packing is not None:
            self._write(self._packing)
            self._packing = None
        if self._schedule.events:
            self._write(self._encode(engine, now_ns))

    def _encode(self, engine: Engine, now_ns: int) -> _Packing:
        from_ns, events = self._processor_ns(), self._schedule.events
        packing = _Packing(engine.save(), self._journal.last_seq, now_ns)
        cost_ns = self._processor_ns() - from_ns
        # Also when it is never written: else each turn would try again, and be slow.
        self._schedule.restart(cost_ns)
        self._log.debug("checkpoint", events=events, bytes=packing.state_bytes, processor_ms=cost_ns // NS_PER_MS)
        return packing

    def _write(self, packing: _Packing) -> None:
        try:
            self._journal.checkpoint(packing.result(), packing.at_ns, seq=packing.seq)
        except JournalError as error:
            # All events are on disk, a start merely replays more of them.
            self._log.warning("no checkpoint: the next start will replay more", reason=str(error))


class _Packing:
    """A state as it is stored: at once when it is small, else when its thread is done."""

    def __init__(self, state: bytes, seq: int, at_ns: int) -> None:
        self.seq = seq
        self.at_ns = at_ns
        self.state_bytes = len(state)
        self._stored = state
        self._thread: threading.Thread | None = None
        if len(state) >= LARGE_BYTES:
            self._thread = threading.Thread(target=self._pack, name="checkpoint", daemon=True)
            self._thread.start()

    @property
    def is_done(self) -> bool:
        return self._thread is None or not self._thread.is_alive()

    def result(self) -> bytes:
        """Return the state as it is stored; waits until that is done."""
        if self._thread is not None:
            self._thread.join()
        return self._stored

    def _pack(self) -> None:
        self._stored = pack_state(self._stored)


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
            self._journal.checkpoint(pack_state(engine.save()), at_ns, seq=seq)
        except JournalError as error:
            self._log.warning("no checkpoint within the replay: a next start repeats all of it", reason=str(error))
        self._last_ns = time.thread_time_ns()
        self._cost_ns = self._last_ns - now_ns

    def finish(self, seq: int, finished: SignalFinished) -> None:
        """Write the rows of a signal that has none yet."""
        self._journal.keep_finished(seq, finished)
