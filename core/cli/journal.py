"""Commands that read files and need no gateway: `journal`, and `report` from the journal."""

from __future__ import annotations

import csv
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ...shm import host
from ..errors import ConfigError, GatewayError
from .command import EXIT_TROUBLE, ConfigFolder, JsonFlag, RunFolder, explained, load, print_json


def add_commands(app: typer.Typer) -> None:
    """Put `journal` and `report` on the command line."""
    journal = typer.Typer(no_args_is_help=True, help="The journal: verify, backup, restore, export, archive.")
    journal.command("verify")(journal_verify)
    journal.command("backup")(journal_backup)
    journal.command("restore")(journal_restore)
    journal.command("export")(journal_export)
    journal.command("archive")(journal_archive)
    app.add_typer(journal, name="journal")
    app.command()(report)


def journal_verify(
    file: Annotated[Path | None, typer.Argument(help="Journal file; none = as configured.")] = None,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a journal and its archives from end to end. Works while a gateway uses it."""
    from ..journal import verify

    with explained():
        path = _existing(file or load(config, run_folder).journal_path)
        verdict = verify(path)
    if as_json:
        print_json({"journal": str(path), "sound": verdict.is_sound, **msgspec.structs.asdict(verdict)})
    else:
        typer.echo(f"{path}: {_size_of(verdict)}")
        for problem in (*verdict.problems, *_missing(path, verdict)):
            typer.echo(f"  {problem}")
        if verdict.problems:
            typer.echo("NOT sound: restore the last backup")
        else:
            typer.echo("NOT complete: bring the archives back from a backup" if verdict.missing_archives else "sound")
    if not verdict.is_sound:
        raise typer.Exit(EXIT_TROUBLE)


def journal_backup(
    target: Path, config: ConfigFolder = None, run_folder: RunFolder = None, as_json: JsonFlag = False
) -> None:
    """Copy the journal and its archives, and check the copy. Works while a gateway uses it."""
    from ..journal import backup, verify
    from ..journal.store import open_database

    with explained():
        path = _existing(load(config, run_folder).journal_path)
        with closing(open_database(path, read_only=True)) as connection:
            backup(connection, target)
        verdict = verify(target)
    _print_copy("backed up to", target, verdict, as_json)


def journal_restore(
    source: Path, config: ConfigFolder = None, run_folder: RunFolder = None, as_json: JsonFlag = False
) -> None:
    """Replace the journal and its archives by a sound backup; the old ones are kept beside it. Refused while a gateway
    runs. Says which events the backup does not hold, and what bars the next start.
    """
    from ..journal import JournalError, check_saved_copies, find_lost_events, kept_journal, real_journal_path, restore
    from ..journal.store import open_database

    with explained():
        path = real_journal_path(load(config, run_folder).journal_path)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if fault := host.find_folder_fault(path.parent):
            typer.echo(f"warning: other users may reach the journal: {fault}", err=True)
        with _exclusive(path):
            lost = find_lost_events(path, _existing(source)) if path.exists() else None
            kept = kept_journal(path)
            verdict = restore(_existing(source), path)
    details = None if lost is None else {"replaced": str(kept), "lost": msgspec.to_builtins(lost)}
    if lost is not None and not as_json:
        typer.echo(lost.describe(kept))
    with closing(open_database(path, read_only=True)) as connection:
        try:
            check_saved_copies(connection)
        except JournalError as error:
            typer.echo(f"a start is refused until this is settled: {error}", err=True)
    _print_copy("restored to", path, verdict, as_json, details)


def journal_export(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File; none = stdout, not with --json.")] = None,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the journal as JSON lines: events, intents and notes, in the order in which they were written."""
    from ..journal import export

    with explained():
        if as_json and output is None:
            raise ConfigError("--json was given without --output, and stdout can hold one object only; name a file")
        lines = export(_existing(load(config, run_folder).journal_path))
        if output is None:
            for line in lines:
                sys.stdout.write(line + "\n")
            return
        count = 0
        with output.open("w", encoding="utf-8") as file:
            for count, line in enumerate(lines, start=1):  # noqa: B007 # counts the lines
                file.write(line + "\n")
    if as_json:
        print_json({"file": str(output), "lines": count})
    else:
        typer.echo(f"{count:,} lines written to {output}")


def journal_archive(
    keep_days: Annotated[int | None, typer.Option(min=8, help="Days that stay; none = orders.keep_days.")] = None,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Move old events to compressed archives beside the journal now, and shrink it. Works while a gateway uses it: the
    archives are written, and the gateway itself removes the archived events, at the change of the day.
    """
    from ..journal.retention import archive_due, archive_folder, confirm_archive, remove_all
    from ..journal.store import open_database

    with explained():
        chosen = load(config, run_folder)
        path = _existing(chosen.journal_path)
        days = keep_days or chosen.orders.keep_days
        if days is None:
            raise ConfigError("orders.keep_days was null: events are never archived; give --keep-days")
        below = chosen.disk.archives_stop_bytes
        entries = list(archive_due(path, days, time.time_ns(), stop_below_bytes=below))
        with ExitStack() as stack:
            removed = True
            try:
                stack.enter_context(_exclusive(path))
            except GatewayError:
                removed = False  # only the gateway that uses it may write to it
            else:
                connection = stack.enter_context(closing(open_database(path)))
                for entry in entries:
                    confirm_archive(connection, entry)
                remove_all(connection)
    if as_json:
        print_json({"journal": str(path), "archives": [entry.name for entry in entries], "removed": removed})
        return
    for entry in entries:
        typer.echo(f"{entry.name}: events {entry.first_seq} to {entry.last_seq}")
    if entries:
        typer.echo(f"{len(entries)} archives written to {archive_folder(path)}")
    else:
        typer.echo(f"nothing that is {days} days old lies before the oldest checkpoint")
    if removed:
        typer.echo(f"{path} holds {path.stat().st_size:,} bytes now")
    elif entries:
        typer.echo(
            "the running gateway removes these events from its journal at the change of the day, or when it starts"
        )


def _print_copy(
    what: str, path: Path, verdict: Any, as_json: bool, details: Mapping[str, object] | None = None
) -> None:
    if as_json:
        shown = {"file": str(path), "sound": verdict.is_sound, **msgspec.structs.asdict(verdict)}
        print_json({**shown, **(details or {})})
    else:
        typer.echo(f"{what} {path}: {_size_of(verdict)}")
    if not verdict.is_sound:
        typer.echo("; ".join((*verdict.problems, *_missing(path, verdict))), err=True)
        raise typer.Exit(EXIT_TROUBLE)


def _size_of(verdict: Any) -> str:
    archived = f", {verdict.first_seq - 1:,} of the events in {verdict.archives} archives" if verdict.archives else ""
    return f"{verdict.events:,} events, {verdict.intents:,} intents{archived}"


def _missing(path: Path, verdict: Any) -> list[str]:
    from ..journal.retention import archive_folder

    return [f"archive {archive_folder(path) / name} is missing" for name in verdict.missing_archives]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ConfigError(f"there is no journal {path}; name another, or start a gateway, which creates it")
    return path


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the lock on a journal that a gateway holds while it runs. Raises GatewayError when one does.

    Else `restore` would replace a file that a gateway goes on writing.
    """
    from ..journal import lock_path

    with closing(sqlite3.connect(lock_path(path), isolation_level=None, timeout=0)) as lock:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise GatewayError(f"journal {path} is in use by a gateway; stop that gateway first") from error
        yield


def report(
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the trades as CSV on stdout.")] = False,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Report the results of trading from the journal: P&L, win rate, drawdown, fill rate, rejects."""
    from ..journal.trade_report import read_trades

    with explained():
        if as_csv and as_json:
            raise ConfigError("--csv and --json were both given; stdout can hold one of them")
        chosen = load(config, run_folder)
        page, trades = read_trades(chosen.journal_path, chosen.limits)
    if as_json:
        print_json({**msgspec.structs.asdict(page), "trade_list": trades})
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(
            (
                "signal_id",
                "symbol",
                "side",
                "quantity",
                "platforms",
                "opened_ns",
                "closed_ns",
                "realized_usd",
                "fees_usd",
                "currencies",
            )
        )
        for t in trades:
            platforms = " ".join(t.platforms)
            writer.writerow(
                (
                    t.signal_id,
                    t.symbol,
                    t.side,
                    t.quantity,
                    platforms,
                    t.opened_ns,
                    t.closed_ns,
                    t.realized_usd,
                    t.fees_usd,
                    " ".join(
                        f"{each.realized} {each.currency} at {each.usd_rate}" + (" (stale)" if each.stale_rate else "")
                        for each in t.currencies
                    ),
                )
            )
    else:
        _print_report(page, trades)


def _print_report(page: Any, trades: Sequence[Any]) -> None:
    def show(value: float | None, form: str) -> str:
        return "none" if value is None else format(value, form)

    interval = ""
    if page.win_rate is not None:
        interval = f" ({page.win_rate_low:.1%} to {page.win_rate_high:.1%} with 95 %, n = {page.trades})"
    lines = {
        "signals": f"{page.signals:,} ({page.open_signals} open)",
        "trades": f"{page.trades:,}",
        "P&L": f"{page.pnl_usd:,.2f} USD, fees of {page.fees_usd:,.2f} deducted",
        "unpriced": f"{page.unpriced} results have no currency rate and are left out" if page.unpriced else "none",
        "stale rates": f"{page.stale_rates} results were computed with a currency rate too old for risk checks"
        if page.stale_rates
        else "none",
        "external": f"{page.closed_elsewhere} signals were closed by external orders: results not known"
        if page.closed_elsewhere
        else "none",
        "win rate": show(page.win_rate, ".1%") + interval,
        "profit factor": show(page.profit_factor, ".2f"),
        "max drawdown": f"{page.max_drawdown_usd:,.2f} USD",
        "Sharpe": show(page.sharpe, ".2f") + f" (daily, n = {page.days} days)",
        "fill rate": show(page.fill_rate, ".1%"),
        "unknown legs": str(page.unknown_legs),
        "rejects": ", ".join(f"{code} {count}" for code, count in page.rejects.items()) or "none",
    }
    for name, text in lines.items():
        typer.echo(f"{name:14} {text}")
    parts = [each for trade in trades for each in trade.currencies]
    for currency, last in {each.currency: each for each in parts}.items():
        total = sum(each.realized for each in parts if each.currency == currency)
        rated = f"1 {currency} was {last.usd_rate} USD in the last trade"
        rated += f", from {last.usd_rate_source}" if last.usd_rate_source else ""
        rated += " [stale rate]" if last.stale_rate else ""
        typer.echo(f"{'of which ' + currency:14} {total:,.2f} {currency}; {rated}")
