"""The command `status`: all platforms and processes of a run folder, as a table or as JSON."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from ..config import GatewayConfig, load_config
from ..errors import ConfigError
from .command import EXIT_NOT_RUNNING, EXIT_TROUBLE, ConfigFolder, JsonFlag, RunFolder, explained, load, print_json
from .disk_forecast import DiskStatus, measure_disks

if TYPE_CHECKING:
    from .monitor import Monitor

_DISKS_S: Final = 60.0
"""Between two looks at the disks with --watch: it reads a day of the journal."""


def add_commands(app: typer.Typer) -> None:
    """Put `status` on the command line."""
    app.command()(status)


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Show market data, order links, latencies, processes and disks of a run folder. No process is asked anything.

    Exit code 0: everything is live, nothing that a platform said waits to be settled, and no disk is too full
    or not measured.
    """
    from .monitor import Monitor

    with explained():
        folder = run_folder or load_config(config).run_path
        monitor = Monitor(folder)
        snapshot = monitor.snapshot()
        if not snapshot.rings and not snapshot.processes:
            typer.echo(f"no gateway in {folder}; start one with: nexus-gateway run", err=True)
            raise typer.Exit(EXIT_NOT_RUNNING)
        if as_json or not watch:
            time.sleep(0.05)  # ticks/s needs two snapshots
            snapshot = monitor.snapshot()
        chosen = _config_in_force(folder, config)
    disks = [] if watch and not as_json else measure_disks(chosen, time.time_ns())
    is_healthy = snapshot.is_healthy and not any(disk.stopped or disk.trouble for disk in disks)
    if as_json:
        print_json({**msgspec.to_builtins(snapshot), "disks": disks, "is_healthy": is_healthy})
    elif watch:
        _watch(monitor, chosen)
        return
    else:
        from rich.console import Console

        from .status_view import render_snapshot

        Console().print(render_snapshot(snapshot, disks=disks))
    if not is_healthy:
        raise typer.Exit(EXIT_NOT_RUNNING if snapshot.is_closed else EXIT_TROUBLE)


def _config_in_force(run_folder: Path, config: Path | None) -> GatewayConfig:
    """Return the configuration of the running processes; that of the files when none runs."""
    from ..process import LaunchFile

    try:
        return LaunchFile.read(run_folder).config
    except ConfigError:
        return load(config, run_folder)


def _watch(monitor: Monitor, config: GatewayConfig) -> None:
    from rich.live import Live

    from .status_view import render_snapshot

    disks: list[DiskStatus] = []
    next_s = 0.0
    with Live(refresh_per_second=4) as live:
        try:
            while True:
                if time.monotonic() >= next_s:
                    next_s = time.monotonic() + _DISKS_S
                    disks = measure_disks(config, time.time_ns())
                live.update(render_snapshot(monitor.snapshot(), disks=disks))
                time.sleep(0.25)
        except KeyboardInterrupt:
            pass
