"""The gateway's token and socket files, while somebody removes and changes them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from nexus_gateway.core.gateway.port_files import PortFiles
from nexus_gateway.core.logs import process_log
from nexus_gateway.core.transport import read_token, write_token

from tests.support.links import short_folder
from tests.support.shm_processes import linux_only

TOKEN = "0123456789abcdef"
_SECOND = 1_000_000_000


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(TOKEN.encode()[:8]),
        lambda path: path.write_bytes(b"\xff" * 16),
        pytest.param(lambda path: os.chmod(path, 0o644), marks=linux_only),
    ],
)
def test_a_token_that_was_lost_is_written_again(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    write_token(path, TOKEN)
    files = PortFiles(path, TOKEN, ["tcp://127.0.0.1:5555"], process_log("test"))
    assert files.check(0) == ""
    for now_ns in (_SECOND, 2 * _SECOND):
        damage(path)
        assert files.check(now_ns) == ""
        assert read_token(path) == TOKEN
    assert str(path) in str([record.__dict__["fields"] for record in caplog.records])


def test_a_token_that_its_owner_has_written_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "token"
    write_token(path, TOKEN)
    files = PortFiles(path, TOKEN, [], process_log("test"))
    write_token(path, "another")
    for now_ns in range(0, 5 * _SECOND, _SECOND):
        assert files.check(now_ns) == ""
    assert read_token(path) == "another"
    assert len(caplog.records) == 1


def test_a_token_that_cannot_be_written_again_is_said_once_with_both_reasons(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "token"
    write_token(path, TOKEN)
    files = PortFiles(path, TOKEN, [], process_log("test"))
    folder.rename(tmp_path / "elsewhere")
    for now_ns in range(0, 5 * _SECOND, _SECOND):
        assert files.check(now_ns) == ""
    (fields,) = (record.__dict__["fields"] for record in caplog.records)
    assert "cannot be read" in fields["reason"]
    assert "cannot be written again" in fields["reason"]
    folder.mkdir()
    assert files.check(6 * _SECOND) == ""
    assert read_token(path) == TOKEN
    assert len(caplog.records) == 2


@linux_only
def test_a_socket_that_was_removed_or_replaced_is_named() -> None:
    folder = short_folder()
    paths = [folder / "a.ipc", folder / "b.ipc"]
    bound = [socket.socket(socket.AF_UNIX) for _ in paths]
    try:
        for each, path in zip(bound, paths, strict=True):
            each.bind(str(path))
        write_token(folder / "token", TOKEN)
        files = PortFiles(folder / "token", TOKEN, [f"ipc://{path}" for path in paths], process_log("test"))
        assert files.check(0) == ""
        paths[1].unlink()
        assert files.check(1) == "", "twice a second at most"
        assert files.check(_SECOND) == f"{paths[1]} was removed"
        paths[1].touch()
        assert files.check(2 * _SECOND) == f"{paths[1]} was replaced by another file"
    finally:
        for each in bound:
            each.close()
