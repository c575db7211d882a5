"""Closing never ends by count, never closes more than is held, and lets the stop go last (design: exits, rules 3-5)."""

from __future__ import annotations

from decimal import Decimal as D
from itertools import pairwise

import msgspec
import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import LegState, OrderRole, RejectCode, Side, SignalState

from tests.support.orders import Desk, market, wide_limits

CLOSE = m.SignalClose(signal_id="s1")


def held(lots: int = 2, **able: object) -> tuple[Desk, m.Order, m.Fill]:
    """A netting platform without brackets, such as NinjaTrader: an entry that has filled, and its stop that works."""
    desk = Desk("a")
    desk.link_up("a", **({"brackets": False} | able))
    desk.signal("a", quantity=D(lots))
    entry = desk.only()
    desk.update(entry)
    fill = desk.fill(entry)
    desk.update(entry, LegState.FILLED, lots)
    stop = desk.only(role=OrderRole.STOP_LOSS)
    desk.update(stop)
    return desk, stop, fill


def thirty_lots() -> tuple[Desk, m.Order, m.Fill]:
    stage = msgspec.structs.replace(wide_limits().stages[1], max_size=D(50), risk_per_trade_usd=D(10_000))
    desk = Desk("b", limits=wide_limits(max_position_default=D(50), max_notional_usd=None, stages={1: stage}))
    desk.link_up("a", brackets=False)
    desk.signal("a", quantity=D(30))
    entry = desk.only()
    fill = desk.fill(entry)
    stop = desk.only(role=OrderRole.STOP_LOSS)
    desk.update(stop)
    return desk, stop, fill


def of_role(desk: Desk, role: OrderRole) -> list[m.Order]:
    return [each for each in desk.orders.values() if m.find_client_order_id(each.client_order_id).role is role]


def working(desk: Desk, role: OrderRole) -> list[m.Order]:
    return [each for each in of_role(desk, role) if desk.engine.state.orders[each.client_order_id].live]


def answer_snapshot(desk: Desk, fill: m.Fill, lots: int) -> None:
    if desk.engine.state.routes["a|acc"].request_pending:
        rows = [desk.row(each) for role in OrderRole for each in working(desk, role)]
        desk.snapshot(orders=rows, fills=[fill], positions=[("NQ", lots)] if lots else [])


def cancel_stop(desk: Desk) -> None:
    """The platform ends the stop that the gateway has asked it to end."""
    for stop in working(desk, OrderRole.STOP_LOSS):
        if desk.engine.state.orders[stop.client_order_id].cancel_wanted:
            desk.update(stop, LegState.CANCELLED)


def accept_stop(desk: Desk) -> None:
    for stop in working(desk, OrderRole.STOP_LOSS):
        if desk.engine.state.orders[stop.client_order_id].state is LegState.SENT:
            desk.update(stop)


def test_a_close_that_is_refused_for_an_hour_is_tried_again_for_ever_and_its_stop_stands_between():
    """Finding A1: 20 closing orders in 19 s, then no stop and no order for two hours."""
    desk, _, fill = held()
    desk.ask(CLOSE)
    seen: set[str] = set()
    times: list[int] = []
    naked = 0
    for _ in range(3_600):
        cancel_stop(desk)
        for closing in working(desk, OrderRole.EXIT):
            assert closing.client_order_id not in seen
            seen.add(closing.client_order_id)
            times.append(desk.now_ns)
            desk.reject(closing)
        accept_stop(desk)
        covered = sum(each.quantity for each in working(desk, OrderRole.STOP_LOSS))
        naked += covered != 2
        desk.wait(1_000)
        answer_snapshot(desk, fill, 2)
    assert 60 <= len(seen) <= 80  # seven within the first minute, then one a minute
    pauses = [round((later - sooner) / 1e9) for sooner, later in pairwise(times)]
    assert pauses[:3] == sorted(pauses[:3])
    assert max(pauses) <= 62
    assert naked <= len(seen)  # never longer than from the end of the stop to the answer about the closing order
    assert desk.report().legs[0].open_quantity == 2
    assert "closing orders in a row have traded nothing, the last one: no" in desk.report().legs[0].text
    alerts = [each.text for each in desk.all_effects if isinstance(each, e.Alert) and "still holds +2 NQ" in each.text]
    assert 10 <= len(alerts) <= 13  # it is repeated, every five minutes
    # The platform takes orders again: the next attempt fills, and all is over.
    for _ in range(70):
        cancel_stop(desk)
        for closing in working(desk, OrderRole.EXIT):
            desk.fill(closing)
        desk.wait(1_000)
        answer_snapshot(desk, fill, 2 if desk.position() else 0)
    assert desk.report().state is SignalState.CLOSED


