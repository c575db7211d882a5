"""Messages with decimals whose `str` has an exponent, and the bytes that they must have."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

VALUES = {
    "1E+1": "10",
    "1E+2": "100",
    "1.8E+4": "18000",
    "1E-7": "0.0000001",
    "0E-10": "0.0000000000",
    "0E+3": "0",
    "-2E+2": "-200",
}
"""Text of a decimal -> the same in plain notation."""


def variants(message: Any) -> Iterator[tuple[Any, Any]]:
    """Each decimal of `message` in turn as each of `VALUES` that the message takes; and its builtins in plain notation.

    At least one value fits each decimal.
    """
    built = written = msgspec.to_builtins(message, builtin_types=(Decimal,))
    paths = list(_decimal_paths(built))
    for path in paths:
        written = _with(written, path, format(_at(built, path), "f"))
    for path in paths:
        taken = 0
        for number, plain in VALUES.items():
            try:
                changed = msgspec.convert(_with(built, path, Decimal(number)), type(message))
            except msgspec.ValidationError:  # a quantity is above zero, ...
                continue
            taken += 1
            yield changed, _with(written, path, plain)
        assert taken, f"no value fits {path}"


def _decimal_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, Decimal):
        yield path
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _decimal_paths(each, (*path, key))
    elif isinstance(value, (list, tuple)):
        for number, each in enumerate(value):
            yield from _decimal_paths(each, (*path, number))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    return _at(value[path[0]], path[1:]) if path else value


def _with(value: Any, path: tuple[Any, ...], new: object) -> Any:
    if not path:
        return new
    changed = copy.copy(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = _with(value[path[0]], path[1:], new)
    return changed
