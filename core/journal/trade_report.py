"""Results of trading, from the journal: the rows of signals that are over, and the state of those that are not.

Nothing is estimated. A result without a currency rate is counted as unpriced and left out of the sums. So is a position
that another order has closed (an operator at the platform, another signal's `reduce_only`), since no execution of the
signal gives its closing price.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from ..errors import ConfigError
from ..risk import Limits, day_bounds
from .finished.results import CurrencyResult, SignalResult
from .signal_results import read_results

_Z_95: Final = 1.959963984540054
_TRADING_DAYS: Final = 252
_ZERO: Final = Decimal(0)


class Trade(Struct, frozen=True):
    """A signal whose position was opened and closed again. Money in USD, after fees. Times UTC ns. `currencies`: the
    parts of the result that were not earned in USD.
    """

    signal_id: str
    symbol: str
    side: str
    quantity: Decimal
    platforms: tuple[str, ...]
    opened_ns: int
    closed_ns: int
    realized_usd: Decimal
    fees_usd: Decimal
    currencies: tuple[CurrencyResult, ...] = ()


class TradeReport(Struct, kw_only=True):
    """Figures over all trades of a journal. None where a figure cannot be computed, never 0 in its place.

    `closed_elsewhere`: signals that other orders have closed, in whole or in part; they are no `trades`.
    `stale_rates`: signals with a leg whose money was converted at a currency rate too old for risk.
    `win_rate_low`/`high`: 95 % Wilson interval for `trades`. `sharpe`: of daily results, times the root of 252, over
    `days` days with a closed trade. `fill_rate`: lots filled of lots sent. `pnl_usd`: includes the closed part of
    positions that are still open.
    """

    signals: int = 0
    trades: int = 0
    open_signals: int = 0
    wins: int = 0
    pnl_usd: Decimal = _ZERO
    fees_usd: Decimal = _ZERO
    unpriced: int = 0
    stale_rates: int = 0
    closed_elsewhere: int = 0
    win_rate: float | None = None
    win_rate_low: float | None = None
    win_rate_high: float | None = None
    profit_factor: float | None = None
    max_drawdown_usd: Decimal = _ZERO
    sharpe: float | None = None
    days: int = 0
    fill_rate: float | None = None
    unknown_legs: int = 0
    rejects: dict[str, int] = field(default_factory=dict)


def read_trades(journal: Path, limits: Limits) -> tuple[TradeReport, list[Trade]]:
    """Return report and trades of a journal and its archives, also while a gateway uses them.

    Raises:
        ConfigError: there is no such journal.
        JournalError: it cannot be read.
    """
    if not journal.exists():
        raise ConfigError(f"there is no journal {journal}; the gateway makes it at its first start")
    found = list(read_results(journal, limits).values())
    trades = [_trade(each) for each in found if each.is_trade]
    trades.sort(key=lambda trade: trade.closed_ns)
    results = [trade.realized_usd for trade in trades]
    wins = [result for result in results if result > 0]
    lost = -sum((result for result in results if result < 0), _ZERO)
    sent = sum((each.sent_lots for each in found), _ZERO)
    filled = sum((each.filled_lots for each in found), _ZERO)
    low, high = wilson_interval(len(wins), len(trades))
    daily = _daily(trades, limits)
    page = TradeReport(
        signals=len(found),
        trades=len(trades),
        open_signals=sum(each.is_open for each in found),
        wins=len(wins),
        pnl_usd=sum((each.realized_usd or _ZERO for each in found), _ZERO),
        fees_usd=sum((each.fees_usd or _ZERO for each in found), _ZERO),
        unpriced=sum(each.realized_usd is None for each in found),
        stale_rates=sum(each.stale_rates for each in found),
        closed_elsewhere=sum(each.closed_elsewhere for each in found),
        win_rate=len(wins) / len(trades) if trades else None,
        win_rate_low=low,
        win_rate_high=high,
        profit_factor=float(sum(wins, _ZERO) / lost) if lost else None,
        max_drawdown_usd=_max_drawdown(results),
        sharpe=_sharpe(daily),
        days=len(daily),
        fill_rate=float(filled / sent) if sent else None,
        unknown_legs=sum(each.unknown_legs for each in found),
        rejects=dict(Counter(code for each in found for code in each.codes).most_common()),
    )
    return page, trades


def wilson_interval(wins: int, trades: int) -> tuple[float | None, float | None]:
    """Return the 95 % interval of the true win rate. It is wide while trades are few, which a bare rate would hide."""
    if not trades:
        return None, None
    rate, z2 = wins / trades, _Z_95**2
    middle = (rate + z2 / (2 * trades)) / (1 + z2 / trades)
    half = _Z_95 * math.sqrt(rate * (1 - rate) / trades + z2 / (4 * trades**2)) / (1 + z2 / trades)
    return max(0.0, middle - half), min(1.0, middle + half)


def _trade(result: SignalResult) -> Trade:
    return Trade(
        signal_id=result.signal_id,
        symbol=result.symbol,
        side=result.side,
        quantity=result.filled,
        platforms=result.platforms,
        opened_ns=result.opened_ns,
        closed_ns=result.closed_ns,
        realized_usd=result.realized_usd or _ZERO,
        fees_usd=result.fees_usd or _ZERO,
        currencies=result.currencies,
    )


def _max_drawdown(results: Sequence[Decimal]) -> Decimal:
    total = peak = deepest = _ZERO
    for result in results:
        total += result
        peak = max(peak, total)
        deepest = max(deepest, peak - total)
    return deepest


def _daily(trades: Sequence[Trade], limits: Limits) -> list[float]:
    days: dict[int, Decimal] = {}
    for trade in trades:
        day, _ = day_bounds(trade.closed_ns, limits.day_zone, limits.day_starts)
        days[day] = days.get(day, _ZERO) + trade.realized_usd
    return [float(result) for result in days.values()]


def _sharpe(daily: Sequence[float]) -> float | None:
    if len(daily) < 2:
        return None
    spread = statistics.stdev(daily)
    return statistics.mean(daily) / spread * math.sqrt(_TRADING_DAYS) if spread else None
