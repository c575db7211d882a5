"""When futures roll, and what becomes of what is open then."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct


class RolloverConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rolls of all futures in `symbols`; docs/instruments.md.

    `enabled` False: the contract of each symbol stays as it was. `policy`: what becomes of our legs on the old one:
    hold = they stay, and can be closed until it expires; close = they are closed at the switch. `warm_s`: how long
    before the switch the next contract is subscribed on every platform. `dates`: contract -> its roll date, such as
    {NQH27: "2027-03-12"}. `switch_at`: contract -> the exact moment, with a time zone; it wins over `dates`.
    """

    enabled: bool = True
    policy: Literal["hold", "close"] = "hold"
    warm_s: Annotated[float, Meta(ge=1, le=30 * 86_400)] = 86_400.0
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
    def roll_dates(self) -> dict[str, date]:
        """`dates`, read."""
        return {contract: date.fromisoformat(text) for contract, text in self.dates.items()}

    @property
    def switch_times(self) -> dict[str, datetime]:
        """`switch_at`, read."""
        return {contract: datetime.fromisoformat(text) for contract, text in self.switch_at.items()}
