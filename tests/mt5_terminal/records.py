"""Rows of the module's structures as the broker keeps them: by name, changeable, with notes that no client sees."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.mt5_terminal.module.MetaTrader5.layouts import LAYOUTS

_EMPTY = {"i": 0, "f": 0.0, "b": False, "s": "", "r": []}
_COERCE = {"i": int, "f": float, "b": bool, "s": str, "r": list}


class Record(SimpleNamespace):
    """`Record("TradeDeal", ticket=1, ...)`: all fields of the structure, those not named empty.

    Attributes beyond the fields are the broker's own notes.
    """

    def __init__(self, kind: str, **fields: Any) -> None:
        super().__init__(kind=kind, **{name: _EMPTY[type_] for name, type_ in LAYOUTS[kind]})
        vars(self).update(fields)

    def row(self) -> list[Any]:
        """The values as the module needs them: in order, of the right types."""
        return [_COERCE[type_](getattr(self, name)) for name, type_ in LAYOUTS[self.kind]]

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name, _ in LAYOUTS[self.kind]}


def request_record(row: list[Any]) -> Record:
    """A trade request from the module's row."""
    names = [name for name, _ in LAYOUTS["TradeRequest"]]
    return Record("TradeRequest", **dict(zip(names, row, strict=True)))
