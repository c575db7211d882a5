"""Every shared-memory structure of the product: fields, computed offsets, magic, version and byte picture.

Nothing else may state an offset. `python -m nexus_gateway.shm.layout` prints the pictures that `LAYOUTS.md` holds; a
test compares them. Raise a structure's version when its meaning or offsets change: an old reader is then refused
with the state "other version" instead of reading wrong prices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

TICK_BYTES: Final = 64
RING_CAPACITY_LEAST: Final = 8
LARGEST_SEQ: Final = 1 << 62
"""Numbers of records stay below: a sum with a ring's capacity still fits into 64 bits with a sign."""
LARGEST_PLATFORM: Final = 8
"""The largest id of `tick.Platform`; a test compares them."""
# Two lines: the adjacent-line prefetcher of x86 pulls pairs, so a hot word gets 128 bytes of its own.
HOT_WORD_BYTES: Final = 128


@dataclass(frozen=True)
class Field:
    """One field: numpy code, meaning with its unit, and how many bytes to keep free after it."""

    name: str
    code: str
    meaning: str
    pad_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        return np.dtype(self.code).itemsize


@dataclass(frozen=True)
class Rows:
    """Rows of one size behind a segment's header, and the header's field that counts them.

    `is_mask`: the count is a power of two, since a kernel finds a row by masking its number.
    """

    count: str
    row_bytes: int
    is_mask: bool = False


@dataclass(frozen=True)
class Layout:
    """A structure whose offsets are the running sum of its fields.

    Attributes:
        magic: 8 ASCII bytes at offset 0 of a segment; empty for a structure inside one.
        version: written last by the creator, with release: its presence means "ready".
        rows: all that follows the header of a segment, in order.
        most: fields of the header, each with the largest value that it may have.
    """

    name: str
    fields: tuple[Field, ...]
    magic: bytes = b""
    version: int = 0
    rows: tuple[Rows, ...] = ()
    most: tuple[tuple[str, int], ...] = ()

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        names, formats, offsets, position = [], [], [], 0
        for field in self.fields:
            names.append(field.name)
            formats.append(field.code)
            offsets.append(position)
            position += field.size_bytes + field.pad_bytes
        return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": position})

    @property
    def size_bytes(self) -> int:
        return int(self.dtype.itemsize)

    def offset(self, field: str) -> int:
        """Byte offset of a field. Raises KeyError for an unknown name."""
        fields = self.dtype.fields
        assert fields is not None
        return int(fields[field][1])

    def find_misfit(self, header: np.void, file_bytes: int) -> str:
        """Name what in the header of a segment cannot be true of a file of this size; empty = nothing.

        Kernels go by addresses: a size that is believed unchecked makes them read memory behind the mapping.
        """
        for name, most in self.most:
            if int(header[name]) > most:
                return f"{name} was {int(header[name])}, at most {most}"
        size = self.size_bytes
        for rows in self.rows:
            count = int(header[rows.count])
            size += count * rows.row_bytes
            if rows.is_mask and (count < RING_CAPACITY_LEAST or count & (count - 1)):
                return f"{rows.count} was {count}, must be a power of two from {RING_CAPACITY_LEAST}"
        if size != file_bytes:
            counts = ", ".join(f"{rows.count} {int(header[rows.count])}" for rows in self.rows) or "no rows"
            return f"{counts} need {size} bytes, the file has {file_bytes}"
        if "record_bytes" in (self.dtype.names or ()) and int(header["record_bytes"]) != TICK_BYTES:
            return f"record_bytes was {int(header['record_bytes'])}, must be {TICK_BYTES}"
        return ""

    def picture(self) -> str:
        """The byte picture: one row a field or gap, with offset, size, numpy code and meaning."""
        title = f"{self.name}: {self.size_bytes} bytes"
        if self.magic:
            title += f", magic {self.magic.decode()!r}, version {self.version}"
        rows = [title, f"{'offset':>8} {'bytes':>6}  {'code':<6} field"]
        position = 0
        for field in self.fields:
            rows.append(f"{position:>8} {field.size_bytes:>6}  {field.code:<6} {field.name}: {field.meaning}")
            position += field.size_bytes
            if field.pad_bytes:
                rows.append(f"{position:>8} {field.pad_bytes:>6}  {'':<6} (unused)")
                position += field.pad_bytes
        return "\n".join(rows)


