"""A limit of repeated entries that latches: its account, symbol and side stay barred until `resume`."""

from __future__ import annotations

from msgspec import structs
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import RejectCode

from tests.core.engine.test_activity import CLOSE, LATCH, alerts, enter, make_desk, next_day, restart, resume, text_of
from tests.support.orders import SECOND, D, Desk, market


def latched_desk() -> Desk:
    desk = make_desk("a", "b", **LATCH)
    assert [enter(desk, n) for n in (1, 2)] == [RejectCode.NONE] * 2
    assert not desk.engine.state.latches, "at the limit and not beyond"
    assert enter(desk, 3) is RejectCode.REPEATED_ENTRIES
    assert "until an operator lifts it: nexus-gateway resume" in text_of(desk, 3)
    return desk


def test_a_refused_repetition_bars_its_account_symbol_and_side_until_resume():
    desk = latched_desk()
    desk.now_ns += 600 * SECOND  # the window has long been empty
    assert enter(desk, 4) is RejectCode.LATCHED
    assert "one more after 2 entries buy NQ on a|acc within 60000 ms" in text_of(desk, 4)
    assert "nexus-gateway resume --reason TEXT" in text_of(desk, 4)
    assert enter(desk, 5, "b") is RejectCode.NONE, "another account"
    es = (market("a", desk.now_ns, symbol="ES"),)
    assert enter(desk, 6, symbol="ES", markets=es) is RejectCode.NONE, "another symbol"
    assert len(alerts(desk, RejectCode.LATCHED)) == 1
    desk.ask(m.Query(request_id=1, what=m.QueryKind.STATUS))
    assert any("latched: one more after 2 entries" in line for line in desk.answers()[0].lines)
    lines = resume(desk).lines
    assert [line for line in lines if line.startswith("latch lifted: one more after 2 entries buy NQ on a|acc")]
    assert enter(desk, 7) is RejectCode.NONE
    assert not desk.engine.state.latches


def test_after_resume_the_window_starts_empty():
    desk = latched_desk()
    resume(desk)
    assert [enter(desk, n) for n in (4, 5, 6)] == [RejectCode.NONE, RejectCode.NONE, RejectCode.REPEATED_ENTRIES]
    assert len(alerts(desk, RejectCode.LATCHED)) == 2


def test_a_latch_outlives_restart_day_and_the_limit():
    desk = latched_desk()
    restart(desk)
    assert enter(desk, 4) is RejectCode.LATCHED
    next_day(desk)
    assert enter(desk, 5) is RejectCode.LATCHED
    limits = structs.replace(desk.limits, max_same_side_entries=None, repeated_entries_latch=False)
    desk.engine.state.limits = limits
    assert enter(desk, 6) is RejectCode.LATCHED, "a person lifts it, no configuration"


def test_resume_of_one_platform_lifts_its_own_latches():
    desk = latched_desk()
    assert [enter(desk, n, "b") for n in (4, 5, 6)][-1] is RejectCode.REPEATED_ENTRIES
    resume(desk, "b")
    assert enter(desk, 7, "b") is RejectCode.NONE
    assert enter(desk, 8, "a") is RejectCode.LATCHED


def test_a_refused_resume_lifts_nothing():
    desk = latched_desk()
    desk.link_down("b")
    assert not resume(desk).accepted
    assert desk.engine.state.latches


def test_without_the_latch_the_window_decides_alone():
    desk = make_desk(**(LATCH | {"repeated_entries_latch": False}))
    assert [enter(desk, n) for n in (1, 2, 3)][-1] is RejectCode.REPEATED_ENTRIES
    desk.now_ns += 61 * SECOND
    assert enter(desk, 4) is RejectCode.NONE


def test_a_latched_entry_neither_grows_nor_moves_but_shrinks_ends_and_closes():
    desk = latched_desk()
    order = next(iter(desk.orders.values()))
    for change in ({"limit_price": D("20999.5")}, {"limit_price": D(21001)}):
        desk.ask(m.SignalReplace(signal_id="e1", **change))
        assert (desk.sent(m.Replace), desk.told()[0].code) == ([], RejectCode.LATCHED)
    desk.fill(order)
    desk.signal(signal_id="close", quantity=D(1), **CLOSE)
    assert [each.side for each in desk.sent(m.Order)] == [m.Side.SELL]
    desk.ask(m.SignalCancel(signal_id="e2"))
    assert len(desk.sent(m.Cancel)) == 1
