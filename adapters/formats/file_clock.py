"""Conversion from a file's own clock to UTC: a fixed shift, then optionally a time zone with its summer time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from ...core.errors import ConfigError
from ...shm.durations import NS_PER_S
from .recording import ReadOptions

# Every zone changes its offset on a quarter of an hour of its own clock.
_STEP_NS: Final = 900 * NS_PER_S
_EPOCH: Final = datetime(1970, 1, 1)


@dataclass(frozen=True)
class FileClock:
    """UTC = UTC of (file time + add_s) in `zone`. `known`: the source of these values, for logs."""

    add_s: int
    zone: str | None
    known: str

    @classmethod
    def choose(cls, options: ReadOptions, add_s: int, known: str) -> FileClock:
        """Return the clock of the options, or else the documented one. Raises ConfigError for an unknown zone."""
        if options.add_s is None and options.zone is None:
            return cls(add_s, None, known)
        if options.zone is not None:
            try:
                ZoneInfo(options.zone)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise ConfigError(f"zone was {options.zone!r}; use an IANA name such as 'America/New_York'") from error
        return cls(options.add_s or 0, options.zone, "as given")

    def __str__(self) -> str:
        zone = f", then from {self.zone}" if self.zone else ""
        return f"{self.add_s:+d} s{zone} to UTC ({self.known})"

    def to_utc_ns(self, file_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """UTC ns of times in the file's clock, counted in ns from 1970 as if it were UTC; fresh array.

        An hour that the zone's clock shows twice is taken as its first: the recorded order then steps back, and that
        is counted.
        """
        local_ns = file_ns + self.add_s * NS_PER_S
        if self.zone is None:
            return local_ns
        steps, where = np.unique(local_ns // _STEP_NS, return_inverse=True)
        offsets = np.array([_offset_ns(self.zone, int(step)) for step in steps], np.int64)
        return local_ns - offsets[where]


@lru_cache(maxsize=4096)
def _offset_ns(zone: str, step: int) -> int:
    local = (_EPOCH + timedelta(microseconds=step * _STEP_NS // 1000)).replace(tzinfo=ZoneInfo(zone))
    offset = local.utcoffset()
    assert offset is not None
    return round(offset.total_seconds()) * NS_PER_S


def ns_of(base: datetime) -> int:
    """Ns from 1970 of a date and time without zone, taken as it stands."""
    return round((base.replace(tzinfo=UTC) - _EPOCH.replace(tzinfo=UTC)).total_seconds()) * NS_PER_S
