"""How far a bridge's clock is ahead of ours. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

_SAMPLES: Final = 16


class ClockOffset:
    """From the newest exchanges of stamps the one with the shortest round trip: it has the least room for error.

    Attributes:
        offset_ns: bridge's clock minus ours; 0 before the first sample.
        round_trip_ns: of the sample it is from; the offset is right to half of this.
    """

    def __init__(self) -> None:
        self.offset_ns = 0
        self.round_trip_ns = 0
        self._samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES)

    def add(self, sent_ns: int, bridge_received_ns: int, bridge_sent_ns: int, received_ns: int) -> None:
        """One exchange: when we sent and received by our clock, when the bridge received and sent by its own."""
        round_trip_ns = (received_ns - sent_ns) - (bridge_sent_ns - bridge_received_ns)
        if round_trip_ns < 0:
            return  # a clock was set meanwhile
        offset_ns = ((bridge_received_ns - sent_ns) + (bridge_sent_ns - received_ns)) // 2
        self._samples.append((round_trip_ns, offset_ns))
        self.round_trip_ns, self.offset_ns = min(self._samples)

    def latest_at_bridge(self, utc_ns: int) -> int:
        """Our time by the bridge's clock, early by what is not known; 0 stays 0."""
        return max(utc_ns + self.offset_ns - self.round_trip_ns // 2, 1) if utc_ns else 0
