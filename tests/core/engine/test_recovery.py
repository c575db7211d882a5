"""Restart, reconnect, lost journal, hand-made trades: belief is compared with the platform, which is right."""

from __future__ import annotations

from decimal import Decimal as D

from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.engine import Engine
from nexus_gateway.core.messages import LegState, OrderRole, RejectCode, Side, SignalState

from tests.support.orders import Desk, market, wide_limits


def restart(desk: Desk, events: list | None = None) -> Desk:
    """A new process: the events of the old one replayed, then a start. `events` shorter than all: a torn journal."""
    kept = desk.events if events is None else events
    new = Desk.__new__(Desk)
    vars(new).update(vars(desk))
    new.engine = Engine(desk.settings, desk.limits)
    for at_ns, event in kept:
        new.engine.handle(event, at_ns)
    if events is None:
        assert new.engine.digest() == desk.engine.digest()
    new.orders = dict(desk.orders)
    new.events = list(kept)
    new.give(e.Started(boot_id="g2", settings=desk.settings, limits=desk.limits))
    return new


def test_nothing_opens_before_the_platform_has_answered():
    desk = Desk("b")
    desk.link_up("a", answer=False)
    desk.signal()
    assert desk.report().code is RejectCode.PLATFORM_NOT_READY
    desk.snapshot("a", complete=False)
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.PLATFORM_NOT_READY
    desk.wait(1_000)
    desk.snapshot("a")
    desk.signal(signal_id="s3")
    assert desk.report("s3").code is RejectCode.NONE


def test_killed_between_journal_and_send_is_unknown_and_never_sent_again():
    desk = Desk("a")
    desk.signal()
    desk = restart(desk)
    assert desk.engine.state.orders[desk.only().client_order_id].state is LegState.UNKNOWN
    desk.link_up("a")
    desk.wait(5_000)
    desk.snapshot()
    desk.wait(2_000)
    desk.snapshot()
    assert desk.report().legs[0].code is RejectCode.NOT_FOUND_AT_PLATFORM


def test_killed_between_send_and_acknowledgement():
    desk = Desk("a")
    desk.signal()
    order = desk.only()
    desk = restart(desk)
    desk.link_up("a", answer=False)
    desk.snapshot(orders=[desk.row(order)])
    assert desk.report().legs[0].state is LegState.WORKING


def test_killed_between_partial_fills():
    desk = Desk("a")
    desk.signal(quantity=D(3))
    order = desk.only()
    first = desk.fill(order, 1)
    later = desk.make_fill(order, 2)
    desk = restart(desk)
    desk.link_up("a", answer=False)
    rows = [desk.row(order, LegState.FILLED, 3)]
    desk.snapshot(orders=rows, fills=[first, later], positions=[("NQ", 3)])
    assert (desk.report().state, desk.position(), desk.count("duplicate_fill")) == (SignalState.FILLED, D(3), 0)


def test_warm_restart_with_an_open_position_invents_nothing():
    desk = Desk("a")
    desk.signal()
    fill = desk.fill(desk.only())
    desk = restart(desk)
    desk.link_up("a", answer=False)
    desk.snapshot(fills=[fill], positions=[("NQ", 2)])
    assert (desk.position(), desk.report().residual_quantity, len(desk.orders)) == (D(2), D(2), 1)
    assert len(desk.engine.state.executions) == 1


def test_empty_journal_adopts_the_position_and_knows_its_own_orders():
    old = Desk("a")
    old.signal()
    fill = old.fill(old.only())
    desk = Desk("b")
    desk.link_up("a", answer=False)
    desk.snapshot("a", orders=[old.row(old.only(), LegState.FILLED, 2)], fills=[fill], positions=[("NQ", 2)])
    assert (desk.position(), desk.count("orphan"), desk.count("position_drift")) == (D(2), 1, 0)
    # The same signal again is recognised by its key, and not traded a second time.
    desk.signal()
    assert not desk.orders
    (report,) = desk.told()
    assert (report.code, report.state, report.filled) == (RejectCode.DUPLICATE_SIGNAL, SignalState.UNKNOWN, D(2))
    assert len(desk.engine.state.day.trades) == 1


