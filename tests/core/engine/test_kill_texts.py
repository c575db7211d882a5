"""What `kill` and `resume` say while something is not done: what is the case, and what comes next."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.operator.outlook import is_news
from nexus_gateway.core.messages import KillLevel, LegState, OrderRole, RejectCode, Side

from tests.support.orders import SECOND, T0, Desk, market

OPENS_NS = T0 + 40 * 3_600 * SECOND  # 2025-10-11 00:53 UTC


def holding(**able: object) -> tuple[Desk, m.Fill]:
    """2 NQ with a working stop that the gateway keeps."""
    desk = Desk("b")
    desk.link_up("a", **({"brackets": False} | able))  # type: ignore[arg-type]  # a test names what it varies
    desk.signal("a")
    fill = desk.fill(desk.only())
    desk.update(desk.only(role=OrderRole.STOP_LOSS))
    return desk, fill


def kill(desk: Desk, level: KillLevel = KillLevel.FLATTEN, number: int = 9, platform: str = "a") -> None:
    desk.ask(m.Kill(request_id=number, level=level, reason="test", by="desk", platform=platform))


def resume(desk: Desk) -> m.AdminResult:
    desk.ask(m.Resume(request_id=2, reason="on", by="desk"))
    return desk.answers()[0]


def lines(desk: Desk, number: int = 9) -> list[str]:
    """All lines that the operator was given for one kill, in order."""
    results = [x.message for x in desk.all_effects if isinstance(x, e.AnswerAdmin)]
    return [line for each in results if each.request_id == number for line in each.lines]


def shut(desk: Desk, symbol: str = "NQ") -> None:
    desk.give(
        e.MarketMoved(
            markets=(market("a", desk.now_ns, symbol=symbol, session_open=False, session_change_ns=OPENS_NS),)
        )
    )


def theirs(side: Side, number: int = 1) -> m.WorkingOrder:
    return m.WorkingOrder(
        client_order_id=f"by hand {number}",
        symbol="NQ",
        side=side,
        state=LegState.WORKING,
        quantity=D(3),
        filled=D(0),
        platform_order_id=f"H{number}",
        order_type=m.OrderType.STOP,
        stop_price=D(20900),
    )


def test_other_figures_of_the_same_are_no_news() -> None:
    assert not is_news("holds +2 NQ, next try in 40 s", "holds +1.5 NQ, next try in 3 s")
    assert not is_news("shut until 2025-01-05 23:00 UTC", "shut until 2025-01-06 23:05 UTC")
    assert is_news("holds +2 NQ, its stop stands", "holds +2 NQ")


def test_in_an_open_market_each_step_is_told_once_and_the_last_line_is_verified() -> None:
    desk, fill = holding()
    stop = desk.only(role=OrderRole.STOP_LOSS)
    kill(desk)
    desk.snapshot("a", orders=[desk.row(stop)], fills=[fill], positions=[("NQ", 2)])
    desk.update(stop, LegState.CANCELLED)
    desk.wait(0)
    closed = desk.fill(desk.only(role=OrderRole.EXIT))
    for _ in range(3):
        desk.wait(1_100)
        if desk.engine.state.routes["a|acc"].request_pending:
            desk.snapshot("a", fills=[fill, closed])
    told = lines(desk)
    assert told[0] == "a|acc: flatten asked"
    assert all(line.startswith("a|acc: flatten not verified yet: ") for line in told[1:-1])
    assert any("holds +2 NQ: s1 is being closed: 2 NQ, its closing order is on its way" in line for line in told)
    assert told[-2] == "a|acc: flatten not verified yet: waits for a snapshot of the platform, requested 0 s ago"
    assert told[-1] == "a|acc: flatten verified"
    assert len(told) == len(set(told)) <= 7


def test_a_shut_market_is_named_with_its_opening_and_told_once() -> None:
    desk, _ = holding()
    desk.give(e.AdapterSaid(message=desk.make_fill(desk.only(), client_order_id="", side=Side.BUY)))  # by hand
    desk.engine.state.signals["s1"].legs[0].closing = False
    shut(desk)
    kill(desk, KillLevel.FLATTEN)
    for _ in range(20):
        desk.wait(1_000)
        shut(desk)
    said = "holds +4 NQ: market shut until 2025-10-11 00:53 UTC by the calendar"
    told = [line for line in lines(desk) if said in line]
    assert told
    assert told[-1].endswith("it is closed when the market opens")
    text = desk.engine.state.kills["a|acc"].text
    assert said in text
    assert len(told) <= 3, "not one each second"


def test_the_stop_of_a_person_stays_until_the_position_can_be_closed() -> None:
    desk = Desk("b")
    desk.link_up("a", answer=False)
    rows = [theirs(Side.SELL, 1), theirs(Side.BUY, 2)]
    desk.snapshot("a", orders=rows, positions=[("NQ", 3)])
    shut(desk)
    kill(desk)
    cancelled = [x.message.platform_order_id for x in desk.all_effects if _is_cancel(x)]
    assert cancelled == ["H2"], "what would add to the position goes"
    text = desk.engine.state.kills["a|acc"].text
    assert "1 external orders that protect NQ stay while the market is shut" in text
    assert "market shut until 2025-10-11 00:53 UTC by the calendar; its stop stays" in text
    desk.give(e.MarketMoved(markets=(market("a", desk.now_ns),)))
    cancelled = [x.message.platform_order_id for x in desk.all_effects if _is_cancel(x)]
    assert "H1" in cancelled[1:], "at once when it opens"


def test_cancel_all_cancels_the_stop_of_a_person_in_a_shut_market_too() -> None:
    desk = Desk("b")
    desk.link_up("a", answer=False)
    desk.snapshot("a", orders=[theirs(Side.SELL)], positions=[("NQ", 3)])
    shut(desk)
    kill(desk, KillLevel.CANCEL_ALL)
    assert [x.message.platform_order_id for x in desk.all_effects if _is_cancel(x)] == ["H1"]


def test_an_orphaned_stop_stays_in_a_shut_market() -> None:
    old, _ = holding()
    stop = old.only(role=OrderRole.STOP_LOSS)
    desk = Desk("b")
    desk.link_up("a", answer=False)
    desk.snapshot("a", orders=[desk.row(stop)], positions=[("NQ", 2)])
    shut(desk)
    kill(desk)
    assert not any(_is_cancel(x) for x in desk.all_effects)
    desk.give(e.MarketMoved(markets=(market("a", desk.now_ns),)))
    assert any(_is_cancel(x) for x in desk.all_effects)


def test_refusals_of_a_closing_order_are_counted_with_the_platforms_words() -> None:
    desk, fill = holding()
    stop = desk.only(role=OrderRole.STOP_LOSS)
    kill(desk)
    desk.snapshot("a", orders=[desk.row(stop)], fills=[fill], positions=[("NQ", 2)])
    for tries in range(1, 5):
        desk.update(stop, LegState.CANCELLED)
        desk.reject(desk.only(role=OrderRole.EXIT))
        stop = desk.only(role=OrderRole.STOP_LOSS)
        text = desk.engine.state.kills["a|acc"].text
        times = "once" if tries == 1 else f"{tries} times"
        pause = 2 ** (tries - 1)
        assert f"s1 is being closed: 2 NQ, closing order refused {times} (no), next try in {pause} s" in text
        desk.update(stop)
        desk.wait(1)
        assert "its stop stands" in desk.engine.state.kills["a|acc"].text
        desk.wait(pause * 1_000)


def test_a_refused_closing_order_for_lots_of_no_signal_is_named_too() -> None:
    desk = Desk("b")
    desk.link_up("a", answer=False)
    desk.snapshot("a", positions=[("NQ", 3)])
    kill(desk)
    for _ in range(4):
        desk.wait(1_100)
        if desk.engine.state.routes["a|acc"].request_pending:
            desk.snapshot("a", positions=[("NQ", 3)])
    desk.wait(0)
    said = "holds +3 NQ: the outcome of its closing order is unknown, snapshots are requested until one shows it; "
    assert desk.engine.state.kills["a|acc"].text == said + "else look at the platform and type `acknowledge`"
    desk.reject(desk.only(role=OrderRole.EXIT))
    said = "holds +3 NQ: closing order 1 was refused (no), the next one is sent after a snapshot"
    assert desk.engine.state.kills["a|acc"].text == said + "; NO stop of it works"


def test_an_account_whose_place_another_one_may_have_taken_is_named_so() -> None:
    desk, _ = holding()
    hello = desk.engine.state.routes["a|acc"].hello
    values = {name: getattr(hello, name) for name in hello.__struct_fields__} | {"account": "new"}
    desk.link_down("a")
    desk.give(e.LinkUp(hello=m.Hello(**values)))
    kill(desk)
    said = "it is not linked, if account new of a has taken its place: close it at the platform itself, then "
    assert desk.engine.state.kills["a|acc"].text.startswith(said)


def test_what_is_too_much_for_a_line_is_counted() -> None:
    desk = Desk("a")
    for number in range(5):
        desk.signal("a", signal_id=f"s{number}", order_type=m.OrderType.LIMIT, limit_price=D(20999), quantity=D(1))
        desk.update(desk.only())
    kill(desk, KillLevel.CANCEL_ALL)
    assert desk.engine.state.kills["a|acc"].text.endswith("; and 2 more orders")
    assert all(len(line) <= 512 for line in lines(desk))


def test_an_order_whose_cancels_come_to_nothing_is_named_by_kill_and_by_resume() -> None:
    desk = Desk("b")
    desk.link_up("a", brackets=False)
    desk.signal("a", order_type=m.OrderType.LIMIT, limit_price=D(20999), quantity=D(2))
    entry = desk.only()
    desk.update(entry)
    kill(desk, KillLevel.CANCEL_ALL)
    for _ in range(10):
        desk.reject(entry, RejectCode.CANCEL_REJECTED)
        desk.wait(2_000)
        if desk.engine.state.routes["a|acc"].request_pending:
            desk.snapshot("a", orders=[desk.row(entry)])
    sent = sum(_is_cancel(x) for x in desk.all_effects)
    assert sent >= 9
    said = f"entry {entry.client_order_id}: 2 NQ still works, its cancel was sent {sent} times and is sent again "
    said += "every 2 s"
    assert said in desk.engine.state.kills["a|acc"].text
    answer = resume(desk)
    assert answer.accepted
    assert f"a|acc: {said}; it is cancelled further" in answer.lines
    desk.wait(2_000)
    assert sum(_is_cancel(x) for x in desk.all_effects) == sent + 1


def test_a_silent_platform_is_named_with_the_age_of_its_silence() -> None:
    desk, _ = holding()
    kill(desk)
    assert "waits for" not in "".join(lines(desk))
    for _ in range(4):
        desk.wait(5_100)
    assert desk.engine.state.routes["a|acc"].overdue_since_ns
    text = desk.engine.state.kills["a|acc"].text
    assert text.startswith("no snapshot for 20 s: what it holds is unknown; ")
    assert sum("no snapshot for" in line for line in lines(desk)) == 1
    assert any("no snapshot for 20 s: what it holds is unknown" in line for line in resume(desk).lines)


def test_before_it_is_overdue_the_wait_for_a_snapshot_is_named() -> None:
    desk = Desk("a")
    kill(desk)
    desk.wait(4_000)
    assert desk.engine.state.kills["a|acc"].text == "waits for a snapshot of the platform, requested 4 s ago"


def test_a_link_that_is_down_is_named() -> None:
    desk, _ = holding()
    desk.link_down("a")
    kill(desk)
    text = desk.engine.state.kills["a|acc"].text
    assert text.startswith("its link is down: nothing can be sent, it goes on when the link is back")
    assert "holds +2 NQ" in text
    (line,) = (line for line in resume(desk).lines if line.startswith("a|acc: not connected"))
    assert "its link is down" in line


def test_an_account_that_is_not_configured_any_more_is_named_with_the_command() -> None:
    desk = Desk("b", settings=e.EngineSettings(client_order_id_chars=22, expected_platforms=("b",)))
    desk.link_up("a", answer=False)
    desk.snapshot("a", positions=[("NQ", 3)])
    desk.link_down("a")
    kill(desk)
    text = desk.engine.state.kills["a|acc"].text
    assert text.startswith("a is not in the configuration any more: close it at the platform itself, then ")
    assert "`nexus-gateway account retire a --account acc`; holds +3 NQ" in text


@pytest.mark.parametrize("step_s", [-3_600, 3_600])
def test_a_step_of_the_clock_changes_no_duration_and_no_opening(step_s: int) -> None:
    desk, fill = holding()
    stop = desk.only(role=OrderRole.STOP_LOSS)
    kill(desk)
    desk.snapshot("a", orders=[desk.row(stop)], fills=[fill], positions=[("NQ", 2)])
    desk.update(stop, LegState.CANCELLED)
    desk.reject(desk.only(role=OrderRole.EXIT))
    desk.give(e.ClockStepped(step_ns=step_s * SECOND))
    leg = desk.engine.state.signals["s1"].legs[0]
    leg.retry_ns = desk.engine.state.now_ns + 8 * SECOND
    desk.wait(0)
    assert "closing order refused once (no), next try in 8 s" in desk.engine.state.kills["a|acc"].text
    shut(desk)
    desk.wait(0)
    assert "market shut until 2025-10-11 00:53 UTC" in desk.engine.state.kills["a|acc"].text


def test_resume_names_what_is_still_being_closed_and_a_shut_market() -> None:
    desk, _ = holding()
    stop = desk.only(role=OrderRole.STOP_LOSS)
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.update(stop, LegState.CANCELLED)
    desk.reject(desk.only(role=OrderRole.EXIT))
    leg = desk.engine.state.signals["s1"].legs[0]
    leg.retry_ns = desk.engine.state.now_ns + 40 * SECOND
    answer = resume(desk)
    assert answer.accepted
    said = "a|acc: s1 is being closed: 2 NQ, closing order refused once (no), next try in 40 s, without a stop for 0 s"
    assert said in answer.lines
    shut(desk)
    assert "a|acc: NQ: market shut until 2025-10-11 00:53 UTC by the calendar" in resume(desk).lines


def test_severed_before_it_was_flat_says_what_was_left() -> None:
    desk, _ = holding()
    kill(desk, KillLevel.SEVER)
    for _ in range(12):
        desk.wait(1_000)
    desk.link_down("a")
    assert lines(desk)[-1].startswith("a|acc: sever was cut before it was flat: its link is cut: look at the platform")
    assert "holds +2 NQ" in lines(desk)[-1]
    assert not lines(desk)[-1].endswith(("verified", "severed and flat"))


def test_the_session_of_a_position_is_noted_by_account_and_symbol() -> None:
    desk, _ = holding()
    desk.snapshot("b") if desk.engine.state.routes["b|acc"].request_pending else None
    shut(desk, "ES")
    position = desk.engine.state.routes["a|acc"].positions["NQ"]
    assert (position.session_open, position.session_change_ns) == (True, 0)
    desk.give(e.MarketMoved(markets=(market("a", desk.now_ns, account="other", session_open=False),)))
    assert position.session_open
    shut(desk)
    assert (position.session_open, position.session_change_ns) == (False, OPENS_NS)


def _is_cancel(effect: object) -> bool:
    return isinstance(effect, e.SendToPlatform) and isinstance(effect.message, m.Cancel)
