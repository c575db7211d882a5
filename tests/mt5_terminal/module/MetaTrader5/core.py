"""The functions of the compiled module, with its conventions: positional only, keywords, none at all (mt5.md A.2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import arguments as take
from .arguments import ArgumentError
from .layouts import RATE_DTYPE, TICK_DTYPE
from .session import Function, ask, bare, guarded, initialize, last_error, login, positional, shutdown
from .structs import build

__all__ = [
    "account_info",
    "copy_rates_from",
    "copy_rates_from_pos",
    "copy_rates_range",
    "copy_ticks_from",
    "copy_ticks_range",
    "history_deals_get",
    "history_deals_total",
    "history_orders_get",
    "history_orders_total",
    "initialize",
    "last_error",
    "login",
    "market_book_add",
    "market_book_get",
    "market_book_release",
    "order_calc_margin",
    "order_calc_profit",
    "order_check",
    "order_send",
    "orders_get",
    "orders_total",
    "positions_get",
    "positions_total",
    "shutdown",
    "symbol_info",
    "symbol_info_tick",
    "symbol_select",
    "symbols_get",
    "symbols_total",
    "terminal_info",
    "version",
]


@bare
def version() -> Any:
    return tuple(ask("version")[0])


@bare
def terminal_info() -> Any:
    return build("TerminalInfo", ask("terminal_info")[0])


@bare
def account_info() -> Any:
    return build("AccountInfo", ask("account_info")[0])


@bare
def symbols_total() -> Any:
    return ask("symbols_total")[0]


@bare
def orders_total() -> Any:
    return ask("orders_total")[0]


@bare
def positions_total() -> Any:
    return ask("positions_total")[0]


def _many(kind: str, name: str, *values: Any) -> tuple[Any, ...]:
    return tuple(build(kind, row) for row in ask(name, *values)[0])


def symbols_get(*values: Any, **keywords: Any) -> Any:
    group = _take_group(*values, **keywords)
    return group if group is False else _symbols(group)


@guarded(False)
def _take_group(*values: Any, **keywords: Any) -> str:
    """Arguments that are wrong give False here, not None as in the other lists."""
    if len(values) > 1:
        raise ArgumentError("Invalid number of arguments")
    group = take.take_text(values[0], take.MAX_GROUP, "Invalid 1st unnamed argument") if values else ""
    return take.take_text(keywords.get("group", group), take.MAX_GROUP, 'Invalid "group" argument')


@guarded(None)
def _symbols(group: str) -> Any:
    return _many("SymbolInfo", "symbols_get", group)


def _take_one_symbol(values: tuple[Any, ...]) -> str:
    (symbol,) = take.take_count(values, 1)
    return take.take_symbol(symbol)


@positional(None)
def symbol_info(*values: Any) -> Any:
    return build("SymbolInfo", ask("symbol_info", _take_one_symbol(values))[0])


@positional(None)
def symbol_info_tick(*values: Any) -> Any:
    return build("Tick", ask("symbol_info_tick", _take_one_symbol(values))[0])


@positional(False)
def symbol_select(*values: Any) -> bool:
    if len(values) not in (1, 2):
        raise ArgumentError("Invalid arguments")
    ask("symbol_select", take.take_symbol(values[0]), bool(values[1]) if len(values) == 2 else True)
    return True


def _book_function(name: str) -> Function:
    """False when the terminal refuses, None when the arguments are wrong."""

    @positional(None)
    def take_symbol(*values: Any) -> str:
        return _take_one_symbol(values)

    @positional(False)
    def tell(symbol: str) -> bool:
        return bool(ask(name, symbol)[0])

    def function(*values: Any) -> Any:
        symbol = take_symbol(*values)
        return None if symbol is None else tell(symbol)

    function.__name__ = function.__qualname__ = name
    return function


market_book_add = _book_function("market_book_add")
market_book_release = _book_function("market_book_release")


@positional(None)
def market_book_get(*values: Any) -> Any:
    return _many("BookInfo", "market_book_get", _take_one_symbol(values))


def _copy_rates(name: str, values: tuple[Any, ...], first: Function, second: Function) -> np.ndarray:
    symbol, timeframe, *terms = take.take_count(values, 4)
    taken = [first(terms[0]), second(terms[1])]
    return np.frombuffer(ask(name, take.take_symbol(symbol), take.take_int32(timeframe), *taken)[1], RATE_DTYPE)


@positional(None)
def copy_rates_from(*values: Any) -> Any:
    return _copy_rates("copy_rates_from", values, take.take_date, take.take_int32)


@positional(None)
def copy_rates_from_pos(*values: Any) -> Any:
    return _copy_rates("copy_rates_from_pos", values, take.take_int32, take.take_int32)


@positional(None)
def copy_rates_range(*values: Any) -> Any:
    return _copy_rates("copy_rates_range", values, take.take_date, take.take_date)


@positional(None)
def copy_ticks_from(*values: Any) -> Any:
    symbol, date, count, flags = take.take_count(values, 4)
    terms = (take.take_date(date), take.take_int32(count), take.take_int32(flags))
    return np.frombuffer(ask("copy_ticks_from", take.take_symbol(symbol), *terms)[1], TICK_DTYPE)


@positional(None)
def copy_ticks_range(*values: Any) -> Any:
    symbol, first, last, flags = take.take_count(values, 4)
    terms = (take.take_date(first), take.take_date(last), take.take_int32(flags))
    return np.frombuffer(ask("copy_ticks_range", take.take_symbol(symbol), *terms)[1], TICK_DTYPE)


def _choose(values: tuple[Any, ...], keywords: dict[str, Any]) -> list[Any]:
    """ticket, symbol or group, in this order; the first that is named counts."""
    if values:
        raise ArgumentError("Unnamed arguments not allowed")
    if "ticket" in keywords:
        return ["ticket", take.take_unsigned(keywords["ticket"], take.U64, 'Invalid "ticket" argument')]
    if "symbol" in keywords:
        return ["symbol", take.take_text(keywords["symbol"], take.MAX_SYMBOL, 'Invalid "symbol" argument')]
    if "group" in keywords:
        return ["group", take.take_text(keywords["group"], take.MAX_GROUP, 'Invalid "group" argument')]
    return ["", ""]


@guarded(None)
def orders_get(*values: Any, **keywords: Any) -> Any:
    return _many("TradeOrder", "orders_get", *_choose(values, keywords))


@guarded(None)
def positions_get(*values: Any, **keywords: Any) -> Any:
    return _many("TradePosition", "positions_get", *_choose(values, keywords))


def _take_range(values: tuple[Any, ...]) -> list[int]:
    return [take.take_date(value) for value in take.take_count(values, 2)]


@positional(None)
def history_orders_total(*values: Any) -> Any:
    return ask("history_orders_total", *_take_range(values))[0]


@positional(None)
def history_deals_total(*values: Any) -> Any:
    return ask("history_deals_total", *_take_range(values))[0]


def _choose_history(values: tuple[Any, ...], keywords: dict[str, Any]) -> list[Any]:
    """Two dates with or without a group; else ticket, else position."""
    if len(values) == 2:
        group = take.take_text(keywords.get("group", ""), take.MAX_GROUP, 'Invalid "group" argument')
        return ["range", *_take_range(values), group]
    for key in ("ticket", "position"):
        if key in keywords:
            if values:
                raise ArgumentError("Unnamed arguments not allowed")
            return [key, take.take_unsigned(keywords[key], take.U64, f'Invalid "{key}" argument')]
    raise ArgumentError("Invalid arguments")


@guarded(None)
def history_orders_get(*values: Any, **keywords: Any) -> Any:
    return _many("TradeOrder", "history_orders_get", *_choose_history(values, keywords))


@guarded(None)
def history_deals_get(*values: Any, **keywords: Any) -> Any:
    return _many("TradeDeal", "history_deals_get", *_choose_history(values, keywords))


def _calculate(name: str, values: tuple[Any, ...], count: int) -> Any:
    action, symbol, *numbers = take.take_count(values, count)
    taken = [take.take_float(number) for number in numbers]
    return ask(name, take.take_int32(action), take.take_symbol(symbol), *taken)[0]


@positional(None)
def order_calc_margin(*values: Any) -> Any:
    return _calculate("order_calc_margin", values, 4)


@positional(None)
def order_calc_profit(*values: Any) -> Any:
    return _calculate("order_calc_profit", values, 5)


@guarded(None)
def order_check(*values: Any, **keywords: Any) -> Any:
    return build("OrderCheckResult", ask("order_check", take.take_request(values, keywords))[0])


@guarded(None)
def order_send(*values: Any, **keywords: Any) -> Any:
    return build("OrderSendResult", ask("order_send", take.take_request(values, keywords))[0])
