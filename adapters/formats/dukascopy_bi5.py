"""Dukascopy's hourly .bi5: LZMA-compressed big-endian records of 20 bytes, ask before bid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from ...core.errors import DataFormatError
from ...shm.durations import NS_PER_MS
from ...shm.tick import TickArray, TickFlag
from .binary_records import read_records
from .byte_blocks import read_lzma_blocks
from .file_clock import FileClock, ns_of
from .instrument_name import name_of_file
from .oddities import Oddities
from .recording import Format, ReadOptions, Recording, new_ticks

_RECORD: Final = np.dtype(
    [
        ("ms", ">u4"),  # in the hour
        ("ask", ">u4"),  # price x 10**decimals
        ("bid", ">u4"),
        ("ask_size", ">f4"),  # millions of the base currency
        ("bid_size", ">f4"),
    ]
)
_MS_PER_HOUR: Final = 3_600_000
_NAMED: Final = re.compile(r"([A-Za-z0-9]+)_(\d{4})-(\d\d)-(\d\d)_(\d\d)h_ticks\.bi5")
_VENDOR: Final = re.compile(r"([A-Za-z0-9]+)/(\d{4})/(\d\d)/(\d\d)/(\d\d)h_ticks\.bi5")
# What the vendor divides by is not in the file. Other instruments (indices, exotic pairs) must say it themselves.
_FIVE_DECIMALS: Final = {"EUR", "USD", "GBP", "CHF", "AUD", "NZD", "CAD"}
_THREE_DECIMALS: Final = {"JPY", "XAU", "XAG"}


def open_dukascopy_bi5(path: Path, options: ReadOptions) -> Recording:
    """Open one hour of quotes. An empty file is an hour without ticks.

    The hour is in the name (EURUSD_2019-02-04_10h_ticks.bi5), in the vendor's own path, whose month counts from zero
    (EURUSD/2019/01/04/10h_ticks.bi5), or given as `options.base`.

    Raises:
        DataFormatError: the hour or the decimals of the prices can be told neither from the name nor the options.
    """
    clock = FileClock.choose(options, 0, "the format is UTC")
    vendor = _VENDOR.fullmatch("/".join(path.parts[-5:]))
    instrument = name_of_file(path, options, vendor[1] if vendor else None)
    if path.stat().st_size == 0:
        return Recording(path, Format.DUKASCOPY_BI5, str(clock), options, {instrument: lambda _: iter(())})
    base_ns = ns_of(_hour_of(path, options))
    decimals = _decimals_of(path, instrument.contract, options)
    decode = partial(_decode, path, base_ns, decimals, clock, options)
    return Recording(path, Format.DUKASCOPY_BI5, str(clock), options, {instrument: decode})


def _hour_of(path: Path, options: ReadOptions) -> datetime:
    if options.base is not None:
        return options.base
    try:
        if named := _NAMED.fullmatch(path.name):
            return datetime(int(named[2]), int(named[3]), int(named[4]), int(named[5]))
        if vendor := _VENDOR.fullmatch("/".join(path.parts[-5:])):
            return datetime(int(vendor[2]), int(vendor[3]) + 1, int(vendor[4]), int(vendor[5]))
    except ValueError as error:
        raise DataFormatError(f"{path}: its name tells no hour that exists: {error}") from error
    raise DataFormatError(f"{path}: its name tells no hour; name it like EURUSD_2019-02-04_10h_ticks.bi5 or give base=")


def _decimals_of(path: Path, contract: str, options: ReadOptions) -> int:
    if options.price_decimals is not None:
        return options.price_decimals
    currencies = {contract[:3], contract[3:]}
    if currencies <= _FIVE_DECIMALS:
        return 5
    if currencies <= _FIVE_DECIMALS | _THREE_DECIMALS:
        return 3
    raise DataFormatError(f"{path}: the decimals of {contract}'s integer prices are not known; give price_decimals=")


def _decode(
    path: Path, base_ns: int, decimals: int, clock: FileClock, options: ReadOptions, oddities: Oddities
) -> Iterator[TickArray]:
    strict = options.on_error == "raise"
    for batch in read_records(str(path), read_lzma_blocks(path), _RECORD, 0, strict, oddities):
        records = batch.array
        sound = (records["ms"] < _MS_PER_HOUR) & (records["ask_size"] >= 0) & (records["bid_size"] >= 0)
        sound &= np.isfinite(records["ask_size"]) & np.isfinite(records["bid_size"])
        batch.refuse(~sound, f"ms below {_MS_PER_HOUR} and finite sizes from 0")
        ticks = new_ticks(records.size)
        ticks["ts_event_ns"] = clock.to_utc_ns(base_ns + records["ms"].astype(np.int64) * NS_PER_MS)
        ticks["ts_recv_ns"] = ticks["ts_event_ns"]
        for side in ("bid", "ask"):
            ticks[side] = records[side] / float(10**decimals)
            ticks[f"{side}_size"] = records[f"{side}_size"]
        ticks["flags"] = TickFlag.BID | TickFlag.ASK
        yield from batch.accepted(ticks)
