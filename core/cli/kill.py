"""The commands `kill` and `resume`."""

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
from ..messages import AdminResult, Kill, KillLevel, Message, Resume
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


def add_commands(app: typer.Typer) -> None:
    """Put `kill` and `resume` on the command line."""
    app.command()(kill)
    app.command()(resume)


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
