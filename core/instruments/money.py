"""Exact amounts of money with their currency. Two currencies never mix without a rate."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import msgspec

from .catalog import Instrument
from .refusals import CURRENCY_MISMATCH, InstrumentRefused

_DECIMAL_PLACES = {"JPY": 0}
_USUAL_DECIMAL_PLACES = 2


class Money(msgspec.Struct, frozen=True):
    """An exact amount of one currency (ISO code). Not rounded until `rounded` is asked for."""

    amount: Decimal
    currency: str

    def __post_init__(self) -> None:
        if not isinstance(self.amount, Decimal):
            raise TypeError(f"amount was {self.amount!r}; money is a Decimal, never a float")
        if not self.amount.is_finite():
            raise ValueError(f"amount was {self.amount} {self.currency}; a finite number is needed")

    def __add__(self, other: Money) -> Money:
        """Return the sum. Raises InstrumentRefused for another currency."""
        self._require_same(other)
        return Money(self.amount + other.amount, self.currency)

    def __sub__(self, other: Money) -> Money:
        """Return the difference. Raises InstrumentRefused for another currency."""
        self._require_same(other)
        return Money(self.amount - other.amount, self.currency)

    def __mul__(self, factor: Decimal | int) -> Money:
        """Return the amount times an exact factor."""
        if isinstance(factor, float):
            raise TypeError(f"factor was the float {factor!r}; pass a Decimal or an int")
        return Money(self.amount * factor, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount, self.currency)

    def __lt__(self, other: Money) -> bool:
        """Compare amounts. Raises InstrumentRefused for another currency."""
        self._require_same(other)
        return self.amount < other.amount

    def __le__(self, other: Money) -> bool:
        """Compare amounts. Raises InstrumentRefused for another currency."""
        self._require_same(other)
        return self.amount <= other.amount

    def rounded(self) -> Money:
        """Return the amount to the currency's smallest unit, halves away from zero, for display and reports."""
        places = _DECIMAL_PLACES.get(self.currency, _USUAL_DECIMAL_PLACES)
        return Money(self.amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP), self.currency)

    def __str__(self) -> str:
        return f"{self.rounded().amount} {self.currency}"

    def _require_same(self, other: Money) -> None:
        if self.currency != other.currency:
            raise InstrumentRefused(
                CURRENCY_MISMATCH, f"{self} and {other} are different currencies; convert one with a rate first"
            )


def position_profit(instrument: Instrument, lots: Decimal | int, entry_price: Decimal, exit_price: Decimal) -> Money:
    """Return the profit of a position in the instrument's currency; `lots` is negative for a short.

    Prices need not be on the tick grid: settlement prices and average prices are not.
    """
    for name, value in (("lots", lots), ("entry_price", entry_price), ("exit_price", exit_price)):
        if isinstance(value, float):
            raise TypeError(f"{name} was the float {value!r}; pass a Decimal")
    return Money((exit_price - entry_price) * instrument.point_value * lots, instrument.currency)
