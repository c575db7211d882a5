"""Brokers to play: account, symbols, execution and clock (example values of mt5.md A.7, contracts.md D)."""

from __future__ import annotations

import calendar
import datetime
from dataclasses import dataclass
from typing import Any

from tests.mt5_terminal.market import Symbol
from tests.mt5_terminal.module.MetaTrader5 import constants as mt5
from tests.mt5_terminal.records import Record

MASK_FOK, MASK_IOC = 1, 2


@dataclass(frozen=True)
class Preset:
    """A broker before anything has happened.

    Attributes:
        account: fields of AccountInfo.
        symbols: fields of SymbolInfo of each.
        watched: names in the Market Watch.
        flag_bits: undocumented bits that its feed sets in every tick's flags.
    """

    zone: str
    account: dict[str, Any]
    symbols: tuple[dict[str, Any], ...]
    watched: tuple[str, ...]
    flag_bits: int = 0


def describe_symbol(name: str, **fields: Any) -> Record:
    """SymbolInfo of a tradable instrument; `fields` over the defaults."""
    digits = int(fields.get("digits", 2))
    tick_size = float(fields.get("trade_tick_size", 10**-digits))
    defaults = {
        "name": name,
        "description": name,
        "path": name,
        "digits": digits,
        "point": 10**-digits,
        "trade_tick_size": tick_size,
        "trade_tick_value": tick_size,
        "trade_contract_size": 1.0,
        "trade_mode": mt5.SYMBOL_TRADE_MODE_FULL,
        "trade_exemode": mt5.SYMBOL_TRADE_EXECUTION_MARKET,
        "trade_calc_mode": mt5.SYMBOL_CALC_MODE_CFDINDEX,
        "filling_mode": MASK_FOK | MASK_IOC,
        "expiration_mode": 15,
        "order_mode": 127,
        "spread_float": True,
        "volume_min": 0.1,
        "volume_max": 500.0,
        "volume_step": 0.1,
        "currency_base": "USD",
        "currency_profit": "USD",
        "currency_margin": "USD",
    }
    merged = defaults | fields
    merged.setdefault("trade_tick_value_profit", merged["trade_tick_value"])
    merged.setdefault("trade_tick_value_loss", merged["trade_tick_value"])
    return Record("SymbolInfo", **merged)


def make_symbol(watched: bool, fields: dict[str, Any]) -> Symbol:
    info = describe_symbol(**fields)
    info.select = info.visible = watched
    return Symbol(info, watched)


def _future(name: str, path: str, **fields: Any) -> dict[str, Any]:
    shape = {
        "trade_exemode": mt5.SYMBOL_TRADE_EXECUTION_EXCHANGE,
        "trade_calc_mode": mt5.SYMBOL_CALC_MODE_EXCH_FUTURES,
        "chart_mode": mt5.SYMBOL_CHART_MODE_LAST,
        "volume_min": 1.0,
        "volume_step": 1.0,
        "ticks_bookdepth": 32,
        "path": f"{path}\\{name}",
    }
    return {"name": name, **shape, **fields}


def _bmf(name: str, expires: tuple[int, int, int], **fields: Any) -> dict[str, Any]:
    # XP's demo server showed 22:15 of the last day; only the date means anything.
    expiry = calendar.timegm((*expires, 22, 15, 0))
    money = {"currency_base": "BRL", "currency_profit": "BRL", "currency_margin": "BRL", "exchange": "BMF"}
    return _future(name, "BMF", expiration_time=expiry, **money, **fields)


def _win(name: str, *expires: int) -> dict[str, Any]:
    shape = {
        "digits": 0,
        "trade_tick_size": 5.0,
        "trade_tick_value": 1.0,
        "volume_max": 25000.0,
        "margin_initial": 100.0,
    }
    return _bmf(name, (expires[0], expires[1], expires[2]), **shape, trade_contract_size=0.2)


def _wdo(name: str, *expires: int) -> dict[str, Any]:
    shape = {
        "digits": 1,
        "trade_tick_size": 0.5,
        "trade_tick_value": 5.0,
        "volume_max": 50000.0,
        "margin_initial": 150.0,
    }
    return _bmf(name, (expires[0], expires[1], expires[2]), **shape, trade_contract_size=10.0)


def _series(name: str, digits: int, tick: float, value: float, described: str) -> dict[str, Any]:
    shape = {"digits": digits, "trade_tick_size": tick, "trade_tick_value": value, "description": described}
    return _future(name, "BMF\\SERIES CONTINUAS", trade_mode=mt5.SYMBOL_TRADE_MODE_DISABLED, **shape)


def _cme(name: str, expires: datetime.date, point_usd: float) -> dict[str, Any]:
    expiry = calendar.timegm((*expires.timetuple()[:3], 14, 30, 0))
    shape = {"digits": 2, "trade_tick_size": 0.25, "trade_tick_value": point_usd / 4, "trade_contract_size": point_usd}
    return _future(name, "CME", expiration_time=expiry, volume_max=500.0, margin_initial=100.0, **shape)


