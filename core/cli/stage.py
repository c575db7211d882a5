"""The command `stage`: show the stage of going live, promote with evidence and a typed sentence, demote."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import msgspec
import typer

from ..errors import GatewayError
from ..messages import StageChange
from .command import (
    REQUEST,
    ConfigFolder,
    JsonFlag,
    RunFolder,
    Timeout,
    explained,
    load_or_exit,
    open_link,
    operator_name,
    print_json,
    send_command,
)

_COMPARE_S: Final = 30.0


def add_commands(app: typer.Typer) -> None:
    """Put `stage` on the command line."""
    stage = typer.Typer(no_args_is_help=True, help="The stage of going live: show, promote, demote.")
    stage.command("show")(stage_show)
    stage.command("promote")(stage_promote)
    stage.command("demote")(stage_demote)
    app.add_typer(stage, name="stage")


def stage_show(
    timeout: Timeout = 5.0, config: ConfigFolder = None, run_folder: RunFolder = None, as_json: JsonFlag = False
) -> None:
    """Show all stages with their limits, and which one is in force."""
    chosen = load_or_exit(config, run_folder)
    with explained(), open_link(chosen, timeout) as link:
        number = link.welcome.stage
    stages = chosen.limits.stages
    page = {"stage": number, "stages": msgspec.to_builtins(stages, str_keys=True)}
    if as_json:
        print_json(page)
        return
    for each, stage in sorted(stages.items()):
        mark = "->" if each == number else "  "
        typer.echo(
            f"{mark} {each} {stage.name}: {', '.join(stage.platforms)}; {', '.join(stage.symbols)}; at most "
            f"{stage.max_size} {stage.size_unit}, {stage.max_trades_per_day} trades a day, "
            f"{stage.risk_per_trade_usd} USD a trade"
        )


def stage_promote(
    note: Annotated[str, typer.Option(help="For the journal, beside the figures of the report.")] = "",
    timeout: Timeout = 10.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Go up one stage.

    Shows the figures of the report, then reads the sentence of the next stage from stdin. There is no --yes.
    """
    from ..journal.trade_report import read_trades

    chosen = load_or_exit(config, run_folder)
    with explained():
        with open_link(chosen, timeout) as link:
            number = link.welcome.stage + 1
        wanted = chosen.limits.stages.get(number)
        if wanted is None:
            raise GatewayError(f"stage {number - 1} is the highest in risk_limits.yaml; it stays")
        page, _ = read_trades(chosen.journal_path, chosen.limits)
        rate = "none" if page.win_rate is None else f"{page.win_rate:.0%} of {page.trades}"
        evidence = f"{page.trades} trades on {page.days} days, {page.pnl_usd:.2f} USD, win rate {rate}; {note}"
        typer.echo(f"evidence: {evidence}", err=True)
        typer.echo(
            f"stage {number} ({wanted.name}) allows {', '.join(wanted.platforms)}, {wanted.max_size} lots,", err=True
        )
        typer.echo(
            f"{wanted.risk_per_trade_usd} USD a trade. To go up type this sentence:\n  {wanted.confirmation}", err=True
        )
        typed = sys.stdin.readline().strip()
        if typed != wanted.confirmation:
            raise GatewayError(
                f"the sentence was {typed!r}, must be {wanted.confirmation!r}; the stage stays {number - 1}"
            )
    # On a new link: the first one would be cut as unresponsive while a person types.
    request = StageChange(
        request_id=REQUEST, stage=number, by=operator_name(), confirmation=typed, evidence=evidence[:512]
    )
    # The gateway first compares the whole period with each platform.
    send_command(chosen, request, timeout, as_json, repeat_s=_COMPARE_S)


def stage_demote(
    timeout: Timeout = 10.0, config: ConfigFolder = None, run_folder: RunFolder = None, as_json: JsonFlag = False
) -> None:
    """Go down one stage, at once."""
    chosen = load_or_exit(config, run_folder)
    with explained():
        with open_link(chosen, timeout) as link:
            number = link.welcome.stage - 1
        if number not in chosen.limits.stages:
            raise GatewayError(f"stage {number + 1} is the lowest in risk_limits.yaml; use: nexus-gateway kill")
    request = StageChange(request_id=REQUEST, stage=number, by=operator_name(), evidence="operator's command")
    send_command(chosen, request, timeout, as_json)
