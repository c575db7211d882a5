"""Recorded order-book feed: each line the receive time in ns, a space, the exchange's JSON message.

Best bid/ask changes and trades become ticks. Depth changes and book snapshots are read for their order and their
chain, and counted; a 64-byte tick has no place for them. `ts_event_ns` is the exchange's transaction time `T`,
`ts_recv_ns` the recorded receive time, by another clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec
import numpy as np

from ...core.errors import DataFormatError
from ...shm.durations import NS_PER_MS
from ...shm.tick import TICK_DTYPE, TickArray, TickFlag
from .batch import report_broken
from .byte_blocks import read_blocks, split_whole_lines
from .file_clock import FileClock
from .instrument_name import guess_instrument
from .oddities import EXACT_SIZE_LIMIT, Oddities
from .recording import CHUNK_TICKS, Format, Instrument, ReadOptions, Recording

_Ms: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=9_223_372_036_854)]
_LAST_NS: Final = np.iinfo(np.int64).max
_LINE_SHOWN: Final = 120


class _BestQuote(msgspec.Struct, tag_field="e", tag="bookTicker"):
    symbol: str = msgspec.field(name="s")
    pair: str = msgspec.field(name="ps")
    transacted_ms: _Ms = msgspec.field(name="T")
    bid: float = msgspec.field(name="b")
    bid_size: float = msgspec.field(name="B")
    ask: float = msgspec.field(name="a")
    ask_size: float = msgspec.field(name="A")


class _Trade(msgspec.Struct, tag_field="e", tag="trade"):
    symbol: str = msgspec.field(name="s")
    transacted_ms: _Ms = msgspec.field(name="T")
    price: float = msgspec.field(name="p")
    size: float = msgspec.field(name="q")
    buyer_waited: bool = msgspec.field(name="m")  # the buyer's order was in the book: the seller was the aggressor
    pair: str = msgspec.field(name="ps", default="")


class _DepthChange(msgspec.Struct, tag_field="e", tag="depthUpdate"):
    symbol: str = msgspec.field(name="s")
    pair: str = msgspec.field(name="ps")
    transacted_ms: _Ms = msgspec.field(name="T")
    last_id: int = msgspec.field(name="u")
    previous_last_id: int = msgspec.field(name="pu")


class _Message(msgspec.Struct):
    """One line's JSON: a message of a stream, or a book snapshot, which has no stream."""

    data: _BestQuote | _Trade | _DepthChange | None = None
    snapshot_id: int | None = msgspec.field(name="lastUpdateId", default=None)


# Prices and sizes are strings in this feed; lax decoding turns them into the nearest float64.
_DECODER: Final = msgspec.json.Decoder(_Message, strict=False)


def open_depth_feed(path: Path, options: ReadOptions) -> Recording:
    """Open a recorded feed of one symbol, plain or gzip. The instrument is the one its first message names.

    Raises:
        DataFormatError: no message names a symbol.
    """
    clock = FileClock.choose(options, 0, "the format is UTC")
    symbol, instrument = _instrument_of(path, options)
    decode = partial(_decode, path, symbol, clock, options)
    return Recording(path, Format.DEPTH_FEED, str(clock), options, {instrument: decode})


def _instrument_of(path: Path, options: ReadOptions) -> tuple[str, Instrument]:
    for block in split_whole_lines(str(path), read_blocks(path), Oddities()):
        for line in block.splitlines():
            try:
                _, message = _parse(line)
            except ValueError:
                continue  # named with its position when the file is decoded
            if message.data is not None:
                symbol = message.data.symbol
                if options.contract is not None:
                    return symbol, guess_instrument(options.contract)
                return symbol, Instrument(symbol.upper(), (message.data.pair or symbol).upper())
    raise DataFormatError(f"{path}: no message names a symbol; expected lines of receive time and JSON")


def _parse(line: bytes) -> tuple[int, _Message]:
    """Return receive time (ns) and message of a line. Raises ValueError; msgspec's errors are of that type."""
    stamp, space, text = line.partition(b" ")
    if not (space and stamp.isdigit() and int(stamp) <= _LAST_NS):
        raise ValueError("expected the receive time in ns, a space and a JSON object")
    message = _DECODER.decode(text)
    if message.data is None and message.snapshot_id is None:
        raise ValueError("expected a stream's message or a book snapshot")
    return int(stamp), message


