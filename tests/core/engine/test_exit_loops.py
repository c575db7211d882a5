"""Nothing is sent at round-trip speed, nothing sleeps until the next snapshot, and what is in the way is said."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import KillLevel, LegState, OrderRole, RejectCode

from tests.support.orders import MS, Desk, market

STOP, EXIT, TARGET = OrderRole.STOP_LOSS, OrderRole.EXIT, OrderRole.TAKE_PROFIT
CLOSE = m.SignalClose(signal_id="s1")


def desk_of(**able: object) -> Desk:
    desk = Desk("a")
    desk.link_up("a", **({"brackets": False} | able))
    return desk


def opened(desk: Desk, lots: int = 2, **fields: object) -> tuple[m.Order, m.Fill]:
    desk.signal("a", quantity=D(lots), **fields)
    entry = desk.only()
    desk.update(entry)
    fill = desk.fill(entry)
    desk.update(entry, LegState.FILLED, lots)
    return entry, fill


def count(desk: Desk, role: OrderRole) -> int:
    return sum(m.find_client_order_id(each.client_order_id).role is role for each in desk.orders.values())


def live(desk: Desk) -> list[OrderRole]:
    return [order.role for order in desk.engine.state.orders.values() if order.live]


def child(desk: Desk, entry: m.Order, lots: int = 2) -> m.Order:
    """The stop that the platform makes of the entry's bracket."""
    order_id = m.client_order_id(desk.engine.state.signals["s1"].key, 0, STOP, 0, 22)
    terms = {"side": m.Side.SELL, "order_type": m.OrderType.STOP, "stop_price": D(20990), "quantity": D(lots)}
    return structs.replace(entry, client_order_id=order_id, **terms)


def answer(desk: Desk, fills: list, lots: int, rows: list | None = None) -> None:
    if desk.engine.state.routes["a|acc"].request_pending:
        known = [desk.row(each.order) for each in desk.engine.state.orders.values() if each.live and each.acked_ns]
        positions = [("NQ", lots)] if lots else []
        desk.snapshot("a", orders=known if rows is None else rows, fills=fills, positions=positions)


def kill(desk: Desk, level: KillLevel, **fields: object) -> None:
    desk.ask(m.Kill(request_id=1, level=level, reason="x", by="me", **fields))


def shut(desk: Desk) -> None:
    desk.give(e.MarketMoved(markets=(market("a", desk.now_ns, session_open=False),)))


def sent(desk: Desk, kind: type) -> list:
    return [x.message for x in desk.all_effects if isinstance(x, e.SendToPlatform) and isinstance(x.message, kind)]


def alerts(desk: Desk) -> list[str]:
    return [each.text for each in desk.all_effects if isinstance(each, e.Alert)]


@pytest.mark.parametrize("how", ["cancelled", "expired", "too late"])
def test_stops_that_end_at_once_are_not_sent_at_round_trip_speed(how):
    desk = desk_of()
    opened(desk)
    for _ in range(600):
        for record in [each for each in desk.engine.state.orders.values() if each.live and each.role is STOP]:
            if how == "too late":
                desk.reject(record.order, RejectCode.TOO_LATE_TO_SEND)
            else:
                desk.update(record.order, LegState(how))
        desk.wait(1_000)
    assert count(desk, STOP) < 30
    assert any("stops in a row did not stand" in text for text in alerts(desk))


@pytest.mark.parametrize("end", [LegState.CANCELLED, LegState.REJECTED])
def test_a_platforms_own_stop_that_ends_by_itself_is_kept_by_the_gateway(end):
    desk = desk_of(brackets=True)
    entry, _ = opened(desk)
    own = child(desk, entry)
    desk.update(own)
    desk.update(own, end)
    assert live(desk) == [STOP]
    assert any("its stop at the platform has ended" in text for text in alerts(desk))


