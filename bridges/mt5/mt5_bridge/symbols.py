"""Select symbols in the terminal and describe their terms."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from .constants import CALC_BY_CONTRACT_SIZE, MAX_SYMBOL_CHARACTERS, MS_PER_S, TRADE_MODE_DISABLED
from .decimals import exact, write
from .errors import NotSynchronised, SymbolRefused
from .fields import Body
from .server_clock import ServerClock
from .terminal import Terminal


class SymbolFacts:
    """Terms of one symbol: price and volume steps, order types, filling and expiration modes."""

    def __init__(self, info: Any) -> None:
        """Raises NotSynchronised, BadNumber."""
        self.name: str = info.name
        self.tick_size = exact(info.trade_tick_size or info.point)
        self.lot_step = exact(info.volume_step)
        self.least_lots = exact(info.volume_min)
        # volume_limit is not checked: it limits position and orders of a side together, and a closing order may be
        # larger. The server checks it (10034).
        self.most_lots = exact(info.volume_max)
        self.execution: int = info.trade_exemode
        self.filling_mask: int = info.filling_mode
        self.order_mode: int = info.order_mode
        self.expiration_mode: int = info.expiration_mode
        for what, size in (("tick size", self.tick_size), ("lot step", self.lot_step)):
            if size <= 0:
                raise NotSynchronised(
                    f"the {what} of {self.name!r} was {size}, must be above 0: it is not synchronised yet, subscribe "
                    "later"
                )


def find_similar(terminal: Terminal, name: str) -> str:
    """Text for an error message: up to 5 similar names that the terminal has."""
    stem = re.sub(r"[^A-Za-z0-9].*", "", name)[:3]
    found = terminal.call("symbols_get", group=f"*{stem}*,*{stem.upper()}*") if stem else None
    names = difflib.get_close_matches(name, [each.name for each in found or ()], 5, 0.0)
    return f"; it has {', '.join(map(repr, names))}" if names else ""


def open_symbol(terminal: Terminal, name: str, server_now_ms: int) -> Any:
    """Select the symbol of exactly this name into the Market Watch; returns its SymbolInfo. Raises SymbolRefused."""
    if not name.isascii() or len(name) > MAX_SYMBOL_CHARACTERS:
        raise SymbolRefused(f"{name!r} must be at most {MAX_SYMBOL_CHARACTERS} ASCII characters")
    if not terminal.call("symbol_select", name, True):
        trouble = f"the terminal has no symbol {name!r}: {terminal.error[1]} ({terminal.error[0]})"
        raise SymbolRefused(trouble + find_similar(terminal, name))
    info = terminal.call("symbol_info", name)
    if info is None:
        raise SymbolRefused(f"the terminal tells nothing of {name!r}: {terminal.error[1]} ({terminal.error[0]})")
    if info.name != name:
        raise SymbolRefused(f"asked for was {name!r}, the terminal gives {info.name!r}")
    if info.trade_mode == TRADE_MODE_DISABLED or "$" in name or "@" in name:
        raise SymbolRefused(
            f"{name!r} ({info.path}) cannot be traded: a continuous series or a closed symbol; name the contract itself"
        )
    if 0 < info.expiration_time * MS_PER_S <= server_now_ms:
        raise SymbolRefused(f"{name!r} has expired")
    return info


def describe_instrument(info: Any, market: SymbolFacts, symbol: str, account_currency: str, clock: ServerClock) -> Body:
    """`instrument` of the protocol. Raises NotSynchronised, BadNumber."""
    point_value: Decimal | None = None
    currency = info.currency_profit or account_currency
    tick_value = exact(info.trade_tick_value)  # in the account's currency
    if currency == account_currency and tick_value > 0:
        point_value = exact(float(tick_value / market.tick_size))
    elif info.trade_calc_mode in CALC_BY_CONTRACT_SIZE:
        point_value = exact(info.trade_contract_size)
    elif currency == account_currency:
        # Without a point value the gateway could not check the multiplier.
        raise NotSynchronised(f"the tick value of {info.name!r} was {tick_value}, must be above 0: subscribe later")
    return {
        "symbol": symbol,
        "platform_symbol": info.name,
        "contract": "",
        "tick_size": write(market.tick_size),
        "lot_step": write(market.lot_step),
        "point_value": None if not point_value else write(point_value),
        "currency": currency[:5],
        "expiry_ns": clock.to_utc_ns(info.expiration_time * MS_PER_S),
    }


def name_external(platform_symbol: str, universal: Iterable[str]) -> str:
    """Symbol name for an instrument that is not subscribed (section 3.8 of the protocol)."""
    name = re.sub(r"[^A-Za-z0-9._/-]", "-", platform_symbol)
    name = name[:1].upper() + name[1:]
    if not re.match(r"[A-Z0-9]", name):
        name = "X" + name
    name = name[:32]
    return f"X.{name}"[:32] if name in universal else name
