"""Currency rates from the quotes that NEXUS reads anyway: pairs, and B3's dollar futures for the real."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..core.instruments.currency import Rate, live_rate
from ..core.instruments.refusals import RateRefused

if TYPE_CHECKING:
    from .market_view import Quote
    from .sizing import InstrumentTable

_REAIS_PER_1000_DOLLARS: Final = ("WDO", "DOL")


def rate_of_quote(quote: Quote, instruments: InstrumentTable, max_age_ns: int) -> Rate | None:
    """The rate in a quote; None when its symbol is no rate, or the quote is stale, one-sided, crossed or too wide.

    What is refused here leaves the older rate to age, and in the end to refuse a size.
    """
    if quote.symbol in _REAIS_PER_1000_DOLLARS:
        base, counter, divisor = "USD", "BRL", 1000
    elif quote.symbol in instruments and instruments[quote.symbol].kind == "fx":
        base, counter, divisor = quote.symbol[:3], quote.symbol[3:], 1
    else:
        return None
    if quote.is_stale:
        return None
    source = f"{quote.platform} {quote.symbol}"
    try:
        return live_rate(base, counter, quote.bid, quote.ask, source, quote.ts_recv_ns, max_age_ns, divisor)
    except RateRefused:
        return None
