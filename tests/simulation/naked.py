"""How long lots are held without a working stop, and what forces it. What nothing forces may last a few seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.simulation.schedule import SECOND, Schedule
from tests.simulation.truth import AccountTruth, LegTruth

BOUND_NS: Final = 3 * SECOND
"""A few round trips and a pause before the next try."""
LONGEST_PAUSE_S: Final = 60
REACTION: Final = "nothing forces it"
GRACE: Final = ("stop in flight", "stop refused", "closing order in flight", "fill not reported yet")
"""Reasons that only stop the clock. After the others the gateway has all of `BOUND_NS` again, for it knew nothing or
could do nothing meanwhile. With these it would otherwise be enough to send something now and then.
"""


def pause_ns(refusals: int) -> int:
    """How long it may wait after so many refusals in a row."""
    return min(LONGEST_PAUSE_S, 2 ** min(refusals - 1, 10)) * SECOND + BOUND_NS


@dataclass
class Stretch:
    """The time since when an account holds naked lots. `spent`: ns by reason."""

    at_ns: int
    reason: str
    idle_ns: int = 0
    told: bool = False
    spent: dict[str, int] = field(default_factory=dict)


@dataclass
class NakedTimes:
    """`reason_of` names what forces it now. `worst`: the longest of the run, ns by reason."""

    schedule: Schedule
    reason_of: Callable[[AccountTruth], str]
    report: Callable[[str], None]
    worst: dict[str, int] = field(default_factory=dict)
    open: dict[tuple[str, str], Stretch] = field(default_factory=dict)

    def look(self, account: AccountTruth) -> None:
        """After anything that concerns an account has happened."""
        key, now_ns = (account.platform.name, account.contract), self.schedule.now_ns
        stretch = self.open.get(key)
        if stretch is not None:
            self._spend(account, stretch, now_ns)
        if not account.naked:
            if stretch is not None:
                del self.open[key]
            return
        reason = self.reason_of(account)
        if stretch is None:
            self.open[key] = Stretch(now_ns, reason)
            return
        stretch.reason = reason
        if reason != REACTION and reason not in GRACE:
            stretch.idle_ns = 0

    def _spend(self, account: AccountTruth, stretch: Stretch, now_ns: int) -> None:
        spent_ns, reason = now_ns - stretch.at_ns, stretch.reason
        stretch.at_ns = now_ns
        if not spent_ns:
            return
        in_all = stretch.spent[reason] = stretch.spent.get(reason, 0) + spent_ns
        self.worst[reason] = max(self.worst.get(reason, 0), in_all)
        if reason == REACTION:
            stretch.idle_ns += spent_ns
            if stretch.idle_ns > BOUND_NS and not stretch.told:
                stretch.told = True
                legs = [f"{leg.key[0]} {leg.key[1]} {leg.lots:+f} covered {leg.cover}" for leg in naked_legs(account)]
                self.report(
                    f"naked: {account.platform.name} {account.contract} holds {account.naked} lots without a stop, and "
                    f"nothing has forced it for {stretch.idle_ns / SECOND:.1f} s; {', '.join(legs)}"
                )


def naked_legs(account: AccountTruth) -> list[LegTruth]:
    return [leg for leg in account.legs.values() if leg.deficit]
