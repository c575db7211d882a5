"""Steps of the wall clock: what is stamped by it moves, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal as D

import msgspec
import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import LegState, OrderRole

from tests.core.engine.test_roll_over import RollDesk
from tests.support.orders import MS, SECOND, T0, Desk, market

MINUTE, HOUR, DAY = 60, 3_600, 86_400
STEPS = [-MINUTE, -HOUR, -DAY, MINUTE, HOUR, DAY]
HEDGED = m.FanOut(kind=m.FanOutKind.PRIMARY_THEN_HEDGE)
QUORUM = m.FanOut(kind=m.FanOutKind.QUORUM, quorum=1, decide_within_ms=30_000)
FLATTEN = m.Kill(request_id=1, level=m.KillLevel.FLATTEN, reason="x", by="me")


# An order, or what waits, in every state that it can be in.


def held(**able: bool) -> Desk:
    """Two lots with a stop that the gateway keeps."""
    desk = Desk("a")
    desk.link_up("a", **({"brackets": False} | able))
    desk.signal()
    desk.fill(desk.only())
    desk.update(desk.only(role=OrderRole.STOP_LOSS))
    return desk


def pending() -> Desk:
    desk = Desk("a", "b")
    desk.signal("a", "b", policy=HEDGED)
    desk.update(desk.only())
    return desk


def sent() -> Desk:
    desk = Desk("a")
    desk.signal()
    return desk


def working() -> Desk:
    desk = sent()
    desk.update(desk.only())
    return desk


def partially_filled() -> Desk:
    desk = held()
    desk.signal(signal_id="s2")
    desk.update(desk.only(), LegState.PARTIALLY_FILLED, 1)
    desk.fill(desk.only(), 1)
    return desk


def cancel_wanted() -> Desk:
    desk = working()
    desk.ask(m.SignalCancel(signal_id="s1"))
    return desk


def replace_pending() -> Desk:
    desk = Desk("a")
    desk.link_up("a", replace_quantity=True)
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(20999))
    desk.update(desk.only())
    desk.ask(m.SignalReplace(signal_id="s1", limit_price=D("20998.50")))
    assert desk.sent(m.Replace)
    return desk


def unknown() -> Desk:
    desk = sent()
    desk.wait(2_000)
    assert desk.report().state is m.SignalState.UNKNOWN
    return desk


def stop_refused() -> Desk:
    desk = Desk("a")
    desk.link_up("a", brackets=False)
    desk.signal()
    desk.fill(desk.only())
    desk.reject(desk.only(role=OrderRole.STOP_LOSS))
    return desk


def flatten_refused() -> Desk:
    desk = held()
    desk.ask(FLATTEN)
    desk.update(desk.only(role=OrderRole.STOP_LOSS), LegState.CANCELLED)
    desk.reject(desk.only(role=OrderRole.EXIT))
    return desk


def close_refused() -> Desk:
    desk = held()
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.update(desk.only(role=OrderRole.STOP_LOSS), LegState.CANCELLED)
    desk.reject(desk.only(role=OrderRole.EXIT))
    return desk


def snapshot_requested() -> Desk:
    desk = held()
    desk.link_down()
    desk.link_up("a", answer=False, brackets=False)
    return desk


def fan_out_deadline() -> Desk:
    desk = Desk("a", "b")
    desk.signal("a", "b", policy=QUORUM)
    for platform in "ab":
        desk.update(desk.only(platform))
    return desk


def roll_over() -> Desk:
    desk = RollDesk()
    desk.decide()
    desk.switch()
    desk.trade(desk.only(role=OrderRole.EXIT), price=D(21010))
    desk.reject(desk.only(role=OrderRole.ROLL))
    return desk


SCENES: list[Callable[[], Desk]] = [
    pending, sent, working, partially_filled, cancel_wanted, replace_pending, unknown, stop_refused, flatten_refused,
    close_refused, snapshot_requested, fan_out_deadline, roll_over,
]  # fmt: skip


def plain(message: object) -> object:
    """A message to a platform without the times that are the wall clock's."""
    names = {"not_after_ns", "executions_from_ns"} & set(getattr(message, "__struct_fields__", ()))
    return msgspec.structs.replace(message, **dict.fromkeys(names, 0))


