"""Exits in the simulation: every fault happens, every rule notices its breach, fake platforms are what they claim."""

from __future__ import annotations

from decimal import Decimal

import pytest
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import LegState, OrderRole, OrderType, Side

from tests.simulation.exit_plants import EXIT_PLANTS
from tests.simulation.faults import CLOCK_KINDS, EXIT_KINDS, Faults
from tests.simulation.hours import Hours
from tests.simulation.platform import OLD, FakePlatform
from tests.simulation.run import World, run_seed
from tests.simulation.schedule import SECOND

HAPPEN = {
    *(f"refusal of {scope}" for scope in ("orders", "closing", "stops", "cancels", "replaces")),
    *(f"refused {scope}" for scope in ("orders", "closing", "stops", "cancels", "replaces", "market is shut")),
    *(f"refusal for {seconds} s" for seconds in (1, 20, 60, 600)),
    "oco_pair_ended",
    "oco_partial_fill",
    "stop_loss during cancel",
    "take_profit during cancel",
}


IN_WHICH_ALL_HAPPENS = (117, 102, 13, 7)
"""Seeds that are known to have it all between them; when a change has moved it elsewhere, others are tried."""


def test_every_fault_of_exits_happens():
    happened, races, reasons = set(), set(), set()
    for seed in (*IN_WHICH_ALL_HAPPENS, *range(1, 80)):
        outcome = run_seed(seed)
        happened |= set(outcome.faults)
        races |= set(outcome.races)
        reasons |= set(outcome.naked_worst)
        if HAPPEN | {*EXIT_KINDS, *CLOCK_KINDS} <= happened and races and len(reasons) > 6:
            break
    assert HAPPEN | {*EXIT_KINDS, *CLOCK_KINDS} <= happened
    assert races == {"stop and target both filled"}
    assert {"stop in flight", "stop refused", "closing order in flight", "market shut"} <= reasons


FIRST = {
    "the stop is cancelled in a shut market": 3,
    "the stop does not come back": 7,
    "the rest of an entry works on": 24,
    "deadlines on the wall clock": 11,
}
"""Seeds that are known to notice; the others notice at once."""
BRED_BY = {"refusals hours apart add up": {"reject": 0.4, "unsolicited_cancel": 0.3}}
"""Faults, alone, that show it in each second run; among all the others hundreds of runs pass without it."""


@pytest.mark.parametrize("name", EXIT_PLANTS)
def test_a_planted_bug_of_exits_is_caught(name, monkeypatch):
    plant, symptoms, in_process = EXIT_PLANTS[name]
    plant(monkeypatch)
    first = FIRST.get(name, 1)

    def is_noticed(seed: int) -> bool:
        faults = Faults(**BRED_BY[name]) if name in BRED_BY else None
        found = run_seed(seed, in_process, faults, clocks=in_process is not None).violations
        return any(symptom in text for text in found for symptom in symptoms)

    assert any(is_noticed(seed) for seed in (*range(first, first + 60), *range(1, first))), f"{name} went unnoticed"


# The fake platform and the rules by themselves: whatever the engine does, they must tell right from wrong.


class Scene:
    """One netting platform of a run that is not begun; orders reach it as from the gateway."""

    def __init__(self, **capabilities: bool) -> None:
        world = next(
            world for world in (World(seed, faults=Faults()) for seed in range(1, 50)) if world.platforms[0].is_netting
        )
        self.world, self.platform = world, world.platforms[0]
        asked = {"oco": False, "oco_shrinks": False, "reduce_only": False, "brackets": False, **capabilities}
        made = FakePlatform(
            self.platform.name,
            self.platform.mode,
            m.Capabilities(order_types=(), times_in_force=(), replace=True, **asked),
            world.schedule,
            world.faults,
            lambda message: None,
        )
        made.watcher = world.exposure
        self.platform = made
        world.nexus.invent_signal()
        self.key = m.signal_key("s0")

    @property
    def found(self) -> list[str]:
        return self.world.gateway.broken

    def order(self, role: OrderRole, lots: int = 2, number: int = 0, side: Side = Side.SELL, **terms: object) -> str:
        name = m.client_order_id(self.key, 0, role, number, 22)
        kind = {OrderRole.STOP_LOSS: OrderType.STOP, OrderRole.TAKE_PROFIT: OrderType.LIMIT}.get(role, OrderType.LIMIT)
        order = m.Order(
            client_order_id=name,
            platform=self.platform.name,
            account=self.platform.account,
            symbol="NQ",
            contract=OLD,
            side=side,
            quantity=Decimal(lots),
            order_type=kind,
            stop_price=Decimal(20_990) if kind is OrderType.STOP else None,
            limit_price=Decimal(21_010) if kind is OrderType.LIMIT else None,
            not_after_ns=self.world.schedule.now_ns + SECOND,
            **terms,
        )
        self.world.exposure.sent(self.platform, order)
        self.platform.receive(order)
        return name

    def enter(self, lots: int = 2) -> str:
        name = self.order(OrderRole.ENTRY, lots, side=Side.BUY)
        self.fill(name)
        return name

    def fill(self, name: str, lots: int | None = None) -> None:
        held = self.platform.orders[name]
        left = held.quantity - held.filled
        self.platform._execute(held, left if lots is None else Decimal(lots), "")

    def state(self, name: str) -> LegState:
        return self.platform.orders[name].state


