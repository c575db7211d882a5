"""The command `certify`: numbered acceptance checks of a bridged platform against its demo account.

Exit codes: 0 every check passed or did not apply; 1 a check failed or gave no answer, or the run was interrupted;
2 wrong options or configuration; 4 a gateway is using the platform. The report is written with codes 0 and 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from ...shm import host
from ..bounds import is_bounded
from ..config import load_entry
from ..errors import RunFolderError
from ..logs import set_up_logs
from .command import EXIT_IN_USE, EXIT_TROUBLE, ConfigFolder, JsonFlag, RunFolder, explained, load, print_json

_CERTIFY: Final = "nexus_gateway.adapters.certify:certify"
_WRITE_TEXT: Final = "nexus_gateway.adapters.certify.report:write_text"


def add_commands(app: typer.Typer) -> None:
    """Put `certify` on the command line."""
    app.command()(certify)


class _StopRequest:
    """A stop request (Ctrl-C, SIGTERM), which may come before there is anything to stop."""

    def __init__(self) -> None:
        self._requested = False
        self._stop: Callable[[], None] = lambda: None

    def request(self) -> None:
        """Request the stop. Safe in a signal handler."""
        self._requested = True
        self._stop()

    def register(self, stop: Callable[[], None]) -> None:
        """Set the function that ends the run; called at once when the stop was requested before."""
        self._stop = stop
        if self._requested:
            stop()


def parse_amount(text: str) -> Decimal:
    """Parse a number above 0."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal(0)
    if not (is_bounded(number) and number > 0):
        raise typer.BadParameter(f"was {text[:40]!r}; give a number above 0, with at most 12 decimals, up to 1e12")
    return number


def certify(
    what: Annotated[str, typer.Argument(help="Platform: mt5, mt5_br, or another one that has a bridge.")],
    platform: Annotated[str | None, typer.Option(help="Its key in platform_configs.yaml, if that differs.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Universal name; none = the platform's first.")] = None,
    trade: Annotated[bool, typer.Option("--trade", help="Also buy and sell the smallest size at the market.")] = False,
    quantity: Annotated[
        Decimal | None,
        typer.Option(parser=parse_amount, metavar="LOTS", help="Size of each order; none = the lot step."),
    ] = None,
    distance: Annotated[
        Decimal,
        typer.Option(parser=parse_amount, metavar="X", help="How far from the market, as a fraction."),
    ] = Decimal("0.02"),
    seconds: Annotated[float, typer.Option(min=1.0, max=3600.0, help="Time for which ticks are collected.")] = 10.0,
    restart_wait: Annotated[
        float,
        typer.Option(min=0.0, max=3600.0, help="Seconds for you to restart the bridge; 0 = skip that check."),
    ] = 0.0,
    real_money_account: Annotated[
        str, typer.Option(metavar="ACCOUNT", help="Type the account's number to allow orders on a real-money account.")
    ] = "",
    report: Annotated[Path | None, typer.Option(help="File for the report: .json, or text.")] = None,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the acceptance checks of a real platform on its demo account.

    Checks session, market data, and orders far from the market, one after the other. Stop the gateway first.
    """
    stop_request = _StopRequest()
    restore = host.on_stop_request(stop_request.request)
    try:
        with explained():
            chosen = load(config, run_folder)
            set_up_logs("certify", chosen.log_path, "warning")
            result = _run(
                chosen,
                platform or what,
                symbol,
                trade=trade,
                real_account=real_money_account,
                quantity=quantity,
                listen_s=seconds,
                distance=distance,
                restart_wait_s=restart_wait,
                on_stop=stop_request.register,
                say=lambda line: print(line, file=sys.stderr, flush=True),
            )
    finally:
        restore()
    text = load_entry(_WRITE_TEXT, "report")(result)
    content = {**msgspec.to_builtins(result), "passed": result.passed}
    if report is not None:
        written = msgspec.json.format(msgspec.json.encode(content)).decode() + "\n" if _is_json(report) else text
        report.write_text(written, encoding="utf-8")
    if as_json:
        print_json(content)
    else:
        typer.echo(text, nl=False)
    if not result.passed:
        raise typer.Exit(EXIT_TROUBLE)


def _run(*arguments: Any, **options: Any) -> Any:
    # By name: core must not import adapters.
    try:
        return load_entry(_CERTIFY, "certify")(*arguments, **options)
    except RunFolderError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_IN_USE) from None


def _is_json(path: Path) -> bool:
    return path.suffix.casefold() == ".json"
