"""What can be made to happen to an order, by name; the lots of those that `rehearse` chooses by volume."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nexus_gateway.adapters.paper.scenarios import SCENARIOS as PAPER_SCENARIOS

_DEFAULTS: dict[str, dict[str, Any]] = {
    "": {},
    "reject": {"retcode": 10006},
    "partial_then_fill": {"after_ms": 1000},
    "partial_then_cancel": {"after_ms": 1000},
    "fill_during_cancel": {},
    "fill_during_replace": {},
    "unsolicited_cancel": {"after_ms": 1000},
    "duplicate_execution": {},
    "fill_before_ack": {"after_ms": 250},
    "timeout_then_ack": {"after_ms": 4000},
    "timeout_then_nothing": {},
    "bust": {"after_ms": 1000},
    "correction": {"after_ms": 1000},
    "overfill": {},
    "out_of_order": {"after_ms": 300},
    "silent_fill": {"after_ms": 4000},
    "late_sibling": {"after_ms": 2000},
    "manual_trade": {},
    "manual_close": {},
    "manual_order": {},
    "mute_link": {"after_ms": 5000},
    "death_before_accept": {},
    "death_after_accept": {},
    "death_after_fill": {},
    "cancel_rejected": {},
    "rest": {},
    "slow": {"after_ms": 1000},
    "hang_after": {},
    "answer_lost": {"executed": True},
    "no_answer": {"code": -10002, "executed": True},
    "retcode": {"retcode": 10011, "executed": False},
    "placed": {"after_ms": 500},
    "comment": {"text": "rewritten"},
    "slip": {"ticks": 1},
    "late_deals": {"after_ms": 1000},
    "rejected_later": {"after_ms": 200},
    "listed_late": {"after_ms": 1000},
    "ends_out_of_sight": {"after_ms": 300, "by_ticket": True},
    "ends_partial": {"after_ms": 300},
}
NAMES = tuple(_DEFAULTS)
_BY_LOTS = {float(lots): name for name, (lots, _) in PAPER_SCENARIOS.items()}
RESTING = (
    *("fill_during_cancel", "fill_during_replace", "unsolicited_cancel", "cancel_rejected", "rest"),
    *("rejected_later", "listed_late", "ends_out_of_sight"),
)
LISTED_LATE = ("silent_fill", "late_deals", "timeout_then_ack")


@dataclass(frozen=True)
class Plan:
    """One order's fate. `terms`: those of the scenario, defaults filled in."""

    name: str = ""
    terms: dict[str, Any] = field(default_factory=dict)

    @property
    def after_ms(self) -> int:
        return int(self.terms.get("after_ms", 0))


def make_plan(name: str, terms: dict[str, Any]) -> Plan:
    """Raises ValueError when the name is no scenario or it has no such term."""
    if name not in _DEFAULTS:
        raise ValueError(f"scenario was {name!r}, must be one of {', '.join(filter(None, _DEFAULTS))}")
    unknown = set(terms) - set(_DEFAULTS[name])
    if unknown:
        raise ValueError(f"terms of {name} were {sorted(unknown)}, must be of {sorted(_DEFAULTS[name])}")
    return Plan(name, _DEFAULTS[name] | terms)


class Script:
    """Which scenario the next order gets."""

    def __init__(self, rehearse: bool) -> None:
        self.rehearse = rehearse
        self._next: list[Plan] = []
        self._all = Plan()

    def queue(self, name: str, count: int, terms: dict[str, Any]) -> None:
        self._next += [make_plan(name, terms)] * count

    def set_all(self, name: str, terms: dict[str, Any]) -> None:
        self._all = make_plan(name, terms)

    def take(self, volume: float, is_closing: bool) -> Plan:
        """Called once for each order; one that closes a position by its ticket is only struck by name."""
        if self._next:
            return self._next.pop(0)
        if self._all.name:
            return self._all
        if self.rehearse and not is_closing:
            return make_plan(_BY_LOTS.get(round(volume, 8), ""), {})
        return Plan()
