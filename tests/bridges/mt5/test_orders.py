"""Orders through the real bridge of MetaTrader 5 to a stand-in terminal: what is sent there, what is told of it."""

from __future__ import annotations

import time
from decimal import Decimal
from types import SimpleNamespace

import pytest
from nexus_gateway.adapters.base import LinkLostError
from nexus_gateway.core import messages as m
from nexus_gateway.shm.symbols import Symbol

from tests.mt5_terminal.attached import pend, send
from tests.mt5_terminal.module import MetaTrader5 as mt5
from tests.support.mt5_benches import Mt5Bench
from tests.support.mt5_bridges import load_bridge

ONE = Decimal(1)
DEAL, PENDING, SLTP, MODIFY, REMOVE = 1, 5, 6, 7, 8
WORKING = m.LegState.WORKING
LIMIT, STOP, STOP_LIMIT = m.OrderType.LIMIT, m.OrderType.STOP, m.OrderType.STOP_LIMIT


@pytest.fixture
def bench(tmp_path):
    with Mt5Bench(tmp_path, margin_mode="netting") as bench:
        yield bench.start()


@pytest.fixture
def hedging(tmp_path):
    with Mt5Bench(tmp_path, margin_mode="hedging") as bench:
        yield bench.start()


def child_of(entry: m.Order, role: m.OrderRole) -> str:
    parts = m.find_client_order_id(entry.client_order_id)
    return parts.id_of(role)


def rows_of(snapshot: m.Snapshot, order: m.Order | str) -> list[m.WorkingOrder]:
    order_id = order if isinstance(order, str) else order.client_order_id
    return [row for row in snapshot.working_orders.rows if row.client_order_id == order_id]


def executions(snapshot: m.Snapshot, order: m.Order) -> list[m.Fill]:
    return [fill for fill in snapshot.executions.rows if fill.client_order_id == order.client_order_id]


# What is sent.


def test_a_market_order_as_it_reaches_the_terminal(bench):
    order = bench.place("2")
    (fill,) = bench.wait_filled(order)
    bench.wait_state(order, m.LegState.FILLED)
    (request,) = bench.sent()
    assert request["magic"] == m.magic_number(order.client_order_id)
    assert request["comment"] == order.client_order_id
    assert (request["action"], request["symbol"], request["volume"], request["type"]) == (DEAL, "NQZ26", 2.0, 0)
    assert (request["type_filling"], request["price"], request["sl"], request["tp"]) == (0, 0, 0, 0)
    (deal,) = bench.stand_in.truth().trades()
    assert fill.exec_id == str(deal["ticket"])
    assert (fill.price, fill.quantity, fill.side) == (Decimal("18000.25"), 2, m.Side.BUY)
    assert fill.ts_event_ns == deal["time_msc"] * 1_000_000
    assert bench.pending_commands == 0


@pytest.mark.parametrize(
    ("order_type", "prices", "wanted"),
    [
        (LIMIT, {"limit_price": Decimal("17000.25")}, {"type": 2, "price": 17000.25, "stoplimit": 0.0}),
        (STOP, {"stop_price": Decimal(19000)}, {"type": 4, "price": 19000.0, "stoplimit": 0.0}),
        (
            STOP_LIMIT,
            {"stop_price": Decimal(19000), "limit_price": Decimal(19010)},
            {"type": 6, "price": 19000.0, "stoplimit": 19010.0},
        ),
    ],
    ids=["limit", "stop", "stop_limit"],
)
def test_pending_orders_work_and_are_cancelled(bench, order_type, prices, wanted):
    order = bench.place("1", order_type, **prices)
    update = bench.wait_state(order, m.LegState.WORKING)
    (request,) = bench.sent(PENDING)
    assert {key: request[key] for key in wanted} == wanted
    assert (request["type_filling"], request["type_time"]) == (2, 1), "RETURN, for the day"
    assert (update.order_type, update.limit_price, update.stop_price) == (
        order_type,
        prices.get("limit_price"),
        prices.get("stop_price"),
    )
    (row,) = rows_of(bench.snapshot(), order)
    assert (row.limit_price, row.stop_price, row.state) == (update.limit_price, update.stop_price, m.LegState.WORKING)
    bench.cancel(order)
    bench.wait_state(order, m.LegState.CANCELLED)
    bench.listen(0.3)
    assert len(bench.updates(order)) == 2
    assert bench.pending_commands == 0


