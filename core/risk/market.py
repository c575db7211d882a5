"""What the risk checks know of the market: plain values that the caller read from rings, catalog and rates.

The engine never looks at a ring or a clock; the values travel inside the event that they belong to, so that
a replay of the journal decides exactly as the first run did.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from ...shm.durations import NS_PER_MS


class UsdRate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD for one unit of a currency. `true_ns`: when that was so; `until_ns`: the last moment at which risk may use
    it, 0 = as long after `true_ns` as the limits allow. UTC ns. `source`: where it comes from, for people.
    """

    value: Decimal
    true_ns: int = 0
    until_ns: int = 0
    source: str = ""

    def is_stale(self, now_ns: int, max_age_ms: int) -> bool:
        """Whether it is too old for risk. One from the future is no newer: a clock was set back since."""
        most_ns = max_age_ms * NS_PER_MS
        return now_ns > (self.until_ns or self.true_ns + most_ns) or self.true_ns > now_ns + most_ns


class MarketContext(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instrument at one platform, at the moment of the event that carries this.

    `point_value`: money of `currency` per 1.0 of price and 1 lot. `usd_rate`: USD per 1 unit of `currency`,
    None when there is none; `usd_rate_ns` and `quote_ns`: when they were true, UTC ns; `usd_rate_until_ns` and
    `usd_rate_source` as in `UsdRate`. `expiry_ns`: when the contract stops trading, 0 for none. `identity_error`: why
    the platform's instrument is not the catalog's, empty when it is.
    """

    platform: str
    symbol: str
    tick_size: Decimal
    lot_step: Decimal
    point_value: Decimal
    currency: str = "USD"
    contract: str = ""
    usd_rate: Decimal | None = None
    usd_rate_ns: int = 0
    usd_rate_until_ns: int = 0
    usd_rate_source: str = ""
    bid: Decimal | None = None
    ask: Decimal | None = None
    quote_ns: int = 0
    expiry_ns: int = 0
    session_open: bool = True
    identity_error: str = ""
    account: str = ""

    @property
    def finite(self) -> bool:
        """False when any number in here is NaN or infinite: then none of it may be used."""
        numbers = (self.tick_size, self.lot_step, self.point_value, self.usd_rate, self.bid, self.ask)
        return all(number is None or number.is_finite() for number in numbers)

    @property
    def rate(self) -> UsdRate | None:
        """The rate as one thing; None when there is none, or none that can be."""
        if self.usd_rate is None or not self.usd_rate.is_finite() or self.usd_rate <= 0:
            return None
        return UsdRate(
            value=self.usd_rate,
            true_ns=self.usd_rate_ns,
            until_ns=self.usd_rate_until_ns,
            source=self.usd_rate_source,
        )

    def to_usd(self, amount: Decimal) -> Decimal | None:
        """An amount of `currency` in USD, or None when the rate is missing. Never 1:1 for another
        currency.
        """
        if self.currency == "USD":
            return amount
        return None if self.usd_rate is None else amount * self.usd_rate
