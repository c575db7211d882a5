"""The commands `kill` and `resume`: stop trading, with each platform's confirmation, and start it again."""

from __future__ import annotations

import re
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
from .unproven import check_unproven, confirm_unproven

VERIFIED: Final = re.compile(r"[a-z_]+ (verified|severed and flat)\b")
"""How a platform's line begins when the kill level holds there; any other line says what is missing."""
_SHOWN_EVERY_S: Final = 2.0
"""Between two lines that say what is still lacking, and before the first."""
_LEVELS: Final = {level.name.lower().replace("_", "-"): level for level in KillLevel if level is not KillLevel.NORMAL}


def add_commands(app: typer.Typer) -> None:
    """Put `kill` and `resume` on the command line."""
    app.command()(kill)
    app.command()(resume)


def kill(
    level: Annotated[str, typer.Option("--level", help=" -> ".join(_LEVELS))] = "flatten",
    platform: PlatformName = "",
    own_only: Annotated[
        bool, typer.Option("--own-only", help="Leave external orders and positions alone (other programs', manual).")
    ] = False,
    unproven: Annotated[
        str,
        typer.Option(
            "--unproven",
            metavar="PLATFORM",
            help="With level flatten: close there, once, what the platform itself has last reported, although it "
            "contradicts itself. Asks for the platform's name once more.",
        ),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="With --unproven: do not ask.")] = False,
    reason: Annotated[str, typer.Option(help="For the journal.")] = "none given",
    timeout: Timeout = 30.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Stop trading. Without options: cancel all orders and close all positions on all platforms.

    Writes a kill instruction to the run folder first; adapters obey it even when the gateway is down.
    Then waits until each platform has confirmed the level, and says what is lacking and what comes next. The level
    stays in force until `resume`.
    """
    with explained():
        if level not in _LEVELS:
            raise ConfigError(f"level was {level!r}, must be one of {', '.join(_LEVELS)}; correct it")
        check_unproven(unproven, _LEVELS[level], platform, own_only=own_only, is_confirmed=yes, as_json=as_json)
        platform = unproven or platform
        chosen = load(config, run_folder, platform)
        if unproven and not yes:
            confirm_unproven(unproven)
        path = kill_file_path(chosen.run_path)
        entry = KillEntry(
            level=_LEVELS[level],
            platform=platform,
            own_only=own_only,
            reason=reason,
            by=operator_name(),
            at_ns=time.time_ns(),
        )
        # Adapters cut their link at once when the file says sever, and then no closing order can reach a platform. So
        # it says flatten until the gateway has flattened and cut the links itself, or its time is up.
        _write_kill_file(path, msgspec.structs.replace(entry, level=min(entry.level, KillLevel.FLATTEN)))
        try:
            result = _ask_gateway(chosen, entry, timeout, is_unproven=bool(unproven))
        finally:
            # Also after an error or Ctrl-C: the operator asked for sever, and without this it would stay at flatten.
            if entry.level is KillLevel.SEVER:
                _write_kill_file(path, entry)
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


def _write_kill_file(path: Path, entry: KillEntry) -> None:
    try:
        host.make_private_folder(path.parent)
        add_kill(path, entry)
    except OSError as error:
        # A warning and no error: a gateway that answers stops trading without the file too.
        typer.echo(f"warning: {path} cannot be written: {error}", err=True)


def _ask_gateway(
    config: GatewayConfig, entry: KillEntry, timeout_s: float, *, is_unproven: bool = False
) -> dict[str, Any]:
    """Send the kill to the gateway, again and again until it answers or the time is up.

    The launcher restarts a gateway that hangs meanwhile, and the new one obeys. What closes unproven figures is sent
    once: a second one would close the same lots again. After it an ordinary flatten asks whether the level holds.

    Returns:
        As `_send_kill`, and `unproven`; `sent`: the first line of each account, which says what was sent there; and
        `was_sent`: whether the unproven kill has left, or may have.
    """
    deadline_s = time.monotonic() + timeout_s
    announced = was_sent = False
    sent: dict[str, str] = {}
    while True:
        asks_unproven = is_unproven and not was_sent
        result = _send_kill(config, entry, max(0.1, deadline_s - time.monotonic()), is_unproven=asks_unproven)
        asked, has_left = result.pop("asked"), result.pop("has_left")
        if asks_unproven:
            sent, was_sent = asked, has_left
        result |= {"unproven": is_unproven, "sent": sent, "was_sent": was_sent}
        left_s = deadline_s - time.monotonic()
        # Without keys no gateway has ever run here, so none will be restarted.
        if not result.pop("is_silent") or left_s <= 0 or not config.keys_path.exists():
            return result
        if not announced:
            announced = True
            typer.echo(
                f"{result['text']}; {kill_file_path(config.run_path)} is in force: adapters obey it now; asking the "
                f"gateway for {left_s:.0f} s more",
                err=True,
            )
        time.sleep(min(0.2, left_s))


def _send_kill(config: GatewayConfig, entry: KillEntry, timeout_s: float, *, is_unproven: bool) -> dict[str, Any]:
    """Send the kill once, over one link, and wait for the platforms.

    Returns:
        `verified`: at least one platform was asked, and each one's own line says that the level holds there.
        `platforms`: the newest line of each; `asked`: the first one. `is_silent`: the gateway did not answer, or not to
        the end, so it is worth asking again. `has_left`: the kill was sent, or may have been.
    """
    began_s = time.monotonic()
    answers = _Answers(shows_first=is_unproven)
    has_left = False
    request = Kill(
        request_id=REQUEST,
        level=entry.level,
        reason=entry.reason[:512],
        by=entry.by,
        platform=entry.platform,
        own_only=entry.own_only,
        unproven=is_unproven,
    )
    answered, verified, is_silent, text = False, False, False, ""
    try:
        with open_link(config, timeout_s) as link:
            try:
                has_left = True
                link.ask(request, answers.read, max(0.1, timeout_s - (time.monotonic() - began_s)))
                # `all` of nothing is true: with no platform linked it would be called verified.
                lines = answers.confirmed.values()
                verified = bool(lines) and all(VERIFIED.match(line) for line in lines)
                if not lines:
                    text = "no platform has linked to the gateway, so none could confirm it"
                elif not verified and entry.level is KillLevel.SEVER:
                    text = "the links are cut, but not everything was flat before"
                elif not verified:
                    text = "not every account has confirmed it"
            finally:
                answered = any(isinstance(body, AdminResult) for body in link.received)
    except GatewaySilentError as error:
        is_silent, text = True, str(error)
        if answered:
            text = f"not confirmed within {timeout_s:.0f} s by {', '.join(sorted(answers.missing))}"
    except GatewayError as error:
        text = str(error)
    return {
        "answered": answered,
        "verified": verified,
        "platforms": answers.newest,
        "text": text,
        "is_silent": is_silent,
        "asked": answers.first,
        "has_left": has_left,
    }


class _Answers:
    """The gateway's answers to one kill, as they come: the first line of each account, the newest, and what has ended.

    A line that says what is lacking is shown while the command waits, once it has lasted: a kill that takes a second
    needs no explanation.
    """

    def __init__(self, *, shows_first: bool) -> None:
        self.first: dict[str, str] = {}
        self.newest: dict[str, str] = {}
        self.confirmed: dict[str, str] = {}
        self._shows_first = shows_first
        self._read = 0
        self._shown: dict[str, str] = {}
        self._next_shown_s = time.monotonic() + _SHOWN_EVERY_S

    @property
    def missing(self) -> set[str]:
        """Accounts whose last answer is not a final one."""
        return self.newest.keys() - self.confirmed.keys()

    def read(self, received: list[Message]) -> bool:
        """Take in what has come since; True when each account has confirmed the level."""
        results = [body for body in received[self._read :] if isinstance(body, AdminResult)]
        self._read = len(received)
        for result in results:
            for line in result.lines if result.request_id == REQUEST else ():
                account, _, said = line.partition(": ")
                if self._shows_first and account not in self.first:
                    typer.echo(f"{account}: {said}", err=True)  # at once: that it holds may take a person
                self.first.setdefault(account, said)
                self.newest[account] = said
                self.confirmed.pop(account, None)  # it may lack something again: a late fill
                if result.done:
                    self.confirmed[account] = said
        if time.monotonic() >= self._next_shown_s:
            self._show_news()
        return any(isinstance(body, AdminResult) for body in received) and not self.missing

    def _show_news(self) -> None:
        for account in sorted(self.missing):
            said = self.newest[account]
            if said not in (self._shown.get(account), self.first[account]):
                self._shown[account] = said
                self._next_shown_s = time.monotonic() + _SHOWN_EVERY_S
                typer.echo(f"{account}: {said}", err=True)


def _adapters(config: GatewayConfig, platform: str, routes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Each adapter as its own counters show it, so that a gateway that is down does not hide them.

    `in_answer`: whether the gateway's answer names this platform.
    """
    answered = {route.partition("|")[0] for route in routes}
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
            "in_answer": name in answered,
        }
    return rows


