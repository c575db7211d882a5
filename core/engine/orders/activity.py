"""How much of ours works, is traded and is sent: measured for the gate's caps. And limits that latch.

A latch bars entries of one account, symbol and side until an operator resumes. It is part of the state, so it outlives
restarts and days: a program that repeats an entry again and again is stopped until a person has looked at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from msgspec import Struct

from ...messages import Cancel, Order, RejectCode, Replace
from ...risk import Finding, Proposal
from ..effects import SendToPlatform
from ..state import (
    OPENING,
    ZERO,
    EngineState,
    ExecutionRecord,
    LegRecord,
    OrderRecord,
    RouteRecord,
    SignalRecord,
    route_of,
)
from ..turn import Turn, leg_orders
from .exposure import PROTECTIVE
from .money import market_rate_to_usd, rate_to_usd

LIFT: Final = "nexus-gateway resume --reason TEXT"
"""Command that lifts a latch."""
CURES: Final = {
    RejectCode.MAX_WORKING_ORDERS: "cancel some first, or change the limit in config/risk_limits.yaml",
    RejectCode.MAX_TRADED_NOTIONAL: "wait for the next trading day, or change the limit in config/risk_limits.yaml",
    RejectCode.MESSAGES_PER_FILL: "send fewer of them tomorrow, or change the limit in config/risk_limits.yaml",
}
"""Cures of the caps."""
_REPEATED: Final = f"{RejectCode.REPEATED_ENTRIES.value}|"


def count_messages(turn: Turn) -> None:
    """Count the orders, replaces and cancels of this turn for `max_messages_per_fill`."""
    for effect in turn.effects:
        if isinstance(effect, SendToPlatform) and isinstance(effect.message, Order | Cancel | Replace):
            turn.state.day.count_message(route_of(effect.message.platform, effect.message.account))


def count_execution(turn: Turn, key: str, record: ExecutionRecord) -> None:
    """Count an execution that was booked for the first time, if an order of ours has made it.

    It counts on the day on which it is booked: a stop that filled while the gateway was off is of today, since a
    platform whose clock is wrong must not hide what it trades.
    """
    if record.client_order_id or record.signal_id:
        turn.state.day.count_execution(record.route, key, _execution_usd(turn, record))


def revalue_execution(turn: Turn, key: str, record: ExecutionRecord) -> None:
    """Value an execution of today again, after a correction or bust."""
    if turn.state.day.is_of_today(key):
        turn.state.day.value_execution(key, _execution_usd(turn, record))


def price_executions(turn: Turn) -> None:
    """Value the executions of today that had no rate or multiplier when they were booked; called when rates arrive."""
    for key in list(turn.state.day.unpriced_executions):
        record = turn.state.executions.get(key)
        if record is not None:
            turn.state.day.value_execution(key, _execution_usd(turn, record))


def _execution_usd(turn: Turn, record: ExecutionRecord) -> Decimal | None:
    """Return quantity x price x point value in USD, without its sign; None without a rate or a multiplier, never 0."""
    if not record.counts:
        return ZERO
    point_usd = _point_usd(turn, record)
    return None if point_usd is None else record.quantity * abs(record.price) * point_usd


def _point_usd(turn: Turn, record: ExecutionRecord) -> Decimal | None:
    """Return USD per 1.0 of price and 1 lot of what an execution has traded."""
    leg = turn.leg(record.signal_id, record.leg)
    if leg is not None and leg.market is not None:
        return _leg_point_usd(turn.state, leg)
    # A closing order of the kill switch, or of a signal that the journal has lost: as the platform describes it, or as
    # a signal knows it that trades the same.
    for instrument in turn.state.routes[record.route].hello.instruments:
        if instrument.symbol == record.symbol and instrument.point_value is not None and instrument.currency:
            if instrument.currency == "USD":
                return instrument.point_value
            rate = turn.state.usd_rates.get(instrument.currency)
            return None if rate is None else instrument.point_value * rate.value
    for signal in reversed(turn.state.signals.values()):
        for each in signal.legs:
            if (each.route, each.symbol) == (record.route, record.symbol) and each.market is not None:
                return _leg_point_usd(turn.state, each)
    market = turn.state.routes[record.route].finished_markets.get(record.symbol)
    point_rate = None if market is None else market_rate_to_usd(turn.state, market)
    return None if market is None or point_rate is None else market.point_value * point_rate


def _leg_point_usd(state: EngineState, leg: LegRecord) -> Decimal | None:
    rate = rate_to_usd(state, leg)
    return None if rate is None or leg.market is None else leg.market.point_value * rate


class Activity(Struct, frozen=True):
    """What works and is traded, with an entry that has not left yet."""

    working: int = 0  # orders of ours that may work then, on all accounts
    working_here: int = 0  # the same on the entry's own account
    traded_usd: Decimal | None = ZERO  # value of the day's executions, of working entries and this one; None = unknown


def measure_activity(
    turn: Turn, record: SignalRecord, entry: LegRecord, lots: Decimal, prices: tuple[Decimal, ...]
) -> Activity:
    """Measure what the caps need, for an entry of `lots` on the leg `entry`; 0 for what has no cap, since it walks over
    everything that works. `prices`: its own; empty = a market order.

    Each working entry counts with the stop and target that it will need: those are never refused, so there has to be
    room for them before it leaves. An entry that is replaced counts as it would be.
    """
    limits = turn.state.limits
    counted = limits.max_working_orders is not None or limits.max_working_orders_per_platform is not None
    valued = limits.max_traded_notional_usd is not None
    if not counted and not valued:
        return Activity()
    works = {name: list(_working_entries(turn, route)) for name, route in turn.state.routes.items()}
    everywhere = here = 0
    if counted:
        counts = {name: _may_work(turn, name, entries) for name, entries in works.items()}
        for leg in _ahead(record, entry):
            counts[leg.route] += 1 + _protective(leg)
        if all(leg is not entry for _, leg in works[entry.route]):
            counts[entry.route] += 1 + _protective(entry)
        everywhere, here = sum(counts.values()), counts[entry.route]
    others = [each for entries in works.values() for each in entries if each[1] is not entry]
    if not valued:
        return Activity(everywhere, here)
    mine = (order for order in leg_orders(turn.state, entry) if order.role in OPENING and order.live)
    left = lots - sum((order.max_cum_qty for order in mine), ZERO)
    values = [_value_usd(turn.state, entry, left, prices), *_values_of(turn, record, entry, others)]
    return Activity(everywhere, here, _add_known(turn, values))


def _working_entries(turn: Turn, route: RouteRecord) -> Iterator[tuple[OrderRecord, LegRecord]]:
    orders = turn.state.orders
    for order_id in route.live:
        order = orders[order_id]
        if order.role in OPENING:
            leg = turn.leg(order.signal_id, order.leg)
            if leg is not None:
                yield order, leg


def _may_work(turn: Turn, name: str, entries: list[tuple[OrderRecord, LegRecord]]) -> int:
    count = len(turn.state.routes[name].live)
    count += sum(each.row is not None and each.route == name for each in turn.state.orphans.values())
    for _, leg in entries:
        wanted = _protective(leg)
        if wanted:
            standing = sum(each.live and each.role in PROTECTIVE for each in leg_orders(turn.state, leg))
            count += max(wanted - standing, 0)
    return count


def _protective(leg: LegRecord) -> int:
    """Return how many protective orders a leg wants, at the platform or in the gateway."""
    if leg.bracket is None or leg.hedge:
        return 0
    return (leg.bracket.stop_loss is not None) + (leg.bracket.take_profit is not None)


def _ahead(record: SignalRecord, entry: LegRecord) -> list[LegRecord]:
    """Return the legs of the same signal that were admitted just before, and whose orders have not left yet."""
    ahead = []
    for leg in record.legs:
        if leg is entry:
            break
        if leg.code is RejectCode.NONE and not leg.orders:
            ahead.append(leg)
    return ahead


def _values_of(
    turn: Turn, record: SignalRecord, entry: LegRecord, others: list[tuple[OrderRecord, LegRecord]]
) -> Iterator[Decimal | None]:
    """Value what the signal's legs before this one will trade, and what other entries may still trade."""
    signal = record.signal
    own = tuple(price for price in (signal.limit_price, signal.stop_price) if price is not None)
    for leg in _ahead(record, entry):
        yield _value_usd(turn.state, leg, leg.quantity, () if leg.hedge else own)
    for order, leg in others:
        prices = tuple(price for price in (order.limit_price, order.stop_price) if price is not None)
        yield _value_usd(turn.state, leg, order.leaves_qty + order.unreported_qty, prices)


