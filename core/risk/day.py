"""Counters of the trading day. They live in the journaled state, so a restart cannot reset them."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from msgspec import Struct, field

from ...shm.durations import NS_PER_S


class Equity(Struct, kw_only=True):
    """One account's equity in its own currency: at the day's start, now, and the highest ever seen. `usd_rate`: USD for
    one unit of it, newest.

    Not in USD: a currency that falls is no trade that was lost, and would stop all trading on a large account.
    """

    day_start: Decimal
    now: Decimal
    peak: Decimal
    usd_rate: Decimal


class DayCounters(Struct, kw_only=True):
    """What has been used of the day's limits. Reserved before sending, given back only when nothing was
    traded.

    `drawdown_breached`: the drawdown was at its limit when it was last looked at; outlives the day.
    `trades`: signal keys that opened, or may have opened, risk today. A set as dict keys, so that the order
    is fixed. `unpriced`: some result of today could not be turned into USD, so the loss is not known.
    """

    started_ns: int = 0
    ends_ns: int = 0
    trades: dict[str, int] = field(default_factory=dict)
    realized_usd: Decimal = Decimal(0)
    unpriced: bool = False
    unpriced_accounts: dict[str, None] = field(default_factory=dict)
    equity: dict[str, Equity] = field(default_factory=dict)
    sent_ns: dict[str, list[int]] = field(default_factory=dict)
    entries_ns: dict[str, list[int]] = field(default_factory=dict)
    breached: bool = False
    drawdown_breached: bool = False

    def roll(self, now_ns: int, day_zone: str, day_starts: str) -> bool:
        """Start a new day when the old one has ended; True when it did. Equity peaks and rates live on."""
        if now_ns < self.ends_ns:
            return False
        self.started_ns, self.ends_ns = day_bounds(now_ns, day_zone, day_starts)
        self.trades.clear()
        self.realized_usd = Decimal(0)
        self.unpriced = False
        self.breached = False
        for equity in self.equity.values():
            equity.day_start = equity.now
        return True

    def count_sent(self, route: str, now_ns: int) -> None:
        """Count one order on its way, for the rate limits. Times older than a second are dropped."""
        for name in (route, ""):
            times = self.sent_ns.setdefault(name, [])
            times.append(now_ns)
            _drop_before(times, now_ns - NS_PER_S)

    def sent_in_last_second(self, route: str, now_ns: int) -> int:
        """Orders sent in the last second to `route`, or to all when it is empty."""
        times = self.sent_ns.get(route)
        return 0 if times is None else _count_from(times, now_ns - NS_PER_S + 1)

    def count_entry(self, name: str, now_ns: int, window_ns: int) -> None:
        """Count one accepted entry of `name` (symbol and side)."""
        times = self.entries_ns.setdefault(name, [])
        times.append(now_ns)
        _drop_before(times, now_ns - window_ns)

    def entries_in_window(self, name: str, now_ns: int, window_ns: int) -> int:
        """Entries of `name` in the window that ends now."""
        times = self.entries_ns.get(name)
        return 0 if times is None else _count_from(times, now_ns - window_ns + 1)

    def set_equity(
        self, route: str, equity: Decimal, platform_day_start: Decimal | None, usd_rate: Decimal = Decimal(1)
    ) -> None:
        """Note an account's equity, in its own currency. The day's start is never lowered: a restart must not forgive a
        loss.
        """
        known = self.equity.get(route)
        start = equity if platform_day_start is None else platform_day_start
        if known is None:
            self.equity[route] = Equity(day_start=start, now=equity, peak=max(start, equity), usd_rate=usd_rate)
            return
        known.now, known.usd_rate = equity, usd_rate
        known.peak = max(known.peak, equity)
        if platform_day_start is not None:
            known.day_start = max(known.day_start, platform_day_start)

    def loss_usd(self) -> Decimal:
        """Today's loss, positive: the worse of the own books and of what the accounts show."""
        by_accounts = sum(((e.day_start - e.now) * e.usd_rate for e in self.equity.values()), Decimal(0))
        return max(-self.realized_usd, by_accounts, Decimal(0))

    def drawdown_usd(self) -> Decimal:
        """How far the accounts are below their highest equity, summed."""
        return sum(((e.peak - e.now) * e.usd_rate for e in self.equity.values()), Decimal(0))


def day_bounds(now_ns: int, day_zone: str, day_starts: str) -> tuple[int, int]:
    """Start and end (UTC ns) of the trading day that holds `now_ns`; 23 or 25 hours long when clocks
    change.
    """
    zone = ZoneInfo(day_zone)
    hour, minute = (int(part) for part in day_starts.split(":"))
    local = datetime.fromtimestamp(now_ns // NS_PER_S, UTC).astimezone(zone)
    start = local.replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
    if _utc_ns(start) > now_ns:
        start -= timedelta(days=1)
    return _utc_ns(start), _utc_ns(start + timedelta(days=1))


def _utc_ns(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp()) * NS_PER_S


def _drop_before(times: list[int], first_ns: int) -> None:
    del times[: bisect_left(times, first_ns)]


def _count_from(times: list[int], first_ns: int) -> int:
    """How many of the ascending times are not before `first_ns`."""
    return len(times) - bisect_left(times, first_ns)
