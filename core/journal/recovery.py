"""From the journal back to the engine: newest readable checkpoint, then every event after it, once more.

Replaying also makes every order again, on paper. They are compared with the intents on disk: a difference
means that the program decides otherwise than the one that wrote the journal, and is reported, never hidden.
"""

from __future__ import annotations

import sqlite3

import msgspec
from msgspec import Struct

from ..engine import Effect, Engine, EngineSettings, Event, SendToPlatform
from ..errors import GatewayError
from ..messages import SnapshotRequest
from ..risk import Limits
from .schema import JournalError

_event_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)
_encoder = msgspec.msgpack.Encoder()


class Rebuilt(Struct):
    """An engine as of the journal's last event. `differing`: events whose replay made other orders than were
    written.
    """

    engine: Engine
    events: int
    from_checkpoint_seq: int
    last_at_ns: int
    differing: list[int]


def decode_event(payload: bytes, seq: int) -> Event:
    """An event from its journal row.

    Raises: JournalError naming the row.
    """
    try:
        return _event_decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:
        raise JournalError(f"event {seq} of the journal cannot be read: {error}; restore a backup") from error


def rebuild(
    connection: sqlite3.Connection, settings: EngineSettings, limits: Limits, use_checkpoint: bool = True
) -> Rebuilt:
    """Rebuild the engine. `settings` and `limits` serve only a journal that is empty; else the journaled ones
    hold.

    Raises: JournalError when an event cannot be read. A damaged checkpoint is passed over for an older one.
    """
    engine, start, at_ns = Engine(settings, limits), 0, 0
    if use_checkpoint:
        engine, start, at_ns = _newest_checkpoint(connection, engine)
    intents = _read_intents(connection, start)
    differing: list[int] = []
    count = 0
    for seq, event_ns, payload in connection.execute(
        "SELECT seq, at_ns, payload FROM events WHERE seq > ? ORDER BY seq", (start,)
    ):
        effects = engine.handle(decode_event(payload, seq), event_ns)
        if _intent_bytes(effects) != intents.get(seq, []):
            differing.append(seq)
        count += 1
        at_ns = event_ns
    return Rebuilt(engine, count, start, at_ns, differing)


def _newest_checkpoint(connection: sqlite3.Connection, empty: Engine) -> tuple[Engine, int, int]:
    for seq, at_ns, state in connection.execute("SELECT seq, at_ns, state FROM checkpoints ORDER BY seq DESC"):
        try:
            return Engine.load(state), seq, at_ns
        except GatewayError:
            continue  # an older one, or the events alone, serve as well
    return empty, 0, 0


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
