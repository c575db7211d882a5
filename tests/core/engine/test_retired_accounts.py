"""`account retire`: an account that is not configured any more ends by an operator's statement; none waits for it."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import KillLevel, LegState, OrderRole, RejectCode, Side, SignalState

from tests.support.orders import SECOND, Desk


def new_desk(*platforms: str, **able: object) -> Desk:
    """Platform `b` is configured, `a` was: it has linked before, and is traded until its link goes down."""
    desk = Desk(*(platforms or ("b",)), settings=e.EngineSettings(client_order_id_chars=22, expected_platforms=("b",)))
    desk.link_up("a", **({"brackets": False} | able))  # type: ignore[arg-type]  # a test names what it varies
    return desk


def traded_desk() -> Desk:
    """On `a`: 2 lots of s1 with a working stop, a limit entry of s2 that works, and 3 lots of a person."""
    desk = new_desk()
    desk.signal("a")
    entry = desk.only()
    fill = desk.fill(entry)
    desk.update(desk.only(role=OrderRole.STOP_LOSS))
    desk.signal("a", signal_id="s2", order_type=m.OrderType.LIMIT, limit_price=D(20999), quantity=D(1))
    desk.update(desk.only())
    desk.wait(31_000)
    rows = [desk.row(desk.only(role=OrderRole.STOP_LOSS)), desk.row(desk.only()), theirs()]
    for _ in range(2):
        desk.snapshot("a", orders=rows, fills=[fill], positions=[("NQ", 5)])
        desk.wait(1_100)
    if desk.engine.state.routes["a|acc"].request_pending:
        desk.snapshot("a", orders=rows, fills=[fill], positions=[("NQ", 5)])
    assert desk.position() == 5
    desk.link_down("a")
    return desk


def theirs(**changes: object) -> m.WorkingOrder:
    values: dict = {
        "client_order_id": "by hand",
        "symbol": "NQ",
        "side": Side.SELL,
        "state": LegState.WORKING,
        "quantity": D(3),
        "filled": D(0),
        "platform_order_id": "H1",
        "order_type": m.OrderType.STOP,
        "stop_price": D(20900),
    }
    return m.WorkingOrder(**(values | changes))


def retire(desk: Desk, platform: str = "a", account: str = "", confirmation: str = "acc") -> m.AdminResult:
    desk.ask(m.AccountRetire(request_id=4, platform=platform, account=account, by="ops", confirmation=confirmation))
    return next(answer for answer in desk.answers() if answer.request_id == 4)


def test_without_the_name_it_says_what_is_held_and_changes_nothing() -> None:
    desk = traded_desk()
    before = desk.engine.digest()
    answer = retire(desk, confirmation="")
    assert (answer.accepted, answer.done) == (True, False)
    text = "\n".join(answer.lines)
    stop, entry = desk.only(role=OrderRole.STOP_LOSS), desk.only()
    for said in (
        "a|acc: position +5 NQ; the platform has last reported 5",
        "a|acc: +3 NQ of these belong to no signal",
        "a|acc: signal s1 holds +2 NQ",
        f"a|acc: stop loss {stop.client_order_id}: sell 2 NQ, working",
        f"a|acc: entry {entry.client_order_id}: buy 1 NQ, working",
        "a|acc: external order H1: sell 3 NQ, working",
    ):
        assert said in text
    assert "type the name of the account: acc" in answer.text
    assert desk.engine.digest() == before


def test_everything_there_ends_by_the_statement_and_its_result_is_not_known() -> None:
    desk = traded_desk()
    answer = retire(desk)
    assert (answer.accepted, answer.done) == (True, True)
    route = desk.engine.state.routes["a|acc"]
    assert route.retired_ns == desk.engine.state.now_ns
    assert not any((route.live, route.positions, route.external_orders, route.holding_signals))
    assert not desk.engine.state.active
    report = desk.report()
    (leg,) = report.legs
    assert (report.state, leg.open_quantity, leg.realized_usd) == (SignalState.CLOSED, 0, None)
    assert (leg.code, leg.text) == (
        RejectCode.GONE_AT_PLATFORM,
        "2 lots closed by an operator's statement, account retired: their result is not known",
    )
    assert desk.report("s2").state is SignalState.NOT_FILLED
    assert {told.signal_id for told in desk.told()} == {"s1", "s2"}


def test_nothing_waits_for_it_and_it_is_shown_in_one_line() -> None:
    desk = traded_desk()
    desk.engine.agreed_ns["a|acc"] = desk.now_ns
    desk.ask(m.Kill(request_id=9, level=KillLevel.FLATTEN, reason="x", by="ops"))
    desk.snapshot("b")
    desk.ask(m.Resume(request_id=2, reason="on", by="ops"))
    (refused,) = desk.answers()
    assert not refused.accepted
    assert "a is not in the configuration any more" in refused.lines[0]
    assert "`nexus-gateway account retire a --account acc`" in refused.lines[0]
    retire(desk)
    waiting = [answer for answer in desk.answers() if answer.request_id == 9]
    assert [answer.lines for answer in waiting] == [("a|acc: flatten not verified: the account was retired",)]
    desk.ask(m.Kill(request_id=10, level=KillLevel.FLATTEN, reason="x", by="ops"))
    assert desk.answers()[0].lines == ("b|acc: flatten asked",)
    desk.ask(m.Kill(request_id=11, level=KillLevel.FLATTEN, reason="x", by="ops", platform="a"))
    assert desk.answers()[0].lines == ("a: no account of it has connected since a|acc was retired",)
    desk.snapshot("b")
    desk.ask(m.Resume(request_id=3, reason="on", by="ops"))
    assert desk.answers()[0].lines == ("b|acc: normal",)
    desk.ask(m.Query(request_id=1, what=m.QueryKind.STATUS))
    assert [line for line in desk.answers()[0].lines if line.startswith("a|acc")] == [
        "a|acc: retired 2025-10-09 08:53 UTC"
    ]
    for what in (m.QueryKind.POSITIONS, m.QueryKind.WORKING_ORDERS):
        desk.ask(m.Query(request_id=1, what=what))
        assert [answer.platform for answer in desk.answers()] == ["b"]
    desk.ask(m.Query(request_id=1, what=m.QueryKind.ACCOUNT_STATE, platform="a"))
    (state,) = desk.answers()
    assert (state.positions, state.linked, state.retired_ns) == (
        (),
        False,
        desk.engine.state.routes["a|acc"].retired_ns,
    )
    assert state.reconciled_ns == 0, "a comparison of before it was retired says nothing any more"
    desk.ask(m.Resume(request_id=3, reason="on", by="ops", platform="a"))
    assert "no account of a has connected since a|acc was retired" in desk.answers()[0].text


def test_a_signal_for_it_is_refused_as_for_a_platform_that_never_linked() -> None:
    desk = traded_desk()
    retire(desk)
    for target in (m.Target(platform="a"), m.Target(platform="a", account="acc")):
        desk.signal("a", signal_id=f"t{target.account}", targets=(target,))
        assert desk.report(f"t{target.account}").legs[0].code is RejectCode.PLATFORM_UNKNOWN


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"platform": "b"}, "b|acc is linked"),
        ({"platform": "c"}, "no account c is known; known are: a|acc, b|acc"),
        ({"account": "other"}, "no account a|other is known; known are: a|acc, b|acc"),
        ({"confirmation": "ac"}, "the name was 'ac', must be 'acc'; nothing was changed"),
    ],
)
def test_it_is_refused_with_its_reason(fields: dict[str, str], said: str) -> None:
    desk = traded_desk()
    before = desk.engine.digest()
    answer = retire(desk, **fields)
    assert (answer.accepted, answer.done, answer.code) == (False, False, RejectCode.NOT_ALLOWED)
    assert said in answer.text
    assert desk.engine.digest() == before


def test_one_that_is_configured_is_refused_until_another_account_has_taken_its_place() -> None:
    desk = traded_desk()
    desk.link_down("b")
    refused = retire(desk, platform="b")
    assert "b|acc is still configured, only its link is down" in refused.text
    hello = desk.engine.state.routes["b|acc"].hello
    values = {name: getattr(hello, name) for name in hello.__struct_fields__} | {"account": "acc2"}
    desk.give(e.LinkUp(hello=m.Hello(**values)))
    assert retire(desk, platform="b").done
    again = retire(desk, platform="b", account="acc")
    assert "b|acc is retired already, since 2025-10-09" in again.text
    assert "is linked" in retire(desk, platform="b").text  # acc2, the only one in use


def test_a_contradiction_and_unreported_lots_end_with_it() -> None:
    desk = new_desk()
    desk.signal("a")
    entry = desk.only()
    desk.update(entry, LegState.PARTIALLY_FILLED, filled=1)  # its execution never comes
    desk.signal("a", signal_id="s2")
    lie = desk.make_fill(desk.only(), side=Side.SELL)
    desk.give(e.AdapterSaid(message=lie))
    route = desk.engine.state.routes["a|acc"]
    assert route.contradictions
    assert route.unreported_orders
    desk.link_down("a")
    answer = retire(desk, confirmation="")
    assert any("contradiction: wrong_side of x1" in line for line in answer.lines)
    assert any("executions of 1 lots were never reported" in line for line in answer.lines)
    assert retire(desk).done
    assert not any((route.contradictions, route.unreported_orders, route.live))
    assert not desk.engine.state.active


def test_a_severed_account_that_is_retired_may_link_again() -> None:
    desk = traded_desk()
    desk.ask(m.Kill(request_id=9, level=KillLevel.SEVER, reason="x", by="ops", platform="a"))
    for _ in range(12):
        desk.wait(1_000)
    assert desk.engine.state.routes["a|acc"].severed
    assert retire(desk).done
    desk.link_up("a", answer=False, brackets=False)
    assert desk.engine.state.routes["a|acc"].up


def test_when_it_links_again_it_is_a_new_account_and_old_orders_are_known() -> None:
    desk = traded_desk()
    stop, entry = desk.only(role=OrderRole.STOP_LOSS), desk.only()
    fill = next(event.message for _, event in desk.events if isinstance(getattr(event, "message", None), m.Fill))
    retire(desk)
    desk.now_ns += 60 * SECOND
    desk.link_up("a", answer=False, brackets=False)
    route = desk.engine.state.routes["a|acc"]
    assert (route.retired_ns, route.reconciled_before) == (0, False)
    rows = [desk.row(stop), desk.row(entry)]
    desk.snapshot("a", orders=rows, fills=[fill], positions=[("NQ", 2)])
    position = route.positions["NQ"]
    assert (position.net, position.external, position.blocked) == (2, 2, False)
    assert desk.count("duplicate_fill") == 0
    assert desk.engine.state.orders[stop.client_order_id].live
    # Its stop protects what is held there, the entry would open what no signal waits for any more.
    desk.wait(2_100)
    cancelled = [x.message.client_order_id for x in desk.all_effects if _is_cancel(x)]
    assert cancelled == [entry.client_order_id]
    desk.update(entry, LegState.CANCELLED)
    # The stop fills: what it closes is the account's.
    closed = desk.fill(stop)
    for _ in range(3):
        desk.wait(1_100)
        if route.request_pending:
            desk.snapshot("a", fills=[fill, closed])
    assert (desk.position(), position.external, desk.report().legs[0].open_quantity) == (0, 0, 0)


def _is_cancel(effect: object) -> bool:
    return isinstance(effect, e.SendToPlatform) and isinstance(effect.message, m.Cancel)


def test_under_a_kill_of_all_platforms_it_comes_back_under_its_level() -> None:
    desk = traded_desk()
    retire(desk)
    desk.ask(m.Kill(request_id=9, level=KillLevel.REDUCE_ONLY, reason="x", by="ops"))
    desk.link_up("a", brackets=False)
    assert desk.engine.state.kills["a|acc"].level is KillLevel.REDUCE_ONLY


def test_the_replay_of_it_is_the_same() -> None:
    desk = traded_desk()
    retire(desk)
    desk.link_up("a", answer=False, brackets=False)
    again = e.Engine(desk.settings, desk.limits)
    for now_ns, event in desk.events:
        again.handle(event, now_ns)
    assert again.digest() == desk.engine.digest()
    assert e.Engine.load(desk.engine.save()).digest() == desk.engine.digest()


def test_tickets_of_a_hedging_account_end_too() -> None:
    desk = new_desk(mode=m.AccountMode.HEDGING, brackets=True)
    desk.signal("a")
    desk.fill(desk.only(), position_ticket="t1")
    desk.link_down("a")
    assert retire(desk).done
    route = desk.engine.state.routes["a|acc"]
    assert not any((route.tickets, route.ticket_owner, route.positions))
    desk.link_up("a", mode=m.AccountMode.HEDGING, answer=False)
    desk.snapshot("a", positions=[("NQ", 2, "t1")], fills=[])
    assert desk.position() == 2
    (order,) = [desk.only()]
    closed = desk.make_fill(order, client_order_id="", side=Side.SELL, position_ticket="t1")
    desk.give(e.AdapterSaid(message=closed))
    assert (desk.position(), desk.report().legs[0].open_quantity) == (0, 0)


def test_its_equity_leaves_the_limits_with_the_day() -> None:
    desk = traded_desk()
    funds = {"platform": "a", "account": "acc", "currency": "EUR", "balance": D(1), "equity": D(900)}
    desk.give(e.AdapterSaid(message=m.Account(**funds, as_of_ns=desk.now_ns)))
    state = desk.engine.state
    assert state.day.unpriced_accounts  # there is no rate: entries would be refused for ever
    state.day.set_equity("a|acc", D(900), D(1000))
    retire(desk)
    assert not state.day.unpriced_accounts
    assert state.day.loss_usd() == 100  # today's loss stays today's
    desk.wait(86_400_000)
    assert "a|acc" not in state.day.equity


def test_what_an_account_out_of_the_configuration_holds_is_alerted_at_each_start_until_it_is_retired():
    desk = traded_desk()
    assert e.accounts_left(desk.engine.state) == ["a|acc"]
    desk.give(e.Started(boot_id="next", settings=desk.settings, limits=desk.limits))
    assert [each.text for each in desk.effects if isinstance(each, e.Alert) and "out of the configuration" in each.text]
    retire(desk)
    assert e.accounts_left(desk.engine.state) == []
    desk.give(e.Started(boot_id="another", settings=desk.settings, limits=desk.limits))
    assert not [each for each in desk.effects if isinstance(each, e.Alert)]
