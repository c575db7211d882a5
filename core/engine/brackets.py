"""The protective prices of one leg: a target's own bracket before the signal's, distances before the leg's own price.

One stop price does not suit legs with a basis between them: a CFD that stands in for a future is traded at another
level, on another grid. Resolved once, when the signal is taken in, so that size, checks, order and stop all mean the
same price.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from ..messages import Bracket, RejectCode, Signal
from ..risk import MarketContext
from .state import LegRecord


def set_bracket(signal: Signal, leg: LegRecord, market: MarketContext) -> None:
    """Give an opening leg its protective prices, or the code why it has none."""
    wanted = signal.targets[leg.target].bracket or signal.bracket
    if wanted is None or leg.hedge or signal.reduce_only:
        return
    if wanted.stop_distance is None and wanted.take_profit_distance is None:
        leg.bracket = wanted
        return
    entry = entry_price(signal, leg, market)
    if entry is None:
        leg.code = RejectCode.BAD_QUOTE
        leg.text = f"{leg.platform} has no {'ask' if leg.sign > 0 else 'bid'} to measure the bracket's distance from"
        return
    stop, target = wanted.stop_loss, wanted.take_profit
    if wanted.stop_distance is not None:
        stop = _step_towards(entry, entry - wanted.stop_distance * leg.sign, market.tick_size)
    if wanted.take_profit_distance is not None:
        target = _step_towards(entry, entry + wanted.take_profit_distance * leg.sign, market.tick_size)
    try:
        leg.bracket = Bracket(stop_loss=stop, take_profit=target)
    except ValueError as error:  # beyond what a price can be
        leg.code, leg.text = RejectCode.BRACKET_INVALID, f"bracket of {leg.platform}: {error}"


def entry_price(signal: Signal, leg: LegRecord, market: MarketContext) -> Decimal | None:
    """What a leg's distances are measured from: the order's own price, else the far side of its platform's quote."""
    own = signal.limit_price if signal.limit_price is not None else signal.stop_price
    if own is not None:
        return own
    return market.ask if leg.sign > 0 else market.bid


def _step_towards(entry: Decimal, price: Decimal, tick: Decimal) -> Decimal:
    """The price on the leg's grid that is not farther from the entry: a distance is never exceeded by rounding."""
    rounding = ROUND_CEILING if price < entry else ROUND_FLOOR
    return (price / tick).to_integral_value(rounding) * tick
