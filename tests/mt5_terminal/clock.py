"""The broker's wall clock, written as if it were epoch time: what every time of the module is (mt5.md A.6.3)."""

from __future__ import annotations

import datetime
import time
from zoneinfo import ZoneInfo

_NEW_YORK = ZoneInfo("America/New_York")


class ServerClock:
    """Zones: "ny+7" (UTC+2 or +3, switching with the US), "utc-3", "utc+5.5" ..."""

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.shift_ms = 0

    def offset_ms(self, utc_ms: int) -> int:
        """Server clock minus UTC at this moment."""
        if self.zone == "ny+7":
            offset = datetime.datetime.fromtimestamp(utc_ms / 1000, _NEW_YORK).utcoffset()
            assert offset is not None
            return int((offset.total_seconds() + 7 * 3600) * 1000)
        return int(float(self.zone.removeprefix("utc")) * 3_600_000)

    def now_ms(self) -> int:
        """Server time, milliseconds."""
        utc_ms = time.time_ns() // 1_000_000 + self.shift_ms
        return utc_ms + self.offset_ms(utc_ms)
