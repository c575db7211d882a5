"""What one platform of the golden journal says that cannot be true, and what ends it; of one of them nothing does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import LegState, OrderRole, Side

from tests.support.orders import SECOND, D

if TYPE_CHECKING:
    from tests.golden.journal import JournaledDesk

LIAR = "d"
"""A netting account of its own, so that what is barred there holds up none of the others."""


def lie_and_be_ended(desk: JournaledDesk) -> None:
    """An overfill that snapshots confirm and the gateway closes, and a wrong side that the operator ends."""
    route = desk.engine.state.routes[f"{LIAR}|acc"]
    # d1: two lots of an order of one. The second one is the account's, and is closed; the first one by its signal.
    desk.enter("d1", "ES", LIAR, quantity=D(1))
    desk.update(desk.only(LIAR))
    desk.trade(desk.only(LIAR), 2)
    desk.update(desk.only(LIAR), LegState.FILLED, filled=2)
    _settle(desk, 4, desk.row(desk.only(LIAR), LegState.FILLED, 2))
    assert not route.contradictions
    desk.trade(desk.only(LIAR, OrderRole.EXIT), price=D(21001))
    desk.ask(m.SignalClose(signal_id="d1"))
    desk.trade(desk.only(LIAR, OrderRole.EXIT), price=D(21002))
    assert not route.positions["ES"].net
    # d2: it buys, and a sale is told. Only a person can say what the account holds.
    desk.enter("d2", "ES", LIAR, quantity=D(1))
    desk.update(desk.only(LIAR))
    desk.trade(desk.only(LIAR), side=Side.SELL)
    _settle(desk, 2)
    desk.ask(m.Acknowledge(request_id=20, platform=LIAR, symbol="ES", by="operator", quantity=D(-1), account="acc"))
    desk.update(desk.only(LIAR), LegState.CANCELLED)
    assert len(route.ended_contradictions) == 3, "the status that told the overfill is one as well"
    assert not route.contradictions


def lie_and_stand(desk: JournaledDesk) -> None:
    """A lot that is held, and an execution id that is used a second time, for another price: it stands."""
    desk.enter("d3", "ES", LIAR, quantity=D(2), side=Side.SELL, bracket=m.Bracket(stop_loss=D(21010)))
    desk.update(desk.only(LIAR))
    fill = desk.trade(desk.only(LIAR), 1)
    again = msgspec.structs.replace(fill, price=fill.price + 1, ts_event_ns=desk.now_ns)
    desk.give(e.AdapterSaid(message=again))
    assert len(desk.engine.state.routes[f"{LIAR}|acc"].contradictions) == 1


def lie_at_the_end(desk: JournaledDesk) -> None:
    """A price of another instrument, and a person who has the account flattened by its platform."""
    desk.fill(desk.only(LIAR), 1, price=D("5000.25"))
    kill = m.Kill(
        request_id=21, level=m.KillLevel.FLATTEN, reason="it lies", by="operator", platform=LIAR, unproven=True
    )
    desk.ask(kill)
    assert desk.sent(m.Flatten)


def _settle(desk: JournaledDesk, snapshots: int, *orders: m.WorkingOrder) -> None:
    """So many snapshots that list what was said, each late enough to count."""
    for _ in range(snapshots):
        desk.now_ns += 4 * SECOND
        desk.wait(1_000)
        desk.show(LIAR, orders=orders)
