"""A process that the system gives no descriptor any more: its reserve, its kill file, its neighbours' lives."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nexus_gateway.core.kill_file import KillEntry, KillFileError, add_kill, kill_file_path, read_kill_file
from nexus_gateway.core.messages import KillLevel
from nexus_gateway.shm import host
from nexus_gateway.shm.host.resources import DescriptorReserve

from tests.support.shm_processes import linux_only

pytestmark = linux_only


@pytest.fixture
def run_short():
    """Runs a script with a limit of 64 open files and all of them taken by `fill()`, in a process of its own."""

    def run(script: str, *arguments: object) -> str:
        head = (
            "import os, resource, sys\n"
            "from pathlib import Path\n"
            "import nexus_gateway.core.kill_file as kill_file, nexus_gateway.core.journal as journal, psutil\n"
            "from nexus_gateway.shm import host\n"
            "folder = Path(sys.argv[1])\n"
            "held = []\n"
            "def fill():\n"
            "    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
            "    try:\n"
            "        while True: held.append(os.open(os.devnull, os.O_RDONLY))\n"
            "    except OSError: pass\n"
        )
        command = [sys.executable, "-c", head + script, *map(str, arguments)]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


def write_kill(folder: Path) -> None:
    add_kill(kill_file_path(folder), KillEntry(level=KillLevel.FLATTEN, reason="test", by="desk", at_ns=1))


def test_the_kill_file_is_read_by_the_reserve(tmp_path, run_short):
    write_kill(tmp_path)
    script = (
        "host.descriptor_reserve.take(); fill()\n"
        "for _ in range(3): print(*(kill.level.name for kill in kill_file.read_kill_file(folder / 'kill.json')))\n"
        "os.unlink(folder / 'kill.json'); print(kill_file.read_kill_file(folder / 'kill.json'))\n"
    )
    assert run_short(script, tmp_path).split() == ["FLATTEN"] * 3 + ["()"]


def test_without_a_reserve_the_kill_file_is_not_known_and_stays(tmp_path, run_short):
    write_kill(tmp_path)
    script = (
        "fill(); path = folder / 'kill.json'\n"
        "entry = kill_file.KillEntry(level=1, reason='', by='', at_ns=1)\n"
        "for change in (kill_file.read_kill_file, kill_file.remove_kills, kill_file.lower_severed,\n"
        "               lambda path: kill_file.add_kill(path, entry)):\n"
        "    try: change(path)\n"
        "    except kill_file.KillFileError as error: print(error.errno)\n"
    )
    assert run_short(script, tmp_path).split() == [str(errno.EMFILE)] * 4
    assert [kill.level for kill in read_kill_file(kill_file_path(tmp_path))] == [KillLevel.FLATTEN]


def test_a_file_that_is_there_and_not_ours_to_read_is_a_kill(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(host, "read_regular", refuse)
    assert [kill.level for kill in read_kill_file(kill_file_path(tmp_path))] == [KillLevel.NO_NEW]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR])
def test_each_want_of_the_system_is_no_kill(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(host, "read_regular", refuse)
    with pytest.raises(KillFileError, match="cannot be opened"):
        read_kill_file(kill_file_path(tmp_path))


def test_nothing_is_taken_for_dead_and_nothing_raises(tmp_path, run_short):
    script = (
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "started = host.started_ms(child.pid)\n"
        "fill()\n"
        "print(host.started_ms(child.pid), host.is_alive(child.pid, started), host.is_alive(os.getpid(), 0))\n"
        "host.kill_tree(child.pid)\n"
        "print(child.wait())\n"
    )
    assert run_short(script, tmp_path).split() == ["0", "True", "True", "-9"]


def test_a_process_whose_start_was_never_known_is_told_by_its_pid(tmp_path):
    assert host.is_alive(os.getpid(), 0)
    assert not host.is_alive(os.getpid(), 1)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not host.is_alive(ended.pid, 0)


def test_the_journals_lock_file_is_made_again_by_the_reserve(tmp_path, run_short):
    script = (
        "made = journal.Journal(folder / 'orders.sqlite')\n"
        "os.unlink(folder / 'orders.sqlite-lock')\n"
        "host.descriptor_reserve.take(); fill()\n"
        "made.check_files(); print('held' if (folder / 'orders.sqlite-lock').exists() else 'lost')\n"
    )
    assert run_short(script, tmp_path).split() == ["held"]


def test_the_reserve_is_taken_back(run_short, tmp_path):
    reserve = DescriptorReserve(3)
    assert not reserve.release()
    reserve.take()
    assert reserve.release()
    script = (
        "reserve = host.descriptor_reserve\n"
        "reserve.take(); fill()\n"
        "print(reserve.open_by(lambda: len(os.listdir('/proc/self/fd')) > 0), len(reserve._held))\n"
        "reserve.release(); os.close(held.pop()); print(reserve.release()); reserve.take(); print(len(reserve._held))\n"
    )
    assert run_short(script, tmp_path).split() == ["True", "8", "False", "8"]


def test_the_soft_limit_is_raised_to_the_hard_one_and_no_further(run_short, tmp_path):
    script = (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300)); host.raise_descriptor_limit()\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    assert run_short(script, tmp_path).split() == ["300", "300"]


def test_a_want_is_found_behind_other_errors():
    error = ValueError("a token cannot be read")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    assert host.is_want_of_resources(error)
    assert not host.is_want_of_resources(OSError(errno.ENOENT, "no"))
    assert not host.is_want_of_resources(None)
