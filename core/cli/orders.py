"""The commands `orders` and `positions`, which show the gateway's figures, and `acknowledge`."""

from __future__ import annotations

import re
import time
from decimal import Decimal
from typing import Annotated, Final

import typer

from ..errors import ConfigError
from ..messages import AccountState, Acknowledge, QueryKind, WorkingOrders
from ..messages.decimals import to_plain_builtins
from ..messages.fields import check_signed_quantity
from .account_view import (
    ORDER_COLUMNS,
    POSITION_COLUMNS,
    Row,
    account_rows,
    describe_account,
    describe_contradiction,
    order_rows,
    position_rows,
    table_lines,
)
from .command import (
    REQUEST,
    ConfigFolder,
    JsonFlag,
    PlatformName,
    RunFolder,
    Timeout,
    explained,
    load,
    open_link,
    operator_name,
    print_json,
    send_command,
)

_LOTS: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_SHOWN_CHARS: Final = 40
"""Of a value that was refused."""


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

    Below them each account: linked, ready, reconciled how long ago; and everything a platform has said that cannot be
    true, with what is barred meanwhile and what ends it.
    """
    with explained(), open_link(load(config, run_folder, platform), timeout) as link:
        working = link.query(QueryKind.WORKING_ORDERS, platform, timeout)
        states = link.query(QueryKind.ACCOUNT_STATE, platform, timeout)
    rows = order_rows(part for part in working if isinstance(part, WorkingOrders))
    _print_rows("orders", rows, ORDER_COLUMNS, [part for part in states if isinstance(part, AccountState)], as_json)


def positions(
    platform: PlatformName = "",
    timeout: Timeout = 5.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """List positions: the gateway's figure, the platform's own (`reported`), and whether they agree.

    Below them the accounts and contradictions, as in `orders`.
    """
    with explained(), open_link(load(config, run_folder, platform), timeout) as link:
        answers = link.query(QueryKind.ACCOUNT_STATE, platform, timeout)
    states = [part for part in answers if isinstance(part, AccountState)]
    _print_rows("positions", position_rows(states, time.time_ns()), POSITION_COLUMNS, states, as_json)


def _print_rows(
    name: str, rows: list[Row], columns: tuple[str, ...], states: list[AccountState], as_json: bool
) -> None:
    now_ns = time.time_ns()
    accounts = account_rows(states, now_ns)
    contradictions = [each for state in states for each in state.contradictions]
    if as_json:
        print_json({name: rows, "accounts": accounts, "contradictions": to_plain_builtins(contradictions)})
        return
    if not accounts:
        typer.echo(f"no {name} are known: no such platform has ever linked to this gateway")
        return
    for line in table_lines(rows, columns) if rows else [f"no {name}"]:
        typer.echo(line)
    for account in accounts:
        typer.echo(f"  {describe_account(account)}")
    for contradiction in contradictions:
        typer.echo("")
        for line in describe_contradiction(contradiction, now_ns):
            typer.echo(line)


def acknowledge(
    symbol: str,
    holds: Annotated[
        str,
        typer.Option(
            "--holds",
            metavar="LOTS",
            help="What the platform ITSELF shows for the symbol, signed: 2, -1.5, 0 = flat. Look there; a figure of "
            "the gateway proves nothing.",
        ),
    ],
    platform: PlatformName = "",
    account: Annotated[str, typer.Option("--account", help="One account; none = the only one that waits.")] = "",
    timeout: Timeout = 10.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Tell the gateway what a platform holds of a symbol, where that differed or the platform contradicts itself.

    Look at the platform first, and type the figure that it shows itself. The symbol trades again; orders of it whose
    outcome is unknown, and which two snapshots of the platform did not list, are ended.
    """
    with explained():
        chosen, lots = load(config, run_folder, platform), read_lots(holds)
    request = Acknowledge(
        request_id=REQUEST, platform=platform, symbol=symbol, by=operator_name(), quantity=lots, account=account
    )
    send_command(chosen, request, timeout, as_json)


def read_lots(text: str) -> Decimal:
    """Read signed lots as a person types them.

    Raises:
        ConfigError: NaN, infinity, an exponent, a comma or any other text that is no plain decimal; or out of range.
    """
    # Decimal itself would also take "1_000", "1e3" and digits of other scripts: slips of the finger, here.
    cure = "type what the platform itself shows, such as 2, -1.5 or 0"
    shown = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
    if not _LOTS.fullmatch(text):
        raise ConfigError(f"holds was {shown!r}, must be a plain decimal number of lots with its sign; {cure}")
    lots = Decimal(text)
    try:
        check_signed_quantity("holds", lots)
    except ValueError as error:
        limit = str(error).partition(", was ")[0]
        raise ConfigError(f"holds was {shown!r}: {limit}; {cure}") from None
    return lots
