"""One session without sockets: numbers, loss, silence, a peer that talks and does not listen."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core.messages import Envelope, Heartbeat, MessageError, Query, QueryKind, RejectCode, encode
from nexus_gateway.core.transport import Link, LinkFault, LinkTiming

MS = 1_000_000
TIMING = LinkTiming(heartbeat_ms=100, mute_after_ms=400)
QUERY = Query(request_id=1, what=QueryKind.STATUS)


def take_all(link: Link, frames: list[bytes]) -> None:
    for frame in frames:
        link.receive(frame, 0)


def check_between(link: Link, first_ms: int, last_ms: int, peer: Link | None = None) -> None:
    """Look every 50 ms; a `peer` sends a heartbeat each time, and reads nothing."""
    for now_ms in range(first_ms, last_ms, 50):
        if peer is not None:
            link.receive(peer.frame_heartbeat(now_ms * MS, 5), now_ms * MS)
        link.check(now_ms * MS)


def pair() -> tuple[Link, Link]:
    return Link("one", TIMING, 0), Link("two", TIMING, 0)


def test_messages_are_numbered_and_acknowledged() -> None:
    one, two = pair()
    for _ in range(3):
        assert two.receive(one.frame(QUERY, 0, 5), 0) == QUERY
    assert (one.liveness.last_seq_sent, two.liveness.last_seq_received) == (3, 3)
    one.receive(two.frame_heartbeat(0, 5), 0)
    assert one.liveness.last_seq_received == 1


@pytest.mark.parametrize("kept", [[0, 2], [0, 0], [1, 0], [1]])
def test_a_lost_doubled_or_reordered_message_ends_the_session(kept: list[int]) -> None:
    one, two = pair()
    frames = [one.frame(QUERY, 0, 5) for _ in range(3)]
    with pytest.raises(LinkFault, match="lost or repeated"):
        take_all(two, [frames[index] for index in kept])


def test_a_bad_message_with_its_number_ends_nothing() -> None:
    one, two = pair()
    one.liveness.last_seq_sent += 1
    bad = msgspec.msgpack.encode(
        {"sender": "one", "seq": 1, "body": {"type": "query", "what": "weather"}, "version": 2}
    )
    with pytest.raises(MessageError):
        two.receive(bad, 0)
    assert two.receive(one.frame(QUERY, 0, 5), 0) == QUERY


def test_a_bad_message_without_its_number_ends_the_session() -> None:
    _, two = pair()
    with pytest.raises(LinkFault):
        two.receive(b"\xc1garbage", 0)


def test_an_acknowledgement_of_what_was_never_sent_ends_the_session() -> None:
    _, two = pair()
    wrong = encode(Envelope(sender="one", seq=1, body=QUERY, last_seq_received=7))
    with pytest.raises(LinkFault, match="mixes two sessions up"):
        two.receive(wrong, 0)


def test_silence_is_noticed() -> None:
    one, _ = pair()
    check_between(one, 0, 401)
    with pytest.raises(LinkFault, match="nothing received"):
        check_between(one, 450, 700)


def test_a_peer_that_talks_and_does_not_listen_is_noticed() -> None:
    one, two = pair()
    one.frame(QUERY, 0, 5)  # swallowed on its way
    with pytest.raises(LinkFault, match="not acknowledged"):
        check_between(one, 0, 2_000, two)


def test_a_busy_link_with_slow_acknowledgements_is_not_mute() -> None:
    one, two = pair()
    for now_ms in range(0, 3_000, 50):
        two.receive(one.frame(QUERY, now_ms * MS, 5), now_ms * MS)
        if now_ms % 300 == 0:
            one.receive(two.frame_heartbeat(now_ms * MS, 5), now_ms * MS)
        one.check(now_ms * MS)


def test_own_sleep_is_not_taken_for_the_peers_silence() -> None:
    one, two = pair()
    one.check(0)
    one.receive(two.frame_heartbeat(0, 5), 0)
    one.check(60_000 * MS)  # suspended for a minute; the peer gets its chance
    with pytest.raises(LinkFault):
        check_between(one, 60_050, 61_000)


def test_heartbeats_are_due_at_their_interval_whatever_else_is_sent() -> None:
    one, _ = pair()
    due = 0
    for now_ms in range(0, 300, 10):
        one.frame(QUERY, now_ms * MS, 5)
        if one.check(now_ms * MS):
            due += 1
            one.frame_heartbeat(now_ms * MS, 5)
    assert due == 3


def test_a_heartbeat_carries_both_numbers() -> None:
    one, two = pair()
    two.receive(one.frame(QUERY, 0, 5), 0)
    heartbeat = one.receive(two.frame_heartbeat(0, 5, platform_up=False, last_data_ns=9), 0)
    assert heartbeat == Heartbeat(last_seq_sent=1, last_seq_received=1, platform_up=False, last_data_ns=9)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    link = Link("one", TIMING, 0)
    with pytest.raises((MessageError, LinkFault)):
        link.receive(data, 0)


def test_timing_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="mute_after_ms was 150"):
        LinkTiming(heartbeat_ms=100, mute_after_ms=150)


def test_a_fault_names_a_code() -> None:
    assert LinkFault("x").code is RejectCode.LINK_DOWN
