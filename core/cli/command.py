"""What all commands share: options, errors into exit codes, one question to the gateway.

Exit codes as in `cli`: 0 done and verified; 1 it ran, but something is not as asked (not verified, refused, a damaged
journal); 2 wrong options or files; 3 there is no gateway, or it does not answer; 4 the run folder cannot be used.
"""

from __future__ import annotations

import getpass
import itertools
import sys
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
from ..messages import Message

if TYPE_CHECKING:
    from .operator_link import OperatorLink

EXIT_TROUBLE: Final = 1
EXIT_USAGE: Final = 2
EXIT_NOT_RUNNING: Final = 3
EXIT_IN_USE: Final = 4
REQUEST: Final = 7
"""Number of a command's one request."""

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")]
ConfigFolder = Annotated[
    Path | None, typer.Option("--config", "-c", help="Folder with the configuration files; none = defaults.")
]
RunFolder = Annotated[Path | None, typer.Option("--run-folder", help="Run folder; none = the configuration's.")]
PlatformName = Annotated[str, typer.Option("--platform", help="One platform; none = all.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the gateway.")]


@contextmanager
def explained() -> Iterator[None]:
    """Our own errors become a line on stderr and an exit code; anything else is a bug and keeps its traceback."""
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
        typer.echo(f"error: {found}", err=True)  # those of our own have a text and no file's name
        raise typer.Exit(EXIT_USAGE) from None
    except GatewayError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_TROUBLE) from None


def open_link(config: GatewayConfig, timeout_s: float) -> OperatorLink:
    """A link to the running gateway. Raises GatewaySilentError when nobody answers within a few seconds."""
    from .operator_link import OperatorLink  # brings ZeroMQ, which the other commands do without

    return OperatorLink(config, min(timeout_s, 3.0))


def load(config: Path | None, run_folder: Path | None, platform: str = "") -> GatewayConfig:
    """The configuration, with another run folder if one is given.

    Raises:
        ConfigError: also for a `platform` that is not there. What is done to nobody, or shown of nobody, would look as
            if all were well.
    """
    loaded = load_config(config)
    if run_folder is not None:
        loaded = msgspec.structs.replace(loaded, run_folder=str(run_folder.resolve()))
    known = sorted({*loaded.platforms, *ring_names(loaded.run_path)})
    if platform and platform not in known:
        raise ConfigError(f"platform was {platform!r}, must be one of {', '.join(known)}; correct it")
    return loaded


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def operator_name() -> str:
    """Whom the journal names as the one who commanded."""
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        return "operator"  # a process without a user's name may still stop everything


def load_or_exit(config: Path | None, run_folder: Path | None, platform: str = "") -> GatewayConfig:
    """`load`, explained."""
    with explained():
        return load(config, run_folder, platform)


def send_command(config: GatewayConfig, request: Message, timeout_s: float, as_json: bool) -> None:
    """Send one command, print its answer, and exit with 1 when it was refused."""
    with explained(), open_link(config, timeout_s) as link:
        result = link.command(request, REQUEST, timeout_s)
    if as_json:
        print_json(result)
    else:
        typer.echo("done" if result.accepted else f"refused ({result.code.value})")
        for line in itertools.chain([result.text] if result.text else [], result.lines):
            typer.echo(f"  {line}")
    if not result.accepted:
        raise typer.Exit(EXIT_TROUBLE)
