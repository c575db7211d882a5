"""The operator's commands around orders: kill, resume, orders, positions, stage, journal, report, keys.

Exit codes as in `cli`: 0 done and verified; 1 it ran, but something is not as asked (not verified, refused, a damaged
journal); 2 wrong options or files; 3 there is no gateway, or it does not answer.
"""

from __future__ import annotations

import csv
import getpass
import itertools
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from ..shm import host
from ..shm.counters import CountersPage
from ..shm.segment import SegmentError, SegmentState
from .config import GatewayConfig, load_config
from .errors import ConfigError, GatewayError, GatewaySilentError
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
    StageChange,
    WorkingOrders,
)

if TYPE_CHECKING:
    from .operator_link import OperatorLink

EXIT_OK: Final = 0
EXIT_TROUBLE: Final = 1
EXIT_USAGE: Final = 2
EXIT_NOT_RUNNING: Final = 3
_REQUEST: Final = 7
_LEVELS: Final = {level.name.lower().replace("_", "-"): level for level in KillLevel if level is not KillLevel.NORMAL}

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")]
ConfigFolder = Annotated[
    Path | None, typer.Option("--config", "-c", help="Folder with the configuration files; none = defaults.")
]
RunFolder = Annotated[Path | None, typer.Option("--run-folder", help="Run folder; none = the configuration's.")]
PlatformName = Annotated[str, typer.Option("--platform", help="One platform; none = all.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the gateway.")]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
stage_app = typer.Typer(no_args_is_help=True, help="The stage of going live: show, promote, demote.")
journal_app = typer.Typer(no_args_is_help=True, help="The journal: backup, restore, verify, export.")
app.add_typer(stage_app, name="stage")
app.add_typer(journal_app, name="journal")


def add_commands(main_app: typer.Typer) -> None:
    """Put these commands beside the others, at the same level."""
    main_app.registered_commands += app.registered_commands
    main_app.registered_groups += app.registered_groups


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except GatewaySilentError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_NOT_RUNNING) from None
    except (ConfigError, FileNotFoundError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    except GatewayError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_TROUBLE) from None


def _open_link(config: GatewayConfig, timeout_s: float) -> OperatorLink:
    from .operator_link import OperatorLink  # brings ZeroMQ, which the other commands do without

    return OperatorLink(config, min(timeout_s, 3.0))


def _load(config: Path | None, run_folder: Path | None) -> GatewayConfig:
    loaded = load_config(config)
    return loaded if run_folder is None else msgspec.structs.replace(loaded, run_folder=str(run_folder.resolve()))


