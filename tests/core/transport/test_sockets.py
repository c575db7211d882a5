"""Both ends of a link over real sockets: hello, loss of either end, slow readers, hostile input, CURVE."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.messages import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    AdminResult,
    Envelope,
    Hello,
    Message,
    Query,
    QueryKind,
    Reject,
    RejectCode,
    Role,
    Welcome,
    decode,
    encode,
)
from nexus_gateway.core.transport import (
    MAX_ENVELOPES_PER_MESSAGE,
    LinkClient,
    LinkState,
    PeerDown,
    PeerMessage,
    PeerUp,
    client_endpoint,
    server_endpoints,
)
from zmq.utils import z85

from tests.support.links import FAST, Ends, accept, adapter_hello, make_key_folder, nexus_hello
from tests.support.patience import patient
from tests.support.shm_processes import wait_for
from tests.support.torture import examples

QUERY = Query(request_id=1, what=QueryKind.STATUS)


@pytest.fixture
def ends(folder: Path) -> Iterator[Ends]:
    made = Ends([f"ipc://{folder}/a.ipc"])
    yield made
    made.close()


def saids(ends: Ends) -> list[PeerMessage]:
    return [event for event in ends.events if isinstance(event, PeerMessage)]


def test_hello_welcome_and_messages_both_ways(ends: Ends) -> None:
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    assert isinstance(ends.heard[client][0], Welcome)
    assert [type(event) for event in ends.events[:1]] == [PeerUp]
    assert client.send(QUERY)
    ends.until(lambda: any(event.body == QUERY for event in saids(ends)))
    answer = AdminResult(request_id=1, accepted=True, done=True)
    assert ends.server.send("nexus|nexus", answer)
    ends.until(lambda: answer in ends.heard[client])


def test_both_endpoints_of_a_port_serve(folder: Path) -> None:
    ipc = server_endpoints(folder, "nexus", "127.0.0.1", 0)
    ends = Ends([*ipc, "tcp://127.0.0.1:0"])
    try:
        tcp = ends.listener.doors.endpoints[1]
        by_tcp = LinkClient(tcp, nexus_hello("tcp"), ends.keys / "nexus", FAST)
        ends.clients.append(by_tcp)
        ends.heard[by_tcp] = []
        by_ipc = ends.client(nexus_hello("ipc"))
        ends.until(lambda: by_tcp.is_up and by_ipc.is_up)
        assert set(ends.server.peers) == {"nexus|tcp", "nexus|ipc"}
    finally:
        ends.close()


def test_a_client_finds_a_server_that_comes_later(folder: Path) -> None:
    keys = make_key_folder(folder / "keys")
    client = LinkClient(f"ipc://{folder}/a.ipc", nexus_hello(), keys.folder / "nexus", FAST)
    client.tick()
    assert client.state is LinkState.CONNECTING
    assert not client.send(QUERY)
    ends = Ends([f"ipc://{folder}/a.ipc"], keys=keys.folder)
    ends.clients.append(client)
    ends.heard[client] = []
    try:
        ends.until(lambda: client.is_up)
    finally:
        ends.close()


def test_a_client_comes_back_to_a_new_server_in_a_new_session(folder: Path) -> None:
    endpoint = f"ipc://{folder}/a.ipc"
    first = Ends([endpoint])
    client = first.client(adapter_hello())
    first.until(lambda: client.is_up)
    first.listener.close(0)  # as a kill does: no farewell
    second = Ends([endpoint], keys=first.keys)
    second.clients.append(client)
    second.heard[client] = []
    try:
        second.until(lambda: client.counts["links"] == 2)
        assert client.cut_reason
        assert isinstance(second.heard[client][0], Welcome)
    finally:
        second.close()


def test_the_platforms_state_comes_with_heartbeats_and_only_when_it_changes(ends: Ends) -> None:
    client = ends.client(adapter_hello())
    ends.until(lambda: len(saids(ends)) == 1)
    for _ in range(20):
        ends.turn()
    client.platform_up = False
    ends.until(lambda: len(saids(ends)) == 2)
    assert [event.body.platform_up for event in saids(ends)] == [True, False]  # type: ignore[union-attr]  # heartbeats


def test_a_mute_client_is_cut_and_told_so(ends: Ends) -> None:
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    ends.paused.add(client)  # alive, and turns no more
    ends.until(lambda: any(isinstance(event, PeerDown) for event in ends.events))
    (down,) = [event for event in ends.events if isinstance(event, PeerDown)]
    assert "nothing received" in down.reason
    ends.paused.remove(client)
    ends.until(lambda: client.counts["links"] == 2)


def test_a_mute_server_is_left_and_found_again(ends: Ends) -> None:
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    while client.is_up:  # the server is connected and turns no more
        client.receive()
        client.tick()
    assert "nothing received" in client.cut_reason or "not acknowledged" in client.cut_reason
    ends.until(lambda: client.counts["links"] == 2)


def test_a_newer_link_of_the_same_account_takes_the_place_of_the_older(ends: Ends) -> None:
    older = ends.client(adapter_hello())
    ends.until(lambda: older.is_up)
    ends.paused.add(older)
    newer = ends.client(adapter_hello())
    ends.until(lambda: newer.is_up)
    kinds = [type(event) for event in ends.events if not isinstance(event, PeerMessage)]
    assert kinds == [PeerUp, PeerDown, PeerUp]
    assert ends.server.peers == ("nt8|SIM1",)
    older.receive()
    assert "taken its place" in older.cut_reason


@pytest.mark.parametrize(
    ("hello", "text"),
    [
        (nexus_hello(role=Role.ADMIN), "role was admin, this port is for nexus"),
        (adapter_hello(), "role was adapter, this port is for nexus"),
    ],
)
def test_who_may_not_come_in_is_told_why_and_tries_ever_more_rarely(folder: Path, hello: Hello, text: str) -> None:
    ends = Ends([f"ipc://{folder}/a.ipc"], roles=(Role.NEXUS,))
    try:
        client = ends.client(hello)
        ends.until(lambda: client.counts["refusals"] >= 3)
        assert text in client.cut_reason
        assert ends.server.counts["links_refused"] >= 3
        assert not ends.events
    finally:
        ends.close()


def test_greet_may_refuse(folder: Path) -> None:
    def refuse(hello: Hello) -> Welcome:
        return msgspec.structs.replace(accept(hello), accepted=False, code=RejectCode.KILL_SWITCH, text="severed")

    ends = Ends([f"ipc://{folder}/a.ipc"], greet=refuse)
    try:
        client = ends.client(adapter_hello())
        ends.until(lambda: client.refusal is not None)
        assert client.refusal is not None
        assert client.refusal.code is RejectCode.KILL_SWITCH
    finally:
        ends.close()


def test_the_number_of_peers_is_bounded(folder: Path) -> None:
    ends = Ends([f"ipc://{folder}/a.ipc"], max_peers=2)
    try:
        clients = [ends.client(nexus_hello(f"n{number}")) for number in range(3)]
        ends.until(lambda: any("allowed are no more" in client.cut_reason for client in clients))
        assert len(ends.server.peers) == 2
    finally:
        ends.close()


def test_a_reader_that_does_not_read_is_cut_and_the_others_go_on(folder: Path) -> None:
    ends = Ends([f"ipc://{folder}/a.ipc"], queue_messages=50)
    try:
        slow = ends.client(nexus_hello("slow"), queue_messages=50)
        quick = ends.client(nexus_hello("quick"))
        ends.until(lambda: slow.is_up and quick.is_up)
        ends.paused.add(slow)
        text = AdminResult(request_id=1, accepted=True, done=True, lines=("x" * 500,) * 100)
        sent = 0
        while ends.server.send("nexus|slow", text):
            sent += 1
            assert sent < 100_000, "the queue has no bound"
        assert ends.server.counts["overflows"] == 1
        assert ends.server.send("nexus|quick", text)
        ends.until(lambda: text in ends.heard[quick])
    finally:
        ends.close()


def test_a_client_whose_queue_is_full_cuts_its_link_itself(folder: Path) -> None:
    ends = Ends([f"ipc://{folder}/a.ipc"], queue_messages=20)
    try:
        client = ends.client(nexus_hello(), queue_messages=20)
        ends.until(lambda: client.is_up)
        sent = 0
        message = Reject(code=RejectCode.NONE, text="x" * 500)
        while client.send(message):
            sent += 1
            assert sent < 100_000, "the queue has no bound"
        assert client.counts["overflows"] == 1
        assert client.state is LinkState.WAITING
        ends.until(lambda: client.counts["links"] == 2)
    finally:
        ends.close()


def answer_to(ends: Ends, *frames: bytes) -> Envelope:
    stranger = ends.stranger()
    stranger.send_multipart(frames)
    ends.until(lambda: stranger.poll(0))
    return decode(stranger.recv())


def test_who_has_not_said_hello_is_told_to(ends: Ends) -> None:
    answer = answer_to(ends, encode(Envelope(sender="x", seq=1, body=QUERY)))
    assert isinstance(answer.body, Welcome)
    assert "say hello first" in answer.body.text
    assert not ends.events


def test_a_hello_that_says_it_has_received_something_is_refused(ends: Ends) -> None:
    """It begins a session. An older one of the same peer is not cut for it."""
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    answer = answer_to(ends, encode(Envelope(sender="x", seq=1, last_seq_received=1, body=nexus_hello())))
    assert isinstance(answer.body, Welcome)
    assert (answer.body.accepted, answer.body.code) == (False, RejectCode.MALFORMED)
    assert "last_seq_received was 1 in a hello" in answer.body.text
    assert client.is_up


@pytest.mark.parametrize(
    ("frames", "code", "counter"),
    [
        ([b"garbage"], RejectCode.MALFORMED, "bad_messages"),
        ([b""], RejectCode.MALFORMED, "bad_messages"),
        ([b"one", b"two"], RejectCode.MALFORMED, "bad_messages"),
        ([b"\x00" * (MAX_MESSAGE_BYTES + 1)], RejectCode.TOO_LARGE, "giant_messages"),
        (
            [msgspec.msgpack.encode({"sender": "x", "seq": 1, "body": {"type": "teleport"}, "version": 9})],
            RejectCode.WRONG_VERSION,
            "wrong_versions",
        ),
    ],
)
def test_bad_frames_are_counted_and_answered(ends: Ends, frames: list[bytes], code: RejectCode, counter: str) -> None:
    answer = answer_to(ends, *frames)
    assert isinstance(answer.body, Reject)
    assert answer.body.code is code
    assert ends.server.counts[counter] == 1


def test_a_frame_beyond_all_bounds_ends_its_own_connection_only(ends: Ends) -> None:
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    stranger = ends.stranger()
    stranger.send(b"\x00" * (3 * MAX_MESSAGE_BYTES))
    assert client.send(QUERY)
    ends.until(lambda: any(event.body == QUERY for event in saids(ends)))


def test_a_bad_message_within_a_session_is_rejected_by_name_and_the_session_goes_on(ends: Ends) -> None:
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    link = client._link
    link.liveness.last_seq_sent += 1
    assert client.socket is not None
    client.socket.send(
        msgspec.msgpack.encode(
            {
                "sender": "nexus",
                "seq": link.liveness.last_seq_sent,
                "last_seq_received": link.liveness.last_seq_received,
                "body": {"type": "signal", "signal_id": "s-7", "quantity": "NaN"},
                "version": PROTOCOL_VERSION,
            }
        )
    )
    ends.until(lambda: any(isinstance(body, Reject) and body.signal_id == "s-7" for body in ends.heard[client]))
    assert client.send(QUERY)
    ends.until(lambda: any(event.body == QUERY for event in saids(ends)))
    assert client.counts["links"] == 1


def queries(count: int) -> list[Query]:
    return [Query(request_id=number, what=QueryKind.STATUS) for number in range(1, count + 1)]


def first_batch(receive: Callable[[], list[Message]]) -> list[Message]:
    """What one call receives, asked again while it is nothing: a socket may be readable before all frames are there."""
    batch: list[Message] = []
    wait_for(lambda: bool(batch.extend(receive()) or batch), "messages that were sent together")
    return batch


def test_what_is_sent_together_arrives_together_and_in_order(ends: Ends) -> None:
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    asked = queries(MAX_ENVELOPES_PER_MESSAGE)
    assert client.send(*asked)
    assert (
        first_batch(lambda: [event.body for event in ends.server.receive() if isinstance(event, PeerMessage)]) == asked
    )
    answers = [AdminResult(request_id=each.request_id, accepted=True, done=True) for each in asked]
    assert ends.server.send("nexus|nexus", *answers)
    assert first_batch(client.receive) == answers
    assert client.counts["messages_sent"] == client.counts["messages_received"] - 1 == MAX_ENVELOPES_PER_MESSAGE


def test_a_bad_message_among_others_is_refused_alone(ends: Ends) -> None:
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    one, two = queries(2)
    bad = msgspec.msgpack.encode({"seq": client._link.liveness.last_seq_sent + 2, "body": {"signal_id": "s-9"}})
    frames = [client._link.frame(one, 0, 5)]
    client._link.liveness.last_seq_sent += 1
    frames += [bad, client._link.frame(two, 0, 5)]
    assert client._send_frames(*frames)
    ends.until(lambda: [event.body for event in saids(ends)] == [one, two])
    ends.until(lambda: any(isinstance(body, Reject) and body.signal_id == "s-9" for body in ends.heard[client]))
    assert client.counts["links"] == 1


def test_what_comes_behind_a_gap_is_not_taken(ends: Ends) -> None:
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    one, two, three = (client._link.frame(each, 0, 5) for each in queries(3))
    assert client._send_frames(one, three, two)
    ends.until(lambda: client.counts["links"] == 2)
    assert [event.body for event in saids(ends)] == queries(1)


def test_too_many_frames_end_the_session_at_either_end(ends: Ends) -> None:
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    client.send(*queries(MAX_ENVELOPES_PER_MESSAGE + 1))
    ends.until(lambda: client.counts["links"] == 2)
    assert ends.server.counts["bad_messages"] == 1
    assert not saids(ends)
    ends.server.send("nexus|nexus", *queries(MAX_ENVELOPES_PER_MESSAGE + 1))
    ends.until(lambda: client.counts["links"] == 3)


@examples(60, 2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(st.binary(max_size=200), min_size=1, max_size=3))
def test_fuzzed_frames_neither_raise_nor_make_a_session(ends: Ends, frames: list[bytes]) -> None:
    stranger = ends.stranger()
    stranger.send_multipart(frames)
    before = sum(ends.server.counts.values())
    ends.until(lambda: sum(ends.server.counts.values()) > before)
    stranger.close(0)
    ends._raw.remove(stranger)
    assert not ends.events


_valid = encode(Envelope(sender="x", seq=1, body=adapter_hello()))


@examples(60, 2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(_valid) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_hello_is_answered(ends: Ends, at: int, byte: int, cut: bool) -> None:
    damaged = _valid[:at] if cut else _valid[:at] + bytes([byte]) + _valid[at + 1 :]
    answer = answer_to(ends, damaged)
    assert isinstance(answer.body, Reject | Welcome)
    ends._raw.pop().close(0)


def test_a_run_folder_whose_path_is_too_long_for_a_socket_file_uses_tcp(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    assert client_endpoint(deep, "nexus", "127.0.0.1", 5556) == "tcp://127.0.0.1:5556"
    with pytest.raises(ConfigError, match="write a port"):
        client_endpoint(deep, "nexus", "127.0.0.1", 0)


@pytest.mark.parametrize("seq", [0, 1])
def test_a_server_of_another_version_is_told_by_both_versions(folder: Path, seq: int) -> None:
    """An older gateway cannot read the hello, and answers in its own version, numbered or not."""
    keys = make_key_folder(folder / "keys")
    with zmq.Context() as context, context.socket(zmq.ROUTER) as old:
        old.setsockopt(zmq.CURVE_SERVER, 1)
        old.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(keys.own.secret))
        old.bind(f"ipc://{folder}/old.ipc")
        client = LinkClient(f"ipc://{folder}/old.ipc", nexus_hello(), keys.folder / "nexus", FAST)
        peer, _ = old.recv_multipart()
        answer = {"sender": "gateway", "seq": seq, "body": {"type": "reject"}, "version": PROTOCOL_VERSION - 1}
        old.send_multipart([peer, msgspec.msgpack.encode(answer)])
        assert client.socket is not None
        client.socket.poll(int(patient(20_000)))
        client.receive()
        assert f"was {PROTOCOL_VERSION - 1}, this side speaks {PROTOCOL_VERSION}" in client.cut_reason
        client.close()


def test_an_owner_that_cannot_handle_events_keeps_its_links_by_reading_and_heartbeats(ends: Ends) -> None:
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    ends.turn()
    held: list[object] = []
    until_s = time.monotonic() + 3 * FAST.mute_after_ms / 1000
    while time.monotonic() < until_s:
        held += ends.server.receive()
        ends.server.send_heartbeats()
        client.receive()
        client.tick()
        assert client.is_up
        time.sleep(0.005)
    assert not any(isinstance(event, PeerDown) for event in held)
    assert not any(isinstance(event, PeerDown) for event in ends.server.tick())
    assert client.send(QUERY)
    ends.until(lambda: any(event.body == QUERY for event in saids(ends)))
