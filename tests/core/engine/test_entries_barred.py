"""Entries that the process around the engine bars for a while: no kill, nothing to resume."""

from __future__ import annotations

from decimal import Decimal as D

from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import KillLevel, OrderRole, RejectCode, Side

from tests.support.orders import Desk

REASON = "the kill file cannot be opened: Too many open files"


def test_what_adds_risk_is_refused_while_it_lasts_and_nothing_latches():
    desk = Desk("a")
    desk.signal()
    desk.fill(desk.only())
    desk.give(e.EntriesBarred(reason=REASON))
    alert = next(each for each in desk.effects if isinstance(each, e.Alert))
    assert (alert.code, alert.text) == (RejectCode.KILL_SWITCH, f"entries are refused: {REASON}")
    desk.signal(signal_id="s2", side=Side.BUY, quantity=D(1))
    assert desk.report("s2").code is RejectCode.KILL_SWITCH
    assert REASON in desk.report("s2").text
    assert desk.engine.state.kill is KillLevel.NORMAL
    assert not desk.engine.state.kills
    assert not desk.engine.state.latches
    desk.give(e.EntriesBarred(reason=""))
    desk.now_ns += 60_000_000_000
    desk.signal(signal_id="s3", quantity=D(1))
    assert desk.only().client_order_id != "", "the next entry leaves without a resume"
    assert desk.report("s3").code is RejectCode.NONE


def test_exits_go_on_meanwhile():
    desk = Desk("a")
    desk.signal()
    desk.fill(desk.only())
    desk.give(e.EntriesBarred(reason=REASON))
    desk.ask(m.SignalClose(signal_id="s1"))
    stop = (
        desk.only(role=OrderRole.STOP_LOSS)
        if any(m.find_client_order_id(name).role is OrderRole.STOP_LOSS for name in desk.orders)
        else None
    )
    if stop is not None:
        desk.update(stop, m.LegState.CANCELLED)
    assert desk.only(role=OrderRole.EXIT).quantity == D(2)


def test_a_working_entry_does_not_grow_meanwhile():
    desk = Desk("a")
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(20999))
    desk.update(desk.only())
    desk.give(e.EntriesBarred(reason=REASON))
    desk.ask(m.SignalReplace(signal_id="s1", limit_price=D(20999) + D("0.5")))
    assert not desk.sent(m.Replace)
    assert any(isinstance(each, m.Reject) and each.code is RejectCode.KILL_SWITCH for each in desk.told())


def test_a_new_process_begins_without_it():
    desk = Desk("a")
    desk.give(e.EntriesBarred(reason=REASON))
    desk.give(e.Started(boot_id="g2", settings=desk.settings, limits=desk.limits))
    assert desk.engine.state.entries_barred == ""
