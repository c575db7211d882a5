"""The engine on its journal: an event is on disk before any of its effects leaves the process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from ...shm.durations import NS_PER_MS
from ..config import GatewayConfig
from ..config.origin import Origin, find_origin
from ..engine import AdminAsked, Difference, Effect, Engine, EngineSettings, Event, TellNexus
from ..errors import ConfigError, GatewayError
from ..journal import (
    Durability,
    Journal,
    JournalBusyError,
    JournalRoom,
    Rebuilt,
    ReplayObserver,
    check_saved_copies,
    real_journal_path,
    rebuild,
)
from ..journal.finished.answers import answer_without_rows, complete_answers
from ..journal.finished.recalls import Recalls
from ..logs import Log
from ..messages import LegState, Query, Snapshot
from ..risk import Limits
from .checkpoints import CheckpointBounds, CheckpointSchedule, CheckpointWriter, ReplayCheckpoints

_BUSY_PAUSE_S: Final = 0.1
FULL_CHECK_MS: Final = 3_600_000
"""Between two comparisons of a whole period with a platform: busts of long ago are found by them."""


def engine_settings(config: GatewayConfig) -> EngineSettings:
    """Build the engine's waiting times from the configuration. Raises ConfigError when they contradict each other."""
    orders = config.orders
    try:
        return EngineSettings(
            send_within_ms=orders.send_within_ms,
            ack_ms=orders.ack_ms,
            settle_ms=orders.settle_ms,
            check_ms=orders.proof_ms,
            proof_ms=FULL_CHECK_MS,
            client_order_id_chars=22,
            await_brackets=True,
            close_overfills=orders.overfills == "close",
            cancel_on_disconnect_ms=orders.cancel_on_disconnect_ms,
            finished_after_ms=orders.finished_after_ms,
            expected_platforms=tuple(name for name, each in config.platforms.items() if each.enabled),
        )
    except ValueError as error:
        raise ConfigError(f"gateway_config.yaml: orders: {error}") from error


def _open_journal(
    path: Path, durability: Durability, room: JournalRoom, log: Log, on_progress: Callable[[float], None]
) -> Journal:
    """Open the journal. While another process holds it, wait: a gateway that ended would use up its restarts."""
    said = ""
    while True:
        try:
            return Journal(path, durability, room)
        except JournalBusyError as error:
            if str(error) != said:
                said = str(error)
                log.error("the journal is held by another process, waiting for it", reason=said)
        on_progress(0.0)
        time.sleep(_BUSY_PAUSE_S)


class EngineFaultError(GatewayError):
    """The engine raised on an event, a fault of this program. The event is dropped, the engine is as before it."""


class ReadJournal(Protocol):
    """Rebuilds an engine from what the journal has on disk; `settings` and `limits` are for an empty one."""

    def __call__(self, settings: EngineSettings, limits: Limits, observer: ReplayObserver, /) -> Rebuilt: ...


def ignore_progress(share: float) -> None:
    """Take no notice of how far the journal is read."""


