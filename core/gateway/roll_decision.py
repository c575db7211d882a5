"""One roll, all platforms or none. Pure.

Mixed months are the fault this prevents: a signal that buys March on one platform and June on another is no hedge and
no copy. So the platform that is not ready holds back the others, and the user is told. Not for ever: in the old
contract's last session holding back would keep everybody on a contract that dies. From then on the others move, and
the one that is not ready is left behind: the decision holds for it too, and it gets no order before it has followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct


class Standing(Struct, frozen=True, kw_only=True):
    """One platform just before a roll. Prices in quote units, None = none that its adapter stands by, or none that a
    spread can be reckoned from; `is_quoted`: the new contract has a quote all the same.

    `obstacle`: what else keeps it from moving, such as an identity that does not match; empty = nothing.
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


def find_obstacles(new: str, standings: Sequence[Standing]) -> list[str]:
    """Why the roll to `new` must wait, one sentence a platform; empty = all move."""
    found = []
    for each in standings:
        if each.obstacle:
            found.append(f"{each.platform}: {each.obstacle}")
        elif each.new_price is None and not each.is_quoted:
            found.append(f"{each.platform}: has no quote of {new}")
    return found
