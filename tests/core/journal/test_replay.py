"""Property: whatever happened, the engine rebuilt from the journal is the engine that wrote it."""

from __future__ import annotations

from decimal import Decimal as D

from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.engine import Engine
from nexus_gateway.core.journal.recovery import decode_event
from nexus_gateway.core.journal.store import encode_event
from nexus_gateway.core.messages import LegState, RejectCode

from tests.support.orders import Desk
from tests.support.torture import examples

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["signal", "fill", "update", "reject", "close", "cancel", "wait", "down", "up", "snap", "kill"]
        ),
        st.sampled_from(["a", "b"]),
        st.integers(0, 3),
    ),
    max_size=40,
)
POLICIES = [
    m.FanOut(),
    m.FanOut(kind=m.FanOutKind.ALL_OR_FLATTEN),
    m.FanOut(kind=m.FanOutKind.QUORUM, quorum=1),
    m.FanOut(kind=m.FanOutKind.PRIMARY_THEN_HEDGE),
]


def take(desk: Desk, step: str, platform: str, number: int, signals: int) -> None:
    orders = [order for order in desk.orders.values() if order.platform == platform]
    order = orders[-1 - number % len(orders)] if orders else None
    if step == "signal":
        desk.signal("a", "b", signal_id=f"s{signals}", policy=POLICIES[number], quantity=D(number + 1))
    elif step == "fill" and order is not None:
        desk.fill(order, 1)
    elif step == "update" and order is not None:
        states = [LegState.WORKING, LegState.CANCELLED, LegState.EXPIRED, LegState.FILLED]
        desk.update(order, states[number], filled=number)
    elif step == "reject" and order is not None:
        codes = [RejectCode.PLATFORM_REJECTED, RejectCode.CANCEL_REJECTED, RejectCode.TOO_LATE_TO_SEND]
        desk.reject(order, codes[number % 3])
    elif step == "close":
        desk.ask(m.SignalClose(signal_id=f"s{number}"))
    elif step == "cancel":
        desk.ask(m.SignalCancel(signal_id=f"s{number}"))
    elif step == "wait":
        desk.wait(1 + number * 2_000)
    elif step == "down":
        desk.link_down(platform)
    elif step == "up":
        desk.link_up(platform, answer=False, brackets=number > 1)
    elif step == "snap":
        desk.snapshot(platform, positions=[("NQ", number)] if number else [])
    elif step == "kill":
        desk.ask(m.Kill(request_id=1, level=m.KillLevel(number), reason="", by="x", platform=platform))


@examples(60, 3000)
@given(STEPS)
def test_replay_rebuilds_the_state_and_the_effects(steps):
    desk = Desk("a", "b")
    for count, (step, platform, number) in enumerate(steps):
        take(desk, step, platform, number, count)
    again = Engine(desk.settings, desk.limits)
    effects = []
    for at_ns, event in desk.events:
        effects += [*again.handle(decode_event(encode_event(event), 0), at_ns), *again.pop_reports()]
    assert again.digest() == desk.engine.digest()
    assert effects == desk.all_effects
    assert Engine.load(desk.engine.save()).digest() == desk.engine.digest()


@examples(60, 3000)
@given(STEPS)
def test_what_a_leg_holds_is_the_sum_of_what_it_traded(steps):
    desk = Desk("a", "b")
    for count, (step, platform, number) in enumerate(steps):
        take(desk, step, platform, number, count)
    state = desk.engine.state
    for name, route in state.routes.items():
        for symbol, position in route.positions.items():
            legs = [leg for s in state.signals.values() for leg in s.legs if (leg.route, leg.symbol) == (name, symbol)]
            assert position.net == position.external + sum((leg.open for leg in legs), D(0))
            for leg in legs:
                assert leg.open == leg.external_qty + sum(
                    (state.executions[key].signed for key in leg.executions), D(0)
                )