def test_the_answer_to_a_replace_makes_room_for_the_next_one():
    desk = desk_of()
    desk.signal("a", quantity=D(3))
    entry = desk.only()
    desk.update(entry)
    desk.fill(entry, 1)
    stop = desk.only(role=STOP)
    desk.update(stop)
    desk.fill(entry, 1)
    desk.fill(entry, 1)
    desk.update(stop, quantity=D(2), replace_revision=1)
    assert [each.quantity for each in desk.sent(m.Replace)] == [3]


def test_a_replace_without_an_answer_covers_nothing_and_makes_no_ticks():
    desk = desk_of()
    desk.signal("a", quantity=D(2))
    entry = desk.only()
    desk.update(entry)
    fills = [desk.fill(entry, 1)]
    stop = desk.only(role=STOP)
    desk.update(stop)
    fills.append(desk.fill(entry, 1))
    desk.update(entry, LegState.FILLED, 2)
    assert desk.report().legs[0].unprotected_since_ns == desk.now_ns
    desk.now_ns += 2_001 * MS
    desk.give(e.ClockTicked())
    assert desk.engine.next_due_ns() > desk.now_ns
    for _ in range(15):
        desk.wait(1_000)
        second = desk.only(role=STOP)
        if second is not stop:
            desk.update(second)
        answer(desk, fills, 2, [structs.replace(desk.row(stop), quantity=D(1)), desk.row(second)])
    assert len(sent(desk, m.Replace)) == 1  # and a second stop takes the lot
    assert count(desk, STOP) == 2


def test_a_refused_cancel_is_not_repeated_when_the_market_shuts_meanwhile():
    desk = desk_of()
    opened(desk)
    stop = desk.only(role=STOP)
    desk.update(stop)
    desk.ask(CLOSE)
    desk.reject(stop, RejectCode.CANCEL_REJECTED)
    shut(desk)
    desk.ask(CLOSE)
    desk.all_effects.clear()
    for _ in range(10):
        desk.wait(1_000)
    assert not sent(desk, m.Cancel)
    assert "its stop stays" in desk.report().legs[0].text


def test_resume_after_cancel_all_gives_what_is_held_its_stop_at_once():
    desk = desk_of()
    _, fill = opened(desk)
    stop = desk.only(role=STOP)
    desk.update(stop)
    kill(desk, KillLevel.CANCEL_ALL)
    desk.update(stop, LegState.CANCELLED)
    answer(desk, [fill], 2)
    assert live(desk) == []
    desk.ask(m.Resume(request_id=2, by="me", reason="x"))
    assert live(desk) == [STOP]


def test_resume_repeats_no_cancel_of_a_stop_that_still_works():
    desk = desk_of()
    opened(desk)
    stop = desk.only(role=STOP)
    desk.update(stop)
    kill(desk, KillLevel.CANCEL_ALL)
    desk.reject(stop, RejectCode.CANCEL_REJECTED)
    desk.wait(1_000)
    desk.ask(m.Resume(request_id=2, by="me", reason="x"))
    desk.all_effects.clear()
    for _ in range(5):
        desk.wait(1_000)
    assert not sent(desk, m.Cancel)


def test_sever_is_not_cut_before_the_stop_that_stands_again_has_left():
    desk = desk_of()
    opened(desk)
    stop = desk.only(role=STOP)
    desk.update(stop)
    kill(desk, KillLevel.SEVER)
    desk.update(stop, LegState.CANCELLED)
    desk.reject(desk.only(role=EXIT))
    stop = desk.only(role=STOP)
    desk.update(stop)
    desk.wait(9_900)
    desk.update(stop, LegState.CANCELLED)
    desk.wait(300)
    desk.reject(desk.only(role=EXIT))
    kinds = [type(each).__name__ for each in desk.effects]
    assert live(desk) == [STOP]
    assert "CutLink" not in kinds[: kinds.index("SendToPlatform")]


