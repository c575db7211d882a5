"""What a connection costs before it has proved anything, and a whole message after it; and who listens on our port."""

from __future__ import annotations

import socket as plain
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.messages import Query, QueryKind
from nexus_gateway.core.transport import (
    ClientKeys,
    KeyPair,
    LinkClient,
    ListenerSettings,
    PeerMessage,
    make_client_keys,
    read_client_keys,
    trust_gateway,
)
from nexus_gateway.core.transport.connection import MAX_WIRE_MESSAGE_BYTES, Connection
from nexus_gateway.core.transport.curve import make_key_pair
from nexus_gateway.core.transport.peer_socket import PeerSocket
from nexus_gateway.core.transport.strangers import Strangers
from nexus_gateway.core.transport.zmtp import ProtocolFault
from zmq.utils import z85

from tests.support.curve_client import GREETING, METADATA, CurveClient, data_of_command
from tests.support.impostor import NO_SECURITY, Impostor
from tests.support.links import FAST, Ends, make_key_folder, nexus_hello
from tests.support.ports import free_port
from tests.support.proved import prove_by_hand
from tests.support.shm_processes import wait_for
from tests.support.torture import examples

QUERY = Query(request_id=1, what=QueryKind.STATUS)
BOUNDS = ListenerSettings(max_unproven=16, handshake_ms=60_000)


@pytest.fixture
def ends(folder: Path) -> Iterator[Ends]:
    made = Ends(["tcp://127.0.0.1:0"], keys=folder / "keys", bounds=BOUNDS)
    yield made
    made.close()


def address(ends: Ends) -> tuple[str, int]:
    return "127.0.0.1", int(ends.endpoint.rpartition(":")[2])


def asks(ends: Ends, client: LinkClient) -> None:
    before = len(ends.events)
    assert client.send(QUERY)
    ends.until(lambda: any(isinstance(each, PeerMessage) and each.body == QUERY for each in ends.events[before:]))
    assert client.counts["links"] == 1


@pytest.mark.parametrize("said", [b"", b"\xff", GREETING, b"GET / HTTP/1.1\r\n\r\n", GREETING + b"\x04\x06\x05HELLO"])
def test_a_crowd_that_proves_nothing_is_bounded_and_keeps_nobody_out(ends: Ends, said: bytes) -> None:
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    crowd = []
    try:
        for _ in range(300):
            one = plain.create_connection(address(ends))
            one.sendall(said)
            crowd.append(one)
            ends.turn()
        ends.until(lambda: len(ends.listener._peers) <= BOUNDS.max_unproven + 1)
        asks(ends, client)
        late = ends.client(nexus_hello("late"))
        ends.until(lambda: late.is_up)
        assert len(ends.listener._peers) <= BOUNDS.max_unproven + 2
        assert ends.server.counts["links_refused"] == 0, "nothing of theirs was read as a message"
    finally:
        for one in crowd:
            one.close()


def test_a_silent_connection_is_closed_in_time(folder: Path) -> None:
    ends = Ends(["tcp://127.0.0.1:0"], keys=folder / "keys", bounds=ListenerSettings(handshake_ms=50))
    try:
        with plain.create_connection(address(ends)) as silent:
            ends.until(lambda: ends.listener.counts["handshakes_failed"] == 1)
            silent.settimeout(10)
            while silent.recv(1_000):
                pass
            assert not ends.listener._peers
    finally:
        ends.close()


def test_a_proved_connection_without_a_session_is_closed_in_time(folder: Path) -> None:
    ends = Ends(["tcp://127.0.0.1:0"], keys=folder / "keys", bounds=ListenerSettings(handshake_ms=100))
    try:
        client = ends.client(nexus_hello())
        ends.until(lambda: client.is_up)
        quiet = ends.stranger()
        ends.until(lambda: len(ends.listener._peers) == 2)
        quiet.disconnect(ends.endpoint)
        ends.until(lambda: len(ends.listener._peers) == 1)
        asks(ends, client)
    finally:
        ends.close()


def stranger_of(number: int, host: str, progress: int = 0) -> PeerSocket:
    connection = Connection(OWN, lambda key: None)
    connection.progress = progress
    return PeerSocket(number, plain.socket(), f"{host}:{number}", connection, number)


def test_a_flood_from_one_address_drives_out_no_other() -> None:
    strangers = Strangers(8)
    hosts = ["10.0.0.7", *["10.0.0.9"] * 5, "10.0.0.8", "10.0.0.9"]
    peers = [stranger_of(number, host) for number, host in enumerate(hosts)]
    for peer in peers:
        strangers.add(peer)
    assert strangers.is_full
    assert strangers.choose() is peers[1], "the oldest of the address that has most"
    for peer in peers:
        peer.close()


def test_who_says_nothing_that_fits_drives_out_nobody_who_is_about_to_prove_a_key() -> None:
    strangers = Strangers(8)
    peers = [stranger_of(number, "10.0.0.9", progress) for number, progress in enumerate([3, 2, 1, 0, 1, 0])]
    for peer in peers:
        strangers.add(peer)
    for gone in (3, 5, 2, 4, 1, 0):
        assert strangers.choose() is peers[gone]
        strangers.discard(gone)
    assert strangers.choose() is None
    for peer in peers:
        peer.close()


