"""What comes with an event of markets: currency rates, open sessions, quotes that value what is held."""

from __future__ import annotations

from msgspec import structs

from ...risk import MarketContext
from ..state import LegRecord
from ..turn import Turn, live_orders
from .activity import price_executions
from .links import price_account


def record_rates(turn: Turn, markets: tuple[MarketContext, ...]) -> None:
    """Record the currency rates that came with an event."""
    for market in markets:
        if market.rate is not None:
            turn.state.usd_rates[market.currency] = market.rate
    for name in list(turn.state.day.unpriced_accounts):
        price_account(turn, turn.state.routes[name])
    price_executions(turn)


def record_sessions(turn: Turn, markets: tuple[MarketContext, ...]) -> None:
    """Record for positions whether their market trades. What waits for an opening goes on in this turn."""
    for market in markets:
        for name, route in turn.state.routes.items():
            if market.platform != route.platform or market.account not in ("", route.account):
                continue
            position = route.positions.get(market.symbol)
            if position is None:
                continue
            if position.session_open is not market.session_open:
                turn.touch_route(name)
                kill = turn.state.kills.get(name)
                if kill is not None:
                    kill.external_cancelled_ns = kill.close_retry_ns = 0  # what waited while it was shut goes at once
                for order in live_orders(turn.state, route):
                    turn.await_answer(order.order.client_order_id)  # one that waits for the opening may not rest then
            position.session_open, position.session_change_ns = market.session_open, market.session_change_ns


def follow_session(turn: Turn, leg: LegRecord) -> None:
    """Copy the session of the account's position to a leg that has just begun to hold lots. Valuations skip a leg
    without lots, so its own session is that of its signal, and the market may have shut since.
    """
    position = turn.position(leg.route, leg.symbol)
    if leg.market is not None and position.session_change_ns:
        leg.market = structs.replace(
            leg.market, session_open=position.session_open, session_change_ns=position.session_change_ns
        )


def record_markets(turn: Turn, markets: tuple[MarketContext, ...]) -> None:
    """Record rates and sessions, and value open legs at the newest quote."""
    record_rates(turn, markets)
    record_sessions(turn, markets)
    newest = {(market.platform, market.symbol): market for market in markets if market.finite}
    for signal_id in turn.state.active:
        for leg in turn.state.signals[signal_id].legs:
            market = newest.get((leg.platform, leg.symbol)) if leg.open else None
            if market is not None:
                _value_leg(turn, signal_id, leg, market)


def _value_leg(turn: Turn, signal_id: str, leg: LegRecord, market: MarketContext) -> None:
    """Take a leg's newest market. Its exit, stop or roll may have waited for that to open, or is in its way shut."""
    before = leg.market
    if before is None:
        leg.market = market
        turn.mark_for_settle(signal_id)
        return
    if before.contract != market.contract:
        # A quote of the next contract would value this leg wrongly, and send its closing order to that contract. They
        # share their hours.
        market = structs.replace(before, session_open=market.session_open, session_change_ns=market.session_change_ns)
    leg.market = market
    if market.session_open and not before.session_open:
        leg.session_opened_ns = turn.now_ns
        leg.retry_ns = 0
    same = market.session_open is before.session_open and market.session_change_ns == before.session_change_ns
    if not same or leg.roll_out is not None:
        turn.mark_for_settle(signal_id)
