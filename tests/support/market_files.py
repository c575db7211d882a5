"""Market-data files for the decoders' tests: where the real ones are, and writers for the formats that have none."""

from __future__ import annotations

import gzip
import lzma
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from nexus_gateway.adapters.formats import Oddities, ReadOptions, Recording, open_recording
from nexus_gateway.shm.tick import TICK_DTYPE, TickArray

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SECOND_NS = 1_000_000_000
SCID_EPOCH_US = 2_209_161_600_000_000


def real_file(*parts: str) -> Path:
    """Path of a file of recorded market data; the test is skipped where it is absent."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no real data: {path} is absent")
    return path


def ids_of(recording: Recording) -> dict[str, int]:
    """Symbol ids 1, 2, 3 ... in the recording's own order."""
    return {each.contract: number for number, each in enumerate(recording.instruments, 1)}


def join(chunks: Iterable[TickArray]) -> TickArray:
    """One array of all chunks; empty if there is none."""
    arrays = list(chunks)
    return np.concatenate(arrays) if arrays else np.empty(0, TICK_DTYPE)


def read_file(path: Path, options: ReadOptions | None = None) -> tuple[TickArray, Oddities]:
    """All ticks of a file and its oddities."""
    recording = open_recording(path, options)
    oddities = Oddities()
    return join(recording.chunks(ids_of(recording), oddities=oddities)), oddities


def utc_ns(text: str) -> int:
    """Ns since 1970 of "2020-01-06T17:00:00.066"."""
    return int(np.datetime64(text, "ns").astype(np.int64))


def write_gzip(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


def write_zip(path: Path, members: Mapping[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def write_bi5(path: Path, records: Sequence[tuple[int, int, int, float, float]]) -> Path:
    """Records of (ms, ask, bid, ask size, bid size)."""
    content = b"".join(struct.pack(">IIIff", *each) for each in records)
    path.write_bytes(lzma.compress(content, lzma.FORMAT_ALONE))
    return path


def scid_record(
    time_us: int,
    price: float,
    *,
    bid: float,
    ask: float,
    volume: int = 1,
    at_ask: bool = True,
    opened: bytes = b"\0\0\0\0",
    trades: int = 1,
) -> bytes:
    """One record; `time_us` since 1970, `opened` the raw bytes of Open."""
    sides = (0, volume) if at_ask else (volume, 0)
    return struct.pack("<q4sfffIIII", time_us + SCID_EPOCH_US, opened, ask, bid, price, trades, volume, *sides)


def write_scid(path: Path, records: Iterable[bytes], *, record_bytes: int = 40, version: int = 1) -> Path:
    header = struct.pack("<4sIIHHI36x", b"SCID", 56, record_bytes, version, 0, 0)
    path.write_bytes(header + b"".join(records))
    return path