def test_kill_names_the_stop_of_another_account_for_none_and_says_what_a_small_one_covers():
    desk = Desk("a", "b")
    desk.link_up("a", brackets=False)
    desk.signal("a", "b", quantity=D(2))
    for platform in "ab":
        entry = desk.only(platform)
        desk.update(entry)
        desk.fill(entry)
        desk.update(entry, LegState.FILLED, 2)
    shut(desk)
    desk.reject(desk.only("a", role=STOP))
    kill(desk, KillLevel.FLATTEN, platform="a")
    desk.wait(1_000)
    assert "NO stop of it works" in desk.engine.state.kills["a|acc"].text
    other = desk_of()
    opened(other)
    other.update(other.only(role=STOP))
    external = {"client_order_id": "", "exec_id": "e9", "side": m.Side.BUY}
    other.fill(other.only(), 5, **external)
    shut(other)
    kill(other, KillLevel.FLATTEN)
    assert "its stops cover 2 of 7" in other.engine.state.kills["a|acc"].text


def test_a_platforms_stop_that_does_not_cover_is_no_protection():
    desk = desk_of(brackets=True)
    entry, _ = opened(desk)
    desk.update(child(desk, entry, 1))
    assert desk.report().legs[0].unprotected_since_ns


def test_a_retired_account_that_links_again_keeps_its_stop():
    desk = desk_of()
    _, fill = opened(desk)
    stop = desk.only(role=STOP)
    desk.update(stop)
    desk.ask(CLOSE)
    desk.link_down()
    desk.ask(m.AccountRetire(request_id=1, platform="a", account="acc", confirmation="acc", by="me"))
    desk.wait(5_000)
    desk.all_effects.clear()
    desk.link_up("a", brackets=False, answer=False)
    desk.snapshot("a", orders=[desk.row(stop)], fills=[fill], positions=[("NQ", 2)])
    desk.wait(3_000)
    assert not sent(desk, m.Cancel)


def test_a_missing_execution_is_asked_for_without_another_event():
    desk = desk_of()
    desk.signal("a", quantity=D(2))
    entry = desk.only()
    desk.update(entry)
    desk.update(entry, LegState.FILLED, 2)
    assert desk.engine.next_due_ns() - desk.now_ns <= 1_000 * MS


def test_by_ticket_no_more_is_closed_than_the_platform_has_left_to_report():
    desk = desk_of(mode=m.AccountMode.HEDGING, brackets=True)
    desk.signal("a")
    entry = desk.only()
    desk.update(entry)
    desk.fill(entry, position_ticket="T1")
    desk.update(entry, LegState.FILLED, 2)
    desk.ask(CLOSE)
    closing = desk.only(role=EXIT)
    desk.update(closing)
    desk.update(closing, LegState.CANCELLED, 1)
    desk.wait(2_000)
    assert desk.only(role=EXIT).quantity == 1


@pytest.mark.parametrize("way", ["the closing order rests", "a reduction rests"])
def test_a_close_that_gets_nowhere_says_so_and_alerts_again(way):
    desk = desk_of()
    _, fill = opened(desk)
    stop = desk.only(role=STOP)
    desk.update(stop)
    if way == "a reduction rests":
        limit = {"order_type": m.OrderType.LIMIT, "limit_price": D(21100), "bracket": None}
        desk.signal("a", signal_id="r", side=m.Side.SELL, reduce_only=True, **limit)
        desk.update(desk.only())
    desk.ask(CLOSE)
    if way == "a reduction rests":
        desk.reject(desk.only(), RejectCode.CANCEL_REJECTED)
    else:
        desk.update(stop, LegState.CANCELLED)
        desk.update(desk.only(role=EXIT))
    for _ in range(240):
        desk.wait(5_000)
        answer(desk, [fill], 2)
    assert desk.report().legs[0].text
    assert 3 <= len([text for text in alerts(desk) if "still holds +2 NQ" in text]) <= 5


