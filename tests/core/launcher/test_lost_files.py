"""The launcher, when files of its run folder are removed or damaged under it. The whole product is in tests/system."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from nexus_gateway.core.config import GatewayConfig, RolloverConfig, SymbolConfig
from nexus_gateway.core.launcher import run_files
from nexus_gateway.core.launcher.launcher import ChildRow, Launcher
from nexus_gateway.core.launcher.run_ownership import LOCK_FILE, STATE_FILE, RunOwnership
from nexus_gateway.core.process import LAUNCH_FILE
from nexus_gateway.shm import host, layout
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.run_folder import symbols_path
from nexus_gateway.shm.segment import SegmentError, SegmentState, inspect
from nexus_gateway.shm.symbols import Symbol, SymbolDirectory, add_symbols, roll_symbol

from tests.support.launched import QUICK, ROOT, count_turns, make_config, make_spec
from tests.support.patience import patient
from tests.support.shm_processes import linux_only

pytestmark = linux_only  # elsewhere the system keeps files that are open


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GatewayConfig:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    limits = msgspec.structs.replace(QUICK, max_restarts=1)
    symbols = tuple(SymbolConfig(name=name, tick_size=None) for name in ("NQ", "ES"))
    config = make_config(tmp_path, limits)
    return msgspec.structs.replace(config, symbols=symbols, platforms={}, rollover=RolloverConfig(enabled=False))


def step_until(launcher: Launcher, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patient(60)
    while not true():
        assert time.monotonic() < deadline, launcher.describe()
        launcher.step()
        time.sleep(0.02)


def rows(launcher: Launcher) -> dict[str, ChildRow]:
    return {row.name: row for row in launcher.describe()}


def all_run(launcher: Launcher, folder: Path) -> bool:
    states = [row.state for row in launcher.describe()]
    return set(states) == {"running"} and all(count_turns(folder, name) for name in rows(launcher))


def events_of(folder: Path) -> str:
    return (folder / "events").read_text() if (folder / "events").exists() else ""


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    path.write_bytes(b"\xee" * path.stat().st_size)


DAMAGES = {"emptied": empty, "overwritten": overwrite, "removed": Path.unlink}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_the_launchers_own_files_are_written_again_and_no_process_is_disturbed(
    config: GatewayConfig, damage: Callable[[Path], None]
) -> None:
    folder = config.run_path
    with Launcher(config, [make_spec("one")]) as launcher:
        step_until(launcher, lambda: all_run(launcher, folder))
        before = rows(launcher)
        plain = {name: (folder / name).read_bytes() for name in (LOCK_FILE, LAUNCH_FILE, STATE_FILE)}
        for path in (*(folder / name for name in plain), folder / "launcher.counters"):
            damage(path)
        page = folder / "launcher.counters"
        step_until(launcher, lambda: inspect(page, layout.COUNTERS) is SegmentState.LIVE)
        step_until(launcher, lambda: {name: (folder / name).read_bytes() for name in plain} == plain)
        counted = CountersPage.attach(folder, "launcher").values()
        assert counted["children_configured"] == 1
        assert counted["files_restored"] == 4
        after = rows(launcher)
        assert (after["one"].pid, after["one"].restarts) == (before["one"].pid, 0)
    assert events_of(folder) == "one stopped\n"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_one_process_whose_file_was_lost_starts_anew_more_often_than_its_budget_allows(
    config: GatewayConfig, damage: Callable[[Path], None]
) -> None:
    folder = config.run_path
    with Launcher(config, [make_spec("one"), make_spec("two")]) as launcher:
        step_until(launcher, lambda: all_run(launcher, folder))
        other = rows(launcher)["two"].pid
        for number in range(1, 4):
            damage(folder / "one.counters")
            step_until(launcher, lambda number=number: rows(launcher)["one"].restarts == number)  # type: ignore[misc]
            step_until(launcher, lambda: all_run(launcher, folder))
        assert rows(launcher)["two"].pid == other


def lose_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def replace_folder(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.mkdir(mode=0o700)


def lose_directory(folder: Path) -> None:
    symbols_path(folder).unlink()


def cut_directory(folder: Path) -> None:
    path = symbols_path(folder)
    os.truncate(path, path.stat().st_size // 2)


def overwrite_directory(folder: Path) -> None:
    overwrite(symbols_path(folder))


def overwrite_names(folder: Path) -> None:
    """Behind a head that is whole."""
    path = symbols_path(folder)
    with path.open("r+b") as file:
        file.seek(layout.SYMBOLS.size_bytes)
        file.write(b"\xee" * (path.stat().st_size - layout.SYMBOLS.size_bytes))


def let_another_make_the_directory(folder: Path) -> None:
    symbols_path(folder).unlink()
    add_symbols(folder, [Symbol(0, "ES")])


def test_a_contract_that_rolls_or_a_symbol_that_is_added_disturbs_no_process(config: GatewayConfig) -> None:
    """They change the directory, too."""
    folder = config.run_path
    with Launcher(config, [make_spec("one")]) as launcher:
        step_until(launcher, lambda: all_run(launcher, folder))
        pid = rows(launcher)["one"].pid
        add_symbols(folder, [Symbol(0, "NQH27", "NQH27")])
        roll_symbol(folder, "NQ", "NQH27", 1)
        for _ in range(20):
            launcher.step()
            time.sleep(0.02)
        assert (rows(launcher)["one"].pid, rows(launcher)["one"].restarts) == (pid, 0)


@pytest.mark.parametrize(
    "lose",
    [
        *(lose_folder, replace_folder, lose_directory, cut_directory, overwrite_directory, overwrite_names),
        let_another_make_the_directory,
    ],
)
def test_what_all_processes_share_is_made_anew_when_they_have_ended(
    config: GatewayConfig, lose: Callable[[Path], None]
) -> None:
    folder = config.run_path
    with Launcher(config, [make_spec("one"), make_spec("two")]) as launcher:
        step_until(launcher, lambda: all_run(launcher, folder))
        before = {row.pid for row in launcher.describe()}
        former = SymbolDirectory.attach(folder)
        (folder / "nt8.ticks").write_bytes(b"prices under the ids of the lost directory")
        lose(folder)
        assert not _has_all_symbols(folder)
        step_until(launcher, lambda: before.isdisjoint({row.pid for row in launcher.describe()}))
        step_until(launcher, lambda: all_run(launcher, folder))
        assert _has_all_symbols(folder)
        assert former.is_replaced(), "readers see that they must attach again"
        assert not (folder / "nt8.ticks").exists()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert CountersPage.attach(folder, "launcher").values()["folder_rebuilds"] == 1
        children = json.loads((folder / STATE_FILE).read_bytes())["children"]
        assert {child["pid"] for child in children.values()} == {row.pid for row in launcher.describe()}
        with pytest.raises(Exception, match="is in use by the launcher"):
            RunOwnership(folder)


def _has_all_symbols(folder: Path) -> bool:
    try:
        directory = SymbolDirectory.attach(folder)
        return [directory.id_of("NQ"), directory.id_of("ES")] == [1, 2]
    except SegmentError:
        return False


def test_a_folder_that_cannot_be_made_is_said_once_and_tried_until_it_can(
    config: GatewayConfig, caplog: pytest.LogCaptureFixture
) -> None:
    folder = config.run_path
    with Launcher(config, [make_spec("one")]) as launcher:
        step_until(launcher, lambda: all_run(launcher, folder))
        shutil.rmtree(folder)
        folder.touch()  # a file in its place
        step_until(launcher, lambda: rows(launcher)["one"].state == "waiting")
        for _ in range(20):
            launcher.step()
            time.sleep(0.02)
        assert rows(launcher)["one"].pid is None, "nothing starts without its folder"
        assert f"{folder} was replaced" in rows(launcher)["one"].detail
        said = [record.message for record in caplog.records if "cannot be used, trying again" in record.message]
        assert len(said) == 1
        folder.unlink()
        step_until(launcher, lambda: all_run(launcher, folder))


def test_a_file_that_is_damaged_right_after_it_was_written_is_written_again(
    config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = host.replace_private
    damaged = set()

    def write_and_damage(path: Path, content: bytes) -> os.stat_result:
        written = write(path, content)
        if path.name not in damaged:
            damaged.add(path.name)
            empty(path)
        return written

    monkeypatch.setattr(host, "replace_private", write_and_damage)
    folder = config.run_path
    with Launcher(config, [make_spec("one")]) as launcher:
        step_until(launcher, lambda: CountersPage.attach(folder, "launcher").values()["files_restored"] >= 2)
        step_until(launcher, lambda: all_run(launcher, folder))
        assert damaged == {LAUNCH_FILE, STATE_FILE}
        assert all((folder / name).read_bytes() for name in damaged)


def test_names_that_are_overwritten_right_after_they_were_entered_are_not_believed(
    config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = run_files.enter_symbols
    entered = []

    def enter_and_overwrite(folder: Path, config: GatewayConfig) -> list[int]:
        entered.append(enter(folder, config))
        if len(entered) == 1:
            overwrite_names(folder)
        return entered[-1]

    monkeypatch.setattr(run_files, "enter_symbols", enter_and_overwrite)
    with Launcher(config, [make_spec("one")]) as launcher:
        step_until(launcher, lambda: _has_all_symbols(config.run_path) and all_run(launcher, config.run_path))
    assert len(entered) >= 2


def test_a_rebuild_that_fails_restores_nothing_and_does_not_say_so(
    config: GatewayConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = config.run_path
    enter = run_files.enter_symbols
    failures = []

    def refuse(folder: Path, config: GatewayConfig) -> list[int]:
        if len(failures) < 5:
            failures.append(1)
            raise OSError(errno.ENOSPC, "no space")
        return enter(folder, config)

    with Launcher(config, [make_spec("one")]) as launcher:
        step_until(launcher, lambda: all_run(launcher, folder))
        monkeypatch.setattr(run_files, "enter_symbols", refuse)
        shutil.rmtree(folder)
        step_until(launcher, lambda: len(failures) == 5 and all_run(launcher, folder))
        counted = CountersPage.attach(folder, "launcher").values()
        assert (counted["files_restored"], counted["folder_rebuilds"]) == (0, 1)
    assert not [record for record in caplog.records if "it was written again" in record.message]


def test_a_launcher_whose_folder_another_one_has_taken_ends_and_leaves_it_alone(config: GatewayConfig) -> None:
    folder = config.run_path
    cleaned = []
    launcher = Launcher(config, [make_spec("one")], before_release=lambda: cleaned.append(1))
    launcher.start()
    step_until(launcher, lambda: all_run(launcher, folder))
    (folder / LOCK_FILE).unlink()
    successor = RunOwnership(folder)
    successor.save_children({})
    launcher.run()
    assert [row.state for row in launcher.describe()] == ["stopped"]
    assert (folder / STATE_FILE).exists(), "it is the other one's"
    assert not cleaned, "so are all files there"
    successor.release()
