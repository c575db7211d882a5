"""The kill file: the operator's order to stop, which needs nobody to be alive to be given.

`nexus-gateway kill` writes it into the run folder before it asks the gateway for anything. It holds until `resume`
removes it. What each process owes it:

gateway   climbs to the level at its start, before any order, and within a quarter of a second while it runs
adapter   looks before each command. From `no_new` on it refuses orders that are not `reduce_only` and close no ticket,
          at `sever` every order; cancels always pass. At `sever` it also ends its link to the gateway, and opens none
launcher  nothing: it goes on restarting a gateway that hangs, since that one then obeys

Whoever wants positions closed before the links are cut writes `flatten` first, and `sever` when the gateway has done
that or its time is up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ..shm import host
from .messages import KillLevel

KILL_FILE: Final = "kill.json"
_FOREVER_NS: Final = 2**63 - 1


class KillEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One order to stop. `platform` empty = all. `at_ns`: UTC."""

    level: KillLevel
    platform: str = ""
    own_only: bool = False
    reason: str
    by: str
    at_ns: int


class _KillFile(Struct, frozen=True, forbid_unknown_fields=True):
    kills: tuple[KillEntry, ...]


_UNREADABLE: Final = KillEntry(level=KillLevel.NO_NEW, reason="the kill file cannot be read", by="gateway", at_ns=0)


def kill_file_path(run_folder: Path) -> Path:
    """Where it lies."""
    return run_folder / KILL_FILE


def read_kill_file(path: Path) -> tuple[KillEntry, ...]:
    """What it says; nothing when there is none. Some 5 us then.

    One that cannot be read counts as `no_new` for all: somebody wanted to stop.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=_KillFile).kills
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError):
        return (_UNREADABLE,)


def kill_level_of(kills: tuple[KillEntry, ...], platform: str) -> KillLevel:
    """The level in force on a platform."""
    return max((kill.level for kill in kills if kill.platform in ("", platform)), default=KillLevel.NORMAL)


def add_kill(path: Path, entry: KillEntry) -> None:
    """Write an order to stop; those of lower levels on the same platform are replaced, higher ones stay.

    Raises:
        OSError: the folder is gone, full, or not ours.
    """
    kept = [kill for kill in read_kill_file(path) if kill.platform != entry.platform or kill.level > entry.level]
    host.replace_private(path, msgspec.json.encode(_KillFile((*kept, entry))))


def lower_severed(path: Path, platform: str = "", until_ns: int = _FOREVER_NS) -> None:
    """The operator lets the links come up again, so that platforms can be reconciled; nothing new trades yet. Orders to
    stop that were given after `until_ns` stay as they are.
    """
    kills = read_kill_file(path)
    lowered = tuple(
        msgspec.structs.replace(kill, level=KillLevel.NO_NEW)
        if kill.level is KillLevel.SEVER and platform in ("", kill.platform) and kill.at_ns <= until_ns
        else kill
        for kill in kills
    )
    if lowered != kills:
        host.replace_private(path, msgspec.json.encode(_KillFile(lowered)))


def remove_kills(path: Path, platform: str = "", until_ns: int = _FOREVER_NS) -> None:
    """Trading is resumed on a platform, or (empty) everywhere. An order to stop that was given after `until_ns`, UTC
    ns, stays: somebody has pulled the switch again while this was on its way.
    """
    kept = tuple(
        kill for kill in read_kill_file(path) if (platform and kill.platform != platform) or kill.at_ns > until_ns
    )
    if kept:
        host.replace_private(path, msgspec.json.encode(_KillFile(kept)))
    else:
        path.unlink(missing_ok=True)
