"""A closing order never works on for lots that are gone, and one that does not trade keeps no stop away."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import KillLevel, LegState, OrderRole, RejectCode

from tests.support.orders import Desk, market

STOP, EXIT, TARGET = OrderRole.STOP_LOSS, OrderRole.EXIT, OrderRole.TAKE_PROFIT
CLOSE = m.SignalClose(signal_id="s1")


def desk_of(**able: object) -> Desk:
    desk = Desk("a")
    desk.link_up("a", **({"brackets": False} | able))
    return desk


def opened(desk: Desk, lots: int = 2, signal_id: str = "s1", **fields: object) -> m.Order:
    desk.signal("a", quantity=D(lots), signal_id=signal_id, **fields)
    entry = desk.only()
    desk.update(entry)
    desk.fill(entry)
    desk.update(entry, LegState.FILLED, lots)
    stop = desk.only(role=STOP)
    desk.update(stop)
    return stop


def resting(desk: Desk, lots: int = 2) -> m.Order:
    """A leg that is being closed: its stop has ended, and its closing order works."""
    stop = opened(desk, lots)
    desk.ask(CLOSE)
    desk.update(stop, LegState.CANCELLED)
    order = desk.only(role=EXIT)
    desk.update(order)
    return order


def by_hand(desk: Desk, order: m.Order, lots: int) -> None:
    """A person trades on the side of an order of ours."""
    number = len(desk.engine.state.executions)
    fill = desk.make_fill(order, lots, client_order_id="", exec_id=f"hand-{number}")
    desk.give(e.AdapterSaid(message=fill))


def cancels(desk: Desk) -> list[str]:
    sent = [each.message for each in desk.all_effects if isinstance(each, e.SendToPlatform)]
    return [each.client_order_id for each in sent if isinstance(each, m.Cancel)]


def live(desk: Desk) -> list[tuple[OrderRole, D]]:
    return [(each.role, each.leaves_qty) for each in desk.engine.state.orders.values() if each.live]


def alerts(desk: Desk) -> list[str]:
    return [each.text for each in desk.all_effects if isinstance(each, e.Alert)]


def set_hours(desk: Desk, is_open: bool, **fields: object) -> None:
    desk.give(e.MarketMoved(markets=(market("a", desk.wall_ns, session_open=is_open, **fields),)))


def kill(desk: Desk, level: KillLevel = KillLevel.FLATTEN, **fields: object) -> None:
    desk.ask(m.Kill(request_id=1, level=level, reason="x", by="me", **fields))


def flattening() -> tuple[Desk, m.Order]:
    """A kill level whose closing order for 3 lots of no leg works."""
    desk = Desk("b")
    desk.link_up("a", answer=False)
    desk.snapshot("a", positions=[("NQ", 3)])
    kill(desk)
    desk.wait(1_100)
    desk.snapshot("a", positions=[("NQ", 3)])
    order = desk.only(role=EXIT)
    desk.update(order)
    return desk, order


# Its lots are gone.


def test_lots_that_a_person_has_closed_are_not_sold_again_by_the_order_that_rests():
    desk = desk_of()
    order = resting(desk)
    by_hand(desk, order, 2)
    assert cancels(desk)[-1] == order.client_order_id
    desk.update(order, LegState.CANCELLED)
    assert live(desk) == []
    assert desk.report().state is m.SignalState.CLOSED


def test_what_a_person_has_left_is_closed_by_an_order_of_its_size():
    desk = desk_of()
    order = resting(desk, 4)
    by_hand(desk, order, 3)
    assert cancels(desk)[-1] == order.client_order_id
    assert live(desk) == [(EXIT, D(4))], "not before it has ended"
    desk.update(order, LegState.CANCELLED)
    assert live(desk) == [(STOP, D(1))]
    desk.update(desk.only(role=STOP))
    desk.wait(1_100)
    desk.update(desk.only(role=STOP), LegState.CANCELLED)
    assert live(desk) == [(EXIT, D(1))]


def test_a_late_fill_of_the_stop_ends_the_order_that_closes_the_same_lots():
    desk = desk_of(reduce_only=True)
    stop = opened(desk)
    desk.ask(CLOSE)
    desk.wait(1_100)
    order = desk.only(role=EXIT)
    desk.update(order)
    desk.fill(stop)
    assert cancels(desk)[-1] == order.client_order_id


def test_an_order_for_the_whole_account_ends_with_what_the_account_holds():
    desk, order = flattening()
    by_hand(desk, order, 1)
    assert cancels(desk) == [order.client_order_id]


def test_resume_ends_the_closing_orders_of_the_account_and_names_them():
    desk, order = flattening()
    desk.ask(m.Resume(request_id=2, by="me", reason="x"))
    assert cancels(desk) == [order.client_order_id]
    said = " ".join(desk.answers()[-1].lines)
    assert f"exit {order.client_order_id}: 3 NQ still works, its cancel was sent" in said


def test_the_order_of_an_unproven_flatten_is_not_cancelled_for_what_is_not_known():
    desk = desk_of()
    stop = opened(desk)
    lie = desk.make_fill(stop, 2, exec_id="lie", side=m.Side.BUY)  # a sell stop that has bought
    desk.give(e.AdapterSaid(message=lie))
    kill(desk, platform="a", unproven=True)
    order = desk.only(role=EXIT)
    assert order.client_order_id not in cancels(desk)


# It does not trade.


def test_an_order_that_rests_in_an_open_market_ends_and_the_stop_stands_again():
    desk = desk_of()
    order = resting(desk)
    desk.wait(9_900)
    assert cancels(desk)[-1] != order.client_order_id
    desk.wait(200)
    assert cancels(desk)[-1] == order.client_order_id
    desk.update(order, LegState.CANCELLED)
    assert live(desk) == [(STOP, D(2))]
    stop = desk.only(role=STOP)
    desk.update(stop)
    desk.wait(1_100)
    assert cancels(desk)[-1] == stop.client_order_id, "the next try, after a pause"


def test_what_trades_goes_on_resting():
    desk = desk_of()
    order = resting(desk, 3)
    for _ in range(2):
        desk.wait(9_000)
        desk.fill(order, 1)
    assert order.client_order_id not in cancels(desk)
    desk.wait(10_100)
    assert cancels(desk)[-1] == order.client_order_id


def test_an_order_that_waits_for_the_opening_is_given_time_behind_it():
    desk = desk_of()
    order = resting(desk)
    set_hours(desk, False)
    desk.wait(3_600_000)
    set_hours(desk, True)
    desk.wait(9_000)
    assert order.client_order_id not in cancels(desk)
    desk.wait(1_100)
    assert cancels(desk)[-1] == order.client_order_id


@pytest.mark.parametrize("how", ["close", "kill"])
def test_a_command_has_another_order_sent_at_once(how):
    desk = desk_of()
    order = resting(desk)
    desk.wait(1_100)
    desk.ask(CLOSE) if how == "close" else kill(desk)
    assert cancels(desk)[-1] == order.client_order_id
    desk.update(order, LegState.CANCELLED)
    again = desk.only(role=EXIT)
    assert again.client_order_id != order.client_order_id
    assert live(desk) == [(EXIT, D(2))]


def test_a_command_leaves_an_order_alone_that_waits_for_the_opening():
    desk = desk_of()
    order = resting(desk)
    set_hours(desk, False)
    desk.wait(2_000)
    kill(desk)
    assert order.client_order_id not in cancels(desk)


def test_an_order_of_the_account_that_rests_is_ended_too():
    desk, order = flattening()
    for _ in range(11):
        desk.wait(1_000)
    assert cancels(desk)[0] == order.client_order_id


# Other orders beside it.


def test_no_entry_opens_what_a_stop_and_a_closing_order_beside_it_could_both_close():
    desk = desk_of(reduce_only=True)
    opened(desk)
    desk.ask(CLOSE)
    desk.wait(1_100)
    assert {role for role, _ in live(desk)} == {STOP, EXIT}
    desk.signal("a", signal_id="s2")
    leg = desk.report("s2").legs[0]
    assert leg.code is RejectCode.OPPOSED_POSITION
    assert "could close on a what an entry opens now" in leg.text


def test_no_entry_opens_what_an_order_for_lots_that_are_gone_could_close():
    desk = desk_of()
    order = resting(desk)
    by_hand(desk, order, 2)
    desk.signal("a", signal_id="s2")
    assert desk.report("s2").legs[0].code is RejectCode.OPPOSED_POSITION
    desk.update(order, LegState.CANCELLED)
    desk.signal("a", signal_id="s3")
    assert desk.report("s3").legs[0].code is RejectCode.NONE


def test_an_entry_of_the_other_direction_is_judged_by_the_position_alone():
    desk = desk_of(reduce_only=True)
    opened(desk)
    desk.ask(CLOSE)
    desk.wait(1_100)
    desk.signal("a", signal_id="s2", side=m.Side.SELL)
    assert "would close it instead of opening" in desk.report("s2").legs[0].text


@pytest.mark.parametrize("is_open", [True, False])
def test_no_closing_order_leaves_beside_a_stop_while_an_entry_works_there(is_open):
    desk = desk_of(reduce_only=True)
    opened(desk)
    desk.signal("a", signal_id="s2", order_type=m.OrderType.LIMIT, limit_price=D(20995))
    entry = desk.only()
    desk.update(entry)
    set_hours(desk, is_open)
    desk.ask(CLOSE)
    desk.wait(1_100)
    assert [role for role, _ in live(desk)] == [STOP, OrderRole.ENTRY]
    desk.update(entry, LegState.CANCELLED)
    desk.wait(1_100)
    assert EXIT in [role for role, _ in live(desk)]


# Stops and targets that are left.


def test_the_platforms_own_stop_is_cancelled_when_it_works_on_after_the_target():
    desk = Desk("a", settings=e.EngineSettings(client_order_id_chars=22, await_brackets=True))
    desk.link_up("a", brackets=True)
    desk.signal("a", quantity=D(2), bracket=m.Bracket(stop_loss=D(20990), take_profit=D(21050)))
    entry = desk.only()
    desk.update(entry)
    desk.fill(entry)
    desk.update(entry, LegState.FILLED, 2)
    key = desk.engine.state.signals["s1"].key
    prices = {STOP: {"stop_price": D(20990)}, TARGET: {"limit_price": D(21050)}}
    types = {STOP: m.OrderType.STOP, TARGET: m.OrderType.LIMIT}
    made = {
        role: structs.replace(
            entry,
            client_order_id=m.client_order_id(key, 0, role, 0, 22),
            side=m.Side.SELL,
            stop_loss=None,
            take_profit=None,
            order_type=types[role],
            **prices[role],
        )
        for role in (STOP, TARGET)
    }
    for order in made.values():
        desk.update(order)
    desk.fill(made[TARGET])
    desk.update(made[TARGET], LegState.FILLED, 2)
    assert cancels(desk) == [], "the platform ends it itself"
    desk.wait(desk.settings.ack_ms + 100)
    assert cancels(desk) == [made[STOP].client_order_id]
    assert [each for each in alerts(desk) if "the platform has not ended stop_loss" in each]


def test_a_stop_that_ended_with_its_target_in_a_shut_market_stands_again_at_once():
    desk = desk_of(oco=True)
    stop = opened(desk, bracket=m.Bracket(stop_loss=D(20990), take_profit=D(21050)))
    target = desk.only(role=TARGET)
    desk.update(target)
    desk.ask(CLOSE)
    assert cancels(desk) == [target.client_order_id]
    desk.update(stop, LegState.CANCELLED)  # the platform ends the pair
    desk.update(target, LegState.CANCELLED)
    set_hours(desk, False)
    desk.reject(desk.only(role=EXIT))
    assert (STOP, D(2)) in live(desk)


def test_lots_that_fill_while_a_target_does_not_end_get_their_stop():
    desk = desk_of()
    desk.signal("a", quantity=D(2), bracket=m.Bracket(stop_loss=D(20990), take_profit=D(21050)))
    entry = desk.only()
    desk.update(entry)
    desk.fill(entry, 1)
    for role in (STOP, TARGET):
        desk.update(desk.only(role=role))
    desk.ask(CLOSE)
    desk.fill(entry, 1)  # it crosses its cancel
    target = desk.only(role=TARGET)
    desk.reject(target, RejectCode.CANCEL_REJECTED)
    desk.wait(1_100)
    assert sum(lots for role, lots in live(desk) if role is STOP) == D(2)
    assert EXIT not in [role for role, _ in live(desk)]


# What is said.


def test_the_order_in_the_way_is_named_and_alerted_again():
    desk = desk_of()
    opened(desk, bracket=m.Bracket(stop_loss=D(20990), take_profit=D(21050)))
    target = desk.only(role=TARGET)
    desk.update(target)
    desk.ask(CLOSE)
    for _ in range(360):
        desk.wait(1_000)
        if cancels(desk)[-1:] == [target.client_order_id]:
            desk.reject(target, RejectCode.CANCEL_REJECTED)
    assert desk.report().legs[0].text.startswith("its take profit works on, though its cancel was sent")
    assert len([each for each in alerts(desk) if "its take profit works on" in each]) == 2


def test_a_close_in_a_shut_market_says_so_where_it_is_tried_all_the_same():
    desk = desk_of(reduce_only=True)
    opened(desk)
    set_hours(desk, False, session_change_ns=1_760_000_000_000_000_000)
    desk.ask(CLOSE)
    desk.reject(desk.only(role=EXIT))
    text = desk.report().legs[0].text
    assert text.startswith("the market is shut until 2025-10-09 08:53 UTC by the calendar: a closing order is tried")


def test_the_hours_of_the_next_contract_are_those_of_the_one_that_is_held():
    desk = desk_of()
    opened(desk)
    set_hours(desk, False)
    desk.ask(CLOSE)
    set_hours(desk, True, contract="NQM7", bid=D(21100), ask=D("21100.25"))
    leg = desk.engine.state.signals["s1"].legs[0]
    assert (leg.market.session_open, leg.market.contract, leg.market.bid) == (True, "", D("20999.75"))
    assert len(cancels(desk)) == 1, "its stop, for the closing order that can trade now"


def test_two_reductions_share_what_is_left_when_the_stop_has_traded():
    desk = desk_of()
    stop = opened(desk, 4)
    for number in range(2):
        terms = {"side": m.Side.SELL, "reduce_only": True, "bracket": None}
        terms |= {"order_type": m.OrderType.LIMIT, "limit_price": D(21010)}
        desk.signal("a", signal_id=f"r{number}", quantity=D(2), **terms)
        desk.update(list(desk.orders.values())[-1])
    desk.fill(stop, 1)
    made = [each.message for each in desk.all_effects if isinstance(each, e.SendToPlatform)]
    assert [each.quantity for each in made if isinstance(each, m.Replace) and each.quantity < 2] == [1]
