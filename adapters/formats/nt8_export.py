"""NinjaTrader 8 tick export: semicolons, no header, UTC.

Two forms of ticks: `yyyyMMdd HHmmss fffffff;last;bid;ask;volume`, and `yyyyMMdd HHmmss fffffff;price;volume` in files
named .Last, .Bid or .Ask; older exports have no fraction of a second. Bars look alike and are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ...core.errors import DataFormatError
from ...shm.durations import NS_PER_S
from ...shm.tick import TickArray, TickFlag
from .byte_blocks import read_blocks, read_first_line
from .civil_time import date_ns
from .delimited import Column, Rows, Table
from .file_clock import FileClock
from .instrument_name import name_of_nt8_file
from .oddities import Oddities, set_sizes
from .recording import Format, ReadOptions, Recording, new_ticks

FIRST_LINE: Final = re.compile(r"\d{8}( \d{6}( \d{7})?)?((?:;[^;]*)+)")
_QUOTED_TRADE: Final = ("last", "bid", "ask", "volume")
_ONE_SIDE: Final = ("price", "volume")
_BAR_VALUES: Final = 5
_NS_PER_STEP: Final = 100
_SIDE_NAMED: Final = re.compile(r"\.(last|bid|ask)\.", re.IGNORECASE)
_FLAGS: Final = {"last": TickFlag.TRADE, "bid": TickFlag.BID, "ask": TickFlag.ASK}


def open_nt8_export(path: Path, options: ReadOptions) -> Recording:
    """Open a tick export, named like "NQ 03-20.Last.txt".

    Raises:
        DataFormatError: the first line is a bar, or no NinjaTrader tick.
    """
    clock = FileClock.choose(options, 0, "documented: NinjaTrader exports UTC")
    has_fraction, values = _form_of(path)
    first = 3 if has_fraction else 2  # column of the first value
    columns = [
        Column("yyyyMMdd", " "),
        *((Column("HHmmss", " "), Column("fffffff", ";")) if has_fraction else (Column("HHmmss", ";"),)),
        *(Column(name, ";") for name in values[:-1]),
        Column(values[-1], "\n"),
    ]
    named = _SIDE_NAMED.search(path.name)
    side = named[1].lower() if named else "last"

    def decode(oddities: Oddities) -> Iterator[TickArray]:
        table = Table(str(path), columns, None, options.on_error == "raise", oddities)
        for rows in table.read(read_blocks(path)):
            ticks = new_ticks(len(rows))
            ticks["ts_event_ns"] = ticks["ts_recv_ns"] = clock.to_utc_ns(_file_ns(rows, has_fraction))
            if values == _QUOTED_TRADE:
                for column, name in enumerate(("last", "bid", "ask"), first):
                    ticks[name] = rows.decimals(column)
                set_sizes(ticks, "last_size", rows.sizes(first + 3), oddities)
                ticks["flags"] = TickFlag.TRADE | TickFlag.BID | TickFlag.ASK
            else:
                ticks[side] = rows.decimals(first)
                set_sizes(ticks, f"{side}_size", rows.sizes(first + 1), oddities)
                ticks["flags"] = _FLAGS[side]
            yield from rows.accepted(ticks)

    return Recording(path, Format.NT8_TICKS, str(clock), options, {name_of_nt8_file(path, options): decode})


def _form_of(path: Path) -> tuple[bool, tuple[str, ...]]:
    """Return whether times have a fraction, and the names of the values behind them."""
    line = read_first_line(path)
    found = FIRST_LINE.fullmatch(line)
    if found is None:
        raise DataFormatError(f"{path}: line 1: was {line!r}; expected yyyyMMdd HHmmss fffffff;last;bid;ask;volume")
    count = found[3].count(";")
    if found[1] is None or count == _BAR_VALUES:
        kind = "minute" if found[1] else "day"
        raise DataFormatError(f"{path}: line 1: was {line!r}: {kind} bars, no ticks; export with interval 'tick'")
    for values in (_QUOTED_TRADE, _ONE_SIDE):
        if count == len(values):
            return found[2] is not None, values
    raise DataFormatError(
        f"{path}: line 1: was {line!r} with {count} values; a tick has {len(_QUOTED_TRADE)} (last;bid;ask;volume) or"
        f" {len(_ONE_SIDE)} (price;volume)"
    )


def _file_ns(rows: Rows, has_fraction: bool) -> npt.NDArray[np.int64]:
    days = rows.integers(0, 0, 99_991_231)
    dates = date_ns(rows, days // 10_000, days // 100 % 100, days % 100)
    times = rows.integers(1, 0, 235_959)
    hours, minutes, seconds = times // 10_000, times // 100 % 100, times % 100
    rows.refuse((minutes > 59) | (seconds > 59), "a time of day as HHmmss")
    file_ns = dates + ((hours * 60 + minutes) * 60 + seconds) * NS_PER_S
    if has_fraction:
        file_ns += rows.integers(2, 0, NS_PER_S // _NS_PER_STEP - 1) * _NS_PER_STEP
    return file_ns
