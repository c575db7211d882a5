"""Periods in which a platform refuses: all new orders, closing orders, stops, cancels or replaces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from nexus_gateway.core import messages as m

from tests.simulation.schedule import SECOND

SCOPES: Final = ("orders", "closing", "stops", "cancels", "replaces")
SHORT_S: Final = (1, 20, 60)
LONG_S: Final = 600


@dataclass
class Refusals:
    """`spans`: the period of each scope that was begun last: from, until."""

    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def begin(self, scope: str, now_ns: int, seconds: int) -> None:
        self.spans[scope] = now_ns, now_ns + seconds * SECOND

    def end_all(self, now_ns: int) -> None:
        self.spans = {scope: (from_ns, min(until_ns, now_ns)) for scope, (from_ns, until_ns) in self.spans.items()}

    def holds(self, scope: str, now_ns: int) -> bool:
        from_ns, until_ns = self.spans.get(scope, (0, 0))
        return from_ns <= now_ns < until_ns

    def scope_of(self, role: m.OrderRole, now_ns: int) -> str:
        """What forbids an order of this role now; empty = nothing does."""
        if self.holds("orders", now_ns):
            return "orders"
        if role is m.OrderRole.EXIT and self.holds("closing", now_ns):
            return "closing"
        return "stops" if role is m.OrderRole.STOP_LOSS and self.holds("stops", now_ns) else ""
