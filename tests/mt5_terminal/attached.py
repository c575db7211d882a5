"""A stand-in with the module attached to it in the test's own process, and short ways to trade."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.mt5_terminal.control import StandIn
from tests.mt5_terminal.module import MetaTrader5 as mt5
from tests.support.patience import patient

T = TypeVar("T")
_PATIENCE_S = 20.0
FUTURE_S = 2**31 - 1


@contextlib.contextmanager
def attached(folder: Path, preset: str = "global", **options: Any) -> Iterator[StandIn]:
    """A running stand-in; `MetaTrader5` of this process is initialized on it."""
    with StandIn(folder, preset, **options) as stand_in:
        assert mt5.initialize(path=str(stand_in.exe)), mt5.last_error()
        try:
            yield stand_in
        finally:
            mt5.shutdown()


def send(symbol: str, side: int, volume: float, **terms: Any) -> Any:
    """order_send of a market order, IOC unless said."""
    request = {"action": mt5.TRADE_ACTION_DEAL, "symbol": symbol, "type": side, "volume": volume}
    return mt5.order_send(request | {"type_filling": mt5.ORDER_FILLING_IOC, "magic": 7} | terms)


def pend(symbol: str, order_type: int, volume: float, price: float, **terms: Any) -> Any:
    """order_send of a pending order, RETURN unless said."""
    request = {"action": mt5.TRADE_ACTION_PENDING, "symbol": symbol, "type": order_type, "volume": volume}
    return mt5.order_send(request | {"price": price, "type_filling": mt5.ORDER_FILLING_RETURN, "magic": 7} | terms)


def until(condition: Callable[[], T], what: str) -> T:
    """Poll until the condition holds; its value."""
    deadline = time.monotonic() + patient(_PATIENCE_S)
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.005)
    return value


def deals_of(order: int) -> tuple[Any, ...]:
    """The listed deals of an order."""
    return tuple(mt5.history_deals_get(ticket=order))
