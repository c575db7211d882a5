"""Dukascopy quotes as CSV: `MM/dd/yyyy HH:mm:ss.fff,bid,ask`, no header, fixed UTC-5; plain or gzip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...shm.tick import TickArray, TickFlag
from .byte_blocks import read_blocks
from .civil_time import FIRST_YEAR, LAST_YEAR, date_ns, time_ns
from .delimited import Column, Table
from .file_clock import FileClock
from .instrument_name import name_of_file
from .oddities import Oddities
from .recording import Format, ReadOptions, Recording, new_ticks

_COLUMNS: Final = (
    Column("month", "/"),
    Column("day", "/"),
    Column("year", " "),
    Column("hour", ":"),
    Column("minute", ":"),
    Column("second", ","),
    Column("bid", ","),
    Column("ask", "\n"),
)
_UTC_MINUS_5_S: Final = 18_000


def open_dukascopy_csv(path: Path, options: ReadOptions) -> Recording:
    """Open a quote CSV, named like DC_EURUSD_20200106_EST.csv.gz."""
    clock = FileClock.choose(options, _UTC_MINUS_5_S, "documented: New York winter time")

    def decode(oddities: Oddities) -> Iterator[TickArray]:
        table = Table(str(path), _COLUMNS, None, options.on_error == "raise", oddities)
        for rows in table.read(read_blocks(path)):
            years = rows.integers(2, FIRST_YEAR, LAST_YEAR)
            dates = date_ns(rows, years, rows.integers(0, 1, 12), rows.integers(1, 1, 31))
            ticks = new_ticks(len(rows))
            ticks["ts_event_ns"] = ticks["ts_recv_ns"] = clock.to_utc_ns(dates + time_ns(rows, 3, 4, 5))
            ticks["bid"] = rows.decimals(6)
            ticks["ask"] = rows.decimals(7)
            ticks["flags"] = TickFlag.BID | TickFlag.ASK
            yield from rows.accepted(ticks)

    instrument = name_of_file(path, options, path.name.removeprefix("DC_"))
    return Recording(path, Format.DUKASCOPY_CSV, str(clock), options, {instrument: decode})
