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

import msgspec
from msgspec import Struct

from ..engine import Effect, Engine, EngineSettings, Event, SendToPlatform
from ..errors import GatewayError
from ..messages import Cancel, Flatten, Order, Replace, SnapshotRequest
from ..risk import Limits
from .schema import JournalError
from .store import GENESIS, chain_hash

_event_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)
_intent_decoder: msgspec.msgpack.Decoder[Order | Cancel | Replace | Flatten] = msgspec.msgpack.Decoder(
    Order | Cancel | Replace | Flatten
)
_encoder = msgspec.msgpack.Encoder()


class Rebuilt(Struct):
    """An engine as of the journal's last event.

    `differing`: numbers of events whose replay made other orders than were written. `passed_over`: newer checkpoints
    that could not be used, and why.
    """

    engine: Engine
    events: int
    from_checkpoint_seq: int
    last_at_ns: int
    differing: list[int]
    passed_over: list[str]


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
    connection: sqlite3.Connection, settings: EngineSettings, limits: Limits, use_checkpoint: bool = True
) -> Rebuilt:
    """Rebuild the engine. `settings` and `limits` are used only for an empty journal, else those in its events.

    A checkpoint that is damaged, or of a state layout that this program cannot read, is skipped for an older one, or
    for the events alone.

    Raises: JournalError when an event is missing, altered or cannot be read.
    """
    try:
        return _replay(connection, Engine(settings, limits), use_checkpoint)
    except sqlite3.DatabaseError as error:
        raise JournalError(f"the journal cannot be read: {error}; {_CURE}") from error


_CURE = "run `nexus-gateway journal verify` and restore the last backup"


def _replay(connection: sqlite3.Connection, empty: Engine, use_checkpoint: bool) -> Rebuilt:
    engine, start, at_ns, chain = empty, 0, 0, GENESIS
    passed_over: list[str] = []
    if use_checkpoint:
        engine, start, at_ns, chain = _newest_checkpoint(connection, empty, passed_over)
    intents = _read_intents(connection, start)
    differing: list[int] = []
    count = 0
    for seq, event_ns, payload, stored in connection.execute(
        "SELECT seq, at_ns, payload, chain FROM events WHERE seq > ? ORDER BY seq", (start,)
    ):
        count += 1
        if seq != start + count:
            raise JournalError(f"event {start + count} of the journal is missing; {_CURE}")
        if event_ns is not None and payload is not None:
            chain = chain_hash(chain, event_ns, payload)
        if chain != stored:
            raise JournalError(f"event {seq} of the journal is not as it was written; {_CURE}")
        effects = engine.handle(decode_event(payload, seq), event_ns)
        if _intent_bytes(effects) != intents.get(seq, []):
            differing.append(seq)
            engine.follow_sent(effects, [_intent_decoder.decode(each) for each in intents.get(seq, [])])
        at_ns = event_ns
    return Rebuilt(engine, count, start, at_ns, differing, passed_over)


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
            return Engine.load(state), seq, at_ns, chain
        except GatewayError as error:
            passed_over.append(f"checkpoint {seq}: {error}")
    return empty, 0, 0, GENESIS


def _read_intents(connection: sqlite3.Connection, start: int) -> dict[int, list[bytes]]:
    intents: dict[int, list[bytes]] = {}
    rows = connection.execute(
        "SELECT event_seq, payload FROM intents WHERE event_seq > ? ORDER BY event_seq, ordinal", (start,)
    )
    for seq, payload in rows:
        intents.setdefault(seq, []).append(payload)
    return intents


def _intent_bytes(effects: list[Effect]) -> list[bytes]:
    return [
        _encoder.encode(effect.message)
        for effect in effects
        if isinstance(effect, SendToPlatform) and not isinstance(effect.message, SnapshotRequest)
    ]