def test_a_new_journal_waits_for_every_expected_platform():
    settings = e.EngineSettings(expected_platforms=("a", "b"))
    desk = Desk("a", settings=settings)
    early = desk.now_ns
    desk.signal()
    (reject,) = desk.told()
    assert (reject.code, reject.signal_id) == (RejectCode.PLATFORM_NOT_READY, "s1")
    assert "waiting for b" in reject.text
    # Also for one that has become too old: b may show that it was traded, and "stale" would say that it was not.
    desk.now_ns += 60_000_000_000
    desk.signal(created_ns=early)
    assert desk.told()[0].code is RejectCode.PLATFORM_NOT_READY
    desk.signal(signal_id="s0", reduce_only=True, bracket=None, side=Side.SELL)
    assert desk.told()[0].code is RejectCode.NOTHING_TO_CLOSE  # a has shown all that it has
    desk.link_up("b")
    desk.signal(created_ns=early)
    assert desk.report().code is RejectCode.STALE_SIGNAL
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.NONE


def test_a_signal_refused_after_a_torn_journal_shows_the_orders_that_come_to_light():
    old = Desk("a")
    kept = list(old.events)
    old.signal()
    fill = old.fill(old.only())
    desk = restart(old, kept)
    desk.orders.clear()
    desk.signal()
    assert desk.report().state is SignalState.REJECTED
    desk.link_up("a", answer=False)
    desk.snapshot("a", orders=[old.row(old.only(), LegState.FILLED, 2)], fills=[fill], positions=[("NQ", 2)])
    report = desk.report()
    assert (report.state, report.residual_quantity, report.code) == (SignalState.FILLED, D(2), RejectCode.NONE)
    desk.ask(m.SignalClose(signal_id="s1"))
    assert desk.only(role=OrderRole.EXIT).quantity == 2


def test_whoever_has_sent_an_id_hears_of_it():
    desk = Desk("a")
    desk.signal()
    (sent,) = [event for _, event in desk.events if isinstance(event, e.SignalArrived)]
    desk.give(structs.replace(sent, peer="other"))
    desk.fill(desk.only())
    heard = {x.peer: x.message for x in desk.effects if isinstance(x, e.TellNexus)}
    assert set(heard) == {"nexus", "other"}
    assert heard["nexus"] == heard["other"]


def test_torn_journal_gives_an_order_back_to_its_leg():
    desk = Desk("a")
    desk.signal()
    entry = desk.fill(desk.only())
    torn = list(desk.events)
    desk.ask(m.SignalClose(signal_id="s1"))
    close = desk.only(role=OrderRole.EXIT)
    closed = desk.make_fill(close)
    desk = restart(desk, torn)
    desk.orders.pop(close.client_order_id)
    desk.link_up("a", answer=False)
    desk.snapshot(orders=[desk.row(close, LegState.FILLED, 2)], fills=[entry, closed])
    assert (desk.position(), desk.report().residual_quantity, desk.count("orphan")) == (D(0), D(0), 0)
    desk.ask(m.SignalClose(signal_id="s1"))
    assert not desk.sent(m.Order)


