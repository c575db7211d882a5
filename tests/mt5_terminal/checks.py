"""What the broker's server refuses, and with which retcode (mt5.md A.5, A.6.5 to A.6.9). 0 = nothing against it."""

from __future__ import annotations

from typing import Final

from tests.mt5_terminal.ledger import BUY, Ledger, side_of, sign_of
from tests.mt5_terminal.market import Symbol
from tests.mt5_terminal.module.MetaTrader5 import constants as mt5
from tests.mt5_terminal.records import Record

RETCODE_TEXTS: Final = {
    0: "Done",
    10004: "Requote",
    10006: "Request rejected",
    10007: "Request canceled by trader",
    10008: "Request placed",
    10009: "Request executed",
    10010: "Request executed partially",
    10011: "Request processing error",
    10012: "Request timeout",
    10013: "Invalid request",
    10014: "Invalid volume",
    10015: "Invalid price",
    10016: "Invalid stops",
    10017: "Trade is disabled",
    10018: "Market closed",
    10019: "No money",
    10020: "Price changed",
    10021: "Off quotes",
    10022: "Invalid expiration",
    10023: "Order changed",
    10024: "Too many requests",
    10025: "No changes",
    10026: "AutoTrading disabled by server",
    10027: "AutoTrading disabled by client",
    10028: "Locked",
    10029: "Order or position frozen",
    10030: "Unsupported filling mode",
    10031: "No connection",
    10033: "Orders limit reached",
    10034: "Volume limit reached",
    10035: "Invalid order",
    10036: "Position doesn't exist",
    10038: "Invalid close volume",
    10042: "Long only",
    10043: "Short only",
    10044: "Close only",
    10046: "Hedge prohibited",
}

LIMITS: Final = (mt5.ORDER_TYPE_BUY_LIMIT, mt5.ORDER_TYPE_SELL_LIMIT)
STOPS: Final = (mt5.ORDER_TYPE_BUY_STOP, mt5.ORDER_TYPE_SELL_STOP)
STOP_LIMITS: Final = (mt5.ORDER_TYPE_BUY_STOP_LIMIT, mt5.ORDER_TYPE_SELL_STOP_LIMIT)


def check_deal(request: Record, symbol: Symbol | None, ledger: Ledger) -> int:
    """A market order."""
    if symbol is None or request.type not in (mt5.ORDER_TYPE_BUY, mt5.ORDER_TYPE_SELL):
        return mt5.TRADE_RETCODE_INVALID
    if request.position:
        held = ledger.positions.get(request.position)
        if held is None:
            return mt5.TRADE_RETCODE_POSITION_CLOSED
        if held.symbol != request.symbol:
            return mt5.TRADE_RETCODE_INVALID
        if held.type != request.type and ledger.is_hedging and request.volume > held.volume + 1e-9:
            return mt5.TRADE_RETCODE_INVALID_CLOSE_VOLUME
    refusal = _check_volume(request, symbol) or _check_mode(request, symbol, ledger)
    if refusal:
        return refusal
    if not symbol.is_open:
        return mt5.TRADE_RETCODE_MARKET_CLOSED
    bid, ask = symbol.quote()
    price = ask if side_of(request.type) == BUY else bid
    if not symbol.is_exchange and not price:
        return mt5.TRADE_RETCODE_PRICE_OFF
    refusal = _check_filling(request, symbol, is_pending=False)
    if refusal:
        return refusal
    if symbol.info.trade_exemode in (mt5.SYMBOL_TRADE_EXECUTION_REQUEST, mt5.SYMBOL_TRADE_EXECUTION_INSTANT):
        if not symbol.on_grid(request.price) or not request.price:
            return mt5.TRADE_RETCODE_INVALID_PRICE
        if abs(request.price - price) > request.deviation * symbol.info.point + 1e-9:
            return mt5.TRADE_RETCODE_REQUOTE
    # Stops are measured from the side on which the position would close.
    refusal = check_stops(symbol, side_of(request.type), request.sl, request.tp, bid if price == ask else ask)
    return refusal or _check_money(request, symbol, ledger, price or request.price or symbol.info.last)


def check_pending(request: Record, symbol: Symbol | None, ledger: Ledger, now_s: int) -> int:
    """A pending order."""
    if symbol is None or request.type not in (*LIMITS, *STOPS, *STOP_LIMITS):
        return mt5.TRADE_RETCODE_INVALID
    refusal = _check_volume(request, symbol) or _check_mode(request, symbol, ledger)
    if refusal:
        return refusal
    if not symbol.is_open:
        return mt5.TRADE_RETCODE_MARKET_CLOSED
    if len(ledger.orders) >= ledger.account.limit_orders > 0:
        return mt5.TRADE_RETCODE_LIMIT_ORDERS
    refusal = _check_filling(request, symbol, is_pending=True)
    if refusal:
        return refusal
    return check_pending_terms(request, request.type, symbol, now_s) or _check_money(
        request, symbol, ledger, request.price
    )


