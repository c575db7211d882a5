"""When futures roll, and what becomes of what is open then."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct


class RolloverConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rolls of all futures in `symbols`; docs/instruments.md.

    `enabled` False: the contract of each symbol stays as it was. `policy`: what becomes of our legs on the old one:
    hold = they stay, and can be closed until it expires; close = they are closed as soon as the market is open after
    the switch; roll = they are closed, and the same lots are opened in the new contract. `before_end_s`: with close
    and roll, contracts that would be left when they are dead (WDO, DOL) are left so long before their last session
    ends. `warm_s`: how long before the switch the next contract is subscribed on every platform; six days, for what is
    subscribed while its market is shut has no quote, and no roll is decided without one. `fence_after_s`: how long a
    platform that is not ready holds back the others once the old contract's last session has begun. `dates`: contract
    -> its roll date, such as {NQH27: "2027-03-12"}. `switch_at`: contract -> the exact moment, with a time zone; it
    wins over `dates`.
    """

    enabled: bool = True
    policy: Literal["hold", "close", "roll"] = "hold"
    before_end_s: Annotated[float, Meta(ge=60, le=6 * 3_600)] = 1_800.0
    warm_s: Annotated[float, Meta(ge=1, le=30 * 86_400)] = 518_400.0
    fence_after_s: Annotated[float, Meta(ge=0, le=86_400)] = 600.0
    dates: dict[str, str] = {}
    switch_at: dict[str, str] = {}

    def __post_init__(self) -> None:
        for contract, text in self.dates.items():
            try:
                date.fromisoformat(text)
            except ValueError:
                raise ValueError(f"dates.{contract} was {text!r}, must be a day; write 2027-03-12") from None
        for contract, text in self.switch_at.items():
            try:
                aware = datetime.fromisoformat(text).tzinfo is not None
            except ValueError:
                aware = False
            if not aware:
                raise ValueError(
                    f"switch_at.{contract} was {text!r}, must be a time with its zone; write 2027-03-12T22:00:00+00:00"
                )

    @property
    def before_end(self) -> timedelta:
        """How long before the end of its last session a contract is left that has no market afterwards."""
        return timedelta(0) if self.policy == "hold" else timedelta(seconds=self.before_end_s)

    @property
    def roll_dates(self) -> dict[str, date]:
        """`dates`, read."""
        return {contract: date.fromisoformat(text) for contract, text in self.dates.items()}

    @property
    def switch_times(self) -> dict[str, datetime]:
        """`switch_at`, read."""
        return {contract: datetime.fromisoformat(text) for contract, text in self.switch_at.items()}
