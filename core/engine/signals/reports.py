"""The report of a signal: fills, results and fees of every leg, open lots, and what is unknown."""

from __future__ import annotations

from decimal import Context, Decimal

from ....shm.durations import NS_PER_MS
from ...messages import (
    Contradiction,
    FanOutKind,
    LegReport,
    LegState,
    OrderRole,
    OrderType,
    Protection,
    Report,
    Side,
    Signal,
    SignalState,
    StopPlace,
)
from ...messages import RejectCode as Code
from ..orders.contradictions import describe, is_contradicted
from ..orders.money import is_stale, leg_fees_usd, leg_sums, newest_rate, rate_to_usd
from ..orders.protection_gaps import PASSING_GAPS
from ..state import OPENING, ZERO, LegRecord, OrderRecord, SignalRecord
from ..turn import Turn, bar_of, contradiction_about, leg_orders
from .fanout import parent_quantity

_PRECISION = Decimal("1E-10")
_WIDE = Context(prec=60)
"""The usual 28 digits do not hold the quotient of the largest and the smallest numbers that messages allow."""


def make_report(turn: Turn, record: SignalRecord, duplicate: bool = False) -> Report:
    """Make the report of a signal as of now."""
    legs = tuple(_leg_report(turn, record, number, leg) for number, leg in enumerate(record.legs))
    entries = [leg for leg, kept in zip(legs, record.legs, strict=True) if not kept.hedge and kept.rolls_over_from < 0]
    filled = sum((leg.filled for leg in entries), ZERO)
    value = sum((leg.filled * leg.avg_price for leg in entries if leg.avg_price is not None), ZERO)
    signal = record.signal
    return Report(
        signal_id=signal.signal_id,
        symbol=signal.symbol,
        side=signal.side,
        state=signal_state(turn, record),
        revision=record.revision,
        code=record.code,
        text=record.text[:512],
        quantity=parent_quantity(record),
        filled=filled,
        avg_price=_average(value, filled),
        avg_price_usd=_average_usd(turn, record, legs),
        realized_usd=_sum([leg.realized_usd for leg in legs]),
        fees_usd=_sum([leg.fees_usd for leg in legs]),
        residual_quantity=sum((leg.open_quantity for leg in legs), ZERO),
        residual_usd=_residual_usd(turn, record),
        unknown_legs=sum(leg.state is LegState.UNKNOWN for leg in legs),
        stale_rates=sum(leg.stale_rate for leg in legs),
        duplicate=duplicate,
        legs=legs,
        received_ns=turn.stamp(record.received_ns),
        changed_ns=turn.wall_ns,
        contradictions=_contradictions(turn, record),
    )


def _contradictions(turn: Turn, record: SignalRecord) -> tuple[Contradiction, ...]:
    signal_id = record.signal.signal_id
    found = [
        describe(turn, route, each)
        for name in dict.fromkeys(leg.route for leg in record.legs)
        if (route := turn.state.routes.get(name)) is not None
        for each in route.contradictions.values()
        if any(leg[0] == signal_id for leg in each.legs)
    ]
    return tuple(found[:100])


def _is_unknown(turn: Turn, record: SignalRecord, number: int) -> bool:
    """Whether what a leg holds or works is unknown: its platform contradicts itself, or its snapshot is overdue."""
    leg = record.legs[number]
    route = turn.state.routes.get(leg.route)
    if route is None:
        return False
    if is_contradicted(turn.state, record.signal.signal_id, number):
        return True
    busy = leg.open or any(order.unsettled for order in leg_orders(turn.state, leg))
    return bool(route.overdue_since_ns and busy)


