"""Numbers, probe and silence of a session, by themselves."""

from __future__ import annotations

import pytest
from nexus_gateway.core.transport.liveness import Liveness

MS = 1_000_000


@pytest.fixture
def live() -> Liveness:
    return Liveness(heartbeat_ms=100, unresponsive_after_ms=400, now_ns=0)


def check_each_heartbeat(live: Liveness, first_ms: int, last_ms: int) -> None:
    for now_ms in range(first_ms, last_ms + 1, 100):
        live.note_check(now_ms * MS)


def test_own_messages_are_numbered_from_one(live: Liveness) -> None:
    assert [live.number_sent(0) for _ in range(3)] == [1, 2, 3]
    assert live.last_seq_sent == 3


@pytest.mark.parametrize("seq", [0, 2, -1])
def test_a_gap_or_a_repetition_is_refused_and_changes_nothing(live: Liveness, seq: int) -> None:
    assert not live.number_received(seq)
    assert live.last_seq_received == 0
    assert live.number_received(1)
    assert not live.number_received(1)
    assert live.last_seq_received == 1


def test_silence_is_counted_from_what_came_last(live: Liveness) -> None:
    check_each_heartbeat(live, 0, 300)
    assert live.silent_ns(300 * MS) == 300 * MS
    live.note_received(300 * MS)
    assert live.silent_ns(350 * MS) == 50 * MS
    assert live.limit_ns == 400 * MS


def test_only_one_message_is_measured_at_a_time(live: Liveness) -> None:
    assert live.unanswered_ns(50 * MS) == 0
    live.number_sent(100 * MS)
    live.number_sent(200 * MS)
    assert (live.probe_seq, live.unanswered_ns(300 * MS)) == (1, 200 * MS)


def test_what_was_sent_behind_the_probe_is_measured_from_its_acknowledgement_on(live: Liveness) -> None:
    for now_ms in (100, 200, 250):
        live.number_sent(now_ms * MS)
    live.acknowledge(1, 300 * MS)
    assert (live.probe_seq, live.unanswered_ns(400 * MS)) == (3, 100 * MS)
    live.acknowledge(2, 400 * MS)
    assert (live.probe_seq, live.unanswered_ns(400 * MS)) == (3, 100 * MS), "the probe itself is not acknowledged yet"
    live.acknowledge(3, 450 * MS)
    assert (live.probe_seq, live.unanswered_ns(900 * MS)) == (0, 0)
    assert live.last_seq_acknowledged == 3


def test_a_dropped_probe_leaves_room_for_the_next_message(live: Liveness) -> None:
    live.number_sent(0)
    live.drop_probe()
    assert live.unanswered_ns(300 * MS) == 0
    live.number_sent(300 * MS)
    assert (live.probe_seq, live.unanswered_ns(350 * MS)) == (2, 50 * MS)


def test_a_restarted_probe_is_never_measured_from_earlier(live: Liveness) -> None:
    live.number_sent(100 * MS)
    live.restart_probe(250 * MS)
    assert live.unanswered_ns(300 * MS) == 50 * MS
    live.restart_probe(150 * MS)
    assert live.unanswered_ns(300 * MS) == 50 * MS


def test_a_pause_of_this_process_counts_as_one_heartbeat_of_silence(live: Liveness) -> None:
    live.number_sent(0)
    live.note_check(0)
    minute_ns = 60_000 * MS
    live.note_check(minute_ns)
    assert live.silent_ns(minute_ns) == live.unanswered_ns(minute_ns) == 100 * MS
    check_each_heartbeat(live, 60_100, 60_400)
    assert live.silent_ns(60_400 * MS) == 500 * MS, "from then on silence is silence again"


def test_checks_at_the_heartbeats_pace_are_no_pause(live: Liveness) -> None:
    check_each_heartbeat(live, 0, 1_000)
    assert live.silent_ns(1_000 * MS) == 1_000 * MS


def test_heartbeats_are_due_one_interval_after_each_other(live: Liveness) -> None:
    assert live.heartbeat_due_ns == 0
    live.heartbeat_sent(30 * MS)
    assert live.heartbeat_due_ns == 130 * MS