def test_an_oco_pair_ends_together_and_its_group_is_over():
    scene = Scene(oco=True)
    scene.enter()
    stop = scene.order(OrderRole.STOP_LOSS, oco_group="g-1")
    target = scene.order(OrderRole.TAKE_PROFIT, oco_group="g-1")
    scene.fill(target)
    assert scene.state(stop) is LegState.CANCELLED
    again = scene.order(OrderRole.STOP_LOSS, number=1, oco_group="g-1")
    assert again in scene.platform.refused
    assert scene.platform.oco.reused == 1


@pytest.mark.parametrize(("shrinks", "left"), [(True, 1), (False, 2)])
def test_a_partial_fill_shrinks_the_sibling_where_the_platform_does_so(shrinks, left):
    scene = Scene(oco=True, oco_shrinks=shrinks)
    scene.enter()
    stop = scene.order(OrderRole.STOP_LOSS, oco_group="g-1")
    target = scene.order(OrderRole.TAKE_PROFIT, oco_group="g-1")
    scene.fill(target, 1)
    assert scene.platform.orders[stop].leaves == left


@pytest.mark.parametrize("ends_all", [True, False])
def test_a_cancel_ends_the_sibling_on_some_platforms(ends_all):
    scene = Scene(oco=True)
    scene.platform.oco.ends_all = ends_all
    scene.enter()
    stop = scene.order(OrderRole.STOP_LOSS, oco_group="g-1")
    target = scene.order(OrderRole.TAKE_PROFIT, oco_group="g-1")
    scene.platform.end(scene.platform.orders[stop], LegState.CANCELLED)
    assert scene.platform.orders[target].is_live is not ends_all


def test_a_group_that_is_no_pair_is_noticed():
    scene = Scene(oco=True)
    scene.enter()
    scene.order(OrderRole.STOP_LOSS, 1, oco_group="g-1")
    scene.order(OrderRole.TAKE_PROFIT, 2, oco_group="g-1")
    scene.order(OrderRole.STOP_LOSS, 1, number=1, oco_group="g-1")
    said = "\n".join(scene.found)
    assert "is of 2 lots, the other of 1" in said
    assert "which has another stop_loss" in said


def test_a_group_that_is_over_is_not_used_again():
    scene = Scene(oco=True)
    scene.enter()
    stop = scene.order(OrderRole.STOP_LOSS, oco_group="g-1")
    update = m.OrderUpdate(
        client_order_id=stop,
        platform=scene.platform.name,
        account=scene.platform.account,
        symbol="NQ",
        side=Side.SELL,
        state=LegState.CANCELLED,
        quantity=Decimal(2),
        filled=Decimal(0),
    )
    scene.world.exposure.told(scene.platform, update)
    scene.order(OrderRole.TAKE_PROFIT, oco_group="g-1")
    assert any("of which an order has ended" in text for text in scene.found)


def test_a_close_beside_a_stop_that_works_is_noticed():
    scene = Scene()
    scene.enter()
    scene.order(OrderRole.STOP_LOSS)
    close = scene.order(OrderRole.EXIT)
    assert any(text.startswith("both: ") for text in scene.found)
    scene.fill(close)
    scene.fill(m.client_order_id(scene.key, 0, OrderRole.STOP_LOSS, 0, 22))
    assert any("traded 2 of a leg that held +0" in text for text in scene.found)


def test_a_platform_that_reduces_only_may_have_both():
    scene = Scene(reduce_only=True)
    scene.enter()
    scene.order(OrderRole.STOP_LOSS, reduce_only=True)
    scene.order(OrderRole.EXIT, reduce_only=True)
    assert scene.found == []


