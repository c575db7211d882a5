"""The command `status`: all platforms and processes of a run folder, as a table or as JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ..config import load_config
from .command import EXIT_NOT_RUNNING, EXIT_TROUBLE, ConfigFolder, JsonFlag, RunFolder, explained, print_json

if TYPE_CHECKING:
    from .monitor import Monitor


def add_commands(app: typer.Typer) -> None:
    """Put `status` on the command line."""
    app.command()(status)


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Show market data, order links, latencies and processes of a run folder, from shared memory alone.

    Exit code 0: everything is live, and nothing that a platform said waits to be settled.
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
    if as_json:
        print_json({**msgspec.to_builtins(snapshot), "is_healthy": snapshot.is_healthy})
    elif watch:
        _watch(monitor)
        return
    else:
        from rich.console import Console

        from .status_view import render_snapshot

        Console().print(render_snapshot(snapshot))
    if not snapshot.is_healthy:
        raise typer.Exit(EXIT_NOT_RUNNING if snapshot.is_closed else EXIT_TROUBLE)


def _watch(monitor: Monitor) -> None:
    from rich.live import Live

    from .status_view import render_snapshot

    with Live(refresh_per_second=4) as live:
        try:
            while True:
                live.update(render_snapshot(monitor.snapshot()))
                time.sleep(0.25)
        except KeyboardInterrupt:
            pass
