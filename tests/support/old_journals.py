"""Journals with a history that is old enough for archives."""

from __future__ import annotations

from pathlib import Path

from nexus_gateway.core import messages as m
from nexus_gateway.core.engine import Engine
from nexus_gateway.core.journal import Journal

from tests.support.orders import MS, T0, Desk

DAY_MS = 86_400_000
NOW_NS = T0 + 400 * DAY_MS * MS


def write_old_journal(path: Path, days: int = 6, prefix: str = "old") -> Desk:
    """A trade a day, and a checkpoint at the end. Every event is older than any `keep_days` at `NOW_NS`."""
    desk = Desk("a", "b")
    for day in range(days):
        name = f"{prefix}{day}"
        desk.signal("a", "b", signal_id=name)
        desk.fill(desk.only("a"))
        desk.reject(desk.only("b"))
        desk.ask(m.SignalClose(signal_id=name))
        for order in desk.sent(m.Cancel):
            desk.update(desk.orders[order.client_order_id], m.LegState.CANCELLED)
        if desk.report(name).legs[0].open_quantity:
            desk.fill(desk.only("a", m.OrderRole.EXIT))
        desk.wait(DAY_MS)
    append_history(path, desk)
    with Journal(path) as journal:
        journal.checkpoint(desk.engine.save(), desk.now_ns)
    return desk


def append_history(path: Path, desk: Desk, start: int = 0) -> None:
    """Journal the desk's events from the given one on, as a gateway does, with an engine of its own."""
    engine = Engine(desk.settings, desk.limits)
    with Journal(path, "process") as journal:
        for number, (at_ns, event) in enumerate(desk.events):
            effects = engine.handle(event, at_ns)
            if number >= start:
                journal.append(event, at_ns, effects)
        journal.commit()
