"""Cancel, replace or close a signal, as NEXUS asks."""

from __future__ import annotations

from decimal import Decimal

from ....shm.durations import NS_PER_MS
from ...messages import KillLevel, OrderRole, Reject, RejectCode, SignalCancel, SignalClose, SignalReplace
from ...risk import MarketContext, is_multiple
from ..effects import TellNexus
from ..orders.exits import close_leg, retry_exit
from ..orders.money import rate_to_usd
from ..orders.placement import send_replace, want_cancel
from ..state import LegRecord, OrderRecord
from ..turn import Turn, kill_level, leg_orders, position_after


def apply_change(
    turn: Turn, request: SignalCancel | SignalReplace | SignalClose, markets: tuple[MarketContext, ...], peer: str
) -> None:
    """Carry out a change leg by leg. Each refused leg is answered with a reject."""
    record = turn.state.signals.get(request.signal_id)
    if record is None:
        _refuse(turn, peer, request.signal_id, "", RejectCode.UNKNOWN_SIGNAL, "no signal of this id is known")
        return
    turn.touch(request.signal_id)
    meant = [n for n, leg in enumerate(record.legs) if request.platform in ("", leg.platform)]
    if not meant:
        text = f"platform was {request.platform}, the signal's are {', '.join(leg.platform for leg in record.legs)}"
        _refuse(turn, peer, request.signal_id, request.platform, RejectCode.PLATFORM_UNKNOWN, text[:512])
        return
    found = 0
    for number in meant:
        leg = record.legs[number]
        match request:
            case SignalClose():
                close_leg(turn, record, number)
                retry_exit(turn, record, leg)
            case SignalCancel():
                for order in leg_orders(turn.state, leg):
                    if order.role is OrderRole.ENTRY:
                        want_cancel(turn, order)
            case SignalReplace():
                found += _replace_leg(turn, leg, request, _market_of(leg, markets), peer)
    if isinstance(request, SignalReplace) and not found:
        text = "no entry of the signal works there any more; nothing was changed"
        # Always with a platform: a reject without one would mean that the signal as a whole was refused.
        platform = record.legs[meant[0]].platform
        _refuse(turn, peer, request.signal_id, platform, RejectCode.REPLACE_REJECTED, text)


def _market_of(leg: LegRecord, markets: tuple[MarketContext, ...]) -> MarketContext | None:
    for market in markets:
        if (market.platform, market.account, market.symbol) == (leg.platform, leg.account, leg.symbol):
            return market if market.finite else None
    return None


def _replace_leg(turn: Turn, leg: LegRecord, request: SignalReplace, quote: MarketContext | None, peer: str) -> int:
    """Replace a leg's working entries, or refuse each with a reject. Returns how many there were."""
    found = 0
    for order in leg_orders(turn.state, leg):
        if order.role is OrderRole.ENTRY and order.live:
            found += 1
            code, text = _refuse_replace(turn, leg, order, request)
            if code is RejectCode.NONE:
                code, text = _refuse_prices(turn, leg, order, request, quote)
            if code is RejectCode.NONE:
                code, text = _refuse_risk(turn, leg, order, request)
            if code is not RejectCode.NONE:
                _refuse(turn, peer, request.signal_id, leg.platform, code, text)
                continue
            limit = request.limit_price if request.limit_price is not None else order.limit_price
            stop = request.stop_price if request.stop_price is not None else order.stop_price
            send_replace(turn, order, request.quantity or order.quantity, limit, stop)
    return found


def _refuse_replace(turn: Turn, leg: LegRecord, order: OrderRecord, request: SignalReplace) -> tuple[RejectCode, str]:
    """Return code and text why an entry may not be replaced now, or not to this size; NONE and "" when it may."""
    route = turn.state.routes[leg.route]
    capabilities = route.hello.capabilities
    if capabilities is None or not capabilities.replace:
        return RejectCode.UNSUPPORTED_REPLACE, f"{leg.platform} cannot change a working order; cancel it"
    if not route.up or not route.ready:
        return RejectCode.PLATFORM_NOT_READY, f"{leg.platform} is not connected and reconciled"
    # Two replaces in flight could be applied in either order: size and prices of the order would not be known.
    if order.replace is not None or order.cancel_wanted or not order.acked_ns:
        return RejectCode.OUTCOME_UNKNOWN, "an answer about this order is still due; wait for it"
    # A replace is a message to the exchange like a new order, and counts against the same rate limits.
    limits, day = turn.state.limits, turn.state.day
    for name, most in (("", limits.max_orders_per_s), (leg.route, limits.max_orders_per_s_per_platform)):
        sent = day.sent_in_last_second(name, turn.now_ns)
        if most is not None and sent >= most:
            return RejectCode.ORDER_RATE, f"{sent} orders and changes left in 1 s, limit {most}"
    level = kill_level(turn.state, leg.route)
    quantity = request.quantity or order.quantity
    if quantity != order.quantity and not capabilities.replace_quantity:
        return RejectCode.UNSUPPORTED_REPLACE, f"{leg.platform} cannot change the size of a working order; cancel it"
    # NO_NEW still lets an entry become smaller; from REDUCE_ONLY on entries are being cancelled.
    if level >= KillLevel.NO_NEW and (quantity >= order.quantity or level >= KillLevel.REDUCE_ONLY):
        return RejectCode.KILL_SWITCH, f"kill switch is at {level.name.lower()}; only a smaller size is allowed"
    # The leg was checked against all limits at its first size: a replace may come back to it, never exceed it.
    if quantity > leg.quantity:
        return RejectCode.PARENT_EXCEEDED, f"quantity was {quantity}, the leg was sized {leg.quantity}"
    if leg.symbol in route.retired and quantity > order.quantity:
        return RejectCode.CONTRACT_EXPIRED, f"{leg.symbol} was rolled: its orders may only become smaller"
    # OrderQty (38) includes what has filled already: at or below it nothing would be left to work.
    if quantity <= order.max_cum_qty:
        return (
            RejectCode.PARENT_EXCEEDED,
            f"quantity was {quantity}, {order.max_cum_qty} have filled already; cancel instead",
        )
    if leg.market is None or not is_multiple(quantity, leg.market.lot_step):
        return RejectCode.NOT_ON_LOT_STEP, f"quantity was {quantity}"
    # Only growth adds to the position; what already works is counted by `position_after`.
    grown = max(quantity - order.quantity, Decimal(0)) * leg.sign
    limit = limits.max_position.get(leg.symbol, limits.max_position_default)
    after = abs(position_after(turn.state, route, leg.symbol, grown)) if grown else Decimal(0)
    if after > limit:
        return RejectCode.MAX_POSITION, f"position could become {after}, limit {limit}"
    return RejectCode.NONE, ""


