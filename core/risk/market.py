"""Market values for the risk checks: plain values that the caller read from rings, catalog and rates.

The engine reads no ring and no clock. The values are part of the event that they belong to, so that a replay of the
journal decides exactly as the first run did.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from ...shm.durations import NS_PER_MS


class UsdRate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD for one unit of a currency."""

    value: Decimal  # USD per unit
    true_ns: int = 0  # time of the quote that it was taken from, UTC ns
    until_ns: int = 0  # last time at which risk may use it, UTC ns; 0 = `true_ns` plus the limit's age
    source: str = ""  # its origin, for people

    def is_stale(self, now_ns: int, max_age_ms: int) -> bool:
        """Whether it is too old for risk. One from the future is stale, too: a clock was set back since."""
        most_ns = max_age_ms * NS_PER_MS
        return now_ns > (self.until_ns or self.true_ns + most_ns) or self.true_ns > now_ns + most_ns


class MarketContext(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instrument on one account, as of the event that this is part of."""

    platform: str  # platform's name
    symbol: str  # universal name
    tick_size: Decimal  # smallest price step, quote units
    lot_step: Decimal  # smallest step of a size, lots
    point_value: Decimal  # money of `currency` per 1.0 of price and 1 lot
    currency: str = "USD"  # ISO code of the instrument's currency
    contract: str = ""  # contract that the symbol means; empty = an instrument without one, such as a CFD
    usd_rate: Decimal | None = None  # USD per unit of `currency`; None = there is none
    usd_rate_ns: int = 0  # `UsdRate.true_ns`
    usd_rate_until_ns: int = 0  # `UsdRate.until_ns`
    usd_rate_source: str = ""  # `UsdRate.source`
    bid: Decimal | None = None  # best bid, quote units; None = never seen
    ask: Decimal | None = None  # best ask, quote units; None = never seen
    quote_ns: int = 0  # time of that quote, UTC ns
    expiry_ns: int = 0  # when the contract stops trading, UTC ns; 0 = never
    session_open: bool = True  # the market trades now, by our calendar
    session_change_ns: int = 0  # when that changes next, UTC ns; 0 = not known
    identity_error: str = ""  # why the platform's instrument differs from the catalog's; empty = it does not
    account: str = ""  # Account (1); empty = any account of the platform

    @property
    def finite(self) -> bool:
        """False when any number in here is NaN or infinite: then none of it may be used."""
        numbers = (self.tick_size, self.lot_step, self.point_value, self.usd_rate, self.bid, self.ask)
        return all(number is None or number.is_finite() for number in numbers)

    @property
    def rate(self) -> UsdRate | None:
        """The rate with its time and source; None when there is none, or it is not a positive number."""
        if self.usd_rate is None or not self.usd_rate.is_finite() or self.usd_rate <= 0:
            return None
        return UsdRate(
            value=self.usd_rate,
            true_ns=self.usd_rate_ns,
            until_ns=self.usd_rate_until_ns,
            source=self.usd_rate_source,
        )

    def to_usd(self, amount: Decimal) -> Decimal | None:
        """Convert an amount of `currency` to USD; None without a rate, never 1:1 for another currency."""
        if self.currency == "USD":
            return amount
        return None if self.usd_rate is None else amount * self.usd_rate
