"""A clock tick does what is due and looks at nothing else: whatever changes a signal's next step settles it at once."""

from __future__ import annotations

from decimal import Decimal as D
from random import Random

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.engine import Engine
from nexus_gateway.core.engine.orders import links, wakes
from nexus_gateway.core.engine.signals import settling

from tests.support.orders import MS, Desk, market, wide_limits
from tests.support.settling import find_missed_steps

GATEWAY_STOPS = {"brackets": False, "reduce_only": True}


def many_open(signals: int) -> Desk:
    """Signals that hold lots behind a working stop; nothing of them is due."""
    off = ("max_same_side_entries", "max_orders_per_s", "max_orders_per_s_per_platform", "max_working_orders")
    desk = Desk(limits=wide_limits(max_position_default=D(10_000), **dict.fromkeys(off)))
    desk.link_up("a", **GATEWAY_STOPS)
    for number in range(signals):
        desk.now_ns += 10 * MS
        desk.signal(signal_id=f"s{number}", quantity=D(1))
        desk.update(desk.only())
        desk.fill(desk.only())
        desk.update(desk.only(role=m.OrderRole.STOP_LOSS))
    return desk


@pytest.fixture
def settled(monkeypatch):
    """Ids of the signals that were settled since it was last cleared."""
    ids: list[str] = []
    true = settling.settle

    def settle(turn, record):
        ids.append(record.signal.signal_id)
        true(turn, record)

    monkeypatch.setattr(settling, "settle", settle)
    return ids


def test_a_tick_settles_no_signal_of_which_nothing_is_due(settled):
    desk = many_open(12)
    settled.clear()
    desk.wait(40_000)
    desk.wait(40_000)
    assert desk.sent(m.SnapshotRequest)
    assert settled == []


def test_a_tick_settles_the_one_signal_that_is_due(settled):
    desk = many_open(12)
    desk.ask(m.SignalClose(signal_id="s7"))
    stop = desk.sent(m.Cancel)[0]
    assert stop.client_order_id in desk.engine.state.signals["s7"].legs[0].orders
    settled.clear()
    desk.wait(desk.settings.stop_wait_ms)  # the end of its stop was waited for
    assert set(settled) == {"s7"}


def test_a_snapshot_that_shows_nothing_new_settles_no_signal(settled):
    desk = many_open(8)
    desk.wait(31_000)
    rows = [desk.row(desk.engine.state.orders[order_id].order) for order_id in desk.engine.state.routes["a|acc"].live]
    settled.clear()
    desk.snapshot(orders=rows, positions=[("NQ", 8)], from_ns=desk.now_ns)
    assert desk.engine.state.routes["a|acc"].positions["NQ"].mismatch_snapshots == 0
    assert settled == []


def test_what_is_due_in_a_rebuilt_engine_is_due_in_the_same_order():
    desk = many_open(6)
    for number in (4, 1, 5, 0):
        desk.ask(m.SignalClose(signal_id=f"s{number}"))
        desk.now_ns += MS
    rebuilt = Engine.load(desk.engine.save())
    assert rebuilt.next_due_ns() == desk.engine.next_due_ns()
    now_ns = desk.now_ns + 5_000 * MS
    assert rebuilt.handle(e.ClockTicked(), now_ns) == desk.engine.handle(e.ClockTicked(), now_ns)
    assert rebuilt.digest() == desk.engine.digest()


def test_a_market_that_shuts_or_opens_settles_what_is_held_there_and_another_quote_does_not(settled):
    desk = many_open(3)
    for is_open, wanted in ((True, set()), (False, {"s0", "s1", "s2"}), (False, set()), (True, {"s0", "s1", "s2"})):
        settled.clear()
        desk.now_ns += 5_000 * MS
        desk.give(e.MarketMoved(markets=(market("a", desk.now_ns, session_open=is_open),)))
        assert set(settled) == wanted


@pytest.mark.parametrize("module", [links, wakes])
def test_the_look_after_each_event_finds_a_signal_that_was_not_settled(monkeypatch, module):
    """Else all tests that look would prove nothing."""
    desk = many_open(2)
    desk.checks = False
    if module is links:
        desk.signal(signal_id="r", quantity=D(2))
        desk.fill(desk.only(), 1)
        desk.update(desk.only(role=m.OrderRole.STOP_LOSS))
        desk.fill(desk.only(), 1)  # the replace of its stop is not answered yet: one lot is unprotected
        monkeypatch.setattr(links, "wake_route", lambda turn, name: None)
        desk.link_down()
    else:
        monkeypatch.setattr(settling, "wake_waiting", lambda turn: turn.changed_orders.clear())
        terms = {"order_type": m.OrderType.LIMIT, "limit_price": D(21005), "bracket": None}
        desk.signal(signal_id="r", side=m.Side.SELL, quantity=D(2), reduce_only=True, **terms)
        desk.update(desk.only())
        by_hand = desk.make_fill(desk.only(), 1, client_order_id="by hand")
        desk.give(e.AdapterSaid(message=by_hand))
    assert find_missed_steps(desk.engine.state) != []


def test_due_times_follow_random_waits_as_a_look_at_everything_does():
    """An order or a signal that the heap has lost would never be handled: its time would stay in the past."""
    rng = Random(7)
    desk = many_open(5)
    for _ in range(40):
        if rng.random() < 0.3:
            desk.ask(m.SignalClose(signal_id=f"s{rng.randrange(5)}"))
        stops = [order for order in desk.engine.state.orders.values() if order.cancel_wanted and order.live]
        if stops and rng.random() < 0.5:
            desk.update(stops[0].order, m.LegState.CANCELLED)
        desk.wait(rng.randrange(5_000))
        due_ns = desk.engine.next_due_ns()
        assert due_ns is not None
        assert due_ns > desk.now_ns, "what was due is handled by one tick"
