"""The gateway's keys and socket files, while somebody removes and changes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.gateway.port_files import PortFiles
from nexus_gateway.core.logs import process_log
from nexus_gateway.core.transport import KeyFolder, KeyRing, Listener, read_client_keys

from tests.support.links import Ends, make_key_folder, nexus_hello, short_folder
from tests.support.shm_processes import linux_only

_SECOND = 1_000_000_000


@pytest.fixture
def keys() -> KeyFolder:
    return make_key_folder(short_folder() / "keys")


def watch(keys: KeyFolder, *listeners: Listener) -> PortFiles:
    return PortFiles(keys, listeners, process_log("test"))


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:30]),
        lambda path: path.write_bytes(b"\xff" * 16),
        lambda path: (path.unlink(), os.mkfifo(path)),
        pytest.param(lambda path: os.chmod(path, 0o644), marks=linux_only),
    ],
)
def test_keys_that_were_lost_are_made_again(keys: KeyFolder, damage: Callable[[Path], object]) -> None:
    files = watch(keys)
    assert files.check(0) == ""
    for now_ns in (_SECOND, 2 * _SECOND):
        damage(keys.folder / "nexus" / "own.key_secret")
        with pytest.raises(ConfigError):
            read_client_keys(keys.folder / "nexus")
        files.check(now_ns)
        found = read_client_keys(keys.folder / "nexus")
        ring = KeyRing(keys.folder, lambda text: None)
        proof = ring.find(found.own.public)
        assert proof is not None
        assert proof.name == "nexus"


def test_the_gateways_own_keys_stay_the_same_whatever_becomes_of_their_file(keys: KeyFolder) -> None:
    files = watch(keys)
    for damage in (Path.unlink, lambda path: path.write_bytes(b"\xff"), lambda path: os.chmod(path, 0o644)):
        damage(keys.folder / "gateway" / "own.key_secret")
        files.check(files._next_check_ns)
        assert KeyFolder(keys.folder, (), lambda text: None).own == keys.own


def test_a_key_that_was_taken_away_stays_away_and_its_session_ends_at_once() -> None:
    ends = Ends([f"ipc://{short_folder()}/a.ipc"])
    try:
        keys = KeyFolder(ends.keys, ("nt8",), lambda text: None)
        files = watch(keys, ends.listener)
        client, other = ends.client(nexus_hello()), ends.client(nexus_hello("boss"), keys=ends.keys / "operator")
        ends.until(lambda: client.is_up and "operator" in other.cut_reason)
        files.check(0)
        (ends.keys / "allowed" / "nexus.key").unlink()
        files.check(_SECOND)
        ends.until(lambda: "does not allow our key" in client.cut_reason)
        assert ends.server.peers == ()
        assert not (ends.keys / "allowed" / "nexus.key").exists()
        assert KeyFolder(ends.keys, ("nt8",), lambda text: None).own == keys.own
        assert not (ends.keys / "allowed" / "nexus.key").exists(), "a start does not allow it again"
    finally:
        ends.close()


def test_a_key_that_is_replaced_ends_the_session_of_the_former_one() -> None:
    ends = Ends([f"ipc://{short_folder()}/a.ipc"])
    try:
        client = ends.client(nexus_hello())
        ends.until(lambda: client.is_up)
        kept = (ends.keys / "allowed" / "nexus.key").read_bytes()
        (ends.keys / "allowed" / "nexus.key").write_bytes((ends.keys / "gateway" / "own.key").read_bytes())
        assert [proof.name for proof in ends.listener.cut_removed()] == ["nexus"]
        (ends.keys / "allowed" / "nexus.key").write_bytes(kept)
        ends.until(lambda: client.counts["links"] == 2)
    finally:
        ends.close()


@linux_only
def test_a_socket_that_was_removed_or_replaced_is_named() -> None:
    folder = short_folder()
    ends = Ends([f"ipc://{folder}/a.ipc"])
    try:
        files = watch(KeyFolder(ends.keys, (), lambda text: None), ends.listener)
        path = folder / "a.ipc"
        assert files.check(0) == ""
        path.unlink()
        assert files.check(1) == "", "twice a second at most"
        assert files.check(_SECOND) == f"{path} was removed"
        path.touch()
        assert files.check(2 * _SECOND) == f"{path} was replaced by another file"
    finally:
        ends.close()