def _hot(name: str, code: str, meaning: str) -> Field:
    """A word that one core writes while others poll it: alone in its pair of cache lines."""
    return Field(name, code, meaning, HOT_WORD_BYTES - np.dtype(code).itemsize)


HEADER_FIELDS: Final = (
    Field("magic", "S8", "kind of segment"),
    Field("version", "<u8", "layout version; 0 until the creator has finished"),
    Field("segment_bytes", "<u8", "size of the file"),
    Field("writer_pid", "<u8", "process that writes, or wrote last"),
    Field("writer_started_ms", "<i8", "when that process started, ms by host.started_ms: tells a reused pid"),
    Field("heartbeat_ns", "<i8", "last heartbeat, system-wide monotonic clock"),
    Field("incarnation", "<u8", "how many writers have opened this segment"),
    Field("closed", "<u8", "1 after a clean end of the writer"),
)

HEADER: Final = Layout("Segment header", HEADER_FIELDS)

RING: Final = Layout(
    "Tick ring",
    (
        *HEADER_FIELDS,
        Field("capacity", "<u8", "slots, a power of two"),
        Field("record_bytes", "<u8", "bytes of a slot"),
        Field("platform", "<u8", "platform id of the writer"),
        Field("created_ns", "<i8", "when this segment was made, UTC ns: numbers start at 1 with it", 32),
        _hot("tail", "<u8", "seq of the newest record; stored once a batch, with release"),
    ),
    magic=b"NXRING\0\0",
    version=1,
    rows=(Rows("capacity", TICK_BYTES, is_mask=True),),
    most=(("platform", LARGEST_PLATFORM), ("tail", LARGEST_SEQ)),
)
"""Followed by `capacity` slots of the tick record; record number s lives in slot (s - 1) mod capacity."""

BOARD: Final = Layout(
    "Quote board",
    (
        *HEADER_FIELDS,
        Field("capacity", "<u8", "rows; the row of a symbol is its id"),
        Field("record_bytes", "<u8", "bytes of a row"),
        Field("platform", "<u8", "platform id of the writer"),
        Field("created_ns", "<i8", "when this segment was made, UTC ns: numbers start at 1 with it", 32),
    ),
    magic=b"NXBOARD\0",
    version=1,
    rows=(Rows("capacity", TICK_BYTES),),
    most=(("platform", LARGEST_PLATFORM),),
)
"""Followed by `capacity` rows of the tick record: the newest record of each symbol, seqlock by its `seq`."""

CURSOR: Final = Layout(
    "Reader cursor",
    (
        *HEADER_FIELDS,
        Field("ring", "S32", "name of the ring that is read"),
        Field("reader", "S32", "name of the reader"),
        Field("next_seq", "<u8", "number of the record it waits for"),
        Field("read", "<u8", "records consumed"),
        Field("lost", "<u8", "records overwritten before they were read"),
        Field("torn", "<u8", "of these, records overwritten while they were in use", 32),
    ),
    magic=b"NXCURSR\0",
    version=1,
    most=(("next_seq", LARGEST_SEQ),),
)

COUNTER: Final = Layout(
    "Counter",
    (
        Field("value", "<i8", "see the name's suffix for its unit"),
        Field("name", "S56", "ASCII; empty = unused"),
    ),
)

HISTOGRAM_SUB_BITS: Final = 5
HISTOGRAM_BUCKETS: Final = (64 - HISTOGRAM_SUB_BITS) << HISTOGRAM_SUB_BITS
HISTOGRAM: Final = Layout(
    "Histogram",
    (
        Field("name", "S56", "ASCII; empty = unused"),
        Field("count", "<u8", "values recorded"),
        Field("sum", "<i8", "of all values"),
        Field("minimum", "<i8", "smallest value"),
        Field("maximum", "<i8", "largest value", 40),
        Field("buckets", f"({HISTOGRAM_BUCKETS},)<u8", "log-linear counts: 32 buckets to each power of two"),
    ),
)

COUNTERS: Final = Layout(
    "Counters page",
    (
        *HEADER_FIELDS,
        Field("process", "S32", "name of the process"),
        Field("counters", "<u8", "how many counter rows follow"),
        Field("histograms", "<u8", "how many histograms follow these", 16),
    ),
    magic=b"NXCOUNT\0",
    version=1,
    rows=(Rows("counters", COUNTER.size_bytes), Rows("histograms", HISTOGRAM.size_bytes)),
)

