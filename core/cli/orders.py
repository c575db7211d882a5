"""The operator's commands around orders: kill, resume, acknowledge, orders, positions. Those of `cli_stage` and
`cli_journal` are put beside them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from ...shm import host
from ...shm.counters import CountersPage
from ...shm.segment import SegmentError, SegmentState
from ..config import GatewayConfig
from ..errors import ConfigError, GatewayError, GatewaySilentError
from ..kill_file import KillEntry, add_kill, kill_file_path
from ..messages import (
    Acknowledge,
    AdminResult,
    Kill,
    KillLevel,
    Message,
    Positions,
    QueryKind,
    Resume,
    WorkingOrders,
    find_client_order_id,
)
from . import journal as cli_journal
from . import stage as cli_stage
from .command import (
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

_PROVEN: Final = ("verified", "severed and flat")
"""How a platform's own word ends when the rung holds there; any other says what is still missing."""
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
    timeout: Timeout = 30.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Stop trading. Leaves an order to stop in the run folder first, so that it holds even if nobody is alive now."""
    with explained():
        if level not in _LEVELS:
            raise ConfigError(f"level was {level!r}, must be one of {', '.join(_LEVELS)}; correct it")
        chosen = load(config, run_folder, platform)
        path = kill_file_path(chosen.run_path)
        entry = KillEntry(
            level=_LEVELS[level],
            platform=platform,
            own_only=own_only,
            reason=reason,
            by=operator_name(),
            at_ns=time.time_ns(),
        )
        # Where the file says sever, adapters cut their link at once and nobody can close anything any more: it says
        # flatten until the gateway has flattened and cut, or its time is up.
        _leave_order(path, msgspec.structs.replace(entry, level=min(entry.level, KillLevel.FLATTEN)))
        try:
            result = _ask_kill(chosen, entry, timeout)
        finally:
            if entry.level is KillLevel.SEVER:
                _leave_order(path, entry)
    result |= {"level": level, "platform": platform, "kill_file": str(path)}
    result["adapters"] = _adapters(chosen, platform, result["platforms"])
    if as_json:
        print_json(result)
    else:
        _print_kill(result)
    if not result["answered"]:
        raise typer.Exit(EXIT_NOT_RUNNING)
    if not result["verified"]:
        raise typer.Exit(EXIT_TROUBLE)


def _leave_order(path: Path, entry: KillEntry) -> None:
    try:
        host.make_private_folder(path.parent)
        add_kill(path, entry)
    except OSError as error:
        # Said, and gone on with: a gateway that answers stops all the same.
        typer.echo(f"warning: {path} cannot be written: {error}", err=True)


def _ask_kill(config: GatewayConfig, entry: KillEntry, timeout_s: float) -> dict[str, Any]:
    """What the gateway says, asked until the time is up: one that hangs is restarted meanwhile, and obeys then."""
    deadline_s = time.monotonic() + timeout_s
    is_said = False
    while True:
        result = _ask_kill_once(config, entry, max(0.1, deadline_s - time.monotonic()))
        left_s = deadline_s - time.monotonic()
        if not result.pop("is_silent") or left_s <= 0 or not config.token_path.exists():
            return result
        if not is_said:
            is_said = True
            typer.echo(
                f"{result['text']}; {kill_file_path(config.run_path)} is in force: adapters obey it now; asking the "
                f"gateway for {left_s:.0f} s more",
                err=True,
            )
        time.sleep(min(0.2, left_s))


def _ask_kill_once(config: GatewayConfig, entry: KillEntry, timeout_s: float) -> dict[str, Any]:
    """One link's try. `verified` only when each platform's own word shows that the rung holds, and somebody's does."""
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
    answered, verified, is_silent, text = False, False, False, ""
    try:
        with open_link(config, timeout_s) as link:
            try:
                link.ask(request, is_proven, max(0.1, timeout_s - (time.monotonic() - began_s)))
                verified = bool(proven) and all(line.endswith(_PROVEN) for line in proven.values())
                if not proven:
                    text = "no platform has linked to the gateway, so nobody's word could verify it"
                elif not verified:
                    text = "the links are cut, but not everything was flat before"
            finally:
                answered = any(isinstance(body, AdminResult) for body in link.heard)
    except GatewaySilentError as error:
        is_silent, text = True, str(error)
        if answered:
            text = f"no proof within {timeout_s:.0f} s from {', '.join(sorted(asked.keys() - proven.keys()))}"
    except GatewayError as error:
        text = str(error)
    return {
        "answered": answered,
        "verified": verified,
        "platforms": asked | proven,
        "text": text,
        "is_silent": is_silent,
    }


def _adapters(config: GatewayConfig, platform: str, routes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the adapters' own counters show, whatever the gateway says of them; `covered`: whether it said something."""
    covered = {route.partition("|")[0] for route in routes}
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
            "covered": name in covered,
        }
    return rows


