"""MetaTrader 5 tick export: tab-separated text with a header; blank = unchanged; the trade server's clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from ...shm.tick import TickArray, TickFlag
from .byte_blocks import read_blocks
from .civil_time import FIRST_YEAR, LAST_YEAR, date_ns, time_ns
from .delimited import Column, Kind, Rows, Table
from .file_clock import FileClock
from .instrument_name import name_of_file
from .oddities import Oddities, set_sizes
from .recording import Format, ReadOptions, Recording, new_ticks

HEADER: Final = "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>"
_COLUMNS: Final = (
    Column("year", "."),
    Column("month", "."),
    Column("day", "\t"),
    Column("hour", ":"),
    Column("minute", ":"),
    Column("second", "\t"),
    Column("<BID>", "\t", Kind.OPTIONAL),
    Column("<ASK>", "\t", Kind.OPTIONAL),
    Column("<LAST>", "\t", Kind.OPTIONAL),
    Column("<VOLUME>", "\t", Kind.OPTIONAL),
    Column("<FLAGS>", "\n"),
)
# MetaTrader's TICK_FLAG_*. Real feeds set further, undocumented bits: test with &, never with ==.
_BID, _ASK, _LAST, _VOLUME, _BUY, _SELL = 2, 4, 8, 16, 32, 64
_MAX_FLAGS: Final = 0xFFFF_FFFF


def open_mt5_export(path: Path, options: ReadOptions) -> Recording:
    """Open a tick export, named like EURUSD_202001060000_202001062359.csv.

    The file does not say which clock the trade server has: without `add_s` or `zone` its times are taken as UTC and
    `Recording.clock` says so. Servers on UTC+2, in American summer time UTC+3, are always seven hours ahead of New
    York: `add_s=-25200, zone="America/New_York"`.
    """
    clock = FileClock.choose(options, 0, "assumed: the export does not tell the server's clock")

    def decode(oddities: Oddities) -> Iterator[TickArray]:
        table = Table(str(path), _COLUMNS, HEADER, options.on_error == "raise", oddities)
        for rows in table.read(read_blocks(path)):
            years = rows.integers(0, FIRST_YEAR, LAST_YEAR)
            dates = date_ns(rows, years, rows.integers(1, 1, 12), rows.integers(2, 1, 31))
            ticks = new_ticks(len(rows))
            ticks["ts_event_ns"] = ticks["ts_recv_ns"] = clock.to_utc_ns(dates + time_ns(rows, 3, 4, 5))
            _set_sides(ticks, rows, oddities)
            yield from rows.accepted(ticks)

    return Recording(path, Format.MT5_TICKS, str(clock), options, {name_of_file(path, options): decode})


def _set_sides(ticks: TickArray, rows: Rows, oddities: Oddities) -> None:
    marks = rows.integers(10, 0, _MAX_FLAGS)
    ticks["bid"], ticks["ask"] = rows.decimals(6), rows.decimals(7)
    bid = (marks & _BID != 0) & ~rows.blank(6)
    ask = (marks & _ASK != 0) & ~rows.blank(7)
    # A trade at the same price or of the same size as the one before has only the other bits.
    traded = marks & (_LAST | _VOLUME | _BUY | _SELL) != 0
    trade = traded & ~rows.blank(8)
    # Without a trade LAST and VOLUME are blank or zero, and zero is no price.
    ticks["last"] = np.where(trade, rows.decimals(8), np.nan)
    set_sizes(ticks, "last_size", np.where(trade, rows.sizes(9), np.nan), oddities)
    ticks["flags"] = (
        bid * TickFlag.BID
        + ask * TickFlag.ASK
        + trade * TickFlag.TRADE
        + (trade & (marks & _BUY != 0)) * TickFlag.BUYER
        + (trade & (marks & _SELL != 0)) * TickFlag.SELLER
    )
    without_value = (marks & _BID != 0) & ~bid | (marks & _ASK != 0) & ~ask | traded & ~trade
    oddities.flags_without_value += int(np.count_nonzero(without_value))
