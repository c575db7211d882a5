"""Layout of a recording on disk: names, header, index. Shared by its writer and its readers.

A recording folder has one folder per ring, and in it files numbered from 1:

    nt8/000001-20261122T123408Z.nxticks     header (`layout.RECORDING`), then the ring's records as they were
    nt8/000001-20261122T123408Z.nxindex     one row (`layout.RECORDING_INDEX`) per 4096 records, rebuilt when missing
    nt8/000001-20261122T123408Z.nxsymbols   one JSON line per symbol and contract, before the first record that needs it

Only the records are authoritative: `seq` grows within a file, a jump is a gap, and any other value ends the file.
"""

from __future__ import annotations

import mmap
import re
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .. import layout
from ..durations import NS_PER_S
from ..layout import TICK_BYTES
from ..tick import TICK_DTYPE, Platform, TickArray

TICKS_SUFFIX: Final = ".nxticks"
INDEX_SUFFIX: Final = ".nxindex"
SYMBOLS_SUFFIX: Final = ".nxsymbols"
BLOCK: Final = 4096
HEADER_BYTES: Final = layout.RECORDING.size_bytes

_NAME: Final = re.compile(r"(\d{6,})-\d{8}T\d{6}Z" + re.escape(TICKS_SUFFIX))


class RecordingError(Exception):
    """A recording file cannot be used; the text names it and says why."""


class Follows(IntEnum):
    """Relation of a file's records to those of the file before (header field `follows`)."""

    NOTHING = 0  # the first file of this ring
    SAME_RING = 1  # numbers go on; what is missing is counted in `lost_before`
    NEW_RING = 2  # another segment, numbers from 1; the one before was read to its end
    NEW_RING_END_UNSEEN = 3  # the same, but how much was published at the end of the one before is unknown


@dataclass(frozen=True)
class RecordingHeader:
    """The header's fields; see `layout.RECORDING` for their meaning."""

    file_number: int
    created_ns: int
    ring: str
    platform: Platform
    ring_created_ns: int
    first_seq: int
    lost_before: int
    follows: Follows

    def encode(self) -> bytes:
        row = np.zeros(1, layout.RECORDING.dtype)
        row["magic"] = layout.RECORDING.magic
        row["version"] = layout.RECORDING.version
        row["record_bytes"] = TICK_BYTES
        for name, value in vars(self).items():
            row[name] = value.encode() if isinstance(value, str) else value
        return row.tobytes()


def read_header(path: Path) -> RecordingHeader | None:
    """Header of a file; None when its writer had not finished it, so that there are no records either.

    Raises:
        RecordingError: not a recording, of another version, or damaged.
    """
    with path.open("rb") as file:
        content = file.read(HEADER_BYTES)
    if len(content) < HEADER_BYTES:
        return None
    row: Any = np.frombuffer(content, layout.RECORDING.dtype)[0]
    magic, version, record_bytes = bytes(row["magic"]), int(row["version"]), int(row["record_bytes"])
    wanted = layout.RECORDING
    if (magic, version, record_bytes) != (wanted.magic.rstrip(b"\0"), wanted.version, TICK_BYTES):
        raise RecordingError(
            f"{path}: was {magic!r} version {version} with records of {record_bytes} bytes; this program reads "
            f"{wanted.magic!r} version {wanted.version} with {TICK_BYTES}; use the release that recorded it"
        )
    try:
        return RecordingHeader(
            int(row["file_number"]),
            int(row["created_ns"]),
            bytes(row["ring"]).decode(),
            Platform(int(row["platform"])),
            int(row["ring_created_ns"]),
            int(row["first_seq"]),
            int(row["lost_before"]),
            Follows(int(row["follows"])),
        )
    except ValueError as error:
        raise RecordingError(f"{path}: its header is damaged: {error}; take it out of the folder") from None


def file_path(ring_folder: Path, number: int, created_ns: int) -> Path:
    """Name of a data file: the number sorts and never repeats, the time is for people."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(created_ns // NS_PER_S))
    return ring_folder / f"{number:06d}-{when}{TICKS_SUFFIX}"


def file_number(path: Path) -> int:
    """Number in a data file's name; 0 when the name has another form."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def data_files(ring_folder: Path) -> list[Path]:
    """The data files of one ring in the order of recording; files with other names are left alone."""
    return sorted(filter(file_number, ring_folder.glob("*" + TICKS_SUFFIX)), key=file_number)


def map_bytes(path: Path) -> npt.NDArray[np.uint8]:
    """All bytes of a file as they are on disk, read-only, nothing copied; the mapping lives as long as the array."""
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


