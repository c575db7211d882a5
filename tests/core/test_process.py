"""The inside of a supervised process: heartbeats, reasons to stop, exit codes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from nexus_gateway.core.config import GatewayConfig, load_entry
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.process import (
    EXIT_CLEAN,
    EXIT_CONFIG,
    EXIT_FAILURE,
    EXIT_FILES,
    EXIT_RESOURCES,
    LaunchFile,
    ProcessContext,
    ProcessId,
    ProcessSpec,
)
from nexus_gateway.shm import host
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.segment import SegmentState

from tests.support.launched import ROOT, count_turns, make_config, make_spec
from tests.support.patience import patient
from tests.support.shm_processes import linux_only, wait_for


def write_launch_file(folder: Path, *specs: ProcessSpec, launcher: ProcessId | None = None) -> Path:
    """A run folder with a launch file of these processes; this process is their launcher."""
    config = make_config(folder)
    config.run_path.mkdir(mode=0o700)
    LaunchFile(
        launcher=launcher or ProcessId.own(),
        console=True,
        config=config,
        processes={spec.name: spec for spec in specs},
    ).write(config.run_path)
    return config.run_path


def run(
    name: str, run_folder: Path, meanwhile: Callable[[subprocess.Popen[str]], None] | None = None, *options: str
) -> tuple[int, str]:
    """Exit code and stderr; `meanwhile` is called while it runs."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "nexus_gateway.core.process", name, "--run-folder", str(run_folder), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if meanwhile is not None:
                meanwhile(process)
            _, printed = process.communicate(timeout=patient(60))
        finally:
            process.kill()
    return process.returncode, printed


@pytest.mark.parametrize(
    ("spec", "code", "printed"),
    [
        (make_spec("x", "run_to_code", code=0), EXIT_CLEAN, ""),
        (make_spec("x", "run_to_code", code=7), 7, ""),
        (make_spec("x", "run_crash"), EXIT_FAILURE, "RuntimeError: planned crash"),
        (make_spec("x", "run_crash_after_loss"), EXIT_FILES, "x.counters was removed"),
        (make_spec("x", "run_short_of_files"), EXIT_RESOURCES, "the system has no descriptor or memory"),
        (make_spec("x", "run_wrong_config"), EXIT_CONFIG, "settings.port was 0, must be at least 1"),
        (make_spec("x", "no_such"), EXIT_CONFIG, "entry of x was 'tests.support.launched:no_such'"),
        (ProcessSpec(name="x", entry="no.such:main"), EXIT_CONFIG, "no module named 'no'; correct the name"),
        (ProcessSpec(name="x", entry="a:b", cores=(4000,)), EXIT_CONFIG, "cores was [4000], this process may use [0"),
        (make_spec("other"), EXIT_CONFIG, "process was 'x'; launch.json has other"),
    ],
)
def test_exit_codes(tmp_path: Path, spec: ProcessSpec, code: int, printed: str) -> None:
    ended, text = run("x", write_launch_file(tmp_path, spec))
    assert ended == code
    assert printed in text


def test_without_an_order_it_says_who_writes_it(tmp_path: Path) -> None:
    code, printed = run("x", tmp_path)
    assert code == EXIT_CONFIG
    assert "launch.json does not exist; the launcher writes it" in printed


def test_an_order_that_was_lost_since_the_launcher_wrote_it_is_waited_for(tmp_path: Path) -> None:
    """A configuration error would keep the process down for good."""
    code, printed = run("x", tmp_path, None, "--launcher", ProcessId.own().text)
    assert code == EXIT_FILES
    assert "launch.json does not exist" in printed


@linux_only
def test_ends_to_be_started_anew_when_its_file_was_lost(tmp_path: Path) -> None:
    run_folder = write_launch_file(tmp_path, make_spec("x"))

    def remove(_: subprocess.Popen[str]) -> None:
        wait_for(lambda: count_turns(run_folder, "x") > 0, "first turn")
        (run_folder / "x.counters").unlink()

    code, printed = run("x", run_folder, remove)
    assert code == EXIT_FILES
    assert f"{run_folder}/x.counters was removed" in printed


@pytest.mark.parametrize("content", [b'{"launcher": {"pid": 1}}', b"", b'{"launcher"', b"\xee" * 500, b"[" * 100_000])
def test_a_launch_file_that_is_damaged_or_of_another_release_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "launch.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"launch\.json is damaged or was written by another release"):
        LaunchFile.read(tmp_path)