def run_deadlines(desk: Desk, seconds: int) -> list:
    """What leaves, and when, while no platform answers."""
    left, end_ns = [], desk.now_ns + seconds * SECOND
    while (due_ns := desk.engine.next_due_ns()) is not None and max(due_ns, desk.now_ns) <= end_ns:
        desk.now_ns = max(due_ns, desk.now_ns + 500 * MS)
        desk.give(e.ClockTicked())
        for effect in desk.effects:
            if isinstance(effect, e.SendToPlatform):
                left.append((desk.now_ns - T0, plain(effect.message)))
                if isinstance(effect.message, m.Order):
                    assert effect.message.not_after_ns == desk.wall_ns + SECOND
    return left


@pytest.mark.parametrize("step_s", STEPS)
@pytest.mark.parametrize("scene", SCENES)
def test_the_same_falls_due_after_the_same_time(scene, step_s):
    without, desk = scene(), scene()
    desk.step_clock(step_s)
    left = run_deadlines(without, 150)
    assert left
    assert run_deadlines(desk, 150) == left
    assert [order.state for order in desk.engine.state.orders.values()] == [
        order.state for order in without.engine.state.orders.values()
    ]


@pytest.mark.parametrize("step_s", STEPS)
def test_a_refused_close_of_a_flatten_is_tried_again_and_the_kill_is_verified(step_s):
    desk = flatten_refused()
    first = desk.only(role=OrderRole.EXIT)
    desk.step_clock(step_s)
    for _ in range(100):
        if desk.only(role=OrderRole.EXIT) is not first:
            break
        desk.wait(1_000)
        if desk.engine.state.routes["a|acc"].request_pending:
            desk.snapshot(positions=[("NQ", 2)], fills=listed(desk))
    second = desk.only(role=OrderRole.EXIT)
    assert second is not first
    assert second.not_after_ns == desk.wall_ns + SECOND
    desk.fill(second)
    for _ in range(5):
        desk.wait(5_000)
        if desk.engine.state.routes["a|acc"].request_pending:
            desk.snapshot(fills=listed(desk))
    assert desk.engine.state.kills["a|acc"].verified


def listed(desk: Desk) -> list[m.Fill]:
    """All executions so far, as a snapshot lists them."""
    found = {}
    for _, event in desk.events:
        if isinstance(event, e.AdapterSaid) and isinstance(event.message, m.Fill):
            found[event.message.exec_id] = event.message
    return list(found.values())


def test_a_step_is_said_counted_and_changes_no_deadline():
    desk = held()
    due_ns = desk.engine.next_due_ns()
    desk.step_clock(-HOUR)
    (alert,) = (effect for effect in desk.effects if isinstance(effect, e.Alert))
    assert "set back by 3600.0 s" in alert.text
    desk.step_clock(MINUTE)
    assert any("forward by 60.0 s" in effect.text for effect in desk.effects if isinstance(effect, e.Alert))
    assert desk.count("clock_steps") == 2
    assert desk.engine.next_due_ns() == due_ns
    assert desk.engine.state.wall_offset_ns == (MINUTE - HOUR) * SECOND


# Wall time: what others stamp, and what others read.


def test_a_signal_is_as_old_as_the_wall_clock_says():
    desk = Desk("a")
    desk.step_clock(-HOUR)
    desk.signal()
    assert desk.report().code is m.RejectCode.NONE
    desk.signal(signal_id="s2", created_ns=desk.now_ns)
    assert desk.report("s2").code is m.RejectCode.STALE_SIGNAL


