"""The command line `nexus-gateway`.

Exit codes, of every command: 0 done as asked; 1 it ran, but something is wrong (a process failed, ticks were lost
in a replay, `status` found something not live); 2 wrong options, configuration or recording; 3 there is no running
gateway; 4 the run folder cannot be used: another launcher has it, it is not this user's alone, or it is full; 130
Ctrl-C before the command had begun.

With `--json` stdout carries exactly one JSON object, or nothing when there is an error; all else goes to stderr.
"""

from __future__ import annotations

import sys
from typing import Final

import typer

from . import certify, instruments, journal, kill, orders, processes, stage, status
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
    """The release, and the versions of what decides about its kernels."""
    from importlib.metadata import version as package_version  # which the other commands do without

    parts = {name: package_version(name) for name in ("nexus-gateway", "numpy", "numba", "pyzmq", "msgspec")}
    parts["python"] = sys.version.split()[0]
    if as_json:
        print_json(parts)
    else:
        for name, number in parts.items():
            typer.echo(f"{name} {number}")


for group in (processes, status, instruments, certify, kill, orders, stage, journal):
    group.add_commands(app)


def main() -> None:
    """Entry of the console script."""
    try:
        app()
    except KeyboardInterrupt:  # before a command had taken over the signals
        sys.exit(EXIT_INTERRUPTED)
