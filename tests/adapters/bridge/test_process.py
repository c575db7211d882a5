"""The process that starts a bridge and watches it, with a bridge that does what its configuration says."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from nexus_gateway.adapters.bridge.process import COUNTERS, TOKEN_VARIABLE, BridgeFiles, BridgeKeeper
from nexus_gateway.adapters.mt5.settings import Mt5GlobalSettings
from nexus_gateway.core.config import GatewayConfig, PlatformConfig, convert_settings
from nexus_gateway.core.config.orders import OrdersConfig
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.launcher.launcher import Launcher
from nexus_gateway.core.launcher.plan import ADAPTER_ENTRY, BRIDGE_ENTRY, plan_processes, simulate_platforms
from nexus_gateway.core.process import EXIT_CLEAN, EXIT_CONFIG, EXIT_FAILURE, ProcessContext, ProcessId
from nexus_gateway.shm import host
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.segment import SegmentError

from tests.support.launched import QUICK
from tests.support.patience import patient

T = TypeVar("T")
PATIENCE_S = 30.0
SECOND = 10**9
TOKEN = "a token of enough characters"
TOKEN_HASH = hashlib.sha256(TOKEN.encode()).hexdigest()
BRIDGE = """
import hashlib, json, os, signal, sys, threading, time

config = json.load(open(sys.argv[1]))
mode = config["mode"]
assert sys.argv[2] == "--stdin-lifeline"


def pulse(silent_s, doing=""):
    now_ns = time.time_ns()
    until_ns = now_ns + int(silent_s * 1e9)
    state = {"pid": os.getpid(), "boot_id": "b", "at_ns": now_ns, "until_ns": until_ns, "doing": doing}
    fresh = config["pulse_file"] + ".new"
    with open(fresh, "w") as file:
        json.dump(state, file)
    os.replace(fresh, config["pulse_file"])


with open(config["ids_file"], "a") as file:
    file.write(f"{os.getpid()} {hashlib.sha256(os.environ['%s'].encode()).hexdigest() == config['expect']}\\n")
if mode == "end":
    sys.exit(config["code"])
if mode == "mute":
    time.sleep(600)
if mode == "hang":
    pulse(0.2, "order_send")
    time.sleep(600)
if mode == "busy":
    pulse(600, "initialize")
    time.sleep(600)
if mode == "busy_then_idle":
    pulse(600, "initialize")
    time.sleep(0.3)
    pulse(0.2, "order_send")
    time.sleep(600)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pulse(60)
        time.sleep(0.05)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    pulse(5)
    time.sleep(0.05)
