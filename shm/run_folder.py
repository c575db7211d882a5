"""Names of the files in a run folder, and lists of those that exist. Any process may call it; no numba."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from . import host, layout
from .segment import Segment, SegmentError, SegmentState

RING_SUFFIX: Final = ".ticks"
BOARD_SUFFIX: Final = ".board"
COUNTERS_SUFFIX: Final = ".counters"
CURSOR_SUFFIX: Final = ".cursor"
SYMBOLS_FILE: Final = "directory.symbols"
SEGMENT_SUFFIXES: Final = (RING_SUFFIX, BOARD_SUFFIX, COUNTERS_SUFFIX, CURSOR_SUFFIX, ".symbols")

# Windows keeps some names for devices, whatever follows the dot.
_NAME: Final = re.compile(r"(?!(?:con|nul|aux|prn|com\d|lpt\d)$)[a-z0-9][a-z0-9_-]{0,31}")


def check_name(name: str) -> str:
    """The name of a ring, process or reader, if it can be a file name on every system.

    Raises:
        ValueError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name was {name!r}; use 1 to 32 of a-z, 0-9, '_', '-', first a letter or digit; no device of Windows"
        )
    return name


def ring_path(folder: Path, ring: str) -> Path:
    return folder / (check_name(ring) + RING_SUFFIX)


def board_path(folder: Path, ring: str) -> Path:
    return folder / (check_name(ring) + BOARD_SUFFIX)


def counters_path(folder: Path, process: str) -> Path:
    return folder / (check_name(process) + COUNTERS_SUFFIX)


def cursor_path(folder: Path, ring: str, reader: str, pid: int, number: int) -> Path:
    return folder / f"{check_name(ring)}~{check_name(reader)}-{pid}-{number}{CURSOR_SUFFIX}"


def symbols_path(folder: Path) -> Path:
    return folder / SYMBOLS_FILE


def ring_names(folder: Path) -> list[str]:
    """Names of the rings in a run folder, sorted; whatever their state."""
    return _names_with(folder, RING_SUFFIX)


def process_names(folder: Path) -> list[str]:
    """Names of the processes that have a counters page, sorted."""
    return _names_with(folder, COUNTERS_SUFFIX)


def _names_with(folder: Path, suffix: str) -> list[str]:
    # A file with an invalid name was put there by someone else: ignore it and list the others.
    names = (path.name.removesuffix(suffix) for path in folder.glob("*" + suffix))
    return sorted(name for name in names if _NAME.fullmatch(name))


def attach_cursors(folder: Path, ring: str) -> list[Segment]:
    """The published cursors of a ring's live readers, mapped read-only."""
    cursors = []
    for path in sorted(folder.glob(f"{check_name(ring)}~*{CURSOR_SUFFIX}")):
        try:
            cursor = Segment.attach(path, layout.CURSOR)
        except SegmentError:
            continue  # just being created or removed
        if cursor.state() is SegmentState.LIVE:
            cursors.append(cursor)
    return cursors


def remove_stale_segments(folder: Path) -> list[Path]:
    """Remove the segments that no live process writes; called by the owner of the run folder at its start.

    A writer is alive while its file is locked; the operating system releases the lock when it ends. While any writer is
    alive, the symbol directory stays too: reassigned ids would mean other symbols than those that it publishes.

    Returns:
        What was removed, sorted.
    """
    removed, live = [], False
    for path in sorted(folder.iterdir()):
        if path.suffix not in SEGMENT_SUFFIXES or path == symbols_path(folder):
            continue
        if _remove_unlocked(path):
            removed.append(path)
        else:
            live = True
    if not live and _remove_unlocked(symbols_path(folder)):
        removed.append(symbols_path(folder))
    return sorted(removed)


def _remove_unlocked(path: Path) -> bool:
    try:
        descriptor = host.open_private(path)
    except FileNotFoundError:
        return False
    except host.NotRegularError:
        path.unlink(missing_ok=True)
        return True
    if not host.try_lock(descriptor):
        os.close(descriptor)
        return False
    try:
        host.remove_open(path, descriptor)
    except PermissionError:  # Windows: a reader still has it mapped
        return False
    return True
