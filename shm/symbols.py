"""The symbol directory: universal symbol id <-> name, its current contract and generation.

Ids are assigned once and never change within a run folder, so the two bytes in a tick mean the same to every process.
Any process may add symbols; it holds the file's lock for that moment only. Readers never lock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from . import layout, run_folder
from .layout import SYMBOL_NAME_BYTES, SYMBOLS_CAPACITY
from .segment import Segment

CAPACITY: Final = SYMBOLS_CAPACITY
# Each contract that a roll brings in takes an id, and ids are never given back while the directory stands.
IDS_FOR_CONTRACTS: Final = 512
MAX_CONFIGURED: Final = CAPACITY - 1 - IDS_FOR_CONTRACTS
"""Symbols that a configuration may list."""
# A process that changes an entry can lose its core in the middle, so a reader gives it far more than the microsecond.
_PATIENCE_S: Final = 1.0


class DirectoryFullError(ValueError):
    """No id is left for another symbol."""


@dataclass(frozen=True)
class Symbol:
    """One entry. tick_size: quote units, NaN = unknown. generation: grows at each roll. rolled_ns: UTC, 0 = never."""

    id: int
    name: str
    contract: str = ""
    tick_size: float = math.nan
    generation: int = 0
    rolled_ns: int = 0


class SymbolDirectory:
    """Read side. Any process; symbols and rolls that others add are visible at once."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._entries: Any = segment.bytes[layout.SYMBOLS.size_bytes :].view(layout.SYMBOL.dtype)
        self._ids: dict[str, int] = {}

    @classmethod
    def attach(cls, folder: Path) -> SymbolDirectory:
        """The directory of a run folder. Raises SegmentError when it has none yet."""
        return cls(Segment.attach(run_folder.symbols_path(folder), layout.SYMBOLS))

    def is_replaced(self) -> bool:
        """Whether the run folder has a new directory: attach again, its ids may differ."""
        return self._segment.is_replaced()

    def __len__(self) -> int:
        return min(self._segment.field("count"), len(self._entries) - 1)  # of a damaged file it may be anything

    def id_of(self, name: str) -> int | None:
        """Id of a universal name; None when no process has added it."""
        for new_id in range(len(self._ids) + 1, len(self) + 1):
            self._ids[bytes(self._entries[new_id]["name"]).decode(errors="replace")] = new_id
        return self._ids.get(name)

    def entry(self, symbol_id: int) -> Symbol:
        """The current entry of an id. Raises KeyError for an id that was not assigned."""
        if not 1 <= symbol_id <= len(self):
            raise KeyError(f"symbol id was {symbol_id}; the directory has 1 to {len(self)}")
        row = self._entries[symbol_id]
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            revision = int(row["revision"])
            symbol = Symbol(
                symbol_id,
                bytes(row["name"]).decode(errors="replace"),
                bytes(row["contract"]).decode(errors="replace"),
                float(row["tick_size"]),
                int(row["generation"]),
                int(row["rolled_ns"]),
            )
            if revision % 2 == 0 and int(row["revision"]) == revision:
                return symbol
            time.sleep(0.0005)
        raise RuntimeError(
            f"the entry of symbol {symbol_id} was left half written by a process that died; roll it again"
        )

    def entries(self) -> list[Symbol]:
        """All entries, by id."""
        return [self.entry(symbol_id) for symbol_id in range(1, len(self) + 1)]


def add_symbols(folder: Path, symbols: Iterable[Symbol]) -> list[int]:
    """Assign ids to new names; known names keep their id and their whole entry.

    Args:
        symbols: their `id` is ignored.

    Returns:
        The ids, in order.

    Raises:
        ValueError: a name is empty or too long. Nothing was added then.
        DirectoryFullError: nothing was added either.
        SegmentInUseError: another process held the directory for seconds.
    """
    wanted = list(symbols)
    for symbol in wanted:
        _check_text(symbol.name)
        _check_text(symbol.contract)
        if not symbol.name:
            raise ValueError("symbol name was empty; give a universal name such as 'NQ'")
    segment = _open(folder)
    try:
        directory = SymbolDirectory(segment)
        new = {symbol.name: symbol for symbol in wanted if directory.id_of(symbol.name) is None}
        count = len(directory)
        if count + len(new) >= CAPACITY:
            raise DirectoryFullError(
                f"symbol directory would hold {count + len(new)} symbols, at most {CAPACITY - 1}; stop the gateway, "
                "NEXUS and other readers and start again: the directory is then rebuilt without expired contracts"
            )
        for symbol_id, symbol in enumerate(new.values(), start=count + 1):
            row = directory._entries[symbol_id]
            row["generation"], row["tick_size"], row["rolled_ns"] = (
                symbol.generation,
                symbol.tick_size,
                symbol.rolled_ns,
            )
            row["name"], row["contract"] = symbol.name.encode(), symbol.contract.encode()
            segment.set_field("count", symbol_id)
        return [directory.id_of(symbol.name) or 0 for symbol in wanted]
    finally:
        segment.close_writer()


def roll_symbol(folder: Path, name: str, contract: str, rolled_ns: int) -> Symbol:
    """Give a symbol its next contract: the generation grows by one. Returns the new entry.

    Raises:
        KeyError: no such symbol.
        ValueError: the contract's name is too long.
    """
    _check_text(contract)
    segment = _open(folder)
    try:
        directory = SymbolDirectory(segment)
        symbol_id = directory.id_of(name)
        if symbol_id is None:
            raise KeyError(f"symbol was {name!r}; the directory does not know it")
        row = directory._entries[symbol_id]
        row["revision"] |= 1  # already odd when an earlier process died in the middle
        row["contract"] = contract.encode()
        row["generation"] += 1
        row["rolled_ns"] = rolled_ns
        row["revision"] += 1
        return directory.entry(symbol_id)
    finally:
        segment.close_writer()


def _check_text(text: str) -> None:
    if len(text.encode()) > SYMBOL_NAME_BYTES:
        raise ValueError(f"symbol name was {text!r}; at most {SYMBOL_NAME_BYTES} bytes in UTF-8")
    if text.endswith("\0"):
        raise ValueError(f"symbol name was {text!r}, which ends with a zero byte; fields are padded with these")


def _open(folder: Path) -> Segment:
    def fill(segment: Segment) -> None:
        segment.set_field("capacity", CAPACITY)

    body = CAPACITY * layout.SYMBOL.size_bytes
    segment = Segment.open_writer(
        run_folder.symbols_path(folder),
        layout.SYMBOLS,
        body,
        fill,
        lambda segment: segment.field("capacity") == CAPACITY,
    )
    _mend(segment)
    return segment


def _mend(segment: Segment) -> None:
    """Complete the entries that a killed process left half written, or readers would wait for them forever. The caller
    holds the lock, so no other process is writing them. Their new contract is not known.
    """
    rows = segment.bytes[layout.SYMBOLS.size_bytes :].view(layout.SYMBOL.dtype)[1 : segment.field("count") + 1]
    for index in (rows["revision"] % 2).nonzero()[0]:
        row = rows[index]
        row["contract"] = b""
        row["generation"] += 1
        row["revision"] += 1
