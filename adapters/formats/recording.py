"""A recording: a file of real market data, read as a stream of tick arrays whatever its format.

Decoders are pure: a path in, ticks out, in bounded memory. They publish nothing and use no clock but the file's.
Symbol id and source of the ticks are given by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np

from ...core.errors import ConfigError, DataFormatError
from ...shm.tick import TICK_DTYPE, Platform, TickArray
from .merge import merge_by_time
from .oddities import Audit, Oddities

CHUNK_TICKS: Final = 16_384
"""Ticks in one array at most: 1 MB, so that a merge of many files stays small."""

_MOST_DECIMALS: Final = 9  # of a 32-bit integer price
_FURTHEST_CLOCK_S: Final = 7 * 86_400  # a file's clock is off by hours; milliseconds given as seconds are refused
_PRICES_AND_SIZES: Final = ("bid", "ask", "last", "bid_size", "ask_size", "last_size")


class Format(StrEnum):
    """File formats that can be replayed. The values are those of the configuration and the command line."""

    TRADE_CSV = "trade-csv"  # epoch_ms,price,size
    QUOTE_ZIP = "quote-zip"  # Lean forex and CFD: ms since midnight, bid, ask
    FUTURES_ZIP = "futures-zip"  # Lean futures trades, one member for each contract
    DUKASCOPY_BI5 = "dukascopy-bi5"
    DUKASCOPY_CSV = "dukascopy-csv"
    DEPTH_FEED = "depth-feed"  # receive time and the exchange's JSON message
    MT5_TICKS = "mt5-ticks"
    NT8_TICKS = "nt8-ticks"
    SCID = "scid"


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options for a file whose name and content lack information, or have it wrong. None = as in the file.

    Attributes:
        format: skip detection.
        contract: the instrument's own name, such as "NQH0" or "EURUSD", instead of the one in the file's name.
        only: contracts to read of an archive that holds several; the others are not opened.
        base: the midnight (quote zips) or full hour (bi5) that the file's milliseconds count from, in the file's
            own clock, without time zone.
        add_s: seconds to add to the file's clock to get the clock of `zone`.
        zone: IANA time zone of the file's clock once `add_s` is added; None = UTC.
        price_decimals: decimals of a bi5 file's integer prices.
        price_multiplier: what a .scid file's prices must be multiplied by, as in Sierra's symbol settings.
        tick_size: price step on which a .scid file's float32 prices lie; without it they become the shortest decimal.
        on_error: "raise" at the first broken line or damaged end, or "count" them and go on.

    Raises:
        ConfigError: an invalid value.
    """

    format: Format | None = None
    contract: str | None = None
    only: tuple[str, ...] | None = None
    base: datetime | None = None
    add_s: int | None = None
    zone: str | None = None
    price_decimals: int | None = None
    price_multiplier: Decimal = Decimal(1)
    tick_size: Decimal | None = None
    on_error: Literal["raise", "count"] = "raise"

    def __post_init__(self) -> None:
        for name in ("price_multiplier", "tick_size"):
            value: Decimal | None = getattr(self, name)
            if value is not None and not (value.is_finite() and value > 0):
                raise ConfigError(f"{name} was {value}; it must be finite and above 0")
        if self.add_s is not None and abs(self.add_s) > _FURTHEST_CLOCK_S:
            raise ConfigError(f"add_s was {self.add_s}; it must be -{_FURTHEST_CLOCK_S} to {_FURTHEST_CLOCK_S} seconds")
        if self.price_decimals is not None and not 0 <= self.price_decimals <= _MOST_DECIMALS:
            raise ConfigError(f"price_decimals was {self.price_decimals}; it must be 0 to {_MOST_DECIMALS}")
        if self.base is not None and self.base.tzinfo is not None:
            raise ConfigError(
                f"base was {self.base} with a time zone; it is in the file's own clock: leave the zone out"
            )
        if self.on_error not in ("raise", "count"):
            raise ConfigError(f"on_error was {self.on_error!r}; it must be 'raise' or 'count'")


@dataclass(frozen=True)
class Instrument:
    """The instrument of a file's ticks.

    Attributes:
        contract: the file's own name, upper case: "NQH0", "GCZ13", "XAUUSD".
        root: the universal name to expect, a guess from `contract`: "NQ", "GC", "XAUUSD".
    """

    contract: str
    root: str