def check_pending_terms(request: Record, order_type: int, symbol: Symbol, now_s: int) -> int:
    """Prices, stops and expiry of a pending order, new or changed."""
    prices = [request.price, request.sl, request.tp]
    if order_type in STOP_LIMITS:
        prices.append(request.stoplimit)
        if not request.stoplimit:
            return mt5.TRADE_RETCODE_INVALID_PRICE
    if request.price <= 0 or not all(symbol.on_grid(price) for price in prices):
        return mt5.TRADE_RETCODE_INVALID_PRICE
    if request.type_time in (mt5.ORDER_TIME_SPECIFIED, mt5.ORDER_TIME_SPECIFIED_DAY) and request.expiration <= now_s:
        return mt5.TRADE_RETCODE_INVALID_EXPIRATION
    side = side_of(order_type)
    bid, ask = symbol.quote()
    if bid and ask:
        distance = (ask if side == BUY else bid) - request.price
        if (order_type in LIMITS) != (side == BUY):
            distance = -distance
        # On an exchange a limit order may cross the market: it trades at once. Nothing else may be on the wrong side.
        may_cross = symbol.is_exchange and order_type in LIMITS
        if not may_cross and distance < symbol.info.trade_stops_level * symbol.info.point + 1e-9:
            return mt5.TRADE_RETCODE_INVALID_PRICE
    entry = request.stoplimit if order_type in STOP_LIMITS else request.price
    return check_stops(symbol, side, request.sl, request.tp, entry)


def check_stops(symbol: Symbol, side: int, sl: float, tp: float, price: float) -> int:
    """Stop loss and take profit of an entry at this price."""
    nearest = symbol.info.trade_stops_level * symbol.info.point
    sign = sign_of(side)
    for stop, is_loss in ((sl, True), (tp, False)):
        if not stop:
            continue
        if not symbol.on_grid(stop):
            return mt5.TRADE_RETCODE_INVALID_STOPS
        distance = (price - stop) * sign if is_loss else (stop - price) * sign
        if price and (distance <= 0 or distance < nearest - 1e-9):
            return mt5.TRADE_RETCODE_INVALID_STOPS
    return 0


def is_frozen(symbol: Symbol, price: float) -> bool:
    """Too near to the market to be changed."""
    level = symbol.info.trade_freeze_level * symbol.info.point
    return bool(level and any(abs(price - side) <= level + 1e-9 for side in symbol.quote() if side))


def _check_volume(request: Record, symbol: Symbol) -> int:
    info = symbol.info
    if not info.volume_min - 1e-9 <= request.volume <= info.volume_max + 1e-9 or not symbol.lots_on_step(
        request.volume
    ):
        return mt5.TRADE_RETCODE_INVALID_VOLUME
    return 0


def _check_mode(request: Record, symbol: Symbol, ledger: Ledger) -> int:
    mode, side = symbol.info.trade_mode, side_of(request.type)
    if mode == mt5.SYMBOL_TRADE_MODE_DISABLED:
        return mt5.TRADE_RETCODE_TRADE_DISABLED
    held = ledger.positions.get(request.position) if ledger.is_hedging else ledger.position_of(request.symbol)
    is_reducing = held is not None and held.type != side and request.volume <= held.volume
    if is_reducing:
        return 0
    if mode == mt5.SYMBOL_TRADE_MODE_CLOSEONLY:
        return mt5.TRADE_RETCODE_CLOSE_ONLY
    if mode == mt5.SYMBOL_TRADE_MODE_LONGONLY and side != BUY:
        return mt5.TRADE_RETCODE_LONG_ONLY
    if mode == mt5.SYMBOL_TRADE_MODE_SHORTONLY and side == BUY:
        return mt5.TRADE_RETCODE_SHORT_ONLY
    limit = symbol.info.volume_limit
    in_use = sum(p.volume for p in ledger.positions.values() if p.symbol == request.symbol and p.type == side)
    in_use += sum(
        o.volume_current for o in ledger.orders.values() if o.symbol == request.symbol and side_of(o.type) == side
    )
    return mt5.TRADE_RETCODE_LIMIT_VOLUME if limit and in_use + request.volume > limit + 1e-9 else 0


def _check_filling(request: Record, symbol: Symbol, *, is_pending: bool) -> int:
    """The mask has other bits than the enum has values: mask 1 FOK, 2 IOC, 4 BOC."""
    filling, mask = request.type_filling, symbol.info.filling_mode
    if symbol.info.trade_exemode in (mt5.SYMBOL_TRADE_EXECUTION_REQUEST, mt5.SYMBOL_TRADE_EXECUTION_INSTANT):
        return 0
    allowed = {
        mt5.ORDER_FILLING_FOK: bool(mask & 1),
        mt5.ORDER_FILLING_IOC: bool(mask & 2),
        mt5.ORDER_FILLING_RETURN: symbol.is_exchange or (is_pending and request.type not in STOPS),
        mt5.ORDER_FILLING_BOC: bool(mask & 4) and request.type in (*LIMITS, *STOP_LIMITS),
    }
    return 0 if allowed.get(filling, False) else mt5.TRADE_RETCODE_INVALID_FILL


def _check_money(request: Record, symbol: Symbol, ledger: Ledger, price: float) -> int:
    side = side_of(request.type)
    held = ledger.positions.get(request.position) if request.position else None
    if not ledger.is_hedging:
        held = ledger.position_of(request.symbol)
    if held is not None and held.type != side and request.volume <= 2 * held.volume:
        return 0
    needed = ledger.margin(symbol, request.volume, price)
    return mt5.TRADE_RETCODE_NO_MONEY if needed > ledger.account.margin_free + 1e-9 else 0
