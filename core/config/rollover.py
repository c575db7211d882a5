"""Settings of contract rolls: when futures roll, and the policy for open positions."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct


class RolloverConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rolls of all futures in `symbols`; docs/instruments.md.

    `enabled` False: the contract of each symbol stays as it is. `policy`: for our legs in the old contract: hold = they
    stay, and can be closed until it expires; close = they are closed when the market opens after the switch; roll =
    they are closed, and the same lots are opened in the new contract. `before_end_s`: with close and roll, contracts
    that have no market after their roll (WDO, DOL) are switched this long before their last session ends. `warm_s`:
    the next contract is subscribed on every platform this long before the switch. Six days, because a contract that is
    subscribed while its market is closed has no quote, and no roll is decided without one. `fence_after_s`: how long a
    platform that is not ready delays the others once the old contract's last session has begun. `dates`: contract ->
    its roll date, such as {NQH27: "2027-03-12"}. `switch_at`: contract -> the exact time, with a time zone; it
    overrides `dates`.
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
        """How long before the end of its last session a contract is switched that has no market afterwards."""
        return timedelta(0) if self.policy == "hold" else timedelta(seconds=self.before_end_s)

    @property
    def roll_dates(self) -> dict[str, date]:
        """`dates`, parsed."""
        return {contract: date.fromisoformat(text) for contract, text in self.dates.items()}

    @property
    def switch_times(self) -> dict[str, datetime]:
        """`switch_at`, parsed."""
        return {contract: datetime.fromisoformat(text) for contract, text in self.switch_at.items()}