def test_working_orphans_are_cancelled_entries_only():
    old = Desk("x")
    old.link_up("a", brackets=False)
    old.signal(quantity=D(2), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    old.fill(old.only(), 1)
    entry, stop = old.only(), old.only(role=OrderRole.STOP_LOSS)
    desk = Desk("b")
    desk.link_up("a", answer=False)
    desk.snapshot("a", orders=[desk.row(entry, filled=1), desk.row(stop)], positions=[("NQ", 1)])
    assert [cancel.client_order_id for cancel in desk.sent(m.Cancel)] == [entry.client_order_id]


def test_executions_missed_while_away_explain_the_position():
    desk = Desk("a")
    desk.signal()
    order = desk.only()
    desk.update(order)
    fill = desk.make_fill(order)
    desk.link_down()
    assert desk.report().legs[0].state is LegState.WORKING  # acknowledged: known, not unknown
    desk.link_up("a", answer=False)
    desk.snapshot(orders=[desk.row(order, LegState.FILLED, 2)], fills=[fill], positions=[("NQ", 2)])
    assert (desk.report().state, desk.position(), desk.count("position_drift")) == (SignalState.FILLED, D(2), 0)


def test_a_link_that_breaks_before_the_answer_leaves_the_order_unknown():
    desk = Desk("a")
    desk.signal()
    desk.link_down()
    assert desk.report().state is SignalState.UNKNOWN


def test_a_working_order_without_fills_never_explains_a_position_and_is_kept():
    desk = Desk("a")
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    for _ in range(2):
        desk.link_up("a", answer=False)
        desk.snapshot(orders=[desk.row(order)], positions=[("NQ", 75)])
    assert desk.report().legs[0].state is LegState.WORKING
    assert desk.position() == 75


def test_unexplained_drift_blocks_until_acknowledged():
    desk = Desk("a")
    desk.link_up("a", answer=False)
    desk.snapshot(positions=[("NQ", 1)])
    desk.signal()
    assert desk.report().code is RejectCode.POSITION_MISMATCH
    assert desk.position() == 0  # one snapshot: asked again first
    desk.wait(1_000)
    desk.snapshot(positions=[("NQ", 1)])
    assert (desk.position(), desk.count("position_drift")) == (D(1), 1)
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.POSITION_MISMATCH
    desk.ask(m.Acknowledge(request_id=1, platform="a", symbol="NQ", by="operator"))
    assert desk.answers()[0].accepted
    desk.signal(signal_id="s3")
    assert desk.report("s3").code is RejectCode.NONE


def test_a_position_that_only_we_know_of_is_compared_too():
    desk = Desk("a")
    desk.signal()
    fill = desk.fill(desk.only())
    for _ in range(2):
        desk.now_ns += 10_000_000_000
        desk.link_up("a", answer=False)
        desk.snapshot(fills=[fill])  # the platform lists the execution, and no position
    assert (desk.position(), desk.count("position_drift")) == (D(0), 1)
    assert desk.report().residual_quantity == 0


def test_position_closed_by_hand_while_away_is_seen_by_its_execution():
    desk = Desk("a")
    desk.signal()
    fill = desk.fill(desk.only())
    by_hand = desk.make_fill(desk.only(), client_order_id="", side=Side.SELL)
    desk = restart(desk)
    desk.link_up("a", answer=False)
    desk.snapshot(fills=[fill, by_hand])
    assert (desk.position(), desk.report().state, desk.count("position_drift")) == (D(0), SignalState.CLOSED, 0)


def test_an_execution_newer_than_the_snapshot_is_no_drift():
    desk = Desk("a")
    desk.signal()
    desk.link_up("a", answer=False)
    desk.fill(desk.only())  # overtakes the snapshot that was taken before it
    desk.snapshot(orders=[desk.row(desk.only())])
    assert (desk.position(), desk.count("position_drift")) == (D(2), 0)
    assert not desk.engine.state.routes["a|acc"].positions["NQ"].mismatch_snapshots


def test_an_execution_that_the_platform_no_longer_lists_is_a_bust_after_two_snapshots():
    desk = Desk("a")
    desk.signal()
    desk.fill(desk.only())
    for expected in (2, 0):
        desk.now_ns += 10_000_000_000
        desk.link_up("a", answer=False)
        desk.snapshot()
        assert desk.position() == expected
    assert desk.count("bust_inferred") == 1


def test_an_older_snapshot_is_dropped():
    desk = Desk("a")
    desk.link_up("a", answer=False)
    desk.snapshot(request_id=1, positions=[("NQ", 9)])
    assert desk.count("stale_snapshot") == 1
    assert "NQ" not in desk.engine.state.routes["a|acc"].positions


def test_an_order_cancelled_here_but_working_there_comes_back():
    desk = Desk("a")
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order, LegState.CANCELLED)
    desk.now_ns += 10_000_000_000
    desk.link_up("a", answer=False)
    desk.snapshot(orders=[desk.row(order)])
    assert desk.report().legs[0].state is LegState.WORKING


def test_flapping_link():
    desk = Desk("a")
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    for _ in range(20):
        desk.link_down()
        desk.link_up("a", answer=False)
        desk.snapshot(orders=[desk.row(order)])
    assert desk.report().legs[0].state is LegState.WORKING
    assert len(desk.orders) == 1


def test_a_restart_inside_the_loss_limit_does_not_forgive_the_loss():
    desk = Desk("a")
    funds = {"platform": "a", "account": "acc", "currency": "USD", "balance": D(10_000)}
    desk.give(e.AdapterSaid(message=m.Account(**funds, equity=D(10_000))))
    desk.give(e.AdapterSaid(message=m.Account(**funds, equity=D(9_600), as_of_ns=1)))
    desk = restart(desk)
    desk.link_up("a")
    assert desk.engine.state.day.loss_usd() == 400
    desk.give(e.AdapterSaid(message=m.Account(**funds, equity=D(9_500), as_of_ns=2)))
    desk.signal()
    assert desk.report().code is RejectCode.KILL_SWITCH
    assert desk.engine.state.day.breached


