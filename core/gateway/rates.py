"""USD rates: from the platforms' quotes (currency pairs, and B3's dollar future for the real), from a file of daily
reference rates, and from the configuration. The first of these that is fresh is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from msgspec import Struct

from ...shm.durations import NS_PER_MS, NS_PER_S
from ..errors import ConfigError, DataFormatError
from ..instruments.catalog import Catalog
from ..instruments.currency import CurrencyConverter, Rate, live_rate
from ..instruments.money import Money
from ..instruments.rate_history import RateHistory
from ..instruments.refusals import RateRefused
from ..logs import Log
from ..risk import UsdRate
from .quotes import QuoteBoards

_REAIS_PER_1000_DOLLARS: Final = ("WDO", "DOL")
_CONFIGURED_RANK: Final = 2
_RATE_STEP: Final = Decimal("1E-10")
_FILE_CHECK_NS: Final = 60 * NS_PER_S
_FOREVER_NS: Final = (1 << 63) - 1
"""Age limit of a rate from the configuration: it was fixed on purpose, so it does not age."""


class _Source(Struct, frozen=True):
    platform: str
    symbol: str
    base: str
    quote: str
    divisor: int


class UsdRates:
    """USD for one unit of each currency, with the rate's age. Without a rate there is no value, never 1:1."""

    def __init__(
        self,
        platforms: Mapping[str, Sequence[str]],
        catalog: Catalog,
        configured: Mapping[str, Decimal],
        max_age_ms: int,
        file: RateFile | None = None,
    ) -> None:
        """`platforms`: the symbols of each. `configured`: USD for one unit, used when no other rate is fresh."""
        self._converter = CurrencyConverter()
        self._max_age_ns = max_age_ms * NS_PER_MS
        self._file = file
        self._sources = [
            source for name, symbols in platforms.items() for source in _find_sources(name, symbols, catalog)
        ]
        for currency, rate in configured.items():
            self._converter.put(Rate(currency, "USD", rate, "configuration", 0, None, _CONFIGURED_RANK))

    def refresh(self, boards: QuoteBoards, now_ns: int) -> None:
        """Read the newest quotes. One without a rate (one-sided, crossed, too wide) leaves the older rate to age."""
        for source in self._sources:
            quote = boards.latest(source.platform, source.symbol, now_ns)
            if quote is None or quote.bid is None or quote.ask is None:
                continue
            try:
                rate = live_rate(
                    source.base,
                    source.quote,
                    float(quote.bid),
                    float(quote.ask),
                    f"{source.platform} {source.symbol}",
                    quote.true_ns,
                    self._max_age_ns,
                    source.divisor,
                )
            except RateRefused:
                continue
            self._converter.put(rate, now_ns)
        for rate in self._file.rates(now_ns) if self._file is not None else ():
            self._converter.put(rate, now_ns)

    def usd_rate(self, currency: str, now_ns: int) -> UsdRate | None:
        """Return USD for one unit of a currency, with time, expiry and source, even if stale; None without any rate."""
        if currency == "USD":
            return UsdRate(value=Decimal(1), true_ns=now_ns, until_ns=_FOREVER_NS)
        conversion = self._converter.convert_for_report(Money(Decimal(1), currency), "USD", now_ns)
        if conversion.amount is None:
            return None
        rates = conversion.rates
        return UsdRate(
            value=conversion.amount.amount.quantize(_RATE_STEP),
            true_ns=min(now_ns if rate.max_age_ns is None else rate.time_ns for rate in rates),
            until_ns=min(_FOREVER_NS if rate.max_age_ns is None else rate.time_ns + rate.max_age_ns for rate in rates),
            source=", ".join(dict.fromkeys(rate.source for rate in rates)),
        )


class RateFile:
    """Daily reference rates of a file, read again when it changes. The gateway's thread."""

    def __init__(self, path: Path, max_age_s: float, log: Log | None = None) -> None:
        """
        Raises:
            ConfigError: the file is wrong or missing.
        """
        self._path = path
        self._max_age_ns = int(max_age_s * NS_PER_S)
        self._log = log
        self._next_check_ns = 0
        self._stamp = self._read_stamp()
        try:
            self._history = RateHistory(path)
        except DataFormatError as error:
            raise ConfigError(f"orders.rates_file: {error}") from error

    def rates(self, now_ns: int) -> tuple[Rate, ...]:
        """Return the rates of the newest row up to today. While the file is wrong, the older rates stay and age."""
        if not 0 < self._next_check_ns - now_ns <= _FILE_CHECK_NS:  # also when the clock was set back
            self._next_check_ns = now_ns + _FILE_CHECK_NS
            self._read_again()
        try:
            return self._history.rates_on(datetime.fromtimestamp(now_ns / NS_PER_S, UTC).date(), self._max_age_ns)
        except RateRefused:
            return ()

    def _read_again(self) -> None:
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._history = RateHistory(self._path)
        except (DataFormatError, ConfigError) as error:
            if self._log is not None:
                self._log.error("file of currency rates refused, the old ones stay", reason=str(error))

    def _read_stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size


def _find_sources(platform: str, symbols: Sequence[str], catalog: Catalog) -> list[_Source]:
    sources = []
    for symbol in symbols:
        if symbol in _REAIS_PER_1000_DOLLARS:
            sources.append(_Source(platform, symbol, "USD", "BRL", 1000))
        elif symbol in catalog and catalog[symbol].kind == "fx":
            sources.append(_Source(platform, symbol, symbol[:3], symbol[3:], 1))
    return sources
