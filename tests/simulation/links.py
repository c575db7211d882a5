"""What is known of one platform's link: what was lost or late, and what has no answer yet."""

from __future__ import annotations

from typing import Final

from tests.simulation.schedule import MS, SECOND

ON_ITS_WAY_NS: Final = 6 * SECOND
"""An order without an answer counts as in flight this long; then the gateway knows from snapshots that it is lost."""
SETTLED_NS: Final = 3_100 * MS
"""A snapshot that is requested this long after a message was lost contains what that message had reported."""


class Links:
    """What is known of one platform's link: `lost_ns`, when a message was lost last; `late_until_ns`, until when one is
    late; `proofs`, when the last two snapshots that have arrived were requested; `pending`, what has no answer yet.
    """

    def __init__(self) -> None:
        self.lost_ns = self.late_until_ns = 0
        self.proofs = [0, 0]
        self.requested: dict[int, int] = {}
        self.pending: dict[str, tuple[str, int]] = {}

    def is_dark(self, now_ns: int) -> bool:
        return now_ns < self.late_until_ns or (self.lost_ns > 0 and min(self.proofs) < self.lost_ns + SETTLED_NS)

    def is_waiting(self, kinds: tuple[str, ...], now_ns: int) -> bool:
        return any(kind in kinds and now_ns - sent_ns < ON_ITS_WAY_NS for kind, sent_ns in self.pending.values())
