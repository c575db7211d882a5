"""Decimals: the terminal counts in binary floats, the gateway in decimals."""

from __future__ import annotations

import math
from decimal import Decimal

from .errors import BadNumber


def exact(value: float) -> Decimal:
    """The decimal that was meant: 10 places, without the noise of binary fractions. Raises BadNumber."""
    if not math.isfinite(value):
        raise BadNumber(f"the terminal gave {value} for a number")
    return Decimal(write(Decimal(repr(round(float(value), 10)))))


def write(number: Decimal) -> str:
    """As the protocol wants it."""
    return format(number.normalize() if number else Decimal(0), "f")


def write_or_none(value: float) -> str | None:
    """A price of the terminal; its 0 means none."""
    return write(exact(value)) if value else None


def is_multiple(number: Decimal, step: Decimal) -> bool:
    return step > 0 and number % step == 0