def signal_state(turn: Turn, record: SignalRecord) -> SignalState:
    """State of the whole signal. The rules stand in order of weight: the first one that holds decides."""
    if record.decision == "rejected":
        return SignalState.REJECTED
    orders = [order for leg in record.legs for order in leg_orders(turn.state, leg)]
    # One unknown order makes everything below a guess: NEXUS must not trade on it.
    unknown = any(order.state is LegState.UNKNOWN for order in orders)
    if unknown or any(_is_unknown(turn, record, number) for number in range(len(record.legs))):
        return SignalState.UNKNOWN
    busy = any(order.unsettled for order in orders)
    held = any(leg.open for leg in record.legs)
    traded = any(order.cum_qty for order in orders)
    if any(leg.roll_over_pending for leg in record.legs):
        return SignalState.WORKING  # flat for a moment between two contracts: "closed" would be final, and wrong
    # A leg that was closed for a roll-over has its lots in the leg that took them over: it closes nothing.
    rolled = {leg.rolls_over_from for leg in record.legs}
    closing = [leg for number, leg in enumerate(record.legs) if leg.closing and number not in rolled]
    if any(leg.open or any(order.unsettled for order in leg_orders(turn.state, leg)) for leg in closing):
        return SignalState.FLATTENING
    if closing and held:
        return SignalState.PARTIAL  # some legs were closed, and others hold on
    if closing:
        if busy:
            return SignalState.FLATTENING
        if not traded:
            return SignalState.NOT_FILLED  # closed before any entry had filled
        # Flattened: by the policy, since too few legs filled. Closed: by NEXUS, the operator or an exit.
        return SignalState.FLATTENED if record.decision == "flatten" else SignalState.CLOSED
    # A working stop does not make a signal WORKING: only entries do.
    entries = [order for order in orders if order.role is OrderRole.ENTRY]
    if any(order.unsettled for order in entries):
        return SignalState.WORKING
    if not traded:
        return SignalState.NOT_FILLED
    # Flat again by its own stop or target. A reduce-only signal never holds lots: it is filled, not closed.
    if not held and not record.signal.reduce_only and not busy:
        return SignalState.CLOSED
    # A leg that was refused has no entry: then the signal is partial, though all its entries filled.
    complete = len(entries) == sum(not leg.hedge for leg in record.target_legs)
    full = complete and all(order.state is LegState.FILLED for order in entries)
    return SignalState.FILLED if full else SignalState.PARTIAL


def _leg_report(turn: Turn, record: SignalRecord, number: int, leg: LegRecord) -> LegReport:
    orders = list(leg_orders(turn.state, leg))
    opening = [order for order in orders if order.role in OPENING]
    sums = leg_sums(turn.state, leg, entries_only=True)
    filled = sums.bought if leg.sign > 0 else sums.sold
    value = sums.bought_value if leg.sign > 0 else sums.sold_value
    average = _average(value, filled)
    rate = rate_to_usd(turn.state, leg)
    newest = newest_rate(turn.state, leg)
    used = newest if leg.open or leg.rate is None else leg.rate
    point_usd = None if rate is None or leg.market is None else rate * leg.market.point_value
    first = opening[0] if opening else None
    return LegReport(
        leg=number,
        platform=leg.platform,
        account=leg.account,
        contract=leg.market.contract if leg.market is not None else "",
        client_order_id=first.order.client_order_id if first is not None else "",
        side=Side.BUY if leg.sign > 0 else Side.SELL,
        state=LegState.UNKNOWN if _is_unknown(turn, record, number) else _leg_state(leg, orders, opening),
        quantity=leg.quantity,
        filled=filled,
        open_quantity=leg.open,
        avg_price=average,
        slippage_points=_slippage(record, leg, average),
        notional_usd=None if point_usd is None or average is None else filled * average * point_usd,
        realized_usd=None if leg.unpriced else leg.realized_usd,
        fees_usd=leg_fees_usd(turn.state, leg),
        usd_rate=None if used is None else used.value,
        usd_rate_ns=0 if used is None else used.true_ns,
        usd_rate_source="" if used is None else used.source,
        stale_rate=leg.stale_rate or bool(leg.open and is_stale(turn.state, newest)),
        missing_fills=sum((order.unreported_qty for order in orders), ZERO),
        protection=leg.protection,
        code=leg.code if leg.code is not Code.NONE or first is None else first.code,
        text=_leg_text(turn, leg, orders, first),
        sent_ns=turn.stamp(first.sent_ns) if first is not None else 0,
        acked_ns=turn.stamp(first.acked_ns) if first is not None else 0,
        first_fill_ns=first.first_fill_ns if first is not None else 0,
        last_fill_ns=max((order.last_fill_ns for order in opening), default=0),
        stop_at=_stop_place(turn, leg, orders),
        unprotected_since_ns=turn.stamp(leg.unprotected_since_ns),
        unprotected_ms=min(leg.unprotected_ns // NS_PER_MS, 2**31 - 1),
    )


def _stop_place(turn: Turn, leg: LegRecord, orders: list[OrderRecord]) -> StopPlace:
    """Where a leg's working stop lives, as its platform says."""
    stops = [order for order in orders if order.role is OrderRole.STOP_LOSS]
    listed = any(order.state in (LegState.WORKING, LegState.PARTIALLY_FILLED) for order in stops)
    unlisted = leg.protection is Protection.PLATFORM and leg.open and not stops
    capabilities = turn.state.routes[leg.route].hello.capabilities if listed or unlisted else None
    return StopPlace.UNKNOWN if capabilities is None else capabilities.stops_at


def _leg_text(turn: Turn, leg: LegRecord, orders: list[OrderRecord], first: OrderRecord | None) -> str:
    """Say why a leg stays as it is; first of all that nothing can be sent for what it holds or works."""
    own = leg.text or (first.text if first is not None else "")
    busy = leg.open or any(order.unsettled for order in orders)
    route = turn.state.routes.get(leg.route)
    why = ""
    if busy and route is not None:
        # A position that differs bars for a moment only, unless no second snapshot comes.
        rule = bar_of if route.overdue_since_ns or route.flatten_sent_ns else contradiction_about
        why = rule(turn.state, leg.route, leg.symbol)
    barred = why and f"{why}: nothing is sent there, stops and closes included"
    lasts = leg.unprotected_why and leg.unprotected_why not in PASSING_GAPS
    naked = f"unprotected: {leg.unprotected_why}" if lasts else ""
    waits = leg.closing_waits if leg.open else ""
    return "; ".join(dict.fromkeys(filter(None, (barred, naked, waits, own))))[:512]


def _leg_state(leg: LegRecord, orders: list[OrderRecord], opening: list[OrderRecord]) -> LegState:
    if any(order.state is LegState.UNKNOWN for order in orders):
        return LegState.UNKNOWN
    if opening:
        return opening[-1].state
    return LegState.REJECTED if leg.code is not Code.NONE else LegState.PENDING


def _slippage(record: SignalRecord, leg: LegRecord, average: Decimal | None) -> Decimal | None:
    """Points worse than expected (positive is a cost): against the quote, or the order's own price."""
    if average is None or leg.market is None or leg.rolls_over_from >= 0:
        return None
    signal = record.signal
    expected = leg.market.ask if leg.sign > 0 else leg.market.bid
    if signal.order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT):
        expected = signal.limit_price
    elif signal.order_type is OrderType.STOP:
        expected = signal.stop_price
    return None if expected is None else (average - expected) * leg.sign