def test_state_survives_save_and_load():
    desk = Desk("a", "b")
    desk.signal("a", "b", policy=m.FanOut(kind=m.FanOutKind.ALL_OR_FLATTEN))
    desk.fill(desk.only("a"), 1)
    again = Engine.load(desk.engine.save())
    assert again.state == desk.engine.state
    event = e.ClockTicked()
    assert again.handle(event, desk.now_ns + 5_000_000_000) == desk.engine.handle(event, desk.now_ns + 5_000_000_000)
    assert again.digest() == desk.engine.digest()


def test_a_ticket_of_an_evicted_signal_is_nobodys():
    """Else the next execution under it would be booked on a later signal of the same id."""
    desk = Desk(settings=e.EngineSettings(retention_ms=60_000))
    desk.link_up("a", mode=m.AccountMode.HEDGING, close_by_ticket=True)
    desk.signal("a")
    desk.fill(desk.only(), position_ticket="T1")
    owners = desk.engine.state.routes["a|acc"].ticket_owner
    assert owners == {"T1": ("s1", 0)}
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.fill(desk.only(role=m.OrderRole.EXIT), position_ticket="T1")
    desk.wait(120_000)
    assert (desk.engine.state.signals, owners) == ({}, {})


def test_finished_signals_are_forgotten_after_the_retention_and_positions_are_not():
    settings = e.EngineSettings(retention_ms=60_000)
    desk = Desk("a", settings=settings)
    desk.signal()
    desk.fill(desk.only())
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.fill(desk.only(role=OrderRole.EXIT))
    desk.signal(signal_id="s2")
    desk.fill(desk.only())
    desk.wait(61_000)
    desk.wait(1)
    assert "s1" not in desk.engine.state.signals
    assert len(desk.engine.state.executions) == 1
    assert desk.position() == 2
    desk.signal(signal_id="s1", created_ns=desk.now_ns - 62_000_000_000, markets=(market("a", desk.now_ns),))
    assert desk.report("s1").code is RejectCode.STALE_SIGNAL


def test_a_closing_order_of_a_lost_journal_is_never_named_again():
    """A kill order's id that a platform has already seen would be answered with the old order, and close nothing."""
    desk = Desk("a")
    desk.signal()
    entry = desk.fill(desk.only())
    kill = m.Kill(request_id=1, level=m.KillLevel.FLATTEN, reason="", by="x")

    def flatten(fills: list[m.Fill], lots: int) -> m.Order:
        for _ in range(6):
            desk.wait(1_100)
            if desk.engine.state.routes["a|acc"].request_pending:
                desk.snapshot(fills=fills, positions=[("NQ", lots)])
        return desk.only(role=OrderRole.EXIT)

    desk.give(e.AdapterSaid(message=desk.make_fill(desk.only(), 1, client_order_id="by hand", exec_id="hand")))
    desk.ask(kill)
    torn = list(desk.events)
    fills = [entry, desk.make_fill(desk.only(), 1, client_order_id="by hand", exec_id="hand")]
    fills.append(desk.fill(desk.only(role=OrderRole.EXIT)))
    account_close = flatten(fills, 1)
    assert account_close.quantity == 1
    fills.append(desk.make_fill(account_close))
    desk = restart(desk, torn)
    desk.orders.clear()
    desk.link_up("a", answer=False)
    desk.snapshot(fills=fills)
    desk.give(e.AdapterSaid(message=desk.make_fill(entry_order(entry), 3, client_order_id="by hand", exec_id="again")))
    fills.append(desk.make_fill(entry_order(entry), 3, client_order_id="by hand", exec_id="again"))
    second = flatten(fills, 3)
    assert second.quantity == 3
    assert second.client_order_id != account_close.client_order_id


def entry_order(fill: m.Fill) -> m.Order:
    return m.Order(
        client_order_id=fill.client_order_id,
        platform=fill.platform,
        account=fill.account,
        symbol=fill.symbol,
        contract="",
        side=fill.side,
        quantity=D(1),
        order_type=m.OrderType.MARKET,
    )


