"""Results of trading, from the journal: replay every event and use the last report of each signal.

Nothing is estimated. A result without a currency rate is counted as unpriced and left out of the sums. So is a position
that another order has closed (an operator at the platform, another signal's `reduce_only`), since no execution of the
signal gives its closing price.
"""

from __future__ import annotations

import math
import sqlite3
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from ..engine import Engine, EngineSettings, EngineState, TellNexus
from ..errors import ConfigError
from ..messages import LegState, RejectCode, Report, SignalState
from ..risk import Limits, day_bounds
from .recovery import decode_event
from .retention.history import read_rows
from .store import open_database

_Z_95: Final = 1.959963984540054
_TRADING_DAYS: Final = 252
_ZERO: Final = Decimal(0)
_ENDED: Final = (SignalState.CLOSED, SignalState.FLATTENED)


class CurrencyResult(Struct, frozen=True):
    """Result of the legs in one currency other than USD, after fees. `usd_rate`: USD for one unit, as used; with its
    time (UTC ns) and source. `stale_rate`: it was older than risk may use.
    """

    currency: str
    realized: Decimal
    usd_rate: Decimal
    usd_rate_ns: int = 0
    usd_rate_source: str = ""
    stale_rate: bool = False


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


class _LastReport(Struct, frozen=True):
    """The newest report of a signal, with facts that are only in the engine's state."""

    report: Report
    currencies: tuple[CurrencyResult, ...]
    closed_elsewhere: bool

    @property
    def is_trade(self) -> bool:
        """Whether the signal was opened and closed again, and its whole result is known."""
        report = self.report
        ended = report.state in _ENDED and report.filled > 0
        return ended and report.realized_usd is not None and not self.closed_elsewhere


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
    """Return report and trades of a journal, also of one that a gateway is using. Replays all of its events.

    Raises:
        ConfigError: there is no such journal.
        JournalError: it cannot be read.
    """
    if not journal.exists():
        raise ConfigError(f"there is no journal {journal}; the gateway makes it at its first start")
    last = {each.report.signal_id: each for each in _reports(journal, limits)}
    reports = [each.report for each in last.values()]
    trades = [_trade(each.report, each.currencies) for each in last.values() if each.is_trade]
    trades.sort(key=lambda trade: trade.closed_ns)
    results = [trade.realized_usd for trade in trades]
    wins = [result for result in results if result > 0]
    lost = -sum((result for result in results if result < 0), _ZERO)
    legs = [leg for report in reports for leg in report.legs]
    sent = sum((leg.quantity for leg in legs if leg.sent_ns), _ZERO)
    filled = sum((leg.filled for leg in legs), _ZERO)
    low, high = wilson_interval(len(wins), len(trades))
    daily = _daily(trades, limits)
    page = TradeReport(
        signals=len(reports),
        trades=len(trades),
        open_signals=sum(bool(report.residual_quantity) for report in reports),
        wins=len(wins),
        pnl_usd=sum((report.realized_usd or _ZERO for report in reports), _ZERO),
        fees_usd=sum((report.fees_usd or _ZERO for report in reports), _ZERO),
        unpriced=sum(report.realized_usd is None for report in reports),
        stale_rates=sum(bool(report.stale_rates) for report in reports),
        closed_elsewhere=sum(each.closed_elsewhere for each in last.values()),
        win_rate=len(wins) / len(trades) if trades else None,
        win_rate_low=low,
        win_rate_high=high,
        profit_factor=float(sum(wins, _ZERO) / lost) if lost else None,
        max_drawdown_usd=_max_drawdown(results),
        sharpe=_sharpe(daily),
        days=len(daily),
        fill_rate=float(filled / sent) if sent else None,
        unknown_legs=sum(leg.state is LegState.UNKNOWN for leg in legs),
        rejects=dict(Counter(_codes(reports)).most_common()),
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


def _reports(journal: Path, limits: Limits) -> Iterator[_LastReport]:
    engine = Engine(EngineSettings(), limits)  # the first event holds the journaled ones, which replace these
    with closing(open_database(journal, read_only=True)) as connection:
        try:
            connection.execute("BEGIN")  # a gateway may be moving rows to an archive
            for row in read_rows(connection, "events"):
                event = decode_event(row["payload"], row["seq"])
                for effect in (*engine.handle(event, row["at_ns"]), *engine.pop_reports()):
                    message = effect.message if isinstance(effect, TellNexus) else None
                    if isinstance(message, Report) and not message.duplicate:
                        signal_id = message.signal_id
                        others = _is_closed_elsewhere(engine.state, signal_id)
                        yield _LastReport(message, _currencies(engine.state, signal_id), others)
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"journal {journal} cannot be read: {error}; run: nexus-gateway journal verify"
            ) from error


def _currencies(state: EngineState, signal_id: str) -> tuple[CurrencyResult, ...]:
    """Convert results back from USD, at the rate that the engine itself used, not at a newer one."""
    record = state.signals.get(signal_id)
    found: dict[str, CurrencyResult] = {}
    for leg in () if record is None else record.legs:
        if leg.market is None or leg.rate is None or not leg.realized_usd:
            continue
        currency, rate = leg.market.currency, leg.rate
        before = found.get(currency)
        found[currency] = CurrencyResult(
            currency,
            (_ZERO if before is None else before.realized) + leg.realized_usd / rate.value,
            rate.value,
            rate.true_ns,
            rate.source,
            leg.stale_rate or (before is not None and before.stale_rate),
        )
    return tuple(found.values())


def _is_closed_elsewhere(state: EngineState, signal_id: str) -> bool:
    record = state.signals.get(signal_id)
    return record is not None and any(leg.external_qty for leg in record.legs)


def _trade(report: Report, currencies: tuple[CurrencyResult, ...]) -> Trade:
    return Trade(
        signal_id=report.signal_id,
        symbol=report.symbol,
        side=report.side.value,
        quantity=report.filled,
        platforms=tuple(dict.fromkeys(leg.platform for leg in report.legs if leg.filled)),
        opened_ns=min((leg.first_fill_ns for leg in report.legs if leg.first_fill_ns), default=report.received_ns),
        closed_ns=report.changed_ns,
        realized_usd=report.realized_usd or _ZERO,
        fees_usd=report.fees_usd or _ZERO,
        currencies=currencies,
    )


def _codes(reports: Sequence[Report]) -> Iterator[str]:
    for report in reports:
        codes = [leg.code for leg in report.legs if leg.code is not RejectCode.NONE]
        if not codes and report.code is not RejectCode.NONE:
            codes = [report.code]
        yield from (code.value for code in codes)


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