class IndexBuilder:
    """Builds the rows of an index from records in order. Row k covers the records up to and including block k.

    Attributes:
        records, last_seq, ts_recv_max_ns: up to now, the unfinished block included.
    """

    def __init__(self, first_seq: int) -> None:
        self._first_seq = first_seq
        self.records = 0
        self.last_seq = first_seq - 1
        self.ts_recv_max_ns = int(np.iinfo(np.int64).min)

    def resume(self, rows: npt.NDArray[np.void]) -> None:
        """Continue after rows that are known to be right."""
        if len(rows):
            self.records = int(rows["records"][-1])
            self.last_seq = int(rows["last_seq"][-1])
            self.ts_recv_max_ns = int(rows["ts_recv_max_ns"][-1])

    @property
    def lost(self) -> int:
        """Numbers missing in `seq` since the start of the file."""
        return self.last_seq - self._first_seq + 1 - self.records

    def add(self, ticks: TickArray) -> npt.NDArray[np.void]:
        """Add records. Returns the rows of the blocks that they complete, shape (n,), RECORDING_INDEX's dtype."""
        rows = []
        start = 0
        while start < len(ticks):
            block = ticks[start : start + BLOCK - self.records % BLOCK]
            self.records += len(block)
            self.last_seq = int(block["seq"][-1])
            self.ts_recv_max_ns = max(self.ts_recv_max_ns, int(block["ts_recv_ns"].max()))
            if self.records % BLOCK == 0:
                rows.append((self.records, self.last_seq, self.ts_recv_max_ns, self.lost))
            start += len(block)
        return np.array(rows, layout.RECORDING_INDEX.dtype)


def count_intact(ticks: TickArray, last_seq: int) -> int:
    """Number of leading records that are whole: their `seq` grows from above `last_seq`."""
    seq = ticks["seq"].astype(np.int64)
    steps = np.diff(seq, prepend=last_seq)
    broken = np.flatnonzero(steps <= 0)
    return int(broken[0]) if len(broken) else len(seq)


@dataclass(frozen=True)
class Extent:
    """The valid part of a data file, and its index.

    Attributes:
        rows: shape (n,), RECORDING_INDEX's dtype; one per full block, and one for the rest when there is one.
        torn_bytes: what follows the last whole record.
    """

    records: int
    last_seq: int
    rows: npt.NDArray[np.void]
    torn_bytes: int


def measure(
    ticks_path: Path, header: RecordingHeader, content: npt.NDArray[np.uint8], *, trust_index: bool = True
) -> Extent:
    """Find the end of a file's whole records and complete its index in memory.

    Args:
        content: all bytes of the data file.
        trust_index: False looks at every record, True only at those that the index does not cover.
    """
    ticks = as_ticks(content)
    rows = _stored_rows(ticks_path.with_suffix(INDEX_SUFFIX), header, ticks) if trust_index else _no_rows()
    builder = IndexBuilder(header.first_seq)
    builder.resume(rows)
    parts = [rows]
    while builder.records < len(ticks):
        chunk = ticks[builder.records : builder.records + 64 * BLOCK]
        intact = count_intact(chunk, builder.last_seq)
        parts.append(builder.add(chunk[:intact]))
        if intact < len(chunk):
            break
    if builder.records % BLOCK:
        rest = (builder.records, builder.last_seq, builder.ts_recv_max_ns, builder.lost)
        parts.append(np.array([rest], layout.RECORDING_INDEX.dtype))
    torn_bytes = len(content) - HEADER_BYTES - builder.records * TICK_BYTES
    return Extent(builder.records, builder.last_seq, np.concatenate(parts), torn_bytes)


def _stored_rows(path: Path, header: RecordingHeader, ticks: TickArray) -> npt.NDArray[np.void]:
    """The leading rows of an index file that are consistent, with each other and with the records they point to."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return _no_rows()
    count = min(len(content) // layout.RECORDING_INDEX.size_bytes, len(ticks) // BLOCK)
    rows = np.frombuffer(content, layout.RECORDING_INDEX.dtype, count)
    records = np.arange(1, count + 1, dtype=np.uint64) * BLOCK
    right = (
        (rows["records"] == records)
        & (rows["last_seq"] == ticks["seq"][BLOCK - 1 :: BLOCK][:count])
        & (rows["lost"] == rows["last_seq"] + np.uint64(1) - np.uint64(header.first_seq) - records)
    )
    right[1:] &= (np.diff(rows["lost"].astype(np.int64)) >= 0) & (np.diff(rows["ts_recv_max_ns"]) >= 0)
    wrong = np.flatnonzero(~right)
    return rows[: int(wrong[0])] if len(wrong) else rows


def _no_rows() -> npt.NDArray[np.void]:
    return np.empty(0, layout.RECORDING_INDEX.dtype)


def as_ticks(content: npt.NDArray[np.uint8]) -> TickArray:
    """View of a data file's bytes as records, header and torn rest left out."""
    whole = (len(content) - HEADER_BYTES) // TICK_BYTES
    return content[HEADER_BYTES : HEADER_BYTES + whole * TICK_BYTES].view(TICK_DTYPE)