DAY_NS = 86_400_000_000_000


def asked_from(desk: Desk) -> int:
    (request,) = desk.sent(m.SnapshotRequest)
    return request.executions_from_ns


def test_a_stop_that_filled_at_the_platform_over_the_weekend_is_asked_for_and_explains_the_position():
    desk = Desk("a")
    desk.signal()
    entry = desk.fill(desk.only())
    desk.link_up("a", answer=False)
    desk.snapshot(fills=[entry], positions=[("NQ", 2)])
    desk.now_ns += 3_600_000_000_000
    stop = desk.make_fill(desk.only(), client_order_id="", side=Side.SELL, price=D(20990))
    desk.now_ns += 2 * DAY_NS
    desk = restart(desk)
    desk.link_up("a", answer=False)
    assert asked_from(desk) <= stop.ts_event_ns - 1
    asked_ns = asked_from(desk)
    desk.snapshot(fills=[each for each in (entry, stop) if each.ts_event_ns >= asked_ns], from_ns=asked_ns)
    assert (desk.position(), desk.report().state, desk.count("position_drift")) == (D(0), SignalState.CLOSED, 0)
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.NONE


def test_a_journal_lost_just_after_a_day_began_still_sees_signals_that_are_not_stale():
    desk = Desk("a", limits=wide_limits(day_zone="UTC", day_starts="08:53"))  # twenty seconds before T0
    desk.now_ns += 60_000_000_000 * 60 * 24 - 19_000_000_000  # one second into the next day
    desk.give(e.ClockTicked())
    desk.link_up("a", answer=False)
    assert asked_from(desk) <= desk.now_ns - 10_000_000_000


def unknown_order(desk: Desk) -> m.Order:
    desk.signal()
    desk.wait(2_000)
    return desk.only()


def look(desk: Desk, **snapshot) -> None:
    desk.now_ns += 10_000_000_000
    desk.link_up("a", answer=False)
    desk.snapshot(**snapshot)


def test_incomplete_snapshots_are_no_strikes():
    desk = Desk("a")
    order = unknown_order(desk)
    for complete, expected in ((False, LegState.UNKNOWN), (True, LegState.UNKNOWN), (True, LegState.REJECTED)):
        look(desk, complete=complete)
        assert desk.engine.state.orders[order.client_order_id].state is expected


def test_an_unknown_that_nobody_can_resolve_is_ended_by_who_has_looked_and_by_nobody_earlier():
    desk = Desk("b")
    desk.link_up("a", executions_history=False)
    order = unknown_order(desk)
    acknowledge = m.Acknowledge(request_id=1, platform="a", symbol="NQ", by="operator")
    desk.ask(acknowledge)
    assert not desk.answers()[0].accepted
    for _ in range(3):
        desk.now_ns += 10_000_000_000
        desk.link_up("a", answer=False, executions_history=False)
        desk.snapshot()
    assert desk.engine.state.orders[order.client_order_id].state is LegState.UNKNOWN
    desk.ask(acknowledge)
    assert desk.answers()[0].accepted
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.NONE
    desk.update(order)  # it was there all the same
    assert desk.engine.state.orders[order.client_order_id].live
    assert desk.count("late_answer") == 1


def link_account(desk: Desk, account: str, platform: str = "a") -> None:
    old = desk.engine.state.routes[f"{platform}|acc"].hello
    desk.give(e.LinkUp(hello=structs.replace(old, account=account)))
    name = {"platform": platform, "account": account}
    request_id = desk.engine.state.routes[f"{platform}|{account}"].request_id
    parts = {"positions": m.Positions(**name, rows=()), "working_orders": m.WorkingOrders(**name, rows=())}
    parts["executions"] = m.Executions(**name, rows=())
    desk.give(e.AdapterSaid(message=m.Snapshot(request_id=request_id, **name, **parts)))


def test_another_account_takes_the_place_of_the_one_before():
    desk = Desk("a")
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.NO_NEW, reason="", by="x"))
    desk.link_down()
    link_account(desk, "live")
    desk.ask(m.Resume(request_id=2, reason="", by="x"))
    assert desk.answers()[0].accepted
    assert "a|acc: not linked and flat, stays as it is" in desk.answers()[0].lines
    desk.signal(markets=(market("a", desk.now_ns, account="live"), market("a", desk.now_ns, account="acc")))
    assert [order.account for order in desk.sent(m.Order)] == ["live"]


