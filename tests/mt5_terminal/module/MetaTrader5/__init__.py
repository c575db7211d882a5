"""Stand-in of the MetaTrader5 package for tests: same names, values, conventions and result types; see ../../README.md.

It plays version 5.0.6231 for Windows and finds its terminal through the path given to `initialize`.
"""

from __future__ import annotations

from typing import Any

from .constants import *  # noqa: F403 - the real package's constants are its public names
from .constants import ORDER_TYPE_BUY, ORDER_TYPE_SELL, TRADE_ACTION_DEAL, TRADE_RETCODE_DONE
from .core import *  # noqa: F403 - as the real package takes all names of its compiled part
from .core import order_send, positions_get, symbol_info_tick
from .structs import TYPES as _TYPES

__version__ = "5.0.6231"
__author__ = "stand-in for tests"

_RETRIED = (10004, 10021)

AccountInfo = _TYPES["AccountInfo"]
BookInfo = _TYPES["BookInfo"]
OrderCheckResult = _TYPES["OrderCheckResult"]
OrderSendResult = _TYPES["OrderSendResult"]
SymbolInfo = _TYPES["SymbolInfo"]
TerminalInfo = _TYPES["TerminalInfo"]
Tick = _TYPES["Tick"]
TradeDeal = _TYPES["TradeDeal"]
TradeOrder = _TYPES["TradeOrder"]
TradePosition = _TYPES["TradePosition"]
TradeRequest = _TYPES["TradeRequest"]


def _send(side: int, symbol: str, volume: float, price: float, comment: str | None, ticket: int | None) -> Any:
    request = {
        "action": TRADE_ACTION_DEAL,
        "symbol": symbol,
        "volume": volume,
        "type": side,
        "price": price,
        "deviation": 10,
    }
    optional = {"comment": comment, "position": ticket}
    return order_send(request | {key: value for key, value in optional.items() if value is not None})


def _send_at_market(side: int, symbol: str, volume: float, comment: str | None, ticket: int | None) -> Any:
    result = None
    for _ in range(10):
        tick = symbol_info_tick(symbol)
        if tick is None:
            return None
        result = _send(side, symbol, volume, tick.ask if side == ORDER_TYPE_BUY else tick.bid, comment, ticket)
        if result is None or result.retcode not in _RETRIED:
            break
    return result


def Buy(
    symbol: str, volume: float, price: float | None = None, *, comment: str | None = None, ticket: int | None = None
) -> Any:
    if price is not None:
        return _send(ORDER_TYPE_BUY, symbol, volume, price, comment, ticket)
    return _send_at_market(ORDER_TYPE_BUY, symbol, volume, comment, ticket)


def Sell(
    symbol: str, volume: float, price: float | None = None, *, comment: str | None = None, ticket: int | None = None
) -> Any:
    if price is not None:
        return _send(ORDER_TYPE_SELL, symbol, volume, price, comment, ticket)
    return _send_at_market(ORDER_TYPE_SELL, symbol, volume, comment, ticket)


def Close(symbol: str, *, comment: str | None = None, ticket: int | None = None) -> Any:
    chosen = positions_get(symbol=symbol) if ticket is None else positions_get(ticket=ticket)
    closed = 0
    for position in chosen:
        side = ORDER_TYPE_SELL if position.type == ORDER_TYPE_BUY else ORDER_TYPE_BUY
        result = _send_at_market(side, symbol, position.volume, comment, position.ticket)
        if result is None:
            return None
        closed += result.retcode == TRADE_RETCODE_DONE
    if closed:
        return True if closed == len(chosen) else "Partially"
    return False
