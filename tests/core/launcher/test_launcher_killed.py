"""kill -9 of the launcher, alone and with its children: no child runs unsupervised, the next one starts cleanly."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from nexus_gateway.core.launcher.child import PROCESS_MODULE
from nexus_gateway.core.launcher.launcher import Launcher
from nexus_gateway.core.launcher.run_ownership import STATE_FILE, LaunchState
from nexus_gateway.core.process import ProcessId
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.segment import SegmentState

from tests.support.launched import ENTRIES, ROOT, count_turns, make_config, make_spec
from tests.support.patience import patient
from tests.support.shm_processes import linux_only, wait_for
from tests.support.torture import rounds

pytestmark = linux_only


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[psutil.Process]:
    """A launcher in its own process, whose two children run."""
    popen = subprocess.Popen([sys.executable, "-m", ENTRIES, str(tmp_path)])
    try:
        run_folder = tmp_path / "run"
        wait_for(lambda: all(count_turns(run_folder, name) for name in ("one", "two")), "two children that run")
        yield psutil.Process(popen.pid)
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()


def test_children_stop_by_themselves_when_the_launcher_is_killed(tmp_path: Path, victim: psutil.Process) -> None:
    children = victim.children()
    victim.kill()
    gone, alive = psutil.wait_procs(children, timeout=patient(60))
    assert (len(gone), alive) == (2, [])
    assert "launcher is gone" in (tmp_path / "logs" / "one.jsonl").read_text()
    assert CountersPage.attach(tmp_path / "run", "one").state() is SegmentState.CLOSED


def test_next_launcher_ends_orphans_and_starts_cleanly(tmp_path: Path, victim: psutil.Process) -> None:
    children = victim.children()
    for child in children:
        child.suspend()  # so that they cannot stop by themselves, as a process that hangs
    victim.kill()
    config = make_config(tmp_path, msgspec.structs.replace(make_config(tmp_path).launcher, stop_grace_s=0.3))
    with Launcher(config, [make_spec("one"), make_spec("two")]) as launcher:
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
        launcher.run(lambda: all(child.state == "running" for child in launcher.describe()))
        counted = CountersPage.attach(tmp_path / "run", "launcher").values()
    assert counted["orphans_ended"] == 2
    assert [child.restarts for child in launcher.describe()] == [0, 0]


def test_segments_are_removed_when_launcher_and_children_were_killed(tmp_path: Path, victim: psutil.Process) -> None:
    family = [victim, *victim.children()]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=patient(60))
    assert CountersPage.attach(tmp_path / "run", "two").state() is SegmentState.DEAD_WRITER
    with Launcher(make_config(tmp_path), []):
        assert not (tmp_path / "run" / "two.counters").exists()
        counted = CountersPage.attach(tmp_path / "run", "launcher").values()
    assert counted["orphans_ended"] == 0
    assert counted["stale_segments_removed"] == 4  # launcher, one, two, directory


def test_a_reused_pid_is_not_taken_for_an_orphan(tmp_path: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        identity = ProcessId(bystander.pid, ProcessId.own().started_ms)
        (tmp_path / "run").mkdir(mode=0o700)
        state = LaunchState(launcher=identity, children={"one": identity})
        (tmp_path / "run" / STATE_FILE).write_bytes(msgspec.json.encode(state))
        with Launcher(make_config(tmp_path), []):
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_unreadable_launch_state_does_not_stop_a_start(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "run" / STATE_FILE).write_bytes(b"{half")
    with Launcher(make_config(tmp_path), [make_spec("one")]) as launcher:
        launcher.run(lambda: launcher.describe()[0].state == "running")


def family_of(run_folder: Path) -> list[psutil.Process]:
    """All processes that belong to that run folder, also those of an earlier launcher."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(run_folder) in process.cmdline() and PROCESS_MODULE in process.cmdline():
                found.append(process)
        except psutil.Error:
            pass  # ended in the meantime
    return found


@rounds(6, 48)
def test_launchers_killed_at_random_points_leave_no_second_child_of_a_name(
    tmp_path: Path, chance: random.Random, rounds: int
) -> None:
    """Also while its children start and have not read yet whose they are; the next one comes at once."""
    run_folder = tmp_path / "run"
    for number in range(rounds):
        popen = subprocess.Popen([sys.executable, "-m", ENTRIES, str(tmp_path)])
        children = Path(f"/proc/{popen.pid}/task/{popen.pid}/children")
        if number % 3:
            wait_for(lambda: bool(children.read_text()), "its first child")  # noqa: B023
        # At once, before its list of children is saved; while they start; at any time.
        time.sleep((1.0, 0.0, 0.5)[number % 3] * chance.random())
        popen.kill()
        popen.wait()
        with Launcher(make_config(tmp_path), [make_spec("one"), make_spec("two")]) as launcher:

            def is_alone() -> bool:
                launcher.step()
                children = launcher.describe()
                assert not any(child.state == "failed" for child in children), children
                own = {child.pid for child in children}
                running = all(child.state == "running" for child in children)
                return running and {each.pid for each in family_of(run_folder)} == own

            wait_for(is_alone, "its own children to run and nobody else's")