@pytest.mark.parametrize("how", ["link_down", "cancelled"])
def test_hedges_that_trade_nothing_are_tried_more_and_more_rarely_with_alerts(how):
    desk = Desk("a", "b")
    desk.signal("a", "b", policy=m.FanOut(kind=m.FanOutKind.PRIMARY_THEN_HEDGE))
    entry = desk.only("a")
    desk.update(entry)
    desk.fill(entry)
    desk.update(entry, LegState.FILLED, 2)
    for _ in range(300):
        for record in [each for each in desk.engine.state.orders.values() if each.live]:
            if how == "link_down":
                desk.reject(record.order, RejectCode.LINK_DOWN)
            else:
                desk.update(record.order, LegState.CANCELLED)
        desk.wait(1_000)
    assert 6 <= count(desk, OrderRole.HEDGE) <= 12
    assert any("hedges in a row have traded nothing; 2 lots are not hedged" in text for text in alerts(desk))


def test_the_stop_has_its_own_second_after_a_target_that_took_long_to_end():
    desk = desk_of()
    opened(desk, 2, bracket=m.Bracket(stop_loss=D(20990), take_profit=D(21050)))
    stop, target = desk.only(role=STOP), desk.only(role=TARGET)
    desk.update(stop)
    desk.update(target)
    desk.ask(CLOSE)
    desk.wait(1_500)
    desk.all_effects.clear()
    desk.update(target, LegState.CANCELLED)
    assert not alerts(desk)
    assert [each.client_order_id for each in sent(desk, m.Cancel)] == [stop.client_order_id]


def test_where_a_stop_lives_is_said_of_one_that_works():
    desk = desk_of(stops_at=m.StopPlace.EXCHANGE)
    opened(desk)
    assert desk.report().legs[0].stop_at is m.StopPlace.UNKNOWN
    desk.update(desk.only(role=STOP))
    assert desk.report().legs[0].stop_at is m.StopPlace.EXCHANGE


def test_a_close_between_two_attempts_says_what_the_last_one_came_to_and_not_what_was_in_the_way_before():
    desk = desk_of()
    _, fill = opened(desk)
    desk.ask(CLOSE)
    for _ in range(4):
        desk.update(desk.only(role=STOP), LegState.CANCELLED)
        desk.reject(desk.only(role=EXIT))
        desk.wait(20_000)
        answer(desk, [fill], 2)
    desk.update(desk.only(role=STOP), LegState.CANCELLED)
    desk.reject(desk.only(role=EXIT))
    desk.update(desk.only(role=STOP))
    desk.link_down()
    assert "not connected" in desk.report().legs[0].text
    desk.link_up("a", answer=False, brackets=False)
    answer(desk, [fill], 2)
    assert "closing orders in a row have traded nothing, the last one: no" in desk.report().legs[0].text


def test_each_closing_order_does_not_wait_again_for_an_entry_whose_cancel_is_not_answered():
    """A thin book: each closing order trades a lot, and the rest of the entry works on. A second was lost a lot."""
    desk = desk_of()
    desk.signal("a", quantity=D(4))
    entry = desk.only()
    desk.update(entry)
    desk.fill(entry, 3)
    desk.update(desk.only(role=STOP))
    desk.ask(CLOSE)
    desk.update(desk.only(role=STOP), LegState.CANCELLED)
    assert not count(desk, EXIT)  # the entry's end is waited for
    desk.wait(1_100)
    for tried in range(1, 4):
        assert count(desk, EXIT) == tried
        desk.fill(desk.only(role=EXIT), 1)
        desk.update(desk.only(role=EXIT), LegState.CANCELLED, 1)
    assert desk.position() == 0


def test_a_close_in_a_shut_market_says_that_its_stop_stays_once_another_trade_makes_that_so():
    """Reduce-only beside a stop is tried where but one of both can fill: a person's lots beside them end that."""
    desk = desk_of(reduce_only=True)
    opened(desk)
    desk.update(desk.only(role=STOP))
    shut(desk)
    desk.ask(CLOSE)
    desk.reject(desk.only(role=EXIT))
    assert "tried every five minutes" in desk.report().legs[0].text
    hand = structs.replace(desk.only(), client_order_id="by hand", quantity=D(1))
    desk.fill(hand, 1)
    assert "its stop stays" in desk.report().legs[0].text