class JournaledEngine:
    """Owned by the gateway's thread, as the engine is.

    Attributes:
        engine: as of the last event handled; read its state, never change it.
        settings, limits, origin: of this process, from the configuration.
        on_progress: called each 100 ms or so while the journal is read, with the share that is replayed: also in
            `handle`, when the engine has to be rebuilt.
        repetitions: messages of platforms that have only repeated what finished signals have traded.
    """

    def __init__(
        self,
        journal: Journal,
        read: ReadJournal,
        settings: EngineSettings,
        limits: Limits,
        bounds: CheckpointBounds,
        log: Log,
        on_progress: Callable[[float], None] = ignore_progress,
        processor_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        """`read` reads `journal`. `processor_ns`: the processor time of this thread.

        Raises:
            JournalError: the journal is damaged.
        """
        self._journal = journal
        self._read = read
        self.settings = settings
        self.limits = limits
        self.origin = Origin()
        self.repetitions = 0
        self._recalls = Recalls(journal.finished)
        self._bounds = bounds
        self._schedule = CheckpointSchedule(bounds)
        self._checkpoints = CheckpointWriter(journal, self._schedule, log, processor_ns)
        self._processor_ns = processor_ns
        self._log = log
        self.on_progress = on_progress
        self._events_of_turn = 0
        self._is_quiet = True
        self._uncommitted: list[Effect] = []
        rebuilt = self._rebuild("journal read")
        self.engine: Engine = rebuilt.engine
        self.engine.drop_changes()
        if rebuilt.passed_over:
            log.warning("checkpoints skipped, more events were replayed", reasons=rebuilt.passed_over)
        if rebuilt.differing:
            log.warning(
                "this program would have sent other orders than the journal holds, as a newer one may: what was sent "
                "is taken as sent, and the platforms are asked what became of it",
                events=rebuilt.differing[:20],
            )
        # At once, before any link is open: a process that dies in its start must not replay the same again.
        if self._schedule.is_due(is_quiet=True):
            self.checkpoint(self.engine.state.now_ns, always=True)

    @property
    def journal(self) -> Journal:
        """For work on the file beside the events, in the gateway's thread."""
        return self._journal

    @classmethod
    def open(
        cls, config: GatewayConfig, log: Log, on_progress: Callable[[float], None] = ignore_progress
    ) -> JournaledEngine:
        """Open the configured journal file and rebuild the engine from it.

        Raises:
            ConfigError: the waiting times contradict each other.
            JournalError: it is damaged, newer than this program, or another gateway has it.
        """
        path: Path = config.journal_path
        settings = engine_settings(config)
        os.makedirs(path.parent, mode=0o700, exist_ok=True)
        disk = config.disk
        # A journal in the run folder is on a memory file system: a reserve there would take memory.
        in_run_folder = Path(os.path.realpath(config.run_path)) in real_journal_path(path).parents
        reserve_bytes = 0 if in_run_folder else disk.journal_reserve_bytes
        room = JournalRoom(path, reserve_bytes, disk.checkpoints_stop_bytes)
        journal = _open_journal(path, config.orders.durability, room, log, on_progress)
        log.info("journal opened", journal=str(path))
        try:
            check_saved_copies(journal.connection)
            on_progress(0.0)
            read = partial(rebuild, journal.connection)
            bounds = CheckpointBounds(
                events=config.orders.checkpoint_events,
                payload_bytes=config.orders.checkpoint_bytes,
                replay_ns=config.orders.checkpoint_replay_ms * NS_PER_MS,
            )
            made = cls(journal, read, settings, config.limits, bounds, log, on_progress)
            made.origin = find_origin(config)
            on_progress(1.0)
        except BaseException:
            journal.close()
            raise
        return made

    def handle(self, event: Event, now_ns: int) -> list[Effect]:
        """Apply an event to the engine and hold it for the commit, behind the recalls of finished signals that it
        concerns. The effects returned are for reading only: they may be carried out when `commit` returns them.

        Raises:
            EngineFaultError: the event was dropped. The engine raised, and was rebuilt from the journal; or the rows of
                a finished signal that it concerns cannot be read.
            JournalError: the engine could not be rebuilt.
        """
        if isinstance(event, AdminAsked) and isinstance(event.request, Query):
            # A query changes nothing, and a dashboard sends one each second: do not fill the journal.
            _, answers = self._hand_over(event, now_ns)
            effects = self._complete(event.request, answers)
            self._uncommitted += effects
            return effects
        try:
            recalls, kept = self._recalls.resolve(self.engine.state, event)
        except (GatewayError, ArithmeticError) as error:
            # A damaged row must not end the process: the same message would come again after each start.
            self._log.exception("rows of finished signals cannot be read", kind=type(event).__name__)
            raise EngineFaultError(f"rows of finished signals cannot be read: {error}") from error
        effects = []
        for each in recalls:
            effects += self._keep(each, now_ns)
        if kept is None:
            self.repetitions += 1
            return effects
        return effects + self._keep(kept, now_ns)

    def _complete(self, query: Query, answers: list[Effect]) -> list[Effect]:
        try:
            return complete_answers(self._journal.finished, self.engine.state, query, answers)
        except (GatewayError, ArithmeticError) as error:
            self._log.exception("rows of finished signals cannot be read: the answer is without them")
            return answer_without_rows(query, answers, str(error))

    def _keep(self, event: Event, now_ns: int) -> list[Effect]:
        """Apply an event, and hold it and its effects for the commit."""
        from_ns = self._processor_ns()
        event, effects = self._hand_over(event, now_ns)
        handling_ns = self._processor_ns() - from_ns
        self._uncommitted += effects
        self._journal.append(event, now_ns, effects)
        self._schedule.add(self._journal.last_payload_bytes, handling_ns)
        self._events_of_turn += 1
        return effects

    def _hand_over(self, event: Event, now_ns: int) -> tuple[Event, list[Effect]]:
        """Apply an event to the engine. Returns it as it is to be journaled, and its effects."""
        try:
            event = self.engine.condense(event)
            return event, self.engine.handle(event, now_ns)
        except Exception as error:
            # The state may be half changed, so it is rebuilt. The event is dropped: journaled, it would raise again at
            # each start, and the gateway would never come up. What the turn has held so far is committed first, since
            # the rebuild reads only what is on disk.
            self._log.exception("the engine raised and is rebuilt from the journal", kind=type(event).__name__)
            self._journal.commit()
            # No `drop_changes` here, as at a start: the reports of this turn were not sent yet. Those of signals that
            # the replay has changed are sent again, which does no harm.
            self.engine = self._rebuild("the engine is rebuilt").engine
            raise EngineFaultError(f"the engine raised {type(error).__name__} on {type(event).__name__}") from error

    def compare_snapshot(self, snapshot: Snapshot, sent_ns: int) -> Difference | None:
        """Compare a snapshot that was requested at `sent_ns`, engine's time, with the books. None = they agree."""
        try:
            wanted, unfinished = self._recalls.without_repetitions(self.engine.state, snapshot)
            if wanted:
                return Difference(f"more is said of finished signals: {', '.join(wanted[:5])}")
            return self.engine.compare_snapshot(unfinished, sent_ns)
        except Exception as error:
            # The engine judges a snapshot of its own, and a fault of it is treated as any other.
            self._log.exception("a snapshot could not be compared")
            return Difference(f"the comparison raised {type(error).__name__}")

    def commit(self) -> list[Effect]:
        """Put the turn's events on disk and return their effects in order, to be carried out now.

        Raises:
            JournalError: the disk refuses. The effects are still held: call `retry`, then `commit` again.
        """
        self._journal.commit()
        effects, self._uncommitted = self._uncommitted, []
        self._is_quiet, self._events_of_turn = not self._events_of_turn, 0
        return effects

    def pop_reports(self) -> list[TellNexus]:
        """Return the reports of signals that the turn has changed. Call it after the orders have left.

        Raises:
            EngineFaultError: a report could not be made. The others come with the next call.
        """
        try:
            return self.engine.pop_reports()
        except Exception as error:
            self._log.exception("a report could not be made")
            raise EngineFaultError(f"a report could not be made: {type(error).__name__}") from error

    def retry(self) -> None:
        """Write again what `commit` could not write, or look at the files again; the effects stay held.

        Raises:
            JournalError: the disk still refuses.
        """
        self._journal.check_files()
        self._journal.commit()

    def checkpoint(self, now_ns: int, *, always: bool = False) -> None:
        """Save the engine's state when a start would have to replay too much since the last checkpoint.

        Call it after `commit`. It waits for a turn without events and orders that await an answer; see
        `CheckpointSchedule`. `always`: whatever the turn, and it is written when this returns.
        """
        if always:
            self._checkpoints.write_now(self.engine, now_ns)
        else:
            self._checkpoints.step(self.engine, now_ns, lambda: self._is_quiet and self._awaits_no_answer())

    def close(self) -> None:
        """Commit and release the journal."""
        self._journal.close()

    def _rebuild(self, what: str) -> Rebuilt:
        from_ns = time.monotonic_ns()
        observer = ReplayCheckpoints(self._journal, self._bounds.replay_ns, self.on_progress, self._log)
        rebuilt = self._read(self.settings, self.limits, observer)
        self._schedule.begin(rebuilt)
        self._log.info(
            what,
            events=self._journal.last_seq,
            replayed=rebuilt.events,
            from_checkpoint=rebuilt.from_checkpoint_seq,
            replayed_bytes=rebuilt.payload_bytes,
            took_ms=(time.monotonic_ns() - from_ns) // NS_PER_MS,
        )
        return rebuilt

    def _awaits_no_answer(self) -> bool:
        state = self.engine.state
        waiting = (LegState.PENDING, LegState.SENT)
        return not any(state.orders[name].state in waiting for route in state.routes.values() for name in route.live)
