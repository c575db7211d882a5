"""What the terminal makes of the broker's data: rows of a period, bars of ticks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.mt5_terminal.market import Symbol, matches_group
from tests.mt5_terminal.module.MetaTrader5 import constants as mt5
from tests.mt5_terminal.module.MetaTrader5.layouts import RATE_DTYPE
from tests.mt5_terminal.records import Record

_DAY_S = 86_400


def in_range(records: list[Record], field: str, first_s: int, last_s: int, group: str) -> list[Record]:
    """Those whose time lies in [first, last], server clock."""
    chosen = [record for record in records if first_s <= getattr(record, field) <= last_s]
    return [record for record in chosen if not group or matches_group(record.symbol, group)]


def bars_of(symbol: Symbol, visible: int, timeframe: int) -> np.ndarray:
    """Bars of the bid, or of the last price where the chart is made of it."""
    rows = symbol.ticks.rows[:visible]
    price = "last" if symbol.info.chart_mode == mt5.SYMBOL_CHART_MODE_LAST else "bid"
    rows = rows[rows[price] > 0]
    begins = _begin_of(timeframe)(rows["time"].astype(np.int64))
    starts, first = np.unique(begins, return_index=True)
    bars = np.zeros(len(starts), RATE_DTYPE)
    for place, (start, part) in enumerate(zip(starts, np.split(rows, first[1:]), strict=False)):
        prices = part[price]
        spread = round((part["ask"][-1] - part["bid"][-1]) / symbol.info.point)
        ohlc = (prices[0], prices.max(), prices.min(), prices[-1])
        bars[place] = (start, *ohlc, len(part), spread, part["volume"].sum())
    return bars


def _begin_of(timeframe: int) -> Callable[[np.ndarray], np.ndarray]:
    """From times to the beginnings of their bars, seconds."""
    unit, count = timeframe & 0xC000, timeframe & 0x3FFF
    if unit == 0xC000:
        return lambda times: times.astype("datetime64[s]").astype("datetime64[M]").astype("datetime64[s]").astype(int)
    if unit == 0x8000:
        # Day 0 of the epoch was a Thursday; MetaTrader's weeks begin on Sunday.
        return lambda times: (times + 4 * _DAY_S) // (7 * _DAY_S) * (7 * _DAY_S) - 4 * _DAY_S
    span_s = count * (3600 if unit == 0x4000 else 60)
    return lambda times: times // span_s * span_s
