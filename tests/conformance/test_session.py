"""C: the sessions with platform and gateway, opened, lost and found again."""

from __future__ import annotations

import time
from decimal import Decimal

import numpy as np
from nexus_gateway.core import messages as m
from nexus_gateway.core.kill_file import KillEntry, add_kill, kill_file_path, remove_kills
from nexus_gateway.core.process import EXIT_CLEAN, EXIT_CONFIG
from nexus_gateway.shm.tick import TickFlag

from tests.conformance.gateway_peer import GatewayPeer

ONE = Decimal(1)


def test_c01_connect(make_rig):
    rig = make_rig()
    gateway = rig.go()
    hello = gateway.hello
    assert (hello.role, hello.platform) == (m.Role.ADAPTER, rig.platform)
    assert hello.account
    assert hello.capabilities is not None
    assert m.OrderType.MARKET in hello.capabilities.order_types
    (instrument,) = [each for each in hello.instruments if each.symbol == rig.symbol]
    assert instrument.tick_size == rig.tick_size
    assert instrument.contract == "NQZ26"
    snapshot = gateway.snapshot()
    assert snapshot.complete
    assert snapshot.positions.rows == ()
    assert gateway.sessions == 1
    assert rig.counters()["link_up"] == 1
    assert rig.stop_adapter() == EXIT_CLEAN


def test_c02_wrong_credentials(make_rig):
    rig = make_rig()
    rig.refuse_login()
    rig.start_adapter()
    # No second try: it would lock the account.
    assert rig.wait_exit() == EXIT_CONFIG
    assert rig.gateway.ups == []
    assert rig.counters().get("connects", 0) == 0


def test_c03_platform_not_running(make_rig):
    rig = make_rig()
    rig.stop_platform()
    rig.start_adapter()
    rig.wait_counter("connect_failures", 3)
    assert rig.gateway.ups == [], "an adapter without its platform must not look ready to trade"
    assert rig.is_running
    rig.start_platform()
    rig.gateway.wait_linked()
    assert rig.gateway.snapshot().complete


def test_c04_heartbeat_of_the_gateway_lost(make_rig):
    rig = make_rig()
    gateway = rig.go()
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("bust"))
    gateway.wait_filled(order, order.quantity)
    time.sleep(3 * rig.mute_after_ms / 1000)  # the gateway hangs; meanwhile the platform takes the fill back
    gateway.wait_linked(2)
    gateway.until(lambda: gateway.all(m.Correction), "the bust of the time without a gateway")
    assert gateway.sessions == 1
    assert rig.counters()["order_events_dropped"] == 0


def test_c05_platform_connected_but_mute(make_rig):
    rig = make_rig(silence_s=0.5)
    gateway = rig.go()
    rig.quote(18000, 18000.25)
    rig.mute_platform()
    rig.wait_counter("silences", 1)
    gateway.until(lambda: int(rig.ticks()[-1]["flags"]) & TickFlag.STALE, "the last quote marked stale")
    rig.start_platform()
    published = rig.counters()["ticks_published"]
    rig.quote(18001, 18001.25)
    rig.wait_counter("ticks_published", published + 1)
    gateway.until(lambda: rig.counters()["link_up"], "the platform back")


def test_c06_flapping_platform_20_times(make_rig):
    rig = make_rig()
    gateway = rig.go()
    for number in range(1, 21):
        rig.stop_platform()
        rig.wait_counter("links_lost", number)
        rig.start_platform()
        gateway.wait_linked(number + 1)
        # The gateway's link is up a moment before the adapter's: a platform that stops between them was not lost.
        gateway.until(lambda: rig.counters()["link_up"], "the platform back")
    rig.quote(18000, 18000.25)
    gateway.listen()
    assert gateway.sessions == 1
    assert gateway.snapshot().complete
    order = gateway.place(symbol=rig.symbol, quantity=ONE)
    gateway.wait_filled(order, ONE)
    gateway.listen()
    assert len(gateway.fills(order)) == 1


def test_c07_a_new_process_gives_exactly_one_session(make_rig):
    rig = make_rig()
    gateway = rig.go()
    order = gateway.place(symbol=rig.symbol, quantity=ONE)
    gateway.wait_filled(order, ONE)
    first = gateway.hello
    rig.kill_adapter()
    rig.start_adapter()
    second = gateway.wait_linked(2)
    assert second.boot_id != first.boot_id
    assert (second.platform, second.account) == (first.platform, first.account)
    gateway.listen()
    assert gateway.sessions == 1
    assert len(gateway.ups) == 2
    snapshot = gateway.snapshot()
    assert [row.quantity for row in snapshot.positions.rows] == [ONE], "the platform outlives its adapter"
    assert [fill.client_order_id for fill in snapshot.executions.rows] == [order.client_order_id]


