"""The journal's contract without a disk. Its tail can be torn off, all of it lost, and its disk be full for a while."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.engine import Engine
from nexus_gateway.core.journal import JournalError, Rebuilt
from nexus_gateway.core.journal.finished.rows import FinishedRows
from nexus_gateway.core.journal.packed_state import unpack_state
from nexus_gateway.core.journal.recovery import decode_event
from nexus_gateway.core.journal.schema import migrate
from nexus_gateway.core.journal.store import encode_event
from nexus_gateway.core.risk import Limits

_encoder = msgspec.msgpack.Encoder()


def fingerprint(message: m.Order | m.Cancel | m.Replace) -> str:
    return hashlib.blake2b(_encoder.encode(message), digest_size=12).hexdigest()


def intents_of(effects: Iterable[e.Effect]) -> list[str]:
    return [
        fingerprint(effect.message)
        for effect in effects
        if isinstance(effect, e.SendToPlatform) and not isinstance(effect.message, m.SnapshotRequest)
    ]


@dataclass
class Row:
    at_ns: int
    payload: bytes
    intents: list[str]
    finished: list[e.SignalFinished]
    whole: bytes


@dataclass
class MemoryJournal:
    """`whole`: the event being handled as it came, before anything was left out of it. `before_commit` may raise, as a
    disk or a death does; `on_read` is given each engine that was rebuilt. `forgets`: events that a planted bug does not
    write.
    """

    make_engine: Callable[[e.EngineSettings, Limits], Engine]
    load_engine: Callable[[bytes], Engine]
    before_commit: Callable[[], None] = lambda: None
    after_commit: Callable[[], None] = lambda: None
    on_read: Callable[[Engine], None] = lambda engine: None
    forgets: type | None = None
    rows: list[Row] = field(default_factory=list)
    held: list[Row] = field(default_factory=list)
    intents: dict[str, int] = field(default_factory=dict)
    checkpoints: list[tuple[int, bytes]] = field(default_factory=list)
    last_payload_bytes: int = 0
    whole: e.Event | None = None

    def __post_init__(self) -> None:
        self._make_rows()

    def _make_rows(self) -> None:
        """The rows of finished signals, as production keeps them, in a database of their own."""
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        migrate(self.database)
        self.finished = FinishedRows(self.database)
        for number, row in enumerate(self.rows):
            for finished in row.finished:
                self.finished.hold(number + 1, finished)
        self.finished.write()
        self.finished.drop_held()

    @property
    def last_seq(self) -> int:
        return len(self.rows) + len(self.held)

    def append(self, event: e.Event, now_ns: int, effects: Iterable[e.Effect] = ()) -> int:
        if self.forgets is None or not isinstance(event, self.forgets):
            finished = [effect for effect in effects if isinstance(effect, e.SignalFinished)]
            whole = event if self.whole is None or isinstance(event, e.SignalRecalled) else self.whole
            self.held.append(Row(now_ns, encode_event(event), intents_of(effects), finished, encode_event(whole)))
            for each in finished:
                self.finished.hold(self.last_seq, each)
        return self.last_seq

    def commit(self) -> None:
        if not self.held:
            return
        self.before_commit()
        self.rows += self.held
        for intent in (intent for row in self.held for intent in row.intents):
            self.intents[intent] = self.intents.get(intent, 0) + 1
        self.held = []
        self.finished.write()
        self.finished.drop_held()
        self.after_commit()

    def checkpoint(self, state: bytes, now_ns: int, keep: int = 3, *, seq: int | None = None) -> None:
        if self.held:
            raise JournalError("checkpoint with uncommitted events; commit first")
        self.checkpoints = [(len(self.rows) if seq is None else seq, state)]

    def check_files(self) -> None:
        """It has none."""

    def finished_ids(self) -> list[str]:
        """Ids of the signals that have rows, in the order of their leaving."""
        return [row[0] for row in self.database.execute("SELECT signal_id FROM finished ORDER BY event_seq, signal_id")]

    def close(self) -> None:
        self.drop_held()

    def drop_held(self) -> None:
        """The process has died: what it has not committed is gone."""
        self.held = []
        self.finished.drop_held()

    def tear(self, rows: int) -> None:
        """The newest rows are gone. What was once journaled stays in `intents`: that is history, not memory."""
        self.rows = self.rows[: max(len(self.rows) - rows, 0)]
        self.checkpoints = [c for c in self.checkpoints if c[0] <= len(self.rows)]
        self._make_rows()

    def read(
        self, settings: e.EngineSettings, limits: Limits, observer: object = None, *, use_checkpoint: bool = True
    ) -> Rebuilt:
        engine, start = self.make_engine(settings, limits), 0
        if self.checkpoints and use_checkpoint:
            start, state = self.checkpoints[-1]
            engine = self.load_engine(unpack_state(state))
        differing, at_ns = [], 0
        for number in range(start, len(self.rows)):
            row = self.rows[number]
            effects = engine.handle(decode_event(row.payload, number), row.at_ns)
            at_ns = row.at_ns
            if intents_of(effects) != row.intents:
                differing.append(number)
        self.on_read(engine)
        return Rebuilt(engine, len(self.rows) - start, start, at_ns, differing, [])
