"""The bounds of every number and every name that comes in, by message or by file, before it is used or printed.

The eleven characters `1E999999999` are a gigabyte in plain notation, and `1E-999999999` as a divisor raises.
A name with control or format characters clears a terminal, forges a line of a log, or reads as another one.
Pure; safe from any process and thread.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

MAX_DECIMAL_PLACES: Final = 12
"""Most decimals, and most zeros of an exponent."""
MAX_MAGNITUDE: Final = Decimal(10) ** 12
PLAIN_TEXT: Final = (
    r"^[^\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e007f]*\Z"
)
"""Pattern of a name, a number of an order and any text that says which thing is meant: without control characters (Cc),
format characters (Cf), which bidirectional and zero-width marks are, and separators of lines (Zl, Zp)."""
PLAIN_TEXT_WORDS: Final = "text without control, format and bidirectional characters"
_plain: Final = re.compile(PLAIN_TEXT)
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


def is_plain(text: str) -> bool:
    """Return whether a text fits `PLAIN_TEXT`."""
    return _plain.search(text) is not None


def show_decimal(value: Decimal) -> str:
    """Return a decimal as text for an error, cut off after 40 characters."""
    text = str(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