def test_one_message_without_an_end_is_cut_at_its_bound_and_the_others_go_on(ends: Ends) -> None:
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    connection, endless = prove_by_hand(ends)
    assert len(ends.listener._peers) == 2
    held = sent = 0
    with connection:
        connection.setblocking(False)
        unsent = b""
        while len(ends.listener._peers) == 2:
            assert sent < MAX_WIRE_MESSAGE_BYTES + (1 << 20)
            if not unsent:
                unsent = endless.message(bytes(1 << 16), 1)
                sent += 1 << 16
            try:
                unsent = unsent[connection.send(unsent) :]
            except OSError:
                pass  # full, or closed
            ends.turn()
            held = max(held, sum(peer.connection.held_bytes for peer in ends.listener._peers.values()))
    assert MAX_WIRE_MESSAGE_BYTES / 2 < held <= MAX_WIRE_MESSAGE_BYTES + (1 << 17)
    asks(ends, client)


def test_messages_that_are_not_complete_are_bounded_together(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_gateway.core.transport.listener._HELD_BYTES", 4 << 20)
    client = ends.client(nexus_hello())
    ends.until(lambda: client.is_up)
    crowd = [prove_by_hand(ends) for _ in range(6)]
    part = 1 << 20
    for connection, unfinished in crowd:
        sender = threading.Thread(target=connection.sendall, args=(unfinished.message(bytes(part), 1),), daemon=True)
        sender.start()
        while sender.is_alive():
            ends.turn()
            assert sum(peer.connection.held_bytes for peer in ends.listener._peers.values()) <= (4 << 20) + (1 << 18)
    ends.until(lambda: len(ends.listener._peers) < 7)
    asks(ends, client)
    for connection, _ in crowd:
        connection.close()


# Who listens there instead of the gateway.


def secrets_of(keys: Path) -> list[bytes]:
    own = read_client_keys(keys).own.secret
    return [own, z85.encode(own), b"boss-of-all", b"hello", b"nexus"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        NO_SECURITY,
        GREETING[:32] + b"\x01" + bytes(31),
        GREETING[:32] + b"\x01" + bytes(31) + b"\x04\xa8\x07WELCOME" + bytes(160),
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["silent", "no security", "curve, silent", "curve, made-up welcome", "http"],
)
def test_an_impostor_on_the_port_is_sent_nothing_and_obeyed_in_nothing(folder: Path, answer: bytes) -> None:
    port = free_port()
    keys = make_key_folder(folder / "keys")
    impostor = Impostor(port, answer)
    client = LinkClient(f"tcp://127.0.0.1:{port}", nexus_hello("boss-of-all"), keys.folder / "nexus", FAST)
    try:

        def turn() -> bool:
            assert client.receive() == []
            client.tick()
            assert not client.send(QUERY)
            return b"CURVE" in impostor.heard or len(impostor.heard) >= 10

        wait_for(turn, "the client's greeting")
        if answer and answer != b"HTTP/1.1 200 OK\r\n\r\n":
            wait_for(lambda: turn() and (client.counts["unproven"] > 0 or answer.endswith(bytes(31))), "the alert")
        if client.counts["unproven"]:
            assert "has not proved that it is our gateway" in client.cut_reason
    finally:
        impostor.stop()
    for secret in secrets_of(keys.folder / "nexus"):
        assert secret not in impostor.heard
    ends = Ends([f"tcp://127.0.0.1:{port}"], keys=keys.folder)
    try:
        ends.clients.append(client)
        ends.heard[client] = []
        ends.until(lambda: client.is_up)
    finally:
        ends.close()


def test_a_gateway_with_another_key_is_not_obeyed(folder: Path, ends: Ends) -> None:
    make_client_keys(folder / "mine")
    trust_gateway(folder / "mine", make_key_pair()[0])
    client = ends.client(nexus_hello(), keys=folder / "mine")
    ends.until(lambda: client.counts["unproven"] >= 2)
    assert "the gateway has new keys" in client.cut_reason
    assert ends.listener.counts["handshakes_failed"] >= 1
    assert not ends.events


def test_an_unknown_key_is_refused_by_name_at_both_ends(folder: Path) -> None:
    warned: list[str] = []
    ends = Ends(["tcp://127.0.0.1:0"], keys=folder / "keys")
    ends.listener._warn_person = warned.append
    try:
        public = make_client_keys(folder / "mine")
        trust_gateway(folder / "mine", make_key_folder(folder / "keys").own.public)
        client = ends.client(nexus_hello(), keys=folder / "mine")
        ends.until(lambda: "does not allow our key" in client.cut_reason)
        assert public.hex() in client.cut_reason
        assert any(public.hex() in text for text in warned)
        assert ends.listener.counts["keys_refused"] >= 1
    finally:
        ends.close()


def test_a_port_that_is_taken_is_tried_again_until_it_is_free(folder: Path) -> None:
    port = free_port()
    other = plain.create_server(("127.0.0.1", port))
    ends = Ends([f"ipc://{folder}/a.ipc", f"tcp://127.0.0.1:{port}"], keys=folder / "keys")
    try:
        local = ends.client(nexus_hello())
        ends.until(lambda: local.is_up)
        assert len(ends.listener.doors.taken) == 1
        other.close()
        ends.until(lambda: not ends.listener.doors.taken)
        ends.endpoint = ends.listener.doors.endpoints[1]
        distant = ends.client(nexus_hello("distant"))
        ends.until(lambda: distant.is_up)
    finally:
        other.close()
        ends.close()


# The handshake itself, byte by byte.

OWN, CLIENT = KeyPair(*make_key_pair()), KeyPair(*make_key_pair())
KEYS = ClientKeys(CLIENT, OWN.public)


def shake(change: Callable[[bytes, int], bytes] = lambda data, step: data, metadata: bytes = METADATA) -> Connection:
    """A handshake of which each step may be changed on its way; returns the listener's side."""
    side = Connection(OWN, lambda key: "proved" if key == CLIENT.public else None)  # type: ignore[arg-type,return-value]
    client = CurveClient(KEYS)
    side.take(change(GREETING, 0))
    side.take(change(client.hello(), 1))
    welcome = data_of_command(bytes(side.out), b"WELCOME")
    side.take(change(client.initiate(welcome, metadata), 2))
    assert side.proof is not None
    assert side.take(change(client.message(b"one", 1), 3)) == []
    assert side.take(change(client.message(b"two"), 4)) == [[b"one", b"two"]]
    return side


def test_a_handshake_as_the_specification_has_it_is_accepted() -> None:
    side = shake()
    with pytest.raises(ProtocolFault, match="came twice"):
        side.take(CurveClient(KEYS, nonce=2, shared=b"\0" * 32).message(b"x"))


@examples(300, 20_000)
@given(step=st.integers(0, 4), at=st.integers(0, 600), change=st.integers(1, 255))
def test_a_handshake_with_any_changed_byte_proves_nothing_and_raises_nothing_else(
    step: int, at: int, change: int
) -> None:
    def damage(data: bytes, now: int) -> bytes:
        if now != step:
            return data
        place = at % len(data)
        return data[:place] + bytes([data[place] ^ change]) + data[place + 1 :]

    try:
        side = shake(damage)
    except (ProtocolFault, AssertionError, ValueError):
        return  # refused, or the listener waits for more
    # What means nothing: padding of the greeting, version, `as-server`, the zeros that make HELLO long, and whether the
    # frame of a sealed message is called a command.
    assert side.proof is not None
    assert step in (0, 1) or change == 4


@examples(200, 20_000, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=4_000), after=st.sampled_from([b"", GREETING, GREETING[:11]]), cut=st.integers(1, 700))
def test_bytes_before_a_proof_raise_nothing_but_a_fault_and_are_bounded(data: bytes, after: bytes, cut: int) -> None:
    side = Connection(OWN, lambda key: None)
    stream = after + data
    try:
        for start in range(0, len(stream), cut):
            assert side.take(stream[start : start + cut]) == []
            assert side.held_bytes <= 2_048 + cut
    except ProtocolFault:
        pass
    assert side.proof is None


