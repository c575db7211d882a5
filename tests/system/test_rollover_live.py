"""A roll with real processes: gateway, journal, six simulated platforms with paper accounts, a NEXUS that trades."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
from nexus_gateway.core.messages import LegReport, LegState, RejectCode, SignalClose, SignalState

from tests.support.roll_floor import LATE, ROLLS, SIX, RollFloor
from tests.support.shm_processes import linux_only

pytestmark = linux_only
D = Decimal
OLD, NEW = ROLLS["NQ"]
SHORT = (RejectCode.OUTCOME_UNKNOWN, RejectCode.PLATFORM_NOT_READY)
"""Why a position was not opened again: its order may have died on the way, or the platform was away for too long."""


def test_six_platforms_roll_at_once_while_trading_goes_on() -> None:
    with RollFloor() as floor:
        floor.ready()
        # All but one are warm, and none moves.
        floor.until(lambda: f"no platform moves: {LATE}: has no quote of {NEW}" in floor.notes())
        assert floor.contract("NQ") == OLD
        before = floor.trade_everywhere().signal_id

        floor.release("NQ")
        sent, next_s = [before], 0.0

        def rolled_everywhere() -> bool:
            nonlocal next_s
            if time.monotonic() > next_s:  # trading goes on through the switch
                next_s = time.monotonic() + 0.05
                sent.append(floor.signal())
            return {source for source, *_ in floor.rolls} == set(SIX)

        floor.until(rolled_everywhere)
        floor.ready()
        entry = floor.entry("NQ")
        assert entry is not None
        assert (entry.contract, entry.generation) == (NEW, 2)  # the first choice, and the roll
        # NEXUS sees the flag once on each ring, with the new contract's price on it.
        assert sorted(source for source, *_ in floor.rolls) == sorted(SIX)
        assert all(bid > 18_090 for *_, bid in floor.rolls)
        assert {symbol for _, symbol, *_ in floor.rolls} == {entry.id}
        floor.until(lambda: floor.counters()["engine_rolls"] == 1)

        report = floor.trade_everywhere()
        assert report.avg_price is not None
        assert report.avg_price > 18_090

        # What is open on the old contract can be closed, there.
        floor.client.send(SignalClose(signal_id=before))  # type: ignore[union-attr]  # it is up
        floor.until(lambda: (r := floor.report(before)) is not None and r.state is SignalState.CLOSED)
        floor.until(lambda: all(floor.is_settled(signal_id) for signal_id in sent))
        assert floor.counters()["engine_position_drift"] == 0
        assert floor.counters()["engine_orphan"] == 0
        assert f"NQ rolls from {OLD} to {NEW} on all platforms; spread" in floor.notes()

        moments = {source: at_ns for source, _, at_ns, _ in floor.rolls}
        floor.stop()
        for name in SIX:
            entries = [order for order in floor.book(name).orders.values() if order.side.sign > 0]
            assert {order.contract for order in entries} == {OLD, NEW}
            for order in entries:
                # No order that opens anything reaches the contract that has gone, nor the new one too early.
                assert (order.accepted_ns < moments[name]) == (order.contract == OLD), (name, order)
            orders = floor.book(name).orders.values()
            assert {(order.symbol, order.contract) for order in orders} == {("NQ", NEW), (OLD, OLD)}
            closing = [order for order in orders if order.side.sign < 0 and order.filled]
            assert [(order.contract, order.filled) for order in closing] == [(OLD, D(1))]
            positions = {each.symbol: each.quantity for each in floor.book(name).positions.values()}
            assert positions["NQ"] >= 1


@pytest.mark.parametrize("victim", ["gateway", pytest.param("nt8", marks=pytest.mark.torture)])
def test_kill_9_in_the_middle_leaves_all_platforms_on_one_side(victim: str) -> None:
    roots = tuple(ROLLS)
    with RollFloor(roots) as floor:
        floor.ready()
        floor.until(lambda: floor.counters().get("engine_roll_waits", 0) >= len(roots))
        moments = {
            "NQ": lambda root: True,  # before anything was decided
            "ES": lambda root: floor.decisions() > decided,  # the decision is on disk
            "YM": lambda root: floor.contract(root) == ROLLS[root][1],  # the directory says so
        }
        for number, (root, moment) in enumerate(moments.items(), start=1):
            decided = floor.decisions()
            floor.release(root)
            floor.until(lambda root=root, moment=moment: moment(root))
            floor.kill(victim)
            new = ROLLS[root][1]
            floor.until(lambda root=root, new=new: floor.contract(root) == new)
            floor.until(lambda number=number: len({(s, i) for s, i, *_ in floor.rolls}) == number * len(SIX))
            # Whatever was killed: all are on the new side, and an order of each reaches that contract alone.
            floor.trade_everywhere(root)
        floor.stop()
        for name in SIX:
            for order in floor.book(name).orders.values():
                assert order.contract == ROLLS[order.symbol][1], (name, order)


@pytest.mark.parametrize("victim", ["", pytest.param("gateway", marks=pytest.mark.torture), "nt8"])
def test_open_positions_are_carried_over_on_six_platforms_and_never_doubled(victim: str) -> None:
    with RollFloor(rollover={"policy": "roll"}) as floor:
        floor.ready()
        signal_id = floor.trade_everywhere().signal_id
        decided = floor.decisions()
        floor.release("NQ")
        floor.until(lambda: floor.decisions() > decided)
        if victim:  # the decision is on disk, and the first halves are about to leave
            floor.kill(victim)
        see_carried_once(floor, signal_id, killed=bool(victim))


@pytest.mark.parametrize(
    "moment",
    [pytest.param("waiting", marks=pytest.mark.torture), "decided", pytest.param("closing", marks=pytest.mark.torture)],
)
def test_kill_9_of_the_launcher_in_the_middle_of_a_roll(moment: str) -> None:
    """All market data and the gateway end with it. The next start finds in the journal where everybody was."""
    with RollFloor(rollover={"policy": "roll"}, detached=True) as floor:
        floor.ready()
        signal_id = floor.trade_everywhere().signal_id
        decided = floor.decisions()
        floor.release("NQ")
        if moment == "decided":
            floor.until(lambda: floor.decisions() > decided)
        elif moment == "closing":
            floor.until(
                lambda: (r := floor.report(signal_id)) is not None and any(leg.contract == NEW for leg in r.legs)
            )
        floor.kill_launcher()
        floor.script()
        floor.ready()
        see_carried_once(floor, signal_id, killed=True)


def see_carried_once(floor: RollFloor, signal_id: str, *, killed: bool) -> None:
    """One lot on each of six platforms: all in the new contract, each opened there once, as the accounts have it.

    Where somebody was killed, an order may have died on its way to the platform. It is not sent again, for it may have
    arrived: that leg is shown short, with its code, and its account holds nothing.
    """

    def carriers() -> list[LegReport]:
        report = floor.report(signal_id)
        return [] if report is None else [leg for leg in report.legs if leg.contract == NEW]

    def ended() -> bool:
        floor.go_on()
        legs = carriers()
        return len(legs) == len(SIX) and all(leg.open_quantity or leg.code in SHORT for leg in legs)

    try:
        floor.until(ended, patience_s=60)
    except AssertionError as error:
        told = [(leg.platform, leg.contract, str(leg.open_quantity), leg.code, leg.text) for leg in carriers()]
        raise AssertionError(f"legs in {NEW} have neither opened nor said why not: {told}") from error
    short = {leg.platform for leg in carriers() if not leg.open_quantity}
    assert killed or not short
    report = floor.report(signal_id)
    assert report is not None
    assert report.residual_quantity == len(SIX) - len(short)
    assert {leg.contract for leg in report.legs if leg.open_quantity} <= {NEW}
    floor.stop()
    for name in SIX:
        book = floor.book(name)
        held = {each.symbol: each.quantity for each in book.positions.values() if each.quantity}
        filled = [(order.contract, order.side.sign, order.filled) for order in book.orders.values() if order.filled]
        opened = [] if name in short else [(NEW, 1, D(1))]
        assert filled == [(OLD, 1, D(1)), (OLD, -1, D(1)), *opened], name
        assert held == ({} if name in short else {"NQ": D(1)}), name


def test_in_the_last_session_a_platform_that_hangs_is_left_behind_and_gets_no_order_until_it_has_followed() -> None:
    old, new = "NQU26", "NQZ26"  # long past its last session: nobody may be held on it
    rollover = {"switch_at": {}, "fence_after_s": 12.0}
    with RollFloor(rolls={"NQ": (old, new)}, rollover=rollover) as floor:
        floor.ready()
        floor.until(lambda: f"no platform moves: {LATE}: has no quote of {new}" in floor.notes())
        hanging = floor.process(LATE)
        hanging.suspend()
        floor.until(lambda: floor.contract("NQ") == new, patience_s=60)
        assert f"{LATE}: has no quote of {new}: it gets no order of NQ before it has followed" in floor.notes()
        others = [name for name in SIX if name != LATE]
        floor.until(lambda: {source for source, *_ in floor.rolls} >= set(others))
        floor.until(lambda: floor.counters().get("routes_ready", 0) == len(others), patience_s=60)
        report = floor.trade_everywhere(fills=len(others))
        (left,) = [leg for leg in report.legs if leg.platform == LATE]
        assert left.state is LegState.REJECTED
        if hanging.is_running():  # else the launcher has replaced it by now
            hanging.resume()
        floor.until(lambda: {source for source, *_ in floor.rolls} == set(SIX), patience_s=60)
        floor.release("NQ")  # its market goes on
        floor.trade_everywhere()
        floor.stop()
        for name in SIX:
            assert {order.contract for order in floor.book(name).orders.values()} == {new}, name


def test_a_new_start_finds_the_decision_and_not_the_configurations_contract() -> None:
    with RollFloor() as floor:
        floor.ready()
        floor.release("NQ")
        floor.until(lambda: floor.contract("NQ") == NEW)
        floor.until(lambda: len(floor.rolls) == len(SIX))
        floor.stop()
        floor.start()  # a run folder made anew, from a configuration that still names the old contract
        floor.ready()
        floor.until(lambda: floor.contract("NQ") == NEW)
        assert floor.decisions() == 2


def test_a_wrong_description_holds_the_roll_and_refuses_the_leg_with_both_values() -> None:
    lies = {NEW: {"point_value": "5"}}
    with RollFloor(settings={"sierra": {"lies": lies}}) as floor:
        floor.ready()
        floor.release("NQ")
        floor.until(lambda: "multiplier" in floor.notes())
        assert f"sierra: {NEW}: multiplier was 5 at the platform, 20 in the catalog" in floor.notes()
        assert floor.contract("NQ") == OLD
        floor.trade_everywhere()
        assert not floor.rolls


LIES = {
    "quantower": {"point_value": "5"},
    "sierra": {"tick_size": "0.5"},
    "nt8": {"currency": "EUR"},
    "mt5_br": {"expiry": "2026-12-19"},
}


@pytest.fixture(scope="module")
def liars() -> Iterator[RollFloor]:
    """Six platforms, four of which describe NQ as another instrument than the catalog's."""
    settings = {name: {"lies": {"NQ": lie}} for name, lie in LIES.items()}
    with RollFloor(rollover={"switch_at": {}, "warm_s": 1.0}, settings=settings) as floor:
        floor.ready()
        yield floor


