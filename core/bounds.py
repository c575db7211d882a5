"""The bounds of every number that comes in, by message or by file, before it is used or printed.

The eleven characters `1E999999999` are a gigabyte in plain notation, and `1E-999999999` as a divisor raises.
Pure; safe from any process and thread.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

MAX_DECIMAL_PLACES: Final = 12
"""Most decimals, and most zeros of an exponent."""
MAX_MAGNITUDE: Final = Decimal(10) ** 12
_SHOWN_CHARS: Final = 40


def is_bounded(value: Decimal) -> bool:
    """Return whether a decimal is finite, with at most `MAX_DECIMAL_PLACES` decimals, within ±`MAX_MAGNITUDE`."""
    exponent = value.as_tuple().exponent
    # The exponent first: a comparison with a number of a billion digits is slow.
    return (
        isinstance(exponent, int)
        and -MAX_DECIMAL_PLACES <= exponent <= MAX_DECIMAL_PLACES
        and -MAX_MAGNITUDE <= value <= MAX_MAGNITUDE
    )


def show_decimal(value: Decimal) -> str:
    """Return a decimal as text for an error, cut off after 40 characters."""
    text = str(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