class _Feed:
    """The state that is kept from message to message."""

    def __init__(self, symbol: str, oddities: Oddities) -> None:
        self._symbol = symbol
        self._oddities = oddities
        self._newest_ms = -1  # transaction time of the message before
        self._chain_id = -1

    def to_row(self, line: bytes) -> tuple[object, ...] | None:
        """Return the line's tick as a row of TICK_DTYPE; None if it is no tick. Raises ValueError."""
        received_ns, message = _parse(line)
        data = message.data
        if data is None:
            self._oddities.other_messages += 1
            return None
        if data.symbol != self._symbol:
            raise ValueError(f"symbol was {data.symbol!r}; the file began with {self._symbol!r}, and holds one only")
        row = None
        match data:
            case _DepthChange():
                self._follow_chain(data)
            case _BestQuote():
                row = self._quote_row(data, received_ns)
            case _Trade():
                row = self._trade_row(data, received_ns)
        if data.transacted_ms < self._newest_ms:
            self._oddities.messages_stepped_back += 1
        self._newest_ms = data.transacted_ms
        return row

    def _follow_chain(self, change: _DepthChange) -> None:
        self._oddities.other_messages += 1
        if self._chain_id >= 0 and change.previous_last_id != self._chain_id:
            self._oddities.broken_chains += 1
        self._chain_id = change.last_id

    def _quote_row(self, quote: _BestQuote, received_ns: int) -> tuple[object, ...]:
        self._check(quote.bid, quote.ask, quote.bid_size, quote.ask_size)
        prices = (quote.bid, quote.ask, np.nan, quote.bid_size, quote.ask_size, np.nan)
        flags = TickFlag.BID | TickFlag.ASK
        return (0, quote.transacted_ms * NS_PER_MS, received_ns, *prices, 0, 0, flags)

    def _trade_row(self, trade: _Trade, received_ns: int) -> tuple[object, ...]:
        self._check(trade.price, trade.size)
        prices = (np.nan, np.nan, trade.price, np.nan, np.nan, trade.size)
        flags = TickFlag.TRADE | (TickFlag.SELLER if trade.buyer_waited else TickFlag.BUYER)
        return (0, trade.transacted_ms * NS_PER_MS, received_ns, *prices, 0, 0, flags)

    def _check(self, *values: float) -> None:
        sizes = values[len(values) // 2 :]
        if not all(map(isfinite, values)) or min(sizes) < 0:
            raise ValueError(f"prices and sizes were {values}; they must be finite, and sizes from 0")
        self._oddities.sizes_inexact += sum(size > EXACT_SIZE_LIMIT for size in sizes)


def _decode(path: Path, symbol: str, clock: FileClock, options: ReadOptions, oddities: Oddities) -> Iterator[TickArray]:
    strict = options.on_error == "raise"
    feed = _Feed(symbol, oddities)
    rows: list[tuple[object, ...]] = []
    number, position = 0, 0
    for block in split_whole_lines(str(path), read_blocks(path), oddities):
        for line in block.splitlines(keepends=True):
            number += 1
            try:
                row = feed.to_row(line)
            except ValueError as error:
                text = f"{path}: line {number} (byte {position} of the text): was {line[:_LINE_SHOWN]!r}: {error}"
                if strict and rows:
                    yield _to_ticks(rows, clock)
                report_broken(text, strict, oddities)
            else:
                if row is not None:
                    rows.append(row)
            position += len(line)
            if len(rows) == CHUNK_TICKS:
                yield _to_ticks(rows, clock)
                rows = []
        if rows:
            yield _to_ticks(rows, clock)
            rows = []


def _to_ticks(rows: list[tuple[object, ...]], clock: FileClock) -> TickArray:
    ticks = np.array(rows, TICK_DTYPE)
    ticks["ts_event_ns"] = clock.to_utc_ns(ticks["ts_event_ns"])
    return ticks
