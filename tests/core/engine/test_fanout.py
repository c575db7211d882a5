"""One signal, several platforms: what the legs owe each other when one of them fails, hangs or fills late."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import FanOut, FanOutKind, LegState, OrderRole, RejectCode, Side, SignalState

from tests.support.orders import Desk, market, wide_limits

ALL = FanOut(kind=FanOutKind.ALL_OR_FLATTEN)
TWO_OF_THREE = FanOut(kind=FanOutKind.QUORUM, quorum=2)
HEDGED = FanOut(kind=FanOutKind.PRIMARY_THEN_HEDGE)


def test_one_signal_becomes_one_leg_per_platform_with_one_report():
    desk = Desk("a", "b", "c")
    desk.signal("a", "b", "c", quantity=D(1))
    assert [order.platform for order in desk.sent(m.Order)] == ["a", "b", "c"]
    for platform, price in (("a", 21000), ("b", 21001), ("c", 21005)):
        desk.fill(desk.only(platform), price=D(price))
    assert (desk.report().state, desk.report().avg_price, desk.report().filled) == (SignalState.FILLED, D(21002), D(3))


def test_best_effort_keeps_what_it_gets():
    desk = Desk("a", "b")
    desk.signal("a", "b")
    desk.reject(desk.only("a"))
    desk.fill(desk.only("b"))
    assert (desk.report().state, desk.report().residual_quantity) == (SignalState.PARTIAL, D(2))
    assert len(desk.orders) == 2


def test_all_or_flatten_closes_the_filled_leg_and_cancels_the_working_one():
    desk = Desk("a", "b", "c")
    desk.signal("a", "b", "c", policy=ALL)
    desk.fill(desk.only("a"))
    desk.update(desk.only("b"))
    desk.reject(desk.only("c"))
    assert desk.report().state is SignalState.FLATTENING
    close = desk.only("a", OrderRole.EXIT)
    assert (close.side, close.quantity) == (Side.SELL, D(2))
    assert [cancel.platform for cancel in desk.sent(m.Cancel)] == ["b"]
    desk.fill(close)
    desk.update(desk.only("b"), LegState.CANCELLED)
    assert (desk.report().state, desk.report().residual_quantity) == (SignalState.FLATTENED, D(0))


def test_all_or_flatten_sends_nothing_when_one_leg_cannot_trade():
    desk = Desk("a", "b")
    desk.link_down("b")
    desk.signal("a", "b", policy=ALL)
    assert (desk.report().state, desk.report().code) == (SignalState.REJECTED, RejectCode.PLATFORM_NOT_READY)
    assert not desk.orders


def test_best_effort_goes_on_without_a_platform_that_is_down():
    desk = Desk("a", "b")
    desk.link_down("b")
    desk.signal("a", "b")
    assert [order.platform for order in desk.sent(m.Order)] == ["a"]
    assert desk.report().legs[1].code is RejectCode.PLATFORM_NOT_READY


def test_all_or_flatten_waits_for_an_unknown_leg_and_flattens_its_late_fill():
    desk = Desk("a", "b")
    desk.signal("a", "b", policy=FanOut(kind=FanOutKind.ALL_OR_FLATTEN, decide_within_ms=5_000))
    desk.fill(desk.only("a"))
    desk.wait(2_000)
    assert desk.report().state is SignalState.UNKNOWN
    assert len(desk.orders) == 2
    desk.wait(3_000)
    assert desk.only("a", OrderRole.EXIT).quantity == 2
    desk.fill(desk.only("a", OrderRole.EXIT))
    desk.fill(desk.only("b"))  # the unknown leg had filled after all
    desk.wait(1_000)
    close = desk.only("b", OrderRole.EXIT)
    assert (close.quantity, close.side) == (D(2), Side.SELL)


def test_a_partly_filled_leg_that_ends_flattens_all():
    desk = Desk("a", "b")
    desk.signal("a", "b", policy=ALL)
    desk.fill(desk.only("a"))
    desk.fill(desk.only("b"), 1)
    desk.update(desk.only("b"), LegState.CANCELLED, 1)
    assert desk.only("a", OrderRole.EXIT).quantity == 2
    assert desk.only("b", OrderRole.EXIT).quantity == 1


def test_quorum_reached_keeps_quorum_missed_flattens():
    kept = Desk("a", "b", "c")
    kept.signal("a", "b", "c", policy=TWO_OF_THREE)
    kept.fill(kept.only("a"))
    kept.fill(kept.only("b"))
    kept.reject(kept.only("c"))
    assert (kept.report().state, len(kept.orders)) == (SignalState.PARTIAL, 3)
    missed = Desk("a", "b", "c")
    missed.signal("a", "b", "c", policy=TWO_OF_THREE)
    missed.reject(missed.only("a"))
    missed.fill(missed.only("b"))
    missed.reject(missed.only("c"))
    assert missed.only("b", OrderRole.EXIT).quantity == 2


def test_hedge_follows_the_primary_fill_by_fill_and_never_exceeds_it():
    desk = Desk("a", "b")
    desk.signal("a", "b", policy=HEDGED, quantity=D(3))
    assert [order.platform for order in desk.sent(m.Order)] == ["a"]
    primary = desk.only("a")
    desk.fill(primary, 1)
    hedge = desk.only("b", OrderRole.HEDGE)
    assert (hedge.side, hedge.quantity) == (Side.SELL, D(1))
    desk.fill(primary, 2)  # while the first hedge is on its way
    assert len(desk.orders) == 2
    desk.fill(hedge)
    desk.wait(1_000)
    second = desk.only("b", OrderRole.HEDGE)
    assert second.quantity == 2
    desk.fill(second)
    desk.wait(1_000)
    assert (desk.report().residual_quantity, len(desk.orders)) == (D(0), 3)


def test_an_unknown_hedge_is_not_hedged_again():
    desk = Desk("a", "b")
    desk.signal("a", "b", policy=HEDGED, quantity=D(1))
    desk.fill(desk.only("a"))
    for _ in range(5):
        desk.wait(2_000)
    assert (len(desk.orders), desk.report().state) == (2, SignalState.UNKNOWN)
    assert desk.report().residual_quantity == 1


def test_a_second_hedge_leg_takes_over_after_three_refusals():
    desk = Desk("a", "b", "c")
    desk.signal("a", "b", "c", policy=HEDGED, quantity=D(1))
    desk.fill(desk.only("a"))
    for _ in range(3):
        desk.reject(desk.only("b", OrderRole.HEDGE))
        desk.wait(1_000)
    assert desk.only("c", OrderRole.HEDGE).quantity == 1


def test_split_shares_the_size_and_children_never_exceed_the_parent():
    desk = Desk("a", "b", "c")
    desk.signal("a", "b", "c", quantity=D(5), allocation=m.Allocation.SPLIT)
    assert [order.quantity for order in desk.sent(m.Order)] == [D(1), D(1), D(1)]
    desk = Desk("a", "b")
    targets = (m.Target(platform="a", quantity=D(4)), m.Target(platform="b", quantity=D(4)))
    desk.signal("a", "b", quantity=D(5), allocation=m.Allocation.SPLIT, targets=targets)
    assert sum(order.quantity for order in desk.sent(m.Order)) <= 5
    assert desk.report().legs[1].code is RejectCode.PARENT_EXCEEDED


def test_exit_is_derived_from_each_legs_own_position_on_its_own_account():
    desk = Desk("a", "b")
    desk.signal("a", "b")
    desk.fill(desk.only("a"), 2)
    desk.fill(desk.only("b"), 1)
    desk.update(desk.only("b"), LegState.CANCELLED, 1)
    desk.ask(m.SignalClose(signal_id="s1"))
    assert {(o.platform, o.quantity) for o in desk.sent(m.Order)} == {("a", D(2)), ("b", D(1))}
    desk.ask(m.SignalClose(signal_id="s1"))
    assert not desk.sent(m.Order)


def test_exit_with_one_leg_closed_by_hand_does_not_open_the_opposite():
    desk = Desk("a")
    desk.signal()
    desk.fill(desk.only())
    desk.fill(desk.only(), 2, client_order_id="by hand", side=Side.SELL)
    desk.ask(m.SignalClose(signal_id="s1"))
    assert not desk.sent(m.Order)
    assert (desk.report().state, desk.position()) == (SignalState.CLOSED, D(0))


def test_a_foreign_position_is_not_ours_to_close():
    desk = Desk("b")
    desk.link_up("a", answer=False)
    desk.snapshot("a", positions=[("NQ", 5)])
    desk.signal()
    desk.fill(desk.only())
    desk.ask(m.SignalClose(signal_id="s1"))
    assert [(o.side, o.quantity) for o in desk.sent(m.Order)] == [(Side.SELL, D(2))]


def test_hedging_account_closes_by_ticket():
    desk = Desk("b")
    desk.link_up("a", m.AccountMode.HEDGING)
    desk.signal()
    desk.fill(desk.only(), position_ticket="T7")
    desk.ask(m.SignalClose(signal_id="s1"))
    close = desk.only("a", OrderRole.EXIT)
    assert (close.close_ticket, close.side, close.quantity) == ("T7", Side.SELL, D(2))
    desk.fill(close, position_ticket="T7")
    assert desk.report().state is SignalState.CLOSED


def test_a_platforms_own_stop_is_attributed_to_its_leg_by_ticket():
    desk = Desk("b")
    desk.link_up("a", m.AccountMode.HEDGING)
    desk.signal()
    desk.fill(desk.only(), position_ticket="T7")
    desk.fill(desk.only(), client_order_id="[sl]", side=Side.SELL, position_ticket="T7", price=D(20990))
    assert (desk.report().state, desk.report().residual_quantity) == (SignalState.CLOSED, D(0))
    assert desk.report().realized_usd == D(-40)


def test_an_entry_against_what_another_signal_holds_is_refused_on_a_netting_account():
    desk = Desk("a")
    desk.signal(quantity=D(1))
    desk.fill(desk.only())
    desk.signal(signal_id="s2", side=Side.SELL, quantity=D(3))
    leg = desk.report("s2").legs[0]
    assert (leg.code, len(desk.orders)) == (RejectCode.OPPOSED_POSITION, 1)
    assert "holds +1 NQ (s1 +1)" in leg.text
    assert "an entry of -3" in leg.text
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.fill(desk.only(role=OrderRole.EXIT))
    desk.signal(signal_id="s3", side=Side.SELL, quantity=D(3))
    assert desk.report("s3").legs[0].code is RejectCode.NONE


def test_an_entry_against_one_that_works_and_against_lots_by_hand_is_refused_and_a_reduction_is_not():
    desk = Desk("a")
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(20999))
    desk.signal(signal_id="s2", side=Side.SELL)
    assert desk.report("s2").legs[0].code is RejectCode.OPPOSED_POSITION
    assert "an entry of +2 NQ works there (s1)" in desk.report("s2").legs[0].text
    desk.ask(m.SignalCancel(signal_id="s1"))
    desk.update(desk.only(), LegState.CANCELLED)
    desk.fill(desk.only(), 4, client_order_id="by hand")
    desk.signal(signal_id="s3", side=Side.SELL)
    assert "holds +4 NQ (of no signal)" in desk.report("s3").legs[0].text
    desk.signal(signal_id="s4", side=Side.SELL, reduce_only=True, bracket=None)
    assert desk.report("s4").legs[0].code is RejectCode.NONE


def test_on_a_hedging_account_both_sides_may_be_held():
    desk = Desk("b")
    desk.link_up("a", m.AccountMode.HEDGING)
    desk.signal()
    desk.fill(desk.only(), position_ticket="T7")
    desk.signal(signal_id="s2", side=Side.SELL)
    assert desk.report("s2").legs[0].code is RejectCode.NONE


def test_a_hedge_on_the_account_of_its_own_primary_is_refused():
    desk = Desk("a")
    desk.signal(
        targets=(m.Target(platform="a"), m.Target(platform="a", account="acc")),
        policy=m.FanOut(kind=m.FanOutKind.PRIMARY_THEN_HEDGE),
    )
    assert desk.report().legs[1].code is RejectCode.OPPOSED_POSITION
    assert not desk.orders


def guarded(**able: bool) -> Desk:
    """A platform that keeps no brackets, with a filled entry, its stop and its target."""
    desk = Desk("b")
    desk.link_up("a", brackets=False, **able)
    desk.signal(bracket=m.Bracket(stop_loss=D(20990), take_profit=D(21020)))
    desk.fill(desk.only())
    return desk


def test_protection_lives_where_the_capabilities_say():
    desk = Desk("a")
    desk.signal(bracket=m.Bracket(stop_loss=D(20990), take_profit=D(21020)))
    assert (desk.only().stop_loss, desk.only().take_profit) == (D(20990), D(21020))
    assert desk.report().legs[0].protection is m.Protection.PLATFORM
    desk = guarded()
    assert desk.only().stop_loss is None
    assert desk.report().legs[0].protection is m.Protection.GATEWAY
    stop, target = desk.only(role=OrderRole.STOP_LOSS), desk.only(role=OrderRole.TAKE_PROFIT)
    assert (stop.side, stop.quantity, stop.stop_price) == (Side.SELL, D(2), D(20990))
    assert (target.quantity, target.limit_price) == (D(2), D(21020))


def test_oco_sibling_is_cancelled_when_the_other_fills():
    desk = guarded()
    stop, target = desk.only(role=OrderRole.STOP_LOSS), desk.only(role=OrderRole.TAKE_PROFIT)
    desk.update(stop)
    desk.update(target)
    desk.fill(target, price=D(21020))
    assert [cancel.client_order_id for cancel in desk.sent(m.Cancel)] == [stop.client_order_id]
    desk.update(stop, LegState.CANCELLED)
    assert (desk.report().state, desk.report().realized_usd) == (SignalState.CLOSED, D(80))


def test_a_partial_target_shrinks_the_stop():
    desk = guarded()
    stop, target = desk.only(role=OrderRole.STOP_LOSS), desk.only(role=OrderRole.TAKE_PROFIT)
    desk.update(stop)
    desk.update(target)
    desk.fill(target, 1)
    assert [(r.client_order_id, r.quantity) for r in desk.sent(m.Replace)] == [(stop.client_order_id, D(1))]


def test_a_stop_whose_size_cannot_be_changed_is_cancelled_and_placed_anew():
    desk = guarded(replace_quantity=False)
    stop, target = desk.only(role=OrderRole.STOP_LOSS), desk.only(role=OrderRole.TAKE_PROFIT)
    desk.update(stop)
    desk.update(target)
    desk.fill(target, 1)
    assert not desk.sent(m.Replace)
    assert [cancel.client_order_id for cancel in desk.sent(m.Cancel)] == [stop.client_order_id]
    desk.update(stop, LegState.CANCELLED)
    desk.wait(1_000)
    smaller = desk.only(role=OrderRole.STOP_LOSS)
    assert (smaller.quantity, smaller.stop_price) == (D(1), stop.stop_price)
    assert smaller.client_order_id != stop.client_order_id


def test_late_oco_sibling_turns_the_leg_over_and_the_excess_is_closed():
    desk = guarded()
    stop, target = desk.only(role=OrderRole.STOP_LOSS), desk.only(role=OrderRole.TAKE_PROFIT)
    desk.update(stop)
    desk.update(target)
    desk.fill(target)
    desk.fill(stop)
    assert desk.position() == -2
    close = desk.only(role=OrderRole.EXIT)
    assert (close.side, close.quantity) == (Side.BUY, D(2))
    desk.fill(close)
    assert (desk.position(), desk.report().residual_quantity) == (D(0), D(0))


def test_a_position_that_cannot_be_protected_is_not_kept():
    desk = guarded()
    for _ in range(3):
        desk.reject(desk.only(role=OrderRole.STOP_LOSS))
    for order in list(desk.orders.values()):
        if m.find_client_order_id(order.client_order_id).role is OrderRole.TAKE_PROFIT:
            desk.update(order, LegState.CANCELLED)
    assert desk.only(role=OrderRole.EXIT).quantity == 2


def test_same_signal_twice_is_answered_with_the_first_ones_report():
    desk = Desk("a")
    desk.signal()
    desk.fill(desk.only())
    desk.signal()
    (report,) = desk.told()
    assert (report.duplicate, report.state, report.filled) == (True, SignalState.FILLED, D(2))
    assert len(desk.orders) == 1


def test_same_signal_from_two_processes_is_one_order():
    desk = Desk("a")
    signal = m.Signal(
        signal_id="s1",
        symbol="NQ",
        side=Side.BUY,
        created_ns=desk.now_ns,
        targets=(m.Target(platform="a"),),
        quantity=D(1),
        bracket=m.Bracket(stop_loss=D(20990)),
    )
    for peer in ("nexus-1", "nexus-2"):
        desk.give(e.SignalArrived(signal=signal, markets=(market("a", desk.now_ns),), peer=peer))
    assert len(desk.orders) == 1
    assert [x.peer for x in desk.effects if isinstance(x, e.TellNexus)] == ["nexus-2"]


def test_rapid_look_alikes_are_refused_with_a_code():
    desk = Desk("a", "b", limits=wide_limits(lookalike_window_ms=2_000))
    desk.signal()
    desk.now_ns += 1_999_000_000
    desk.signal(signal_id="s2")
    desk.signal("b", signal_id="s3", side=Side.SELL)
    desk.now_ns += 2_000_000
    desk.signal(signal_id="s4")
    codes = [desk.report(s).code for s in ("s2", "s3", "s4")]
    assert codes == [RejectCode.LOOKALIKE_SIGNAL, RejectCode.NONE, RejectCode.NONE]


@pytest.mark.parametrize("age_ms", [10_001, -10_001])
def test_a_stale_signal_is_refused(age_ms):
    desk = Desk("a")
    desk.signal(created_ns=desk.now_ns - age_ms * 1_000_000)
    assert desk.report().code is RejectCode.STALE_SIGNAL


@pytest.mark.parametrize(("late_ms", "code"), [(0, RejectCode.NONE), (1, RejectCode.STALE_SIGNAL)])
def test_an_entry_that_comes_after_its_time_is_refused_and_says_how_late_it_was(late_ms, code):
    desk = Desk("a")
    created_ns = desk.now_ns - 1_500_000_000
    signal = desk.make_signal(created_ns=created_ns)
    deadline_ns = desk.now_ns - late_ms * 1_000_000
    markets = (market("a", desk.wall_ns),)
    desk.give(e.SignalArrived(signal=signal, markets=markets, peer="nexus", enter_by_ns=deadline_ns))
    report = desk.report()
    assert report.code is code
    if late_ms:
        assert report.text == "signal came 1500 ms after created_ns, it had 1499 ms to enter; do the clocks agree?"


def test_an_order_must_leave_before_its_signals_time_is_over():
    desk = Desk("a", "b")
    effects = desk.signal(enter_by_ns=desk.wall_ns + 7_000_000)
    (order,) = [each.message for each in effects if isinstance(getattr(each, "message", None), m.Order)]
    assert order.not_after_ns == desk.wall_ns + 7_000_000
    effects = desk.signal("b", signal_id="s2", side=Side.SELL, enter_by_ns=desk.wall_ns + 10**12)
    (order,) = [each.message for each in effects if isinstance(getattr(each, "message", None), m.Order)]
    assert order.not_after_ns == desk.wall_ns + desk.engine.state.settings.send_within_ms * 1_000_000


def test_reduce_only_closes_other_legs_and_never_more():
    desk = Desk("a")
    desk.signal()
    desk.fill(desk.only())
    desk.signal(signal_id="s2", side=Side.SELL, quantity=D(5), reduce_only=True, bracket=None)
    reduction = desk.only()
    assert reduction.quantity == 2
    desk.fill(reduction)
    assert (desk.position(), desk.report("s1").residual_quantity) == (D(0), D(0))
    desk.signal(signal_id="s3", side=Side.SELL, quantity=D(1), reduce_only=True, bracket=None)
    assert desk.report("s3").code is RejectCode.NOTHING_TO_CLOSE


def test_risk_money_becomes_lots_rounded_down():
    desk = Desk("a")
    desk.signal(risk_usd=D(79))  # 10 points x $2 = $20 a lot
    assert desk.only().quantity == 3
    desk.signal(signal_id="s2", risk_usd=D(19))
    assert desk.report("s2").code is RejectCode.SIZE_BELOW_LOT


def test_legs_of_different_money_are_averaged_in_usd():
    desk = Desk("a", "b")
    brl = market("b", desk.now_ns, currency="BRL", usd_rate=D("0.2"), usd_rate_ns=desk.now_ns, point_value=D(1))
    desk.signal("a", "b", quantity=D(1), markets=(market("a", desk.now_ns), brl))
    desk.fill(desk.only("a"), price=D(21000))
    desk.fill(desk.only("b"), price=D(21011), fee=D(1), fee_currency="BRL")
    assert desk.report().avg_price_usd == D(21001)  # weights $2 and $0.20 a point
    assert desk.report().fees_usd == D("0.2")


def hedged_desk() -> Desk:
    desk = Desk("a", "b")
    desk.signal("a", "b", policy=HEDGED, quantity=D(2))
    desk.fill(desk.only("a"))
    desk.fill(desk.only("b", OrderRole.HEDGE))
    return desk


def test_a_hedge_does_not_outlive_its_primary():
    desk = hedged_desk()
    desk.fill(desk.only("a"), side=Side.SELL, client_order_id="")  # its stop, at the platform
    close = desk.only("b", OrderRole.EXIT)
    assert (close.side, close.quantity) == (Side.BUY, D(2))
    desk.fill(close)
    assert (desk.report().state, desk.report().residual_quantity) == (SignalState.CLOSED, D(0))


def test_a_hedge_that_fills_after_its_primary_was_closed_is_closed_as_well():
    desk = Desk("a", "b")
    desk.signal("a", "b", policy=HEDGED, quantity=D(2))
    desk.fill(desk.only("a"))
    hedge = desk.only("b", OrderRole.HEDGE)
    desk.fill(desk.only("a"), side=Side.SELL, client_order_id="")
    desk.fill(hedge)
    assert desk.only("b", OrderRole.EXIT).quantity == 2


def test_a_hedge_stays_while_the_primary_only_shrinks():
    desk = hedged_desk()
    desk.fill(desk.only("a"), 1, side=Side.SELL, client_order_id="")
    assert len(desk.orders) == 2
    assert desk.report().residual_quantity == -1


def test_closing_in_a_shut_market_waits_for_it_to_open_and_does_not_give_up():
    desk = Desk("a")
    desk.signal()
    desk.fill(desk.only())
    desk.give(e.MarketMoved(markets=(market("a", desk.now_ns, session_open=False),)))
    desk.ask(m.SignalClose(signal_id="s1"))
    for _ in range(10):
        desk.reject(desk.only(role=OrderRole.EXIT))
        desk.wait(301_000)
        desk.snapshot(positions=[("NQ", 2)], from_ns=desk.now_ns)
    assert desk.report().state is SignalState.FLATTENING
    assert len(desk.orders) == 12  # rarely, but the calendar may be wrong
    desk.reject(desk.only(role=OrderRole.EXIT))
    desk.wait(5_000)
    assert len(desk.orders) == 12
    desk.give(e.MarketMoved(markets=(market("a", desk.now_ns),)))
    desk.fill(desk.only(role=OrderRole.EXIT))
    assert (desk.report().state, len(desk.orders)) == (SignalState.CLOSED, 13)


def test_two_targets_that_mean_one_account_are_one_leg():
    desk = Desk("a")
    desk.signal("a", targets=(m.Target(platform="a"), m.Target(platform="a", account="acc")))
    assert len(desk.orders) == 1
    assert desk.report().legs[1].code is RejectCode.PARENT_EXCEEDED
    assert "name it once" in desk.report().legs[1].text


def test_what_a_kept_quorum_has_left_working_is_cancelled_when_its_time_is_up():
    desk = Desk("a", "b", "c")
    policy = FanOut(kind=FanOutKind.QUORUM, quorum=2, decide_within_ms=5_000)
    desk.signal("a", "b", "c", policy=policy, order_type=m.OrderType.LIMIT, limit_price=D(21000))
    for platform in "abc":
        desk.update(desk.only(platform))
    desk.fill(desk.only("a"))
    desk.fill(desk.only("b"))
    desk.wait(4_900)
    assert not desk.sent(m.Cancel)
    assert desk.engine.next_due_ns() <= desk.now_ns + 100_000_000
    desk.wait(100)
    assert [cancel.platform for cancel in desk.sent(m.Cancel)] == ["c"]
    desk.update(desk.only("c"), LegState.CANCELLED)
    assert desk.report().state is SignalState.PARTIAL


def test_a_ticket_that_was_partly_closed_unseen_is_closed_by_what_is_left_of_it():
    desk = Desk("b")
    desk.link_up("a", m.AccountMode.HEDGING, close_by_ticket=True)
    desk.signal(quantity=D(3))
    fill = desk.fill(desk.only(), position_ticket="T1")
    for _ in range(2):
        desk.now_ns += 10_000_000_000
        desk.link_up("a", m.AccountMode.HEDGING, answer=False, close_by_ticket=True)
        desk.snapshot(fills=[fill], positions=[("NQ", 1, "T1")])
    desk.ask(m.SignalClose(signal_id="s1"))
    close = desk.only(role=OrderRole.EXIT)
    assert (close.quantity, close.close_ticket) == (D(1), "T1")
    desk.fill(close, position_ticket="T1")
    assert desk.report().state is SignalState.CLOSED


def child_fill(desk: Desk, entry: m.Order, role: OrderRole) -> m.Fill:
    """An execution of a stop or target that the platform keeps itself, under the id that its adapter gives it."""
    parts = m.find_client_order_id(entry.client_order_id)
    name = m.client_order_id(parts.key, parts.leg, role, 0)
    return desk.fill(entry, side=Side.SELL, client_order_id=name)


def test_a_platforms_own_stop_and_target_that_both_fill_leave_nothing_open():
    desk = Desk("a")
    desk.signal(bracket=m.Bracket(stop_loss=D(20990), take_profit=D(21020)))
    entry = desk.only()
    desk.fill(entry)
    child_fill(desk, entry, OrderRole.STOP_LOSS)
    assert (desk.report().state, len(desk.orders)) == (SignalState.CLOSED, 1)
    child_fill(desk, entry, OrderRole.TAKE_PROFIT)
    back = desk.only(role=OrderRole.EXIT)
    assert (back.side, back.quantity) == (Side.BUY, D(2))
    desk.fill(back)
    assert (desk.position(), desk.report().residual_quantity) == (D(0), D(0))


def test_a_stop_whose_fill_overtakes_its_entrys_is_no_position():
    desk = Desk("a")
    desk.signal()
    entry = desk.only()
    child_fill(desk, entry, OrderRole.STOP_LOSS)
    desk.update(entry, LegState.FILLED, 2)
    assert len(desk.orders) == 1
    desk.fill(entry)
    assert (desk.position(), len(desk.orders)) == (D(0), 1)


def test_lots_that_somebody_sold_by_hand_are_not_bought_back_when_the_entry_is_busted():
    desk = Desk("a")
    desk.signal()
    entry = desk.fill(desk.only())
    desk.fill(desk.only(), side=Side.SELL, client_order_id="")
    bust = m.Correction(platform="a", account="acc", exec_id=entry.exec_id, kind=m.CorrectionKind.BUST, revision=1)
    desk.give(e.AdapterSaid(message=bust))
    assert (desk.position(), len(desk.orders)) == (D(-2), 1)


def test_a_stop_that_ends_with_the_session_is_placed_again_when_the_market_opens():
    desk = Desk("b")
    desk.link_up("a", brackets=False, times_in_force=(m.TimeInForce.DAY,))
    desk.signal()
    desk.fill(desk.only())
    desk.update(desk.only(role=OrderRole.STOP_LOSS))
    desk.give(e.MarketMoved(markets=(market("a", desk.now_ns, session_open=False),)))
    desk.update(desk.only(role=OrderRole.STOP_LOSS), LegState.EXPIRED)

    def refuse_all() -> None:
        while desk.engine.state.orders[desk.only(role=OrderRole.STOP_LOSS).client_order_id].state is LegState.SENT:
            desk.reject(desk.only(role=OrderRole.STOP_LOSS))

    for _ in range(6):
        refuse_all()  # the platform takes none in the night
        desk.wait(301_000)
        desk.snapshot(positions=[("NQ", 2)], from_ns=desk.now_ns)
    refuse_all()
    assert desk.report().state is SignalState.FILLED
    tried = len(desk.orders)
    assert tried == 9  # entry, first stop, one when that had ended, and then one each five minutes
    desk.wait(5_000)
    assert len(desk.orders) == tried
    desk.give(e.MarketMoved(markets=(market("a", desk.now_ns),)))
    assert len(desk.orders) == tried + 1
    desk.update(desk.only(role=OrderRole.STOP_LOSS))
    assert desk.report().legs[0].open_quantity == 2
