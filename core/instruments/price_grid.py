"""Exact arithmetic on a price or lot grid. Binary floats never enter a computation here.

A price of 4321.3 on a tick of 0.1 is not representable in binary; rounding it as a float moves orders by a
tick now and then. All functions take Decimal or int; `decimal_of_float` is the one gate for platform floats.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from .refusals import OFF_GRID, InstrumentRefused

Rounding = Literal["nearest", "down", "up"]


def decimal_of_float(value: float) -> Decimal:
    """Return the shortest decimal that reads back as `value`. NaN and infinity are refused."""
    if not math.isfinite(value):
        raise InstrumentRefused(OFF_GRID, f"price was {value}; a finite number is needed")
    return Decimal(repr(float(value)))


def round_to_steps(value: Decimal | int, step: Decimal, rounding: Rounding, what: str) -> int:
    """Return `value` in whole `step`s. "down" is towards minus infinity, "nearest" takes halves upwards."""
    quotient = _quotient(value, step, what)
    if rounding == "down":
        return math.floor(quotient)
    if rounding == "up":
        return math.ceil(quotient)
    return math.floor(quotient + Fraction(1, 2))


def _quotient(value: Decimal | int, step: Decimal, what: str) -> Fraction:
    if isinstance(value, float):
        raise TypeError(f"{what} was the float {value!r}; pass a Decimal (decimal_of_float converts)")
    if isinstance(value, Decimal) and not value.is_finite():
        raise InstrumentRefused(OFF_GRID, f"{what} was {value}; a finite number is needed")
    return Fraction(value) / Fraction(step)
