"""Texts of a verified kill level, and of stops and closing orders that the gateway cannot see now."""

from __future__ import annotations

import pytest
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import KillLevel, LegState, OrderRole

from tests.support.orders import Desk

STOP, EXIT = OrderRole.STOP_LOSS, OrderRole.EXIT


def holding(**able: object) -> tuple[Desk, list[m.Fill]]:
    desk = Desk("b")
    desk.link_up("a", **({"brackets": False} | able))
    desk.signal("a")
    fill = desk.fill(desk.only())
    desk.update(desk.only(), LegState.FILLED, 2)
    desk.update(desk.only(role=STOP))
    return desk, [fill]


def kill(desk: Desk, level: KillLevel) -> None:
    desk.ask(m.Kill(request_id=9, level=level, reason="test", by="desk", platform="a"))


def verify(desk: Desk, fills: list[m.Fill], held: int) -> str:
    for _ in range(5):
        if desk.engine.state.routes["a|acc"].request_pending:
            orders = [desk.row(each.order) for each in desk.engine.state.orders.values() if each.live]
            desk.snapshot("a", orders=orders, fills=fills, positions=[("NQ", held)] if held else [])
        desk.wait(1_100)
    record = desk.engine.state.kills["a|acc"]
    assert record.verified
    return record.text


def test_a_verified_cancel_all_names_what_is_held_without_its_stops():
    desk, fills = holding()
    kill(desk, KillLevel.CANCEL_ALL)
    desk.update(desk.only(role=STOP), LegState.CANCELLED)
    assert verify(desk, fills, 2) == "verified; +2 NQ held, its stops were cancelled as well"


@pytest.mark.parametrize(
    ("unable", "said"),
    [
        ("lists_orders", "verified, but the platform lists no orders: look there whether one works"),
        ("lists_positions", "verified, but the platform lists no positions: look there whether one is left"),
    ],
)
def test_a_flatten_is_verified_as_far_as_the_platform_can_show_it(unable, said):
    desk, fills = holding(**{unable: False})
    kill(desk, KillLevel.FLATTEN)
    desk.update(desk.only(role=STOP), LegState.CANCELLED)
    order = desk.only(role=EXIT)
    desk.update(order)
    fills.append(desk.fill(order))
    desk.update(order, LegState.FILLED, 2)
    assert verify(desk, fills, 0) == said


def test_a_stop_is_not_said_to_stand_while_the_link_is_down():
    desk, _ = holding()
    desk.link_down("a")
    kill(desk, KillLevel.FLATTEN)
    text = desk.engine.state.kills["a|acc"].text
    assert "its stop stood when its link was lost" in text
    assert "its stop stands" not in text


def test_a_closing_order_that_rests_is_said_to_rest():
    desk, _ = holding()
    kill(desk, KillLevel.FLATTEN)
    desk.update(desk.only(role=STOP), LegState.CANCELLED)
    desk.update(desk.only(role=EXIT))
    desk.wait(1_000)
    assert "its closing order is on its way" in desk.engine.state.kills["a|acc"].text
    desk.wait(4_000)
    assert "its closing order works for 5 s and has not traded" in desk.engine.state.kills["a|acc"].text


def test_an_unknown_stop_is_not_said_to_work():
    desk = Desk("a")
    desk.link_up("a", brackets=False)
    desk.signal("a")
    desk.fill(desk.only())
    desk.wait(desk.settings.ack_ms + 100)
    stop = desk.engine.state.orders[desk.only(role=STOP).client_order_id]
    assert stop.state is LegState.UNKNOWN
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.wait(1_100)
    assert desk.report().legs[0].text.startswith("the outcome of its stop loss is unknown")
