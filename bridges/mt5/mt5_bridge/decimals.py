"""Convert the terminal's binary floats to the gateway's decimals."""

from __future__ import annotations

import math
from decimal import Decimal

from .errors import BadNumber


def exact(value: float) -> Decimal:
    """The decimal value of a float, rounded to 10 places to remove binary noise. Raises BadNumber: not finite."""
    if not math.isfinite(value):
        raise BadNumber(f"the terminal gave {value} for a number")
    return Decimal(write(Decimal(repr(round(float(value), 10)))))


def write(number: Decimal) -> str:
    """Format a decimal as the protocol requires: no exponent, no trailing zeros."""
    return format(number.normalize() if number else Decimal(0), "f")


def write_or_none(value: float) -> str | None:
    """Format a price; the terminal's 0 means none."""
    return write(exact(value)) if value else None


def is_multiple(number: Decimal, step: Decimal) -> bool:
    """Whether `number` is on the grid of `step`; a step of 0 or less has no grid."""
    return step > 0 and number % step == 0