def _add_known(turn: Turn, values: list[Decimal | None]) -> Decimal | None:
    """Add values to what was traded today; None when a part of it has no rate, multiplier or price."""
    total = turn.state.day.traded_usd
    for value in values:
        if value is None or turn.state.day.unpriced_executions:
            return None
        total += value
    return total


def _value_usd(state: EngineState, leg: LegRecord, lots: Decimal, prices: tuple[Decimal, ...]) -> Decimal | None:
    """Return the USD value of lots at the highest of these prices, else at the higher side of the leg's quote."""
    market, point_usd = leg.market, _leg_point_usd(state, leg)
    if market is None or point_usd is None:
        return None
    known = prices or tuple(price for price in (market.bid, market.ask) if price is not None)
    return max(map(abs, known)) * lots * point_usd if known else None


def latch_of(state: EngineState, route: str, symbol: str, side: str) -> str:
    """Return why entries of an account, symbol and side are barred until `resume`; empty = they are not."""
    return state.latches.get(f"{_REPEATED}{route}|{symbol}|{side}", "")


def note_refusals(turn: Turn, proposal: Proposal, findings: list[Finding]) -> None:
    """Latch what has to be lifted by a person, and alert once what stays refused for long."""
    state = turn.state
    for finding in findings:
        if finding.passed or finding.waived:
            continue
        if finding.code is RejectCode.REPEATED_ENTRIES and state.limits.repeated_entries_latch:
            _latch(turn, proposal, finding)
        if finding.code is RejectCode.MESSAGES_PER_FILL and proposal.route not in state.day.ratio_alerted:
            state.day.ratio_alerted[proposal.route] = None
            text = f"{finding.measured}, limit {finding.limit}: no entries there until the next trading day"
            turn.alert(finding.code, text, proposal.platform)


