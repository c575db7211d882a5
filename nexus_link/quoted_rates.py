"""Currency rates from the quotes that NEXUS reads anyway: pairs, and B3's dollar futures for the real."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.instruments.currency import Rate, live_rate
from ..core.instruments.refusals import RateRefused

if TYPE_CHECKING:
    from .market_view import Quote
    from .sizing import InstrumentTable


def rate_of_quote(quote: Quote, instruments: InstrumentTable, max_age_ns: int) -> Rate | None:
    """The rate in a quote; None when its symbol is no rate, or the quote is stale, one-sided, crossed or too wide.

    What is refused here leaves the older rate to age, and in the end to refuse a size.
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
