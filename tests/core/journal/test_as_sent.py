"""A journal whose writer decided otherwise: what was sent was sent, and the answers behind it are about that."""

from __future__ import annotations

from decimal import Decimal as D
from pathlib import Path

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.invariants import check
from nexus_gateway.core.engine.orders import closing, protection
from nexus_gateway.core.journal import Journal, rebuild
from nexus_gateway.core.messages import LegState, OrderRole

from tests.support.orders import Desk, wide_limits


class JournaledDesk(Desk):
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        super().__init__("b")

    def give(self, event: e.Event) -> list:
        effects = super().give(event)
        self.journal.append(event, self.now_ns, [each for each in effects if not isinstance(each, e.TellNexus)])
        self.journal.commit()
        return effects


def lot_by_lot(path: Path, *, closes: bool = False) -> JournaledDesk:
    """An entry of 3 lots that fills one by one, with answers to every stop, and a close where it is wanted."""
    with Journal(path) as journal:
        desk = JournaledDesk(journal)
        desk.link_up("a", brackets=False)
        desk.signal("a", quantity=D(3))
        entry = desk.only()
        for _ in range(3):
            desk.fill(entry, 1)
            for order_id in list(desk.engine.state.routes["a|acc"].live):
                record = desk.engine.state.orders[order_id]
                if record.role is OrderRole.STOP_LOSS and record.state is LegState.SENT:
                    desk.update(record.order)
                elif record.replace is not None:
                    size, number = record.replace.quantity, record.replace.revision
                    desk.update(record.order, quantity=size, replace_revision=number)
        if closes:
            desk.ask(m.SignalClose(signal_id="s1"))
            for order_id in list(desk.engine.state.routes["a|acc"].live):
                record = desk.engine.state.orders[order_id]
                if record.role is OrderRole.STOP_LOSS:
                    desk.update(record.order, LegState.CANCELLED, quantity=record.quantity)
            desk.fill(desk.only(role=OrderRole.EXIT))
    return desk


def replayed(path: Path) -> tuple[e.Engine, list[int]]:
    with Journal(path) as journal:
        made = rebuild(journal.connection, e.EngineSettings(client_order_id_chars=22), wide_limits())
    return made.engine, made.differing


def orders_of(engine: e.Engine) -> dict[str, tuple]:
    return {
        order_id: (record.role, record.state, record.quantity, record.cum_qty)
        for order_id, record in engine.state.orders.items()
    }


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("writer_replaces", [False, True])
def test_the_state_holds_the_orders_of_the_journal_and_not_those_of_this_program(
    tmp_path, monkeypatch, writer_replaces, closes
):
    path = tmp_path / "j.db"
    with monkeypatch.context() as patch:
        patch.setattr(protection, "_can_resize", lambda *_: writer_replaces)
        desk = lot_by_lot(path, closes=closes)
    # This program decides the other way.
    monkeypatch.setattr(protection, "_can_resize", lambda *_: not writer_replaces)
    engine, differing = replayed(path)
    assert differing
    assert orders_of(engine) == orders_of(desk.engine)
    assert check(engine.state) == []
    leg = engine.state.signals["s1"].legs[0]
    assert leg.open == (0 if closes else 3)


def test_an_order_that_this_program_would_have_sent_and_the_writer_did_not_is_none(tmp_path, monkeypatch):
    path = tmp_path / "j.db"
    with monkeypatch.context() as patch:
        patch.setattr(closing, "_send_netting", lambda *_: None)  # the writer never closed anything
        with Journal(path) as journal:
            desk = JournaledDesk(journal)
            desk.signal("b")
            desk.fill(desk.only("b"))
            desk.ask(m.SignalClose(signal_id="s1"))
    engine, differing = replayed(path)
    assert len(differing) == 1
    assert orders_of(engine) == orders_of(desk.engine)
    assert engine.state.signals["s1"].legs[0].attempts.get(OrderRole.EXIT, 0) == 0
    effects = engine.handle(e.ClockTicked(), engine.state.now_ns + 2_000_000_000)
    sent = [
        each.message for each in effects if isinstance(each, e.SendToPlatform) and isinstance(each.message, m.Order)
    ]
    assert [each.quantity for each in sent] == [2]  # from now on this program decides


def test_the_same_program_replays_without_a_difference(tmp_path):
    path = tmp_path / "j.db"
    desk = lot_by_lot(path, closes=True)
    engine, differing = replayed(path)
    assert differing == []
    assert engine.digest() == desk.engine.digest()