def _latch(turn: Turn, proposal: Proposal, finding: Finding) -> None:
    name = f"{_REPEATED}{proposal.route}|{proposal.symbol}|{proposal.side}"
    if name in turn.state.latches:
        return
    limits = turn.state.limits
    why = (
        f"one more after {finding.measured} entries {proposal.side} {proposal.symbol} on {proposal.route} within "
        f"{limits.same_side_window_ms} ms, limit {finding.limit}"
    )
    turn.state.latches[name] = why
    turn.count("latched")
    turn.alert(RejectCode.LATCHED, f"{why}: such entries stay refused until `{LIFT}`", proposal.platform)


def lift_latches(turn: Turn, platform: str) -> list[str]:
    """Lift the latches of a platform, or (empty) all; return a line for each. Its window starts empty again."""
    lifted = [name for name in turn.state.latches if platform in ("", name.split("|")[1])]
    for name in lifted:
        turn.state.day.entries_ns.pop(name.removeprefix(_REPEATED), None)
    return [f"latch lifted: {turn.state.latches.pop(name)}"[:512] for name in lifted]


def describe_latches(state: EngineState) -> list[str]:
    """Return a line for each latch, with its cure."""
    return [f"latched: {why}; lift it: {LIFT}"[:512] for why in state.latches.values()]
