"""The operator's commands around orders: kill, resume, acknowledge, orders, positions. Those of `cli_stage` and
`cli_journal` are put beside them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from ..shm import host
from ..shm.counters import CountersPage
from ..shm.segment import SegmentError, SegmentState
from . import cli_journal, cli_stage
from .cli_frame import (
    EXIT_NOT_RUNNING,
    EXIT_TROUBLE,
    REQUEST,
    ConfigFolder,
    JsonFlag,
    PlatformName,
    RunFolder,
    Timeout,
    explained,
    load,
    load_or_exit,
    open_link,
    operator_name,
    print_json,
    send_command,
)
from .config import GatewayConfig
from .errors import ConfigError, GatewayError
from .kill_file import KillEntry, add_kill, kill_file_path
from .messages import (
    Acknowledge,
    AdminResult,
    Kill,
    KillLevel,
    Message,
    Positions,
    QueryKind,
    Resume,
    WorkingOrders,
)

_LEVELS: Final = {level.name.lower().replace("_", "-"): level for level in KillLevel if level is not KillLevel.NORMAL}

app = typer.Typer()


def add_commands(main_app: typer.Typer) -> None:
    """Put these commands beside the others, at the same level."""
    main_app.registered_commands += [*app.registered_commands, *cli_journal.app.registered_commands]
    main_app.add_typer(cli_stage.stage_app, name="stage")
    main_app.add_typer(cli_journal.journal_app, name="journal")


@app.command()
def kill(
    level: Annotated[str, typer.Option("--level", help=" -> ".join(_LEVELS))] = "flatten",
    platform: PlatformName = "",
    own_only: Annotated[bool, typer.Option("--own-only", help="Leave hand-made orders and positions alone.")] = False,
    reason: Annotated[str, typer.Option(help="For the journal.")] = "by hand",
    timeout: Timeout = 20.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Stop trading. Leaves an order to stop in the run folder first, so that it holds even if nobody is alive now."""
    with explained():
        if level not in _LEVELS:
            raise ConfigError(f"level was {level!r}, must be one of {', '.join(_LEVELS)}; correct it")
        chosen = load(config, run_folder)
        path = kill_file_path(chosen.run_path)
        entry = KillEntry(
            level=_LEVELS[level],
            platform=platform,
            own_only=own_only,
            reason=reason,
            by=operator_name(),
            at_ns=time.time_ns(),
        )
        try:
            host.make_private_folder(chosen.run_path)
            add_kill(path, entry)
        except OSError as error:
            # Said, and gone on with: a gateway that answers stops all the same.
            typer.echo(f"warning: {path} cannot be written: {error}", err=True)
        result = _ask_kill(chosen, entry, timeout)
    result |= {"level": level, "platform": platform, "kill_file": str(path), "adapters": _adapters(chosen, platform)}
    if as_json:
        print_json(result)
    else:
        _print_kill(result, timeout)
    if not result["answered"]:
        raise typer.Exit(EXIT_NOT_RUNNING)
    if not result["verified"]:
        raise typer.Exit(EXIT_TROUBLE)


def _ask_kill(config: GatewayConfig, entry: KillEntry, timeout_s: float) -> dict[str, Any]:
    """What the gateway says; `verified` only when each platform's own word shows that the rung holds."""
    began_s = time.monotonic()
    asked: dict[str, str] = {}
    proven: dict[str, str] = {}

    def is_proven(heard: list[Message]) -> bool:
        for body in heard:
            if isinstance(body, AdminResult) and body.request_id == REQUEST:
                into = proven if body.done else asked
                into.update({line.partition(": ")[0]: line.partition(": ")[2] for line in body.lines})
        return any(isinstance(body, AdminResult) for body in heard) and asked.keys() <= proven.keys()

    request = Kill(
        request_id=REQUEST,
        level=entry.level,
        reason=entry.reason[:512],
        by=entry.by,
        platform=entry.platform,
        own_only=entry.own_only,
    )
    answered, verified, text = False, False, ""
    try:
        with open_link(config, timeout_s) as link:
            try:
                link.ask(request, is_proven, max(0.1, timeout_s - (time.monotonic() - began_s)))
                verified = True
            finally:
                answered = any(isinstance(body, AdminResult) for body in link.heard)
    except GatewayError as error:
        text = str(error)
    return {"answered": answered, "verified": verified, "platforms": asked | proven, "text": text}