def _refuse_prices(
    turn: Turn, leg: LegRecord, order: OrderRecord, request: SignalReplace, quote: MarketContext | None
) -> tuple[RejectCode, str]:
    """Check new prices: on the tick, within the collar of the old price, and of the market as for a new order."""
    limits = turn.state.limits
    assert leg.market is not None
    tick = leg.market.tick_size
    for name, new, old in (
        ("limit_price", request.limit_price, order.limit_price),
        ("stop_price", request.stop_price, order.stop_price),
    ):
        if new is None:
            continue
        if old is None:
            return RejectCode.UNSUPPORTED_TYPE, f"{name} does not fit a {order.order.order_type} order"
        if not is_multiple(new, tick):
            return RejectCode.NOT_ON_TICK, f"{name} was {new}, not a multiple of {tick}"
        if limits.collar_ticks is None or new == old:
            continue
        far = abs(new - old) / tick
        if far > limits.collar_ticks:
            return RejectCode.PRICE_COLLAR, f"{name} moves {far} ticks, limit {limits.collar_ticks}"
        if quote is None:
            continue  # no instrument of this symbol any more, or a journal from before this rule
        age_ms = (turn.now_ns - quote.quote_ns) // NS_PER_MS
        price = quote.ask if leg.sign > 0 else quote.bid
        if price is None or abs(age_ms) > limits.max_quote_age_ms:
            text = f"the quote of {leg.platform} is {age_ms} ms old, limit {limits.max_quote_age_ms}; cancel instead"
            return RejectCode.STALE_QUOTE, text
        far = abs(new - price) / tick
        if far > limits.collar_ticks:
            return RejectCode.PRICE_COLLAR, f"{name} was {new}, {far} ticks from {price}, limit {limits.collar_ticks}"
    return RejectCode.NONE, ""


def _refuse_risk(turn: Turn, leg: LegRecord, order: OrderRecord, request: SignalReplace) -> tuple[RejectCode, str]:
    """Check the risk of the replaced entry: its stop stays, so another price or size is another amount at risk, which
    has to fit the stage as a new order's would. Less risk than before is always allowed.
    """
    market, bracket = leg.market, leg.bracket
    old = [price for price in (order.limit_price, order.stop_price) if price is not None]
    pairs = ((request.limit_price, order.limit_price), (request.stop_price, order.stop_price))
    new = [was if wanted is None else wanted for wanted, was in pairs if was is not None]
    if market is None or not old or not new:
        return RejectCode.NONE, ""
    quantity = request.quantity or order.quantity
    entry, before = (max(new), max(old)) if leg.sign > 0 else (min(new), min(old))
    if bracket is not None and bracket.take_profit is not None and (bracket.take_profit - entry) * leg.sign <= 0:
        return RejectCode.BRACKET_INVALID, f"entry at {entry} would be beyond the target of {bracket.take_profit}"
    limits = turn.state.limits
    rate = rate_to_usd(turn.state, leg)
    if bracket is not None and bracket.stop_loss is not None:
        distance = (entry - bracket.stop_loss) * leg.sign
        if distance <= 0:
            return RejectCode.BRACKET_INVALID, f"entry at {entry} would be beyond the stop of {bracket.stop_loss}"
        at_risk, limit = quantity * distance, limits.stages[turn.state.stage].risk_per_trade_usd
        if at_risk > order.quantity * (before - bracket.stop_loss) * leg.sign:
            if rate is None:
                return RejectCode.RISK_NOT_MEASURABLE, f"there is no USD rate of {market.currency}"
            if at_risk * market.point_value * rate > limit:
                risk = at_risk * market.point_value * rate
                return RejectCode.RISK_PER_TRADE, f"{risk} USD would be at risk, limit {limit}; make it smaller"
    most = limits.max_notional_usd
    if most is not None and rate is not None and quantity * abs(entry) > order.quantity * abs(before):
        notional = quantity * abs(entry) * market.point_value * rate
        if notional > most:
            return RejectCode.MAX_NOTIONAL, f"order would be worth {notional} USD, limit {most}"
    return RejectCode.NONE, ""


def _refuse(turn: Turn, peer: str, signal_id: str, platform: str, code: RejectCode, text: str) -> None:
    turn.count(f"rejected_{code}")
    turn.effects.append(TellNexus(Reject(code=code, text=text, signal_id=signal_id, platform=platform), peer))
