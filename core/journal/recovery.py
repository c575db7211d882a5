"""Rebuilds the engine from the journal: load the newest readable checkpoint, then replay every event after it.

The replay makes every order again, without sending it. These orders are compared with the intents on disk: a difference
means that this program decides otherwise than the one that wrote the journal, as a newer release may. It is reported,
and what was sent was sent: the state follows the intents.

Each event must follow the one before it by number and hash, and each checkpoint must have its digest: state that was
altered on disk is refused, since orders would be based on it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from ..engine import Effect, Engine, EngineSettings, Event, SendToPlatform, SignalFinished
from ..errors import GatewayError
from ..messages import Cancel, Flatten, Order, Replace, SnapshotRequest
from ..risk import Limits
from .finished.rows import FinishedRows
from .packed_state import unpack_state
from .retention.history import read_rows
from .schema import JournalError
from .store import GENESIS, chain_hash

_event_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)
_intent_decoder: msgspec.msgpack.Decoder[Order | Cancel | Replace | Flatten] = msgspec.msgpack.Decoder(
    Order | Cancel | Replace | Flatten
)
_encoder = msgspec.msgpack.Encoder()
_PROGRESS_NS: Final = 100_000_000
_SQL_STEPS: Final = 100_000
"""Instructions of SQLite between two signs of progress within one statement: some ms."""


class ReplayObserver(Protocol):
    """Follows a replay that may take long. What it raises ends the replay."""

    def progress(self, share: float) -> None:
        """Called each 100 ms or so; `share`: 0.0 to 1.0 of the events are replayed."""

    def save(self, engine: Engine, seq: int, at_ns: int) -> None:
        """May write a checkpoint of the state after event `seq`, so that a replay that is cut off goes on from there.

        Called as often as `progress`, and after the last event.
        """

    def finish(self, seq: int, finished: SignalFinished) -> None:
        """Writes the rows of a signal that finishes with event `seq` in this program, and has none in the journal: the
        program that wrote the journal has decided otherwise.
        """


class Rebuilt(Struct):
    """An engine as of the journal's last event.

    `payload_bytes`, `replay_ns`: size of the events replayed, and the processor time of that. `load_ns`: processor time
    of reading the checkpoint; 0 without one. `differing`: numbers of events whose replay made other orders than were
    written. `passed_over`: newer checkpoints that could not be used, and why.
    """

    engine: Engine
    events: int
    from_checkpoint_seq: int
    last_at_ns: int
    differing: list[int]
    passed_over: list[str]
    payload_bytes: int = 0
    replay_ns: int = 0
    load_ns: int = 0


def decode_event(payload: bytes, seq: int) -> Event:
    """Decode the event of a journal row.

    Raises: JournalError naming the row.
    """
    try:
        return _event_decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:
        raise JournalError(
            f"event {seq} of the journal cannot be read: {error}; if a newer program has written it, update this one, "
            "else restore the last backup"
        ) from error


def rebuild(
    connection: sqlite3.Connection,
    settings: EngineSettings,
    limits: Limits,
    observer: ReplayObserver | None = None,
    *,
    use_checkpoint: bool = True,
) -> Rebuilt:
    """Rebuild the engine. `settings` and `limits` are used only for an empty journal, else those in its events.

    A checkpoint that is damaged, or of a state layout that this program cannot read, is skipped for an older one, or
    for the events alone; those that are archived are read from the archives then.

    Raises: JournalError when an event or an archive is missing, altered or cannot be read.
    """
    try:
        return _Replay(connection, observer).run(Engine(settings, limits), use_checkpoint)
    except sqlite3.DatabaseError as error:
        raise JournalError(f"the journal cannot be read: {error}; {_CURE}") from error


_CURE = "run `nexus-gateway journal verify` and restore the last backup"


class _Replay:
    """One reading of a journal."""

    def __init__(self, connection: sqlite3.Connection, observer: ReplayObserver | None) -> None:
        self._connection = connection
        self._observer = observer
        self._finished = FinishedRows(connection)
        self._share = 0.0
        self._due_ns = 0
        self._raised: Exception | None = None

    def run(self, empty: Engine, use_checkpoint: bool) -> Rebuilt:
        # One statement may read a gigabyte before it returns its first row.
        self._connection.set_progress_handler(self._show, _SQL_STEPS)
        try:
            return self._replay(empty, use_checkpoint)
        except sqlite3.OperationalError:
            if self._raised is not None:
                raise self._raised from None
            raise
        finally:
            self._connection.set_progress_handler(None, 0)

    def _replay(self, empty: Engine, use_checkpoint: bool) -> Rebuilt:
        engine, start, at_ns, chain = empty, 0, 0, GENESIS
        passed_over: list[str] = []
        from_ns = time.thread_time_ns()
        if use_checkpoint:
            engine, start, at_ns, chain = _newest_checkpoint(self._connection, empty, passed_over)
        load_ns = time.thread_time_ns() - from_ns if start else 0
        total = self._connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
        intents = _Intents(self._connection, start)
        differing: list[int] = []
        count = payload_bytes = 0
        from_ns = time.thread_time_ns()
        for row in read_rows(self._connection, "events", start):
            seq, event_ns, payload, stored = row["seq"], row["at_ns"], row["payload"], row["chain"]
            count += 1
            if seq != start + count:
                raise JournalError(f"event {start + count} of the journal is missing; {_CURE}")
            if event_ns is not None and payload is not None:
                chain = chain_hash(chain, event_ns, payload)
            if chain != stored:
                raise JournalError(f"event {seq} of the journal is not as it was written; {_CURE}")
            effects = engine.handle(decode_event(payload, seq), event_ns)
            written = intents.of_event(seq)
            if _intent_bytes(effects) != written:
                differing.append(seq)
                engine.follow_sent(effects, [_intent_decoder.decode(each) for each in written])
            self._check_rows(seq, effects)
            at_ns = event_ns
            payload_bytes += len(payload)
            if self._observer is not None and (seq == total or self._is_due()):
                self._share = (seq - start) / (total - start)
                self._observer.progress(self._share)
                self._observer.save(engine, seq, at_ns)
        replay_ns = time.thread_time_ns() - from_ns
        return Rebuilt(engine, count, start, at_ns, differing, passed_over, payload_bytes, replay_ns, load_ns)

    def _check_rows(self, seq: int, effects: list[Effect]) -> None:
        if self._observer is None:
            return
        for effect in effects:
            if isinstance(effect, SignalFinished) and self._finished.saved_seq(effect.signal_id) < seq:
                self._observer.finish(seq, effect)

    def _is_due(self) -> bool:
        now_ns = time.monotonic_ns()
        if now_ns < self._due_ns:
            return False
        self._due_ns = now_ns + _PROGRESS_NS
        return True

    def _show(self) -> int:
        """For SQLite, within a statement; not 0 ends the statement, which cannot pass an exception on."""
        try:
            if self._observer is not None and self._is_due():
                self._observer.progress(self._share)
        except Exception as error:
            self._raised = error
        return self._raised is not None


def _newest_checkpoint(
    connection: sqlite3.Connection, empty: Engine, passed_over: list[str]
) -> tuple[Engine, int, int, bytes]:
    # Only a checkpoint of an event that exists. After one beyond the last event, new events would get numbers below it,
    # and the next start would not replay them.
    for seq, at_ns, state, digest, chain in connection.execute(
        "SELECT seq, c.at_ns, state, digest, chain FROM checkpoints c JOIN events USING (seq) ORDER BY seq DESC"
    ):
        if hashlib.blake2b(state, digest_size=16).hexdigest() != digest:
            passed_over.append(f"checkpoint {seq} is not as it was written")
            continue  # an older one, or the events alone, give the same state
        try:
            return Engine.load(unpack_state(state)), seq, at_ns, chain
        except GatewayError as error:
            passed_over.append(f"checkpoint {seq}: {error}")
    return empty, 0, 0, GENESIS


class _Intents:
    """The intents after event `start`, handed out event by event: all of a week's at once would be 100 MB."""

    def __init__(self, connection: sqlite3.Connection, start: int) -> None:
        self._rows = read_rows(connection, "intents", start)
        self._next = next(self._rows, None)

    def of_event(self, seq: int) -> list[bytes]:
        """Return those of event `seq`; call it with rising numbers."""
        found = []
        while self._next is not None and self._next["event_seq"] <= seq:
            if self._next["event_seq"] == seq:
                found.append(self._next["payload"])
            self._next = next(self._rows, None)
        return found


def _intent_bytes(effects: list[Effect]) -> list[bytes]:
    return [
        _encoder.encode(effect.message)
        for effect in effects
        if isinstance(effect, SendToPlatform) and not isinstance(effect.message, SnapshotRequest)
    ]