SYMBOL_NAME_BYTES: Final = 32
SYMBOL: Final = Layout(
    "Symbol entry",
    (
        Field("revision", "<u8", "odd while the entry is being changed"),
        Field("generation", "<u8", "how many contracts this symbol has had; grows at each roll"),
        Field("tick_size", "<f8", "smallest price step in quote units; NaN = unknown"),
        Field("rolled_ns", "<i8", "when the current contract began, UTC ns; 0 = from the start"),
        Field("name", f"S{SYMBOL_NAME_BYTES}", "universal name, UTF-8"),
        Field("contract", f"S{SYMBOL_NAME_BYTES}", "current contract, UTF-8; empty for spot and CFD", 32),
    ),
)

SYMBOLS_CAPACITY: Final = 4096
SYMBOLS: Final = Layout(
    "Symbol directory",
    (
        *HEADER_FIELDS,
        Field("capacity", "<u8", "entries; the entry of a symbol is its id, entry 0 stays empty"),
        Field("count", "<u8", "ids given out; stored with release after the entry is complete", 48),
    ),
    magic=b"NXSYMBL\0",
    version=1,
    rows=(Rows("capacity", SYMBOL.size_bytes),),
    most=(("count", SYMBOLS_CAPACITY - 1),),
)

TICK: Final = Layout(
    "Tick record",
    (
        Field("seq", "<u8", "publication number in this ring, from 1; 0 while the slot is being written"),
        Field("ts_event_ns", "<i8", "when it happened at the source, UTC ns"),
        Field("ts_recv_ns", "<i8", "when the adapter published it, UTC ns"),
        Field("bid", "<f8", "quote units; NaN = never seen"),
        Field("ask", "<f8", "quote units; NaN = never seen"),
        Field("last", "<f8", "quote units; NaN = never seen"),
        Field("bid_size", "<f4", "contracts or lots"),
        Field("ask_size", "<f4", "contracts or lots"),
        Field("last_size", "<f4", "contracts or lots"),
        Field("symbol", "<u2", "id from the symbol directory"),
        Field("source", "<u1", "platform id"),
        Field("flags", "<u1", "TickFlag bits"),
    ),
)
assert TICK.size_bytes == TICK_BYTES

RECORDING: Final = Layout(
    "Recording file",
    (
        Field("magic", "S8", "kind of file"),
        Field("version", "<u8", "layout version of this file, its index and its symbols"),
        Field("record_bytes", "<u8", "bytes of a record"),
        Field("file_number", "<u8", "from 1 in the ring's folder"),
        Field("created_ns", "<i8", "when this file was begun, UTC ns"),
        Field("ring", "S32", "name of the ring"),
        Field("platform", "<u8", "platform id of the ring's writer"),
        Field("ring_created_ns", "<i8", "when the ring's segment was made, UTC ns: seq counts from 1 within it"),
        Field("first_seq", "<u8", "seq of the first record"),
        Field("lost_before", "<u8", "records missing between the file before and this one, or from number 1"),
        Field("follows", "<u8", "how this file follows the one before (recording_file.Follows)", 16),
    ),
    magic=b"NXRECRD\0",
    version=1,
)
"""Followed by tick records, their seq growing, up to the end of the file."""

RECORDING_INDEX: Final = Layout(
    "Recording index entry",
    (
        Field("records", "<u8", "records in the file up to the end of this block; blocks have 4096"),
        Field("last_seq", "<u8", "seq of the block's last record"),
        Field("ts_recv_max_ns", "<i8", "latest ts_recv_ns from the file's start to the block's end, UTC ns"),
        Field("lost", "<u8", "numbers missing in seq from the file's start to the block's end"),
    ),
)

ALL: Final = (TICK, HEADER, RING, BOARD, CURSOR, COUNTERS, COUNTER, HISTOGRAM, SYMBOLS, SYMBOL)
FILES: Final = (RECORDING, RECORDING_INDEX)
"""Structures on disk: no segments, for bytes once written stay as they are."""


def describe_all() -> str:
    """The whole of LAYOUTS.md."""
    head = (
        "# Shared-memory layouts\n\nGenerated by `python -m nexus_gateway.shm.layout`; a test compares it with the"
        " code. Little endian;\nnumpy codes; offsets in bytes.\n"
    )
    return head + "".join(f"\n```\n{layout.picture()}\n```\n" for layout in (*ALL, *FILES))


if __name__ == "__main__":
    print(describe_all(), end="")