@pytest.mark.parametrize(
    ("platform", "text"),
    [
        ("quantower", "multiplier was 5 at the platform, 20 in the catalog"),
        ("sierra", "tick was 0.5 at the platform, 0.25 in the catalog"),
        ("nt8", "currency was EUR at the platform, USD in the catalog"),
        ("mt5_br", "expiry was 2026-12-19 at the platform, 2026-12-18 in the catalog"),
    ],
)
def test_a_platform_whose_instrument_is_another_gets_no_order(liars: RollFloor, platform: str, text: str) -> None:
    report = liars.trade_everywhere(fills=len(SIX) - len(LIES))
    (leg,) = [leg for leg in report.legs if leg.platform == platform]
    assert (leg.state, leg.code) == (LegState.REJECTED, RejectCode.IDENTITY_MISMATCH)
    assert text in leg.text
    assert {leg.platform for leg in report.legs if leg.filled} == set(SIX) - set(LIES)


def test_no_order_reached_a_platform_whose_instrument_is_another(liars: RollFloor) -> None:
    """Last of those of this floor, which it stops."""
    liars.trade_everywhere(fills=len(SIX) - len(LIES))
    liars.stop()
    assert [name for name in SIX if liars.book(name).orders] == [name for name in SIX if name not in LIES]
