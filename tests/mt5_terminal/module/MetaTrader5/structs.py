"""Result types: C struct sequences, as the real module's: tuples with attributes and `_asdict`, and nothing more of a
named tuple; they cannot be pickled, because their name is found in no module.
"""

from __future__ import annotations

import ctypes
import warnings
from typing import Any

from .layouts import LAYOUTS


class _Field(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("doc", ctypes.c_char_p)]


class _Description(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("doc", ctypes.c_char_p),
        ("fields", ctypes.POINTER(_Field)),
        ("n_in_sequence", ctypes.c_int),
    ]


_alive: list[Any] = []
"""The interpreter keeps pointers into the descriptions; without this they would be freed memory."""


def _make_type(name: str, fields: tuple[tuple[str, str], ...]) -> Any:
    rows = (_Field * (len(fields) + 1))(*[_Field(field.encode(), b"") for field, _ in fields], _Field(None, None))
    description = _Description(name.encode(), f"{name} structure".encode(), rows, len(fields))
    _alive.append((rows, description))
    new_type = ctypes.pythonapi.PyStructSequence_NewType
    new_type.restype, new_type.argtypes = ctypes.py_object, [ctypes.POINTER(_Description)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a bare name without module is what we are after
        made = new_type(ctypes.byref(description))
    names = tuple(field for field, _ in fields)

    def _asdict(self: Any) -> dict[str, Any]:
        return dict(zip(names, self, strict=True))

    made.__module__ = "builtins"
    made._asdict = _asdict
    return made


TYPES = {name: _make_type(name, fields) for name, fields in LAYOUTS.items()}


def build(name: str, row: list[Any]) -> Any:
    """A structure from the values of its fields, in order; a nested TradeRequest is a list."""
    values = [build("TradeRequest", value) if isinstance(value, list) else value for value in row]
    return TYPES[name](values)
