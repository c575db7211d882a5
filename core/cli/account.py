"""The command `account retire`: end an account that is no longer configured, by its name typed again."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from ..errors import ConfigError, GatewayError
from ..messages import AccountRetire, AdminResult
from .account_view import readable
from .command import (
    EXIT_TROUBLE,
    REQUEST,
    ConfigFolder,
    JsonFlag,
    RunFolder,
    Timeout,
    explained,
    load_or_exit,
    open_link,
    operator_name,
    send_command,
)


def add_commands(app: typer.Typer) -> None:
    """Put `account` on the command line."""
    account = typer.Typer(no_args_is_help=True, help="Accounts that the gateway knows: retire.")
    account.command("retire")(account_retire)
    app.add_typer(account, name="account")


def account_retire(
    platform: Annotated[str, typer.Argument(help="Its platform, which may be out of the configuration.")],
    account: Annotated[
        str, typer.Option("--account", help="Its name; none = the only one of the platform that is not linked.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; with --account, which names it in full.")] = False,
    timeout: Timeout = 10.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """End an account that is neither configured any more nor linked. Shows what the gateway's books hold there first.

    What they hold is taken as closed, with a result that is not known; what works there as ended. Look at the platform
    itself, and close it there: the gateway does nothing there any more, and nothing waits for it.
    """
    chosen = load_or_exit(config, run_folder)  # not with the platform: the configuration does not know it any more
    with explained():
        _check_options(account, is_confirmed=yes, as_json=as_json)
        try:
            request = AccountRetire(
                request_id=REQUEST, platform=platform, account=account, by=operator_name(), confirmation=""
            )
            msgspec.convert(msgspec.to_builtins(request), AccountRetire)
        except msgspec.ValidationError as error:
            raise ConfigError(f"platform was {platform!r}, account {account!r}: {error}; correct it") from None
        word = account or platform
        if not yes:
            with open_link(chosen, timeout) as link:
                asked = link.command(request, REQUEST, timeout)
            _show(asked)
            if asked.accepted:
                word = sys.stdin.readline().strip()
                if not word:
                    raise GatewayError("no name was typed; nothing was changed")
            else:
                raise typer.Exit(EXIT_TROUBLE)
    # On a new link: the first one would be cut as unresponsive while a person types.
    send_command(chosen, msgspec.structs.replace(request, confirmation=word), timeout, as_json)


def _check_options(account: str, *, is_confirmed: bool, as_json: bool) -> None:
    if is_confirmed and not account:
        raise ConfigError("--yes was given, which asks no question; name the account in full with --account")
    if as_json and not is_confirmed:
        raise ConfigError("--json was given, which asks no question; add --yes and --account")
    if not is_confirmed and not sys.stdin.isatty():
        raise ConfigError(
            "stdin is no terminal, so the account's name cannot be typed; run it in a terminal, or add --yes and "
            "--account"
        )


def _show(asked: AdminResult) -> None:
    if not asked.accepted:
        typer.echo(f"refused ({asked.code.value})")
        typer.echo(f"  {readable(asked.text)}")
        return
    typer.echo("The gateway's books, which nothing can bring up to date any more:", err=True)
    for line in asked.lines:
        typer.echo(f"  {readable(line)}", err=True)
    typer.echo(
        "This takes all of it as closed and ended, with a result that is not known. Look at the platform itself: what "
        f"is held or works there is yours from then on.\n{readable(asked.text)}",
        err=True,
    )
