"""The launcher with real processes: ends, restarts, processes that stay down, and the order of stopping."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

import msgspec
import psutil
import pytest
from nexus_gateway.core.cli.monitor import Monitor, ProcessStatus
from nexus_gateway.core.config import GatewayConfig, PlatformConfig, RolloverConfig, SymbolConfig
from nexus_gateway.core.errors import ConfigError, RunFolderError
from nexus_gateway.core.launcher.child import Child
from nexus_gateway.core.launcher.launcher import ChildRow, Launcher
from nexus_gateway.core.launcher.run_ownership import STATE_FILE, LaunchState, RunOwnership
from nexus_gateway.core.process import ProcessId, ProcessSpec
from nexus_gateway.shm import host
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.segment import SegmentState
from nexus_gateway.shm.symbols import SymbolDirectory, roll_symbol

from tests.support.launched import QUICK, ROOT, count_turns, make_config, make_spec
from tests.support.patience import patient
from tests.support.shm_processes import linux_only, wait_for


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def row(launcher: Launcher, name: str) -> ChildRow:
    return next(child for child in launcher.describe() if child.name == name)


def step_until(launcher: Launcher, name: str, state: str, *, restarts: int = 0) -> ChildRow:
    deadline = time.monotonic() + patient(60)
    while True:
        launcher.step()
        child = row(launcher, name)
        if child.state == state and child.restarts >= restarts:
            return child
        assert time.monotonic() < deadline, f"{name} never was {state}: {child}"
        time.sleep(0.02)


def own_counters(folder: Path) -> dict[str, int]:
    return CountersPage.attach(folder / "run", "launcher").values()


def test_runs_and_stops_in_reverse_order_leaving_no_process(tmp_path: Path) -> None:
    with Launcher(make_config(tmp_path), [make_spec("one"), make_spec("two")]) as launcher:
        step_until(launcher, "one", "running")
        child = step_until(launcher, "two", "running")
        assert child.heartbeat_age_s is not None
        assert own_counters(tmp_path)["children_running"] == 2
        pids = [each.pid for each in launcher.describe()]
    assert (tmp_path / "run" / "events").read_text().split("\n")[:2] == ["two stopped", "one stopped"]
    assert not any(pid is not None and psutil.pid_exists(pid) for pid in pids)
    assert [each.state for each in launcher.describe()] == ["stopped", "stopped"]
    assert CountersPage.attach(tmp_path / "run", "one").state() is SegmentState.CLOSED
    assert not (tmp_path / "run" / "launch.json").exists()


def test_symbols_of_a_folder_that_a_reader_keeps_in_use_are_brought_up_to_date(tmp_path: Path) -> None:
    """The directory outlives the launcher then, and an old contract under a new configuration would be believed."""

    def configure(contract: str, tick_size: str) -> GatewayConfig:
        symbol = SymbolConfig(name="NQ", contract=contract, tick_size=Decimal(tick_size))
        fixed = RolloverConfig(enabled=False)
        return msgspec.structs.replace(make_config(tmp_path), symbols=(symbol,), platforms={}, rollover=fixed)

    with Launcher(configure("NQZ26", "0.25"), []):
        reader = CountersPage.create(tmp_path / "run", "nexus", ("ticks_read",))
    with Launcher(configure("NQH27", "0.25"), []):
        entry = SymbolDirectory.attach(tmp_path / "run").entry(1)
    assert (entry.contract, entry.generation) == ("NQH27", 1)
    with Launcher(configure("", "0.25"), []):
        assert SymbolDirectory.attach(tmp_path / "run").entry(1).contract == "NQH27"
    with pytest.raises(RunFolderError, match=r"tick size of NQ was 0\.25 there, is 0\.5"):
        Launcher(configure("NQH27", "0.5"), []).start()
    reader.close()
    with Launcher(configure("NQH27", "0.5"), []):
        assert SymbolDirectory.attach(tmp_path / "run").entry(1).tick_size == 0.5


def test_the_contract_in_front_is_left_to_the_gateway_whose_journal_knows_more(tmp_path: Path) -> None:
    """A configuration names the first contract only: months later it is a dead one."""
    symbols = tuple(
        SymbolConfig(name=name, contract=code, tick_size=None) for name, code in (("NQ", "NQZ26"), ("XX", "XXZ26"))
    )
    config = msgspec.structs.replace(make_config(tmp_path), symbols=symbols, platforms={})
    folder = tmp_path / "run"
    with Launcher(config, []):
        directory = SymbolDirectory.attach(folder)
        # A root that is not in the catalog does not roll: its contract is the configured one.
        assert [entry.contract for entry in directory.entries()] == ["", "XXZ26"]
        roll_symbol(folder, "NQ", "NQH27", 0)
        reader = CountersPage.create(folder, "nexus", ("ticks_read",))  # keeps the directory in use
    with Launcher(config, []):
        assert [entry.contract for entry in directory.entries()] == ["", "XXZ26"]
    reader.close()


def test_gives_children_their_arguments_and_cores(tmp_path: Path) -> None:
    core = host.available_cores()[-1]
    spec = msgspec.structs.replace(make_spec("shown", "run_show", speed="max"), cores=(core,))
    with Launcher(make_config(tmp_path), [spec]) as launcher:
        assert stat.S_IMODE((tmp_path / "run" / "launch.json").stat().st_mode) == 0o600
        step_until(launcher, "shown", "finished")
        assert not launcher.any_alive
    assert (tmp_path / "run" / "shown").read_text() == f"shown {{'speed': 'max'}} [{core}]"


def test_adds_the_configured_symbols_before_children_start(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    with Launcher(config, []):
        entries = SymbolDirectory.attach(tmp_path / "run").entries()
    assert [(entry.name, entry.tick_size) for entry in entries] == [
        (symbol.name, float(symbol.tick_size or "nan")) for symbol in config.symbols
    ]


@pytest.mark.parametrize(
    ("entry", "limits"), [("run_hang", {"heartbeat_timeout_s": 1.5}), ("run_mute", {"start_timeout_s": 1.0})]
)
def test_hung_process_is_killed_and_restarted(tmp_path: Path, entry: str, limits: dict[str, float]) -> None:
    config = make_config(tmp_path, msgspec.structs.replace(QUICK, **limits))
    with Launcher(config, [make_spec("hangs", entry)]) as launcher:
        hung = row(launcher, "hangs").pid
        child = step_until(launcher, "hangs", "running" if entry == "run_hang" else "starting", restarts=1)
        assert child.pid != hung
        assert child.detail.startswith("no heartbeat for")
        assert own_counters(tmp_path)["hang_kills"] == 1
        assert own_counters(tmp_path)["restarts"] == 1


def test_a_process_whose_page_cannot_be_opened_for_want_of_descriptors_is_not_killed_for_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path, msgspec.structs.replace(QUICK, start_timeout_s=0.2))

    def refuse(path: Path) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    with Launcher(config, [make_spec("one", "run_mute")]) as launcher:
        monkeypatch.setattr(host, "open_regular", refuse)
        for _ in range(10):
            time.sleep(0.05)
            launcher.step()
        assert row(launcher, "one").state == "starting"
        monkeypatch.undo()
        assert step_until(launcher, "one", "starting", restarts=1).detail.startswith("no heartbeat for")


def test_a_start_that_fails_for_want_of_descriptors_is_tried_for_as_long_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, tries = Child.spawn, []

    def refuse(self: Child) -> None:
        tries.append(1)
        if len(tries) <= QUICK.max_restarts + 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        genuine(self)

    monkeypatch.setattr(Child, "spawn", refuse)
    with Launcher(make_config(tmp_path), [make_spec("one")]) as launcher:
        assert step_until(launcher, "one", "running").detail == "the system had no descriptor or memory for it"


@linux_only
@pytest.mark.parametrize(("entry", "reason"), [("run_crash", "exit code 1"), ("run_kill_itself", "ended by signal 9")])
def test_crash_loop_uses_up_its_budget_and_the_others_live(tmp_path: Path, entry: str, reason: str) -> None:
    with Launcher(make_config(tmp_path), [make_spec("good"), make_spec("bad", entry)]) as launcher:
        good = step_until(launcher, "good", "running")
        bad = step_until(launcher, "bad", "failed")
        assert bad.detail == f"{reason}; 2 restarts in 60 s used up"
        assert bad.restarts == QUICK.max_restarts
        assert step_until(launcher, "good", "running").pid == good.pid
        assert own_counters(tmp_path) | {"children_failed": 1, "restarts": 2, "starts": 4} == own_counters(tmp_path)


def test_configuration_error_is_never_restarted(tmp_path: Path) -> None:
    specs = [make_spec("refused", "run_wrong_config"), make_spec("unknown", "no_such_function")]
    with Launcher(make_config(tmp_path), specs) as launcher:
        for name in ("refused", "unknown"):
            child = step_until(launcher, name, "failed")
            assert (child.restarts, child.detail) == (0, "configuration error")
    assert "settings.port was 0" in (tmp_path / "logs" / "refused.jsonl").read_text()


@linux_only
def test_stubborn_process_is_killed_after_its_grace(tmp_path: Path) -> None:
    limits = msgspec.structs.replace(QUICK, stop_grace_s=0.3)
    with Launcher(make_config(tmp_path, limits), [make_spec("stubborn", "run_stubborn")]) as launcher:
        pid = step_until(launcher, "stubborn", "running").pid
    assert row(launcher, "stubborn").detail == "did not stop when asked, killed"
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert own_counters(tmp_path)["stop_kills"] == 1


@linux_only
def test_second_request_to_stop_kills_at_once(tmp_path: Path) -> None:
    limits = msgspec.structs.replace(QUICK, stop_grace_s=3600.0)
    with Launcher(make_config(tmp_path, limits), [make_spec("stubborn", "run_stubborn")]) as launcher:
        step_until(launcher, "stubborn", "running")
        launcher.request_stop()
        launcher.request_stop()
    assert row(launcher, "stubborn").detail == "did not stop when asked, killed"


def test_second_launcher_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    with Launcher(make_config(tmp_path), [make_spec("one")]) as first:
        second = Launcher(make_config(tmp_path), [])
        with pytest.raises(RunFolderError, match=rf"in use by the launcher with pid {os.getpid()}, allowed is one"):
            second.start()
        step_until(first, "one", "running")
    with second:  # free again
        pass


@linux_only
def test_run_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    with pytest.raises(RunFolderError, match="has mode 0o755, allowed is 0o700; run: chmod 700"):
        Launcher(make_config(tmp_path), []).start()


@linux_only
def test_run_ends_on_a_signal_and_gives_the_signals_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    launcher = Launcher(make_config(tmp_path), [make_spec("one")])
    launcher.start()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    launcher.run()
    assert row(launcher, "one").state == "stopped"
    assert signal.getsignal(signal.SIGTERM) is before


def test_run_ends_with_the_last_child_or_on_its_condition(tmp_path: Path) -> None:
    with Launcher(make_config(tmp_path), [make_spec("done", "run_to_code", code=0)]) as launcher:
        launcher.run()
    assert row(launcher, "done").state == "finished"
    with Launcher(make_config(tmp_path), [make_spec("one")]) as launcher:
        launcher.run(lambda: row(launcher, "one").state == "running")
    assert row(launcher, "one").state == "stopped"


def test_a_child_gets_what_it_needs_of_the_environment_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BROKER_PASSWORD", "NT8_TOKEN", "SIERRA_TOKEN", "MY_FEED_KEY"):
        monkeypatch.setenv(name, f"of {name}")
    monkeypatch.setenv("LC_TIME", "C")
    platforms = {
        name: PlatformConfig(adapter="a:b", symbols=("NQ",), settings={"token_env": f"{name.upper()}_TOKEN"})
        for name in ("nt8", "sierra")
    }
    limits = msgspec.structs.replace(QUICK, pass_environment=("MY_FEED_KEY", "NOT_THERE"))
    config = msgspec.structs.replace(make_config(tmp_path, limits), platforms=platforms)
    names = ("nt8", "sierra_bridge", "gateway2")
    with Launcher(config, [make_spec(name, "run_report") for name in names]) as launcher:
        reports = {}
        for name in names:
            step_until(launcher, name, "running")
            reports[name] = json.loads((tmp_path / "run" / f"{name}.report").read_text())
    secrets = {"BROKER_PASSWORD", "NT8_TOKEN", "SIERRA_TOKEN", "MY_FEED_KEY"}
    found = {name: secrets & report["environment"].keys() for name, report in reports.items()}
    assert found == {
        "nt8": {"NT8_TOKEN", "MY_FEED_KEY"},
        "sierra_bridge": {"SIERRA_TOKEN", "MY_FEED_KEY"},
        "gateway2": {"MY_FEED_KEY"},
    }
    assert all(report["environment"]["LC_TIME"] == "C" for report in reports.values())
    assert all(report["environment"]["PATH"] == os.environ["PATH"] for report in reports.values())


@linux_only
def test_a_child_leaves_no_core_file_and_no_file_to_others(tmp_path: Path) -> None:
    with Launcher(make_config(tmp_path), [make_spec("one", "run_report")]) as launcher:
        step_until(launcher, "one", "running")
        report = json.loads((tmp_path / "run" / "one.report").read_text())
    assert (report["core"], report["umask"]) == (0, 0o077)


@linux_only
def test_a_console_is_bounded_while_its_process_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_gateway.core.launcher.launcher._CONSOLES_S", 0.0)
    config = make_config(tmp_path)
    console, kept = config.log_path / "one.console", config.log_path / "one.console.1"
    with Launcher(config, [make_spec("one", "run_chatter")], console=False) as launcher:
        step_until(launcher, "one", "running")
        wait_for(lambda: count_turns(tmp_path / "run", "one") > 0, "all that it prints first")
        launcher.step()
        wait_for(lambda: console.stat().st_size > 0, "what it prints since")
        assert kept.stat().st_size > 2 << 20
        assert console.read_bytes().strip(b"y\n") == b"", "it goes on at the begin, without a hole"
        assert kept.stat().st_mode & 0o777 == 0o600


def test_console_of_children_goes_to_a_file_on_request(tmp_path: Path) -> None:
    with Launcher(make_config(tmp_path), [make_spec("bad", "no_such_function")], console=False) as launcher:
        step_until(launcher, "bad", "failed")
    assert (tmp_path / "logs" / "bad.console").read_text() == ""  # its log has the reason; this is for crashes
    assert "no_such_function" in (tmp_path / "logs" / "bad.jsonl").read_text()


@linux_only
def test_a_log_folder_that_was_removed_costs_no_process_its_restarts(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    with Launcher(config, [make_spec("one")], console=False) as launcher:
        pid = step_until(launcher, "one", "running").pid
        assert pid is not None
        shutil.rmtree(config.log_path)
        os.kill(pid, signal.SIGKILL)
        assert step_until(launcher, "one", "running", restarts=1).restarts == 1
    assert (config.log_path / "one.console").exists()


def test_cores_that_are_not_there_are_refused_before_anything_starts(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(make_spec("one"), cores=(4000,))
    with pytest.raises(ConfigError, match=r"cores of one was \[4000\], usable here are \[0"):
        Launcher(make_config(tmp_path), [spec]).start()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        ([ProcessSpec(name="Bad Name", entry="a:b")], "name was 'Bad Name'"),
        ([ProcessSpec(name="launcher", entry="a:b")], "the launcher's own"),
        ([ProcessSpec(name="x", entry="a:b"), ProcessSpec(name="x", entry="a:b")], "'x' twice"),
        ([ProcessSpec(name="x", entry="no colon")], "must be 'module:function'"),
    ],
)
def test_wrong_specs_are_refused(tmp_path: Path, specs: list[ProcessSpec], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Launcher(make_config(tmp_path), specs)


def test_machine_that_slept_does_not_cost_the_children_their_lives(tmp_path: Path) -> None:
    limits = msgspec.structs.replace(QUICK, heartbeat_timeout_s=0.6)
    with Launcher(make_config(tmp_path, limits), [make_spec("one")]) as launcher:
        pid = step_until(launcher, "one", "running").pid
        assert pid is not None
        psutil.Process(pid).suspend()
        time.sleep(1.2)  # neither the child nor the launcher runs, as on a laptop that is shut
        launcher.step()
        psutil.Process(pid).resume()
        assert step_until(launcher, "one", "running").pid == pid


def test_process_that_cannot_be_created_uses_up_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with Launcher(make_config(tmp_path), [make_spec("one")]) as launcher:
        assert step_until(launcher, "one", "failed").detail == "exit code 1; 2 restarts in 60 s used up"


def test_doubtful_pinning_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = msgspec.structs.replace(make_config(tmp_path), idle="busy_spin", cores={"nobody": (0,)})
    with Launcher(config, [make_spec("nt8", "run_to_code", code=0), make_spec("reader", "run_to_code", code=0)]):
        pass
    fields = [record.fields for record in caplog.records if record.levelname == "WARNING"]
    findings = [str(each.get("finding", each.get("child"))) for each in fields]
    assert "nobody" in findings
    assert any("reader spins and is pinned nowhere" in finding for finding in findings)
    assert not any("nt8" in finding for finding in findings), "an adapter waits for its platform, it does not spin"


def no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def test_a_full_run_folder_stops_nobody_who_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [no_space(), no_space()]
    genuine = RunOwnership.save_children

    def save(self: RunOwnership, children: dict[str, ProcessId]) -> os.stat_result:
        if refusals:
            raise refusals.pop()
        return genuine(self, children)

    with Launcher(make_config(tmp_path), [make_spec("one")]) as launcher:
        pid = step_until(launcher, "one", "running").pid
        assert pid is not None
        monkeypatch.setattr(RunOwnership, "save_children", save)
        psutil.Process(pid).kill()
        successor = step_until(launcher, "one", "running", restarts=1).pid
        launcher.step()  # noted at last, for the next launcher
        noted = msgspec.json.decode((tmp_path / "run" / STATE_FILE).read_bytes(), type=LaunchState)
        assert noted.children["one"].pid == successor
        assert not refusals


def test_a_run_folder_that_is_full_at_the_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise no_space()

    monkeypatch.setattr(CountersPage, "create", refuse)
    with pytest.raises(RunFolderError, match=r"run folder .* cannot be used: .*No space left.*; free some space there"):
        Launcher(make_config(tmp_path), [make_spec("one")]).start()
    monkeypatch.undo()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with Launcher(make_config(tmp_path), []):  # given back
        pass


def test_a_process_that_reads_its_journal_is_not_killed_for_its_pauses_and_says_how_far_it_is(tmp_path: Path) -> None:
    config = make_config(tmp_path, msgspec.structs.replace(QUICK, heartbeat_timeout_s=1.0))
    with Launcher(config, [make_spec("reads", "run_recovering", step_s=1.5)]) as launcher:
        seen: list[str] = []
        while row(launcher, "reads").state != "running":
            launcher.step()
            state = row(launcher, "reads").state
            if state not in seen:
                seen.append(state)
                if state == "recovering, 25 %":
                    snapshot = Monitor(tmp_path / "run").snapshot()
                    process = next(each for each in snapshot.processes if each.name == "reads")
                    assert process.state == state
                    assert not snapshot.is_healthy
                    assert own_counters(tmp_path)["children_running"] == 0
            time.sleep(0.02)
        assert seen == ["starting", *(f"recovering, {share} %" for share in (0, 25, 50, 75)), "running"]
        assert row(launcher, "reads").restarts == 0
        assert own_counters(tmp_path)["hang_kills"] == 0


def test_a_process_is_not_taken_for_started_before_its_first_heartbeat(tmp_path: Path) -> None:
    """A page alone shows nothing, neither a new one nor one that a predecessor has beaten in."""
    with Launcher(make_config(tmp_path), [make_spec("one", "run_mute"), make_spec("two")]) as launcher:
        step_until(launcher, "two", "running")
        shown: dict[str, ProcessStatus] = {}

        def both_are_shown() -> bool:
            # A page that is just being made is there as a file, and not shown yet.
            shown.update({each.name: each for each in Monitor(tmp_path / "run").snapshot().processes})
            return shown.keys() >= {"one", "two"}

        wait_for(both_are_shown, "the page of a process without a heartbeat")
        launcher.step()
        assert (row(launcher, "one").state, row(launcher, "one").heartbeat_age_s) == ("starting", None)
        assert (shown["one"].state, shown["one"].heartbeat_age_s) == ("starting", None)
        assert shown["two"].state == "live"