def _print_kill(result: dict[str, Any]) -> None:
    level, answered = result["level"], result["answered"]
    if result["verified"]:
        typer.echo(f"{level}: verified")
    elif answered:
        typer.echo(f"{level}: accepted, NOT verified: {result['text']}; it goes on: repeat this command")
    else:
        typer.echo(f"{level}: THE GATEWAY DOES NOT ANSWER. {result['text']}")
        typer.echo(f"{result['kill_file']} is in force: adapters obey it now, the gateway before its next order")
    for route, line in result["platforms"].items():
        typer.echo(f"  {route}: {line}")
    for name, row in result["adapters"].items():
        if row["covered"]:
            continue
        state = "linked to the gateway" if row["order_link_up"] else "not linked to the gateway"
        typer.echo(f"  {name}: adapter {'alive' if row['alive'] else 'dead'}, {state}")
    if not result["verified"]:
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
    send_command(load_or_exit(config, run_folder, platform), request, timeout, as_json)


@app.command()
def acknowledge(
    symbol: str,
    platform: PlatformName = "",
    timeout: Timeout = 10.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Accept the platform's position of a symbol where it differed from the gateway's, so that it trades again.

    Also ends an order whose outcome is unknown and which the platform has twice not listed: you have looked there.
    """
    request = Acknowledge(request_id=REQUEST, platform=platform, symbol=symbol, by=operator_name())
    send_command(load_or_exit(config, run_folder, platform), request, timeout, as_json)


@app.command()
def orders(
    platform: PlatformName = "",
    timeout: Timeout = 5.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Working orders, ours and others', and those whose outcome is unknown, with the age of each last proof."""
    answers = _query(config, run_folder, QueryKind.WORKING_ORDERS, platform, timeout)
    rows = [
        {
            "platform": part.platform,
            "account": part.account,
            "role": _role_of(row.client_order_id),
            **msgspec.to_builtins(row),
        }
        for part in answers
        if isinstance(part, WorkingOrders)
        for row in part.rows
    ]
    columns = ("platform", "symbol", "role", "side", "quantity", "filled", "order_type", "limit_price", "stop_price",
               "state", "client_order_id")  # fmt: skip
    _print_rows("orders", rows, columns, _accounts(answers), as_json)


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
    accounts = _accounts(answers)
    rows = [
        {
            "platform": part.platform,
            "account": part.account,
            "proof_age_s": accounts[part.platform, part.account],
            **msgspec.to_builtins(row),
        }
        for part in answers
        if isinstance(part, Positions)
        for row in part.rows
        if row.quantity
    ]
    columns = ("platform", "account", "symbol", "quantity", "contract", "proof_age_s")
    _print_rows("positions", rows, columns, accounts, as_json)


def _query(
    config: Path | None, run_folder: Path | None, what: QueryKind, platform: str, timeout_s: float
) -> list[Message]:
    with explained(), open_link(load(config, run_folder, platform), timeout_s) as link:
        return link.query(what, platform, timeout_s)


def _role_of(client_order_id: str) -> str:
    """What an order of ours is for, by its id; `other` for one of somebody else."""
    parts = find_client_order_id(client_order_id)
    return "other" if parts is None else parts.role.name.lower()


Accounts = dict[tuple[str, str], float | None]
"""Platform and account -> seconds since the gateway was last compared with it; None = never."""


def _accounts(answers: list[Message]) -> Accounts:
    """Every account that was answered for, those without a row too: nothing there is not nothing known."""
    now_ns = time.time_ns()
    return {
        (part.platform, part.account): round((now_ns - part.as_of_ns) / 1e9, 1) if part.as_of_ns else None
        for part in answers
        if isinstance(part, Positions | WorkingOrders)
    }


def _print_rows(
    name: str, rows: list[dict[str, Any]], columns: tuple[str, ...], accounts: Accounts, as_json: bool
) -> None:
    if as_json:
        told = [
            {"platform": platform, "account": account, "proof_age_s": age_s}
            for (platform, account), age_s in accounts.items()
        ]
        print_json({name: rows, "accounts": told})
        return
    if not accounts:
        typer.echo(f"no {name} are known: no such platform has ever linked to this gateway")
        return
    if rows:
        # Plain text: a table that fits the terminal cuts ids and prices off, and a pipe's has 80 columns.
        cells = [columns, *(["" if row.get(each) is None else str(row[each]) for each in columns] for row in rows)]
        widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
        for line in cells:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    else:
        typer.echo(f"no {name}")
    for (platform, account), age_s in accounts.items():
        proof = "NEVER compared with it" if age_s is None else f"compared with it {age_s} s ago"
        typer.echo(f"  {platform}, account {account}: {proof}")
