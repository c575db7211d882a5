"""USD rates from the platforms' own quotes: currency pairs, and B3's dollar future for the real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from msgspec import Struct

from ..instruments.catalog import Catalog
from ..instruments.currency import CurrencyConverter, Rate, live_rate
from ..instruments.money import Money
from ..instruments.refusals import RateRefused
from .quotes import QuoteBoards

_REAIS_PER_1000_DOLLARS: Final = ("WDO", "DOL")
_CONFIGURED_RANK: Final = 2
_RATE_STEP: Final = Decimal("1E-10")
_NS_PER_MS: Final = 1_000_000


class _Source(Struct, frozen=True):
    platform: str
    symbol: str
    base: str
    quote: str
    divisor: int


class UsdRates:
    """What one unit of each currency is worth in USD, how old that is, and never 1:1 for want of a rate."""

    def __init__(
        self,
        platforms: Mapping[str, Sequence[str]],
        catalog: Catalog,
        configured: Mapping[str, Decimal],
        max_age_ms: int,
    ) -> None:
        """`platforms`: the symbols of each. `configured`: USD for one unit; taken when no live rate is fresh."""
        self._converter = CurrencyConverter()
        self._max_age_ns = max_age_ms * _NS_PER_MS
        self._sources = [
            source for name, symbols in platforms.items() for source in _find_sources(name, symbols, catalog)
        ]
        for currency, rate in configured.items():
            self._converter.put(Rate(currency, "USD", rate, "configuration", 0, None, _CONFIGURED_RANK))

    def refresh(self, boards: QuoteBoards, now_ns: int) -> None:
        """Take in the newest quotes; one that is no rate (one-sided, crossed, too wide) leaves the older one to age."""
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
            self._converter.put(rate)

    def usd_rate(self, currency: str, now_ns: int) -> tuple[Decimal | None, int]:
        """USD for one unit of a currency and when that was true, UTC ns; None when there is no rate, stale or not."""
        if currency == "USD":
            return Decimal(1), now_ns
        conversion = self._converter.convert_for_report(Money(Decimal(1), currency), "USD", now_ns)
        if conversion.amount is None:
            return None, 0
        # A configured rate has no age: the user has fixed it on purpose.
        true_ns = min(now_ns if rate.max_age_ns is None else rate.time_ns for rate in conversion.rates)
        return conversion.amount.amount.quantize(_RATE_STEP), true_ns


def _find_sources(platform: str, symbols: Sequence[str], catalog: Catalog) -> list[_Source]:
    sources = []
    for symbol in symbols:
        if symbol in _REAIS_PER_1000_DOLLARS:
            sources.append(_Source(platform, symbol, "USD", "BRL", 1000))
        elif symbol in catalog and catalog[symbol].kind == "fx":
            sources.append(_Source(platform, symbol, symbol[:3], symbol[3:], 1))
    return sources
