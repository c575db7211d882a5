"""The commands `symbols`, `contracts` and `rollover`. They apply the rules and need no platform.

Exit code 2 for a name, root or date that is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..config import load_config
from ..config.loading import GATEWAY_FILE
from ..errors import ConfigError
from ..instruments.contract_code import FIRST_YEAR, LAST_YEAR
from .command import EXIT_USAGE, JsonFlag, print_json

if TYPE_CHECKING:  # imported where they are used: they load holiday calendars, and `status` must answer at once
    from ..instruments.catalog import Catalog
    from ..instruments.rollover import Rollover
    from ..instruments.symbols import SymbolBook

_MAPPING_FILE: Final = "symbol_mappings.json"
_PLAN_DAYS: Final = 120

ConfigFolder = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Folder with the configuration, own instruments and names; none = defaults."),
]


def add_commands(app: typer.Typer) -> None:
    """Put `symbols`, `contracts` and `rollover` on the command line."""
    app.command()(symbols)
    app.command()(contracts)
    app.command()(rollover)


def load_book(config: Path | None, catalog: Catalog) -> SymbolBook:
    """The symbol mappings of a configuration folder, or the embedded ones. Raises ConfigError."""
    from ..instruments.symbols import SHIPPED_MAPPING, SymbolFile

    path = SHIPPED_MAPPING if config is None else config / _MAPPING_FILE
    return SymbolFile(path if path.exists() else SHIPPED_MAPPING, catalog).book


def symbols(
    name: Annotated[str | None, typer.Argument(help="A universal name, a contract, or a platform's own name.")] = None,
    platform: Annotated[str | None, typer.Option(help="Only this platform.")] = None,
    config: ConfigFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the meaning of a name on each platform, and the rule behind it; without a name, all instruments."""
    with _explained():
        catalog, rolls = _load_rules(config)
        book = load_book(config, catalog)
        today = datetime.now(UTC)
        names = [name] if name is not None else list(catalog)
        lines: dict[str, list[str]] = {}
        for each in names:
            lines[each] = book.explain(_front(catalog, rolls, each, today), platform, today.date())
        refused = name is not None and "is refused" in lines[name][0]
    if as_json:
        print_json({"symbols": lines})
    else:
        for each, explained in lines.items():
            typer.echo(f"{each}")
            for line in explained:
                typer.echo(f"  {line}")
    if refused:
        raise typer.Exit(EXIT_USAGE)


def contracts(
    root: Annotated[str, typer.Argument(help="Universal name, such as NQ or WIN.")],
    first_year: Annotated[int | None, typer.Option("--from", min=FIRST_YEAR, max=LAST_YEAR, help="First year.")] = None,
    last_year: Annotated[int | None, typer.Option("--to", min=FIRST_YEAR, max=LAST_YEAR, help="Last year.")] = None,
    config: ConfigFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """List the contracts of a root with last session, maturity and roll date."""
    with _explained():
        first = first_year if first_year is not None else datetime.now(UTC).year
        last = last_year if last_year is not None else first + 1
        if last < first:
            raise ConfigError(f"--to was {last}, must not be before --from {first}")
        rows = _load_rules(config)[1].contract_rows(root, first, last)
    if as_json:
        print_json({"root": root, "contracts": rows})
        return
    typer.echo(f"{'contract':<10} {'last session':<13} {'maturity':<11} roll date")
    for row in rows:
        typer.echo(f"{row.contract:<10} {row.last_session:<13} {row.maturity:<11} {row.roll_date}")


def rollover(
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day of the plan; none = 120 days ahead.")
    ] = None,
    root: Annotated[list[str] | None, typer.Option(help="Only these roots.")] = None,
    config: ConfigFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """List the coming rolls in order of time, one row per root and roll.

    With a configuration: the rolls of its gateway.
    """
    with _explained():
        catalog, rolls = _load_rules(config)
        now = datetime.now(UTC)
        last_day: date = until.date() if until is not None else now.date() + timedelta(days=_PLAN_DAYS)
        if last_day < now.date():
            raise ConfigError(f"--until was {last_day}, must not be in the past")
        roots = root or [instrument.symbol for instrument in catalog.futures()]
        rows = rolls.plan_rows(roots, now, last_day)
    if as_json:
        print_json({"until": last_day.isoformat(), "rolls": rows})
        return
    typer.echo(f"{'root':<6} {'old':<8} {'new':<8} {'roll date':<11} {'switch at (UTC)':<26} last session of old")
    for row in rows:
        typer.echo(
            f"{row.root:<6} {row.old:<8} {row.new:<8} {row.roll_date:<11} {row.switch_at:<26} {row.last_session}"
        )


def _load_rules(folder: Path | None) -> tuple[Catalog, Rollover]:
    """Instruments and roll dates as a gateway with this configuration has them. Raises ConfigError."""
    from ..instruments.catalog import load_catalog
    from ..instruments.rollover import Rollover, RollOverrides
    from ..instruments.sessions import load_sessions

    if folder is not None and not folder.is_dir():
        raise ConfigError(f"configuration folder was {folder}, must be an existing folder; correct the path")
    if folder is None or not (folder / GATEWAY_FILE).exists():
        catalog = load_catalog()
        return catalog, Rollover(catalog, load_sessions())
    config = load_config(folder)
    rolls = config.rollover
    catalog = load_catalog(config.orders.instruments_path)
    overrides = RollOverrides(dates=rolls.roll_dates, instants=rolls.switch_times, before_end=rolls.before_end)
    return catalog, Rollover(catalog, load_sessions(config.orders.hours_path), overrides)


def _front(catalog: Catalog, rolls: Rollover, name: str, at: datetime) -> str:
    """The front contract of a future's root: platforms trade months, not roots. Any other name is returned as it is."""
    instrument = catalog.get(name)
    if instrument is None or instrument not in catalog.futures():
        return name
    return rolls.front_contract(name, at).code


@contextmanager
def _explained() -> Iterator[None]:
    from ..instruments.refusals import InstrumentRefused

    try:
        yield
    except (ConfigError, InstrumentRefused) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
