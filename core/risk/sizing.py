"""Size from money at risk, in lots. Exact decimals; rounded down, never up to the first lot."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context, Decimal

from .market import MarketContext

_PLACES = Decimal(0)
"""Added to a decimal it changes nothing but an exponent above zero, which becomes zero."""
_WIDE = Context(prec=80)
"""The usual 28 digits do not hold the quotient of the largest quantity and the smallest step: that would raise."""


def floor_to_lot(quantity: Decimal, lot_step: Decimal) -> Decimal:
    """The largest multiple of `lot_step` that is not above `quantity` (zero when below one step).

    Never with an exponent above zero: a quotient of 10 may be 1E+1, and an order of that size would be written so.
    """
    return (quantity / lot_step).to_integral_value(ROUND_FLOOR) * lot_step + _PLACES


def is_multiple(value: Decimal, step: Decimal) -> bool:
    """True when `value` lies on the grid of `step`."""
    return _WIDE.remainder(value, step) == 0


def risk_usd(quantity: Decimal, distance: Decimal, market: MarketContext) -> Decimal | None:
    """USD lost when `quantity` lots go `distance` points the wrong way; None without a currency rate."""
    return market.to_usd(quantity * distance * market.point_value)


def lots_for_risk(budget_usd: Decimal, distance: Decimal, market: MarketContext) -> Decimal | None:
    """Lots whose loss over `distance` points is at most `budget_usd`, floored to the lot step; may be zero.

    None when it cannot be measured: no currency rate, or no distance.
    """
    per_lot = risk_usd(Decimal(1), distance, market)
    if per_lot is None or per_lot <= 0:
        return None
    return floor_to_lot(budget_usd / per_lot, market.lot_step)
