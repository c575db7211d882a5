"""What a listener, its keys and its ports must live through: faults that were found by attacking them."""

from __future__ import annotations

import errno
import os
import selectors
import shutil
import socket as plain
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.messages import Role
from nexus_gateway.core.transport import KeyFolder, KeyRing, LinkClient, parse_key, read_client_keys
from nexus_gateway.core.transport import doors as doors_module
from nexus_gateway.core.transport import listener as listener_module
from nexus_gateway.core.transport.peer_socket import network_of
from nexus_gateway.core.transport.peers import Closed, Received

from tests.support.links import FAST, Ends, make_key_folder, nexus_hello, open_listener, prove
from tests.support.ports import free_port
from tests.support.proved import prove_by_hand
from tests.support.torture import examples


@pytest.fixture
def ends(folder: Path) -> Iterator[Ends]:
    made = Ends([f"ipc://{folder}/a.ipc"], keys=folder / "keys")
    yield made
    made.close()


def test_a_connection_that_is_closed_for_what_another_one_sends_ends_nothing_else(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "_HELD_BYTES", 3 << 20)
    pairs = [prove_by_hand(ends) for _ in range(2)]
    large, small = ends.listener._peers.values()
    for (connection, client), held in zip(pairs, (2 << 20, (1 << 20) - (1 << 14)), strict=True):
        data = client.message(bytes(3 << 20))[:held]
        connection.setblocking(False)
        while data:
            try:
                data = data[connection.send(data) :]
            except BlockingIOError:
                pass
            ends.listener.collect()
            ends.listener.receive()
    assert len(ends.listener._peers) == 2
    # Both are ready in one turn; what the first one sends closes the other, which holds most.
    for connection, _ in pairs:
        connection.send(bytes(1 << 15))
    ends.listener.note_ready(small, selectors.EVENT_READ)
    ends.listener.note_ready(large, selectors.EVENT_READ)
    ends.listener.receive()
    assert list(ends.listener._peers.values()) == [small]
    assert ends.listener._held_bytes == small.held_bytes
    for connection, _ in pairs:
        connection.close()


@examples(200, 5_000)
@given(st.one_of(st.text(min_size=40, max_size=40), st.text(alphabet="#.z0", min_size=40, max_size=40), st.text()))
def test_any_text_in_the_place_of_a_key_is_a_key_or_a_value_error(text: str) -> None:
    try:
        assert len(parse_key(text)) == 32
    except ValueError:
        pass


def test_files_that_hold_no_key_are_named_and_keep_no_other_from_being_obeyed(folder: Path) -> None:
    warned: list[str] = []
    keys = make_key_folder(folder / "keys")
    ring = KeyRing(keys.folder, warned.append)
    ring.reload()
    nexus = read_client_keys(keys.folder / "nexus").own.public
    allowed = keys.folder / "allowed"
    (allowed / "nexus.bad.key").write_text(f'public-key = "{"#" * 40}"\n')
    os.symlink("/nonexistent", allowed / "nexus.gone.key")
    (allowed / "nexus.key").unlink()
    for _ in range(20):
        ring.reload()
    assert ring.find(nexus) is None
    assert len(warned) == 2
    (keys.folder / "nexus" / "own.key_secret").write_text(f'secret-key = "{"#" * 40}"\n')
    os.chmod(keys.folder / "nexus" / "own.key_secret", 0o600)
    KeyFolder(keys.folder, ("nt8",), warned.append)
    assert "was made again" in warned[-1]


def test_a_key_that_cannot_be_read_for_a_moment_stays_and_is_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = make_key_folder(folder / "keys")
    ring = KeyRing(keys.folder, lambda text: None)
    ring.reload()
    known = {proof.name for proof in ring.proofs}
    shutil.copy(keys.folder / "gateway" / "own.key", keys.folder / "allowed" / "nexus.new.key")

    def no_descriptors(path: Path) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("nexus_gateway.core.transport.keys.host.open_regular", no_descriptors)
        ring.reload()
    assert {proof.name for proof in ring.proofs} == known
    ring.reload()
    assert {proof.name for proof in ring.proofs} == known | {"nexus.new"}


def test_a_pair_that_is_lost_after_its_key_was_taken_away_is_not_allowed_again(folder: Path) -> None:
    keys = make_key_folder(folder / "keys")
    (keys.folder / "allowed" / "nexus.key").unlink()
    shutil.rmtree(keys.folder / "nexus")
    keys.repair()
    assert read_client_keys(keys.folder / "nexus").gateway == keys.own.public
    assert not (keys.folder / "allowed" / "nexus.key").exists()
    (keys.folder / "once-allowed").write_bytes(b"\xff")
    KeyFolder(keys.folder, ("nt8",), lambda text: None)
    assert not (keys.folder / "allowed" / "nexus.key").exists(), "whatever becomes of the list"
    # A platform that the configuration names for the first time is allowed; one that was taken away is not.
    KeyFolder(keys.folder, ("nt8", "eighth"), lambda text: None)
    assert (keys.folder / "allowed" / "adapter.eighth.key").exists()
    assert not (keys.folder / "allowed" / "nexus.key").exists()


def test_a_keys_folder_that_was_wiped_is_made_again_as_soon_as_it_can_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    keys = KeyFolder(folder / "keys", ("nt8",), warned.append)
    shutil.rmtree(keys.folder)

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("nexus_gateway.core.transport.keys.host.replace_private", full)
        for _ in range(5):
            keys.repair()
    assert len([text for text in warned if "tried twice a second" in text]) == 1
    keys.repair()
    assert read_client_keys(keys.folder / "nexus").gateway == keys.own.public
    assert KeyFolder(keys.folder, ("nt8",), warned.append).own == keys.own


