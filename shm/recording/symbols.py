"""The symbols of a recording: name and contract of each id in its records, by time.

Stored beside each data file as JSON lines, one for each symbol and one more for each roll. A line is written before
the first record that needs it, so the table is complete whenever the records are, kill -9 included.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from .. import layout, run_folder
from ..segment import Segment, SegmentError
from ..symbols import Symbol, SymbolDirectory

UNKNOWN_CONTRACT: Final = "unknown"


def encode_symbol(symbol: Symbol) -> bytes:
    """One line of a symbols file."""
    fields: dict[str, Any] = vars(symbol) | {"tick_size": None if math.isnan(symbol.tick_size) else symbol.tick_size}
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def decode_symbol(line: bytes) -> Symbol:
    """The symbol of a line. Raises ValueError."""
    fields = json.loads(line)
    try:
        if fields["tick_size"] is None:
            fields["tick_size"] = math.nan
        return Symbol(**fields)
    except (TypeError, KeyError):
        raise ValueError(f"no symbol line: was {line!r}") from None


class SymbolTable:
    """Symbols of one data file; immutable."""

    def __init__(self, symbols: list[Symbol]) -> None:
        """
        Args:
            symbols: in the order in which they were written; a later one of the same id is its next contract.
        """
        self._contracts: dict[int, list[Symbol]] = {}
        for symbol in symbols:
            self._contracts.setdefault(symbol.id, []).append(symbol)

    @classmethod
    def read(cls, path: Path) -> SymbolTable:
        """From a symbols file. An unfinished last line is left out: no record needed it yet.

        Raises:
            ValueError: a line inside the file is broken; the text names it.
        """
        symbols = []
        content = path.read_bytes() if path.exists() else b""
        for number, line in enumerate(content.split(b"\n")[:-1], start=1):
            try:
                symbols.append(decode_symbol(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
        return cls(symbols)

    @property
    def ids(self) -> list[int]:
        """Ids that the table knows, sorted."""
        return sorted(self._contracts)

    def names(self) -> dict[int, str]:
        """Universal name of each id."""
        return {symbol_id: self._contracts[symbol_id][0].name for symbol_id in self.ids}

    def id_of(self, name: str) -> int | None:
        """Id of a universal name, None when the recording does not know it."""
        return next((symbol_id for symbol_id, known in self.names().items() if known == name), None)

    def symbol(self, symbol_id: int, at_ns: int) -> Symbol:
        """The symbol of an id at a time (UTC ns): its name, and the contract that was current then.

        Before the earliest contract that the recorder saw, `contract` is "unknown".

        Raises:
            KeyError: no line for this id: its adapter published it without adding it to the directory.
        """
        contracts = self._contracts.get(symbol_id)
        if contracts is None:
            raise KeyError(f"symbol id was {symbol_id}; this recording knows {self.ids}")
        current = [symbol for symbol in contracts if symbol.rolled_ns <= at_ns]
        if current:
            return current[-1]
        first = contracts[0]
        return replace(first, contract=UNKNOWN_CONTRACT, generation=max(first.generation - 1, 0), rolled_ns=0)


class SymbolWatch:
    """The run folder's symbol directory as the recorder follows it; one process, one thread.

    Attributes:
        symbols: the entries at the last `refresh`.
        revision: grows when `symbols` has changed.
        directory_number: grows when the directory was recreated: ids may mean other symbols from then on.
    """

    def __init__(self, run_folder_path: Path) -> None:
        self._run_folder = run_folder_path
        self._segment: Segment | None = None
        self._seen = np.empty(0, np.uint8)
        self.symbols: list[Symbol] = []
        self.revision = 0
        self.directory_number = 0

    def look_for_directory(self) -> None:
        """Attach to a directory that has appeared or was recreated. Some 10 us; call about once a second."""
        if self._segment is not None and not self._segment.is_replaced():
            return
        try:
            segment = Segment.attach(run_folder.symbols_path(self._run_folder), layout.SYMBOLS)
        except SegmentError:
            return  # not created yet, or just being recreated
        self._segment = segment
        self._seen = np.empty(0, np.uint8)
        self.symbols = []
        self.directory_number += 1

    def refresh(self) -> None:
        """Read symbols and rolls added since; call it before writing records. A few microseconds if there are none."""
        if self._segment is None:
            self.look_for_directory()
            if self._segment is None:
                return
        start = layout.SYMBOLS.size_bytes
        rows = self._segment.bytes[start : start + (self._segment.field("count") + 1) * layout.SYMBOL.size_bytes]
        if np.array_equal(rows, self._seen):
            return
        # Copied before the entries are read: a change in between is then seen at the next call, not missed.
        self._seen = rows.copy()
        self.symbols = self._read_entries(SymbolDirectory(self._segment))
        self.revision += 1

    def _read_entries(self, directory: SymbolDirectory) -> list[Symbol]:
        known = {symbol.id: symbol for symbol in self.symbols}
        entries = []
        for symbol_id in range(1, len(directory) + 1):
            try:
                entries.append(directory.entry(symbol_id))
            except RuntimeError:  # left half written by a process that died in a roll: skip it, the others are valid
                if symbol_id in known:
                    entries.append(known[symbol_id])
        return entries
