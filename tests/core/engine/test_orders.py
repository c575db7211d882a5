"""One leg at a time: every way in which an order can go right, go wrong, or be doubtful."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import LegState, RejectCode, SignalState

from tests.support.orders import MS, T0, Desk, market, wide_limits


def test_accept_and_fill():
    desk = Desk("a")
    desk.signal()
    order = desk.only()
    assert (order.quantity, order.side, order.order_type) == (D(2), m.Side.BUY, m.OrderType.MARKET)
    assert desk.report().legs[0].state is LegState.SENT
    desk.update(order)
    assert desk.report().legs[0].state is LegState.WORKING
    desk.fill(order, price=D("21000.50"), fee=D("1.40"), fee_currency="USD")
    report = desk.report()
    assert (report.state, report.filled, report.avg_price) == (SignalState.FILLED, D(2), D("21000.5"))
    assert (report.fees_usd, report.residual_quantity) == (D("1.40"), D(2))
    assert report.legs[0].slippage_points == D("0.50")
    assert desk.position() == 2


def test_partial_then_fill_averages_over_executions():
    desk = Desk("a")
    desk.signal(quantity=D(3))
    order = desk.only()
    desk.fill(order, 1, price=D(21000))
    assert desk.report().legs[0].state is LegState.PARTIALLY_FILLED
    desk.fill(order, 2, price=D(21003))
    assert (desk.report().state, desk.report().avg_price) == (SignalState.FILLED, D(21002))


def test_fill_before_acknowledgement():
    desk = Desk("a")
    desk.signal()
    desk.fill(desk.only())
    desk.update(desk.only(), LegState.WORKING)
    assert desk.report().state is SignalState.FILLED
    assert desk.count("stale_update") == 1


def test_reject_releases_the_trade_of_the_day():
    desk = Desk("a")
    desk.signal()
    assert len(desk.engine.state.day.trades) == 1
    desk.reject(desk.only())
    assert (desk.report().state, desk.report().legs[0].code) == (
        SignalState.NOT_FILLED,
        RejectCode.PLATFORM_REJECTED,
    )
    assert not desk.engine.state.day.trades


def test_partial_then_cancel_keeps_what_filled():
    desk = Desk("a")
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    desk.fill(order, 1)
    assert len(desk.sent(m.Cancel)) == 0
    desk.ask(m.SignalCancel(signal_id="s1"))
    assert [c.client_order_id for c in desk.sent(m.Cancel)] == [order.client_order_id]
    desk.update(order, LegState.CANCELLED, 1)
    assert (desk.report().state, desk.report().filled) == (SignalState.PARTIAL, D(1))
    assert len(desk.engine.state.day.trades) == 1


def test_fill_during_cancel_wins():
    desk = Desk("a")
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    desk.ask(m.SignalCancel(signal_id="s1"))
    desk.reject(order, RejectCode.CANCEL_REJECTED)
    desk.fill(order)
    assert desk.report().state is SignalState.FILLED
    assert desk.position() == 2


def test_cancelled_with_a_fill_still_on_its_way_shows_it_missing():
    desk = Desk("a")
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order, LegState.CANCELLED, filled=1)
    assert desk.report().legs[0].missing_fills == 1
    assert desk.report().state is SignalState.WORKING
    desk.fill(order, 1)
    assert (desk.report().legs[0].missing_fills, desk.report().state) == (D(0), SignalState.PARTIAL)


def test_unsolicited_cancel_and_expiry():
    for state in (LegState.CANCELLED, LegState.EXPIRED):
        desk = Desk("a")
        desk.signal()
        desk.update(desk.only(), state)
        assert desk.report().legs[0].state is state
        assert desk.report().state is SignalState.NOT_FILLED


def test_cancel_of_a_filled_order_sends_nothing():
    desk = Desk("a")
    desk.signal()
    desk.fill(desk.only())
    desk.ask(m.SignalCancel(signal_id="s1"))
    assert not desk.sent(m.Cancel)


def test_duplicate_execution_is_counted_once_and_noted():
    desk = Desk("a")
    desk.signal()
    fill = desk.fill(desk.only(), 1)
    desk.give(e.AdapterSaid(message=fill))
    assert (desk.position(), desk.count("duplicate_fill")) == (D(1), 1)


def test_same_execution_id_on_two_platforms_is_two_executions():
    desk = Desk("a", "b")
    desk.signal("a", "b")
    desk.fill(desk.only("a"), exec_id="1")
    desk.fill(desk.only("b"), exec_id="1")
    assert (desk.position("a"), desk.position("b")) == (D(2), D(2))


def test_what_crosses_a_replace_to_a_smaller_size_is_booked_on_the_order():
    """The order may have had its first size when it filled: these lots agree with it, and are alerted."""
    desk = Desk("a")
    desk.signal(quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(2)))
    desk.update(order, quantity=D(2), replace_revision=1)
    desk.fill(order, 2)
    desk.fill(order, 1)
    assert (desk.position(), desk.report().filled, desk.count("overfill")) == (D(3), D(3), 1)
    assert any(isinstance(x, e.Alert) and x.code is RejectCode.PARENT_EXCEEDED for x in desk.effects)


def correction(desk: Desk, fill: m.Fill, revision: int = 1, **fields) -> None:
    values: dict = {"kind": m.CorrectionKind.BUST} | fields
    message = m.Correction(platform="a", account="acc", exec_id=fill.exec_id, revision=revision, **values)
    desk.give(e.AdapterSaid(message=message))


def test_bust_takes_the_lots_back():
    desk = Desk("a")
    desk.signal()
    fill = desk.fill(desk.only())
    correction(desk, fill)
    assert (desk.position(), desk.report().filled, desk.report().legs[0].state) == (D(0), D(0), LegState.CANCELLED)


@pytest.mark.parametrize("early", [False, True])
def test_corrections_win_in_any_order_of_arrival(early):
    desk = Desk("a")
    desk.signal()
    fill = desk.make_fill(desk.only())
    change = {"kind": m.CorrectionKind.CORRECT, "quantity": D(1), "price": D(21001)}
    if not early:
        desk.give(e.AdapterSaid(message=fill))
    correction(desk, fill, 2, **change)
    correction(desk, fill, 1)  # older: dropped
    if early:
        desk.give(e.AdapterSaid(message=fill))
    assert (desk.position(), desk.report().avg_price) == (D(1), D(21001))
    assert desk.count("duplicate_correction") == 1


def test_bust_before_its_execution():
    desk = Desk("a")
    desk.signal()
    fill = desk.make_fill(desk.only())
    correction(desk, fill)
    desk.give(e.AdapterSaid(message=fill))
    assert desk.position() == 0


def test_time_out_is_unknown_and_is_not_sent_again():
    desk = Desk("a")
    desk.signal()
    desk.wait(2_000)
    assert (desk.report().state, desk.report().unknown_legs) == (SignalState.UNKNOWN, 1)
    for _ in range(20):
        desk.wait(1_000)
    assert len(desk.orders) == 1  # Desk.give fails on a second sending


def test_unknown_blocks_its_symbol_on_its_platform_only():
    desk = Desk("a", "b")
    desk.signal("a")
    desk.wait(2_000)
    desk.signal("a", signal_id="s2")
    assert desk.report("s2").code is RejectCode.OUTCOME_UNKNOWN
    desk.signal("a", signal_id="s3", symbol="ES", markets=(market("a", desk.now_ns, symbol="ES"),))
    desk.signal("b", signal_id="s4")
    assert desk.report("s3").code is desk.report("s4").code is RejectCode.NONE


def test_time_out_then_acknowledgement():
    desk = Desk("a")
    desk.signal()
    desk.wait(2_000)
    desk.update(desk.only())
    assert desk.report().legs[0].state is LegState.WORKING
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.NONE


def test_time_out_then_nothing_is_resolved_by_two_snapshots_and_not_by_one():
    desk = Desk("a")
    desk.signal()
    desk.link_up("a")  # asked too soon after the sending to prove anything, twice
    desk.link_up("a")
    assert desk.report().legs[0].state is LegState.SENT
    desk.wait(2_000)
    desk.snapshot()
    desk.wait(4_000)
    desk.snapshot()
    assert desk.report().state is SignalState.UNKNOWN
    desk.wait(1_500)
    desk.snapshot()
    assert desk.report().legs[0].code is RejectCode.NOT_FOUND_AT_PLATFORM
    assert desk.report().state is SignalState.NOT_FILLED
    # Only inferred, so the day's trade is not given back.
    assert len(desk.engine.state.day.trades) == 1


def test_an_incomplete_snapshot_proves_no_absence():
    desk = Desk("a")
    desk.signal()
    desk.wait(2_000)
    for _ in range(10):
        desk.wait(2_000)
        desk.snapshot(complete=False)
    assert desk.report().state is SignalState.UNKNOWN


def test_late_answer_after_not_found_brings_the_order_back():
    desk = Desk("a")
    desk.signal()
    desk.wait(2_000)
    for _ in range(6):
        desk.wait(2_000)
        desk.snapshot()
    assert desk.report().state is SignalState.NOT_FILLED
    desk.update(desk.only())
    assert desk.report().legs[0].state is LegState.WORKING
    desk.fill(desk.only())
    assert (desk.report().state, desk.position(), desk.count("late_answer")) == (SignalState.FILLED, D(2), 1)


def test_platform_says_filled_but_the_execution_is_swallowed():
    desk = Desk("a")
    desk.signal()
    order = desk.only()
    fill = desk.make_fill(order)
    desk.update(order, LegState.FILLED, 2)
    assert desk.report().legs[0].missing_fills == 2
    desk.wait(1_000)
    assert desk.sent(m.SnapshotRequest)  # the missing execution is asked for soon, without another event
    desk.snapshot(fills=[fill], positions=[("NQ", 2)])
    assert (desk.report().state, desk.report().filled) == (SignalState.FILLED, D(2))


def test_heartbeat_is_not_delivery_so_proof_is_asked_for_regularly():
    desk = Desk("a")
    desk.signal()
    order = desk.only()
    desk.update(order)
    asked = 0
    for _ in range(40):
        desk.wait(1_000)
        asked += len(desk.sent(m.SnapshotRequest))
    assert asked >= 1


def replaced(desk: Desk, **fields) -> m.Replace:
    desk.ask(m.SignalReplace(signal_id="s1", **fields))
    (replace,) = desk.sent(m.Replace)
    return replace


def working_limit() -> tuple[Desk, m.Order]:
    desk = Desk("a")
    desk.signal(quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    desk.update(desk.only())
    return desk, desk.only()


def test_replace_accepted():
    desk, order = working_limit()
    replace = replaced(desk, limit_price=D("21000.25"), quantity=D(2))
    desk.update(
        order, quantity=D(2), limit_price=D("21000.25"), replace_revision=replace.revision, platform_order_id="new"
    )
    record = desk.engine.state.orders[order.client_order_id]
    assert (record.quantity, record.limit_price, record.replace) == (D(2), D("21000.25"), None)
    assert record.platform_order_id == "new"


def test_replace_rejected_leaves_the_order():
    desk, order = working_limit()
    replace = replaced(desk, quantity=D(1))
    desk.reject(order, RejectCode.REPLACE_REJECTED, replace_revision=replace.revision)
    record = desk.engine.state.orders[order.client_order_id]
    assert (record.quantity, record.state) == (D(3), LegState.WORKING)


def test_fill_during_replace():
    desk, order = working_limit()
    replace = replaced(desk, quantity=D(2))
    desk.fill(order, 3)
    desk.reject(order, RejectCode.REPLACE_REJECTED, replace_revision=replace.revision)
    assert (desk.report().state, desk.position()) == (SignalState.FILLED, D(3))


def test_replace_without_answer_is_settled_by_a_snapshot():
    desk, order = working_limit()
    replaced(desk, quantity=D(2))
    for _ in range(4):
        desk.wait(2_000)
    desk.snapshot(orders=[desk.row(order)])
    record = desk.engine.state.orders[order.client_order_id]
    assert (record.replace, record.quantity) == (None, D(3))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"quantity": D(4)}, RejectCode.PARENT_EXCEEDED),
        ({"limit_price": D("21000.10")}, RejectCode.NOT_ON_TICK),
        ({"limit_price": D("23000")}, RejectCode.RISK_PER_TRADE),
        ({"stop_price": D("21000")}, RejectCode.UNSUPPORTED_TYPE),
        ({"quantity": D("1.5")}, RejectCode.NOT_ON_LOT_STEP),
    ],
)
def test_replace_refused_before_sending(fields, code):
    desk, _ = working_limit()
    desk.ask(m.SignalReplace(signal_id="s1", **fields))
    assert not desk.sent(m.Replace)
    assert desk.told()[0].code is code


def test_a_size_that_the_platform_cannot_change_is_refused_a_price_is_not():
    desk = Desk("b")
    desk.link_up("a", replace_quantity=False)
    desk.signal(quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    desk.update(desk.only())
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(2)))
    assert not desk.sent(m.Replace)
    assert desk.told()[0].code is RejectCode.UNSUPPORTED_REPLACE
    assert replaced(desk, limit_price=D("20999.75"), quantity=D(3)).quantity == 3


def test_cancel_that_got_lost_is_repeated_while_the_order_shows_working():
    desk, order = working_limit()
    desk.ask(m.SignalCancel(signal_id="s1"))
    desk.wait(2_000)
    assert len(desk.sent(m.Cancel)) == 1
    desk.update(order, LegState.CANCELLED)
    desk.wait(2_000)
    assert not desk.sent(m.Cancel)


@pytest.mark.parametrize(
    ("able", "fields", "code"),
    [
        ({"order_types": (m.OrderType.MARKET,)}, {}, RejectCode.UNSUPPORTED_TYPE),
        ({"times_in_force": (m.TimeInForce.DAY,)}, {"time_in_force": m.TimeInForce.FOK}, RejectCode.UNSUPPORTED_TIF),
        ({"brackets": False, "order_types": (m.OrderType.LIMIT,)}, {}, RejectCode.UNSUPPORTED_BRACKET),
    ],
)
def test_what_a_platform_cannot_do_is_refused_not_converted(able, fields, code):
    desk = Desk("b")
    desk.link_up("a", **able)
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(21000), **fields)
    assert desk.report().code is code
    assert not desk.orders


def test_orders_of_others_are_shown_and_never_touched():
    desk = Desk("a")
    stranger = m.OrderUpdate(
        client_order_id="Entry",
        platform="a",
        account="acc",
        symbol="NQ",
        side=m.Side.BUY,
        state=LegState.WORKING,
        quantity=D(1),
        filled=D(0),
        platform_order_id="77",
    )
    desk.give(e.AdapterSaid(message=stranger))
    desk.signal()
    assert desk.report().code is RejectCode.NONE
    assert not desk.sent(m.Cancel)
    desk.ask(m.Query(request_id=1, what=m.QueryKind.WORKING_ORDERS))
    assert [row.client_order_id for row in desk.answers()[0].rows][-1] == "Entry"


def test_order_ids_do_not_depend_on_time_or_history():
    one, other = Desk("a"), Desk("a", "b")
    other.signal("b", signal_id="before")
    other.now_ns += 5 * MS
    one.signal()
    other.signal()
    assert one.only().client_order_id == other.only("a").client_order_id


def test_messages_of_unknown_routes_and_orders_never_raise():
    desk = Desk("a")
    desk.signal()
    order = desk.only()
    ghost = m.client_order_id(m.signal_key("never seen"), 0, m.OrderRole.ENTRY, 0)
    desk.give(e.AdapterSaid(message=desk.make_fill(order, platform="zz")))
    desk.update(order, platform="zz")
    desk.give(e.AdapterSaid(message=m.Reject(code=RejectCode.LINK_DOWN, text="", client_order_id=ghost)))
    desk.give(e.LinkDown(platform="zz", account="acc"))
    assert desk.count("fill_from_unknown_route") == desk.count("reject_of_unknown_order") == 1


def dear_limit(**changes) -> tuple[Desk, m.Order]:
    """3 lots, 10 points to the stop, $2 a point: $60 at risk, of $80."""
    stage = structs.replace(wide_limits().stages[1], risk_per_trade_usd=D(80))
    desk = Desk("a", limits=wide_limits(stages={1: stage}, **changes))
    bracket = m.Bracket(stop_loss=D(20990), take_profit=D(21020))
    desk.signal(quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000), bracket=bracket)
    desk.update(desk.only())
    return desk, desk.only()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"limit_price": D("21003.25")}, RejectCode.NONE),
        ({"limit_price": D("21003.50")}, RejectCode.RISK_PER_TRADE),
        ({"limit_price": D("21003.50"), "quantity": D(2)}, RejectCode.NONE),
        ({"limit_price": D("20990")}, RejectCode.BRACKET_INVALID),
        ({"limit_price": D("21020")}, RejectCode.BRACKET_INVALID),
    ],
)
def test_a_replace_may_not_put_more_at_risk_than_a_new_order(fields, code):
    desk, _ = dear_limit()
    desk.ask(m.SignalReplace(signal_id="s1", **fields))
    assert bool(desk.sent(m.Replace)) is (code is RejectCode.NONE)
    assert [each.code for each in desk.told() if isinstance(each, m.Reject)] == [code] * (code is not RejectCode.NONE)


def test_a_replace_that_makes_the_risk_smaller_is_allowed_whatever_the_stage_says_by_now():
    desk, _ = dear_limit()
    desk.limits = structs.replace(
        desk.limits, stages={1: structs.replace(desk.limits.stages[1], risk_per_trade_usd=D(10))}
    )
    desk.give(e.Started(boot_id="g2", settings=desk.settings, limits=desk.limits))
    desk.link_up("a", answer=False)
    desk.snapshot(orders=[desk.row(desk.only())])
    assert replaced(desk, quantity=D(2)).quantity == 2


def test_a_replace_may_not_be_worth_more_than_a_new_order():
    desk, _ = dear_limit(max_notional_usd=D(126_010))
    desk.ask(m.SignalReplace(signal_id="s1", limit_price=D(21002)))
    assert desk.told()[0].code is RejectCode.MAX_NOTIONAL


@pytest.mark.parametrize(
    ("quote", "code"),
    [
        ({}, RejectCode.NONE),
        ({"bid": D("21051.50"), "ask": D("21051.75")}, RejectCode.PRICE_COLLAR),
        ({"quote_ns": T0 - 3_000_000_000}, RejectCode.STALE_QUOTE),
        ({"ask": None}, RejectCode.BAD_QUOTE),
    ],
)
def test_a_new_price_is_compared_with_the_quote_of_now(quote, code):
    desk, _ = working_limit()
    request = m.SignalReplace(signal_id="s1", limit_price=D("21001.50"))
    markets = (market("a", desk.now_ns, **({"account": "acc"} | quote)),)
    desk.give(e.NexusAsked(request=request, peer="desk", markets=markets))
    assert bool(desk.sent(m.Replace)) is (code is RejectCode.NONE)
    assert [each.code for each in desk.told() if isinstance(each, m.Reject)] == [code] * (code is not RejectCode.NONE)


def test_a_change_that_finds_nothing_to_change_is_answered():
    desk, order = working_limit()
    for kind in (m.SignalCancel, m.SignalClose):
        desk.ask(kind(signal_id="s1", platform="zz"))
        assert (desk.told()[0].code, desk.told()[0].platform) == (RejectCode.PLATFORM_UNKNOWN, "zz")
    desk.fill(order)
    desk.ask(m.SignalReplace(signal_id="s1", limit_price=D(21001)))
    assert (desk.told()[0].code, desk.told()[0].platform) == (RejectCode.REPLACE_REJECTED, "a")


def test_changes_count_against_the_order_rate():
    desk = Desk("a", limits=wide_limits(max_orders_per_s=3))
    desk.signal(quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    for number in (1, 2):
        replace = replaced(desk, limit_price=D(21000 + number))
        desk.update(order, limit_price=D(21000 + number), replace_revision=replace.revision)
    desk.ask(m.SignalReplace(signal_id="s1", limit_price=D(21000)))
    assert (desk.told()[0].code, desk.sent(m.Replace)) == (RejectCode.ORDER_RATE, [])
    desk.now_ns += 1_000 * MS
    assert replaced(desk, limit_price=D(21000)).limit_price == 21000


def test_an_order_that_somebody_has_made_larger_at_the_platform_is_said_once():
    desk, order = working_limit()
    row = structs.replace(desk.row(order), quantity=D(5))
    for _ in range(2):
        desk.now_ns += 10_000 * MS
        desk.link_up("a", answer=False)
        desk.snapshot(orders=[row])
    alerts = [x for x in desk.all_effects if isinstance(x, e.Alert) and "it was changed at the platform" in x.text]
    assert (len(alerts), alerts[0].code) == (1, RejectCode.PARENT_EXCEEDED)
