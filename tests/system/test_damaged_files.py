"""Files of the run folder that somebody empties, cuts, overwrites or removes while everything runs on them."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.kill_file import KillEntry, add_kill, kill_file_path, read_kill_file
from nexus_gateway.core.messages import KillLevel, RejectCode, SignalState
from nexus_gateway.core.transport.keys import read_pair
from nexus_gateway.shm import layout
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.layout import Layout
from nexus_gateway.shm.segment import SegmentError, SegmentState, inspect

from tests.support.commands import run_command
from tests.support.shm_processes import linux_only
from tests.support.system import System, make_signal

pytestmark = [pytest.mark.processes, linux_only]

PLATFORMS = ("nt8", "sierra")
LAYOUTS = {".ticks": layout.RING, ".board": layout.BOARD, ".counters": layout.COUNTERS, ".symbols": layout.SYMBOLS}


def empty(path: Path) -> None:
    if stat.S_ISSOCK(path.lstat().st_mode):
        path.unlink()  # a socket has no content; what stands in its place has none either
        path.touch(0o600)
    else:
        with path.open("r+b") as file:
            file.truncate(0)


def cut(path: Path) -> None:
    if stat.S_ISSOCK(path.lstat().st_mode):
        empty(path)
    else:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    """In place, as long as it is: nothing but its content tells."""
    noise = random.Random(path.name)
    if stat.S_ISSOCK(path.lstat().st_mode):
        path.unlink()
        path.write_bytes(noise.randbytes(100))
    else:
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(noise.randbytes(size))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "emptied": empty,
    "cut to half": cut,
    "overwritten": overwrite,
    "removed": Path.unlink,
}
FILES = (
    *("nt8.ticks", "nt8.board", "nt8.counters", "gateway.counters", "launcher.counters", "directory.symbols"),
    *("keys/gateway/own.key_secret", "keys/nexus/own.key_secret", "keys/adapter.nt8/own.key_secret"),
    *("adapters.ipc", "nexus.ipc", "launcher.lock", "launch.json", "launch-state.json"),
)


def is_sound(path: Path, before: bytes) -> bool:
    """Whether a file is what its readers need. `before`: the content of a plain one."""
    kind: Layout | None = LAYOUTS.get(path.suffix)
    if kind is not None:
        return inspect(path, kind) is (SegmentState.CLOSED if path.suffix == ".symbols" else SegmentState.LIVE)
    try:
        if path.suffix == ".ipc":
            return stat.S_ISSOCK(path.stat().st_mode)
        if path.name == "launch-state.json":  # other pids by now
            return set(json.loads(path.read_bytes())["children"]) == {"gateway", *PLATFORMS}
        if path.suffix == ".key_secret":  # another one, except the gateway's
            return bool(read_pair(path.parent))
        return path.read_bytes() == before
    except (FileNotFoundError, ValueError, ConfigError):
        return False


def published(system: System, platform: str) -> int:
    """Ticks of a platform's living adapter; 0 = it does not live."""
    try:
        page = CountersPage.attach(system.folder, platform)
    except SegmentError:
        return 0
    return page.values()["ticks_published"] if page.state() is SegmentState.LIVE else 0


def is_trading(system: System) -> bool:
    """Whether all processes run, and the gateway has reconciled all platforms."""
    try:
        page = CountersPage.attach(system.folder, "gateway")
    except SegmentError:
        return False
    is_ready = page.state() is SegmentState.LIVE and page.values()["routes_ready"] == len(PLATFORMS)
    return is_ready and all(row.state == "running" for row in system.rows())


