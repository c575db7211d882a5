"""`kill --level flatten --unproven PLATFORM`: checks before anything is written or sent, and the person's word."""

from __future__ import annotations

import sys

import typer

from ..errors import ConfigError, GatewayError
from ..messages import KillLevel


def check_unproven(
    unproven: str, level: KillLevel, platform: str, *, own_only: bool, is_confirmed: bool, as_json: bool
) -> None:
    """Check the options that go with `--unproven`. `is_confirmed`: `--yes` was given.

    Raises:
        ConfigError: one of them contradicts it, or nobody could be asked.
    """
    if not unproven:
        if is_confirmed:
            raise ConfigError("--yes was given, it goes with --unproven PLATFORM only; leave it out")
        return
    shown = level.name.lower().replace("_", "-")
    if level is not KillLevel.FLATTEN:
        raise ConfigError(f"level was {shown!r}, must be 'flatten' with --unproven; correct it")
    if own_only:
        raise ConfigError(
            "--own-only was given with --unproven, which closes the whole account: whose lots those are is what cannot "
            "be known; leave one of them out"
        )
    if platform not in ("", unproven):
        raise ConfigError(
            f"platform was {platform!r}, must be {unproven!r} as in --unproven; leave --platform out, and give another "
            "command for another platform"
        )
    if as_json and not is_confirmed:
        raise ConfigError("--json was given, which asks no question; with --unproven add --yes")
    if not is_confirmed and not sys.stdin.isatty():
        raise ConfigError(
            f"--unproven was given and stdin is no terminal, so {unproven!r} cannot be typed once more; run it in a "
            "terminal, or add --yes"
        )


def confirm_unproven(platform: str) -> None:
    """Ask the person to type the platform's name once more.

    Raises:
        GatewayError: something else was typed; nothing has been written or sent.
    """
    typer.echo(
        f"This closes, once, what {platform} itself has last reported, although what it says contradicts itself: if "
        f"the figure is wrong, it opens a position.\nSee it with: nexus-gateway positions --platform {platform}\n"
        f"To go on type the platform's name:",
        err=True,
    )
    typed = sys.stdin.readline().strip()
    if typed != platform:
        raise GatewayError(f"the name was {typed!r}, must be {platform!r}; nothing was written or sent")
