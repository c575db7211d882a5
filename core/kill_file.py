"""The kill file: the operator's kill instruction, which needs no running process to be given.

`nexus-gateway kill` writes it into the run folder before it asks the gateway for anything. It stays in force until
`resume` removes it. Each process obeys it by itself:

gateway   goes to the kill level at its start, before it sends any order, and within 250 ms while it runs
adapter   reads the file before each command. From `no_new` on it refuses orders that are neither `reduce_only` nor
          close a ticket, at `sever` every order; cancels always pass. At `sever` it also ends its link to the gateway
          and opens none
launcher  does nothing with it: it goes on restarting a gateway that hangs, because the new one obeys the file

To have positions closed before the links are cut, write `flatten` first, and `sever` when the gateway has flattened
or its time is up: at `sever` adapters refuse closing orders too.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ..shm import host
from .messages import KillLevel

KILL_FILE: Final = "kill.json"


class KillEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kill instruction. `platform` empty = all. `own_only`: leave external orders and positions alone. `at_ns`:
    when it was given, UTC.
    """

    level: KillLevel
    platform: str = ""
    own_only: bool = False
    reason: str
    by: str
    at_ns: int


class _KillFile(Struct, frozen=True, forbid_unknown_fields=True):
    kills: tuple[KillEntry, ...]


_UNREADABLE: Final = KillEntry(level=KillLevel.NO_NEW, reason="the kill file cannot be read", by="gateway", at_ns=0)


class KillFileError(OSError):
    """The kill file cannot be opened for want of descriptors or memory: whether a kill is in force is not known now."""


def kill_file_path(run_folder: Path) -> Path:
    """The path of a run folder's kill file; the file exists only while a kill is in force."""
    return run_folder / KILL_FILE


def read_kill_file(path: Path) -> tuple[KillEntry, ...]:
    """The instructions in force; empty when there is no file. About 5 us without a file. Any process.

    A file that is there and cannot be read counts as `no_new` for all platforms: a kill was given, and its level is not
    known.

    Raises:
        KillFileError: it cannot be opened for want of descriptors or memory. That is no kill: refuse entries while it
            lasts. The process's reserve of descriptors is used up by then.
    """
    try:
        content = host.descriptor_reserve.open_by(lambda: host.read_regular(path))
        return msgspec.json.decode(content, type=_KillFile).kills
    except FileNotFoundError:
        return ()
    except OSError as error:
        if host.is_want_of_resources(error):
            raise KillFileError(error.errno, f"cannot be opened: {error.strerror}", str(path)) from error
        return (_UNREADABLE,)
    except msgspec.DecodeError:
        return (_UNREADABLE,)


def kill_level_of(kills: tuple[KillEntry, ...], platform: str) -> KillLevel:
    """The kill level in force on a platform."""
    return max((kill.level for kill in kills if kill.platform in ("", platform)), default=KillLevel.NORMAL)


def add_kill(path: Path, entry: KillEntry) -> None:
    """Write a kill instruction; it replaces those of the same or a lower level on its platform, higher ones stay.

    Raises:
        OSError: the folder is gone, full, or not ours; KillFileError: what is in force cannot be read now, and stays.
    """
    kept = [kill for kill in read_kill_file(path) if kill.platform != entry.platform or kill.level > entry.level]
    host.replace_private(path, msgspec.json.encode(_KillFile((*kept, entry))))


def lower_severed(path: Path, platform: str = "", given: Collection[KillEntry] | None = None) -> None:
    """Lower `sever` to `no_new`, so that links come up and platforms can be reconciled, while nothing new trades.
    `platform` empty = all. Only those that are among `given`, None = all.
    """
    kills = read_kill_file(path)
    lowered = tuple(
        msgspec.structs.replace(kill, level=KillLevel.NO_NEW)
        if kill.level is KillLevel.SEVER and platform in ("", kill.platform) and (given is None or kill in given)
        else kill
        for kill in kills
    )
    if lowered != kills:
        host.replace_private(path, msgspec.json.encode(_KillFile(lowered)))


def remove_kills(path: Path, platform: str = "", given: Collection[KillEntry] | None = None) -> None:
    """Remove the instructions for a platform, or (empty) all of them: trading is resumed. One that is not among
    `given` (None = all) stays: it was given while the resume was on its way. Its time is not compared, since the clock
    may have been set back.
    """
    kept = tuple(
        kill
        for kill in read_kill_file(path)
        if (platform and kill.platform != platform) or (given is not None and kill not in given)
    )
    if kept:
        host.replace_private(path, msgspec.json.encode(_KillFile(kept)))
    else:
        path.unlink(missing_ok=True)
