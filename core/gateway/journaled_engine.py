"""The engine on its journal: an event is on disk before any of its effects leaves the process."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..config import GatewayConfig
from ..engine import AdminAsked, Effect, Engine, EngineSettings, Event, TellNexus
from ..errors import ConfigError, GatewayError
from ..journal import Journal, JournalError, Rebuilt, rebuild
from ..logs import Log
from ..messages import Query
from ..risk import Limits


def engine_settings(config: GatewayConfig) -> EngineSettings:
    """Build the engine's waiting times from the configuration. Raises ConfigError when they contradict each other."""
    orders = config.orders
    try:
        return EngineSettings(
            send_within_ms=orders.send_within_ms,
            ack_ms=orders.ack_ms,
            settle_ms=orders.settle_ms,
            proof_ms=orders.proof_ms,
            client_order_id_chars=22,
            await_brackets=True,
            close_overfills=orders.overfills == "close",
            cancel_on_disconnect_ms=orders.cancel_on_disconnect_ms,
            expected_platforms=tuple(name for name, each in config.platforms.items() if each.enabled),
        )
    except ValueError as error:
        raise ConfigError(f"gateway_config.yaml: orders: {error}") from error


class EngineFaultError(GatewayError):
    """The engine raised on an event, a fault of this program. The event is dropped, the engine is as before it."""


class JournaledEngine:
    """Owned by the gateway's thread, as the engine is.

    Attributes:
        engine: as of the last event handled; read its state, never change it.
        settings, limits: of this process, from the configuration.
    """

    def __init__(
        self,
        journal: Journal,
        read: Callable[[EngineSettings, Limits], Rebuilt],
        settings: EngineSettings,
        limits: Limits,
        checkpoint_events: int,
        log: Log,
    ) -> None:
        """`read`: rebuilds an engine from what `journal` has on disk; `settings` and `limits` are for an empty one, and
        for the process that starts.

        Raises:
            JournalError: the journal is damaged.
        """
        self._journal = journal
        self._read = read
        self.settings = settings
        self.limits = limits
        self._checkpoint_events = checkpoint_events
        self._log = log
        rebuilt = read(settings, limits)
        self.engine: Engine = rebuilt.engine
        self.engine.drop_changes()
        self._since_checkpoint = rebuilt.events
        self._uncommitted: list[Effect] = []
        log.info(
            "journal read",
            events=journal.last_seq,
            replayed=rebuilt.events,
            from_checkpoint=rebuilt.from_checkpoint_seq,
        )
        if rebuilt.passed_over:
            log.warning("checkpoints skipped, more events were replayed", reasons=rebuilt.passed_over)
        if rebuilt.differing:
            log.warning(
                "this program would have sent other orders than the journal holds, as a newer one may: what was sent "
                "is taken as sent, and the platforms are asked what became of it",
                events=rebuilt.differing[:20],
            )

    @classmethod
    def open(cls, config: GatewayConfig, log: Log, beat: Callable[[], None]) -> JournaledEngine:
        """Open the configured journal file and rebuild the engine from it.

        Raises:
            ConfigError: the waiting times contradict each other.
            JournalError: it is damaged, newer than this program, or another gateway has it.
        """
        path: Path = config.journal_path
        settings = engine_settings(config)
        os.makedirs(path.parent, mode=0o700, exist_ok=True)
        journal = Journal(path, config.orders.durability)
        log.info("journal opened", journal=str(path))
        try:
            beat()
            read = partial(rebuild, journal.connection)
            made = cls(journal, read, settings, config.limits, config.orders.checkpoint_events, log)
            beat()
        except BaseException:
            journal.close()
            raise
        return made

    def handle(self, event: Event, now_ns: int) -> list[Effect]:
        """Apply an event to the engine and hold it for the commit. The effects returned are for reading only: they may
        be carried out when `commit` returns them.

        Raises:
            EngineFaultError: the engine raised; it was rebuilt from the journal, and the event dropped.
            JournalError: that could not be done.
        """
        try:
            effects = self.engine.handle(event, now_ns)
        except Exception as error:
            # The state may be half changed, so it is rebuilt. The event is dropped: journaled, it would raise again at
            # each start, and the gateway would never come up. What the turn has held so far is committed first, since
            # the rebuild reads only what is on disk.
            self._log.exception("the engine raised and is rebuilt from the journal", kind=type(event).__name__)
            self._journal.commit()
            # No `drop_changes` here, as at a start: the reports of this turn were not sent yet. Those of signals that
            # the replay has changed are sent again, which does no harm.
            self.engine = self._read(self.settings, self.limits).engine
            raise EngineFaultError(f"the engine raised {type(error).__name__} on {type(event).__name__}") from error
        self._uncommitted += effects
        if isinstance(event, AdminAsked) and isinstance(event.request, Query):
            return effects  # a query changes nothing, and a dashboard sends one each second: do not fill the journal
        self._journal.append(event, now_ns, effects)
        self._since_checkpoint += 1
        return effects

    def commit(self) -> list[Effect]:
        """Put the turn's events on disk and return their effects in order, to be carried out now.

        Raises:
            JournalError: the disk refuses. The effects are still held: call `retry`, then `commit` again.
        """
        self._journal.commit()
        effects, self._uncommitted = self._uncommitted, []
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
        """Write again what `commit` could not write; the effects stay held.

        Raises:
            JournalError: the disk still refuses.
        """
        self._journal.commit()

    def checkpoint(self, now_ns: int, *, always: bool = False) -> None:
        """Save the engine's state when enough events have come since the last checkpoint, so that a start is short.

        Without room on the disk it is only logged: all events are on disk, a start merely replays more of them.
        """
        if self._since_checkpoint and (always or self._since_checkpoint >= self._checkpoint_events):
            self._since_checkpoint = 0  # also when it fails: else each turn would try again, and be slow
            try:
                self._journal.checkpoint(self.engine.save(), now_ns)
            except JournalError as error:
                self._log.warning("no checkpoint: the next start will replay more", reason=str(error))

    def close(self) -> None:
        """Commit and release the journal."""
        self._journal.close()
