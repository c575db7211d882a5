"""Pre-trade risk checks of an opening order. Each gives a finding: code, passed, measured value, limit, stage.

Pure functions of order, market, limits and counters. All findings of an order are journaled, passed ones too, so that
"why was this allowed" can be answered. Reducing orders are not checked here: a limit must never prevent an exit.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from ...shm.durations import NS_PER_MS
from ..messages import RejectCode, Side
from .day import DayCounters
from .limits import Limits
from .market import MarketContext
from .sizing import is_multiple, risk_usd


class Finding(Struct, frozen=True):
    """The outcome of one check. `measured` and `limit` are texts: a number, an age or a name. `waived`: it failed, and
    the caller has waived this rule by name.
    """

    code: RejectCode
    passed: bool
    measured: str
    limit: str
    stage: int
    waived: bool = False


class Proposal(Struct, frozen=True, kw_only=True):
    """An opening order before it is sent."""

    key: str  # short hash of its signal's id: a trade of the day is counted once a signal
    route: str  # key of the account that it goes to
    platform: str  # platform's name
    symbol: str  # universal name
    side: Side  # Side (54)
    quantity: Decimal  # OrderQty (38), lots
    prices: tuple[Decimal, ...]  # its limit and stop price, quote units; empty = market order, measured by the quote
    stop_loss: Decimal | None  # price of its protective stop; None = without, so its risk cannot be measured
    take_profit: Decimal | None = None  # price of its target; None = without
    position_after: Decimal  # net lots there, signed, if this order and all that work on its side filled
    ahead: int = 0  # orders of the same signal that passed and are sent before it: they count for the order rate
    latched: str = ""  # why an operator has to lift a limit before it may leave; empty = none bars it
    working: int = 0  # orders of ours that may work then on all accounts, this one and its stop and target included
    working_here: int = 0  # the same for its own account
    traded_usd: Decimal | None = Decimal(0)  # traded today and by working entries, this one included; None = not known


def check_entry(
    proposal: Proposal,
    market: MarketContext,
    limits: Limits,
    stage_number: int,
    day: DayCounters,
    now_ns: int,
    waived: frozenset[RejectCode] = frozenset(),
    *,
    wall_ns: int | None = None,
) -> list[Finding]:
    """Run every check on an opening order. Returns all findings, in a fixed order; one that failed refuses it, but for
    those whose codes are in `waived`.

    `now_ns`: the engine's time, in which orders and entries are counted. `wall_ns`: the wall clock, by which quotes,
    rates and expiries are stamped; None = the same.
    """
    wall_ns = now_ns if wall_ns is None else wall_ns
    findings: list[Finding] = []

    def record(code: RejectCode, passed: bool, measured: object, limit: object) -> None:
        is_waived = not passed and code in waived
        findings.append(Finding(code, passed, str(measured), str(limit), stage_number, is_waived))

    # First and alone: with a NaN every later comparison would raise or pass.
    own = (proposal.quantity, *proposal.prices, proposal.stop_loss, proposal.take_profit)
    finite = market.finite and all(number is None or number.is_finite() for number in own)
    record(RejectCode.NOT_FINITE, finite, "finite" if finite else "NaN or infinite", "finite")
    if not finite:
        return findings
    # First of the rest: while it holds no other limit matters, and its cure is another one.
    record(RejectCode.LATCHED, not proposal.latched, proposal.latched or "no limit latched", "no limit latched")
    # Before the checks that use the rate: without it size and risk fail, too, and the first code names the cause.
    _check_currency(record, market, limits, wall_ns)
    _check_stage(record, proposal, market, limits, stage_number, day)
    _check_market(record, proposal, market, limits, wall_ns)
    _check_exposure(record, proposal, market, limits, day)
    _check_rates(record, proposal, limits, day, now_ns)
    _check_activity(record, proposal, limits, day)
    return findings


def first_failure(findings: list[Finding]) -> Finding | None:
    """Return the finding to refuse with, or None when all passed or are waived."""
    for finding in findings:
        if not finding.passed and not finding.waived:
            return finding
    return None


class _Record(Protocol):
    """Type of the recording callback."""

    def __call__(self, code: RejectCode, passed: bool, measured: object, limit: object) -> None: ...


def reference_price(proposal: Proposal, market: MarketContext) -> Decimal | None:
    """The worst of the order's own prices, else the far side of the quote."""
    if proposal.prices:
        return max(proposal.prices) if proposal.side is Side.BUY else min(proposal.prices)
    return market.ask if proposal.side is Side.BUY else market.bid