def test_a_quote_from_before_the_step_is_not_fresh():
    for step_s in (-HOUR, HOUR):
        desk = Desk("a")
        quote = market("a", desk.now_ns)
        desk.step_clock(step_s)
        desk.signal(markets=(quote,))
        assert desk.report().legs[0].code is m.RejectCode.STALE_QUOTE


@pytest.mark.parametrize("step_s", STEPS)
def test_what_is_shown_is_the_wall_clock(step_s):
    desk = Desk("a")
    desk.signal()
    desk.wait(500)
    desk.update(desk.only())
    step_ns = step_s * SECOND
    desk.step_clock(step_s)
    report = desk.report()
    leg = report.legs[0]
    assert (report.received_ns, report.changed_ns) == (T0 + step_ns, desk.wall_ns)
    assert (leg.sent_ns, leg.acked_ns) == (T0 + step_ns, desk.wall_ns)
    assert (leg.first_fill_ns, leg.last_fill_ns) == (0, 0)
    fill = desk.fill(desk.only())
    assert desk.report().legs[0].first_fill_ns == fill.ts_event_ns
    desk.ask(m.Query(request_id=1, what=m.QueryKind.ACCOUNT_STATE))
    (account,) = desk.answers()
    assert (account.reconciled_ns, account.overdue_since_ns) == (T0 + step_ns, 0)


def test_executions_are_asked_for_from_the_lowest_stamp_that_they_can_have():
    desk = held()
    before = asked_from(desk)
    desk.step_clock(-HOUR)
    assert asked_from(desk) == before - HOUR * SECOND
    desk.step_clock(HOUR)
    assert asked_from(desk) == before - HOUR * SECOND  # some were stamped while it was set back
    desk.step_clock(MINUTE)
    assert asked_from(desk) == before - HOUR * SECOND


def asked_from(desk: Desk) -> int:
    """Where the executions of the next snapshot request begin."""
    desk.link_up("a", answer=False, brackets=False)
    (request,) = desk.sent(m.SnapshotRequest)
    desk.snapshot(fills=listed(desk), positions=[("NQ", 2)], orders=[desk.row(desk.only(role=OrderRole.STOP_LOSS))])
    return request.executions_from_ns


@pytest.mark.parametrize("step_s", STEPS)
def test_a_fill_of_just_now_may_be_missing_in_a_snapshot_whatever_its_stamp(step_s):
    desk = Desk("a")
    desk.link_up("a", brackets=False)
    desk.step_clock(step_s)
    desk.signal(bracket=m.Bracket(stop_loss=D(20990)))
    desk.wait(100)
    desk.fill(desk.only())
    for _ in range(3):
        desk.link_up("a", answer=False, brackets=False)
        desk.snapshot(positions=[("NQ", 2)])
        desk.wait(200)
    assert desk.count("bust_inferred") == 0
    assert desk.position() == 2


@pytest.mark.parametrize("step_s", [-MINUTE, -HOUR, -DAY])
def test_an_accounts_loss_is_seen_after_the_clock_was_set_back(step_s):
    desk = Desk("a")
    desk.give(money(desk, 10_000))
    desk.step_clock(step_s)
    desk.wait(1_000)
    desk.give(money(desk, 9_000))
    assert desk.engine.state.day.loss_usd() == 1_000


def money(desk: Desk, equity: int, seconds_old: int = 0) -> e.AdapterSaid:
    as_of_ns = desk.wall_ns - seconds_old * SECOND
    funds = m.Account(
        platform="a", account="acc", currency="USD", balance=D(equity), equity=D(equity), as_of_ns=as_of_ns
    )
    return e.AdapterSaid(message=funds)


def test_an_older_figure_of_an_account_that_was_overtaken_is_dropped():
    desk = Desk("a")
    desk.give(money(desk, 9_000))
    desk.give(money(desk, 10_000, seconds_old=2))
    assert desk.engine.state.routes["a|acc"].funds.equity == 9_000
