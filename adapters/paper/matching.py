"""Exact quotes, and the price at which an order trades against one. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from ...core.messages import OrderType, Side
from .book import PaperOrder


@dataclass
class Quote:
    """One symbol's best prices, exact. `None`: that side has no price, or (sizes) its size is unknown.

    Trades reduce the sizes until the next quote.
    """

    bid: Decimal | None
    ask: Decimal | None
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None

    def price(self, side: Side) -> Decimal | None:
        """Price at which an order of this side would trade now."""
        return self.ask if side is Side.BUY else self.bid

    def size(self, side: Side) -> Decimal | None:
        """Lots available to an order of this side."""
        return self.ask_size if side is Side.BUY else self.bid_size

    def use(self, side: Side, lots: Decimal) -> None:
        """Reduce the size by the traded lots."""
        if side is Side.BUY and self.ask_size is not None:
            self.ask_size -= lots
        elif side is Side.SELL and self.bid_size is not None:
            self.bid_size -= lots


def make_quote(
    bid: float, ask: float, bid_size: float, ask_size: float, tick_size: Decimal, lot_step: Decimal
) -> Quote | None:
    """Return an exact quote from a tick's floats; None when nothing may trade on it: crossed, or without any price.

    NaN, infinity and zero are no prices. An unknown size (zero, NaN) does not limit a trade.
    """
    exact_bid, exact_ask = _exact_price(bid, tick_size), _exact_price(ask, tick_size)
    if exact_bid is None and exact_ask is None:
        return None
    if exact_bid is not None and exact_ask is not None and exact_bid > exact_ask:
        return None
    return Quote(exact_bid, exact_ask, _exact_size(bid_size, lot_step), _exact_size(ask_size, lot_step))


def _exact_price(price: float, tick_size: Decimal) -> Decimal | None:
    if not math.isfinite(price) or price == 0:
        return None
    # A float is only near its decimal price; the nearest step of the tick size is the price that was meant.
    steps = (Decimal(repr(price)) / tick_size).to_integral_value(ROUND_HALF_EVEN)
    return steps * tick_size


def _exact_size(size: float, lot_step: Decimal) -> Decimal | None:
    if not math.isfinite(size) or size <= 0:
        return None
    return floor_to_step(Decimal(repr(size)), lot_step)


def floor_to_step(lots: Decimal, lot_step: Decimal) -> Decimal:
    """The largest multiple of `lot_step` that is not above `lots`."""
    return (lots / lot_step).to_integral_value(ROUND_FLOOR) * lot_step


def is_triggered(order: PaperOrder, quote: Quote) -> bool:
    """Whether a stop has triggered: a buy when the ask reaches its stop price, a sell when the bid does."""
    if order.triggered or order.stop_price is None:
        return True
    price = quote.price(order.side)
    return price is not None and (price - order.stop_price) * order.side.sign >= 0


def trade_price(order: PaperOrder, quote: Quote, slippage: Decimal) -> Decimal | None:
    """Return the price at which a (triggered) order trades; None when it cannot trade on this quote.

    A limit order that is marketable on arrival trades at the quote. One that has rested in the book trades at its own
    limit, since the counterparty comes to it. `slippage` in quote units; limit orders have none.
    """
    price = quote.price(order.side)
    if price is None:
        return None
    if order.order_type in (OrderType.MARKET, OrderType.STOP):
        return price + slippage * order.side.sign
    assert order.limit_price is not None
    if (price - order.limit_price) * order.side.sign > 0:
        return None
    return order.limit_price if order.resting else price
