"""The functions of the compiled module, with its conventions: positional only, keywords, none at all (mt5.md A.2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from . import arguments as take
from .arguments import ArgumentError, LeftoverError
from .layouts import RATE_DTYPE, TICK_DTYPE
from .pipe import Pipe, PipeError, open_pipe, wait_a_moment
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

_SUCCESS: Final = (1, "Success")
_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1
_LOGIN_POLL_MS: Final = 100


class _State:
    """The one line and the one error pair of a process."""

    pipe: Pipe | None = None
    error: tuple[int, str] = _SUCCESS


def _guarded(failure: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Reset the error pair, run, and turn refusals and failures into `failure` with their error pair."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*values: Any, **keywords: Any) -> Any:
            _State.error = _SUCCESS
            try:
                return function(*values, **keywords)
            except LeftoverError as left:
                _State.error = (-2, str(left))
                what = f"<built-in function {guarded.__name__}> returned a result with an exception set"
                raise SystemError(what) from left.__cause__
            except ArgumentError as refusal:
                _State.error = (-2, str(refusal))
            except PipeError as broken:
                _State.error = (broken.code, broken.text)
            return failure

        guarded.__name__ = guarded.__qualname__ = function.__name__.lstrip("_")
        return guarded

    return decorate


def _ask(name: str, *values: Any) -> tuple[Any, bytearray]:
    if _State.pipe is None:
        raise PipeError(-10004, "No IPC connection")
    try:
        answer, raw = _State.pipe.exchange(name, list(values))
    except PipeError as broken:
        if broken.code == -10002:
            _close()  # a broken read closes the handle (the next call finds none), a failed write does not
        raise
    if answer["code"] != 1:
        raise PipeError(answer["code"], answer["text"])
    return answer["value"], raw


def _positional(name: str, failure: Any, body: Callable[..., Any]) -> Any:
    """A function that takes no keyword: METH_VARARGS."""
    body.__name__ = name
    checked = _guarded(failure)(body)

    def function(*values: Any) -> Any:
        return checked(*values)

    function.__name__ = function.__qualname__ = name
    return function


def last_error() -> tuple[int, str]:
    return _State.error


@_guarded(False)
def _initialize(*values: Any, **keywords: Any) -> bool:
    _close()  # calling it again is a legal reconnect
    if len(values) > 1:
        raise ArgumentError("Invalid number of arguments")
    path = take.take_text(values[0], take.MAX_PATH, "Invalid 1st unnamed argument") if values else ""
    if "path" in keywords:
        path = take.take_text(keywords["path"], take.MAX_PATH, 'Invalid "path" argument')
    login, password, server, timeout_ms = _take_login(keywords)
    if not path:
        raise PipeError(-10003, "IPC initialize failed, MetaTrader 5 x64 not found")
    pipe = open_pipe(Path(path), bool(keywords.get("portable", False)))
    _State.pipe = pipe
    try:
        if login or password or server:
            _authorise(login, password, server)
        _wait_ready(timeout_ms)
    except PipeError:
        _close()
        raise
    return True


def initialize(*values: Any, **keywords: Any) -> bool:
    return bool(_initialize(*values, **keywords))


@_guarded(False)
def _login(*values: Any, **keywords: Any) -> bool:
    if len(values) > 3:
        raise ArgumentError("Invalid number of arguments")
    named = dict(keywords)
    for (name, place), value in zip((("login", "1st"), ("password", "2nd"), ("server", "3rd")), values, strict=False):
        if not isinstance(value, int if name == "login" else str):
            raise ArgumentError(f"Invalid {place} unnamed argument")
        named.setdefault(name, value)
    login, password, server, _ = _take_login(named)
    if not login:
        raise ArgumentError('Invalid "login" argument')
    _authorise(login, password, server)
    return True


def login(*values: Any, **keywords: Any) -> bool:
    return bool(_login(*values, **keywords))


def _take_login(keywords: dict[str, Any]) -> tuple[int, str, str, int]:
    return (
        take.take_unsigned(keywords.get("login", 0), _U64, 'Invalid "login" argument'),
        take.take_text(keywords.get("password", ""), take.MAX_PASSWORD, 'Invalid "password" argument'),
        take.take_text(keywords.get("server", ""), take.MAX_SERVER, 'Invalid "server" argument'),
        take.take_unsigned(keywords.get("timeout", 0), _U32, 'Invalid "timeout" argument'),
    )


def _authorise(login: int, password: str, server: str) -> None:
    if _ask("login", login, password, server)[0] == "refused":
        raise PipeError(-6, "Terminal: Authorization failed")


def _wait_ready(timeout_ms: int) -> None:
    """Until the terminal is logged in: it is asked every 100 ms, and a timeout of 0 means a minute."""
    waited_ms = 0
    while waited_ms < (timeout_ms or 60_000):
        state, _ = _ask("state")
        if state == "ready":
            return
        if state == "refused":
            raise PipeError(-6, "Terminal: Authorization failed")
        wait_a_moment(_LOGIN_POLL_MS / 1000)
        waited_ms += _LOGIN_POLL_MS
    raise PipeError(-10005, "IPC timeout")


def _close() -> None:
    pipe, _State.pipe = _State.pipe, None
    if pipe is not None:
        pipe.close()


def shutdown() -> bool:
    _State.error = _SUCCESS
    _close()
    return True


@_guarded(None)
def _version() -> Any:
    value, _ = _ask("version")
    return tuple(value)


def version() -> Any:
    return _version()


@_guarded(None)
def _single(kind: str, name: str, *values: Any) -> Any:
    value, _ = _ask(name, *values)
    return build(kind, value)


def terminal_info() -> Any:
    return _single("TerminalInfo", "terminal_info")


def account_info() -> Any:
    return _single("AccountInfo", "account_info")


@_guarded(None)
def _number(name: str) -> Any:
    return _ask(name)[0]


def symbols_total() -> Any:
    return _number("symbols_total")


def orders_total() -> Any:
    return _number("orders_total")


def positions_total() -> Any:
    return _number("positions_total")


def _many(kind: str, name: str, *values: Any) -> tuple[Any, ...]:
    return tuple(build(kind, row) for row in _ask(name, *values)[0])


@_guarded(None)
def _symbols_get(group: str) -> Any:
    return _many("SymbolInfo", "symbols_get", group)


@_guarded(False)
def _take_group(values: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """The group, False (not None) for arguments that are wrong."""
    if len(values) > 1:
        raise ArgumentError("Invalid number of arguments")
    group = take.take_text(values[0], take.MAX_GROUP, "Invalid 1st unnamed argument") if values else ""
    return take.take_text(keywords.get("group", group), take.MAX_GROUP, 'Invalid "group" argument')


def symbols_get(*values: Any, **keywords: Any) -> Any:
    group = _take_group(values, keywords)
    return group if group is False else _symbols_get(group)


def _symbol_info(*values: Any) -> Any:
    (symbol,) = take.take_count(values, 1)
    return build("SymbolInfo", _ask("symbol_info", take.take_symbol(symbol))[0])


def _symbol_info_tick(*values: Any) -> Any:
    (symbol,) = take.take_count(values, 1)
    return build("Tick", _ask("symbol_info_tick", take.take_symbol(symbol))[0])


def _symbol_select(*values: Any) -> bool:
    if len(values) not in (1, 2):
        raise ArgumentError("Invalid arguments")
    _ask("symbol_select", take.take_symbol(values[0]), bool(values[1]) if len(values) == 2 else True)
    return True


@_guarded(False)
def _book(name: str, symbol: str) -> bool:
    return bool(_ask(name, symbol)[0])


def _book_call(name: str) -> Callable[..., Any]:
    def function(*values: Any) -> Any:
        symbol = _one_symbol(*values)
        return None if symbol is None else _book(name, symbol)

    function.__name__ = function.__qualname__ = name
    return function


@_guarded(None)
def _one_symbol(*values: Any) -> str:
    (symbol,) = take.take_count(values, 1)
    return take.take_symbol(symbol)


def _market_book_get(*values: Any) -> Any:
    (symbol,) = take.take_count(values, 1)
    return tuple(build("BookInfo", row) for row in _ask("market_book_get", take.take_symbol(symbol))[0])


def _copy_rates(name: str, places: str) -> Callable[..., Any]:
    def body(*values: Any) -> Any:
        symbol, timeframe, first, second = take.take_count(values, 4)
        taken = [
            take.take_date(value) if kind == "d" else take.take_int32(value)
            for kind, value in zip(places, (first, second), strict=True)
        ]
        _, raw = _ask(name, take.take_symbol(symbol), take.take_int32(timeframe), *taken)
        return np.frombuffer(raw, RATE_DTYPE)

    return body


def _copy_ticks(name: str, places: str) -> Callable[..., Any]:
    def body(*values: Any) -> Any:
        symbol, first, second, flags = take.take_count(values, 4)
        taken = [
            take.take_date(value) if kind == "d" else take.take_int32(value)
            for kind, value in zip(places, (first, second), strict=True)
        ]
        _, raw = _ask(name, take.take_symbol(symbol), *taken, take.take_int32(flags))
        return np.frombuffer(raw, TICK_DTYPE)

    return body


def _choose(keywords: dict[str, Any]) -> list[Any]:
    """ticket, symbol or group, in this order; the first that is named counts."""
    if "ticket" in keywords:
        return ["ticket", take.take_unsigned(keywords["ticket"], _U64, 'Invalid "ticket" argument')]
    if "symbol" in keywords:
        return ["symbol", take.take_text(keywords["symbol"], take.MAX_SYMBOL, 'Invalid "symbol" argument')]
    if "group" in keywords:
        return ["group", take.take_text(keywords["group"], take.MAX_GROUP, 'Invalid "group" argument')]
    return ["", ""]


def _keyword_list(kind: str, name: str) -> Any:
    def body(*values: Any, **keywords: Any) -> Any:
        if values:
            raise ArgumentError("Unnamed arguments not allowed")
        return _many(kind, name, *_choose(keywords))

    body.__name__ = name
    return _guarded(None)(body)


def _history_total(name: str) -> Callable[..., Any]:
    def body(*values: Any) -> Any:
        first, second = take.take_count(values, 2)
        return _ask(name, take.take_date(first), take.take_date(second))[0]

    return body


def _history_list(kind: str, name: str) -> Any:
    def body(*values: Any, **keywords: Any) -> Any:
        if len(values) == 2:
            first, second = (take.take_date(value) for value in values)
            group = take.take_text(keywords.get("group", ""), take.MAX_GROUP, 'Invalid "group" argument')
            return _many(kind, name, "range", first, second, group)
        for key in ("ticket", "position"):
            if key in keywords:
                if values:
                    raise ArgumentError("Unnamed arguments not allowed")
                return _many(kind, name, key, take.take_unsigned(keywords[key], _U64, f'Invalid "{key}" argument'))
        raise ArgumentError("Invalid arguments")

    body.__name__ = name
    return _guarded(None)(body)


def _calculate(name: str, prices: int) -> Callable[..., Any]:
    def body(*values: Any) -> Any:
        action, symbol, *numbers = take.take_count(values, 3 + prices)
        taken = [take.take_float(number) for number in numbers]
        return _ask(name, take.take_int32(action), take.take_symbol(symbol), *taken)[0]

    return body


def _request(kind: str, name: str) -> Any:
    def body(*values: Any, **keywords: Any) -> Any:
        return build(kind, _ask(name, take.take_request(values, keywords))[0])

    body.__name__ = name
    return _guarded(None)(body)


symbol_info = _positional("symbol_info", None, _symbol_info)
symbol_info_tick = _positional("symbol_info_tick", None, _symbol_info_tick)
symbol_select = _positional("symbol_select", False, _symbol_select)
market_book_add = _book_call("market_book_add")
market_book_release = _book_call("market_book_release")
market_book_get = _positional("market_book_get", None, _market_book_get)
copy_rates_from = _positional("copy_rates_from", None, _copy_rates("copy_rates_from", "di"))
copy_rates_from_pos = _positional("copy_rates_from_pos", None, _copy_rates("copy_rates_from_pos", "ii"))
copy_rates_range = _positional("copy_rates_range", None, _copy_rates("copy_rates_range", "dd"))
copy_ticks_from = _positional("copy_ticks_from", None, _copy_ticks("copy_ticks_from", "di"))
copy_ticks_range = _positional("copy_ticks_range", None, _copy_ticks("copy_ticks_range", "dd"))
orders_get = _keyword_list("TradeOrder", "orders_get")
positions_get = _keyword_list("TradePosition", "positions_get")
history_orders_total = _positional("history_orders_total", None, _history_total("history_orders_total"))
history_deals_total = _positional("history_deals_total", None, _history_total("history_deals_total"))
history_orders_get = _history_list("TradeOrder", "history_orders_get")
history_deals_get = _history_list("TradeDeal", "history_deals_get")
order_calc_margin = _positional("order_calc_margin", None, _calculate("order_calc_margin", 1))
order_calc_profit = _positional("order_calc_profit", None, _calculate("order_calc_profit", 2))
order_check = _request("OrderCheckResult", "order_check")
order_send = _request("OrderSendResult", "order_send")
