"""Position sizing: lots from risk per trade, stop distance, point value and currency, floored to the lot step.

All arithmetic is decimal and exact. A size that cannot be computed is refused with a code and the numbers: a missing
rate is never taken as 1:1, and a size below the minimum is never rounded up. Currency rates come from quotes that NEXUS
reads anyway: currency pairs, and B3's dollar futures for the real.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from ..core.errors import GatewayError
from ..core.instruments.catalog import Catalog, Instrument
from ..core.instruments.currency import CurrencyConverter, Rate, live_rate
from ..core.instruments.money import Money
from ..core.instruments.refusals import RATE_STALE, InstrumentRefused, RateRefused
from ..core.messages import RejectCode

if TYPE_CHECKING:
    from .market_view import Quote

_REAIS_PER_1000_DOLLARS: Final = ("WDO", "DOL")
_CENT: Final = Decimal("0.01")


class SizingRefused(GatewayError):
    """No size can be computed. `code` as in a reject; the text has the numbers and the cure."""

    def __init__(self, code: RejectCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Sizing(Struct, frozen=True, kw_only=True):
    """A size, and the figures that it was computed from.

    Attributes:
        lots: a multiple of the lot step, at least the instrument's minimum.
        risk_usd: loss of those lots over the stop distance; at most the budget.
        risk_per_lot_usd: the same for one lot.
        instrument: symbol that is traded, which may be a stand-in for the one asked for.
        rates: currency rates that were used; empty for USD.
    """

    lots: Decimal
    risk_usd: Decimal
    risk_per_lot_usd: Decimal
    instrument: str
    rates: tuple[Rate, ...]


def size_position(
    risk_usd: Decimal,
    stop_distance: Decimal,
    instrument: Instrument,
    rates: CurrencyConverter,
    now_ns: int,
    max_lots: Decimal | None = None,
) -> Sizing:
    """The largest size that loses at most `risk_usd` when the price moves `stop_distance` points against it.

    Args:
        now_ns: UTC ns; the age of a rate is measured against it.
        max_lots: largest size; None = no bound.

    Raises:
        SizingRefused: risk_not_measurable (distance, budget or bound is no Decimal above zero, or the distance is
            below one tick), stale_rate (the currency's rate is stale or missing), size_below_lot (the minimum size
            risks more than the budget, or is above `max_lots`).
    """
    for name, value in (("risk_usd", risk_usd), ("stop_distance", stop_distance), ("max_lots", max_lots)):
        if name == "max_lots" and value is None:
            continue
        if not isinstance(value, Decimal) or not value.is_finite() or value <= 0:
            raise SizingRefused(
                RejectCode.RISK_NOT_MEASURABLE, f"{name} was {value!r}, must be a Decimal above 0; correct it"
            )
    if stop_distance < instrument.tick:
        raise SizingRefused(
            RejectCode.RISK_NOT_MEASURABLE,
            f"stop_distance was {stop_distance}, one tick of {instrument.symbol} is {instrument.tick}: no stop can lie "
            "there, and a size by it would be without bound; use a wider stop",
        )
    per_lot = Money(stop_distance * instrument.point_value, instrument.currency)
    try:
        conversion = rates.convert(per_lot, "USD", now_ns)
    except RateRefused as refusal:
        what = "stale" if refusal.code == RATE_STALE else "missing"
        raise SizingRefused(
            RejectCode.STALE_RATE, f"{instrument.symbol} is in {instrument.currency}, whose rate is {what}: {refusal}"
        ) from refusal
    assert conversion.amount is not None  # `convert` refuses what has none
    per_lot_usd = conversion.amount.amount
    lots = (risk_usd / per_lot_usd / instrument.lot_step).to_integral_value(ROUND_FLOOR) * instrument.lot_step
    if lots * per_lot_usd > risk_usd:
        lots -= instrument.lot_step  # a quotient of 28 digits can be rounded up to the next step
    if max_lots is not None and lots > max_lots:
        lots = (max_lots / instrument.lot_step).to_integral_value(ROUND_FLOOR) * instrument.lot_step
    if lots < instrument.min_lots:
        least = instrument.min_lots * per_lot_usd
        raise SizingRefused(
            RejectCode.SIZE_BELOW_LOT,
            f"{instrument.min_lots} lots of {instrument.symbol} risk {least.quantize(_CENT)} USD over {stop_distance} "
            f"points ({per_lot} a lot), the budget is {risk_usd} USD and at most {max_lots or 'any'} lots; use a "
            "nearer stop, a smaller contract, or more risk",
        )
    return Sizing(
        lots=lots,
        risk_usd=lots * per_lot_usd,
        risk_per_lot_usd=per_lot_usd,
        instrument=instrument.symbol,
        rates=conversion.rates,
    )


class InstrumentTable:
    """The instrument that is traded on each platform for a universal symbol: its own, or its stand-in."""

    def __init__(
        self,
        catalog: Catalog,
        platform_symbols: Mapping[str, tuple[str, ...]],
        stand_ins: Mapping[str, Mapping[str, str]],
    ) -> None:
        """`platform_symbols` and `stand_ins` must be those of the gateway's configuration, or sizes are for another
        instrument than the one that trades.
        """
        self._catalog = catalog
        self._platform_symbols = platform_symbols
        self._stand_ins = stand_ins

    def traded(self, platform: str, symbol: str) -> str:
        """The universal name of the instrument that is traded, and quoted in the platform's ring."""
        if symbol in self._platform_symbols.get(platform, ()):
            return symbol
        return self._stand_ins.get(platform, {}).get(symbol, symbol)

    def require(self, platform: str, symbol: str) -> Instrument:
        """The instrument that is traded. Raises SizingRefused if the catalog does not have it, nor its point value."""
        try:
            return self._catalog.require(self.traded(platform, symbol))
        except InstrumentRefused as refusal:
            raise SizingRefused(RejectCode.RISK_NOT_MEASURABLE, f"{platform}: {refusal}") from refusal

    def rate_pair(self, symbol: str) -> tuple[str, str, int] | None:
        """(base, quote currency, divisor) when a symbol's price is a currency rate, else None."""
        if symbol in _REAIS_PER_1000_DOLLARS:
            return "USD", "BRL", 1000
        if symbol in self._catalog and self._catalog[symbol].kind == "fx":
            return symbol[:3], symbol[3:], 1
        return None

    def rate_symbols(self) -> tuple[str, ...]:
        """Every symbol of the platforms whose price is a currency rate."""
        symbols = dict.fromkeys(symbol for listed in self._platform_symbols.values() for symbol in listed)
        return tuple(symbol for symbol in symbols if self.rate_pair(symbol) is not None)


def rate_of_quote(quote: Quote, instruments: InstrumentTable, max_age_ns: int) -> Rate | None:
    """The rate in a quote; None when its symbol is no rate, or the quote is stale, one-sided, crossed or too wide.

    The caller then keeps the older rate, whose age limit in the end refuses a size.
    """
    pair = instruments.rate_pair(quote.symbol)
    if pair is None or quote.is_stale:
        return None
    base, counter, divisor = pair
    source = f"{quote.platform} {quote.symbol}"
    try:
        return live_rate(base, counter, quote.bid, quote.ask, source, quote.ts_recv_ns, max_age_ns, divisor)
    except RateRefused:
        return None
