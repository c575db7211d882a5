"""Commands that run processes until Ctrl-C, or to their end: `demo`, `run`, `replay`, `record`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from ...shm import host
from ..config import LAUNCHER_NAME, RECORDER_NAME, RecorderConfig
from ..errors import ConfigError, GatewayError
from ..logs import set_up_logs
from .command import (
    EXIT_NOT_RUNNING,
    EXIT_TROUBLE,
    ConfigFolder,
    JsonFlag,
    RunFolder,
    explained,
    load,
    print_json,
)

if TYPE_CHECKING:
    from ..launcher.launcher import Launcher


def add_commands(app: typer.Typer) -> None:
    """Put `demo`, `run`, `replay` and `record` on the command line."""
    for command in (demo, run, replay, record):
        app.command()(command)


Recordings = Annotated[list[Path], typer.Argument(help="Recordings, in any supported format.")]


def parse_speed(text: str) -> float:
    """Parse a replay speed: a number above 0, or "max", which is returned as 0."""
    if text == "max":
        return 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = float("nan")
    if not 0 < speed <= 1_000_000:
        raise typer.BadParameter(f"speed was {text!r}; give a number above 0 and up to 1000000, or max")
    return speed


Speed = Annotated[
    float, typer.Option("--speed", parser=parse_speed, metavar="N|max", help="Factor on the recorded speed, or max.")
]


def demo(
    seconds: Annotated[float | None, typer.Option(min=0.5, help="Duration; none = 15, or all recordings.")] = None,
    replay: Annotated[list[Path] | None, typer.Option(help="Play recordings instead of simulating platforms.")] = None,
    more: Annotated[list[Path] | None, typer.Argument(help="More recordings, so that a shell's * works.")] = None,
    speed: Speed = 1.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Simulate six platforms, or play recordings, and let the example AI trade on them.

    Shows a live table, and a summary at the end. No real platform is used.
    """
    from ..launcher.plan import configure_replay, rehearse_signal, simulate_platforms
    from .demo import demo_folder, run_demo

    with explained():
        paths = [*(replay or []), *(more or [])]
        if more and not replay:
            raise ConfigError(f"recordings were given without --replay: {more[0]}; write --replay {more[0]}")
        chosen = load(config, run_folder or demo_folder())
        # Else simulated ticks would be recorded among real ones, and two launchers would write one log file.
        chosen = msgspec.structs.replace(chosen, recorder=RecorderConfig(), log_folder=str(chosen.log_path / "demo"))
        nexus: dict[str, Any] = {}
        if paths:
            chosen = configure_replay(chosen, paths, speed=speed, wait_for_readers=1)
            # With recordings the demo shows data only. To trade on them use a platform of `run` (docs/adapters.md).
            chosen = msgspec.structs.replace(chosen, orders=msgspec.structs.replace(chosen.orders, enabled=False))
        else:
            chosen, nexus = rehearse_signal(simulate_platforms(chosen))
        on_terminal = sys.stdout.isatty() and not as_json
        log = set_up_logs(
            LAUNCHER_NAME,
            chosen.log_path,
            chosen.log_level,
            console=not on_terminal,
            keep_days=chosen.disk.log_keep_days,
        )
        with _live_table(on_terminal) as show:
            result = run_demo(chosen, nexus, seconds, show, log, console=not on_terminal)
    if as_json:
        print_json(result)
    else:
        from .demo_view import print_demo

        print_demo(result)
    untraded = bool(nexus) and not result.fills
    if untraded:
        typer.echo(f"the demo's signal traded nothing; see the logs in {chosen.log_path}", err=True)
    if untraded or not result.is_complete or (paths and speed == 0 and result.ticks_lost):
        raise typer.Exit(EXIT_TROUBLE)


@contextmanager
def _live_table(on_terminal: bool) -> Iterator[Callable[[Any, str], None]]:
    """Yield a function that redraws the table on a terminal, and does nothing where there is none."""
    if not on_terminal:
        yield lambda snapshot, title: None
        return
    from rich.live import Live

    from .status_view import render_snapshot

    with Live(refresh_per_second=4, transient=True) as live:
        yield lambda snapshot, title: live.update(render_snapshot(snapshot, title))