def test_a_folder_that_others_may_write_names_no_gateway(folder: Path) -> None:
    keys = make_key_folder(folder / "keys")
    os.chmod(keys.folder / "nexus", 0o777)
    with pytest.raises(ConfigError, match="chmod 700"):
        read_client_keys(keys.folder / "nexus")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("127.0.0.1", "127.77.3.9", True),
        ("127.0.0.1", "::1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("the socket file", "127.0.0.1", False),
    ],
)
def test_addresses_of_one_holder_count_as_one(one: str, other: str, is_same: bool) -> None:
    assert (network_of(one) == network_of(other)) is is_same


def test_a_crowd_from_all_addresses_of_this_machine_drives_out_nobody_on_the_socket_file(folder: Path) -> None:
    ends = Ends([f"ipc://{folder}/a.ipc", "tcp://127.0.0.1:0"], keys=folder / "keys")
    port = int(ends.listener.doors.endpoints[1].rpartition(":")[2])
    silent = plain.socket(plain.AF_UNIX)
    crowd = []
    try:
        silent.connect(ends.endpoint.removeprefix("ipc://"))
        ends.until(lambda: len(ends.listener._peers) == 1)
        (first,) = ends.listener._peers
        for number in range(200):
            one = plain.socket()
            one.bind((f"127.1.{number}.1", 0))
            one.connect(("127.0.0.1", port))
            crowd.append(one)
            ends.turn()
        ends.until(lambda: ends.listener.counts["strangers_evicted"] > 100)
        assert first in ends.listener._peers
    finally:
        for one in [silent, *crowd]:
            one.close()
        ends.close()


@pytest.mark.parametrize("fault", [plain.gaierror(-3, "Temporary failure"), OSError(errno.ENOBUFS, "No buffer space")])
def test_a_port_that_is_tried_again_ends_no_gateway(
    folder: Path, fault: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    now = [time.monotonic_ns()]
    with plain.create_server(("127.0.0.1", port)):
        listener = open_listener([f"tcp://localhost:{port}"], folder / "keys")
        listener.doors._monotonic_ns = lambda: now[0]

        def raises(*arguments: Any, **options: Any) -> Any:
            raise fault

        with monkeypatch.context() as patch:
            patch.setattr(doors_module.socket, "getaddrinfo", raises)
            patch.setattr(doors_module, "open_door", raises)
            for _ in range(3):
                now[0] += 2 * 10**9
                listener.doors.tick(now[0])
        assert [each.endpoint for each in listener.doors.taken] == [f"tcp://localhost:{port}"]
    now[0] += 2 * 10**9
    listener.doors.tick(now[0])
    assert not listener.doors.taken
    listener.close(0)


def test_heartbeats_of_libzmq_itself_are_answered_and_are_no_messages(ends: Ends) -> None:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 50)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 400)
    prove(socket, ends.keys / "nexus")
    socket.connect(ends.endpoint)
    try:
        found: list[Received | Closed] = []
        end_s = time.monotonic() + 1.5
        while time.monotonic() < end_s:
            ends.listener.collect(0.01)
            found += ends.listener.receive()
        assert found == []
        assert ends.listener._number == 1, "it has connected once, and stays"
    finally:
        socket.close(0)


def test_what_a_peer_had_sent_before_it_went_is_read_although_nothing_can_be_sent_to_it(ends: Ends) -> None:
    connection, client = prove_by_hand(ends)
    (number,) = ends.listener._peers
    connection.send(client.message(b"a fill"))
    connection.close()
    assert ends.listener.send(number, (b"heartbeat",))
    found: list[Received | Closed] = []
    for _ in range(5):
        ends.listener.collect(0.02)
        found += ends.listener.receive()
    assert [type(each) for each in found] == [Received, Closed]
    assert isinstance(found[0], Received)
    assert found[0].frames == [b"a fill"]


def test_the_operator_finds_a_place_whatever_the_others_do(folder: Path) -> None:
    ends = Ends([f"ipc://{folder}/a.ipc"], keys=folder / "keys", max_peers=2)
    try:
        many = [ends.client(nexus_hello(f"n{number}")) for number in range(4)]
        ends.until(lambda: sum(client.is_up for client in many) == 2)
        boss = ends.client(nexus_hello("boss", Role.ADMIN))
        ends.until(lambda: boss.is_up)
        assert "admin|boss" in ends.server.peers
        assert len(ends.server.peers) == 3
    finally:
        ends.close()


def test_a_name_belongs_to_the_key_that_uses_it(folder: Path) -> None:
    ends = Ends([f"ipc://{folder}/a.ipc"], keys=folder / "keys")
    try:
        client = ends.client(nexus_hello())
        ends.until(lambda: client.is_up)
        shutil.copytree(ends.keys / "gateway", ends.keys / "laptop")
        other = KeyFolder(folder / "others", (), lambda text: None)
        laptop = other.folder / "nexus"
        shutil.copy(laptop / "own.key", ends.keys / "allowed" / "nexus.laptop.key")
        shutil.copy(ends.keys / "gateway" / "own.key", laptop / "gateway.key")
        thief = LinkClient(ends.endpoint, nexus_hello(), laptop, FAST)
        ends.clients.append(thief)
        ends.heard[thief] = []
        ends.until(lambda: "is in use by key nexus" in thief.cut_reason)
        assert client.counts["links"] == 1
        thief.hello = nexus_hello("laptop")
        ends.until(lambda: thief.is_up)
    finally:
        ends.close()
