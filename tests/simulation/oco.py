"""OCO groups as NinjaTrader means them: when one order of a group has filled, the platform cancels all others of it.

A group of which any order has ended takes no new one. On some platforms the others end, too, when one of a group is
cancelled or refused; on some a partial fill makes the others smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from tests.simulation.book import HeldOrder


@dataclass
class OcoGroups:
    """`cancel` ends an order, `resize` makes it smaller; both report it. `ends_all`: any end of one ends the others."""

    cancel: Callable[[HeldOrder], None]
    resize: Callable[[HeldOrder, Decimal], None]
    is_on: bool = False
    shrinks: bool = False
    ends_all: bool = False
    members: dict[str, list[HeldOrder]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    reused: int = 0

    def is_over(self, group: str) -> bool:
        return self.is_on and group in self.ended

    def join(self, held: HeldOrder) -> None:
        if self.is_on and held.order.oco_group:
            self.members.setdefault(held.order.oco_group, []).append(held)

    def note_trade(self, held: HeldOrder, lots: Decimal) -> list[HeldOrder]:
        """The others that this trade of one has ended or made smaller."""
        group = held.order.oco_group
        if not self.is_on or not group:
            return []
        others = [other for other in self.members[group] if other is not held and other.is_live]
        if not held.is_live:
            self.ended.add(group)
            for other in others:
                self.cancel(other)
        elif self.shrinks:
            for other in others:
                self.resize(other, lots)
        return others

    def note_end(self, group: str) -> None:
        """One has ended without a trade that filled it: cancelled, expired or refused."""
        if not self.is_on or not group or group in self.ended:
            return
        self.ended.add(group)
        if self.ends_all:
            for other in self.members.get(group, ()):
                if other.is_live:
                    self.cancel(other)
