"""When a NEXUS counts as lost: in steady time, once, and never after a reconnect in time."""

from __future__ import annotations

from nexus_gateway.core import messages as m
from nexus_gateway.core.gateway.absences import Absences
from nexus_gateway.core.transport import PeerDown, PeerUp

from tests.support.orders import MS, D, Desk

HELLO = m.Hello(role=m.Role.NEXUS, name="n", boot_id="b")
ADMIN = m.Hello(role=m.Role.ADMIN, name="n", boot_id="b")
DOWN, UP = PeerDown("nexus", HELLO, "gone"), PeerUp("nexus", HELLO)


def working_desk() -> Desk:
    """One entry of the peer `nexus` works."""
    desk = Desk("a")
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(21000))
    desk.update(desk.only())
    return desk


def lost(absences: Absences, desk: Desk, at_ms: int) -> list[str]:
    found = absences.pop_lost(desk.engine.state, at_ms * MS)
    for event in found:
        desk.give(event)
    return [event.peer for event in found]


def test_it_is_lost_once_and_at_the_time():
    desk, absences = working_desk(), Absences(1_000)
    assert lost(absences, desk, 10_000) == []
    absences.note(DOWN, 10_000 * MS)
    assert lost(absences, desk, 10_999) == []
    assert lost(absences, desk, 11_000) == ["nexus"]
    assert len(desk.sent(m.Cancel)) == 1
    assert lost(absences, desk, 20_000) == []


def test_a_reconnect_in_time_changes_nothing_and_the_next_wait_is_whole():
    desk, absences = working_desk(), Absences(1_000)
    absences.note(DOWN, 0)
    absences.note(UP, 999 * MS)
    assert lost(absences, desk, 5_000) == []
    absences.note(DOWN, 6_000 * MS)
    absences.note(DOWN, 6_500 * MS)
    assert lost(absences, desk, 6_999) == []
    assert lost(absences, desk, 7_000) == ["nexus"]


def test_after_a_start_every_nexus_with_an_active_signal_has_to_come_back():
    desk, absences = working_desk(), Absences(1_000)
    absences.begin(desk.engine.state, 5_000 * MS)
    assert lost(absences, desk, 5_999) == []
    assert lost(absences, desk, 6_000) == ["nexus"]
    again = working_desk()
    absences.begin(again.engine.state, 5_000 * MS)
    absences.note(UP, 5_500 * MS)
    assert lost(absences, again, 9_000) == []


def test_only_a_nexus_with_working_entries_is_lost():
    desk, absences = Desk("a"), Absences(1_000)
    desk.signal()
    desk.fill(desk.only())
    absences.note(DOWN, 0)
    absences.note(PeerDown("admin|n", ADMIN, "gone"), 0)
    assert lost(absences, desk, 60_000) == []


def test_off_is_off():
    desk, absences = working_desk(), Absences(None)
    absences.begin(desk.engine.state, 0)
    absences.note(DOWN, 0)
    assert lost(absences, desk, 86_400_000) == []


def test_an_entry_that_comes_back_while_its_nexus_is_gone_ends_too():
    desk, absences = working_desk(), Absences(1_000)
    order = desk.only()
    absences.note(DOWN, 0)
    assert lost(absences, desk, 1_000) == ["nexus"]
    desk.engine.state.orders[order.client_order_id].cancel_wanted = False
    assert lost(absences, desk, 1_999) == []
    assert lost(absences, desk, 2_000) == ["nexus"]
