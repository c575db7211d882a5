"""AvgPx (6), results and fees from executions alone. A USD figure is None when a rate is missing, never 1:1."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from ...risk import MarketContext, UsdRate
from ..state import ZERO, EngineState, LegRecord


class Sums(Struct):
    """Lots, and lots x price, on each side."""

    bought: Decimal = ZERO
    bought_value: Decimal = ZERO
    sold: Decimal = ZERO
    sold_value: Decimal = ZERO


def leg_sums(state: EngineState, leg: LegRecord, entries_only: bool = False) -> Sums:
    """Sum a leg's executions; `entries_only` leaves out exits and protective orders."""
    sums = Sums()
    for key in leg.executions:
        execution = state.executions[key]
        if not execution.counts:
            continue
        if entries_only and not is_entry(state, execution.client_order_id):
            continue
        value = execution.own_quantity * execution.price
        if execution.sign > 0:
            sums.bought += execution.own_quantity
            sums.bought_value += value
        else:
            sums.sold += execution.own_quantity
            sums.sold_value += value
    return sums


def is_entry(state: EngineState, order_id: str) -> bool:
    """True for an order that opens: an entry, a hedge, or an order that rolls a position over."""
    order = state.orders.get(order_id)
    return order is not None and order.role.value in "EHR"


def rate_to_usd(state: EngineState, leg: LegRecord) -> Decimal | None:
    """USD per unit of the leg's currency: the newest rate seen, else the one that came with the signal."""
    return None if leg.market is None else market_rate_to_usd(state, leg.market)


def market_rate_to_usd(state: EngineState, market: MarketContext) -> Decimal | None:
    """USD per unit of a market's currency, as `rate_to_usd`."""
    if market.currency == "USD":
        return Decimal(1)
    rate = state.usd_rates.get(market.currency) or market.rate
    return None if rate is None else rate.value


def newest_rate(state: EngineState, leg: LegRecord) -> UsdRate | None:
    """Newest rate of a leg's currency, with its time and source; None for USD, or when there is none."""
    if leg.market is None or leg.market.currency == "USD":
        return None
    return state.usd_rates.get(leg.market.currency) or leg.market.rate


def is_stale(state: EngineState, rate: UsdRate | None) -> bool:
    """Whether a rate is too old for risk: figures converted with it are shown and flagged."""
    return rate is not None and rate.is_stale(state.now_ns + state.wall_offset_ns, state.limits.max_rate_age_ms)


def leg_fees_usd(state: EngineState, leg: LegRecord) -> Decimal | None:
    """Fees of all executions of a leg in USD."""
    total = ZERO
    for key in leg.executions:
        execution = state.executions[key]
        if not execution.counts or not execution.fee:
            continue
        if execution.fee_currency == "USD":
            total += execution.fee
            continue
        known = state.usd_rates.get(execution.fee_currency)
        rate = None if known is None else known.value
        if rate is None and leg.market is not None and execution.fee_currency in ("", leg.market.currency):
            rate = rate_to_usd(state, leg)
        if rate is None:
            return None
        total += execution.fee * rate
    return total


def leg_realized_usd(state: EngineState, leg: LegRecord) -> Decimal | None:
    """Result of the lots that were opened and closed again, in USD, fees off. Same formula for long and short."""
    if not leg.executions:
        return ZERO
    fees = leg_fees_usd(state, leg)
    rate = rate_to_usd(state, leg)
    if fees is None or rate is None or leg.market is None:
        return None
    sums = leg_sums(state, leg)
    closed = min(sums.bought, sums.sold)
    if not closed:
        return -fees
    points = sums.sold_value / sums.sold - sums.bought_value / sums.bought
    return closed * points * leg.market.point_value * rate - fees