def test_a_launch_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "launch.json").mkdir()
    with pytest.raises(ConfigError, match=r"launch\.json cannot be read: .*; restart the launcher"):
        LaunchFile.read(tmp_path)


@linux_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stops_cleanly_when_asked(tmp_path: Path, number: int) -> None:
    run_folder = write_launch_file(tmp_path, make_spec("x"))

    def ask(process: subprocess.Popen[str]) -> None:
        wait_for(lambda: count_turns(run_folder, "x") > 0, "first turn")
        process.send_signal(number)

    assert run("x", run_folder, ask)[0] == EXIT_CLEAN
    assert CountersPage.attach(run_folder, "x").state() is SegmentState.CLOSED


def test_stops_when_its_launcher_is_not_the_one_that_started_it(tmp_path: Path) -> None:
    own = ProcessId.own()
    reused = msgspec.structs.replace(own, started_ms=own.started_ms - 60_000)
    code, printed = run("x", write_launch_file(tmp_path, make_spec("x"), launcher=reused))
    assert code == EXIT_CLEAN
    assert "launcher is gone, stopping" in printed


def test_a_child_whose_order_is_a_successors_by_now_ends_at_once(tmp_path: Path) -> None:
    """Its launcher was killed while it started, and the next one has its own child of that name."""
    run_folder = write_launch_file(tmp_path, make_spec("x"))
    code, printed = run("x", run_folder, None, "--launcher", "1:2")
    assert code == EXIT_CLEAN
    assert printed == f"x: launcher 1:2 is gone, {ProcessId.own().text} has its run folder\n"
    assert not (run_folder / "x.counters").exists()


@pytest.mark.parametrize("base", ["C:\\python\\python.exe", None])
def test_on_windows_a_child_is_started_without_the_starter_of_a_virtual_environment(
    monkeypatch: pytest.MonkeyPatch, base: str | None
) -> None:
    """Else the launcher has the pid of the starter, and never finds a heartbeat of that pid."""
    starter = "C:\\venv\\Scripts\\python.exe"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "executable", starter)
    monkeypatch.setattr(sys, "_base_executable", base or starter)
    expected = (starter, {}) if base is None else (base, {"__PYVENV_LAUNCHER__": starter})
    assert host.own_interpreter() == expected


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    host.replace_private(path, b"old")

    def refuse(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        host.replace_private(path, b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("state.json", b"old")]


def test_on_windows_a_file_that_a_reader_has_open_is_replaced_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, genuine, refusals = tmp_path / "state.json", os.replace, [PermissionError(13, "in use")] * 3

    def replace(source: Path, target: Path) -> None:
        if refusals:
            raise refusals.pop()
        genuine(source, target)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "replace", replace)
    host.replace_private(path, b"new")
    assert path.read_bytes() == b"new"


def test_signs_of_life_are_written_ten_times_a_second_at_most(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is set here: a real one says nothing where the machine stands still between the look and the write."""
    context = ProcessContext("x", run_dir, GatewayConfig())
    page = context.open_counters(("a",))
    now_ns, stamps = time.monotonic_ns(), []
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns)
    for _ in range(500):
        context.beat()
        stamps.append(page.segment.field("heartbeat_ns"))
        now_ns += 1_000_000
    written = sorted(set(stamps))
    assert len(written) == 5
    assert {later - earlier for earlier, later in pairwise(written)} == {100_000_000}
    context.close()


def test_sleep_ends_early_when_it_is_to_stop(run_dir: Path) -> None:
    context = ProcessContext("x", run_dir, GatewayConfig())
    context.open_counters(())
    assert context.sleep(0.01) is False
    context.request_stop()
    assert context.sleep(3600) is True
    context.close()


def test_counters_are_opened_once_and_before_they_are_used(run_dir: Path) -> None:
    context = ProcessContext("x", run_dir, GatewayConfig())
    with pytest.raises(AssertionError, match="open_counters comes first"):
        context.beat()
    context.open_counters(("a",))
    with pytest.raises(AssertionError, match="opened once"):
        context.open_counters(("a",))
    context.close()


def test_load_entry_finds_what_is_named() -> None:
    assert load_entry("nexus_gateway.core.config:load_entry", "here") is load_entry
    with pytest.raises(ConfigError, match=r"^here was 'os:nothing': os has no 'nothing'; correct the name"):
        load_entry("os:nothing", "here")
