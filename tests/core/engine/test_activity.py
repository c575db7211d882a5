"""Caps on what works, is traded and is sent, and limits that latch: at the limit, over restarts and days, no exit."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine import Engine
from nexus_gateway.core.messages import RejectCode

from tests.support.orders import D, Desk, market, wide_limits

CLOSE = {"side": m.Side.SELL, "reduce_only": True, "bracket": None}
LATCH = {"max_same_side_entries": 2, "repeated_entries_latch": True}


def make_desk(*platforms: str, **limits: object) -> Desk:
    return Desk(*(platforms or ("a",)), limits=wide_limits(**limits))


def enter(desk: Desk, number: int, *platforms: str, **fields: object) -> RejectCode:
    """Send a limit entry, `e<number>`, that works at once. Returns the code of its first leg."""
    values = {"quantity": D(1), "order_type": m.OrderType.LIMIT, "limit_price": D(21000)}
    desk.signal(*platforms, signal_id=f"e{number}", **(values | fields))
    for order in desk.sent(m.Order):
        desk.update(order)
    return desk.report(f"e{number}").legs[0].code


def text_of(desk: Desk, number: int) -> str:
    return desk.report(f"e{number}").legs[0].text


def restart(desk: Desk) -> None:
    desk.engine = Engine.load(desk.engine.save())


def next_day(desk: Desk) -> None:
    desk.now_ns = desk.engine.state.day.ends_ns
    desk.give(e.ClockTicked())


def alerts(desk: Desk, code: RejectCode) -> list[e.Alert]:
    return [each for each in desk.all_effects if isinstance(each, e.Alert) and each.code is code]


def resume(desk: Desk, platform: str = "") -> m.AdminResult:
    desk.ask(m.Resume(request_id=9, reason="looked at it", by="me", platform=platform))
    return desk.answers()[0]


# Caps on working orders.


@pytest.mark.parametrize(("limit", "bracket", "fits"), [(6, m.Bracket(stop_loss=D(20990)), 3),
                                                        (6, m.Bracket(stop_loss=D(20990), take_profit=D(21010)), 2),
                                                        (5, m.Bracket(stop_loss=D(20990)), 2)])  # fmt: skip
@pytest.mark.parametrize("key", ["max_working_orders", "max_working_orders_per_platform"])
def test_entries_count_with_the_stop_and_target_that_they_will_need(key, limit, bracket, fits):
    desk = make_desk(**{key: limit})
    codes = [enter(desk, number, bracket=bracket) for number in range(1, fits + 2)]
    assert codes == [RejectCode.NONE] * fits + [RejectCode.MAX_WORKING_ORDERS]
    assert "with this one, its stop and target" in text_of(desk, fits + 1)
    restart(desk)
    assert enter(desk, 8, bracket=bracket) is RejectCode.MAX_WORKING_ORDERS
    desk.ask(m.SignalCancel(signal_id="e1"))
    desk.update(next(iter(desk.orders.values())), m.LegState.CANCELLED)
    assert enter(desk, 9, bracket=bracket) is RejectCode.NONE, "there is room again"


def test_stops_and_targets_that_stand_take_the_room_that_was_kept_for_them():
    desk = Desk("a", limits=wide_limits(max_working_orders=4))
    desk.link_up("a", brackets=False)
    assert enter(desk, 1) is RejectCode.NONE
    desk.fill(desk.only())
    desk.update(desk.only(role=m.OrderRole.STOP_LOSS))
    assert len(desk.engine.state.routes["a|acc"].live) == 1
    assert enter(desk, 2) is RejectCode.NONE, "1 stop, 1 entry, its stop"
    assert enter(desk, 3) is RejectCode.MAX_WORKING_ORDERS


def test_one_cap_is_of_the_account_the_other_of_all():
    desk = make_desk("a", "b", max_working_orders=6, max_working_orders_per_platform=4)
    assert [enter(desk, 1), enter(desk, 2), enter(desk, 3)][-1] is RejectCode.MAX_WORKING_ORDERS
    assert [enter(desk, 4, "b"), enter(desk, 5, "b")] == [RejectCode.NONE, RejectCode.MAX_WORKING_ORDERS]


def test_the_legs_of_one_signal_count_before_they_have_left():
    desk = make_desk("a", "b", "c", max_working_orders=5)
    desk.signal("a", "b", "c", quantity=D(1))
    assert [leg.code for leg in desk.report().legs] == [RejectCode.NONE, RejectCode.NONE, RejectCode.MAX_WORKING_ORDERS]


def test_a_full_account_is_closed_stopped_and_replaced_as_ever():
    desk = Desk("a", limits=wide_limits(max_working_orders=2))
    desk.link_up("a", brackets=False)
    assert enter(desk, 1, quantity=D(2)) is RejectCode.NONE
    order = desk.only()
    limits = structs.replace(desk.limits, max_working_orders=1, max_working_orders_per_platform=1)
    desk.give(e.Started(boot_id="g2", settings=desk.settings, limits=limits))
    desk.link_up("a", brackets=False, answer=False)
    desk.snapshot(orders=[desk.row(order)])
    desk.ask(m.SignalReplace(signal_id="e1", limit_price=D("20999.5")))
    (replace,) = desk.sent(m.Replace)
    desk.update(order, limit_price=D("20999.5"), replace_revision=replace.revision)
    desk.fill(order)
    assert [each.reduce_only or each.order_type for each in desk.sent(m.Order)] == [m.OrderType.STOP]
    desk.update(desk.only(role=m.OrderRole.STOP_LOSS))
    desk.ask(m.SignalClose(signal_id="e1"))
    assert desk.sent(m.Cancel) or desk.sent(m.Order)


# The day's traded notional: an NQ lot at 21000 and 2 USD a point is 42,000 USD.


def test_both_sides_of_the_day_count_and_what_works_and_the_entry_itself():
    desk = make_desk(max_traded_notional_usd=D(168_000))
    assert enter(desk, 1) is RejectCode.NONE
    desk.fill(desk.only())
    desk.signal(signal_id="close", quantity=D(1), **CLOSE)
    desk.fill(desk.only())
    assert desk.engine.state.day.traded_usd == 84_000
    assert [enter(desk, 2), enter(desk, 3)] == [RejectCode.NONE] * 2, "168,000 with both: at the limit"
    assert enter(desk, 4) is RejectCode.MAX_TRADED_NOTIONAL
    assert "210000" in text_of(desk, 4)
    restart(desk)
    assert enter(desk, 5) is RejectCode.MAX_TRADED_NOTIONAL
    for signal_id in ("e2", "e3"):
        desk.ask(m.SignalCancel(signal_id=signal_id))
    for order in list(desk.orders.values())[-2:]:
        desk.update(order, m.LegState.CANCELLED)
    assert enter(desk, 6) is RejectCode.NONE
    next_day(desk)
    assert desk.engine.state.day.traded_usd == 0


def test_the_legs_of_one_signal_share_what_is_left():
    desk = make_desk("a", "b", max_traded_notional_usd=D(83_999))
    desk.signal("a", "b", quantity=D(1))
    assert [leg.code for leg in desk.report().legs] == [RejectCode.NONE, RejectCode.MAX_TRADED_NOTIONAL]


def test_corrections_and_busts_change_what_was_traded():
    desk = make_desk()
    enter(desk, 1, quantity=D(2))
    fill = desk.fill(desk.only())
    day = desk.engine.state.day
    assert (day.traded_usd, day.fills) == (84_000, {"a|acc": 1})
    name = {"platform": "a", "account": "acc", "exec_id": fill.exec_id}
    kind = m.CorrectionKind
    desk.give(e.AdapterSaid(message=m.Correction(
        **name, kind=kind.CORRECT, revision=1, quantity=D(1), price=D(20000))))  # fmt: skip
    assert day.traded_usd == 40_000
    desk.give(e.AdapterSaid(message=fill))
    desk.give(e.AdapterSaid(message=m.Correction(**name, kind=kind.BUST, revision=2)))
    assert (day.traded_usd, day.fills) == (0, {"a|acc": 1})


def test_a_correction_of_a_former_day_is_not_of_today():
    desk = make_desk()
    enter(desk, 1, quantity=D(2))
    fill = desk.fill(desk.only())
    next_day(desk)
    name = {"platform": "a", "account": "acc", "exec_id": fill.exec_id}
    kind = m.CorrectionKind.CORRECT
    desk.give(e.AdapterSaid(message=m.Correction(**name, kind=kind, revision=1, quantity=D(1), price=D(20000))))
    day = desk.engine.state.day
    assert (day.traded_usd, day.traded, day.fills) == (0, {}, {})


def test_trades_of_others_do_not_count():
    desk = make_desk()
    enter(desk, 1)
    desk.give(e.AdapterSaid(message=desk.make_fill(desk.only(), 3, client_order_id="a person's")))
    assert (desk.engine.state.day.traded_usd, desk.engine.state.day.fills) == (0, {})


def test_an_execution_without_a_rate_is_unknown_and_never_nothing():
    desk = make_desk(max_traded_notional_usd=D(1_000_000))
    assert enter(desk, 1) is RejectCode.NONE
    desk.fill(desk.only())
    leg = desk.engine.state.signals["e1"].legs[0]
    leg.market = structs.replace(leg.market, currency="BRL")
    day = desk.engine.state.day
    key = next(iter(day.traded))
    day.value_execution(key, None)  # as if the rate had been missing when it was booked
    assert day.traded_usd == 0
    desk.give(e.MarketMoved(markets=()))
    assert enter(desk, 2) is RejectCode.MAX_TRADED_NOTIONAL
    assert "not known, no USD value of execution a|acc|x1, limit 1000000 USD a day" in text_of(desk, 2)
    desk.give(e.MarketMoved(markets=(market("a", desk.now_ns, currency="BRL", usd_rate=D("0.2")),)))
    assert day.traded_usd == D(8_400)
    assert enter(desk, 3) is RejectCode.NONE


def test_an_execution_of_a_kill_counts_as_well():
    desk = make_desk()
    enter(desk, 1)
    order = desk.only()
    fills = [desk.fill(order), desk.make_fill(order, 1, client_order_id="a person's")]
    desk.give(e.AdapterSaid(message=fills[1]))
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, reason="x", by="x"))
    for _ in range(4):
        closed = [fill.client_order_id for fill in fills]
        fills += [desk.fill(each) for each in list(desk.orders.values()) if each.client_order_id not in closed]
        net = desk.position()
        desk.snapshot(positions=[("NQ", net)] if net else [], fills=fills)
        desk.wait(2_000)
    assert desk.position() == 0
    assert desk.engine.state.day.traded_usd == 126_000, "one lot in, two out"


def test_the_cap_stops_no_exit_and_no_smaller_replace():
    desk = make_desk(max_traded_notional_usd=D(126_000))
    assert enter(desk, 1, quantity=D(1)) is RejectCode.NONE
    desk.fill(desk.only())
    assert enter(desk, 2, quantity=D(2)) is RejectCode.NONE
    order = desk.only()
    desk.ask(m.SignalReplace(signal_id="e2", limit_price=D(21001)))
    assert (desk.sent(m.Replace), desk.told()[0].code) == ([], RejectCode.MAX_TRADED_NOTIONAL)
    desk.ask(m.SignalReplace(signal_id="e2", limit_price=D("20999")))
    (replace,) = desk.sent(m.Replace)
    desk.update(order, limit_price=D(20999), replace_revision=replace.revision)
    limits = structs.replace(desk.engine.state.limits, max_traded_notional_usd=D(1))
    desk.engine.state.limits = limits
    desk.ask(m.SignalReplace(signal_id="e2", quantity=D(1)))
    assert len(desk.sent(m.Replace)) == 1
    desk.ask(m.SignalClose(signal_id="e1"))
    assert [each.side for each in desk.sent(m.Order)] == [m.Side.SELL]


# Messages for each execution.


def test_messages_are_counted_against_executions_from_a_floor_on():
    desk = make_desk("a", "b", max_messages_per_fill=2, messages_before_ratio=4)
    assert [enter(desk, n) for n in (1, 2, 3, 4)] == [RejectCode.NONE] * 4, "three messages before it: below the floor"
    assert enter(desk, 5) is RejectCode.MESSAGES_PER_FILL
    assert enter(desk, 6) is RejectCode.MESSAGES_PER_FILL
    assert "4 messages and 0 executions today on a|acc" in text_of(desk, 5)
    assert len(alerts(desk, RejectCode.MESSAGES_PER_FILL)) == 1
    assert enter(desk, 7, "b") is RejectCode.NONE, "another account"
    restart(desk)
    assert enter(desk, 8) is RejectCode.MESSAGES_PER_FILL
    orders = [order for order in desk.orders.values() if order.platform == "a"]
    desk.fill(orders[0])
    assert enter(desk, 9) is RejectCode.MESSAGES_PER_FILL, "4 messages are more than 2"
    desk.fill(orders[1])
    assert enter(desk, 10) is RejectCode.NONE, "2 for each of 2"
    desk.ask(m.SignalCancel(signal_id="e3"))
    assert desk.engine.state.day.messages == {"a|acc": 6, "b|acc": 1}
    assert enter(desk, 11) is RejectCode.MESSAGES_PER_FILL
    assert len(alerts(desk, RejectCode.MESSAGES_PER_FILL)) == 1, "once a day"
    desk.ask(m.SignalReplace(signal_id="e4", limit_price=D("20999.5")))
    assert (desk.sent(m.Replace), desk.told()[0].code) == ([], RejectCode.MESSAGES_PER_FILL)
    desk.ask(m.SignalClose(signal_id="e1"))
    assert [each.side for each in desk.sent(m.Order)] == [m.Side.SELL], "an exit is never refused"
    desk.update(orders[2], m.LegState.CANCELLED)
    next_day(desk)
    assert (desk.engine.state.day.messages, desk.engine.state.day.ratio_alerted) == ({}, {})


def test_nothing_is_checked_where_all_is_off():
    off = dict.fromkeys(("max_same_side_entries", "max_working_orders", "max_working_orders_per_platform",
                         "max_traded_notional_usd", "max_messages_per_fill"))  # fmt: skip
    desk = make_desk(**off, messages_before_ratio=0, max_position_default=D(100))
    assert {enter(desk, number) for number in range(1, 40)} == {RejectCode.NONE}


def test_a_restart_and_a_replay_give_the_same_counters():
    desk = make_desk(max_working_orders=6, max_traded_notional_usd=Decimal(168_000), **LATCH)
    for number in (1, 2, 3):
        enter(desk, number)
    desk.fill(desk.only())
    again = Engine(desk.settings, desk.limits)
    for now_ns, event in desk.events:
        again.handle(event, now_ns)
    assert again.digest() == desk.engine.digest() == Engine.load(desk.engine.save()).digest()
