"""Shared by all commands: options, exit codes for errors, one request to the gateway.

Exit codes, see also `app`: 0 done and verified; 1 it ran, but not verified, refused, or the journal is damaged; 2 wrong
options or files; 3 there is no gateway, or it does not answer; 4 the run folder cannot be used.
"""

from __future__ import annotations

import getpass
import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from ...shm.run_folder import ring_names
from ...shm.segment import SegmentInUseError
from ..config import GatewayConfig, load_config
from ..errors import ConfigError, DataFormatError, GatewayError, GatewaySilentError, RunFolderError
from ..messages import Message, RejectCode

if TYPE_CHECKING:
    from .operator_link import OperatorLink

EXIT_TROUBLE: Final = 1
EXIT_USAGE: Final = 2
EXIT_NOT_RUNNING: Final = 3
EXIT_IN_USE: Final = 4
REQUEST: Final = 7
"""Request id: a command sends one request on a link of its own, so any number will do."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
ConfigFolder = Annotated[
    Path | None, typer.Option("--config", "-c", help="Folder with the configuration files; none = defaults.")
]
RunFolder = Annotated[Path | None, typer.Option("--run-folder", help="Run folder; none = as configured.")]
PlatformName = Annotated[str, typer.Option("--platform", help="One platform; none = all.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the gateway.")]


@contextmanager
def explained() -> Iterator[None]:
    """Turn our own errors into a line on stderr and an exit code. Any other is a bug and keeps its traceback."""
    try:
        yield
    except GatewaySilentError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_NOT_RUNNING) from None
    except (ConfigError, DataFormatError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    except (RunFolderError, SegmentInUseError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_IN_USE) from None
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        found = f"{error.filename}: {error.strerror}; correct the path or its permissions" if error.filename else error
        typer.echo(f"error: {found}", err=True)  # without a file name it is one that we raised, with a full text
        raise typer.Exit(EXIT_USAGE) from None
    except GatewayError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_TROUBLE) from None


def open_link(config: GatewayConfig, timeout_s: float) -> OperatorLink:
    """A link to the running gateway. Raises GatewaySilentError when none answers within 3 s, or `timeout_s` if less."""
    from .operator_link import OperatorLink  # imports ZeroMQ, which makes the other commands start slower

    return OperatorLink(config, min(timeout_s, 3.0))


def load(config: Path | None, run_folder: Path | None, platform: str = "") -> GatewayConfig:
    """The configuration, with another run folder if one is given.

    Raises:
        ConfigError: the configuration is wrong, or `platform` is neither configured nor in the run folder. A `kill` of
            a misspelt platform would stop nothing, and an empty list would look as if nothing were open there.
    """
    loaded = load_config(config)
    if run_folder is not None:
        loaded = msgspec.structs.replace(loaded, run_folder=str(run_folder.resolve()))
    known = sorted({*loaded.platforms, *ring_names(loaded.run_path)})
    if platform and platform not in known:
        raise ConfigError(f"platform was {platform!r}, must be one of {', '.join(known)}; correct it")
    return loaded


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def operator_name() -> str:
    """The name under which the journal records a command."""
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        return "operator"  # without a user name (a service, a container) a kill must still work


def load_or_exit(config: Path | None, run_folder: Path | None, platform: str = "") -> GatewayConfig:
    """`load`; an error ends the command with its exit code."""
    with explained():
        return load(config, run_folder, platform)


def send_command(
    config: GatewayConfig, request: Message, timeout_s: float, as_json: bool, repeat_s: float = 0.0
) -> None:
    """Send one command, print its answer, and exit with 1 when it was refused.

    `repeat_s`: for this long it is repeated each second while the answer is that a platform is not ready.
    """
    until_s = time.monotonic() + repeat_s
    with explained(), open_link(config, timeout_s) as link:
        result = link.command(request, REQUEST, timeout_s)
        while result.code is RejectCode.PLATFORM_NOT_READY and time.monotonic() < until_s:
            time.sleep(1.0)
            result = link.command(request, REQUEST, timeout_s)
    if as_json:
        print_json(result)
    else:
        typer.echo("done" if result.accepted else f"refused ({result.code.value})")
        for line in itertools.chain([result.text] if result.text else [], result.lines):
            typer.echo(f"  {line}")
    if not result.accepted:
        raise typer.Exit(EXIT_TROUBLE)
