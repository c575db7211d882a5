"""Sierra Chart's intraday file .scid, recorded tick by tick: header of 56 bytes, records of 40.

Source of the layout and the markers: Sierra's description of the format, and real files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ...core.errors import DataFormatError
from ...shm.durations import NS_PER_US
from ...shm.tick import TickArray, TickFlag
from .binary_records import read_records
from .byte_blocks import BLOCK_BYTES
from .file_clock import FileClock
from .instrument_name import name_of_file
from .oddities import Oddities, set_sizes
from .recording import Format, ReadOptions, Recording, new_ticks

MAGIC: Final = b"SCID"
_HEADER: Final = struct.Struct("<4sIIHHI36x")
_RECORD: Final = np.dtype(
    [
        ("time_us", "<i8"),  # since 1899-12-30 00:00 UTC
        ("open", "<f4"),  # of a tick: 0 or a marker
        ("high", "<f4"),  # of a tick: ask
        ("low", "<f4"),  # of a tick: bid
        ("close", "<f4"),  # the trade
        ("trades", "<u4"),
        ("volume", "<u4"),
        ("bid_volume", "<u4"),
        ("ask_volume", "<u4"),
    ]
)
_VERSION: Final = 1
_UNIX_EPOCH_US: Final = 2_209_161_600_000_000
_LAST_US: Final = _UNIX_EPOCH_US + np.iinfo(np.int64).max // NS_PER_US
# Bytes f9 9e 70 fd and 01 9f 70 fd: first and last part of a trade that the exchange reported in parts.
_FIRST_PART: Final = np.float32(-1.99900095e37)
_LAST_PART: Final = np.float32(-1.99900197e37)
_MOST_DECIMALS: Final = 9


def open_scid(path: Path, options: ReadOptions) -> Recording:
    """Open a .scid file, named like NQH25_FUT_CME.scid.

    Raises:
        DataFormatError: header or record size other than the known ones.
    """
    with path.open("rb") as file:
        content = file.read(_HEADER.size)
    if len(content) < _HEADER.size:
        raise DataFormatError(f"{path}: header has {len(content)} bytes; expected {_HEADER.size}")
    magic, header_bytes, record_bytes, version, _, _ = _HEADER.unpack(content)
    was = (magic, header_bytes, record_bytes, version)
    expected = (MAGIC, _HEADER.size, _RECORD.itemsize, _VERSION)
    if was != expected:
        raise DataFormatError(f"{path}: header (id, header size, record size, version) was {was}; expected {expected}")
    clock = FileClock.choose(options, 0, "the format is UTC")
    decode = partial(_decode, path, clock, options)
    return Recording(path, Format.SCID, str(clock), options, {name_of_file(path, options): decode})


def _decode(path: Path, clock: FileClock, options: ReadOptions, oddities: Oddities) -> Iterator[TickArray]:
    strict = options.on_error == "raise"
    for batch in read_records(str(path), _read_body(path), _RECORD, _HEADER.size, strict, oddities):
        records = batch.array.copy()
        first_part = records["open"] == _FIRST_PART
        tick = first_part | (records["open"] == _LAST_PART) | (records["open"] == 0)
        tick &= records["trades"] == 1
        batch.refuse(~tick, "one trade, its open 0 or a marker: this is a bar; record with a storage unit of 1 tick")
        sound = (records["time_us"] >= _UNIX_EPOCH_US) & (records["time_us"] <= _LAST_US)
        for name in ("high", "low", "close"):
            sound &= np.isfinite(records[name])
        batch.refuse(~sound, "a time from 1970 to 2262 and finite prices")
        records[~(tick & sound)] = 0  # refused: what is computed of them is thrown away, but must not overflow
        oddities.split_trades += int(np.count_nonzero(tick & sound & first_part))
        yield from batch.accepted(_to_ticks(records, clock, options, oddities))


def _read_body(path: Path) -> Iterator[bytes]:
    # Opened for every pass and only for reading: Sierra keeps the file open and appends to it.
    with path.open("rb") as file:
        file.seek(_HEADER.size)
        yield from iter(lambda: file.read(BLOCK_BYTES), b"")


def _to_ticks(records: npt.NDArray[np.void], clock: FileClock, options: ReadOptions, oddities: Oddities) -> TickArray:
    ticks = new_ticks(records.size)
    ticks["ts_event_ns"] = clock.to_utc_ns((records["time_us"] - _UNIX_EPOCH_US) * NS_PER_US)
    ticks["ts_recv_ns"] = ticks["ts_event_ns"]
    for name, field in (("bid", "low"), ("ask", "high"), ("last", "close")):
        prices = _shortest_decimals(records[field])
        prices = _multiply(prices, options.price_multiplier)
        if options.tick_size is not None:
            prices, off_grid = _to_grid(prices, options.tick_size)
            oddities.off_grid += off_grid
        ticks[name] = prices
    set_sizes(ticks, "last_size", records["volume"].astype(np.float64), oddities)
    ticks["flags"] = (
        TickFlag.BID
        + TickFlag.ASK
        + TickFlag.TRADE
        + (records["ask_volume"] > 0) * TickFlag.BUYER
        + (records["bid_volume"] > 0) * TickFlag.SELLER
    )
    return ticks


def _shortest_decimals(prices: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the decimal with the fewest places that is the same float32, as float64: 1.12275, not 1.12275004."""
    exact = prices.astype(np.float64)
    values = exact.copy()
    left = np.arange(prices.size)
    for decimals in range(_MOST_DECIMALS + 1):
        candidates = np.rint(exact[left] * 10.0**decimals) / 10.0**decimals
        same = candidates.astype(np.float32) == prices[left]
        values[left[same]] = candidates[same]
        left = left[~same]
        if not left.size:
            break
    return values


def _multiply(prices: npt.NDArray[np.float64], multiplier: Decimal) -> npt.NDArray[np.float64]:
    numerator, denominator = multiplier.as_integer_ratio()
    return prices * numerator / denominator


def _to_grid(prices: npt.NDArray[np.float64], tick_size: Decimal) -> tuple[npt.NDArray[np.float64], int]:
    """Round prices to the tick size (float64 nearest to the decimal); also return how many were off the grid."""
    numerator, denominator = tick_size.as_integer_ratio()
    on_grid = np.rint(prices * denominator / numerator) * numerator / denominator
    off_grid = np.abs(prices - on_grid) > np.spacing(np.abs(prices).astype(np.float32))
    return on_grid, int(np.count_nonzero(off_grid))
