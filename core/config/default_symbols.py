"""The symbols of the embedded default: universal name -> tick size in quote units, and the symbols of each platform.

Tick sizes are from the exchanges' contract specifications. CFD and FX names have the most common ones, since each
broker defines its own.
"""

from __future__ import annotations

from typing import Final

_CME_INDEX: Final = {
    "ES": "0.25", "NQ": "0.25", "YM": "1", "RTY": "0.1", "NKD": "5",
    "MES": "0.25", "MNQ": "0.25", "MYM": "1", "M2K": "0.1",
}  # fmt: skip
_CME_ENERGY_METALS: Final = {
    "CL": "0.01", "MCL": "0.01", "NG": "0.001", "HO": "0.0001", "RB": "0.0001",
    "GC": "0.1", "MGC": "0.1", "SI": "0.005", "SIL": "0.005", "HG": "0.0005", "PL": "0.1",
}  # fmt: skip
_CME_CURRENCIES: Final = {
    "6E": "0.00005", "M6E": "0.0001", "6B": "0.0001", "6J": "0.0000005", "6A": "0.00005", "6C": "0.00005",
    "6S": "0.00005", "6N": "0.00005", "6L": "0.00005", "BTC": "5", "MBT": "5",
}  # fmt: skip
_CME_RATES_GRAINS: Final = {
    "ZN": "0.015625", "ZB": "0.03125", "ZF": "0.0078125", "ZT": "0.00390625", "UB": "0.03125",
    "ZC": "0.25", "ZS": "0.25", "ZW": "0.25",
}  # fmt: skip
_B3: Final = {"WIN": "5", "IND": "5", "WDO": "0.5", "DOL": "0.5"}
_CFD: Final = {
    "NAS100": "0.1", "US500": "0.1", "US30": "1", "US2000": "0.1", "USOIL": "0.01", "XAUUSD": "0.01", "XAGUSD": "0.001",
}  # fmt: skip
_FX: Final = {
    "EURUSD": "0.00001", "GBPUSD": "0.00001", "AUDUSD": "0.00001", "NZDUSD": "0.00001", "USDJPY": "0.001",
    "USDCAD": "0.00001", "USDCHF": "0.00001", "EURGBP": "0.00001", "EURJPY": "0.001", "USDBRL": "0.0001",
}  # fmt: skip

_CME: Final = {**_CME_INDEX, **_CME_ENERGY_METALS, **_CME_CURRENCIES, **_CME_RATES_GRAINS}
DEFAULT_TICK_SIZES: Final = {**_CME, **_B3, **_CFD, **_FX}

DEFAULT_PLATFORM_SYMBOLS: Final[dict[str, tuple[str, ...]]] = {
    "mt5": (*_CFD, *_FX),
    "mt5_br": tuple(_B3),
    "nt8": tuple(_CME),
    "sierra": tuple(_CME),
    "bookmap": (*_CME_INDEX, "CL", "GC", "6E", "ZN"),
    "quantower": (*_CME_INDEX, *_CME_ENERGY_METALS),
}

# As in config/symbol_mappings.json: a CFD traded in place of the future, with its own point value and lot.
DEFAULT_STAND_INS: Final[dict[str, dict[str, str]]] = {
    "mt5": {
        "ES": "US500", "MES": "US500", "NQ": "NAS100", "MNQ": "NAS100", "YM": "US30", "MYM": "US30",
        "RTY": "US2000", "M2K": "US2000", "CL": "USOIL", "MCL": "USOIL", "GC": "XAUUSD", "MGC": "XAUUSD",
        "SI": "XAGUSD", "SIL": "XAGUSD", "6E": "EURUSD", "M6E": "EURUSD", "6B": "GBPUSD", "6A": "AUDUSD",
    },
}  # fmt: skip
