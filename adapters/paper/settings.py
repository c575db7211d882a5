"""Settings of the paper account: mode, capabilities, costs, faults."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from ...core.messages import AccountMode, Capabilities, OrderType, StopPlace, TimeInForce
from ...shm.durations import NS_PER_DAY, NS_PER_MINUTE
from .scenarios import SCENARIOS, check_names

_Ms = Annotated[float, Meta(ge=0, le=60_000)]
_OrderType = Literal["market", "limit", "stop", "stop_limit"]
_TimeInForce = Literal["day", "gtc", "ioc", "fok", "gtd"]
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


class PaperSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Key `paper` in a platform's settings.

    Attributes:
        mode: None = hedging for MetaTrader 5 (global), netting elsewhere, as their accounts commonly are.
        currency, balance: of the account when it is new.
        brackets: the platform keeps stop loss and take profit with the entry; None = on hedging accounts only.
        oco, replace, reduce_only: further capabilities; orders that need a missing one are refused.
        order_types, times_in_force: those that it accepts.
        commission: in `currency`, per lot and side.
        slippage_ticks: market and stop orders trade this many ticks worse than quoted.
        fill_by_quoted_size: an order trades at most the quoted size, the rest waits for the next quote; a quote
            without sizes fills everything.
        latency_ms, jitter_ms: from the adapter to the exchange; jitter is drawn from `seed` for each order.
        day_ends_utc: time at which day orders expire and a new trading day begins.
        keep_days: ended orders and their executions are dropped after so long, at the end of a day; None = never. At
            least 8, since the gateway asks for 7 days.
        rehearse: the quantity of an entry chooses its scenario (table in docs/adapters.md).
        scenario: scenario of every entry.
        chances: scenario -> probability, drawn from `seed` for each entry.
    """

    mode: Literal["netting", "hedging"] | None = None
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")] | None = None
    balance: Decimal = Decimal(100_000)
    brackets: bool | None = None
    oco: bool = True
    replace: bool = True
    reduce_only: bool = True
    order_types: tuple[_OrderType, ...] = ("market", "limit", "stop", "stop_limit")
    times_in_force: tuple[_TimeInForce, ...] = ("day", "gtc", "ioc", "fok", "gtd")
    commission: Decimal = Decimal(0)
    slippage_ticks: Annotated[int, Meta(ge=0, le=1000)] = 0
    fill_by_quoted_size: bool = True
    latency_ms: _Ms = 0.0
    jitter_ms: _Ms = 0.0
    day_ends_utc: str = "22:00"
    keep_days: Annotated[int, Meta(ge=8, le=36_500)] | None = 30
    seed: int = 1
    rehearse: bool = False
    scenario: str | None = None
    chances: dict[str, float] = {}

    def __post_init__(self) -> None:
        if not _CLOCK.fullmatch(self.day_ends_utc):
            raise ValueError(f"day_ends_utc was {self.day_ends_utc!r}, must be a time of day; write 22:00")
        if self.scenario is not None and self.scenario not in SCENARIOS:
            raise ValueError(f"scenario was {self.scenario!r}, must be one of {', '.join(SCENARIOS)}; correct the name")
        if self.commission < 0:
            raise ValueError(f"commission was {self.commission}, must be at least 0; it is a cost")
        check_names("chances", self.chances)

    def account_mode(self, platform: str) -> AccountMode:
        """The mode in force on this platform."""
        return AccountMode(self.mode or ("hedging" if platform == "mt5" else "netting"))

    def account_currency(self, platform: str) -> str:
        """The currency in force on this platform."""
        return self.currency or ("BRL" if platform == "mt5_br" else "USD")

    def capabilities(self, platform: str) -> Capabilities:
        """Capabilities of this account, as reported to the gateway."""
        hedging = self.account_mode(platform) is AccountMode.HEDGING
        return Capabilities(
            order_types=tuple(OrderType(name) for name in self.order_types),
            times_in_force=tuple(TimeInForce(name) for name in self.times_in_force),
            replace=self.replace,
            brackets=hedging if self.brackets is None else self.brackets,
            oco=self.oco,
            reduce_only=self.reduce_only and not hedging,
            close_by_ticket=hedging,
            executions_history=True,
            oco_shrinks=self.oco,
            stops_at=StopPlace.COMPUTER,
        )

    def next_day_end_ns(self, now_ns: int) -> int:
        """The first end of day after `now_ns`, UTC ns."""
        hours, minutes = self.day_ends_utc.split(":")
        offset_ns = (int(hours) * 60 + int(minutes)) * NS_PER_MINUTE
        days = (now_ns - offset_ns) // NS_PER_DAY + 1
        return days * NS_PER_DAY + offset_ns
