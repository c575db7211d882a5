"""What stops when a disk fills, in the order of what is least needed. One table for all processes."""

from __future__ import annotations

import itertools
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Bytes: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 50)]
_MIB = 1 << 20
_LEVELS = (
    "recorder_stops_bytes",
    "archives_stop_bytes",
    "logs_stop_bytes",
    "entries_stop_bytes",
    "checkpoints_stop_bytes",
)


class DiskConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Free space of a file system, in bytes, below which something stops that is written to it.

    `recorder_stops_bytes`: recordings. `archives_stop_bytes`: archives of the journal. `logs_stop_bytes`: log lines
    below a warning. `entries_stop_bytes`: the gateway refuses entries on all platforms until `resume`; exits and stops
    go on. `checkpoints_stop_bytes`: the gateway saves its state no more, so that a start replays more.
    `journal_reserve_bytes`: size of a file beside the journal that is released when the disk is full, so that exits and
    fills can still be journaled. Each 0 = off. `log_keep_days`: log files that nobody has written to for so long are
    removed; None = never.
    """

    recorder_stops_bytes: Bytes = 256 * _MIB
    archives_stop_bytes: Bytes = 192 * _MIB
    logs_stop_bytes: Bytes = 128 * _MIB
    entries_stop_bytes: Bytes = 96 * _MIB
    checkpoints_stop_bytes: Bytes = 64 * _MIB
    journal_reserve_bytes: Bytes = 64 * _MIB
    log_keep_days: Annotated[int, Meta(ge=1, le=36_500)] | None = 30

    def __post_init__(self) -> None:
        # One that is off (0) has no place in the order: those before and behind it are compared.
        levels = [(name, getattr(self, name)) for name in _LEVELS if getattr(self, name)]
        for (first, sooner), (then, later) in itertools.pairwise(levels):
            if sooner < later:
                raise ValueError(
                    f"{first} was {sooner}, must be at least {then} {later}: what is needed less stops first; raise it"
                )
