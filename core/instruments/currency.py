"""Currency conversion with rates that carry their source and age.

`convert` is for risk and sizing: it refuses a missing or stale rate. `convert_for_report` always returns a result and
flags a stale or missing rate; a missing one gives no amount. Neither ever assumes 1:1.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, localcontext
from typing import Literal

import msgspec

from ...shm.durations import NS_PER_S
from .money import Money
from .price_grid import decimal_of_float
from .refusals import (
    RATE_IMPLAUSIBLE,
    RATE_MISSING,
    RATE_STALE,
    InstrumentRefused,
    RateRefused,
)

_PRECISION = 40
"""Digits kept while converting: a chain of two rates stays far more exact than a cent of any account."""
_MAX_SPREAD = Decimal("0.01")
_PIVOTS = ("USD", "EUR")

Quality = Literal["fresh", "stale", "missing"]


class Rate(msgspec.Struct, frozen=True):
    """`value` units of `quote` for one unit of `base`, e.g. 5.50 BRL per USD.

    source: where it comes from, for the report. time_ns: when it was true, UTC ns. max_age_ns: how long it may
    be used for risk; None means that it does not age (a rate the user fixed on purpose). rank: lower is
    preferred among fresh ones (live before file before configured).
    """

    base: str
    quote: str
    value: Decimal
    source: str
    time_ns: int
    max_age_ns: int | None
    rank: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.value, Decimal) or not self.value.is_finite() or self.value <= 0:
            raise RateRefused(
                RATE_IMPLAUSIBLE,
                f"rate {self.base}{self.quote} of {self.source} was {self.value}; it must be a Decimal above 0",
            )
        if self.base == self.quote:
            raise RateRefused(RATE_IMPLAUSIBLE, f"rate of {self.source} was {self.base} against itself")

    def age_ns(self, now_ns: int) -> int:
        """Nanoseconds since the rate was true; negative when its clock is ahead of ours."""
        return now_ns - self.time_ns

    def is_fresh(self, now_ns: int) -> bool:
        """Whether risk may use it. Not one that is further ahead of our clock than its age limit: a clock is wrong."""
        if self.max_age_ns is None:
            return True
        return not self.is_ahead(now_ns) and self.age_ns(now_ns) <= self.max_age_ns

    def is_ahead(self, now_ns: int) -> bool:
        """Whether it is further ahead of our clock than its age limit."""
        return self.max_age_ns is not None and self.age_ns(now_ns) < -self.max_age_ns


class Conversion(msgspec.Struct, frozen=True):
    """A converted amount with the rates used, for reports and the journal.

    amount is None exactly when quality is "missing". `rates` is empty when no conversion was needed.
    """

    original: Money
    amount: Money | None
    rates: tuple[Rate, ...]
    quality: Quality


class CurrencyConverter:
    """The newest rate of each source and pair. One owner: not for use from several threads at once."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, str, str], Rate] = {}

    def put(self, rate: Rate, now_ns: int = 0) -> None:
        """Keep `rate` in place of the same source's older one; an older one than that kept is ignored.

        `now_ns`: our clock, 0 = not known. A kept rate that is too far ahead of it to be used is replaced by any: the
        clock was set back, and until it had caught up there would be no rate.
        """
        key = rate.base, rate.quote, rate.source
        kept = self._rates.get(key)
        if kept is None or rate.time_ns >= kept.time_ns or (now_ns and kept.is_ahead(now_ns)):
            self._rates[key] = rate

    def rates(self) -> tuple[Rate, ...]:
        """All rates kept, by pair and rank."""
        return tuple(sorted(self._rates.values(), key=lambda rate: (rate.base, rate.quote, rate.rank)))

    def convert(self, money: Money, currency: str, now_ns: int) -> Conversion:
        """Return `money` in `currency`, for risk and sizing.

        Raises RateRefused with code rate_missing or rate_stale; the text names pair, age and limit.
        """
        conversion = self.convert_for_report(money, currency, now_ns)
        if conversion.quality == "missing":
            raise RateRefused(
                RATE_MISSING,
                f"no rate between {money.currency} and {currency}; feed a live symbol or configure a rate",
            )
        if conversion.quality == "stale":
            raise RateRefused(RATE_STALE, _staleness(conversion.rates, now_ns))
        return conversion

    def convert_for_report(self, money: Money, currency: str, now_ns: int) -> Conversion:
        """Return `money` in `currency` with the best rate there is, flagged when stale or missing."""
        if money.currency == currency:
            return Conversion(money, money, (), "fresh")
        chains = list(self._chains(money.currency, currency, now_ns))
        if not chains:
            return Conversion(money, None, (), "missing")
        fresh = [chain for chain in chains if all(rate.is_fresh(now_ns) for rate in chain)]
        # max and min return the first of equals: a direct rate before a chain over a third currency.
        if fresh:
            chain = min(fresh, key=lambda rates: max(rate.rank for rate in rates))
        else:
            chain = max(chains, key=lambda rates: min(rate.time_ns for rate in rates))
        return Conversion(money, _apply(money, chain), chain, "fresh" if fresh else "stale")

    def _chains(self, source: str, target: str, now_ns: int) -> Iterator[tuple[Rate, ...]]:
        direct = self._best(source, target, now_ns)
        if direct is not None:
            yield (direct,)
        for pivot in _PIVOTS:
            if pivot in (source, target):
                continue
            first, second = self._best(source, pivot, now_ns), self._best(pivot, target, now_ns)
            if first is not None and second is not None:
                yield first, second

    def _best(self, one: str, other: str, now_ns: int) -> Rate | None:
        """Return the preferred fresh rate between two currencies, else the newest stale one."""
        found = [rate for rate in self._rates.values() if {rate.base, rate.quote} == {one, other}]
        fresh = [rate for rate in found if rate.is_fresh(now_ns)]
        if fresh:
            return min(fresh, key=lambda rate: (rate.rank, -rate.time_ns))
        return max(found, key=lambda rate: rate.time_ns, default=None)


