"""Decimals on the wire are in plain notation: `10`, never `1E+1`; `0.0000001`, never `1E-7`.

A sum, a product or a foreign library may give a decimal any exponent, and `str` then writes it with one. Not every
parser of a bridge reads that. The value is exact either way. Pure; safe from any process and thread.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec

MAX_EXPANDED = 40
"""Decimals with an exponent beyond ±this stay as they are, so that no number becomes a text of a million digits.

`fields.py` refuses them in messages."""
_EXPONENT = re.compile(b"E[+-]")


def encode_plain(encoder: msgspec.msgpack.Encoder | msgspec.json.Encoder, message: object) -> bytes:
    """Encode a message with all its decimals in plain notation. A text that looks like a number is left as it is."""
    data = encoder.encode(message)
    # Hardly any message has an exponent, and this search costs a fraction of the detour.
    return data if _EXPONENT.search(data) is None else encoder.encode(to_plain_builtins(message))


def to_plain_builtins(message: object) -> Any:
    """Return a message as dicts, lists, numbers and texts, its decimals as texts in plain notation."""
    return _replace_decimals(msgspec.to_builtins(message, builtin_types=(Decimal,)))


def write_plain(number: Decimal) -> str:
    """Return a decimal as text in plain notation, with all its places."""
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and -MAX_EXPANDED <= exponent <= MAX_EXPANDED:
        return format(number, "f")
    return str(number)


def _replace_decimals(value: Any) -> Any:
    if isinstance(value, Decimal):
        return write_plain(value)
    if isinstance(value, dict):
        return {key: _replace_decimals(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_decimals(each) for each in value]
    return value
