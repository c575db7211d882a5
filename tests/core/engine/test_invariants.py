"""Each invariant notices its planted bug at the event that broke it, and production stops entries there."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine import invariants
from nexus_gateway.core.engine.invariants import check, check_touched
from nexus_gateway.core.engine.orders import booking, closing, external_lots, lifecycle, placement, updates
from nexus_gateway.core.engine.orders.transitions import TRANSITIONS, OrderEvent, Transition
from nexus_gateway.core.engine.signals import changes, finished
from nexus_gateway.core.engine.turn import Turn
from nexus_gateway.core.messages import KillLevel, LegState, RejectCode

from tests.support.orders import T0, D, Desk, market

NOTHING = (RejectCode.NONE, "")


class PlainDesk(Desk):
    """Does not look at the state after each event: the test does."""

    checks = False


def _steps(desk: Desk) -> dict[str, Callable[[], object]]:
    """A day of one signal: entered, replaced, filled in parts, its lots reduced by a person, and closed."""

    def order() -> m.Order:
        return desk.only()

    def external() -> None:
        fill = desk.make_fill(order(), 1, client_order_id="external", side=m.Side.SELL)
        desk.give(e.AdapterSaid(message=fill))

    def replace() -> None:
        desk.ask(m.SignalReplace(signal_id="s1", quantity=D(5)))

    def closed() -> None:
        desk.fill(desk.only(role=m.OrderRole.EXIT))

    def doubt() -> None:
        desk.signal(signal_id="s2", quantity=D(1))
        fill = desk.fill(desk.only())
        desk.signal(signal_id="s3", quantity=D(1))
        desk.fill(desk.only(), exec_id=fill.exec_id)
        desk.now_ns += 1

    return {
        "signal": lambda: desk.signal(quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000)),
        "accepted": lambda: desk.update(order()),
        "replace": replace,
        "overdue": lambda: desk.link_down(),
        "back": lambda: desk.link_up("a", answer=False),
        "snapshot": lambda: desk.snapshot(orders=[desk.row(order())]),
        "counted": lambda: desk.update(order(), filled=1, state=LegState.PARTIALLY_FILLED),
        "first fill": lambda: desk.fill(order(), 1),
        "second fill": lambda: desk.fill(order(), 1),
        "external": external,
        "cancelled": lambda: desk.update(order(), LegState.CANCELLED, 2),
        "close": lambda: desk.ask(m.SignalClose(signal_id="s1")),
        "closed": closed,
        "an id used twice": doubt,
        "close in doubt": lambda: desk.ask(m.SignalClose(signal_id="s2")),
    }


def _twice_open(patch: pytest.MonkeyPatch) -> None:
    true = Turn.shift_open
    patch.setattr(Turn, "shift_open", lambda turn, signal_id, leg, lots: true(turn, signal_id, leg, 2 * lots))


def _unlisted_holder(patch: pytest.MonkeyPatch) -> None:
    true = Turn.shift_open

    def shift(turn, signal_id, leg, lots):
        true(turn, signal_id, leg, lots)
        turn.state.routes[leg.route].holding_signals.pop(signal_id)

    patch.setattr(Turn, "shift_open", shift)


def _external_kept(patch: pytest.MonkeyPatch) -> None:
    def reduce(turn, signal_id, leg, lots):
        turn.shift_open(signal_id, leg, lots)
        leg.external_qty += lots

    patch.setattr(external_lots, "_reduce_leg", reduce)


def _uncounted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(booking, "refresh_order", lambda turn, order: None)


def _still_live(patch: pytest.MonkeyPatch) -> None:
    def end(turn, record, state, *_, **__):
        record.state, record.ended_ns = state, turn.now_ns

    patch.setattr(updates, "end_order", end)


def _row(state: LegState, event: OrderEvent, to: LegState) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setitem(TRANSITIONS, (state, event), Transition(to, "planted"))


def _replace_kept(patch: pytest.MonkeyPatch) -> None:
    def end(turn, record, *args, **options):
        lifecycle.end_order(turn, record, *args, **options)
        order = record.order
        record.replace = m.Replace(
            client_order_id=order.client_order_id, platform="a", account="acc", symbol="NQ", revision=1, quantity=D(1)
        )

    patch.setattr(updates, "end_order", end)


def _not_listed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(updates, "record_unreported", lambda turn, record: None)


def _no_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changes, "_refuse_change", lambda *_: NOTHING)


def _wrong_leg(patch: pytest.MonkeyPatch) -> None:
    def revalue(turn, leg):
        for key in leg.executions:
            turn.state.executions[key].leg = 1

    patch.setattr(booking, "_revalue", revalue)


def _order_of_another_leg(patch: pytest.MonkeyPatch) -> None:
    true = placement.send_order
    patch.setattr(placement, "send_order", lambda turn, order, signal_id, leg, *rest: true(
        turn, order, signal_id, leg + 1, *rest))  # fmt: skip


def _taken_for_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(finished, "is_done", lambda turn, record: True)


def _unbarred(patch: pytest.MonkeyPatch) -> None:
    for module in (closing, placement):
        patch.setattr(module, "bar_of", lambda *_: "")


def _closed_twice(patch: pytest.MonkeyPatch) -> None:
    true = closing.OrderTerms
    patch.setattr(closing, "OrderTerms", lambda **terms: true(**(terms | {"quantity": 2 * terms["quantity"]})))


PLANTS = [
    ("open", "first fill", _twice_open),
    ("holders", "first fill", _unlisted_holder),
    ("position", "external", _external_kept),
    ("cum_qty", "first fill", _uncounted),
    ("live", "cancelled", _still_live),
    ("filled", "first fill", _row(LegState.WORKING, OrderEvent.EXECUTED, LegState.FILLED)),
    ("unknown", "accepted", _row(LegState.SENT, OrderEvent.ACKNOWLEDGED, LegState.UNKNOWN)),
    ("ended", "cancelled", _replace_kept),
    ("unreported", "counted", _not_listed),
    ("parent", "replace", _no_bound),
    ("execution", "first fill", _wrong_leg),
    ("order", "signal", _order_of_another_leg),
    ("active", "signal", _taken_for_over),
    ("barred", "close in doubt", _unbarred),
    ("over-close", "close", _closed_twice),
]


def _first_breach(desk: Desk) -> tuple[str, list[str]]:
    for name, step in _steps(desk).items():
        step()
        found = check(desk.engine.state)
        # Two rules are about what leaves at an event: the state does not show it afterwards, production sees it.
        alerts = [each.text for each in desk.effects if isinstance(each, e.Alert)]
        rules = ("barred: ", "over-close: ")
        found += [rule + text.split(rule, 1)[1] for text in alerts for rule in rules if rule in text]
        if found:
            return name, found
    return "", []


def test_without_a_bug_nothing_is_found():
    desk = PlainDesk("a")
    assert _first_breach(desk) == ("", [])
    assert (desk.engine.state.kill, desk.position()) == (KillLevel.NORMAL, 1)


@pytest.mark.parametrize(("rule", "step", "plant"), PLANTS, ids=[rule for rule, _, _ in PLANTS])
def test_a_planted_bug_is_caught_at_its_event(monkeypatch, rule, step, plant):
    desk = PlainDesk("a")
    plant(monkeypatch)
    name, found = _first_breach(desk)
    assert name == step
    assert rule in {text.split(":", 1)[0] for text in found}
    assert desk.engine.state.kill is KillLevel.NO_NEW, "production noticed it, too, and stopped entries"
    (event,) = [event for _, event in desk.events[-1:]]
    alerts = [effect.text for effect in desk.effects if isinstance(effect, e.Alert)]
    assert any(e.describe_event(event) in text and f"{rule}: " in text for text in alerts), alerts


def test_every_rule_has_a_planted_bug():
    source = inspect.getsource(invariants)
    rules = {line.split('f"', 1)[1].split(":", 1)[0] for line in source.splitlines() if 'f"' in line and ": {" in line}
    assert rules == {rule for rule, _, _ in PLANTS}


def test_what_is_open_can_be_closed_after_a_breach_and_entries_wait_for_a_resume():
    desk = PlainDesk("a")
    desk.signal()
    desk.fill(desk.only())
    desk.engine.state.signals["s1"].legs[0].external_qty = D(1)  # as a fault of the program would leave it
    desk.give(e.MarketMoved(markets=()))
    desk.ask(m.SignalClose(signal_id="s1"))
    assert desk.engine.state.kill is KillLevel.NORMAL, "nothing that these events have moved"
    assert [order.quantity for order in desk.orders.values()] == [2, 2], "the closing order left"
    desk.fill(desk.only(role=m.OrderRole.EXIT), 1)
    assert desk.engine.state.kill is KillLevel.NO_NEW
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.KILL_SWITCH
    desk.ask(m.Resume(request_id=1, reason="looked at it", by="x"))
    desk.signal(signal_id="s3")
    assert desk.report("s3").code is RejectCode.NONE
    desk.fill(desk.only(role=m.OrderRole.EXIT), 1)
    assert (desk.count("invariant_open"), desk.engine.state.kill) == (2, KillLevel.NO_NEW), "met again, stopped again"


def test_the_cheap_form_sees_what_the_turn_has_touched_only():
    desk = PlainDesk("a", "b")
    for name in "ab":
        desk.signal(name, signal_id=f"s{name}")
        desk.fill(desk.only(name))
    state = desk.engine.state
    state.signals["sa"].legs[0].open += 1
    turn = Turn(state, desk.now_ns)
    assert check_touched(turn) == []
    turn.shift_open("sb", state.signals["sb"].legs[0], D(1))
    turn.position("b|acc", "NQ").net += 1
    state.signals["sb"].legs[0].external_qty += 1
    assert check_touched(turn) == []
    turn.shift_open("sa", state.signals["sa"].legs[0], D(0))
    assert [text.split(":")[0] for text in check_touched(turn)] == ["open"]
    assert {text.split(":")[0] for text in check(state)} == {"open", "position"}


def test_an_order_that_was_found_at_the_platform_is_no_breach():
    """It has no size of its own: a leg of a tenth of a lot must not look as if it had asked for one."""
    tenth = {"quantity": D("0.1"), "markets": (market("a", T0, lot_step=D("0.1")),)}
    lost = Desk("a")
    lost.signal(**tenth)
    desk = Desk("a")
    desk.link_down()
    desk.signal(**tenth)
    desk.link_up("a", answer=False)
    desk.snapshot(orders=[lost.row(lost.only())])
    assert (desk.engine.state.kill, desk.count("order_recovered")) == (KillLevel.NORMAL, 1)


def test_an_order_whose_executions_are_evicted_before_it_is_no_breach():
    desk = Desk("a")
    desk.signal()
    order = desk.only()
    desk.fill(order)
    state = desk.engine.state
    key = next(iter(state.orders[order.client_order_id].executions))
    state.signals["s1"].legs[0].executions.clear()
    state.signals["s1"].legs[0].external_qty = D(2)
    del state.executions[key]
    assert check(state) == []


def test_production_does_not_sum_what_has_very_many_executions(monkeypatch):
    monkeypatch.setattr(invariants, "MOST_SUMMED", 1)
    desk = PlainDesk("a")
    desk.signal(quantity=D(3))
    desk.fill(desk.only(), 1)
    desk.fill(desk.only(), 1)
    leg = desk.engine.state.signals["s1"].legs[0]
    leg.external_qty += 1
    desk.fill(desk.only(), 1)
    assert desk.engine.state.kill is KillLevel.NORMAL
    assert [text.split(":")[0] for text in check(desk.engine.state)] == ["open"]
