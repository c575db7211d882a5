"""Which recording files go: the oldest of a recording folder, never one that is being written.

Only for the one process that holds the recording folder. No clock and no policy beyond its arguments.
"""

from __future__ import annotations

from pathlib import Path

from .file import data_files, file_number
from .writer import SUFFIXES


def size_of(path: Path) -> int:
    """Return the bytes of a data file with its index and symbols; 0 for what is not there."""
    size = 0
    for suffix in SUFFIXES:
        try:
            size += path.with_suffix(suffix).stat().st_size
        except FileNotFoundError:
            continue
    return size


def old_files(folder: Path) -> list[Path]:
    """Return the data files of all rings that may go, oldest first by their last write.

    The newest of each ring stays, whether it is being written or not: its number and end are where a recorder goes on.
    """
    found = []
    for ring in folder.glob("*/"):
        for path in data_files(ring)[:-1]:
            written_ns = _written_ns(path)
            if written_ns is not None:
                found.append((written_ns, path.name, path))
    return [path for _, _, path in sorted(found)]


def _written_ns(path: Path) -> int | None:
    """When a file was last written, UTC ns; None for one that a person has removed meanwhile."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def choose_expired(folder: Path, before_ns: int | None, keep_bytes: int | None) -> list[Path]:
    """Return the data files that have to go: last written before `before_ns` (UTC), and the oldest until all files
    together have at most `keep_bytes`. None = no limit.
    """
    old = old_files(folder)
    total = (
        sum(size_of(path) for ring in folder.glob("*/") for path in data_files(ring)) if keep_bytes is not None else 0
    )
    expired = []
    for path in old:
        written_ns = _written_ns(path)
        too_old = before_ns is not None and written_ns is not None and written_ns < before_ns
        too_much = keep_bytes is not None and total > keep_bytes
        if not (too_old or too_much):
            continue
        expired.append(path)
        total -= size_of(path) if keep_bytes is not None else 0
    return expired


def remove_recording(path: Path) -> int:
    """Remove a data file, then its index and symbols. Returns the bytes that were freed.

    The data file first: killed in between, what is left is no recording, and `remove_companions` finds it.

    Raises:
        PermissionError: on Windows, a reader has it open; nothing was removed then.
    """
    size = size_of(path)
    for suffix in SUFFIXES:
        path.with_suffix(suffix).unlink(missing_ok=True)
    return size


def remove_companions(ring_folder: Path) -> None:
    """Remove indexes and symbols that a killed `remove_recording` has left without their data file."""
    files = data_files(ring_folder)
    newest = file_number(files[-1]) if files else 0
    kept = {path.stem for path in files}
    for suffix in SUFFIXES[1:]:
        for path in ring_folder.glob("*" + suffix):
            number = file_number(path.with_suffix(SUFFIXES[0]))
            if path.stem not in kept and 0 < number < newest:
                path.unlink(missing_ok=True)