def _check_stage(
    record: _Record,
    proposal: Proposal,
    market: MarketContext,
    limits: Limits,
    stage_number: int,
    day: DayCounters,
) -> None:
    stage = limits.stages[stage_number]
    root = limits.root_of(proposal.symbol)
    record(
        RejectCode.STAGE_PLATFORM,
        proposal.platform in stage.platforms,
        proposal.platform,
        "|".join(stage.platforms),
    )
    record(RejectCode.STAGE_SYMBOL, root in stage.symbols, proposal.symbol, "|".join(stage.symbols))
    size: Decimal | None = proposal.quantity
    if stage.size_unit == "micro":
        size = _micro_contracts(proposal.quantity, root, market, limits)
    measured = "not measurable" if size is None else f"{size.normalize():f} {stage.size_unit}"
    record(
        RejectCode.MAX_SIZE,
        size is not None and size <= stage.max_size,
        measured,
        f"{stage.max_size} {stage.size_unit}",
    )
    trades = len(day.trades) + (0 if proposal.key in day.trades else 1)
    record(RejectCode.MAX_TRADES_PER_DAY, trades <= stage.max_trades_per_day, trades, stage.max_trades_per_day)
    _check_risk_per_trade(record, proposal, market, stage.risk_per_trade_usd)


def _micro_contracts(quantity: Decimal, root: str, market: MarketContext, limits: Limits) -> Decimal | None:
    micro = limits.micro_contracts.get(root)
    value = market.to_usd(market.point_value)
    return None if micro is None or value is None else quantity * value / micro.point_value_usd


def _check_risk_per_trade(record: _Record, proposal: Proposal, market: MarketContext, limit_usd: Decimal) -> None:
    reference = reference_price(proposal, market)
    if proposal.stop_loss is None or reference is None:
        record(
            RejectCode.RISK_NOT_MEASURABLE, False, "no stop loss" if reference is not None else "no price", limit_usd
        )
        return
    distance = (reference - proposal.stop_loss) * proposal.side.sign
    record(RejectCode.BRACKET_INVALID, distance > 0, f"stop {distance} points on the losing side", "above 0")
    if proposal.take_profit is not None:
        gain = (proposal.take_profit - reference) * proposal.side.sign
        record(RejectCode.BRACKET_INVALID, gain > 0, f"target {gain} points on the winning side", "above 0")
    risk = risk_usd(proposal.quantity, max(distance, Decimal(0)), market)
    record(RejectCode.RISK_PER_TRADE, risk is not None and risk <= limit_usd, risk, limit_usd)


def _check_market(record: _Record, proposal: Proposal, market: MarketContext, limits: Limits, wall_ns: int) -> None:
    record(RejectCode.IDENTITY_MISMATCH, not market.identity_error, market.identity_error or "same", "same as catalog")
    record(
        RejectCode.NOT_ON_LOT_STEP,
        is_multiple(proposal.quantity, market.lot_step),
        proposal.quantity,
        f"multiple of {market.lot_step}",
    )
    protective = (price for price in (proposal.stop_loss, proposal.take_profit) if price is not None)
    prices = (*proposal.prices, *protective)
    on_tick = all(is_multiple(price, market.tick_size) for price in prices)
    record(RejectCode.NOT_ON_TICK, on_tick, ",".join(map(str, prices)), f"multiple of {market.tick_size}")
    expired = 0 < market.expiry_ns <= wall_ns
    record(RejectCode.CONTRACT_EXPIRED, not expired, f"{market.contract} {market.expiry_ns}", f"after {wall_ns}")
    record(RejectCode.SESSION_CLOSED, market.session_open, "open" if market.session_open else "closed", "open")
    age_ms = (wall_ns - market.quote_ns) // NS_PER_MS
    # A quote from the future is not fresh: a clock was set back since, so its age is unknown.
    fresh = abs(age_ms) <= limits.max_quote_age_ms
    record(RejectCode.STALE_QUOTE, fresh, f"{age_ms} ms", f"{limits.max_quote_age_ms} ms")
    if market.bid is None or market.ask is None:
        record(RejectCode.BAD_QUOTE, False, f"bid {market.bid} ask {market.ask}", "both sides")
        return
    spread = (market.ask - market.bid) / market.tick_size
    widest = limits.max_spread_ticks
    record(
        RejectCode.BAD_QUOTE,
        spread >= 0 and (widest is None or spread <= widest),
        f"spread {spread:f} ticks",
        f"0 to {widest} ticks",
    )
    if limits.collar_ticks is not None:
        quote = market.ask if proposal.side is Side.BUY else market.bid
        far = max((abs(price - quote) / market.tick_size for price in proposal.prices), default=Decimal(0))
        record(RejectCode.PRICE_COLLAR, far <= limits.collar_ticks, f"{far:f} ticks", f"{limits.collar_ticks} ticks")


