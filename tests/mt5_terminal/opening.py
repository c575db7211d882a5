"""Ticks as at the open of WIN: thousands a second, many in one millisecond, equal ones in a row, odd flag bits."""

from __future__ import annotations

import time

import numpy as np

from tests.mt5_terminal.control import TICK_DTYPE, StandIn

FLAGS = (1080, 1112, 1144, 1026, 1028, 1336)
"""As recorded at B3: the documented bits, and 0x400, sometimes 0x100 (mt5.md A.5)."""
_STEP_S = 0.01


def make_opening(count: int, first_msc: int, seed: int = 1, bursts: float = 0.75) -> np.ndarray:
    """Rows of TICK_DTYPE, shape (count,), from `first_msc` on.

    Args:
        bursts: chance that a tick has the stamp of the one before.
    """
    random = np.random.default_rng(seed)
    rows = np.zeros(count, TICK_DTYPE)
    rows["time_msc"] = first_msc + np.cumsum(random.random(count) >= bursts)
    rows["last"] = 176_000.0 + 5 * random.integers(-2, 3, count)
    rows["bid"], rows["ask"] = rows["last"] - 5, rows["last"]
    rows["volume_real"] = random.integers(1, 4, count)
    rows["flags"] = random.choice(FLAGS, count)
    # A genuine trade may look exactly like the one before it.
    twins = np.flatnonzero(random.random(count) < 0.1)
    twins = twins[twins > 0]
    rows[twins] = rows[twins - 1]
    rows["time_msc"] = np.maximum.accumulate(rows["time_msc"])
    rows["time"], rows["volume"] = rows["time_msc"] // 1000, rows["volume_real"].astype(np.uint64)
    return rows


def play(stand_in: StandIn, symbol: str, rows: np.ndarray, ticks_per_s: int) -> np.ndarray:
    """Push them in real time; the rows with the stamps that they got, all of a step's in a few milliseconds."""
    played = rows.copy()
    begun = time.monotonic()
    done = 0
    newest_msc = stand_in.server_now_ms()
    while done < len(rows):
        due = min(len(rows), int((time.monotonic() - begun + _STEP_S) * ticks_per_s))
        part = played[done:due]
        if len(part):
            now_msc = max(stand_in.server_now_ms(), newest_msc)
            # Spread over the milliseconds of the step, so that a stamp is shared by some and not by all.
            part["time_msc"] = np.maximum(newest_msc, now_msc - np.linspace(_STEP_S * 1000, 0, len(part)).astype(int))
            part["time"] = part["time_msc"] // 1000
            newest_msc = int(part["time_msc"][-1])
            stand_in.push_ticks(symbol, part)
            done = due
        time.sleep(max(0.0, begun + done / ticks_per_s - time.monotonic()))
    return played
