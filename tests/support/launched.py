"""Entries of small processes that the launcher's tests start, and what those tests share."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

from nexus_gateway.core.config import GatewayConfig, LauncherConfig
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.process import RECOVERED_PERMILLE, RECOVERING, ProcessContext, ProcessSpec
from nexus_gateway.shm import host
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.segment import SegmentError, SegmentState

ROOT = Path(__file__).parents[2]
ENTRIES = "tests.support.launched"
QUICK = LauncherConfig(
    heartbeat_timeout_s=10,
    start_timeout_s=20,
    max_restarts=2,
    restart_window_s=60,
    backoff_first_s=0.05,
    backoff_max_s=0.1,
    stop_grace_s=5,
)


def make_config(folder: Path, launcher: LauncherConfig = QUICK) -> GatewayConfig:
    return GatewayConfig(run_folder=str(folder / "run"), log_folder=str(folder / "logs"), launcher=launcher)


def make_spec(name: str, entry: str = "run_idle", **arguments: object) -> ProcessSpec:
    return ProcessSpec(name=name, entry=f"{ENTRIES}:{entry}", arguments=arguments)


def count_turns(run_folder: Path, name: str) -> int:
    """Turns of a process that is alive; 0 before its first and after its end."""
    try:
        page = CountersPage.attach(run_folder, name)
    except SegmentError:
        return 0
    return page.values()["turns"] if page.state() is SegmentState.LIVE else 0


def run_idle(context: ProcessContext) -> int:
    turns = context.open_counters(("turns",)).counter("turns")
    while not context.sleep(0.02):
        turns.add()
    _note(context, "stopped")
    return 0


def run_hang(context: ProcessContext) -> int:
    """Hangs after some signs of life, but only the first process of this name."""
    first = not (context.run_folder / "hung").exists()
    (context.run_folder / "hung").touch()
    if not first:
        return run_idle(context)
    context.open_counters(("turns",))
    context.sleep(0.5)
    time.sleep(600)
    return 0


def run_mute(context: ProcessContext) -> int:
    """Never gives a sign of life."""
    context.open_counters(())
    time.sleep(600)
    return 0


def run_recovering(context: ProcessContext) -> int:
    """Reads a journal in four steps, each far longer than its heartbeats may be apart later."""
    page = context.open_counters((RECOVERING, RECOVERED_PERMILLE, "turns"))
    page.counter(RECOVERING).set(1)
    for step in range(4):
        page.counter(RECOVERED_PERMILLE).set(250 * step)
        context.beat()
        time.sleep(float(context.arguments["step_s"]))
    page.counter(RECOVERING).set(0)
    while not context.sleep(0.02):
        page.counter("turns").add()
    return 0


def run_stubborn(context: ProcessContext) -> int:
    """Lives on, with signs of life, when asked to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context.open_counters(())
    while True:
        context.beat()
        time.sleep(0.02)


def run_report(context: ProcessContext) -> int:
    """Writes its surroundings to the run folder: environment, umask and limit of core files."""
    umask, core = os.umask(0o077), None
    if sys.platform != "win32":
        import resource

        core = resource.getrlimit(resource.RLIMIT_CORE)[0]
    found = {"environment": dict(os.environ), "umask": umask, "core": core}
    (context.run_folder / f"{context.name}.report").write_text(json.dumps(found))
    return run_idle(context)


def run_chatter(context: ProcessContext) -> int:
    """Prints 2 MiB, then a line in each turn."""
    turns = context.open_counters(("turns",)).counter("turns")
    print("x" * (2 << 20), flush=True)
    while not context.sleep(0.02):
        print("y", flush=True)
        turns.add()
    return 0


def run_to_code(context: ProcessContext) -> int:
    return int(context.arguments["code"])


def run_crash(context: ProcessContext) -> int:
    raise RuntimeError("planned crash")


def run_crash_after_loss(context: ProcessContext) -> int:
    """Fails for want of a file before it has noticed that this one was removed."""
    context.open_counters(())
    (context.run_folder / f"{context.name}.counters").unlink()
    raise RuntimeError("planned crash")


def run_short_of_files(context: ProcessContext) -> int:
    """Fails as a process does that may open no more files, behind an error of ours."""
    try:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    except OSError as error:
        raise ConfigError("token file x cannot be read") from error


def run_wrong_config(context: ProcessContext) -> int:
    raise ConfigError("settings.port was 0, must be at least 1; correct it")


def run_kill_itself(context: ProcessContext) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def run_show(context: ProcessContext) -> int:
    """Leaves what it was given where the test looks."""
    (context.run_folder / "shown").write_text(f"{context.name} {context.arguments} {list(host.available_cores())}")
    return 0


def _note(context: ProcessContext, event: str) -> None:
    with (context.run_folder / "events").open("a") as file:
        file.write(f"{context.name} {event}\n")


def run_launcher(folder: str) -> None:
    """A launcher in a process of its own, with two idle children; for tests that kill it."""
    from nexus_gateway.core.launcher.launcher import Launcher

    with Launcher(make_config(Path(folder)), [make_spec("one"), make_spec("two")]) as launcher:
        launcher.run()


if __name__ == "__main__":
    run_launcher(sys.argv[1])