def _account(**fields: Any) -> dict[str, Any]:
    return {
        "trade_mode": mt5.ACCOUNT_TRADE_MODE_DEMO,
        "limit_orders": 200,
        "trade_allowed": True,
        "trade_expert": True,
        "currency_digits": 2,
        "margin_so_call": 100.0,
        "margin_so_so": 50.0,
        "name": "Stand-in",
        **fields,
    }


PRESETS = {
    "global": Preset(
        zone="ny+7",
        account=_account(
            login=5001234,
            server="StandIn-Demo",
            company="Stand-in Markets Ltd",
            currency="USD",
            leverage=100,
            balance=1_000_000.0,
            margin_mode=mt5.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING,
        ),
        symbols=(
            {"name": "NAS100", "digits": 2, "filling_mode": 2, "path": "Indices\\NAS100"},
            {"name": "US100.cash", "digits": 1, "filling_mode": 1, "path": "Indices\\US100.cash"},
            {"name": "USTEC.m", "digits": 2, "trade_contract_size": 20.0, "trade_tick_value": 0.2, "path": "USTEC.m"},
            {"name": "US500", "digits": 2, "path": "Indices\\US500"},
            {"name": "US30", "digits": 1, "filling_mode": 2, "path": "Indices\\US30"},
            {
                "name": "XAUUSD",
                "digits": 2,
                "trade_contract_size": 100.0,
                "trade_tick_value": 1.0,
                "volume_min": 0.01,
                "volume_step": 0.01,
                "trade_calc_mode": mt5.SYMBOL_CALC_MODE_CFDLEVERAGE,
                "path": "Metals\\XAUUSD",
            },
            {
                "name": "EURUSD",
                "digits": 5,
                "trade_contract_size": 100_000.0,
                "trade_tick_value": 1.0,
                "volume_min": 0.01,
                "volume_step": 0.01,
                "trade_calc_mode": mt5.SYMBOL_CALC_MODE_FOREX,
                "currency_base": "EUR",
                "path": "Forex\\EURUSD",
            },
        ),
        watched=("EURUSD", "XAUUSD"),
    ),
    "b3": Preset(
        zone="utc-3",
        account=_account(
            login=70012345,
            server="StandInB3-PRD",
            company="Corretora Stand-in S.A.",
            currency="BRL",
            leverage=1,
            balance=1_000_000.0,
            margin_mode=mt5.ACCOUNT_MARGIN_MODE_EXCHANGE,
        ),
        symbols=(
            _win("WINQ26", 2026, 8, 12),
            _win("WINV26", 2026, 10, 14),
            _win("WINZ26", 2026, 12, 16),
            _win("WING27", 2027, 2, 17),
            _wdo("WDOQ26", 2026, 7, 31),
            _wdo("WDOX26", 2026, 10, 30),
            _wdo("WDOZ26", 2026, 11, 30),
            _wdo("WDOF27", 2026, 12, 30),
            _series("WIN$", 0, 1.0, 0.20, "por liquidez (WINZ26) - ajuste proporcional"),
            _series("WIN@", 0, 1.0, 0.20, "por vencimento (WINZ26) - ajuste proporcional"),
            _series("WDO$", 3, 0.001, 0.01, "por liquidez (WDOZ26) - ajuste proporcional"),
            _series("WDO@", 3, 0.001, 0.01, "por vencimento (WDOZ26) - ajuste proporcional"),
            _win("WINZ26_71R", 2026, 12, 16),
            {**_win("INDZ26", 2026, 12, 16), "trade_tick_value": 5.0, "volume_step": 5.0, "volume_min": 5.0},
            {**_wdo("DOLZ26", 2026, 11, 30), "trade_tick_value": 25.0, "volume_step": 5.0, "volume_min": 5.0},
        ),
        watched=("WIN$", "WINZ26"),
        flag_bits=0x400,
    ),
    "futures": Preset(
        zone="utc+0",
        account=_account(
            login=90001,
            server="StandInFutures-Demo",
            company="Stand-in Futures LLC",
            currency="USD",
            leverage=1,
            balance=1_000_000.0,
            margin_mode=mt5.ACCOUNT_MARGIN_MODE_EXCHANGE,
        ),
        symbols=(
            _cme("NQZ26", datetime.date(2026, 12, 18), 20.0),
            _cme("NQH27", datetime.date(2027, 3, 19), 20.0),
            _cme("ESZ26", datetime.date(2026, 12, 18), 50.0),
        ),
        watched=("ESZ26",),
    ),
}

MARGIN_MODES = {
    "netting": mt5.ACCOUNT_MARGIN_MODE_RETAIL_NETTING,
    "exchange": mt5.ACCOUNT_MARGIN_MODE_EXCHANGE,
    "hedging": mt5.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING,
}
