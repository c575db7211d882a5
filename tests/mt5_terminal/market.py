"""Symbols with their tick history, as the broker's server has them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from tests.mt5_terminal.module.MetaTrader5 import constants as mt5
from tests.mt5_terminal.module.MetaTrader5.layouts import TICK_DTYPE
from tests.mt5_terminal.records import Record

INFO_FLAGS = mt5.TICK_FLAG_BID | mt5.TICK_FLAG_ASK
TRADE_FLAGS = mt5.TICK_FLAG_LAST | mt5.TICK_FLAG_VOLUME


class TickStore:
    """Ticks in order of `time_msc`; equal stamps keep their order of arrival."""

    def __init__(self) -> None:
        self._rows = np.zeros(1024, TICK_DTYPE)
        # The times once more, side by side: a search in the rows themselves would copy the column each time.
        self._times = np.zeros(1024, np.int64)
        self.count = 0

    @property
    def rows(self) -> np.ndarray:
        return self._rows[: self.count]

    @property
    def times(self) -> np.ndarray:
        return self._times[: self.count]

    def append(self, rows: np.ndarray) -> None:
        """Raises ValueError when a stamp goes back."""
        stamps = rows["time_msc"]
        if len(rows) and (np.any(np.diff(stamps) < 0) or (self.count and stamps[0] < self._times[self.count - 1])):
            raise ValueError("time_msc goes back; use push_late_ticks")
        self._reserve(len(rows))
        self._rows[self.count : self.count + len(rows)] = rows
        self._times[self.count : self.count + len(rows)] = stamps
        self.count += len(rows)

    def insert(self, rows: np.ndarray) -> None:
        """Each where its time belongs, behind those of the same millisecond."""
        places = np.searchsorted(self.times, rows["time_msc"], side="right")
        merged = np.insert(self.rows, places, rows)
        self._reserve(len(rows))
        self.count = len(merged)
        self._rows[: self.count] = merged
        self._times[: self.count] = merged["time_msc"]

    def forget(self, before_msc: int) -> None:
        """History that the terminal has not got."""
        kept = self.rows[self.times >= before_msc].copy()
        self.count = len(kept)
        self._rows[: self.count], self._times[: self.count] = kept, kept["time_msc"]

    def select(self, first_s: int, last_s: int | None, count: int | None, kind: int, visible: int) -> np.ndarray:
        """Rows from second `first_s`, at most `count` of them or up to second `last_s`; a copy."""
        begin = int(np.searchsorted(self.times[:visible], first_s * 1000, side="left"))
        end = visible
        if last_s is not None:
            end = int(np.searchsorted(self.times[:visible], last_s * 1000, side="right"))
        chosen = self._rows[begin:end]
        if kind in (mt5.COPY_TICKS_INFO, mt5.COPY_TICKS_TRADE):
            wanted = INFO_FLAGS if kind == mt5.COPY_TICKS_INFO else TRADE_FLAGS
            chosen = chosen[chosen["flags"] & wanted != 0]
        return (chosen if count is None else chosen[:count]).copy()

    def _reserve(self, more: int) -> None:
        while self.count + more > len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
            self._times = np.concatenate([self._times, np.zeros_like(self._times)])


class Symbol:
    """One instrument: its SymbolInfo, its ticks, its depth.

    Attributes:
        is_open: trading session.
        watched: shown in the terminal's Market Watch.
    """

    def __init__(self, info: Record, watched: bool) -> None:
        self.info = info
        self.ticks = TickStore()
        self.depth: list[list[float]] = []
        self.is_open = True
        self.watched = watched

    @property
    def name(self) -> str:
        return str(self.info.name)

    @property
    def is_exchange(self) -> bool:
        return bool(self.info.trade_exemode == mt5.SYMBOL_TRADE_EXECUTION_EXCHANGE)

    @property
    def has_sane_quote(self) -> bool:
        """Both sides there and not crossed: what an exchange can trade on."""
        return bool(0 < self.info.bid <= self.info.ask)

    def quote(self) -> tuple[float, float]:
        return float(self.info.bid), float(self.info.ask)

    def show(self, row: np.void) -> None:
        """Make this the current tick."""
        info = self.info
        info.bid, info.ask, info.last = float(row["bid"]), float(row["ask"]), float(row["last"])
        info.time, info.volume, info.volume_real = int(row["time"]), int(row["volume"]), float(row["volume_real"])
        spread = (info.ask - info.bid) / info.point if info.point else 0
        info.spread = round(spread) if np.isfinite(spread) else 0

    def money(self, points: float, lots: float) -> float:
        """Account currency for so much price movement."""
        return points / self.info.trade_tick_size * self.info.trade_tick_value * lots

    def on_grid(self, price: float) -> bool:
        ticks = price / self.info.trade_tick_size
        return abs(ticks - round(ticks)) < 1e-6

    def rounded(self, price: float) -> float:
        return round(round(price / self.info.trade_tick_size) * self.info.trade_tick_size, 8)

    def lots_on_step(self, lots: float) -> bool:
        steps = lots / self.info.volume_step
        return abs(steps - round(steps)) < 1e-6


def tick_row(**fields: Any) -> np.ndarray:
    """One row of TICK_DTYPE; `time` follows from `time_msc`, `volume` from `volume_real`."""
    row = np.zeros(1, TICK_DTYPE)
    for name, value in fields.items():
        row[name] = value
    row["time"] = row["time_msc"] // 1000
    row["volume"] = row["volume_real"].astype(np.uint64)
    return row


def matches_group(name: str, group: str) -> bool:
    """Masks separated by commas, `*` for anything, `!` excludes; they are tried in order (MetaQuotes' rule)."""
    chosen = False
    for mask in filter(None, (each.strip() for each in group.split(","))):
        if mask.startswith("!"):
            chosen = chosen and not fnmatchcase(name, mask[1:])
        else:
            chosen = chosen or fnmatchcase(name, mask)
    return chosen
