"""Currency rates that the engine needs: without one the day's loss of an account in that currency is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from msgspec import Struct

from ..messages import Hello
from ..risk import MarketContext
from .markets import Markets

_REPEAT_NS: Final = 60_000_000_000


class _Given(Struct):
    rate: Decimal
    at_ns: int


class RateUpdates:
    """Decides when the engine is given an account's currency rate: at once for a new route, then at most once a minute
    and only when the rate has changed, since each update is an event of the journal.
    """

    def __init__(self, markets: Markets, max_age_ms: int) -> None:
        self._markets = markets
        self._max_age_ms = max_age_ms
        self._given: dict[str, _Given] = {}

    def due(self, adapters: Mapping[str, Hello], now_ns: int) -> tuple[MarketContext, ...]:
        """Return one context for each rate to be given now; a stale rate is never given."""
        for gone in self._given.keys() - adapters.keys():
            del self._given[gone]
        updates = []
        for route, hello in adapters.items():
            context = None
            if hello.account_currency != "USD":
                context = self._markets.currency_context(hello, hello.account_currency, now_ns)
            rate = None if context is None else context.rate
            if context is None or rate is None or rate.is_stale(now_ns, self._max_age_ms):
                continue
            given = self._given.get(route)
            if given is None or (abs(now_ns - given.at_ns) >= _REPEAT_NS and given.rate != rate.value):
                self._given[route] = _Given(rate.value, now_ns)
                updates.append(context)
        return tuple(updates)