def _average_usd(turn: Turn, record: SignalRecord, legs: tuple[LegReport, ...]) -> Decimal | None:
    """AvgPx (6) weighed by each leg's USD per point, so that legs of different point value add up."""
    weight = value = ZERO
    for report, leg in zip(legs, record.legs, strict=True):
        if leg.hedge or leg.rolls_over_from >= 0 or report.avg_price is None:
            continue
        rate = rate_to_usd(turn.state, leg)
        if rate is None or leg.market is None:
            return None
        weight += report.filled * leg.market.point_value * rate
        value += report.filled * leg.market.point_value * rate * report.avg_price
    return _average(value, weight)


def _residual_usd(turn: Turn, record: SignalRecord) -> Decimal | None:
    """Value of the open lots, signed, at the newest quote that came with an event; None without quote or rate."""
    total = ZERO
    for leg in record.legs:
        if not leg.open:
            continue
        rate = rate_to_usd(turn.state, leg)
        market = leg.market
        mark = None if market is None else (market.bid if leg.open > 0 else market.ask)
        if rate is None or market is None or mark is None:
            return None
        total += leg.open * mark * market.point_value * rate
    return total


def _average(value: Decimal, weight: Decimal) -> Decimal | None:
    return _WIDE.divide(value, weight).quantize(_PRECISION, context=_WIDE).normalize() if weight else None


def _sum(amounts: list[Decimal | None]) -> Decimal | None:
    total = ZERO
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def report_of_orphans(turn: Turn, signal: Signal, key: str) -> Report:
    """Report of a signal whose orders are at the platforms, while the journal has lost it. It is not traded again."""
    orphans = [(order_id, orphan) for order_id, orphan in turn.state.orphans.items() if orphan.key == key]
    filled = ZERO
    for execution in turn.state.executions.values():
        if execution.counts and any(execution.client_order_id == order_id for order_id, _ in orphans):
            filled += execution.quantity
    return Report(
        signal_id=signal.signal_id,
        symbol=signal.symbol,
        side=signal.side,
        state=SignalState.UNKNOWN,
        revision=0,
        code=Code.DUPLICATE_SIGNAL,
        text=f"{len(orphans)} orders of this signal are at the platforms, but the journal has lost it; not sent again",
        quantity=signal.quantity or ZERO,
        filled=filled,
        avg_price=None,
        avg_price_usd=None,
        realized_usd=None,
        fees_usd=None,
        residual_quantity=ZERO,
        residual_usd=None,
        unknown_legs=len(orphans),
        duplicate=True,
        legs=(),
        received_ns=turn.wall_ns,
        changed_ns=turn.wall_ns,
    )


def is_done(turn: Turn, record: SignalRecord) -> bool:
    """Whether nothing of the signal can change any more, except by a late answer."""
    if record.decision == "rejected":
        return True
    for number, leg in enumerate(record.legs):
        if is_contradicted(turn.state, record.signal.signal_id, number):
            return False
        if leg.roll_over_pending or leg.open or any(order.unsettled for order in leg_orders(turn.state, leg)):
            return False
    if record.signal.policy.kind is FanOutKind.PRIMARY_THEN_HEDGE:
        return all(not leg.open for leg in record.legs)
    return True
