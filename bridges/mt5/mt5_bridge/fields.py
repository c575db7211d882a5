"""Check the fields of JSON objects: messages of an adapter, and the configuration.

A check takes the value of one field and returns the value to use; it raises ValueError.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from .errors import Breach

Body = dict[str, Any]
_NOT_PLAIN = ("Cc", "Cf", "Zl", "Zp", "Cs")


class Required:
    """Marks a field without a default."""


def take_fields(value: Any, fields: dict[str, Any]) -> Body:
    """Check an object and fill in defaults. `fields`: name -> (check, default). Raises Breach or ValueError."""
    if type(value) is not dict:
        raise ValueError("must be an object")
    unknown = sorted(value.keys() - fields.keys())
    if unknown:
        raise Breach(f"unknown key {unknown[0]!r}")
    taken = {}
    for name, (check, default) in fields.items():
        if name not in value:
            if default is Required:
                raise Breach(f"{name} was missing")
            taken[name] = default
            continue
        try:
            taken[name] = check(value[name])
        except ValueError as error:
            raise Breach(f"{name} was {str(value[name])[:100]!a}, {error}") from None
    return taken


def text_up_to(longest: int, pattern: str = "") -> Callable[[Any], str]:
    matches = re.compile(pattern)

    def check(value: Any) -> str:
        if type(value) is not str or len(value) > longest or not matches.search(value):
            raise ValueError(f"must be a text of at most {longest} characters {pattern}")
        # It says which account, symbol or order is meant, and goes to logs and to the terminal's order comments.
        if any(unicodedata.category(char) in _NOT_PLAIN for char in value):
            raise ValueError("must be without control, format and bidirectional characters")
        return value

    return check


def whole_between(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"must be a whole number of {least} to {most}")
        return value

    return check


def one_of(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if type(value) is not str or value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value

    return check


def to_decimal(value: Any) -> Decimal:
    if type(value) is not str or len(value) > 64:
        raise ValueError("must be a decimal in a text")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError("must be a decimal in a text") from None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or not -12 <= exponent <= 12 or abs(number) > 10**12:
        raise ValueError("must be finite, with at most 12 places")
    return number


def to_positive(value: Any) -> Decimal:
    number = to_decimal(value)
    if number <= 0:
        raise ValueError("must be above zero")
    return number


def to_decimal_or_none(value: Any) -> Decimal | None:
    return None if value is None else to_decimal(value)


def to_flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def rows_of(fields: dict[str, Any], most: int) -> Callable[[Any], list[Body]]:
    def check(value: Any) -> list[Body]:
        if type(value) is not list or len(value) > most:
            raise ValueError(f"must be a list of at most {most}")
        return [take_fields(each, fields) for each in value]

    return check


COUNT = whole_between(0, 2**63 - 1)
MILLISECONDS = whole_between(10, 600_000)
PLATFORM = text_up_to(16, r"^[a-z][a-z0-9_]*$")
SYMBOL = text_up_to(32, r"^[A-Z0-9][A-Za-z0-9._/-]*$")
NAME = text_up_to(64, r"(?s)^.")
HEX = text_up_to(128, r"^[0-9a-f]{32,128}$")
ID = text_up_to(64)