def test_a_thin_book_that_trades_one_lot_an_order_is_progress():
    """Finding A1, partial form: 20 partial closes, then 10 lots left open without a stop."""
    desk, _, _ = thirty_lots()
    desk.ask(CLOSE)
    cancel_stop(desk)
    rounds = 0
    while desk.position():
        rounds += 1
        closing = desk.only(role=OrderRole.EXIT)
        assert closing.quantity == desk.position()
        desk.fill(closing, 1)
        if desk.position():
            desk.update(closing, LegState.CANCELLED, 1)
        assert rounds < 40
    assert rounds == 30
    assert desk.report().state is SignalState.CLOSED


def test_a_command_tries_at_once_whatever_pause_is_due():
    desk, _, fill = held()
    desk.ask(CLOSE)
    for _ in range(90):
        cancel_stop(desk)
        for closing in working(desk, OrderRole.EXIT):
            desk.reject(closing)
        accept_stop(desk)
        desk.wait(1_000)
        answer_snapshot(desk, fill, 2)
    tried = len(of_role(desk, OrderRole.EXIT))
    desk.ask(CLOSE)
    cancel_stop(desk)
    assert len(of_role(desk, OrderRole.EXIT)) == tried + 1


def test_the_stop_of_a_shut_market_stays_under_close_and_flatten_and_the_answer_says_so():
    """Finding A4."""
    desk, stop, fill = held()
    desk.give(e.MarketMoved(markets=(market("a", desk.now_ns, session_open=False, session_change_ns=desk.now_ns),)))
    before = len(desk.all_effects)
    desk.ask(CLOSE)
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, reason="x", by="me"))
    for _ in range(20):
        desk.wait(1_000)
        answer_snapshot(desk, fill, 2)
    sent = [each.message for each in desk.all_effects[before:] if isinstance(each, e.SendToPlatform)]
    assert not [each for each in sent if isinstance(each, m.Cancel | m.Order)]
    assert working(desk, OrderRole.STOP_LOSS) == [stop]
    assert "the market is shut until 2025-10-09 08:53 UTC by the calendar: its stop stays" in desk.report().legs[0].text
    desk.give(e.MarketMoved(markets=(market("a", desk.now_ns),)))
    assert desk.sent(m.Cancel)
    desk.update(stop, LegState.CANCELLED)
    desk.fill(desk.only(role=OrderRole.EXIT))
    assert desk.report().state is SignalState.CLOSED


def test_lots_that_are_found_in_a_shut_market_keep_their_stop_when_they_are_to_be_closed():
    """The fill is reported after the market has shut: the leg held nothing then, so its own session says open."""
    desk = Desk("a")
    desk.link_up("a", brackets=False)
    desk.signal("a", quantity=D(2))
    entry = desk.only()
    desk.update(entry)
    desk.fill(entry, 1, client_order_id="", exec_id="hand")  # the account holds lots of a person
    desk.give(e.MarketMoved(markets=(market("a", desk.wall_ns, session_open=False, session_change_ns=desk.wall_ns),)))
    desk.fill(entry)
    stop = desk.only(role=OrderRole.STOP_LOSS)
    desk.update(stop)
    desk.ask(CLOSE)
    assert desk.sent(m.Cancel) == []
    assert "the market is shut" in desk.report().legs[0].text
    assert working(desk, OrderRole.STOP_LOSS) == [stop]


def test_no_closing_order_leaves_beside_a_stop_whose_cancel_is_not_answered():
    desk, stop, fill = held()
    desk.ask(CLOSE)
    for _ in range(20):
        desk.wait(1_000)
        if desk.engine.state.routes["a|acc"].request_pending:
            desk.snapshot(orders=[desk.row(stop)], fills=[fill], positions=[("NQ", 2)])
    assert not of_role(desk, OrderRole.EXIT)
    assert len([x for x in desk.all_effects if isinstance(x, e.SendToPlatform) and isinstance(x.message, m.Cancel)]) > 5
    assert "its stop loss works on" in desk.report().legs[0].text
    assert any("its stop loss works on" in x.text for x in desk.all_effects if isinstance(x, e.Alert))
    desk.fill(stop, 1)  # what the stop fills meanwhile is subtracted
    desk.update(stop, LegState.CANCELLED, 1)
    assert desk.only(role=OrderRole.EXIT).quantity == 1