def _adapters(config: GatewayConfig, platform: str) -> dict[str, dict[str, Any]]:
    """What the adapters' own counters show, whatever the gateway says of them."""
    rows: dict[str, dict[str, Any]] = {}
    for name in config.platforms:
        if platform not in ("", name):
            continue
        try:
            page = CountersPage.attach(config.run_path, name)
        except SegmentError:
            continue
        counters = page.values()
        rows[name] = {
            "alive": page.state() is SegmentState.LIVE,
            "order_link_up": bool(counters.get("order_link_up", 0)),
            "commands_refused": counters.get("commands_refused", 0),
        }
    return rows


def _print_kill(result: dict[str, Any], timeout_s: float) -> None:
    if result["verified"]:
        typer.echo(f"{result['level']}: verified")
    elif result["answered"]:
        typer.echo(f"{result['level']}: accepted, NOT verified within {timeout_s:g} s; it goes on: repeat this command")
    else:
        typer.echo(f"{result['level']}: THE GATEWAY DOES NOT ANSWER. {result['text']}")
        typer.echo(f"{result['kill_file']} is in force: adapters obey it now, the gateway before its next order")
    for route, line in result["platforms"].items():
        typer.echo(f"  {route}: {line}")
    for name, row in result["adapters"].items():
        if not result["answered"]:
            state = "linked to the gateway" if row["order_link_up"] else "not linked to the gateway"
            typer.echo(f"  {name}: adapter {'alive' if row['alive'] else 'dead'}, {state}")
    if not result["answered"]:
        typer.echo("  check your positions at the platforms themselves")


@app.command()
def resume(
    reason: Annotated[str, typer.Option(help="For the journal.")],
    platform: PlatformName = "",
    timeout: Timeout = 10.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Trade again after a kill. Refused while an outcome is unknown or a platform is not reconciled."""
    request = Resume(request_id=REQUEST, reason=reason[:512], by=operator_name(), platform=platform)
    send_command(load_or_exit(config, run_folder), request, timeout, as_json)


@app.command()
def acknowledge(
    symbol: str,
    platform: PlatformName = "",
    timeout: Timeout = 10.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Accept the platform's position of a symbol where it differed from the gateway's, so that it trades again."""
    request = Acknowledge(request_id=REQUEST, platform=platform, symbol=symbol, by=operator_name())
    send_command(load_or_exit(config, run_folder), request, timeout, as_json)


@app.command()
def orders(
    platform: PlatformName = "",
    timeout: Timeout = 5.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Working orders, ours and others', and those whose outcome is unknown."""
    answers = _query(config, run_folder, QueryKind.WORKING_ORDERS, platform, timeout)
    rows = [
        {"platform": part.platform, "account": part.account, **msgspec.to_builtins(row)}
        for part in answers
        if isinstance(part, WorkingOrders)
        for row in part.rows
    ]
    columns = ("platform", "account", "symbol", "side", "quantity", "filled", "order_type", "state", "client_order_id")
    _print_rows("orders", rows, columns, as_json)


@app.command()
def positions(
    platform: PlatformName = "",
    timeout: Timeout = 5.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Positions as the gateway believes them, with the age of each platform's last proof."""
    answers = _query(config, run_folder, QueryKind.POSITIONS, platform, timeout)
    now_ns = time.time_ns()
    rows = [
        {
            "platform": part.platform,
            "account": part.account,
            "proof_age_s": round((now_ns - part.as_of_ns) / 1e9, 1) if part.as_of_ns else None,
            **msgspec.to_builtins(row),
        }
        for part in answers
        if isinstance(part, Positions)
        for row in part.rows
        if row.quantity
    ]
    _print_rows("positions", rows, ("platform", "account", "symbol", "quantity", "contract", "proof_age_s"), as_json)


def _query(
    config: Path | None, run_folder: Path | None, what: QueryKind, platform: str, timeout_s: float
) -> list[Message]:
    with explained(), open_link(load(config, run_folder), timeout_s) as link:
        return link.query(what, platform, timeout_s)


def _print_rows(name: str, rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json({name: rows})
        return
    if not rows:
        typer.echo(f"no {name}")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*("" if row.get(column) is None else str(row[column]) for column in columns))
    Console().print(table)