def _print_kill(result: dict[str, Any]) -> None:
    level, answered = result["level"], result["answered"]
    if result["verified"]:
        typer.echo(f"{level}: verified")
    elif answered:
        cure = "the gateway goes on" + ("" if result["unproven"] else "; repeat this command to see how far it is")
        typer.echo(f"{level}: accepted, NOT verified: {result['text']}; {cure}")
    else:
        typer.echo(f"{level}: THE GATEWAY DOES NOT ANSWER. {result['text']}")
        typer.echo(f"{result['kill_file']} is in force: adapters obey it now, the gateway before its next order")
    for route, line in result["sent"].items():
        typer.echo(f"  {route}: {line}")
    for route, line in result["platforms"].items():
        if line != result["sent"].get(route):
            typer.echo(f"  {route}: {line}")
    for name, row in result["adapters"].items():
        if row["in_answer"]:
            continue
        state = "linked to the gateway" if row["order_link_up"] else "not linked to the gateway"
        typer.echo(f"  {name}: adapter {'alive' if row['alive'] else 'dead'}, {state}")
    if result["unproven"]:
        _print_unproven(result)
    elif not result["verified"]:
        typer.echo("  check your positions at the platforms themselves")


def _print_unproven(result: dict[str, Any]) -> None:
    platform = result["platform"]
    if not result["was_sent"]:
        typer.echo(f"  nothing was closed unproven: no gateway answered; flatten at {platform} itself")
        return
    if not result["sent"]:
        typer.echo(f"  it is NOT KNOWN whether anything was closed at {platform}: the gateway had the command")
    typer.echo(f"  look at {platform} itself; --unproven given again closes again what it has last reported")
    if not result["verified"]:
        typer.echo(f"  when it is flat: nexus-gateway acknowledge SYMBOL --holds 0 --platform {platform}")


def resume(
    reason: Annotated[str, typer.Option(help="For the journal.")],
    platform: PlatformName = "",
    timeout: Timeout = 10.0,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Trade again after a kill.

    Refused while the outcome of an order is unknown or a platform is not reconciled. Entries whose cancels are refused
    and positions that are still being closed are named, and go on.
    After `sever` give it twice: the first lets the links come up, the second lets trading begin.
    """
    request = Resume(request_id=REQUEST, reason=reason[:512], by=operator_name(), platform=platform)
    send_command(load_or_exit(config, run_folder, platform), request, timeout, as_json)