def run(config: ConfigFolder = None, run_folder: RunFolder = None) -> None:
    """Start all configured processes and supervise them until Ctrl-C or SIGTERM."""
    from ..launcher.launcher import Launcher
    from ..launcher.plan import plan_processes

    with explained():
        chosen = load(config, run_folder)
        log = set_up_logs(LAUNCHER_NAME, chosen.log_path, chosen.log_level, keep_days=chosen.disk.log_keep_days)
        _supervise(Launcher(chosen, plan_processes(chosen), log=log))


def replay(
    paths: Recordings,
    speed: Speed = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Start again from the beginning at the end.")] = False,
    start: Annotated[str | None, typer.Option(help="ISO time to begin at; UTC unless it has an offset.")] = None,
    wait_for_readers: Annotated[int, typer.Option(min=0, help="Begin when so many readers have attached.")] = 0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
) -> None:
    """Play recordings as a platform named "replay", for your own AI to read. Stops when they are over."""
    from ..launcher.launcher import Launcher
    from ..launcher.plan import configure_replay, plan_processes
    from .monitor import Monitor

    with explained():
        chosen = configure_replay(
            load(config, run_folder),
            paths,
            speed=speed,
            loop=loop,
            start=start,
            wait_for_readers=wait_for_readers,
        )
        monitor = Monitor(chosen.run_path)

        def finished() -> bool:
            return any(process.counters.get("replay_finished") for process in monitor.snapshot().processes)

        log = set_up_logs(LAUNCHER_NAME, chosen.log_path, chosen.log_level, keep_days=chosen.disk.log_keep_days)
        _supervise(Launcher(chosen, plan_processes(chosen), log=log), finished)


def _supervise(launcher: Launcher, finished: Callable[[], bool] | None = None) -> None:
    """Run a launcher until a stop signal, until `finished()`, or until no child is left.

    Raises:
        GatewayError: a process has failed for good.
    """
    with launcher:
        launcher.run(finished)
        failed = [child.name for child in launcher.describe() if child.state == "failed"]
    if failed:
        raise GatewayError(f"process {', '.join(failed)} failed and was not restarted; see its log")


def record(
    folder: Annotated[Path | None, typer.Option(help="Folder to write to; none = as configured.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Duration; none = until Ctrl-C.")] = None,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Record every tick of a running gateway to disk, until Ctrl-C."""
    from ..process import ProcessContext
    from ..recorder.recorder import main as run_recorder

    with explained():
        chosen = load(config, run_folder)
        if folder is not None:
            recorder = msgspec.structs.replace(chosen.recorder, folder=str(folder.resolve()))
            chosen = msgspec.structs.replace(chosen, recorder=recorder)
        _require_gateway(chosen.run_path)
        host.sharpen_timers()
        log = set_up_logs(RECORDER_NAME, chosen.log_path, chosen.log_level)
        if chosen.recorder.path.exists() and (fault := host.find_folder_fault(chosen.recorder.path)):
            log.warning("other users may reach a folder of ours", holds="recordings", fault=fault)
        context = ProcessContext(RECORDER_NAME, chosen.run_path, chosen, log=log)
        restore = host.on_stop_request(context.request_stop)
        timer = None if seconds is None else threading.Timer(seconds, context.request_stop)
        if timer is not None:
            timer.start()
        try:
            run_recorder(context)
        finally:
            restore()
            if timer is not None:
                timer.cancel()
        counts = context.counters.values()
        context.close()
    if as_json:
        print_json({**counts, "folder": str(chosen.recorder.path)})
    else:
        typer.echo(
            f"{counts['ticks_recorded']:,} ticks recorded to {chosen.recorder.path}, {counts['ticks_lost']:,} lost"
        )


def _require_gateway(folder: Path) -> None:
    """Exit with code 3 when no adapter publishes: the recorder would wait for ever on a stopped gateway's rings."""
    from .monitor import Monitor

    if all(ring.state != "live" for ring in Monitor(folder).snapshot().rings):
        typer.echo(f"no gateway in {folder}; start one with: nexus-gateway run", err=True)
        raise typer.Exit(EXIT_NOT_RUNNING)
