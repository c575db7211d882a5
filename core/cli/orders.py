"""The commands `orders`, `positions` and `acknowledge`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import typer

from ..messages import Acknowledge, Message, Positions, QueryKind, WorkingOrders, find_client_order_id
from .command import (
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


def add_commands(app: typer.Typer) -> None:
    """Put `orders`, `positions` and `acknowledge` on the command line."""
    for command in (orders, positions, acknowledge):
        app.command()(command)


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