def test_an_account_that_holds_something_is_not_left_behind():
    desk = Desk("a")
    desk.signal()
    desk.fill(desk.only())
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.NO_NEW, reason="", by="x"))
    desk.link_down()
    link_account(desk, "live")
    desk.ask(m.Resume(request_id=2, reason="", by="x"))
    assert not desk.answers()[0].accepted


def test_a_platform_that_is_no_longer_configured_is_not_waited_for():
    settings = e.EngineSettings(expected_platforms=("a", "b"))
    desk = Desk("a", settings=settings)
    desk.signal()
    assert "waiting for b" in desk.told()[0].text
    desk.settings = structs.replace(settings, expected_platforms=("a",))
    desk.give(e.Started(boot_id="g2", settings=desk.settings, limits=desk.limits))
    desk.link_up("a")
    desk.signal()
    assert desk.report().code is RejectCode.NONE


def test_what_a_trade_copier_has_copied_is_not_booked_on_our_order():
    """It copies the comment too, so the same id is at two accounts."""
    desk = Desk("a", "b")
    desk.signal("a")
    order = desk.only()
    copied = structs.replace(order, platform="b")
    desk.update(copied, LegState.FILLED, 2)
    desk.fill(copied, 2)
    assert desk.engine.state.orders[order.client_order_id].state is LegState.SENT
    assert (desk.report().filled, desk.position("b")) == (D(0), D(2))
    assert desk.count("copied_order_id") == 2
    desk.link_up("b", answer=False)
    desk.snapshot("b", orders=[desk.row(order)], positions=[("NQ", 2)], fills=[])
    assert desk.engine.state.orders[order.client_order_id].state is LegState.SENT
    assert not desk.engine.state.orphans
    desk.reject(order, platform="b", account="acc")
    assert desk.engine.state.orders[order.client_order_id].state is LegState.SENT
    desk.reject(order, platform="a", account="acc")
    assert desk.engine.state.orders[order.client_order_id].state is LegState.REJECTED


def test_hand_made_trades_are_forgotten_too_and_a_fill_of_a_route_that_was_away_is_not():
    settings = e.EngineSettings(retention_ms=3 * 86_400_000)
    desk = Desk("a", "b", settings=settings)
    desk.signal("b", order_type=m.OrderType.LIMIT, limit_price=D(20999))
    order = desk.only("b")
    desk.update(order)
    desk.link_down("b")
    desk.now_ns += DAY_NS
    late = desk.make_fill(order)
    desk.now_ns += DAY_NS // 2
    by_hand = m.Order(**{**structs.asdict(order), "platform": "a"})
    desk.fill(by_hand, client_order_id="by hand")
    for _ in range(5):
        desk.wait(86_400_000)
    assert not desk.engine.state.routes["a|acc"].executions
    assert (desk.position("a"), len(desk.engine.state.executions)) == (D(2), 0)
    desk.link_up("b", answer=False)
    desk.snapshot("b", orders=[desk.row(order, LegState.FILLED, 2)], fills=[late], positions=[("NQ", 2)])
    assert (desk.report().filled, desk.position("b"), desk.count("evicted_fill")) == (D(2), D(2), 0)


def test_an_order_that_was_taken_for_lost_and_trades_after_all_is_told_and_no_longer_called_lost():
    """Its leg was reported as refused: whoever has acted on that must hear that there is a position."""
    desk = Desk("a")
    desk.signal()
    for _ in range(3):
        desk.wait(1_000)
    for _ in range(3):
        desk.wait(4_000)
        desk.snapshot("a")
        desk.wait(1_000)
    assert desk.report().legs[0].code is RejectCode.NOT_FOUND_AT_PLATFORM
    desk.fill(desk.only(), 1)
    leg = desk.report().legs[0]
    assert (leg.state, leg.code, leg.open_quantity) == (LegState.PARTIALLY_FILLED, RejectCode.NONE, 1)
    assert any(isinstance(x, e.Alert) and "answered late" in x.text for x in desk.effects)
    desk.fill(desk.only(), 1)
    leg = desk.report().legs[0]
    assert (leg.state, leg.code, leg.open_quantity) == (LegState.FILLED, RejectCode.NONE, 2)
    assert desk.count("late_answer") == 1
