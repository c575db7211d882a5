"""The command line `nexus-gateway`.

Exit codes of all commands: 0 done as asked; 1 it ran, but something is wrong (a process failed, a replay lost ticks,
`status` found something that is not live, a kill was not verified); 2 wrong options, configuration or recording;
3 there is no running gateway; 4 the run folder cannot be used: another launcher holds it, other users can read it, or
the disk is full; 130 Ctrl-C before the command began.

With `--json` stdout carries exactly one JSON object, or nothing when there is an error; everything else goes to stderr.

Each module adds its commands with `add_commands(app)`. They import what is slow to load (ZeroMQ, numba, rich, the
launcher) inside their functions: `status` must answer at once.
"""

from __future__ import annotations

import sys
from typing import Final

import typer

from ...shm import host
from . import account, certify, instruments, journal, keys, kill, orders, processes, stage, status
from .command import JsonFlag, print_json

EXIT_INTERRUPTED: Final = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Connects one trading AI to six trading platforms.",
)


@app.command()
def version(as_json: JsonFlag = False) -> None:
    """Show the versions of the gateway and of the libraries that its results depend on."""
    from importlib.metadata import version as package_version  # slow to import

    parts = {name: package_version(name) for name in ("nexus-gateway", "numpy", "numba", "pyzmq", "msgspec")}
    parts["python"] = sys.version.split()[0]
    if as_json:
        print_json(parts)
    else:
        for name, number in parts.items():
            typer.echo(f"{name} {number}")


for group in (processes, status, instruments, certify, kill, orders, account, stage, journal, keys):
    group.add_commands(app)


def main() -> None:
    """Entry of the console script."""
    host.guard_process()
    try:
        app()
    except KeyboardInterrupt:  # before the command installed its own signal handlers
        sys.exit(EXIT_INTERRUPTED)