def live_rate(
    base: str,
    quote: str,
    bid: float,
    ask: float,
    source: str,
    time_ns: int,
    max_age_ns: int,
    divisor: int = 1,
) -> Rate:
    """Return the middle of a live quote as a rate; WDO quotes reais per 1000 dollars, so its divisor is 1000.

    Raises RateRefused when the quote is not one: a side missing, crossed, or wider than 1 % (Brazilian feeds
    show nonsense outside the session).
    """
    try:
        low, high = decimal_of_float(bid), decimal_of_float(ask)
    except InstrumentRefused as refusal:
        raise RateRefused(RATE_IMPLAUSIBLE, f"quote of {source} was bid {bid}, ask {ask}: {refusal}") from refusal
    middle = (low + high) / 2
    if low <= 0 or high < low or high - low > middle * _MAX_SPREAD:
        raise RateRefused(
            RATE_IMPLAUSIBLE,
            f"quote of {source} was bid {bid}, ask {ask}; it must be above 0, not crossed, at most 1 % wide",
        )
    return Rate(base, quote, middle / divisor, source, time_ns, max_age_ns)


def _apply(money: Money, chain: tuple[Rate, ...]) -> Money:
    amount, currency = money.amount, money.currency
    with localcontext(prec=_PRECISION):
        for rate in chain:
            if rate.base == currency:
                amount, currency = amount * rate.value, rate.quote
            else:
                amount, currency = amount / rate.value, rate.base
    return Money(amount, currency)


def _staleness(rates: tuple[Rate, ...], now_ns: int) -> str:
    stale = [rate for rate in rates if not rate.is_fresh(now_ns)]
    parts = [
        f"{rate.base}{rate.quote} from {rate.source} was {rate.age_ns(now_ns) / NS_PER_S:.1f} s old, limit "
        f"{(rate.max_age_ns or 0) / NS_PER_S:.1f} s"
        for rate in stale
    ]
    return "; ".join(parts) + "; restore the feed or configure a rate"
