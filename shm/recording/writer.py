"""Writing one recording file, and repairing files after a kill of the recorder or a power failure.

No thread, no clock, no policy: the recorder decides when to rotate, retry or sync.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from .. import host
from ..layout import TICK_BYTES
from ..symbols import Symbol
from ..tick import TickArray
from .file import (
    BLOCK,
    HEADER_BYTES,
    INDEX_SUFFIX,
    SYMBOLS_SUFFIX,
    TICKS_SUFFIX,
    IndexBuilder,
    RecordingHeader,
    as_ticks,
    data_files,
    file_number,
    file_path,
    map_bytes,
    measure,
    read_header,
)
from .symbols import encode_symbol

SUFFIXES: Final = (TICKS_SUFFIX, INDEX_SUFFIX, SYMBOLS_SUFFIX)
DAMAGED_SUFFIX: Final = ".nxdamaged"
"""Suffix of a data file that was set aside: no reader opens it, but a person can examine it."""


class RecordingFileWriter:
    """One data file with its index and symbols, being written by one thread.

    Attributes:
        path: of the data file.
        header: as written.
        records: whole records in the file.
    """

    def __init__(self, ring_folder: Path, header: RecordingHeader, symbols: Iterable[Symbol]) -> None:
        """Create the file; never touches an existing one.

        Raises:
            FileExistsError: the number is taken.
            OSError: the disk takes no more; nothing is left behind.
        """
        self.header = header
        self.path = file_path(ring_folder, header.file_number, header.created_ns)
        self.records = 0
        self._index = IndexBuilder(header.first_seq)
        self._symbol_lines: dict[int, bytes] = {}
        self._descriptors: list[int] = []
        try:
            for suffix in SUFFIXES:
                self._descriptors.append(host.open_private(self.path.with_suffix(suffix), create=True, exclusive=True))
            self.add_symbols(symbols)
            # The header makes the file a recording, so it comes when everything else is there.
            _write_all(self._descriptors[0], header.encode())
        except FileExistsError:
            _close_all(self._descriptors)
            raise
        except OSError:
            _close_all(self._descriptors)
            _remove(self.path)
            raise

    @property
    def size_bytes(self) -> int:
        """Of the data file."""
        return HEADER_BYTES + self.records * TICK_BYTES

    def add_symbols(self, symbols: Iterable[Symbol]) -> None:
        """Store the symbols that are new or have changed; before the first record that needs them. Raises OSError."""
        for symbol in symbols:
            line = encode_symbol(symbol)
            if self._symbol_lines.get(symbol.id) != line:
                _write_whole(self._descriptors[2], line)
                self._symbol_lines[symbol.id] = line

    def append(self, ticks: TickArray) -> None:
        """Write records at the end; they must lie in memory of the caller's own, never in a ring.

        Raises:
            OSError: the disk takes no more. `records` says how many are whole, a partial one has been cut off.
        """
        content = ticks.view(np.uint8).data
        written = 0
        try:
            while written < len(content):
                written += os.write(self._descriptors[0], content[written:])
        finally:
            whole = written // TICK_BYTES
            self.records += whole
            if written % TICK_BYTES:
                self._cut()
            if whole:
                rows = self._index.add(ticks[:whole])
                if len(rows):
                    _write_whole(self._descriptors[1], rows.tobytes())

    def duplicate_descriptors(self) -> list[int]:
        """For syncing elsewhere while this file is written and closed here; the caller closes them."""
        return [os.dup(descriptor) for descriptor in self._descriptors]

    def close(self) -> None:
        """Close the file. It is durable only after the duplicates were synced."""
        _close_all(self._descriptors)
        self._descriptors = []

    def _cut(self) -> None:
        os.ftruncate(self._descriptors[0], self.size_bytes)
        os.lseek(self._descriptors[0], 0, os.SEEK_END)


@dataclass(frozen=True)
class LastFile:
    """Where a ring's recording ends: its newest header and the records of that ring (same `ring_created_ns`), those of
    files that were removed since included.
    """

    header: RecordingHeader
    last_seq: int
    records_of_ring: int


def mend(ring_folder: Path, *, trust_index_since_ns: int) -> int:
    """Cut what was torn from the newest files of a ring, so that only whole records remain, and complete the index.

    Goes backwards until a file needed nothing. Only for the one process that holds the recording folder.

    Args:
        trust_index_since_ns: files begun before this UTC time are looked at record by record; the machine's start, for
            only a power failure can leave holes in front of the end.

    Returns:
        How many files were cut, set aside (no record that goes with its header) or, when empty, removed.
    """
    torn = 0
    for path in reversed(data_files(ring_folder)):
        header = read_header(path)
        if header is None:
            _remove(path)
            torn += 1
            continue
        content = map_bytes(path)
        extent = measure(path, header, content, trust_index=header.created_ns >= trust_index_since_ns)
        # A torn first record, or zeroed pages.
        holds_nothing = extent.records == 0 and not as_ticks(content)["seq"].any()
        del content  # Windows cuts no file that is mapped
        _mend_index(path, extent.rows[: extent.records // BLOCK].tobytes())
        if extent.records and not extent.torn_bytes:
            break
        torn += 1
        if extent.records:
            os.truncate(path, HEADER_BYTES + extent.records * TICK_BYTES)
        elif holds_nothing:
            _remove(path)
        else:
            # One changed bit in the header makes good records look like none: set aside, never removed.
            os.replace(path, path.with_suffix(DAMAGED_SUFFIX))
    return torn


def find_last(ring_folder: Path) -> LastFile | None:
    """Where to continue after the newest file; None when there is none. Call it after `mend`."""
    last: RecordingHeader | None = None
    oldest: RecordingHeader | None = None
    last_seq = records = 0
    for path in reversed(data_files(ring_folder)):
        header = read_header(path)
        if header is None or (last is not None and header.ring_created_ns != last.ring_created_ns):
            break
        extent = measure(path, header, map_bytes(path))
        if last is None:
            last, last_seq = header, extent.last_seq
        records += extent.records
        oldest = header
    if last is not None and oldest is not None:
        # Before the oldest file there were others, which a recorder has removed: their records are not lost ticks.
        records += oldest.first_seq - 1 - oldest.lost_before
    return None if last is None else LastFile(last, last_seq, records)


def next_file_number(ring_folder: Path) -> int:
    """One above every number in use."""
    return max((file_number(path) for path in data_files(ring_folder)), default=0) + 1


def _mend_index(ticks_path: Path, rows: bytes) -> None:
    path = ticks_path.with_suffix(INDEX_SUFFIX)
    if not path.exists() or path.read_bytes() != rows:
        host.replace_private(path, rows)


def _remove(ticks_path: Path) -> None:
    for suffix in reversed(SUFFIXES):
        ticks_path.with_suffix(suffix).unlink(missing_ok=True)


def _write_all(descriptor: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.write(descriptor, content[written:])


def _write_whole(descriptor: int, content: bytes) -> None:
    """Write all or nothing: the next write must not follow half a line or row."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        _write_all(descriptor, content)
    except OSError:
        os.ftruncate(descriptor, end)
        raise


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