def test_two_closes_for_the_same_lots_are_noticed():
    scene = Scene()
    scene.enter()
    scene.order(OrderRole.EXIT)
    assert scene.found == []
    scene.order(OrderRole.EXIT, number=1)
    assert any("makes 4 closing of a leg that holds +2" in text for text in scene.found)


def test_a_close_of_what_a_person_has_closed_is_explained():
    scene = Scene()
    scene.enter()
    for _ in range(2):
        scene.platform.make_execution(Decimal(1), Side.SELL, "by hand", "", "", Decimal(21_000), OLD)
    scene.fill(scene.order(OrderRole.EXIT))
    assert scene.found == []


def test_stop_and_target_that_both_fill_are_counted_and_not_held_against_anybody():
    scene = Scene()
    scene.enter()
    stop, target = scene.order(OrderRole.STOP_LOSS), scene.order(OrderRole.TAKE_PROFIT)
    scene.fill(target)
    scene.fill(stop)
    assert scene.found == []
    assert scene.world.exposure.counts == {"stop and target both filled": 1}


def test_lots_without_a_stop_are_noticed_after_a_moment_and_told_once(monkeypatch):
    scene = Scene()
    exposure, schedule = scene.world.exposure, scene.world.schedule
    monkeypatch.setattr(exposure.naked, "reason_of", lambda account: "nothing forces it")
    scene.enter(3)
    scene.order(OrderRole.STOP_LOSS, 2)
    for _ in range(6):
        schedule.now_ns += SECOND
        exposure.naked.look(exposure.truth.account(scene.platform, OLD))
    assert [text.split(",")[0] for text in scene.found] == [
        f"naked: {scene.platform.name} {OLD} holds 1 lots without a stop"
    ]


def test_lots_without_a_stop_are_excused_while_something_forces_it(monkeypatch):
    scene = Scene()
    exposure, schedule = scene.world.exposure, scene.world.schedule
    monkeypatch.setattr(exposure.naked, "reason_of", lambda account: "no link, or not reconciled")
    scene.enter()
    account = exposure.truth.account(scene.platform, OLD)
    for _ in range(60):
        schedule.now_ns += SECOND
        exposure.naked.look(account)
    assert scene.found == []
    assert exposure.naked.worst == {"no link, or not reconciled": 60 * SECOND}


def test_a_closing_order_now_and_then_is_no_excuse(monkeypatch):
    """What A1 did: a refused close each second, and no stop."""
    scene = Scene()
    exposure, schedule = scene.world.exposure, scene.world.schedule
    reasons = iter(["closing order in flight", "nothing forces it"] * 30)
    monkeypatch.setattr(exposure.naked, "reason_of", lambda account: next(reasons))
    scene.enter()
    for number in range(12):
        schedule.now_ns += SECOND // (10 if number % 2 else 1)
        exposure.naked.look(exposure.truth.account(scene.platform, OLD))
    assert exposure.naked.worst["nothing forces it"] < 10 * SECOND
    schedule.now_ns += 3 * SECOND
    exposure.naked.look(exposure.truth.account(scene.platform, OLD))
    exposure.naked.look(exposure.truth.account(scene.platform, OLD))
    assert len(scene.found) == 1


@pytest.mark.parametrize(("takes_stops", "refused"), [(True, False), (False, True)])
def test_a_shut_market_takes_no_orders_and_trades_nothing(takes_stops, refused):
    scene = Scene()
    scene.enter()
    stop = scene.order(OrderRole.STOP_LOSS)
    now_ns = scene.world.schedule.now_ns
    scene.platform.hours = Hours(true=[(now_ns, now_ns + 10 * SECOND)], takes_stops=takes_stops)
    scene.platform.trade(scene.platform.orders[stop])
    assert scene.platform.orders[stop].leaves == 2
    assert scene.order(OrderRole.EXIT) in scene.platform.refused
    assert (scene.order(OrderRole.STOP_LOSS, number=1) in scene.platform.refused) is refused


def test_cancels_that_are_refused_leave_the_order_at_work():
    scene = Scene()
    scene.enter()
    stop = scene.order(OrderRole.STOP_LOSS)
    scene.platform.refusals.begin("cancels", scene.world.schedule.now_ns, 20)
    cancel = m.Cancel(client_order_id=stop, platform=scene.platform.name, account=scene.platform.account, symbol="NQ")
    scene.platform.receive(cancel)
    assert scene.platform.orders[stop].is_live
    scene.platform.refusals.end_all(scene.world.schedule.now_ns)
    scene.platform.receive(cancel)
    assert not scene.platform.orders[stop].is_live
