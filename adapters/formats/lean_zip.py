"""Zip archives in Lean's layout: forex and CFD quotes, futures trades.

Members are CSV without header whose first column is milliseconds since the midnight of the date in the member's name,
possibly with a fraction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ...core.errors import DataFormatError
from ...core.instruments.contract_code import MONTH_LETTERS
from ...shm.durations import NS_PER_DAY
from ...shm.tick import TickArray, TickFlag
from .byte_blocks import list_members, read_member_blocks
from .delimited import Column, Kind, Rows, Table
from .file_clock import FileClock, ns_of
from .instrument_name import name_of_file
from .oddities import Oddities, set_sizes
from .recording import Decoder, Format, Instrument, ReadOptions, Recording, new_ticks, pick_contracts

QUOTE_MEMBER: Final = re.compile(r"(\d{8})_([a-z0-9]+)_tick_quote\.csv")
TRADE_MEMBER: Final = re.compile(r"(\d{8})_([a-z0-9]+)_tick_trade_(\d{4})(\d{2})\.csv")
_NS_DECIMALS_OF_MS: Final = 6
_BROKER_CLOCKS: Final = {"oanda": 0, "fxcm": 18_000}
_QUOTE_COLUMNS: Final = (Column("ms since midnight", ","), Column("bid", ","), Column("ask", "\n"))
_TRADE_COLUMNS: Final = (
    Column("ms since midnight", ","),
    Column("price", ","),
    Column("size", ","),
    Column("exchange", ",", Kind.TEXT),
    Column("condition", ",", Kind.TEXT),
    Column("suspicious", "\n"),
)


def open_quote_zip(path: Path, options: ReadOptions) -> Recording:
    """Open a day of forex or CFD quotes. The broker's clock is known for OANDA (UTC) and FXCM (fixed UTC-5)."""
    members = list_members(path)
    found = QUOTE_MEMBER.fullmatch(members[0]) if len(members) == 1 else None
    if found is None:
        raise DataFormatError(
            f"{path}: expected one member named like 20140508_eurusd_tick_quote.csv, was {', '.join(members) or 'none'}"
        )
    broker = _broker_of(path)
    known = f"documented for {broker}" if broker else "assumed: the broker is not known"
    clock = FileClock.choose(options, _BROKER_CLOCKS.get(broker, 0), known)
    instrument = name_of_file(path, options, found[2])
    decode = partial(_decode_quotes, path, members[0], _base_of(path, found[1], options), clock, options)
    return Recording(path, Format.QUOTE_ZIP, str(clock), options, {instrument: decode})


def open_futures_zip(path: Path, options: ReadOptions) -> Recording:
    """Open a day of futures trades, one member for each contract month: gc, 201312 -> GCZ13."""
    clock = FileClock.choose(options, 0, "documented: Lean's futures are UTC")
    decoders: list[tuple[Instrument, Decoder]] = []
    for member in list_members(path):
        found = TRADE_MEMBER.fullmatch(member)
        if found is None or not 1 <= int(found[4]) <= 12:
            raise DataFormatError(
                f"{path}: member was {member!r}; expected names like 20131007_gc_tick_trade_201312.csv"
            )
        root = found[2].upper()
        instrument = Instrument(f"{root}{MONTH_LETTERS[int(found[4]) - 1]}{found[3][2:]}", root)
        base_ns = _base_of(path, found[1], options)
        decoders.append((instrument, partial(_decode_trades, path, member, base_ns, clock, options)))
    return Recording(path, Format.FUTURES_ZIP, str(clock), options, pick_contracts(decoders, options, path))


def _broker_of(path: Path) -> str:
    """Broker named by the archive's name or by a folder above it, "" if none is."""
    for word in (path.name.split("_")[0], *reversed(path.parts[:-1])):
        if word.lower() in _BROKER_CLOCKS:
            return word.lower()
    return ""


def _base_of(path: Path, day: str, options: ReadOptions) -> int:
    if options.base is not None:
        return ns_of(options.base)
    try:
        return ns_of(datetime.strptime(day, "%Y%m%d"))
    except ValueError as error:
        raise DataFormatError(f"{path}: {day} in its member's name is no date") from error


def _event_ns(rows: Rows, base_ns: int, clock: FileClock) -> npt.NDArray[np.int64]:
    return clock.to_utc_ns(base_ns + rows.scaled(0, _NS_DECIMALS_OF_MS, 0, NS_PER_DAY - 1))


def _decode_quotes(
    path: Path, member: str, base_ns: int, clock: FileClock, options: ReadOptions, oddities: Oddities
) -> Iterator[TickArray]:
    table = Table(f"{path}!{member}", _QUOTE_COLUMNS, None, options.on_error == "raise", oddities)
    for rows in table.read(read_member_blocks(path, member)):
        ticks = new_ticks(len(rows))
        ticks["ts_event_ns"] = ticks["ts_recv_ns"] = _event_ns(rows, base_ns, clock)
        ticks["bid"] = rows.decimals(1)
        ticks["ask"] = rows.decimals(2)
        ticks["flags"] = TickFlag.BID | TickFlag.ASK
        yield from rows.accepted(ticks)


def _decode_trades(
    path: Path, member: str, base_ns: int, clock: FileClock, options: ReadOptions, oddities: Oddities
) -> Iterator[TickArray]:
    table = Table(f"{path}!{member}", _TRADE_COLUMNS, None, options.on_error == "raise", oddities)
    for rows in table.read(read_member_blocks(path, member)):
        ticks = new_ticks(len(rows))
        ticks["ts_event_ns"] = ticks["ts_recv_ns"] = _event_ns(rows, base_ns, clock)
        ticks["last"] = rows.decimals(1)
        set_sizes(ticks, "last_size", rows.sizes(2), oddities)
        ticks["flags"] = TickFlag.TRADE
        oddities.suspicious += int(np.count_nonzero(rows.integers(5, 0, 1)))
        yield from rows.accepted(ticks)
