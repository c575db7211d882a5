"""Which currency rates the engine has to be told: without one the loss of an account in that currency is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from msgspec import Struct

from ..messages import Hello
from ..risk import MarketContext
from .markets import Markets

_AGAIN_NS: Final = 60_000_000_000


class _Told(Struct):
    rate: Decimal
    at_ns: int


class RateNews:
    """Told at once when a route is new, then at most once a minute and only when the rate has changed: each telling is
    journaled.
    """

    def __init__(self, markets: Markets, max_age_ms: int) -> None:
        self._markets = markets
        self._max_age_ms = max_age_ms
        self._told: dict[str, _Told] = {}

    def contexts(self, adapters: Mapping[str, Hello], now_ns: int) -> tuple[MarketContext, ...]:
        """One context for each rate that is news; a stale rate is none."""
        for gone in self._told.keys() - adapters.keys():
            del self._told[gone]
        news = []
        for route, hello in adapters.items():
            context = None
            if hello.account_currency != "USD":
                context = self._markets.currency_context(hello, hello.account_currency, now_ns)
            rate = None if context is None else context.rate
            if context is None or rate is None or rate.is_stale(now_ns, self._max_age_ms):
                continue
            told = self._told.get(route)
            if told is None or (now_ns - told.at_ns >= _AGAIN_NS and told.rate != rate.value):
                self._told[route] = _Told(rate.value, now_ns)
                news.append(context)
        return tuple(news)
