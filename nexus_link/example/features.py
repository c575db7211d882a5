"""The example's feature kernel: a few figures per symbol, computed on each tick in place.

Replace it by a model of your own: any `@numba.njit` function `(tick, state)`.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...shm.jit import kernel
from ...shm.symbols import SymbolDirectory
from ...shm.tick import TickFlag

SYMBOLS: Final = 4096

FEATURES: Final = np.dtype(
    [
        ("tick_size", "<f8"),  # quote units; NaN = unknown, then prices are not summed
        ("ticks", "<i8"),
        ("trades", "<i8"),
        ("size_sum", "<f8"),  # contracts or lots traded
        ("price_sum_ticks", "<i8"),  # of all trades, exact on the tick grid
        ("mid", "<f8"),
        ("mid_ewma", "<f8"),
        ("variance_ewma", "<f8"),  # of log returns of the mid from tick to tick
        ("imbalance_ewma", "<f8"),  # (bid size - ask size) / (bid size + ask size), -1 to 1
        ("flow", "<f8"),  # signed volume: buyers' minus sellers'
        ("stale_marks", "<i8"),
        ("lead", "<i8"),  # platform id whose quotes make mid, variance and imbalance; 0 = none yet
    ]
)
"""One row per symbol id. Counts and sums are over all platforms. mid, averages and imbalance follow the quotes of one
platform, the lead: alternating prices of two brokers would look like moves. They are NaN until measured."""

_TRADE: Final = int(TickFlag.TRADE)
_BUYER: Final = int(TickFlag.BUYER)
_SELLER: Final = int(TickFlag.SELLER)
_STALE: Final = int(TickFlag.STALE)
_ROLL: Final = int(TickFlag.ROLL)
_DECAY: Final = 0.02


@kernel()
def update_features(tick: Any, state: Any) -> None:
    """Update the row of the tick's symbol in `state` (shape (SYMBOLS,), FEATURES)."""
    if tick.symbol >= len(state):
        return
    row = state[tick.symbol]
    flags = tick.flags
    if flags & _STALE:
        row.stale_marks += 1
        if row.lead == tick.source:
            row.lead = 0  # the next platform that quotes takes over
        return
    row.ticks += 1
    if flags & _TRADE:
        row.trades += 1
        row.size_sum += tick.last_size
        if row.tick_size > 0:
            row.price_sum_ticks += int(round(tick.last / row.tick_size))  # noqa: RUF046 (numba's round gives a float)
        if flags & _BUYER:
            row.flow += tick.last_size
        elif flags & _SELLER:
            row.flow -= tick.last_size
    mid = (tick.bid + tick.ask) / 2
    if math.isnan(mid):
        mid = tick.last
    if not mid > 0:
        return
    if row.lead == 0 or flags & _ROLL:
        # Another platform or contract: the difference to the last price is no move of the market.
        row.lead = tick.source
        row.mid = math.nan
    if row.lead == tick.source:
        _follow_quote(tick, row, mid)


@kernel()
def _follow_quote(tick: Any, row: Any, mid: float) -> None:
    """Update mid and averages with a quote of the leading platform."""
    if math.isnan(row.mid):
        row.mid_ewma = mid
    else:
        change = math.log(mid / row.mid)
        row.mid_ewma += _DECAY * (mid - row.mid_ewma)
        if math.isnan(row.variance_ewma):
            row.variance_ewma = 0.0
        row.variance_ewma += _DECAY * (change * change - row.variance_ewma)
    row.mid = mid
    shown = tick.bid_size + tick.ask_size
    if shown > 0:
        if math.isnan(row.imbalance_ewma):
            row.imbalance_ewma = 0.0
        row.imbalance_ewma += _DECAY * ((tick.bid_size - tick.ask_size) / shown - row.imbalance_ewma)


def make_features() -> npt.NDArray[np.void]:
    """New state: shape (SYMBOLS,), FEATURES; counts are zero, figures not measured yet are NaN."""
    state: npt.NDArray[np.void] = np.zeros(SYMBOLS, FEATURES)
    for name in ("tick_size", "mid", "mid_ewma", "variance_ewma", "imbalance_ewma"):
        state[name] = np.nan
    return state


def learn_tick_sizes(state: npt.NDArray[np.void], directory: SymbolDirectory) -> None:
    """Copy the tick sizes of all symbols in the directory; call it before a symbol's first tick is applied."""
    for symbol in directory.entries():
        state[symbol.id]["tick_size"] = symbol.tick_size


def summarize(state: npt.NDArray[np.void], directory: SymbolDirectory) -> dict[str, dict[str, Any]]:
    """Figures by universal name, for symbols that had ticks. Sums of prices are exact decimal texts, None = unknown."""
    rows: dict[str, dict[str, Any]] = {}
    for symbol in directory.entries():
        row = state[symbol.id]
        if row["ticks"] == 0:
            continue
        price_sum = None
        if not math.isnan(symbol.tick_size):
            price_sum = format(int(row["price_sum_ticks"]) * Decimal(repr(symbol.tick_size)), "f")
        rows[symbol.name] = {
            "ticks": int(row["ticks"]),
            "trades": int(row["trades"]),
            "size_sum": float(row["size_sum"]),
            "price_sum": price_sum,
            "mid": _finite(row["mid"]),
            "volatility": _finite(math.sqrt(row["variance_ewma"])),
            "imbalance": _finite(row["imbalance_ewma"]),
            "flow": float(row["flow"]),
        }
    return rows


def _finite(value: float) -> float | None:
    """None for NaN, which JSON does not have."""
    return float(value) if math.isfinite(value) else None
