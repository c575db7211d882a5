"""Plain-Python twins of the decoders' kernels: slow, obvious, written from the docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from math import isnan
from typing import Any

from nexus_gateway.adapters.formats.delimited import Column, Kind
from nexus_gateway.shm.tick import TickArray, TickFlag

_NUMBER = re.compile(r"(-?)(\d*)(?:\.(\d*))?")


def parse_line(line: str, columns: Sequence[Column]) -> list[Decimal | None] | int:
    """Values of a line (None for text and blanks), or the index of its first broken column."""
    values: list[Decimal | None] = []
    for index, column in enumerate(columns):
        field, end, line = line.partition(column.end)
        if column.end == "\n":
            field = field.removesuffix("\r")
        if not end or (column.kind != Kind.TEXT and column.end != "\n" and "\n" in field):
            return index
        if column.kind == Kind.TEXT:
            if "\n" in field:
                return index
            values.append(None)
        elif field == "" and column.kind == Kind.OPTIONAL:
            values.append(None)
        else:
            value = read_number(field)
            if value is None:
                return index
            values.append(value)
    return values


def read_number(text: str) -> Decimal | None:
    """The decimal of a text such as -12.50; None if it is none, or has more than 18 significant digits."""
    found = _NUMBER.fullmatch(text)
    if found is None or not (found[2] or found[3]):
        return None
    return Decimal(text)


def carry(rows: Iterable[dict[str, Any]], known: dict[int, dict[str, float]]) -> Iterator[dict[str, Any]]:
    """Fill the sides that a tick does not carry with the last known of its symbol."""
    for row in rows:
        filled = dict(row)
        state = known.setdefault(row["symbol"], {})
        for side, flag in (("bid", TickFlag.BID), ("ask", TickFlag.ASK), ("last", TickFlag.TRADE)):
            names = (side, f"{side}_size")
            if row["flags"] & flag or not isnan(row[side]):
                state.update({name: row[name] for name in names})
            else:
                filled.update({name: state.get(name, float("nan")) for name in names})
        yield filled


def merge(streams: Sequence[TickArray]) -> list[tuple[int, int]]:
    """(stream, position) of every tick in merged order: by the latest time its stream has seen, then by stream."""
    keyed = []
    for number, ticks in enumerate(streams):
        newest = -(2**63)
        for position, time in enumerate(ticks["ts_recv_ns"].tolist()):
            newest = max(newest, time)
            keyed.append((newest, number, position))
    return [(number, position) for _, number, position in sorted(keyed)]
