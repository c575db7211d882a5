"""Reading recordings: memory-mapped ticks, in order, sought by time or number, with their gaps and symbols.

Any process may read, also while the recorder writes: it sees the records that were whole when a file was first used.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..tick import Platform, TickArray
from .file import (
    BLOCK,
    SYMBOLS_SUFFIX,
    Extent,
    Follows,
    RecordingError,
    RecordingHeader,
    as_ticks,
    data_files,
    map_bytes,
    measure,
    read_header,
)
from .symbols import SymbolTable

__all__ = ["Gap", "Position", "RecordedFile", "RecordedRing", "Recording", "RecordingError", "open_recorded"]


@dataclass(frozen=True)
class Gap:
    """Records of a ring that were published and are not in the recording.

    Attributes:
        after_seq: last number before it; 0 = the ring's very beginning.
        before_seq: first number after it.
        lost: how many; None = unknown, since the ring was recreated while no recorder ran.
        ts_recv_ns: UTC time of the first record after it.
    """

    ring: str
    after_seq: int
    before_seq: int
    lost: int | None
    ts_recv_ns: int


class Position(NamedTuple):
    """A place in a ring's recording: index into `files`, index into that file's `ticks`."""

    file: int
    record: int


class RecordedFile:
    """One data file.

    Attributes:
        path: of the file.
        header: ring, platform, first number and the like.
    """

    def __init__(self, path: Path, header: RecordingHeader) -> None:
        self.path = path
        self.header = header
        self._mapped: weakref.ref[TickArray] | None = None

    @property
    def ticks(self) -> TickArray:
        """All whole records: shape (n,), TICK_DTYPE, read-only, mapped and not copied; unmapped when no longer used."""
        mapped = self._mapped() if self._mapped is not None else None
        if mapped is None:
            mapped = as_ticks(map_bytes(self.path))[: len(self)]
            self._mapped = weakref.ref(mapped)
        return mapped

    def __len__(self) -> int:
        return self._extent.records

    @property
    def last_seq(self) -> int:
        return self._extent.last_seq

    @property
    def ts_recv_max_ns(self) -> int:
        """Latest `ts_recv_ns` of the file, UTC ns; the smallest int64 when it has no record."""
        rows = self._extent.rows
        return int(rows["ts_recv_max_ns"][-1]) if len(rows) else int(np.iinfo(np.int64).min)

    @property
    def torn_bytes(self) -> int:
        """Bytes after the last whole record when the file was first used; the recorder's next start cuts them."""
        return self._extent.torn_bytes

    @cached_property
    def symbols(self) -> SymbolTable:
        """The symbols of the ids in this file. Raises RecordingError when the stored table is broken."""
        try:
            return SymbolTable.read(self.path.with_suffix(SYMBOLS_SUFFIX))
        except ValueError as error:
            raise RecordingError(str(error)) from None

    def find_seq(self, seq: int) -> int:
        """Index of the first record with this number or a higher one; O(log n)."""
        return bisect_left(self.ticks["seq"], seq)

    def find_time(self, ts_recv_ns: int) -> int:
        """Index of the first record published at this UTC time or later; O(log n), and one block is looked through.

        Right also where the clock stepped back: the first in file order counts.
        """
        start = int(np.searchsorted(self._extent.rows["ts_recv_max_ns"], ts_recv_ns)) * BLOCK
        reached = self.ticks["ts_recv_ns"][start : start + BLOCK] >= ts_recv_ns
        return start + int(reached.argmax()) if reached.any() else len(self)

    def gaps(self) -> list[Gap]:
        """The jumps of `seq` inside this file, in order. Looks only into blocks whose index says that they have one."""
        gaps = []
        ticks = self.ticks
        for block in np.flatnonzero(np.diff(self._extent.rows["lost"], prepend=np.uint64(0))).tolist():
            around = ticks[max(block * BLOCK - 1, 0) : (block + 1) * BLOCK]
            for i in np.flatnonzero(np.diff(around["seq"]) > 1).tolist():
                after, before = int(around["seq"][i]), int(around["seq"][i + 1])
                gaps.append(Gap(self.header.ring, after, before, before - after - 1, int(around["ts_recv_ns"][i + 1])))
        return gaps

    @cached_property
    def _extent(self) -> Extent:
        return measure(self.path, self.header, map_bytes(self.path))