def _check_currency(record: _Record, market: MarketContext, limits: Limits, wall_ns: int) -> None:
    if market.currency == "USD":
        return
    rate, most_ms = market.rate, limits.max_rate_age_ms
    if rate is None:
        record(RejectCode.STALE_RATE, False, f"no rate of {market.currency}", f"one of at most {most_ms} ms")
        return
    if rate.until_ns:
        most_ms = (rate.until_ns - rate.true_ns) // NS_PER_MS
    source = f" from {rate.source}" if rate.source else ""
    measured = f"{rate.value} USD/{market.currency}{source}, {(wall_ns - rate.true_ns) // NS_PER_MS} ms"
    record(RejectCode.STALE_RATE, not rate.is_stale(wall_ns, limits.max_rate_age_ms), measured, f"{most_ms} ms")


def _check_exposure(
    record: _Record, proposal: Proposal, market: MarketContext, limits: Limits, day: DayCounters
) -> None:
    limit = limits.max_position.get(proposal.symbol, limits.max_position_default)
    after = abs(proposal.position_after)
    record(RejectCode.MAX_POSITION, after <= limit, after, limit)
    if limits.max_notional_usd is not None:
        reference = reference_price(proposal, market)
        notional = None
        if reference is not None:
            notional = market.to_usd(abs(reference) * proposal.quantity * market.point_value)
        record(
            RejectCode.MAX_NOTIONAL,
            notional is not None and notional <= limits.max_notional_usd,
            notional,
            limits.max_notional_usd,
        )
    if day.unpriced or day.unpriced_accounts:
        what = ", ".join(day.unpriced_accounts) or "a result of today"
        record(RejectCode.STALE_RATE, False, f"no USD value of {what}", "all results and accounts priced")
    if limits.max_daily_loss_usd is not None:
        loss = day.loss_usd()
        record(RejectCode.DAILY_LOSS, loss < limits.max_daily_loss_usd, loss, limits.max_daily_loss_usd)
    if limits.max_drawdown_usd is not None:
        drawdown = day.drawdown_usd()
        record(RejectCode.DRAWDOWN, drawdown < limits.max_drawdown_usd, drawdown, limits.max_drawdown_usd)


def _check_rates(record: _Record, proposal: Proposal, limits: Limits, day: DayCounters, now_ns: int) -> None:
    everywhere = day.sent_in_last_second("", now_ns) + proposal.ahead
    if limits.max_orders_per_s is not None:
        passed = everywhere < limits.max_orders_per_s
        record(RejectCode.ORDER_RATE, passed, f"{everywhere} in 1 s", f"{limits.max_orders_per_s} in 1 s")
    if limits.max_orders_per_s_per_platform is not None:
        here = day.sent_in_last_second(proposal.route, now_ns)
        limit = limits.max_orders_per_s_per_platform
        record(RejectCode.ORDER_RATE, here < limit, f"{here} in 1 s on {proposal.route}", f"{limit} in 1 s")
    if limits.max_same_side_entries is not None:
        name = f"{proposal.route}|{proposal.symbol}|{proposal.side}"
        entries = day.entries_in_window(name, now_ns, limits.same_side_window_ms * NS_PER_MS)
        record(
            RejectCode.REPEATED_ENTRIES, entries < limits.max_same_side_entries, entries, limits.max_same_side_entries
        )


def _check_activity(record: _Record, proposal: Proposal, limits: Limits, day: DayCounters) -> None:
    """Check how much works, is traded and is sent: what a program that has gone wrong does too much of."""
    if limits.max_working_orders is not None:
        passed = proposal.working <= limits.max_working_orders
        measured = f"{proposal.working} with this one, its stop and target"
        record(RejectCode.MAX_WORKING_ORDERS, passed, measured, limits.max_working_orders)
    if limits.max_working_orders_per_platform is not None:
        passed = proposal.working_here <= limits.max_working_orders_per_platform
        measured = f"{proposal.working_here} on {proposal.route} with this one, its stop and target"
        record(RejectCode.MAX_WORKING_ORDERS, passed, measured, limits.max_working_orders_per_platform)
    if limits.max_traded_notional_usd is not None:
        traded = proposal.traded_usd
        passed = traded is not None and traded <= limits.max_traded_notional_usd
        unpriced = ", ".join(f"execution {key}" for key in list(day.unpriced_executions)[:3]) or "an entry"
        measured = f"not known, no USD value of {unpriced}" if traded is None else f"{traded:f} USD today with this one"
        record(RejectCode.MAX_TRADED_NOTIONAL, passed, measured, f"{limits.max_traded_notional_usd:f} USD a day")
    if limits.max_messages_per_fill is not None:
        # As it stands, without this order: it may fill, and so lower the ratio that it is judged by.
        messages, fills = day.messages.get(proposal.route, 0), day.fills.get(proposal.route, 0)
        passed = messages < limits.messages_before_ratio or messages <= limits.max_messages_per_fill * fills
        measured = f"{messages} messages and {fills} executions today on {proposal.route}"
        limit = f"{limits.max_messages_per_fill} messages an execution from {limits.messages_before_ratio} messages on"
        record(RejectCode.MESSAGES_PER_FILL, passed, measured, limit)
