"""What the module checks before anything is sent (mt5.md A.3). A refusal becomes None or False and last_error -2."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Final

MAX_SYMBOL, MAX_COMMENT, MAX_SERVER, MAX_PASSWORD, MAX_PATH, MAX_GROUP = 29, 29, 253, 253, 257, 1997
_UNSET_DATE: Final = 0x7CCC_CCCC
"""What a date of 0 becomes: the real module leaves its variable as it found it."""
_INT_MIN: Final = -(1 << 31)
"""What the processor makes of a float that does not fit 32 bits."""

U32: Final = (1 << 32) - 1
U64: Final = (1 << 64) - 1
REQUEST_FIELDS: Final = {
    "action": U32,
    "magic": U64,
    "order": U64,
    "symbol": "text",
    "volume": "float",
    "price": "float",
    "stoplimit": "float",
    "sl": "float",
    "tp": "float",
    "deviation": U64,
    "type": U32,
    "type_filling": U32,
    "type_time": U32,
    "expiration": "epoch",
    "comment": "text",
    "position": U64,
    "position_by": U64,
}
"""In the order in which the module reads them, which is that of TradeRequest."""


class ArgumentError(Exception):
    """What last_error will say beside -2."""


class LeftoverError(ArgumentError):
    """A refusal after which the C code forgets to clear the exception: the caller sees a SystemError.

    Its cause is the exception that was left.
    """


def take_text(value: Any, longest: int, refusal: str) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ArgumentError(refusal)
    return value


def take_unsigned(value: Any, limit: int, refusal: str) -> int:
    # numpy's integers are no int and are refused, as by PyLong_Check.
    if not isinstance(value, int):
        raise ArgumentError(refusal)
    if not 0 <= value <= limit:
        raise LeftoverError(refusal) from OverflowError(f"{value} does not fit an unsigned integer of C")
    return int(value)


def take_int32(value: Any) -> int:
    """As PyArg_ParseTuple "i" takes it."""
    if not hasattr(value, "__index__"):
        refused = TypeError(f"'{type(value).__name__}' object cannot be interpreted as an integer")
        raise LeftoverError("Invalid arguments") from refused
    if not -(1 << 31) <= int(value) < 1 << 31:
        raise LeftoverError("Invalid arguments") from OverflowError("signed integer is out of range")
    return int(value)


def take_float(value: Any) -> float:
    """As PyArg_ParseTuple "d" takes it."""
    try:
        return float(value.__float__() if not isinstance(value, int) else value)
    except AttributeError:
        refused = TypeError(f"must be real number, not {type(value).__name__}")
        raise LeftoverError("Invalid arguments") from refused


def take_symbol(value: Any) -> str:
    return take_text(value, MAX_SYMBOL, "Invalid arguments")


def take_date(value: Any) -> int:
    """Whole seconds, 32 bits with a sign."""
    if isinstance(value, int):
        if not -(1 << 31) <= value < 1 << 31:
            raise LeftoverError("Invalid arguments") from OverflowError("Python int too large to convert to C long")
        return value or _UNSET_DATE
    if isinstance(value, datetime.datetime):
        value = value.timestamp()
    if not isinstance(value, float):
        raise ArgumentError("Invalid arguments")
    seconds = int(value) if -(1 << 31) <= value < 1 << 31 else _INT_MIN
    return seconds or _UNSET_DATE


def take_count(arguments: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    if len(arguments) != count:
        raise ArgumentError("Invalid arguments")
    return arguments


def take_request(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> list[Any]:
    """The fields of a trade request in order; missing ones 0 or empty, unknown ones ignored.

    The fields come in one dict or as keywords.
    """
    if keywords:
        if arguments:
            raise ArgumentError("Unnamed arguments not allowed")
        source: Any = keywords
    else:
        if len(arguments) != 1:
            raise ArgumentError("Invalid number of arguments")
        source = arguments[0]
        if not isinstance(source, dict):
            raise ArgumentError("Invalid arguments")
    return [_take_field(name, kind, source) for name, kind in REQUEST_FIELDS.items()]


def _take_field(name: str, kind: int | str, source: Mapping[str, Any]) -> Any:
    refusal = f'Invalid "{name}" argument'
    if name not in source:
        return {"text": "", "float": 0.0}.get(str(kind), 0)
    value = source[name]
    if kind == "text":
        return take_text(value, MAX_COMMENT if name == "comment" else MAX_SYMBOL, refusal)
    if kind == "float":
        if not isinstance(value, float):
            raise ArgumentError(refusal)
        return float(value)
    if kind == "epoch":
        if not isinstance(value, int):
            raise ArgumentError(refusal)
        if not -(1 << 63) <= value < 1 << 63:
            raise LeftoverError(refusal) from OverflowError("int too big to convert")
        return int(value)
    assert isinstance(kind, int)
    return take_unsigned(value, kind, refusal)
