"""Trades as CSV: header `epoch_ms,price,size`, UTC milliseconds; plain or gzip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...shm.durations import NS_PER_MS
from ...shm.tick import TickArray, TickFlag
from .byte_blocks import read_blocks
from .delimited import Column, Table
from .file_clock import FileClock
from .instrument_name import name_of_file
from .oddities import Oddities, set_sizes
from .recording import Format, ReadOptions, Recording, new_ticks

HEADER: Final = "epoch_ms,price,size"
_COLUMNS: Final = (Column("epoch_ms", ","), Column("price", ","), Column("size", "\n"))
_LAST_MS: Final = 9_223_372_036_854


def open_trade_csv(path: Path, options: ReadOptions) -> Recording:
    """Open a trade CSV. The contract is the file's name up to the first dot, such as NQH0.csv.gz."""
    clock = FileClock.choose(options, 0, "the format is UTC")

    def decode(oddities: Oddities) -> Iterator[TickArray]:
        table = Table(str(path), _COLUMNS, HEADER, options.on_error == "raise", oddities)
        for rows in table.read(read_blocks(path)):
            ticks = new_ticks(len(rows))
            ticks["ts_event_ns"] = clock.to_utc_ns(rows.integers(0, 0, _LAST_MS) * NS_PER_MS)
            ticks["ts_recv_ns"] = ticks["ts_event_ns"]
            ticks["last"] = rows.decimals(1)
            set_sizes(ticks, "last_size", rows.sizes(2), oddities)
            ticks["flags"] = TickFlag.TRADE
            yield from rows.accepted(ticks)

    return Recording(path, Format.TRADE_CSV, str(clock), options, {name_of_file(path, options): decode})