def test_where_the_platform_reduces_only_the_close_leaves_after_a_second_without_an_answer():
    desk, _, _ = held(reduce_only=True)
    desk.ask(CLOSE)
    assert not of_role(desk, OrderRole.EXIT)
    desk.wait(999)
    assert not of_role(desk, OrderRole.EXIT)
    desk.wait(1)
    closing = desk.only(role=OrderRole.EXIT)
    assert (closing.quantity, closing.reduce_only) == (2, True)


def test_reduce_only_is_no_guard_where_the_account_holds_lots_of_others_as_well():
    """The stop would close the other's lots when it fills second."""
    desk, _, _ = held(reduce_only=True)
    desk.fill(desk.only(), 1, client_order_id="")
    desk.ask(CLOSE)
    desk.wait(1_500)
    assert not of_role(desk, OrderRole.EXIT)


def test_what_a_stop_fills_while_it_is_cancelled_is_subtracted():
    desk, stop, _ = held()
    desk.ask(CLOSE)
    desk.fill(stop)
    desk.update(stop, LegState.FILLED, 2)
    assert not of_role(desk, OrderRole.EXIT)
    assert desk.report().state is SignalState.CLOSED


def test_the_rest_of_an_entry_is_cancelled_when_its_stop_has_traded():
    desk = Desk("b")
    desk.link_up("a", brackets=False)
    desk.signal("a", quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    entry = desk.only()
    desk.update(entry)
    desk.fill(entry, 1)
    stop = desk.only(role=OrderRole.STOP_LOSS)
    desk.update(stop)
    assert not desk.sent(m.Cancel)
    desk.fill(stop)
    assert [each.client_order_id for each in desk.sent(m.Cancel)] == [entry.client_order_id]


def test_an_entry_of_unknown_outcome_does_not_keep_what_has_filled_from_being_closed():
    desk = Desk("b")
    desk.link_up("a", brackets=False)
    desk.signal("a", quantity=D(3))
    entry = desk.only()
    desk.fill(entry, 1)
    desk.update(desk.only(role=OrderRole.STOP_LOSS))
    desk.ask(CLOSE)
    cancel_stop(desk)
    assert not of_role(desk, OrderRole.EXIT)
    desk.wait(1_000)
    assert desk.only(role=OrderRole.EXIT).quantity == 1
    desk.fill(desk.only(role=OrderRole.EXIT))
    desk.fill(entry, 2)
    assert desk.only(role=OrderRole.EXIT).quantity == 2


def test_a_closing_order_that_made_the_position_larger_stops_all_closing_there_until_a_snapshot():
    """The stop had filled before its cancel, which the platform says late: the account is short."""
    desk, stop, fill = held()
    desk.ask(CLOSE)
    cancel_stop(desk)
    closing = desk.only(role=OrderRole.EXIT)
    late = [fill, desk.fill(stop), desk.fill(closing)]
    assert desk.position() == -2
    assert any("has made the position -2" in each.text for each in desk.all_effects if isinstance(each, e.Alert))
    desk.wait(2_500)
    assert of_role(desk, OrderRole.EXIT) == [closing]
    desk.snapshot(fills=late, positions=[("NQ", -2)])
    back = desk.only(role=OrderRole.EXIT)
    assert (back.side, back.quantity) == (Side.BUY, 2)
    desk.fill(back)
    assert desk.position() == 0


@pytest.mark.parametrize("order", ["stop first", "reduction first"])
def test_reduce_only_works_on_a_position_with_a_stop_and_the_stop_shrinks(order):
    """Finding A2: the stop was taken for an order that reduces already, so it never worked."""
    desk, stop, _ = held(3)
    reduce(desk, 1)
    out = desk.only()
    assert (out.side, out.quantity, desk.report("out").legs[0].code) == (Side.SELL, 1, RejectCode.NONE)
    desk.update(out)
    if order == "reduction first":
        desk.fill(out)
        (change,) = desk.sent(m.Replace)
        assert (change.client_order_id, change.quantity) == (stop.client_order_id, 2)
        assert desk.report().legs[0].open_quantity == 2
    else:
        desk.fill(stop)  # nothing is left to reduce: it would open
        assert [each.client_order_id for each in desk.sent(m.Cancel)] == [out.client_order_id]


def reduce(desk: Desk, lots: int, signal_id: str = "out", **fields: object) -> None:
    values = {"side": Side.SELL, "quantity": D(lots), "reduce_only": True, "bracket": None} | fields
    desk.signal("a", signal_id=signal_id, **values)


def test_reduce_only_is_measured_against_other_closing_orders():
    desk, _, _ = held(3)
    reduce(desk, 2, "out1", order_type=m.OrderType.LIMIT, limit_price=D(21010))
    reduce(desk, 2, "out2", order_type=m.OrderType.LIMIT, limit_price=D(21010))
    reduce(desk, 1, "out3", order_type=m.OrderType.LIMIT, limit_price=D(21010))
    assert desk.report("out1").legs[0].quantity == 2
    assert desk.report("out2").legs[0].quantity == 1
    assert desk.report("out3").legs[0].code is RejectCode.NOTHING_TO_CLOSE
    assert "3 of which other orders close already" in desk.report("out3").legs[0].text


def test_a_reduce_only_order_that_fills_beside_the_stop_is_traded_back():
    desk, stop, _ = held(2)
    reduce(desk, 2)
    out = desk.only()
    desk.update(out)
    desk.fill(stop)
    desk.fill(out)  # both have filled: the account is short, which nobody asked for
    assert desk.position() == -2
    back = desk.only(role=OrderRole.EXIT)
    assert (back.side, back.quantity) == (Side.BUY, 2)
    desk.fill(back)
    assert desk.position() == 0


def test_signal_close_makes_resting_reductions_give_way():
    desk, _, _ = held(2)
    reduce(desk, 2, order_type=m.OrderType.LIMIT, limit_price=D(21010))
    out = desk.only()
    desk.update(out)
    desk.ask(CLOSE)
    assert out.client_order_id in [each.client_order_id for each in desk.sent(m.Cancel)]
    desk.update(out, LegState.CANCELLED)
    cancel_stop(desk)
    assert desk.only(role=OrderRole.EXIT).quantity == 2


def test_a_hedging_account_closes_by_ticket_and_leaves_the_platforms_own_stop_to_it():
    desk = Desk("b")
    desk.link_up("a", mode=m.AccountMode.HEDGING, close_by_ticket=True)
    desk.signal("a")
    entry = desk.only()
    desk.fill(entry, position_ticket="T1")
    stop_id = m.client_order_id(m.signal_key("s1"), 0, OrderRole.STOP_LOSS, 0)
    desk.update(entry, client_order_id=stop_id, side=Side.SELL, order_type=m.OrderType.STOP, stop_price=D(20990))
    desk.ask(CLOSE)
    assert not desk.sent(m.Cancel)
    (closing,) = desk.sent(m.Order)
    assert (closing.close_ticket, closing.quantity) == ("T1", 2)
    desk.reject(closing)
    assert desk.engine.state.orders[stop_id].live  # refused: it is protected as before
    assert desk.report().legs[0].unprotected_since_ns == 0


@pytest.mark.parametrize("late_ns", [0, 1, 400_000_000])
def test_another_event_at_the_time_of_the_next_try_does_not_put_it_off(late_ns):
    """The deadline was forgotten when any event came just then: the next try waited for the next snapshot."""
    desk, _, _ = held()
    desk.ask(CLOSE)
    cancel_stop(desk)
    desk.reject(desk.only(role=OrderRole.EXIT))
    accept_stop(desk)
    due_ns = desk.engine.state.signals["s1"].legs[0].retry_ns
    assert desk.engine.next_due_ns() == due_ns
    desk.now_ns = due_ns + late_ns
    desk.give(e.MarketMoved(markets=(market("b", desk.now_ns),)))
    assert desk.engine.next_due_ns() <= desk.now_ns
    desk.give(e.ClockTicked())
    cancel_stop(desk)
    assert len(of_role(desk, OrderRole.EXIT)) == 2
    assert desk.engine.next_due_ns() > desk.now_ns