def _print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def _operator() -> str:
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        return "operator"  # a process without a user's name may still stop everything


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
    with _explained():
        if level not in _LEVELS:
            raise ConfigError(f"level was {level!r}, must be one of {', '.join(_LEVELS)}; correct it")
        chosen = _load(config, run_folder)
        path = kill_file_path(chosen.run_path)
        entry = KillEntry(
            level=_LEVELS[level],
            platform=platform,
            own_only=own_only,
            reason=reason,
            by=_operator(),
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
        _print_json(result)
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
            if isinstance(body, AdminResult) and body.request_id == _REQUEST:
                into = proven if body.done else asked
                into.update({line.partition(": ")[0]: line.partition(": ")[2] for line in body.lines})
        return any(isinstance(body, AdminResult) for body in heard) and asked.keys() <= proven.keys()

    request = Kill(
        request_id=_REQUEST,
        level=entry.level,
        reason=entry.reason[:512],
        by=entry.by,
        platform=entry.platform,
        own_only=entry.own_only,
    )
    answered, verified, text = False, False, ""
    try:
        with _open_link(config, timeout_s) as link:
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
    request = Resume(request_id=_REQUEST, reason=reason[:512], by=_operator(), platform=platform)
    _command(_load_or_exit(config, run_folder), request, timeout, as_json)


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
    request = Acknowledge(request_id=_REQUEST, platform=platform, symbol=symbol, by=_operator())
    _command(_load_or_exit(config, run_folder), request, timeout, as_json)


def _load_or_exit(config: Path | None, run_folder: Path | None) -> GatewayConfig:
    with _explained():
        return _load(config, run_folder)


def _command(config: GatewayConfig, request: Message, timeout_s: float, as_json: bool) -> None:
    with _explained(), _open_link(config, timeout_s) as link:
        result = link.command(request, _REQUEST, timeout_s)
    if as_json:
        _print_json(result)
    else:
        typer.echo("done" if result.accepted else f"refused ({result.code.value})")
        for line in itertools.chain([result.text] if result.text else [], result.lines):
            typer.echo(f"  {line}")
    if not result.accepted:
        raise typer.Exit(EXIT_TROUBLE)


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
    with _explained(), _open_link(_load(config, run_folder), timeout_s) as link:
        return link.query(what, platform, timeout_s)


def _print_rows(name: str, rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        _print_json({name: rows})
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


@stage_app.command("show")
def stage_show(
    timeout: Timeout = 5.0, config: ConfigFolder = None, run_folder: RunFolder = None, as_json: JsonFlag = False
) -> None:
    """The stage in force, its limits, and what the next one asks for."""
    chosen = _load_or_exit(config, run_folder)
    with _explained(), _open_link(chosen, timeout) as link:
        number = link.welcome.stage
    stages = chosen.limits.stages
    page = {"stage": number, "stages": msgspec.to_builtins(stages, str_keys=True)}
    if as_json:
        _print_json(page)
        return
    for each, stage in sorted(stages.items()):
        mark = "->" if each == number else "  "
        typer.echo(
            f"{mark} {each} {stage.name}: {', '.join(stage.platforms)}; {', '.join(stage.symbols)}; at most "
            f"{stage.max_size} {stage.size_unit}, {stage.max_trades_per_day} trades a day, "
            f"{stage.risk_per_trade_usd} USD a trade"
        )


@stage_app.command("promote")
def stage_promote(
    note: Annotated[
        str, typer.Option(help="What else speaks for it; the report's figures go into the journal anyway.")
    ] = "",
    timeout: Timeout = 10.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Go up one stage: shows the evidence and asks for that stage's sentence, typed out. There is no --yes."""
    from .trade_report import read_trades

    chosen = _load_or_exit(config, run_folder)
    with _explained():
        with _open_link(chosen, timeout) as link:
            number = link.welcome.stage + 1
        wanted = chosen.limits.stages.get(number)
        if wanted is None:
            raise GatewayError(f"stage {number - 1} is the highest of risk_limits.yaml; there is nothing above it")
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
    # A link of its own: a person types slower than a silent link lives.
    request = StageChange(
        request_id=_REQUEST, stage=number, by=_operator(), confirmation=typed, evidence=evidence[:512]
    )
    _command(chosen, request, timeout, as_json)


@stage_app.command("demote")
def stage_demote(
    timeout: Timeout = 10.0, config: ConfigFolder = None, run_folder: RunFolder = None, as_json: JsonFlag = False
) -> None:
    """Go down one stage, at once."""
    chosen = _load_or_exit(config, run_folder)
    with _explained():
        with _open_link(chosen, timeout) as link:
            number = link.welcome.stage - 1
        if number not in chosen.limits.stages:
            raise GatewayError(f"stage {number + 1} is the lowest of risk_limits.yaml; use: nexus-gateway kill")
    request = StageChange(request_id=_REQUEST, stage=number, by=_operator(), evidence="by hand")
    _command(chosen, request, timeout, as_json)


@journal_app.command("verify")
def journal_verify(
    file: Annotated[Path | None, typer.Argument(help="None = the configured journal.")] = None,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a journal from end to end, also while it is in use."""
    from .journal import verify

    with _explained():
        path = _existing(file or _load(config, run_folder).journal_path)
        verdict = verify(path)
    if as_json:
        _print_json({"journal": str(path), "sound": not verdict.problems, **msgspec.structs.asdict(verdict)})
    else:
        typer.echo(f"{path}: {verdict.events:,} events, {verdict.intents:,} intents")
        for problem in verdict.problems:
            typer.echo(f"  {problem}")
        typer.echo("sound" if not verdict.problems else "NOT sound: restore the last backup")
    if verdict.problems:
        raise typer.Exit(EXIT_TROUBLE)


@journal_app.command("backup")
def journal_backup(
    target: Path, config: ConfigFolder = None, run_folder: RunFolder = None, as_json: JsonFlag = False
) -> None:
    """Copy the journal to a file, also while it is in use, and check the copy."""
    from .journal import backup, verify
    from .journal.store import open_database

    with _explained():
        path = _existing(_load(config, run_folder).journal_path)
        with closing(open_database(path, read_only=True)) as connection:
            backup(connection, target)
        verdict = verify(target)
    _print_copy("backed up to", target, verdict, as_json)


@journal_app.command("restore")
def journal_restore(
    source: Path, config: ConfigFolder = None, run_folder: RunFolder = None, as_json: JsonFlag = False
) -> None:
    """Put a sound backup in the journal's place; the old file is kept beside it. Refused while a gateway runs."""
    from .journal import restore

    with _explained():
        path = _load(config, run_folder).journal_path
        host.make_private_folder(path.parent)
        with _journal_to_ourselves(path):
            verdict = restore(_existing(source), path)
    _print_copy("restored to", path, verdict, as_json)


@journal_app.command("export")
def journal_export(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="None = stdout, without --json.")] = None,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the journal as JSON lines: events, intents and notes in the order in which they were written."""
    from .journal import export

    with _explained():
        if as_json and output is None:
            raise ConfigError("--json was given without --output, and stdout can hold one object only; name a file")
        lines = export(_existing(_load(config, run_folder).journal_path))
        if output is None:
            for line in lines:
                sys.stdout.write(line + "\n")
            return
        count = 0
        with output.open("w", encoding="utf-8") as file:
            for count, line in enumerate(lines, start=1):  # noqa: B007 # the number of lines is what is wanted
                file.write(line + "\n")
    if as_json:
        _print_json({"file": str(output), "lines": count})
    else:
        typer.echo(f"{count:,} lines written to {output}")


def _print_copy(what: str, path: Path, verdict: Any, as_json: bool) -> None:
    if as_json:
        _print_json({"file": str(path), "sound": not verdict.problems, **msgspec.structs.asdict(verdict)})
    else:
        typer.echo(f"{what} {path}: {verdict.events:,} events, {verdict.intents:,} intents")
    if verdict.problems:
        typer.echo("; ".join(verdict.problems), err=True)
        raise typer.Exit(EXIT_TROUBLE)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ConfigError(f"there is no journal {path}; name another, or start a gateway, which makes it")
    return path


@contextmanager
def _journal_to_ourselves(path: Path) -> Iterator[None]:
    """Hold the lock that a gateway holds on its journal. Raises GatewayError when one does."""
    with closing(sqlite3.connect(path.with_name(path.name + "-lock"), isolation_level=None, timeout=0)) as lock:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise GatewayError(f"journal {path} is in use by a gateway; stop that one first") from error
        yield


@app.command()
def report(
    as_csv: Annotated[bool, typer.Option("--csv", help="The trades as CSV on stdout.")] = False,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """What trading has brought, from the journal: P&L, win rate with its interval, drawdown, fill rate, rejects."""
    from .trade_report import read_trades

    with _explained():
        if as_csv and as_json:
            raise ConfigError("--csv and --json were both given; stdout can hold one of them")
        chosen = _load(config, run_folder)
        page, trades = read_trades(chosen.journal_path, chosen.limits)
    if as_json:
        _print_json({**msgspec.structs.asdict(page), "trade_list": trades})
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
                )
            )
    else:
        _print_report(page)


def _print_report(page: Any) -> None:
    def show(value: float | None, form: str) -> str:
        return "none" if value is None else format(value, form)

    interval = ""
    if page.win_rate is not None:
        interval = f" ({page.win_rate_low:.1%} to {page.win_rate_high:.1%} with 95 %, n = {page.trades})"
    lines = {
        "signals": f"{page.signals:,} ({page.open_signals} open)",
        "trades": f"{page.trades:,}",
        "P&L": f"{page.pnl_usd:,.2f} USD, fees of {page.fees_usd:,.2f} taken off",
        "unpriced": f"{page.unpriced} results have no currency rate and are left out" if page.unpriced else "none",
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


@app.command()
def keys(
    folder: Path,
    name: Annotated[str, typer.Argument(help="Whose keys: gateway, nexus, nt8, ...")],
    as_json: JsonFlag = False,
) -> None:
    """Make a pair of CURVE keys: NAME.key is public, NAME.key_secret stays where it is."""
    from .transport import create_keys

    with _explained():
        if not folder.is_dir():
            raise ConfigError(f"folder was {folder}, must exist; make it with mode 0700")
        public, secret = create_keys(folder, name)
    if as_json:
        _print_json({"public": str(public), "secret": str(secret)})
    else:
        typer.echo(f"{public}: public, copy it to whom this one talks to\n{secret}: secret, stays here")