class Desk:
    """A NEXUS that proves that its signals trade."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._nexus = system.connect()
        self._sent = 0
        self.reasons: list[str] = []

    def send(self) -> SignalState:
        """Send a signal, wait for its outcome, note the reasons of what was refused."""
        self._sent += 1
        signal = make_signal(f"s{self._sent}", PLATFORMS)
        self._nexus.send_signal(signal, 0)
        outcome = self._system.settled(self._nexus, signal)
        legs = () if outcome.report is None else outcome.report.legs
        self.reasons = [outcome.text, *(leg.text for leg in legs)]
        if outcome.state is not SignalState.FILLED:
            assert outcome.code is not RejectCode.NONE or any(self.reasons), "a refusal says why"
        return outcome.state

    def trades(self) -> bool:
        return self.send() is SignalState.FILLED


def heal(system: System, desk: Desk, damage: Callable[[Path], None], names: tuple[str, ...]) -> None:
    """Damage files of a running system; returns when all of it runs and trades again."""
    paths = [system.folder / name for name in names]
    contents = {path: path.read_bytes() if path.suffix != ".ipc" else b"" for path in paths}
    ticks = {name: published(system, name) for name in PLATFORMS}
    for path in paths:
        damage(path)
        assert not is_sound(path, contents[path]), "the test must do harm, or it proves nothing"
    system.until(lambda: all(is_sound(path, contents[path]) for path in paths))
    system.until(lambda: is_trading(system))
    # A page that was made anew counts from 0.
    system.until(lambda: all(0 < published(system, name) != ticks[name] for name in PLATFORMS))
    system.until(desk.trades)


def open_system() -> System:
    return System({name: {} for name in PLATFORMS}, ("NQ",), lookalike_window_ms=0)


def test_files_of_each_process_are_made_anew_and_trading_goes_on() -> None:
    with open_system() as system:
        desk = Desk(system)
        heal(system, desk, empty, ("nt8.ticks", "launcher.counters", "launch.json", "nexus.ipc"))
        heal(system, desk, overwrite, ("nt8.board", "keys/nexus/own.key_secret", "gateway.counters", "launcher.lock"))
        log = (system.root / "logs" / "nt8.jsonl").read_text()
        assert "nt8.ticks was cut to 0 of" in log, "what happened is said by name"
        assert "nt8.board was overwritten" in log


def test_a_lost_folder_or_symbol_directory_starts_all_processes_anew() -> None:
    with open_system() as system:
        desk = Desk(system)
        heal(system, desk, empty, ("directory.symbols",))
        pids = {row.pid for row in system.rows()}
        shutil.rmtree(system.folder)  # as a log-out does with RemoveIPC
        system.until(lambda: is_trading(system) and pids.isdisjoint({row.pid for row in system.rows()}))
        assert stat.S_IMODE(system.folder.stat().st_mode) == 0o700
        system.until(desk.trades)


@pytest.mark.torture
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_each_file_damaged_in_each_way_is_made_anew_and_trading_goes_on(damage: Callable[[Path], None]) -> None:
    with open_system() as system:
        desk = Desk(system)
        for name in FILES:
            heal(system, desk, damage, (name,))
        heal(system, desk, damage, FILES)


@pytest.mark.torture
def test_any_files_damaged_in_any_order_and_in_the_middle_of_starts_end_in_trading(chance: random.Random) -> None:
    with open_system() as system:
        desk = Desk(system)
        for _ in range(60):
            names = sorted(path.name for path in system.folder.glob("*") if path.name != "kill.json")
            for name in chance.sample(names, min(len(names), chance.choice((1, 1, 3)))):
                with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                    chance.choice(list(DAMAGES.values()))(system.folder / name)
            system.rest(chance.choice((0.0, 0.3, 1.0, 3.0)))
        system.until(lambda: is_trading(system), 300)
        system.until(desk.trades)


@pytest.mark.torture
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_kill_level_outlives_its_file(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with open_system() as system:
        desk = Desk(system)
        config = system.write_config()
        path = kill_file_path(system.folder)
        add_kill(path, KillEntry(level=KillLevel.REDUCE_ONLY, reason="test", by="test", at_ns=0))
        system.until(lambda: system.counters()["kill_level"] == KillLevel.REDUCE_ONLY)
        damage(path)
        # A file that cannot be read stops entries by itself; a removed one is in the journal.
        assert [kill.level for kill in read_kill_file(path)] == ([KillLevel.NO_NEW] if path.exists() else [])
        system.kill(["gateway"])
        system.until(lambda: is_trading(system))
        assert system.counters()["kill_level"] == KillLevel.REDUCE_ONLY
        assert desk.send() is SignalState.REJECTED
        ran = run_command(tmp_path, "resume", "--reason", "test", "-c", config)
        assert ran.returncode == 0, ran.stderr + ran.stdout
        assert not path.exists()
        system.until(desk.trades)