def test_c08_planned_restart_of_the_platform(make_rig):
    """Away for longer than a mute link lives: position and resting order are there again, nothing else was placed."""
    rig = make_rig()
    gateway = rig.go()
    order = gateway.place(symbol=rig.symbol, quantity=ONE)
    gateway.wait_filled(order, ONE)
    resting = gateway.place(symbol=rig.symbol, quantity=ONE, order_type=m.OrderType.LIMIT, limit_price=Decimal(17_000))
    gateway.wait_state(resting, m.LegState.WORKING)
    before = [(row.symbol, row.quantity) for row in gateway.snapshot().positions.rows]
    rig.stop_platform()
    gateway.until(lambda: [b for b in gateway.all(m.Heartbeat) if not b.platform_up], "the platform is down")
    refused = gateway.place(symbol=rig.symbol, quantity=ONE)
    gateway.wait_reject(refused, m.RejectCode.LINK_DOWN)
    gateway.listen(2 * rig.mute_after_ms / 1000)
    assert gateway.sessions == 1, "the adapter keeps its link while its platform is away"
    rig.start_platform()
    gateway.wait_linked(2)
    snapshot = gateway.snapshot()
    assert snapshot.complete
    assert [(row.symbol, row.quantity) for row in snapshot.positions.rows] == before
    working = [row.client_order_id for row in snapshot.working_orders.rows if not row.state.final]
    assert working == [resting.client_order_id]
    assert not gateway.fills(refused)


def test_c10_gateway_restarted(make_rig):
    rig = make_rig()
    gateway = rig.go()
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("bust"))
    gateway.wait_filled(order, order.quantity)
    gateway.close()
    time.sleep(1.5)
    rig.gateway = successor = GatewayPeer(rig.run_folder, rig.timing)
    successor.wait_linked()
    # What happened in between was kept, and comes first.
    successor.until(lambda: successor.all(m.Correction), "the bust of the time without a gateway")
    assert successor.snapshot().executions.rows == ()


def test_c11_kill_file(make_rig):
    rig = make_rig()
    gateway = rig.go()
    path = kill_file_path(rig.run_folder)
    add_kill(path, KillEntry(level=m.KillLevel.NO_NEW, reason="test", by="test", at_ns=1))
    entry = gateway.place(symbol=rig.symbol, quantity=ONE)
    gateway.wait_reject(entry, m.RejectCode.KILL_SWITCH)
    way_out = gateway.place(symbol=rig.symbol, quantity=ONE, side=m.Side.SELL, role=m.OrderRole.EXIT)
    gateway.wait_filled(way_out, ONE)
    add_kill(path, KillEntry(level=m.KillLevel.SEVER, reason="test", by="test", at_ns=2))
    gateway.until(lambda: gateway.sessions == 0, "the end of the link")
    remove_kills(path)
    gateway.wait_linked(2)


def test_c12_platform_lost_with_an_order_on_the_way(make_rig):
    rig = make_rig()
    gateway = rig.go()
    rig.stop_platform()
    rig.wait_counter("links_lost", 1)
    gateway.until(lambda: [b for b in gateway.all(m.Heartbeat) if not b.platform_up], "the platform is down")
    order = gateway.place(symbol=rig.symbol, quantity=ONE)
    gateway.wait_reject(order, m.RejectCode.LINK_DOWN)
    gateway.cancel(order)
    gateway.wait_reject(order, m.RejectCode.CANCEL_REJECTED)
    rig.start_platform()
    gateway.wait_linked(2)
    gateway.listen()
    assert not gateway.fills(order)


def test_c13_an_idle_adapter_costs_next_to_nothing(make_rig):
    rig = make_rig()
    gateway = rig.go()
    gateway.listen(1.0)
    before_s = rig.cpu_s()
    gateway.listen(4.0)
    # A ratio, and far above what it takes: what it must find is a loop that spins.
    assert (rig.cpu_s() - before_s) / 4.0 < 0.2


def test_d01_ticks_are_numbered_without_a_gap(make_rig):
    rig = make_rig()
    rig.go()
    for step in range(5):
        rig.quote(18000 + step, 18000.25 + step)
    ticks = rig.ticks()
    assert np.array_equal(ticks["seq"], np.arange(ticks["seq"][0], ticks["seq"][0] + len(ticks)))
    assert list(ticks["bid"][-5:]) == [18000, 18001, 18002, 18003, 18004]


def test_d02_crossed_and_zero_quotes_pass_as_they_are_and_trade_nothing(make_rig):
    rig = make_rig()
    gateway = rig.go()
    for bid, ask in ((18001.0, 18000.0), (0.0, 0.0)):
        rig.quote(bid, ask)
        assert (rig.ticks()[-1]["bid"], rig.ticks()[-1]["ask"]) == (bid, ask)
        order = gateway.place(symbol=rig.symbol, quantity=ONE)
        gateway.wait_state(order, m.LegState.WORKING)
        gateway.listen(0.3)
        assert not gateway.fills(order)
        rig.quote(18000, 18000.25)
        (fill,) = gateway.wait_filled(order, ONE)
        assert fill.price == Decimal("18000.25")
    assert rig.is_running


def test_d03_not_a_number(make_rig):
    rig = make_rig()
    gateway = rig.go()
    rig.quote(None, None, None, None)
    assert np.isnan(rig.ticks()[-1]["bid"])
    order = gateway.place(symbol=rig.symbol, quantity=ONE)
    gateway.wait_state(order, m.LegState.WORKING)
    gateway.listen(0.3)
    assert not gateway.fills(order)
    rig.quote(None, 18000.25)  # one good side is enough for that side
    gateway.wait_filled(order, ONE)
