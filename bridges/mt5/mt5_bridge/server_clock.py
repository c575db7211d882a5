"""Convert between UTC and the server's clock, the broker's wall clock that the terminal stamps as if it were UTC."""

from __future__ import annotations

import calendar
import functools
import time
from typing import Any

import numpy as np

from .constants import MS_PER_S, NS_PER_MS
from .fields import Body

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
QUARTER_MS = 15 * MINUTE_MS
AHEAD_MS = 2_000
BEHIND_MS = 10_000
SAMPLES = 5
SAMPLING_MS = 10_000


def _sunday(year: int, month: int, number: int) -> int:
    """Day of the month of the `number`th Sunday; -1 = the last."""
    days = [day for day in range(1, calendar.monthrange(year, month)[1] + 1) if calendar.weekday(year, month, day) == 6]
    return days[number - 1 if number > 0 else number]


@functools.cache
def summer_of(rule: str, year: int) -> tuple[int, int]:
    """Begin and end of daylight saving time, UTC ms: 02:00 New York by US dates, 01:00 UTC by EU dates."""
    if rule == "us":
        first, last = (3, _sunday(year, 3, 2), 7), (11, _sunday(year, 11, 1), 6)
    else:
        first, last = (3, _sunday(year, 3, -1), 1), (10, _sunday(year, 10, -1), 1)
    start, end = (calendar.timegm((year, *day_hour, 0, 0)) * MS_PER_S for day_hour in (first, last))
    return start, end


class ServerClock:
    """Offset of the server's clock from UTC at any time, in ms."""

    def __init__(self, settings: Body) -> None:
        self._rule: str = settings["dst"]
        self._base_ms: int = settings["utc_offset_minutes"] * MINUTE_MS
        self.is_measured = settings["mode"] == "measured"
        # Measured: (since UTC ms, offset ms), oldest first. Earlier time stamps keep the offset of their time.
        self._pieces: list[tuple[int, int]] = []

    @property
    def is_known(self) -> bool:
        """False in mode `measured` before the first measurement."""
        return not self.is_measured or bool(self._pieces)

    def offset_ms(self, utc_ms: int) -> int:
        """Server's clock minus UTC at this time."""
        if self.is_measured:
            if not self._pieces:
                return self._base_ms
            began = [offset for since, offset in self._pieces if since <= utc_ms]
            return began[-1] if began else self._pieces[0][1]
        return self._base_ms + (HOUR_MS if self._is_summer(utc_ms) else 0)

    def take(self, offset_ms: int, utc_ms: int) -> None:
        """Use a measured offset from `utc_ms` on."""
        self._pieces.append((utc_ms, offset_ms))

    def to_server_ms(self, utc_ms: int) -> int:
        """Time stamp of the server's clock at this UTC time."""
        return utc_ms + self.offset_ms(utc_ms)

    def to_utc_ms(self, server_ms: int) -> int:
        """UTC of a time stamp. In the hour that occurs twice when clocks go back: the earlier one."""
        if self.is_measured:
            for since, offset in reversed(self._pieces):
                if server_ms - offset >= since:
                    return server_ms - offset
            return server_ms - self.offset_ms(0)
        summer_ms = server_ms - self._base_ms - HOUR_MS
        return summer_ms if self._is_summer(summer_ms) else server_ms - self._base_ms

    def to_utc_ns(self, server_ms: int) -> int:
        """As `to_utc_ms`, in ns; 0, the terminal's value for none, stays 0."""
        return max(self.to_utc_ms(server_ms), 0) * NS_PER_MS if server_ms > 0 else 0

    def all_to_utc_ms(self, server_ms: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """As `to_utc_ms`, for an ascending array."""
        first, last = int(server_ms[0]), int(server_ms[-1])
        offset_ms = first - self.to_utc_ms(first)
        if last - self.to_utc_ms(last) == offset_ms and last - first < 90 * 24 * HOUR_MS:
            return server_ms - offset_ms
        return np.array([self.to_utc_ms(int(each)) for each in server_ms], np.int64)

    def _is_summer(self, utc_ms: int) -> bool:
        if self._rule == "none":
            return False
        year = time.gmtime(max(utc_ms, 0) // MS_PER_S).tm_year
        start, end = summer_of(self._rule, year)
        return start <= utc_ms < end


class ClockGauge:
    """Measures the server's offset on new ticks: their time stamp minus this computer's clock, in quarters of an hour.

    Ticks are a little old when they are read, and this computer's clock may be some seconds wrong; a sample further
    from a quarter proves nothing. `SAMPLES` ticks in a row, of any symbols, must agree.
    """

    def __init__(self) -> None:
        self._samples: list[int] = []
        self._began_ms = 0

    def add(self, server_ms: int, utc_ms: int) -> None:
        """Add the time stamp of a tick that was received at `utc_ms`."""
        if not self._samples:
            self._began_ms = utc_ms
        self._samples.append(server_ms - utc_ms)

    def read(self, utc_ms: int) -> int | None:
        """The measured offset in ms, once enough samples agree; else None. Clears the samples it has judged."""
        if not self._samples or (utc_ms - self._began_ms < SAMPLING_MS and len(self._samples) < SAMPLES):
            return None
        samples, self._samples = self._samples, []
        if len(samples) < SAMPLES:
            return None
        found = set()
        for sample in samples:
            quarter = (sample + BEHIND_MS) // QUARTER_MS * QUARTER_MS
            if not -BEHIND_MS <= sample - quarter <= AHEAD_MS:
                return None
            found.add(quarter)
        return found.pop() if len(found) == 1 else None
