"""The engine as if no signal had ever finished: with all of them recalled, and its twin that never let one go."""

from __future__ import annotations

import msgspec
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core.engine.engine import Engine
from nexus_gateway.core.journal.recovery import decode_event

from tests.simulation.journal import MemoryJournal


def recall_all(engine: Engine, journal: MemoryJournal) -> Engine:
    """A copy of the engine with every finished signal back in its state."""
    whole = Engine.load(engine.save())
    for signal_id in journal.finished_ids():
        record = journal.finished.of_signal(signal_id)
        assert record is not None
        event = e.SignalRecalled(signal_id=signal_id, layout=record.layout, payload=record.payload)
        whole.handle(event, whole.state.now_ns)
    return whole


def compare_with_twin(engine: Engine, journal: MemoryJournal) -> list[str]:
    """What an engine that keeps every signal, and is told everything whole, believes otherwise."""
    twin = Engine(engine.state.settings, engine.state.limits)
    for number, row in enumerate(journal.rows):
        event = decode_event(row.whole, number)
        if isinstance(event, e.Started):
            event = structs.replace(event, settings=structs.replace(event.settings, finished_after_ms=None))
        if not isinstance(event, e.SignalRecalled):
            twin.handle(event, row.at_ns)
    mine, other = _books(recall_all(engine, journal)), _books(twin)
    return [f"an engine that keeps all signals differs: {text}" for text in _differences(mine, other)][:3]


def _books(engine: Engine) -> dict:
    """What is believed, without what differs by right: when it was last looked at, and how often it was said."""
    books = msgspec.to_builtins(engine.state, builtin_types=(bytes,))
    for key in ("over", "counts", "settings", "found_keys"):
        del books[key]
    for route in books["routes"].values():
        for key in ("finished_until", "finished_markets", "evicted_until_ns"):
            del route[key]
    for order in books["orders"].values():
        del order["platform_cum_qty"]  # a status of an order that has filled is not worth a recall
    for signal in books["signals"].values():
        del signal["revision"], signal["changed_ns"]
        for leg in signal["legs"] if signal["done_ns"] else ():
            del leg["retry_ns"], leg["protect_retry_ns"], leg["clearing_until_ns"]  # deadlines of what is over
    return books


def _differences(mine: object, other: object, path: str = "state") -> list[str]:
    if isinstance(mine, dict) and isinstance(other, dict):
        found = [f"{path}.{key} is known to one of them only" for key in mine.keys() ^ other.keys()]
        return found + [
            text for key in mine.keys() & other.keys() for text in _differences(mine[key], other[key], f"{path}.{key}")
        ]
    if isinstance(mine, list) and isinstance(other, list) and len(mine) == len(other):
        pairs = zip(mine, other, strict=True)
        return [text for number, pair in enumerate(pairs) for text in _differences(*pair, f"{path}[{number}]")]
    if mine != other:
        return [f"{path} is {mine}, with all signals kept {other}"]
    return []
