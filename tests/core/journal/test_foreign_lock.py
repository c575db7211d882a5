"""A lock that another process has on the journal's files: who has only the right to read them can take one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nexus_gateway.core.config import GatewayConfig, OrdersConfig
from nexus_gateway.core.engine import ClockTicked
from nexus_gateway.core.gateway.journaled_engine import JournaledEngine
from nexus_gateway.core.journal import Journal, JournalBusyError
from nexus_gateway.core.logs import process_log
from nexus_gateway.shm import host

from tests.support.shm_processes import linux_only

pytestmark = linux_only

_HOLD = (
    "import fcntl, os, struct, sys\n"
    "file = os.open(sys.argv[1], os.O_RDONLY)\n"
    "fcntl.fcntl(file, fcntl.F_SETLK, struct.pack('hhqqi', fcntl.F_RDLCK, os.SEEK_SET, 120, 1, 0))\n"
    "print('held', flush=True); sys.stdin.read()\n"
)


@contextmanager
def held(path: Path) -> Iterator[int]:
    """Hold a shared lock on the byte of SQLite's write lock, for which a right to read is enough; yields the pid."""
    command = [sys.executable, "-c", _HOLD, f"{path}-shm"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process.pid
        finally:
            process.kill()


def test_the_holder_is_named_and_writing_goes_on_when_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    with Journal(path) as journal:
        journal.append(ClockTicked(), 1)
        with held(path) as pid:
            with pytest.raises(JournalBusyError) as caught:
                journal.commit()
            assert str(caught.value) == (
                f"journal {path}: database is locked: held by another process with pid {pid} ({path}-shm); end it, and "
                "writing goes on by itself"
            )
        journal.commit()
    with Journal(path) as journal:
        assert journal.last_seq == 1


def test_a_turn_waits_for_a_lock_no_longer_than_100_ms(tmp_path: Path) -> None:
    with Journal(tmp_path / "orders.sqlite") as journal:
        (wait_ms,) = journal.connection.execute("PRAGMA busy_timeout").fetchone()
    assert wait_ms == 100


def test_a_start_waits_until_the_journal_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []
    genuine = Journal.__init__

    def refuse_twice(self: Journal, *arguments: object) -> None:
        if len(tries) < 2:
            raise JournalBusyError("journal x: held by another process with pid 7")
        genuine(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Journal, "__init__", refuse_twice)
    config = GatewayConfig(orders=OrdersConfig(journal=str(tmp_path / "orders.sqlite")))
    made = JournaledEngine.open(config, process_log("gateway"), tries.append)
    assert tries[:2] == [0.0, 0.0], "heartbeats go on, and a stop is heard"
    made.close()


def test_only_a_lock_on_that_byte_of_that_file_has_a_holder(tmp_path: Path) -> None:
    index = tmp_path / "file-shm"
    assert host.find_lock_holders(index, 120) == []
    index.touch()
    assert host.find_lock_holders(index, 120) == []
    with held(tmp_path / "file") as pid:
        assert host.find_lock_holders(index, 120) == [pid]
        assert host.find_lock_holders(index, 121) == []


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_journal_and_companions_are_private_from_the_first_byte_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with Journal(tmp_path / "orders.sqlite") as journal:
            journal.append(ClockTicked(), 1)
            journal.commit()
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert {"orders.sqlite", "orders.sqlite-wal", "orders.sqlite-shm", "orders.sqlite-lock"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_a_journal_that_a_former_release_left_open_is_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    Journal(path).close()
    path.chmod(0o644)
    with Journal(path):
        assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}