def test_times_in_force(bench):
    until_ns = (time.time_ns() // 10**9 + 3600) * 10**9
    for tif, terms, wanted in (
        (m.TimeInForce.GTC, {}, (0, 0)),
        (m.TimeInForce.DAY, {}, (1, 0)),
        (m.TimeInForce.GTD, {"good_till_ns": until_ns}, (2, until_ns // 10**9)),
    ):
        bench.rest(time_in_force=tif, **terms)
        request = bench.sent(PENDING)[-1]
        assert (request["type_time"], request["expiration"]) == wanted
    for tif, filling in ((m.TimeInForce.FOK, 0), (m.TimeInForce.IOC, 1)):
        bench.wait_filled(bench.place(time_in_force=tif))
        assert bench.sent(DEAL)[-1]["type_filling"] == filling
    sends = bench.sends
    for order in (
        bench.place("1", LIMIT, limit_price=Decimal(17000), time_in_force=m.TimeInForce.IOC),
        bench.place(time_in_force=m.TimeInForce.GTD, good_till_ns=until_ns),
    ):
        bench.wait_reject(order, m.RejectCode.UNSUPPORTED_TIF)
    assert bench.sends == sends


def test_the_expiration_is_by_the_servers_clock(tmp_path):
    with Mt5Bench(tmp_path, "b3") as bench:
        bench.start(130_000, 130_005)
        until_ns = (time.time_ns() // 10**9 + 3600) * 10**9
        bench.rest("1", "120000", time_in_force=m.TimeInForce.GTD, good_till_ns=until_ns)
        assert bench.sent(PENDING)[0]["expiration"] == until_ns // 10**9 - 3 * 3600


@pytest.mark.parametrize(
    ("quantity", "terms", "code", "words"),
    [
        ("1.5", {}, m.RejectCode.NOT_ON_LOT_STEP, "traded in 1"),
        ("501", {}, m.RejectCode.PLATFORM_REJECTED, "takes 1 to 500"),
        ("1", {"order_type": LIMIT, "limit_price": Decimal("17000.10")}, m.RejectCode.NOT_ON_TICK, "0.25"),
        ("1", {"order_type": STOP, "stop_price": Decimal("19000.01")}, m.RejectCode.NOT_ON_TICK, "0.25"),
        ("1", {"stop_loss": Decimal(17000)}, m.RejectCode.UNSUPPORTED_BRACKET, "netting"),
        ("1", {"close_ticket": "5"}, m.RejectCode.UNSUPPORTED_TYPE, "hedging"),
        ("1", {"oco_group": "g"}, m.RejectCode.UNSUPPORTED_TYPE, "OCO"),
        ("1", {"symbol": "ES"}, m.RejectCode.IDENTITY_MISMATCH, "not subscribed"),
        ("1", {"account": "4711"}, m.RejectCode.PLATFORM_REJECTED, "the terminal has"),
        ("1", {"not_after_s": -1.0}, m.RejectCode.TOO_LATE_TO_SEND, "after the time"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_here_and_never_rounded(bench, quantity, terms, code, words):
    order = bench.place(quantity, **terms)
    reject = bench.wait_reject(order, code)
    assert words in reject.text
    bench.until(lambda: bench.pending_commands == 0)
    assert bench.sent() == []


def test_what_a_symbol_cannot_is_refused_with_a_code(tmp_path):
    with Mt5Bench(tmp_path) as bench:
        # Market and limit orders, for the day, without IOC.
        bench.stand_in.set_symbol(bench.name, order_mode=3, expiration_mode=2, filling_mode=1)
        bench.start()
        resting = {"limit_price": Decimal(17000)}
        for terms, code in (
            ({"order_type": STOP, "stop_price": Decimal(19000)}, m.RejectCode.UNSUPPORTED_TYPE),
            ({"order_type": LIMIT, **resting, "time_in_force": m.TimeInForce.GTC}, m.RejectCode.UNSUPPORTED_TIF),
            ({"time_in_force": m.TimeInForce.IOC}, m.RejectCode.UNSUPPORTED_TIF),
        ):
            bench.wait_reject(bench.place(**terms), code)
        assert bench.sent() == []
        bench.rest()
        bench.wait_filled(bench.place())


# What the server answers.


@pytest.mark.parametrize(
    ("retcode", "code", "words"),
    [
        (10006, m.RejectCode.PLATFORM_REJECTED, "10006 REJECT"),
        (10013, m.RejectCode.PLATFORM_REJECTED, "10013 INVALID"),
        (10014, m.RejectCode.NOT_ON_LOT_STEP, "INVALID_VOLUME"),
        (10018, m.RejectCode.SESSION_CLOSED, "MARKET_CLOSED"),
        (10019, m.RejectCode.PLATFORM_REJECTED, "NO_MONEY"),
        (10024, m.RejectCode.PLATFORM_REJECTED, "TOO_MANY_REQUESTS"),
        (10046, m.RejectCode.PLATFORM_REJECTED, "HEDGE_PROHIBITED"),
    ],
)
def test_a_refusal_is_told_with_the_servers_word_and_sent_once(bench, retcode, code, words):
    bench.stand_in.script("reject", retcode=retcode)
    order = bench.place()
    assert words in bench.wait_reject(order, code).text
    bench.listen(0.2)
    assert bench.sends == 1
    bench.adapter.execute(order)
    bench.until(lambda: len(bench.heard(m.Reject, order.client_order_id)) == 2, "the same answer again")
    assert bench.sends == 1


@pytest.mark.parametrize("retcode", [10004, 10020, 10021])
def test_a_requote_is_sent_again_at_most_twice(tmp_path, retcode):
    with Mt5Bench(tmp_path, "global") as bench:
        bench.stand_in.set_symbol(bench.name, trade_exemode=1)  # INSTANT
        bench.start(20_000.0, 20_001.0)
        bench.stand_in.script("reject", count=1, retcode=retcode)
        order = bench.place()
        bench.wait_filled(order)
        assert [each["price"] for each in bench.sent()] == [20_001.0, 20_001.0]
        assert bench.sent()[0]["deviation"] == 10
        bench.stand_in.script("reject", count=3, retcode=retcode)
        refused = bench.place()
        assert str(retcode) in bench.wait_reject(refused, m.RejectCode.PLATFORM_REJECTED).text
        assert bench.sends == 5
        assert len(bench.stand_in.truth().trades()) == 1


@pytest.mark.parametrize(
    ("retcode", "executed"), [(10011, True), (10012, True), (10031, True), (19999, True), (10012, False)]
)
def test_an_unclear_answer_is_cleared_up_by_deals_and_never_sent_again(bench, retcode, executed):
    bench.stand_in.script("retcode", retcode=retcode, executed=executed)
    order = bench.place()
    bench.until(lambda: bench.pending_commands == 0, "the ack")
    bench.listen(1.3)
    assert len(bench.fills(order)) == executed
    assert not bench.heard(m.Reject, order.client_order_id), "an unknown outcome is no refusal"
    bench.adapter.execute(order)
    bench.listen(0.2)
    assert bench.sends == 1
    snapshot = bench.snapshot()
    assert snapshot.complete
    assert len(executions(snapshot, order)) == executed


def test_a_cancel_waits_for_an_order_that_may_still_come(bench):
    bench.stand_in.script("retcode", retcode=10012, executed=False)
    order = bench.place("1", LIMIT, limit_price=Decimal(17000))
    bench.cancel(order)
    bench.listen(0.3)
    assert bench.pending_commands == 0
    assert not bench.heard(m.Reject)
    assert bench.sent(REMOVE) == []


def test_a_cancel_waits_for_an_order_that_was_accepted_and_is_not_listed_yet(bench):
    bench.stand_in.script("listed_late", after_ms=1500)
    order = bench.place("1", LIMIT, limit_price=Decimal(17000))
    bench.until(lambda: bench.pending_commands == 0, "the ack")
    assert not bench.snapshot().complete, "an accepted order is in neither list"
    bench.cancel(order)
    bench.listen(0.5)
    assert not bench.heard(m.Reject), "not refused: it is about to work"
    bench.wait_state(order, m.LegState.CANCELLED)
    assert bench.snapshot().complete
    assert bench.stand_in.truth().orders == []
    assert len(bench.sent(REMOVE)) == 1
    bench.cancel(order)
    bench.wait_reject(order, m.RejectCode.CANCEL_REJECTED)


def test_a_cancel_that_waits_for_an_order_which_has_ended_meanwhile_is_refused(bench):
    bench.stand_in.script("late_deals", after_ms=1500)
    order = bench.place()
    bench.until(lambda: bench.pending_commands == 0, "the ack")
    bench.until(lambda: bench.stand_in.truth().history_orders, "its end, not listed yet")
    bench.cancel(order)
    bench.listen(0.4)
    assert not bench.heard(m.Reject)
    assert "ended" in bench.wait_reject(order, m.RejectCode.CANCEL_REJECTED).text
    bench.wait_state(order, m.LegState.FILLED)
    assert bench.sent(REMOVE) == []


def test_a_call_that_fails_loses_no_cancel_that_waits(tmp_path):
    bridge = load_bridge()
    ids = bridge.OrderIds(str(tmp_path / "ids"), hedging=False)
    order_id = m.client_order_id(m.signal_key("waits"), 0, m.OrderRole.ENTRY, 0)
    ids.note(order_id)
    answers, sent = [None, bridge.CallFailed("not now"), None, SimpleNamespace(ticket=7)], []

    def find(name, ticket):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def send(request):
        sent.append(request)
        return SimpleNamespace(retcode=10009)

    terminal = SimpleNamespace(find=find, send=send)
    monitor = SimpleNamespace(children={}, latest={}, at_once=False, is_over=lambda ticket: False)
    desk = bridge.Desk(terminal, None, ids, None, monitor, 10, None, None)
    ids.own(7, order_id)
    assert desk.cancel({"client_order_id": order_id, "platform_order_id": ""})
    with pytest.raises(bridge.CallFailed):
        desk.follow_up()
    for _ in range(3):
        desk.follow_up()
    assert sent == [{"action": REMOVE, "order": 7}], "once, as soon as it was listed"


def test_a_flatten_is_refused_because_no_terminal_has_one(hedging):
    order = hedging.place()
    hedging.wait_filled(order)
    sends = hedging.sends
    command = m.Flatten(request_id=3, platform=hedging.key, account=hedging.account)
    assert not hedging.adapter.capabilities.flatten
    hedging.adapter.execute(command)  # past the check of the channel, which would refuse it already
    reject = hedging.wait_reject("", m.RejectCode.UNSUPPORTED_TYPE)
    assert "no flatten of its own" in reject.text
    hedging.until(lambda: hedging.pending_commands == 0, "the ack")
    assert hedging.sends == sends
    assert len(hedging.snapshot().positions.rows) == 1


@pytest.mark.parametrize("most", [1, 2])
def test_a_part_with_more_rows_than_a_message_takes_is_not_complete(monkeypatch, most):
    bridge = load_bridge()
    monkeypatch.setattr("nexus_gateway.bridges.mt5.mt5_bridge.snapshot.MAX_ROWS", most)
    order = SimpleNamespace(ticket=7, volume_initial=1.0, reason=0)
    view = SimpleNamespace(orders=[order], positions=[1, 2], history=[], deals=[], missing=set())
    monitor = SimpleNamespace(
        window_ns=1,
        read_stable=lambda from_ns: (view, True),
        apply=lambda view: None,
        brackets=SimpleNamespace(live={}, ended_rows=lambda view: {}),
    )
    describer = SimpleNamespace(
        order=lambda order: {"state": "working"},
        position=lambda each: {"symbol": f"S{each}"},
        part=lambda kind, rows, now_ns, complete: (kind, len(rows), complete),
        snapshot=lambda request_id, parts, from_ns, funds, complete: (parts, complete),
        money=lambda account, now_ns: None,
    )
    terminal = SimpleNamespace(need_account=lambda: None)
    request = {"request_id": 1, "executions_from_ns": 5}
    parts, complete = bridge.make_snapshot(terminal, monitor, describer, request, None, clock_is_right=True)
    assert parts == [("positions", most, most == 2), ("working_orders", 1, True), ("executions", 0, True)]
    assert complete, "the other parts are whole"


def test_an_order_that_ends_beyond_the_history_that_is_read(bench):
    bench.stand_in.script("ends_out_of_sight")
    order = bench.rest()
    ended = bench.wait_state(order, m.LegState.CANCELLED)
    (row,) = rows_of(bench.snapshot(), order)
    assert (row.state, row.platform_order_id) == (m.LegState.CANCELLED, ended.platform_order_id)


def test_an_order_that_is_listed_nowhere_leaves_every_snapshot_incomplete(bench):
    bench.stand_in.script("ends_out_of_sight", after_ms=300, by_ticket=False)
    order = bench.rest()
    assert bench.snapshot().complete
    bench.listen(1.5)
    snapshot = bench.snapshot()
    parts = (snapshot, snapshot.positions, snapshot.working_orders, snapshot.executions)
    assert not any(part.complete for part in parts)
    bench.cancel(order)
    bench.listen(0.3)
    assert not bench.heard(m.Reject), "whether it works is not known"
    assert {update.state for update in bench.updates(order)} == {m.LegState.WORKING}


def test_an_order_whose_history_says_partial_has_ended(bench):
    """IOC: what could not be filled at once is cancelled, and the order's last state is PARTIAL."""
    bench.stand_in.script("ends_partial")
    order = bench.place("4", time_in_force=m.TimeInForce.IOC)
    update = bench.wait_state(order, m.LegState.CANCELLED)
    assert (update.filled, update.quantity) == (2, 4)
    assert sum(fill.quantity for fill in bench.fills(order)) == 2
    snapshot = bench.snapshot()
    (row,) = rows_of(snapshot, order)
    assert (row.state, row.filled) == (m.LegState.CANCELLED, 2)
    assert snapshot.complete


@pytest.mark.parametrize("minutes", [-600, 600])
def test_a_wrong_clock_hides_no_execution_and_its_snapshots_are_not_complete(tmp_path, minutes):
    clock = {"utc_offset_minutes": minutes, "dst": "none", "mode": "configured"}
    with Mt5Bench(tmp_path, bridge={"clock": clock, "history_days": 1}) as bench:
        bench.start()
        order = bench.place()
        bench.wait_filled(order)
        assert len(executions(bench.snapshot(time.time_ns() - 10**10), order)) == 1
        for number in range(60):
            bench.quote(18000.0 + number % 2, 18001.25)
            bench.listen(0.05)
        snapshot = bench.snapshot(time.time_ns() - 10**10)
        assert not snapshot.complete
        assert len(executions(snapshot, order)) == 1


# Another account.

SOMEBODY, OURS = 4711, 90001


def test_nothing_is_sent_to_the_account_of_somebody_else(bench):
    working = bench.rest()
    sends = bench.sends
    for command in (
        bench.place,
        lambda: bench.cancel(working),
        lambda: bench.replace(working, "1", 1, limit_price=Decimal(17001)),
    ):
        bench.stand_in.set_account(login=SOMEBODY)
        command()
        assert "login was 4711" in bench.until_lost()
        bench.stand_in.set_account(login=OURS)
        bench.reopen()
    assert bench.sends == sends
    assert bench.stand_in.truth().trades() == []
    assert len(bench.stand_in.truth().orders) == 1
    bench.wait_filled(bench.place())


def test_nothing_is_told_of_the_account_of_somebody_else(bench):
    bench.wait_state(bench.place(), m.LegState.FILLED)
    for trouble in ("a trade", "a snapshot"):
        bench.desk.events.clear()
        bench.stand_in.set_account(login=SOMEBODY)
        if trouble == "a trade":
            bench.stand_in.hand_trade(bench.name, "buy", 2.0)
            assert "login was 4711" in bench.until_lost()
        else:
            with pytest.raises(LinkLostError, match="login was 4711"):
                bench.snapshot()
        assert not bench.heard(m.Fill) + bench.heard(m.OrderUpdate)
        bench.stand_in.set_account(login=OURS)
        bench.reopen()


def test_an_order_of_somebody_elses_program_with_our_magic_is_not_ours(bench):
    order = bench.rest("2")
    assert mt5.initialize(path=str(bench.stand_in.exe))
    try:
        tag = {"magic": m.magic_number(order.client_order_id), "comment": order.client_order_id}
        copy = str(pend(bench.name, 2, 1.0, 16000.0, **tag).order)
        traded = send(bench.name, 0, 1.0, **tag).order
    finally:
        mt5.shutdown()
    bench.until(lambda: [u for u in bench.heard(m.OrderUpdate, "") if u.platform_order_id == copy], "the copy")
    (fill,) = bench.until(lambda: bench.heard(m.Fill), "the fill")
    assert (fill.client_order_id, fill.platform_order_id) == ("", str(traded))
    for _ in range(2):
        rows = bench.snapshot().working_orders.rows
        assert {(row.platform_order_id == copy, row.client_order_id) for row in rows if row.state is WORKING} == {
            (False, order.client_order_id),
            (True, ""),
        }
        bench.bridge.kill()
        bench.bridge.start()
        bench.reopen()
    bench.cancel(order)
    bench.wait_state(order, m.LegState.CANCELLED)
    assert [str(each["ticket"]) for each in bench.stand_in.truth().orders] == [copy]


@pytest.mark.parametrize("scenario", ["no_answer", "answer_lost"])
@pytest.mark.parametrize("executed", [True, False])
def test_an_answer_that_is_lost_with_the_pipe(bench, scenario, executed):
    bench.stand_in.script(scenario, executed=executed)
    order = bench.place()
    bench.listen(0.5) if scenario == "no_answer" else bench.until_lost()
    if scenario == "answer_lost":
        bench.reopen()
    snapshot = bench.snapshot()
    assert len(executions(snapshot, order)) == executed
    assert not bench.heard(m.Reject)
    bench.adapter.execute(order)
    bench.listen(0.3)
    assert len(bench.stand_in.truth().trades()) == executed
    assert bench.sends == 1


def test_the_next_filling_mode_is_tried_once_and_remembered(bench):
    bench.stand_in.script("reject", retcode=10030)
    bench.wait_filled(bench.place())
    assert [each["type_filling"] for each in bench.sent()] == [0, 1]
    bench.wait_filled(bench.place())
    assert [each["type_filling"] for each in bench.sent()] == [0, 1, 1]
    bench.stand_in.script("reject", count=2, retcode=10030)
    bench.wait_reject(bench.place(), m.RejectCode.UNSUPPORTED_TIF)


@pytest.mark.parametrize("tif", [m.TimeInForce.FOK, m.TimeInForce.IOC])
def test_a_filling_mode_that_was_asked_for_is_never_another_one(bench, tif):
    """Fill or kill that becomes immediate or cancel may fill in part."""
    bench.stand_in.script("reject", retcode=10030)
    bench.wait_reject(bench.place(time_in_force=tif), m.RejectCode.UNSUPPORTED_TIF)
    assert bench.sends == 1


@pytest.mark.parametrize(
    ("switch", "account", "words"),
    [
        ({"trade_allowed": False}, {}, "press Algo Trading"),
        ({"tradeapi_disabled": True}, {}, "external Python API"),
        ({}, {"trade_expert": False}, "forbids algo trading"),
        ({}, {"trade_allowed": False}, "master password"),
    ],
    ids=["algo trading button", "external api", "broker", "investor password"],
)
def test_switches_are_watched_and_name_their_cure(bench, switch, account, words):
    if switch:
        bench.stand_in.set_switches(**switch)
    if account:
        bench.stand_in.set_account(**account)
    order = bench.place()  # before the bridge has noticed
    bench.until(lambda: bench.heard(m.Reject, order.client_order_id), "its refusal")
    bench.until(lambda: not bench.adapter.orders_up, "the bridge's status")
    assert bench.stand_in.truth().trades() == []
    bench.wait_reject(bench.place(), m.RejectCode.LINK_DOWN)
    assert not bench.snapshot().complete
    assert words in bench.bridge.log()
    bench.stand_in.set_switches(trade_allowed=True, tradeapi_disabled=False)
    bench.stand_in.set_account(trade_allowed=True, trade_expert=True)
    assert "a new snapshot is needed" in bench.until_lost()
    bench.reopen()
    bench.wait_filled(bench.place())


# Executions.


def test_placed_first_and_the_deal_much_later(bench):
    bench.stand_in.script("placed", after_ms=800)
    order = bench.place()
    bench.wait_state(order, m.LegState.WORKING)
    assert not bench.fills(order)
    bench.wait_filled(order)
    bench.wait_state(order, m.LegState.FILLED)


@pytest.mark.parametrize("scenario", ["late_deals", "silent_fill", "timeout_then_ack"])
def test_a_deal_that_is_listed_late_is_told_when_it_is(bench, scenario):
    bench.stand_in.script(scenario, after_ms=1500)
    order = bench.place()
    bench.listen(0.5)
    assert not bench.fills(order)
    assert not bench.heard(m.Reject)
    bench.wait_filled(order)
    bench.wait_state(order, m.LegState.FILLED)
    bench.listen(0.3)
    assert len(bench.fills(order)) == 1
    assert bench.sends == 1


def test_a_deal_that_is_listed_twice_is_one_execution(bench):
    bench.stand_in.script("duplicate_execution")
    order = bench.place()
    bench.wait_filled(order)
    bench.listen(1.3)
    assert len(bench.fills(order)) == 1
    assert len(executions(bench.snapshot(), order)) == 1


def test_a_flip_on_a_netting_account_is_one_deal(bench):
    bench.wait_filled(bench.place("2"))
    order = bench.place("5", side=m.Side.SELL)
    bench.wait_filled(order)
    assert len(bench.fills(order)) == 1
    (row,) = bench.snapshot().positions.rows
    assert (row.symbol, row.quantity, row.ticket) == ("NQ", -3, "")


def test_money_and_deposits_are_no_fills(bench):
    bench.listen(0.3)
    bench.stand_in.balance(5000.0, "deposit")
    account = bench.until(lambda: [each for each in bench.heard(m.Account) if each.balance > 1_000_000], "the balance")
    assert account[0].currency == "USD"
    bench.listen(1.2)
    assert not bench.heard(m.Fill)
    assert bench.snapshot().executions.rows == ()


def test_what_somebody_does_at_the_terminal_is_told_as_somebody_elses(bench):
    bench.stand_in.hand_trade(bench.name, "buy", 2.0)
    (fill,) = bench.until(lambda: bench.heard(m.Fill), "the fill")
    assert (fill.client_order_id, fill.quantity, fill.symbol) == ("", 2, "NQ")
    ticket = bench.stand_in.hand_order(bench.name, 2, 1.0, 17000.0)
    named = str(ticket.get("order") or ticket.get("ticket"))
    update = bench.until(
        lambda: next((u for u in bench.heard(m.OrderUpdate, "") if u.platform_order_id == named), None), "the order"
    )
    assert (update.state, update.limit_price) == (m.LegState.WORKING, 17000)
    bench.cancel("", platform_order_id=named)
    bench.until(
        lambda: [
            u
            for u in bench.heard(m.OrderUpdate, "")
            if u.platform_order_id == named and u.state is m.LegState.CANCELLED
        ],
        "its end",
    )
    bench.stand_in.hand_close()
    bench.until(lambda: len(bench.heard(m.Fill)) == 2, "the close")
    assert bench.snapshot().positions.rows == ()


def test_symbols_that_nobody_subscribed_have_names_of_their_own(bench):
    bench.stand_in.quote("ESZ26", 5000.0, 5000.25)
    bench.stand_in.hand_trade("ESZ26", "buy", 1.0)
    (fill,) = bench.until(lambda: bench.heard(m.Fill), "the fill")
    assert fill.symbol == "ESZ26"
    assert [row.symbol for row in bench.snapshot().positions.rows] == ["ESZ26"]


# Changes.


def test_another_price_is_one_request(bench):
    order = bench.rest("2")
    bench.replace(order, "2", 1, limit_price=Decimal(17001))
    answer = bench.until(lambda: next((u for u in bench.updates(order) if u.replace_revision == 1), None), "the answer")
    assert (answer.quantity, answer.limit_price, answer.state) == (2, 17001, m.LegState.WORKING)
    assert len(bench.sent(MODIFY)) == 1
    bench.replace(order, "2", 2, limit_price=Decimal(17001))
    bench.until(
        lambda: [u for u in bench.updates(order) if u.replace_revision == 2], "no change is a change that is done"
    )


def test_another_size_is_refused_and_the_order_works_on(bench):
    """MetaTrader changes no sizes; cancelling and placing anew is the gateway's to decide."""
    order = bench.rest("2")
    for revision, quantity in enumerate(("5", "1"), 1):
        bench.replace(order, quantity, revision, limit_price=Decimal(16000))
    rejects = bench.until(lambda: found if len(found := bench.heard(m.Reject, order.client_order_id)) == 2 else None)
    assert [(each.code, each.replace_revision) for each in rejects] == [
        (m.RejectCode.REPLACE_REJECTED, 1),
        (m.RejectCode.REPLACE_REJECTED, 2),
    ]
    assert "not sizes" in rejects[0].text
    assert bench.sends == 1, "nothing but the order itself was ever sent"
    (row,) = rows_of(bench.snapshot(), order)
    assert (row.quantity, row.limit_price, row.state) == (2, 17000, m.LegState.WORKING)


def test_a_fill_that_comes_before_the_change(bench):
    bench.stand_in.script("fill_during_replace")
    order = bench.rest("3")
    bench.replace(order, "3", 1, limit_price=Decimal(17001))
    assert bench.wait_reject(order, m.RejectCode.REPLACE_REJECTED).replace_revision == 1
    bench.wait_filled(order)
    bench.wait_state(order, m.LegState.FILLED)
    assert sum(fill.quantity for fill in bench.fills(order)) == 3


def test_changes_that_cannot_be(bench):
    order = bench.rest("2")
    for revision, (quantity, price) in enumerate((("2", "17000.10"), ("1.5", "17000")), 1):
        bench.replace(order, quantity, revision, limit_price=Decimal(price))
    bench.until(lambda: len(bench.heard(m.Reject, order.client_order_id)) == 2, "both refusals")
    assert {reject.code for reject in bench.heard(m.Reject)} == {m.RejectCode.REPLACE_REJECTED}
    bench.wait_filled(done := bench.place())
    bench.replace(done, "2", 1)
    bench.wait_reject(done, m.RejectCode.REPLACE_REJECTED)
    assert bench.sent(MODIFY) == bench.sent(REMOVE) == []
    bench.until(lambda: bench.pending_commands == 0, "the acks")


def test_orders_of_every_role_are_taken_and_known_after_a_restart(bench):
    """Also what a roll opens again in the new contract."""
    orders = [bench.place(role=role) for role in m.OrderRole]
    for order in orders:
        bench.wait_filled(order)
    bench.bridge.kill()
    bench.bridge.start()
    executed = {fill.client_order_id for fill in bench.reopen().executions.rows}
    assert executed == {order.client_order_id for order in orders}


def test_a_position_is_carried_over_to_the_next_contract(tmp_path):
    """What the gateway does at a roll: the symbol means the next contract, the last one is heard under its own name."""
    with Mt5Bench(tmp_path, "b3") as bench:
        bench.start(130_000, 130_005)
        bench.wait_filled(bench.place("2"))
        assert [(row.symbol, row.quantity) for row in bench.snapshot().positions.rows] == [("WIN", 2)]
        bench.stand_in.set_symbol("WING27", expiration_time=0)
        bench.stand_in.quote("WING27", 131_000, 131_005)
        bench.adapter.settings.names.update(WIN="WING27", WINZ26="WINZ26")
        bench.symbol = Symbol(bench.symbol.id, "WIN", "WING27", 5.0)
        bench.adapter.subscribe((bench.symbol, Symbol(9, "WINZ26", "WINZ26", 5.0)))
        assert [(row.symbol, row.quantity) for row in bench.snapshot().positions.rows] == [("WINZ26", 2)]
        terms = {"symbol": "WINZ26", "contract": "WINZ26", "side": m.Side.SELL}
        (closed,) = bench.wait_filled(bench.place("2", role=m.OrderRole.EXIT, **terms))
        (opened,) = bench.wait_filled(bench.place("2", role=m.OrderRole.ROLL))
        assert [(fill.symbol, fill.price) for fill in (closed, opened)] == [("WINZ26", 130_000), ("WIN", 131_005)]
        assert [bench.stand_in.truth().net(name) for name in ("WINZ26", "WING27")] == [0, 2]
        assert [(row.symbol, row.quantity) for row in bench.snapshot().positions.rows] == [("WIN", 2)]


def test_the_time_limit_is_looked_at_right_before_the_call(tmp_path):
    """Whose account it is, is asked in between, and that call may take as long as it likes."""
    bridge = load_bridge()
    account, sent = SimpleNamespace(login=1, server="S", company="C"), []

    def account_info():
        time.sleep(0.05)
        return account

    module = SimpleNamespace(account_info=account_info, order_send=lambda request: sent.append(request) or account)
    terminal = bridge.Terminal(module, SimpleNamespace(login=1, server="s", company=None), None)
    with pytest.raises(bridge.TooLate):
        terminal.send({}, time.time_ns() + 10_000_000)
    assert sent == []
    assert terminal.send({}, time.time_ns() + 60_000_000_000) is account
    assert terminal.send({}) is account
    assert len(sent) == 2


def test_what_the_module_raises_ends_nothing_and_an_order_is_unknown_then():
    """Its C code raises for a date beyond 2038, and for an answer that it cannot decode."""
    bridge = load_bridge()

    def fail(*arguments):
        raise SystemError("<built-in function> returned a result with an exception set")

    account = SimpleNamespace(login=1, server="S", company="C")
    module = SimpleNamespace(history_deals_get=fail, order_send=fail, account_info=lambda: account)
    terminal = bridge.Terminal(module, SimpleNamespace(login=1, server="S", company=None), None)
    with pytest.raises(bridge.CallFailed, match=r"history_deals_get: SystemError.*\(-1\)"):
        terminal.need("history_deals_get", 1, 9_999_999_999)
    assert terminal.send({}) is None
    assert terminal.error[0] not in (*bridge.NOTHING_WAS_SENT, *bridge.IPC_LOST)


def test_the_limit_of_a_symbols_whole_volume_is_the_servers_to_judge(tmp_path):
    """It is refused there, with its word; and a position above it can be closed."""
    with Mt5Bench(tmp_path, margin_mode="netting") as bench:
        bench.start()
        bench.wait_filled(bench.place("8"))
        bench.stand_in.set_symbol(bench.name, volume_limit=5.0)
        assert "10034" in bench.wait_reject(bench.place("6"), m.RejectCode.PLATFORM_REJECTED).text
        bench.wait_filled(bench.place("8", side=m.Side.SELL, role=m.OrderRole.EXIT))


# Hedging.


def test_what_a_roll_opens_has_its_bracket_like_an_entry(hedging):
    opened = hedging.place("1", role=m.OrderRole.ROLL, stop_loss=Decimal(17990), take_profit=Decimal(18010))
    for role in (m.OrderRole.STOP_LOSS, m.OrderRole.TAKE_PROFIT):
        hedging.wait_state(child_of(opened, role), m.LegState.WORKING)


def test_a_bracket_lives_at_the_platform(hedging):
    bench = hedging
    entry = bench.place("2", stop_loss=Decimal(17990), take_profit=Decimal(18010))
    (fill,) = bench.wait_filled(entry)
    (request,) = bench.sent()
    assert (request["sl"], request["tp"]) == (17990.0, 18010.0)
    stop_id, target_id = child_of(entry, m.OrderRole.STOP_LOSS), child_of(entry, m.OrderRole.TAKE_PROFIT)
    stop = bench.wait_state(stop_id, m.LegState.WORKING)
    target = bench.wait_state(target_id, m.LegState.WORKING)
    assert (stop.stop_price, stop.order_type, stop.quantity, stop.side) == (17990, STOP, 2, m.Side.SELL)
    assert (target.limit_price, target.order_type) == (18010, LIMIT)
    listed = bench.snapshot()
    assert [len(rows_of(listed, each)) for each in (entry, stop_id, target_id)] == [1, 1, 1]

    bench.replace(stop_id, "2", 1, stop_price=Decimal("17995.25"))
    bench.until(lambda: [u for u in bench.heard(m.OrderUpdate, stop_id) if u.replace_revision == 1], "the moved stop")
    (request,) = bench.sent(SLTP)
    assert (request["sl"], request["tp"], request["position"]) == (17995.25, 18010.0, int(fill.position_ticket))

    out = bench.place("1", side=m.Side.SELL, role=m.OrderRole.EXIT, close_ticket=fill.position_ticket)
    bench.wait_filled(out)
    bench.until(lambda: bench.heard(m.OrderUpdate, stop_id)[-1].quantity == 1, "a stop for what is left")

    bench.bridge.kill()
    bench.bridge.start()
    after = bench.reopen()
    assert [rows_of(after, each)[0].quantity for each in (stop_id, target_id)] == [1, 1]
    bench.quote(17994.0, 17994.25)
    ended = bench.wait_state(stop_id, m.LegState.FILLED)
    bench.wait_state(target_id, m.LegState.CANCELLED)
    (struck,) = bench.heard(m.Fill, stop_id)
    assert (struck.quantity, struck.side, struck.position_ticket) == (1, m.Side.SELL, fill.position_ticket)
    assert ended.filled == 1
    final = bench.snapshot()
    assert final.positions.rows == ()
    (row,) = rows_of(final, stop_id)
    assert (row.state, row.filled) == (m.LegState.FILLED, 1)
    assert rows_of(final, target_id) == []
    assert len([fill for fill in final.executions.rows if fill.client_order_id == stop_id]) == 1


def test_a_target_taken_away_and_a_position_closed_by_hand(hedging):
    bench = hedging
    entry = bench.place("1", stop_loss=Decimal(17990), take_profit=Decimal(18010))
    bench.wait_filled(entry)
    stop_id, target_id = child_of(entry, m.OrderRole.STOP_LOSS), child_of(entry, m.OrderRole.TAKE_PROFIT)
    bench.wait_state(target_id, m.LegState.WORKING)
    bench.cancel(target_id)
    bench.wait_state(target_id, m.LegState.CANCELLED)
    assert bench.stand_in.truth().positions[0]["tp"] == 0
    bench.stand_in.hand_close()
    bench.wait_state(stop_id, m.LegState.CANCELLED)
    (foreign,) = bench.heard(m.Fill, "")
    assert foreign.position_ticket == bench.fills(entry)[0].position_ticket
    bench.cancel(stop_id)
    bench.wait_reject(stop_id, m.RejectCode.CANCEL_REJECTED)


def test_closing_by_ticket_is_checked_before_it_is_sent(hedging):
    bench = hedging
    ticket = bench.wait_filled(bench.place("2"))[0].position_ticket
    sends = bench.sends
    for terms in (
        {"close_ticket": "999"},
        {"close_ticket": ticket, "side": m.Side.BUY},
        {"close_ticket": ticket, "side": m.Side.SELL, "quantity": "3"},
    ):
        quantity = terms.pop("quantity", "1")
        bench.wait_reject(bench.place(quantity, role=m.OrderRole.EXIT, **terms), m.RejectCode.PLATFORM_REJECTED)
    assert bench.sends == sends


def test_a_stop_out_closes_what_the_bracket_guarded(hedging):
    bench = hedging
    entry = bench.place("1", stop_loss=Decimal(17990))
    bench.wait_filled(entry)
    stop_id = child_of(entry, m.OrderRole.STOP_LOSS)
    bench.wait_state(stop_id, m.LegState.WORKING)
    bench.stand_in.stop_out()
    bench.wait_state(stop_id, m.LegState.CANCELLED)
    assert [fill.client_order_id for fill in bench.heard(m.Fill)] == [entry.client_order_id, ""]


# Restarts.


def test_the_same_order_again_after_a_restart_is_not_placed_again(bench):
    filled, resting, lost = bench.place(), bench.rest(), bench.make_order()
    bench.wait_filled(filled)
    bench.stand_in.script("retcode", retcode=10012, executed=False)
    bench.adapter.execute(lost)
    bench.until(lambda: bench.pending_commands == 0)
    bench.bridge.kill()
    bench.bridge.start()
    bench.reopen()
    bench.desk.events.clear()
    sends = bench.sends
    for order in (filled, resting, lost):
        bench.adapter.execute(order)
    bench.wait_state(filled, m.LegState.FILLED)
    bench.wait_state(resting, m.LegState.WORKING)
    bench.listen(0.3)
    assert bench.pending_commands == 0
    assert not bench.updates(lost)
    assert bench.sends == sends
    assert not bench.heard(m.Fill), "what was told before the snapshot is not told again"


def test_a_broker_that_rewrites_comments(bench):
    bench.stand_in.script("comment", text="[B#77]")
    order = bench.place()
    bench.wait_filled(order)
    bench.bridge.kill()
    bench.bridge.start()
    snapshot = bench.reopen()
    assert len(executions(snapshot, order)) == 1
    assert rows_of(snapshot, order)[0].state is m.LegState.FILLED


@pytest.mark.parametrize("scenario", ["death_before_accept", "death_after_accept", "death_after_fill"])
def test_the_bridge_dies_in_order_send(bench, scenario):
    bench.stand_in.script(scenario)
    order = bench.place()
    with pytest.raises(LinkLostError):
        bench.listen(5.0)
    bench.bridge.start()
    snapshot = bench.reopen()
    bench.adapter.execute(order)
    bench.listen(0.4)
    trades = bench.stand_in.truth().trades()
    assert len(trades) == (scenario != "death_before_accept"), "sent once, and told for certain"
    assert bench.sends <= 1
    told = {fill.exec_id for fill in [*executions(snapshot, order), *bench.fills(order)]}
    assert told == {str(deal["ticket"]) for deal in trades}


def test_killed_again_and_again_while_trading(bench):
    """Nothing is lost and nothing is doubled: the deals are those of the orders, each told once or in a snapshot."""
    placed, told = [], set()
    for number in range(12):
        placed += [bench.place(role=m.OrderRole.ENTRY) for _ in range(1 + number % 3)]
        try:
            bench.listen(0.015 * (number % 5))
        except LinkLostError:
            pass
        bench.bridge.kill()
        bench.bridge.start()
        told |= {fill.exec_id for fill in bench.reopen().executions.rows}
        for order in placed[-4:]:
            bench.adapter.execute(order)  # known: never a second time
    bench.listen(0.5)
    snapshot = bench.snapshot()
    deals = bench.stand_in.truth().trades()
    fills = {fill.exec_id: fill for fill in snapshot.executions.rows}
    assert fills.keys() == {str(deal["ticket"]) for deal in deals}
    by_order: dict[str, Decimal] = {}
    for fill in fills.values():
        by_order[fill.client_order_id] = by_order.get(fill.client_order_id, Decimal(0)) + fill.quantity
    ids = {order.client_order_id for order in placed}
    assert by_order.keys() <= ids, "each execution is known as its order's"
    assert set(by_order.values()) <= {ONE}, "no order was executed twice"
    events = [fill.exec_id for fill in bench.heard(m.Fill)]
    assert len(events) == len(set(events)), "no execution was told twice"
    assert set(events) | told <= fills.keys()
    assert sum(row.quantity for row in snapshot.positions.rows) == len(fills)


def test_snapshots_of_a_moving_account_are_of_one_moment(bench):
    """Position and executions of the same snapshot agree, while deals come all the time."""
    bench.stand_in.script_all("placed", after_ms=120)
    for _ in range(25):
        bench.place()
        snapshot = bench.snapshot()
        if snapshot.complete:
            held = sum((row.quantity for row in snapshot.positions.rows), Decimal(0))
            assert held == sum((fill.quantity for fill in snapshot.executions.rows), Decimal(0))


def test_executions_since_a_moment(bench):
    first = bench.place()
    bench.wait_filled(first)
    bench.listen(2.1)
    between_ns = time.time_ns() - 10**9
    second = bench.place()
    bench.wait_filled(second)
    snapshot = bench.snapshot(between_ns)
    # What is older is there too: only the server's clock could tell, and it may be configured wrong.
    assert [fill.client_order_id for fill in snapshot.executions.rows][-1] == second.client_order_id
    assert snapshot.executions.from_ns == between_ns
    assert snapshot.complete
    assert snapshot.funds is not None
    older = bench.snapshot(between_ns - 30 * 86_400 * 10**9)
    assert len(older.executions.rows) == 2