Decoder: TypeAlias = Callable[[Oddities], Iterator[TickArray]]
"""One pass over one file or archive member. Yields fresh arrays of at most CHUNK_TICKS ticks in file order with
`symbol` and `source` zero and NaN in what a tick does not carry; raises DataFormatError."""


@dataclass(frozen=True)
class Recording:
    """One file that can be decoded. It holds no file handle between passes; several passes may run at once.

    Attributes:
        instruments: what the file holds; several for a futures archive only.
        clock: how the file's times become UTC, in words, for logs.
    """

    path: Path
    format: Format
    clock: str
    options: ReadOptions
    decoders: Mapping[Instrument, Decoder]

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        return tuple(self.decoders)

    def chunks(
        self,
        symbol_ids: Mapping[str, int],
        source: int = Platform.REPLAY,
        start_ns: int | None = None,
        oddities: Oddities | None = None,
    ) -> Iterator[TickArray]:
        """Decode the file from its beginning, one pass.

        Args:
            symbol_ids: symbol id for each contract in `instruments`.
            source: platform id to put into the ticks.
            start_ns: leave out the ticks before the first one with ts_recv_ns >= start_ns, UTC ns. They are decoded
                and counted in `oddities`, chunk by chunk, but not kept.
            oddities: counters to add to; they are complete when the iterator has ended.

        Yields:
            Fresh arrays of at most CHUNK_TICKS ticks (dtype TICK_DTYPE), in file order; the contracts of an archive
            merged by time. `seq` is 0. `ts_recv_ns` is the recorded receive time, or `ts_event_ns` where there is
            none. What a tick does not carry is NaN (see `carry_forward`).

        Raises:
            ValueError: a contract has no symbol id.
            DataFormatError: broken line or damaged file, when `options.on_error` is "raise"; the file's ticks before a
                broken line have been yielded.
        """
        missing = [each.contract for each in self.instruments if each.contract not in symbol_ids]
        if missing:
            raise ValueError(f"{self.path}: no symbol id for {', '.join(missing)}; give one for each contract")
        counted = Oddities() if oddities is None else oddities
        streams = [
            self._stream(decoder, symbol_ids[each.contract], source, counted) for each, decoder in self.decoders.items()
        ]
        merged = streams[0] if len(streams) == 1 else merge_by_time(streams)
        return merged if start_ns is None else _skip_before(merged, start_ns)

    def _stream(self, decoder: Decoder, symbol_id: int, source: int, oddities: Oddities) -> Iterator[TickArray]:
        audit = Audit(oddities)
        try:
            for ticks in decoder(oddities):
                ticks["symbol"] = symbol_id
                ticks["source"] = source
                audit.add(ticks)
                yield ticks
        except DataFormatError as error:
            if self.options.on_error == "raise":
                raise
            oddities.damaged_ends += 1
            oddities.add_problem(str(error))


def new_ticks(count: int) -> TickArray:
    """Fresh ticks, shape (count,): zero, with NaN in every price and size."""
    ticks = np.zeros(count, TICK_DTYPE)
    for name in _PRICES_AND_SIZES:
        ticks[name] = np.nan
    return ticks


def _skip_before(chunks: Iterator[TickArray], start_ns: int) -> Iterator[TickArray]:
    """Leave out everything before the first tick at or after `start_ns`; later steps back in time stay in."""
    for ticks in chunks:
        reached = ticks["ts_recv_ns"] >= start_ns
        if reached.any():
            yield ticks[int(reached.argmax()) :]
            break
    yield from chunks


def pick_contracts(
    decoders: Sequence[tuple[Instrument, Decoder]], options: ReadOptions, path: Path
) -> dict[Instrument, Decoder]:
    """Reduce an archive to `options.only`. Raises DataFormatError for a contract that the archive does not hold."""
    by_contract = {instrument.contract: (instrument, decoder) for instrument, decoder in decoders}
    if options.only is None:
        return dict(decoders)
    unknown = [each for each in options.only if each not in by_contract]
    if unknown:
        raise DataFormatError(f"{path}: holds no contract {', '.join(unknown)}; it has {', '.join(by_contract)}")
    return dict(by_contract[each] for each in options.only)