"""


def wait_for(look: Callable[[], T]) -> T:
    """What `look` gives once it is something."""
    deadline = time.monotonic() + patient(PATIENCE_S)
    while not (value := look()):
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.02)
    return value


@pytest.fixture
def make_keep(tmp_path):
    made = []

    def make(mode: str, **options) -> Keep:
        made.append(Keep(tmp_path, mode, **options))
        return made[-1]

    yield make
    for keep in made:
        keep.close()


class Keep:
    """A keeper in a thread of this process. `lives`: bridges that were started, and whether they knew the token."""

    def __init__(self, folder: Path, mode: str, *, start_timeout_s: float = 60.0, **options: object) -> None:
        script = folder / "bridge.py"
        script.write_text(textwrap.dedent(BRIDGE % TOKEN_VARIABLE))
        run_folder = folder / "run"
        run_folder.mkdir(mode=0o700, exist_ok=True)
        self.config = make_config(
            folder,
            script,
            start_timeout_s,
            {"mode": mode, "expect": TOKEN_HASH, **options},
        )
        self.files = BridgeFiles(run_folder, "mt5")
        self.context = ProcessContext("mt5_bridge", run_folder, self.config, {"platform": "mt5"})
        self.page = self.context.open_counters(COUNTERS)
        self.code: int | None = None
        self._ids = Path(self.config.journal_path).with_name("orders.mt5.ids")
        self._thread = threading.Thread(target=self._run)

    def start(self, *, token: bool = True) -> Keep:
        if token:
            self.give_token()
        self._thread.start()
        return self

    def give_token(self) -> None:
        self.files.token.touch(0o600)
        self.files.token.write_text(TOKEN)

    @property
    def lives(self) -> list[tuple[int, bool]]:
        lines = self._ids.read_text().splitlines() if self._ids.exists() else []
        return [(int(pid), knows == "True") for pid, knows in (line.split() for line in lines)]

    def wait(self) -> int | None:
        self._thread.join(patient(30))
        assert not self._thread.is_alive()
        return self.code

    def close(self) -> None:
        if self._thread.is_alive():
            self.stop()
        self.context.close()

    def stop(self) -> int | None:
        self.context.request_stop()
        return self.wait()

    def _run(self) -> None:
        settings = read_settings(self.config)
        self.code = BridgeKeeper(self.context, settings, self.files, "platform_configs.yaml: mt5.settings").run()


def read_settings(config: GatewayConfig) -> Mt5GlobalSettings:
    return convert_settings(Mt5GlobalSettings, config.platforms["mt5"].settings, "test")


def make_config(folder: Path, script: Path, start_timeout_s: float, options: dict[str, object]) -> GatewayConfig:
    settings = {
        "backend": "native",
        "account": "5001234",
        "server": "Broker-Demo",
        "native": {
            "terminal_path": str(folder / "terminal64.exe"),
            "script": str(script),
            "start_timeout_s": start_timeout_s,
            "options": options,
        },
    }
    return GatewayConfig(
        run_folder=str(folder / "run"),
        log_folder=str(folder / "logs"),
        launcher=QUICK,
        orders=OrdersConfig(journal=str(folder / "journal" / "orders.sqlite")),
        platforms={
            "mt5": PlatformConfig(adapter="nexus_gateway.adapters.mt5:Mt5GlobalAdapter", symbols=(), settings=settings)
        },
    )


def test_it_runs_until_it_is_to_stop_and_takes_the_bridge_with_it(make_keep):
    keep = make_keep("beat").start()
    ((pid, knows_token),) = wait_for(lambda: keep.lives)
    assert knows_token
    wait_for(keep.files.pulse.exists)
    assert keep.page.values()["bridge_running"] == 1
    assert keep.stop() == EXIT_CLEAN
    assert not psutil.pid_exists(pid)
    assert not keep.files.identity.exists()
    assert keep.page.values()["bridge_running"] == 0


def test_the_configuration_has_no_token_in_it(make_keep):
    keep = make_keep("beat").start()
    wait_for(lambda: keep.lives)
    text = keep.files.configuration.read_text()
    assert keep.files.configuration.stat().st_mode & 0o077 == 0
    written = json.loads(text)
    assert TOKEN not in text
    assert (written["token_env"], written["login"], written["port"]) == (TOKEN_VARIABLE, 5001234, 9011)
    keep.stop()


def test_it_waits_for_the_token_that_the_adapter_makes(make_keep):
    keep = make_keep("beat").start(token=False)
    time.sleep(0.3)
    assert keep.lives == []
    keep.give_token()
    wait_for(lambda: keep.lives)
    keep.stop()


def test_a_bridge_starts_anew_when_the_adapter_has_made_another_token(make_keep):
    """As it does when the file was lost: with the old one the bridge would refuse the adapter for ever."""
    keep = make_keep("beat").start()
    ((pid, _),) = wait_for(lambda: keep.lives)
    for content in ("", "\udcff"):  # damaged: nobody can have it from there
        keep.files.token.write_bytes(content.encode(errors="surrogateescape"))
        time.sleep(0.3)
        assert keep.code is None
    keep.files.token.write_text("another token of enough characters")
    assert keep.wait() == EXIT_CLEAN
    assert keep.context.lost_file == f"{keep.files.token} holds another token"
    assert not psutil.pid_exists(pid)


def test_a_pulse_file_that_was_removed_is_silence_since_the_last_pulse(make_keep):
    keep, now_ns = make_keep("beat", start_timeout_s=1.0), 0
    settings = read_settings(keep.config)
    (bridge,) = BridgeKeeper(keep.context, settings, keep.files, "test", steady_ns=lambda: now_ns).bridges
    write_pulse(keep, 0)
    assert not bridge.is_silent_too_long()
    keep.files.pulse.unlink()
    for _ in range(14):  # 5 s were announced, and 2 s are its grace
        now_ns += SECOND // 2
        assert not bridge.is_silent_too_long()
    now_ns += SECOND // 2
    assert bridge.is_silent_too_long()


@pytest.mark.parametrize(("code", "ours"), [(0, EXIT_FAILURE), (1, EXIT_FAILURE), (2, EXIT_CONFIG), (3, EXIT_FAILURE)])
def test_when_the_bridge_ends_so_does_its_keeper(make_keep, code, ours):
    assert make_keep("end", code=code).start().wait() == ours


@pytest.mark.parametrize(("mode", "start_timeout_s"), [("hang", 60.0), ("busy_then_idle", 60.0), ("mute", 1.0)])
def test_silence_beyond_what_was_announced_ends_it(make_keep, mode, start_timeout_s):
    keep = make_keep(mode, start_timeout_s=start_timeout_s).start()
    ((pid, _),) = wait_for(lambda: keep.lives)
    assert keep.wait() == EXIT_FAILURE
    assert not psutil.pid_exists(pid)
    assert keep.page.values()["bridge_hang_kills"] == 1


def test_announced_silence_is_work(make_keep):
    keep = make_keep("busy").start()
    wait_for(keep.files.pulse.exists)
    time.sleep(3.0)  # longer than any silence that is not announced
    assert keep.code is None
    assert keep.page.values()["bridge_hang_kills"] == 0
    keep.stop()


def write_pulse(keep, at_ns):
    pulse = {"pid": 1, "boot_id": "b", "at_ns": at_ns, "until_ns": at_ns + 5 * SECOND, "doing": "turning"}
    keep.files.pulse.write_text(json.dumps(pulse))


def test_a_pause_of_its_own_is_not_the_bridges_silence(make_keep):
    """The machine slept for an hour: the pulse is old, and the bridge has had no time to write another."""
    keep, now_ns = make_keep("beat"), 0
    write_pulse(keep, 0)
    settings = read_settings(keep.config)
    (bridge,) = BridgeKeeper(keep.context, settings, keep.files, "test", steady_ns=lambda: now_ns).bridges
    assert not bridge.is_silent_too_long()
    now_ns += 3_600 * SECOND
    assert not bridge.is_silent_too_long()
    for _ in range(3):
        now_ns += SECOND
        silent = bridge.is_silent_too_long()
    assert silent


@pytest.mark.parametrize("step_s", [0, -3_600, 3_600, -86_400, 86_400])
def test_a_step_of_the_clock_neither_hides_nor_makes_silence(make_keep, step_s):
    keep, now_ns = make_keep("beat"), 0
    settings = read_settings(keep.config)
    (bridge,) = BridgeKeeper(keep.context, settings, keep.files, "test", steady_ns=lambda: now_ns).bridges
    write_pulse(keep, 10**18)
    assert not bridge.is_silent_too_long()
    write_pulse(keep, 10**18 + step_s * SECOND + 1)
    for _ in range(8):
        assert not bridge.is_silent_too_long()
        now_ns += SECOND
    assert bridge.is_silent_too_long()


def test_a_bridge_that_does_not_stop_is_killed(make_keep):
    keep = make_keep("stubborn").start()
    ((pid, _),) = wait_for(lambda: keep.lives)
    assert keep.stop() == EXIT_CLEAN
    assert not psutil.pid_exists(pid)


def test_a_bridge_that_outlived_its_keeper_is_ended_first(make_keep):
    keep = make_keep("beat")
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen([*sleeper, str(keep.files.configuration)]) as orphan:
        identity = ProcessId(orphan.pid, host.started_ms(orphan.pid) or 0)
        keep.files.identity.write_text(json.dumps({"pid": identity.pid, "started_ms": identity.started_ms}))
        keep.start()
        assert orphan.wait(patient(30)) != 0
    wait_for(lambda: keep.lives)
    keep.stop()
    assert keep.page.values()["bridge_orphans_ended"] == 1


def test_a_process_that_has_only_the_pid_and_start_of_a_bridge_is_left_alone(make_keep):
    keep = make_keep("beat")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        identity = ProcessId(other.pid, host.started_ms(other.pid) or 0)
        keep.files.identity.write_text(json.dumps({"pid": identity.pid, "started_ms": identity.started_ms}))
        keep.start()
        wait_for(lambda: keep.lives)
        keep.stop()
        assert other.poll() is None
        other.kill()
    assert keep.page.values()["bridge_orphans_ended"] == 0


def test_one_for_orders_and_one_for_ticks_live_and_end_together(make_keep):
    keep = make_keep("beat")
    keep.config.platforms["mt5"].settings["ticks_port"] = 9021
    keep.start()
    wait_for(lambda: len(keep.lives) == 2 and keep.page.values()["bridge_running"] == 2)
    files = (keep.files, replace(keep.files, part="ticks"))
    written = [json.loads(each.configuration.read_text()) for each in files]
    assert [(each["role"], each["port"]) for each in written] == [("orders", 9011), ("ticks", 9021)]
    assert len({each["pulse_file"] for each in written}) == 2
    (orders, _), (ticks, _) = keep.lives
    os.kill(ticks, 9)
    assert keep.wait() == EXIT_FAILURE
    assert not psutil.pid_exists(orders)
    assert not any(each.identity.exists() for each in files)


def test_an_interpreter_that_is_not_there(make_keep):
    keep = make_keep("beat")
    native = dict(keep.config.platforms["mt5"].settings["native"], interpreter=["/no/such/python"])
    keep.config.platforms["mt5"].settings["native"] = native
    keep.give_token()
    keeper = BridgeKeeper(keep.context, read_settings(keep.config), keep.files, "mt5.settings")
    with pytest.raises(ConfigError, match=r"mt5.settings: the bridge could not be started with '/no/such/python'"):
        keeper.run()


def test_what_is_planned(tmp_path):
    config = make_config(tmp_path, tmp_path / "bridge.py", 60.0, {})
    specs = [spec for spec in plan_processes(config) if spec.entry != "nexus_gateway.core.gateway:main"]
    assert [(spec.name, spec.entry) for spec in specs] == [("mt5_bridge", BRIDGE_ENTRY), ("mt5", ADAPTER_ENTRY)]
    assert specs[0].arguments == {"platform": "mt5"}
    assert "mt5_bridge" not in [spec.name for spec in plan_processes(simulate_platforms(config))]


def test_the_launcher_restarts_a_bridge_that_was_killed(make_keep, tmp_path):
    """Real processes: launcher, keeper, bridge. kill -9 of the keeper leaves no second bridge behind."""
    keep = make_keep("beat")
    keep.context.close()
    keep.give_token()
    specs = [spec for spec in plan_processes(keep.config) if spec.name == "mt5_bridge"]
    with Launcher(keep.config, specs, console=False) as launcher:

        def lives_after(count: int) -> int:
            def look() -> list[tuple[int, bool]] | None:
                launcher.step()
                return keep.lives if len(keep.lives) > count and psutil.pid_exists(keep.lives[-1][0]) else None

            return wait_for(look)[-1][0]

        first = lives_after(0)
        os.kill(first, 9)
        second = lives_after(1)
        keeper_pid = launcher.describe()[0].pid
        assert keeper_pid is not None
        os.kill(keeper_pid, 9)
        third = lives_after(2)
        wait_for(lambda: not psutil.pid_exists(second))
        assert psutil.pid_exists(third)
    assert not psutil.pid_exists(third)
    assert counters(tmp_path / "run")["bridge_starts"] == 3


def counters(run_folder: Path) -> dict[str, int]:
    try:
        return CountersPage.attach(run_folder, "mt5_bridge").values()
    except SegmentError:
        return {}
