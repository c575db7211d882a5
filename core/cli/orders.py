"""The commands `orders` and `positions`, which show the gateway's figures, and `acknowledge`."""

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
    """List working orders, ours and external ones, and orders whose outcome is unknown.

    Each account is shown with the time since it was last reconciled with its platform.
    """
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
    """List the positions in the gateway's books.

    Each account is shown with the time since it was last reconciled with its platform.
    """
    answers = _query(config, run_folder, QueryKind.POSITIONS, platform, timeout)
    accounts = _accounts(answers)
    rows = [
        {
            "platform": part.platform,
            "account": part.account,
            "reconciled_age_s": accounts[part.platform, part.account],
            **msgspec.to_builtins(row),
        }
        for part in answers
        if isinstance(part, Positions)
        for row in part.rows
        if row.quantity
    ]
    columns = ("platform", "account", "symbol", "quantity", "contract", "reconciled_age_s")
    _print_rows("positions", rows, columns, accounts, as_json)


def _query(
    config: Path | None, run_folder: Path | None, what: QueryKind, platform: str, timeout_s: float
) -> list[Message]:
    with explained(), open_link(load(config, run_folder, platform), timeout_s) as link:
        return link.query(what, platform, timeout_s)


def _role_of(client_order_id: str) -> str:
    """The role of an order by its client order id; `external` for one that this gateway did not send."""
    parts = find_client_order_id(client_order_id)
    return "external" if parts is None else parts.role.name.lower()


Accounts = dict[tuple[str, str], float | None]
"""Platform and account -> seconds since it was last reconciled; None = never."""


def _accounts(answers: list[Message]) -> Accounts:
    """Every account in the answers. One without rows is listed too: nothing there is not the same as nothing known."""
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
        listed = [
            {"platform": platform, "account": account, "reconciled_age_s": age_s}
            for (platform, account), age_s in accounts.items()
        ]
        print_json({name: rows, "accounts": listed})
        return
    if not accounts:
        typer.echo(f"no {name} are known: no such platform has ever linked to this gateway")
        return
    if rows:
        # Plain text and no rich table: that cuts ids and prices off at the terminal's width, 80 columns in a pipe.
        cells = [columns, *(["" if row.get(each) is None else str(row[each]) for each in columns] for row in rows)]
        widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
        for line in cells:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    else:
        typer.echo(f"no {name}")
    for (platform, account), age_s in accounts.items():
        reconciled = "NEVER reconciled" if age_s is None else f"reconciled {age_s} s ago"
        typer.echo(f"  {platform}, account {account}: {reconciled}")


def acknowledge(
    symbol: str,
    platform: PlatformName = "",
    timeout: Timeout = 10.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Accept the platform's position of a symbol where it differs from the gateway's, so that it trades again.

    Also ends orders of the symbol whose outcome is unknown and which two snapshots of the platform did not list.
    Check the position and the orders at the platform first.
    """
    request = Acknowledge(request_id=REQUEST, platform=platform, symbol=symbol, by=operator_name())
    send_command(load_or_exit(config, run_folder, platform), request, timeout, as_json)
