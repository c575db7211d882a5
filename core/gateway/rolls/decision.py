"""Which platforms are ready for a roll. Pure.

All platforms roll together or none does. Otherwise the legs of one signal would be in different months, March on one
platform and June on another, and neither copy nor hedge each other. So one platform that is not ready holds back the
others, and the user is alerted. This ends in the old contract's last session, since nobody may stay in a contract that
expires: then the others roll, and the platform that is not ready is left behind. The decision holds for it as well, so
it gets no order before it has followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct


class Readiness(Struct, frozen=True, kw_only=True):
    """One platform's readiness for a roll.

    Prices in quote units; None = no valid quote, or none that a spread can be computed from. `is_quoted`: the new
    contract has a valid quote, even when its price cannot be used for a spread. `obstacle`: another reason why the
    platform cannot roll, such as a contract description that does not match; empty = none.
    """

    platform: str
    old_price: Decimal | None
    new_price: Decimal | None
    is_quoted: bool = False
    obstacle: str = ""

    @property
    def spread(self) -> Decimal | None:
        """New contract's price minus the old one's."""
        if self.old_price is None or self.new_price is None:
            return None
        return self.new_price - self.old_price


def find_obstacles(new: str, platforms: Sequence[Readiness]) -> list[str]:
    """Return why the roll to `new` must wait, one sentence a platform; empty = all are ready."""
    found = []
    for each in platforms:
        if each.obstacle:
            found.append(f"{each.platform}: {each.obstacle}")
        elif each.new_price is None and not each.is_quoted:
            found.append(f"{each.platform}: has no quote of {new}")
    return found
