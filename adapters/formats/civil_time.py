"""Dates and times of day in columns of text -> ns since 1970, exact."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ...shm.durations import NS_PER_DAY, NS_PER_S
from .delimited import Rows

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2261
"""Years whose nanoseconds fit a signed 64-bit stamp."""


def date_ns(
    rows: Rows, years: npt.NDArray[np.int64], months: npt.NDArray[np.int64], days: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Ns from 1970 to the midnight of each date; a line whose date does not exist is refused."""
    dates, exist = days_of_civil(years, months, days)
    rows.refuse(~exist, f"a date that exists, from {FIRST_YEAR} to {LAST_YEAR}")
    return np.where(exist, dates, 0) * NS_PER_DAY


def time_ns(rows: Rows, hour: int, minute: int, second: int) -> npt.NDArray[np.int64]:
    """Ns from midnight, of three columns; seconds may have up to nine decimals."""
    minutes = rows.integers(hour, 0, 23) * 60 + rows.integers(minute, 0, 59)
    return minutes * 60 * NS_PER_S + rows.scaled(second, 9, 0, 60 * NS_PER_S - 1)


def days_of_civil(
    years: npt.NDArray[np.int64], months: npt.NDArray[np.int64], days: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the days from 1970-01-01, and which dates exist (the days of the others are undefined)."""
    exist = (years >= FIRST_YEAR) & (years <= LAST_YEAR) & (months >= 1) & (months <= 12) & (days >= 1)
    month_index = np.where(exist, (years - FIRST_YEAR) * 12 + months - 1, 0)
    first_day = month_index.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    next_first = (month_index + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    exist &= first_day + days <= next_first
    return first_day + days - 1, exist