class RecordedRing:
    """All files of one ring as one stream.

    Attributes:
        ring: its name.
        files: in the order of recording; none is empty.
    """

    def __init__(self, files: list[RecordedFile]) -> None:
        self.ring = files[0].header.ring
        self.platform: Platform = files[0].header.platform
        self.files = files

    def __len__(self) -> int:
        return sum(len(file) for file in self.files)

    def arrays(self, start: Position = Position(0, 0)) -> Iterator[tuple[RecordedFile, TickArray]]:  # noqa: B008  (immutable)
        """The records from a position on, in order: each file and its read-only, uncopied ticks."""
        for number, file in enumerate(self.files[start.file :], start=start.file):
            ticks = file.ticks
            yield file, ticks[start.record :] if number == start.file else ticks

    def seek_time(self, ts_recv_ns: int) -> Position:
        """Place of the first record published at this UTC time or later; O(log n) once all indexes were read."""
        file = int(np.searchsorted(self._ts_recv_max_ns, ts_recv_ns))
        return Position(file, self.files[file].find_time(ts_recv_ns) if file < len(self.files) else 0)

    def seek_seq(self, seq: int, ring_created_ns: int | None = None) -> Position:
        """Place of the first record with this number or a higher one.

        Args:
            ring_created_ns: which of the ring's numberings, see `RecordingHeader`; None = that of the newest file.
        """
        wanted = self.files[-1].header.ring_created_ns if ring_created_ns is None else ring_created_ns
        for number, file in enumerate(self.files):
            if file.header.ring_created_ns == wanted and file.last_seq >= seq:
                return Position(number, file.find_seq(seq))
        return Position(len(self.files), 0)

    def gaps(self) -> list[Gap]:
        """All gaps, in order: within files, between them, and before the first."""
        gaps = []
        before: RecordedFile | None = None
        for file in self.files:
            gaps += self._gap_between(before, file)
            gaps += file.gaps()
            before = file
        return gaps

    @property
    def lost(self) -> int:
        """Records known to be missing; gaps of unknown size (`Gap.lost` None) count 0 here."""
        return sum(gap.lost or 0 for gap in self.gaps())

    def _gap_between(self, before: RecordedFile | None, file: RecordedFile) -> list[Gap]:
        header = file.header
        ts_recv_ns = int(file.ticks["ts_recv_ns"][0])
        gaps = []
        last_seq = header.first_seq - 1 - header.lost_before
        if before is not None and before.header.ring_created_ns == header.ring_created_ns:
            last_seq = before.last_seq  # a file that was removed in between is missing too
        elif header.follows is Follows.NEW_RING_END_UNSEEN:
            gaps.append(Gap(self.ring, before.last_seq if before is not None else 0, 0, None, ts_recv_ns))
        if header.first_seq > last_seq + 1:
            gaps.append(Gap(self.ring, last_seq, header.first_seq, header.first_seq - last_seq - 1, ts_recv_ns))
        return gaps

    @cached_property
    def _ts_recv_max_ns(self) -> npt.NDArray[np.int64]:
        return np.maximum.accumulate([file.ts_recv_max_ns for file in self.files])


@dataclass(frozen=True)
class Recording:
    """All rings of a recording.

    Attributes:
        rings: by name, sorted.
    """

    rings: dict[str, RecordedRing]

    def gaps(self) -> list[Gap]:
        """Of all rings."""
        return [gap for ring in self.rings.values() for gap in ring.gaps()]


def open_recorded(path: Path) -> Recording:
    """Open a recording folder, the folder of one ring in it, or one data file.

    Files that a recorder has just begun and that hold no record yet are left out.

    Raises:
        RecordingError: there is no recording, or a file is of another version.
    """
    if path.is_file():
        found = [path]
    else:
        found = data_files(path) or [file for folder in sorted(path.glob("*/")) for file in data_files(folder)]
    rings: dict[str, list[RecordedFile]] = {}
    for file_path in found:
        header = read_header(file_path)
        file = None if header is None else RecordedFile(file_path, header)
        if file is not None and len(file):
            rings.setdefault(file.header.ring, []).append(file)
    if not rings:
        raise RecordingError(
            f"{path}: no recorded tick there; name a recording folder, a ring's folder in it or a file"
        )
    return Recording({name: RecordedRing(files) for name, files in sorted(rings.items())})