@pytest.mark.parametrize(
    "metadata",
    [
        b"\x0bSocket-Type" + struct.pack(">I", 3) + b"REQ",
        b"",
        b"\x0bSocket-Type" + struct.pack(">I", 600) + b"DEALER",
        METADATA + METADATA,
        b"\x00" * 40,
        b"\x02\xff\xff\0\0\0\0",
    ],
)
def test_properties_that_are_wrong_end_the_handshake(metadata: bytes) -> None:
    with pytest.raises(ProtocolFault):
        shake(metadata=metadata)


@pytest.mark.parametrize("host", ["localhost", "*", "[::1]", "127.0.0.2"])
def test_every_notation_of_a_host_is_bound_and_reached(folder: Path, host: str) -> None:
    ends = Ends([f"tcp://{host}:0"], keys=folder / "keys")
    try:
        ends.endpoint = ends.endpoint.replace("*", "127.0.0.1")
        client = ends.client(nexus_hello())
        ends.until(lambda: client.is_up)
        assert ends.server.peers == ("nexus|nexus",)
    finally:
        ends.close()


def test_an_address_that_is_not_there_yet_is_waited_for_and_a_wrong_one_is_refused(folder: Path) -> None:
    ends = Ends([f"ipc://{folder}/a.ipc", "tcp://192.0.2.1:5555"], keys=folder / "keys")
    try:
        assert [each.endpoint for each in ends.listener.doors.taken] == ["tcp://192.0.2.1:5555"]
    finally:
        ends.close()
    with pytest.raises(ConfigError, match=r"correct orders\.host"):
        Ends(["tcp://no.such.host.invalid:5555"], keys=folder / "keys")
