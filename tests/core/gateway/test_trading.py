"""A real gateway process between platforms and a NEXUS that the test plays: signals, fills, restarts."""

from __future__ import annotations

import time
from decimal import Decimal

from nexus_gateway.core.messages import LegState, RejectCode, SignalCancel, SignalState

from tests.support.trading_floor import make_signal, open_floor

D = Decimal


def test_one_signal_becomes_a_leg_on_each_platform_and_one_report() -> None:
    with open_floor(("nt8", "fill"), ("sierra", "fill")) as (floor, platforms, nexus):
        signal = make_signal("nt8", "sierra")
        nexus.client.send(signal)
        floor.until(lambda: (r := nexus.report(signal.signal_id)) is not None and r.state is SignalState.FILLED)
        report = nexus.report(signal.signal_id)
        assert report is not None
        assert report.filled == 2
        assert report.avg_price == 21_000
        assert [len(platform.fills) for platform in platforms] == [1, 1]
        assert platforms[0].placed[0].contract  # the front one: nobody has named another
        counters = floor.counters()
        assert (counters["signals"], counters["legs"], counters["orders_sent"]) == (1, 2, 2)
        assert counters["fills"] == 2


def test_one_leg_is_rejected_and_one_partially_filled() -> None:
    with open_floor(("nt8", "reject"), ("sierra", "partial")) as (floor, _platforms, nexus):
        signal = make_signal("nt8", "sierra", quantity=D(2))
        nexus.client.send(signal)
        floor.until(lambda: (r := nexus.report(signal.signal_id)) is not None and r.filled == 1)
        floor.until(lambda: nexus.report(signal.signal_id).legs[0].state is LegState.REJECTED)  # type: ignore[union-attr]  # there is one
        nexus.client.send(SignalCancel(signal_id=signal.signal_id))
        floor.until(lambda: nexus.report(signal.signal_id).state is SignalState.PARTIAL)  # type: ignore[union-attr]  # as above
        report = nexus.report(signal.signal_id)
        assert report is not None
        assert report.legs[0].code is RejectCode.PLATFORM_REJECTED


def test_the_same_signal_twice_is_executed_once() -> None:
    with open_floor(("nt8", "fill")) as (floor, (platform,), nexus):
        signal = make_signal("nt8")
        nexus.client.send(signal)
        nexus.client.send(signal)
        floor.until(lambda: floor.counters()["engine_duplicate_signal"] == 1)
        assert len(platform.placed) == 1


def test_a_kill_of_the_gateway_loses_and_repeats_nothing() -> None:
    with open_floor(("nt8", "fill"), ("sierra", "fill")) as (floor, platforms, nexus):
        sent = []
        for round_number in range(4):
            for _ in range(3):
                signal = make_signal("nt8", "sierra")
                sent.append(signal)
                nexus.client.send(signal)
                floor.rest(0.003 * round_number)
            floor.restart()
            for signal in sent[-3:]:  # as NEXUS's link does: what was not answered for certain is said again
                nexus.client.send(signal)
            floor.until(
                lambda: all((r := nexus.report(s.signal_id)) and r.state is not SignalState.UNKNOWN for s in sent[-3:])
            )
        ordered = [order.client_order_id for platform in platforms for order in platform.placed]
        assert len(ordered) == len(set(ordered))
        floor.until(lambda: floor.counters()["unknown"] == 0)
        for platform in platforms:
            entries = {order.client_order_id[3:15] for order in platform.placed}
            assert len(entries) == len(platform.placed) <= len(sent)


def test_a_silent_platform_makes_an_unknown_that_its_snapshot_resolves() -> None:
    with open_floor(("nt8", "silent")) as (floor, (platform,), nexus):
        signal = make_signal("nt8")
        nexus.client.send(signal)
        floor.until(lambda: (r := nexus.report(signal.signal_id)) is not None and r.state is SignalState.UNKNOWN)
        floor.until(lambda: (r := nexus.report(signal.signal_id)) is not None and r.state is SignalState.WORKING)
        assert len(platform.placed) == 1


def test_a_stale_quote_refuses_an_opening_order() -> None:
    with open_floor(("nt8", "fill")) as (floor, (platform,), nexus):
        floor.stale()
        signal = make_signal("nt8")
        nexus.client.send(signal)
        floor.until(lambda: nexus.report(signal.signal_id) is not None)
        report = nexus.report(signal.signal_id)
        assert report is not None
        assert report.legs[0].code is RejectCode.STALE_QUOTE
        assert not platform.placed
        assert floor.counters()["reject_stale_quote"] == 1


def test_a_quiet_market_is_not_a_stale_one_until_its_adapter_is_gone() -> None:
    with open_floor(("nt8", "fill"), limits=None) as (floor, (platform,), nexus):
        floor.rest(2.5)  # longer than max_quote_age_ms, without a tick
        signal = make_signal("nt8")
        nexus.client.send(signal)
        floor.until(lambda: platform.placed)
        floor.writers.pop("nt8").close()
        time.sleep(2.1)
        floor.until(lambda: nexus.client.is_up and floor.counters()["routes_ready"] == 1)
        late = make_signal("nt8")
        nexus.client.send(late)
        floor.until(lambda: nexus.report(late.signal_id) is not None)
        report = nexus.report(late.signal_id)
        assert report is not None
        assert report.legs[0].code is RejectCode.STALE_QUOTE


def test_nexus_gets_what_it_missed_when_it_comes_back() -> None:
    with open_floor(("nt8", "work")) as (floor, (platform,), nexus):
        signal = make_signal("nt8")
        nexus.client.send(signal)
        floor.until(lambda: platform.placed and nexus.report(signal.signal_id) is not None)
        floor.people.remove(nexus)
        nexus.client.close()
        platform.fill(platform.placed[0].client_order_id, D(1))
        floor.until(lambda: floor.counters()["fills"] == 1)
        again = floor.nexus()
        floor.until(lambda: (r := again.report(signal.signal_id)) is not None and r.state is SignalState.FILLED)


def test_a_mute_adapter_is_cut_and_asked_anew() -> None:
    with open_floor(("nt8", "fill")) as (floor, (platform,), nexus):
        asked = platform.snapshots
        platform.hung = True
        floor.until(lambda: floor.counters()["routes_up"] == 0)
        signal = make_signal("nt8")
        nexus.client.send(signal)
        floor.until(lambda: nexus.report(signal.signal_id) is not None)
        assert nexus.report(signal.signal_id).legs[0].code is RejectCode.PLATFORM_NOT_READY  # type: ignore[union-attr]  # waited for
        platform.hung = False
        floor.ready(1)
        assert platform.snapshots > asked
        assert not platform.placed
