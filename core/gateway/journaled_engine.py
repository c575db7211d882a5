"""The engine on its journal: what it is told is on disk before anybody sees what it wants done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..config import GatewayConfig
from ..engine import AdminAsked, Effect, Engine, EngineSettings, Event, TellNexus
from ..errors import ConfigError, GatewayError
from ..journal import Journal, JournalError, rebuild
from ..logs import Log
from ..messages import Query


def engine_settings(config: GatewayConfig) -> EngineSettings:
    """The engine's waiting times as configured. Raises ConfigError when they do not fit together."""
    orders = config.orders
    try:
        return EngineSettings(
            send_within_ms=orders.send_within_ms,
            ack_ms=orders.ack_ms,
            settle_ms=orders.settle_ms,
            proof_ms=orders.proof_ms,
            expected_platforms=tuple(name for name, each in config.platforms.items() if each.enabled),
        )
    except ValueError as error:
        raise ConfigError(f"gateway_config.yaml: orders: {error}") from error


class EngineFaultError(GatewayError):
    """The engine has raised on an event: a fault of ours. The event is not journaled, the engine is as before it."""


class JournaledEngine:
    """Owned by the gateway's thread, as the engine is.

    Attributes:
        engine: as of the last event given; read its state, never change it.
    """

    def __init__(self, config: GatewayConfig, log: Log, beat: Callable[[], None]) -> None:
        """Open the journal and rebuild the engine from it.

        Raises:
            JournalError: it is damaged, newer than this program, or another gateway has it.
        """
        path: Path = config.journal_path
        os.makedirs(path.parent, mode=0o700, exist_ok=True)
        self._journal = Journal(path, config.orders.durability)
        try:
            beat()
            rebuilt = rebuild(self._journal.connection, engine_settings(config), config.limits)
            beat()
        except BaseException:
            self._journal.close()
            raise
        self.engine: Engine = rebuilt.engine
        self.engine.drop_changes()
        self._log = log
        self._config = config
        self._checkpoint_events = config.orders.checkpoint_events
        self._since_checkpoint = rebuilt.events
        self._held: list[Effect] = []
        log.info(
            "journal read",
            journal=str(path),
            events=self._journal.last_seq,
            replayed=rebuilt.events,
            from_checkpoint=rebuilt.from_checkpoint_seq,
        )
        if rebuilt.passed_over:
            log.warning("checkpoints passed over, more events were replayed", reasons=rebuilt.passed_over)
        if rebuilt.differing:
            log.error(
                "replaying the journal made other orders than it holds: this program decides otherwise than its writer",
                events=rebuilt.differing[:20],
            )

    def give(self, event: Event, now_ns: int) -> list[Effect]:
        """Tell the engine. The effects may be looked at, but are carried out only when `commit` hands them out.

        Raises:
            EngineFaultError: the engine raised; it was rebuilt from the journal, and the event dropped.
            JournalError: that could not be done.
        """
        try:
            effects = self.engine.handle(event, now_ns)
        except Exception as error:
            # Half changed, it is not to be trusted. Journaled, the event would raise again at every start.
            self._log.exception("the engine raised and is rebuilt from the journal", kind=type(event).__name__)
            self._journal.commit()
            # Its reports begin anew as well: some of this turn have not been told yet.
            settings = engine_settings(self._config)
            self.engine = rebuild(self._journal.connection, settings, self._config.limits).engine
            raise EngineFaultError(f"the engine raised {type(error).__name__} on {type(event).__name__}") from error
        self._held += effects
        if isinstance(event, AdminAsked) and isinstance(event.request, Query):
            return effects  # a question changes nothing, and a dashboard asks each second
        self._journal.append(event, now_ns, effects)
        self._since_checkpoint += 1
        return effects

    def commit(self) -> list[Effect]:
        """Put the turn's events on disk, and hand out their effects in order.

        Raises:
            JournalError: the disk refuses. Nothing was handed out; call it again.
        """
        self._journal.commit()
        effects, self._held = self._held, []
        return effects

    def take_reports(self) -> list[TellNexus]:
        """What the turn's events have changed, for NEXUS; after `commit`, and after the orders have left.

        Raises:
            EngineFaultError: a report could not be made. The others come with the next call.
        """
        try:
            return self.engine.pop_reports()
        except Exception as error:
            self._log.exception("a report could not be made")
            raise EngineFaultError(f"a report could not be made: {type(error).__name__}") from error

    def retry(self) -> None:
        """Try again what `commit` could not write; the effects are still held.

        Raises:
            JournalError: the disk still refuses.
        """
        self._journal.commit()

    def checkpoint(self, now_ns: int, *, always: bool = False) -> None:
        """Save the engine's state when enough has happened since the last time, so that a start is short.

        A disk that has no room for it ends nothing: the events are there, and the next commit says whether it takes
        more.
        """
        if self._since_checkpoint and (always or self._since_checkpoint >= self._checkpoint_events):
            self._since_checkpoint = 0  # also when it fails, or each turn would try to write it
            try:
                self._journal.checkpoint(self.engine.save(), now_ns)
            except JournalError as error:
                self._log.warning("no checkpoint: the next start will replay more", reason=str(error))

    def close(self) -> None:
        """Commit and let go of the journal."""
        self._journal.close()
