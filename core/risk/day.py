"""Counters of the trading day. They are part of the journaled state, so a restart cannot reset them."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from msgspec import Struct, field

from ...shm.durations import NS_PER_DAY, NS_PER_S


class Equity(Struct, kw_only=True):
    """One account's equity, in the account's own currency.

    Not in USD: a falling currency is not a trading loss, and would stop all trading on a large account.
    """

    day_start: Decimal  # at the start of the trading day; never lowered during the day
    now: Decimal  # as last reported
    peak: Decimal  # the highest ever seen: drawdown is measured from it
    usd_rate: Decimal  # newest rate: USD for one unit of the account's currency


class DayCounters(Struct, kw_only=True):
    """The used part of the day's limits. A trade is reserved before sending, given back only when nothing traded.

    The day's bounds are by the wall clock; times of trades, orders and entries are the engine's.
    """

    started_ns: int = 0  # start of the trading day, UTC ns
    ends_ns: int = 0  # its end, UTC ns; 0 = no day has begun yet
    trades: dict[str, int] = field(default_factory=dict)  # key of a signal that opened, or may have -> when, engine ns
    realized_usd: Decimal = Decimal(0)  # result of closed lots today, fees off, all accounts
    unpriced: bool = False  # a result of today has no USD value: the loss is unknown, and entries are refused
    unpriced_accounts: dict[str, None] = field(default_factory=dict)  # routes whose equity has no USD rate
    equity: dict[str, Equity] = field(default_factory=dict)  # route -> equity of its account
    sent_ns: dict[str, list[int]] = field(default_factory=dict)  # route ("" = all) -> orders of the last second
    entries_ns: dict[str, list[int]] = field(default_factory=dict)  # route|symbol|side -> entries in the window
    breached: bool = False  # a loss limit was breached today: no stage goes up
    drawdown_breached: bool = False  # the drawdown was at its limit at the last check; outlives the day
    traded_usd: Decimal = Decimal(0)  # value of the executions in `traded`
    traded: dict[str, Decimal] = field(default_factory=dict)  # key of an execution of ours booked today -> value in USD
    unpriced_executions: dict[str, None] = field(default_factory=dict)  # those whose value is not known yet
    fills: dict[str, int] = field(default_factory=dict)  # route -> executions of ours booked today
    messages: dict[str, int] = field(default_factory=dict)  # route -> orders, replaces and cancels sent today
    ratio_alerted: dict[str, None] = field(default_factory=dict)  # routes whose messages per fill were alerted today

    def roll(self, wall_ns: int, day_zone: str, day_starts: str) -> bool:
        """Start a new day when the old one has ended; True when it did. Equity peaks and rates live on.

        By the wall clock, as the exchange's day is. A clock that was set back starts no older day again.
        """
        if wall_ns < self.ends_ns:
            return False
        self.started_ns, self.ends_ns = day_bounds(wall_ns, day_zone, day_starts)
        self.trades.clear()
        self.realized_usd = Decimal(0)
        self.unpriced = False
        self.breached = False
        self.traded_usd = Decimal(0)
        for of_the_day in (self.traded, self.unpriced_executions, self.fills, self.messages, self.ratio_alerted):
            of_the_day.clear()
        for equity in self.equity.values():
            equity.day_start = equity.now
        return True

    def end_within_two(self, wall_ns: int, day_zone: str, day_starts: str) -> None:
        """Bring the day's end near again when the clock was set back: at most the end after the next one.

        Nothing is reset. The next end alone would not do: set back over a day's beginning, that day would begin again,
        and its limits with it. Without an end that is near, a clock that was a year ahead for a moment would keep one
        day, and the limits that it has used up, for a year.
        """
        started_ns, ends_ns = day_bounds(wall_ns + NS_PER_DAY, day_zone, day_starts)
        if ends_ns < self.ends_ns:
            self.started_ns, self.ends_ns = started_ns, ends_ns

    def count_sent(self, route: str, now_ns: int) -> None:
        """Count one order or replace, for the rate limits. Times older than a second are dropped."""
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

    def count_message(self, route: str) -> None:
        """Count one order, replace or cancel that leaves for an account."""
        self.messages[route] = self.messages.get(route, 0) + 1

    def count_execution(self, route: str, key: str, value_usd: Decimal | None) -> None:
        """Count an execution of ours that is booked for the first time. `value_usd` None: it has no rate yet."""
        if not self.is_of_today(key):
            self.fills[route] = self.fills.get(route, 0) + 1
            self.unpriced_executions[key] = None
            self.value_execution(key, value_usd)

    def is_of_today(self, key: str) -> bool:
        """Whether an execution was counted today: one of an earlier day that is corrected now counts no more."""
        return key in self.traded or key in self.unpriced_executions

    def value_execution(self, key: str, value_usd: Decimal | None) -> None:
        """Set the value of an execution of today, after a correction too; 0 after a bust."""
        self.traded_usd -= self.traded.pop(key, Decimal(0))
        self.unpriced_executions.pop(key, None)
        if value_usd is None:
            self.unpriced_executions[key] = None
        else:
            self.traded[key] = value_usd
            self.traded_usd += value_usd

    def set_equity(
        self, route: str, equity: Decimal, platform_day_start: Decimal | None, usd_rate: Decimal = Decimal(1)
    ) -> None:
        """Record an account's equity, in its own currency. Its day start is never lowered: a restart must not hide a
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
        """Today's loss in USD, positive: the larger of the booked one and of the accounts' loss of equity."""
        by_accounts = sum(((e.day_start - e.now) * e.usd_rate for e in self.equity.values()), Decimal(0))
        return max(-self.realized_usd, by_accounts, Decimal(0))

    def drawdown_usd(self) -> Decimal:
        """Sum of the accounts' distances from their highest equity, in USD."""
        return sum(((e.peak - e.now) * e.usd_rate for e in self.equity.values()), Decimal(0))


def day_bounds(now_ns: int, day_zone: str, day_starts: str) -> tuple[int, int]:
    """Start and end (UTC ns) of the trading day that holds `now_ns`; 23 or 25 hours when the clocks change."""
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
    """Count the times, in ascending order, that are not before `first_ns`."""
    return len(times) - bisect_left(times, first_ns)
