"""Writes the configured symbols to the symbol directory, before any process starts that reads it."""

from __future__ import annotations

import math
import time
from pathlib import Path

from ...shm.symbols import DirectoryFullError, Symbol, SymbolDirectory, add_symbols, roll_symbol
from ..config import GatewayConfig, SymbolConfig
from ..errors import RunFolderError
from ..instruments.catalog import load_catalog


def enter_symbols(folder: Path, config: GatewayConfig) -> list[int]:
    """Add the configured symbols to the directory, and correct contracts in one that is left from an earlier run.

    A symbol that rolls gets no contract here: the gateway writes it, from its journal. The one in the configuration or
    in an old directory may be last month's, and an adapter that starts with it would swap the front and the next month.

    Returns:
        The id of each configured symbol, in the order of the configuration.

    Raises:
        RunFolderError: the directory is still in use by a reader, and a tick size in it differs from the configuration,
            or it has no room for new symbols.
        ConfigError: the user's instruments file is wrong.
    """
    rolling = _rolling_roots(config)
    wanted = [_directory_entry(symbol, symbol.name in rolling) for symbol in config.symbols]
    try:
        ids = add_symbols(folder, wanted)
    except DirectoryFullError as error:
        raise RunFolderError(f"run folder {folder}: {error}") from error
    directory = SymbolDirectory.attach(folder)
    for symbol, symbol_id in zip(wanted, ids, strict=True):
        entry = _whole_entry(folder, directory, symbol_id, symbol.name)
        if repr(entry.tick_size) != repr(symbol.tick_size):  # as text: unknown is NaN, which never equals NaN
            raise RunFolderError(
                f"run folder {folder}: tick size of {symbol.name} was {entry.tick_size} there, is {symbol.tick_size} "
                "in the configuration, and a reader still uses the folder; stop NEXUS and other readers, start again"
            )
        stale = entry.contract != symbol.contract
        if stale and (symbol.contract or symbol.name in rolling):
            roll_symbol(folder, symbol.name, symbol.contract, time.time_ns())
    return ids


def _whole_entry(folder: Path, directory: SymbolDirectory, symbol_id: int, name: str) -> Symbol:
    try:
        return directory.entry(symbol_id)
    except RuntimeError:  # its writer was killed in the middle of the entry
        return roll_symbol(folder, name, "", 0)


def _rolling_roots(config: GatewayConfig) -> set[str]:
    if not config.orders.enabled or not any(symbol.contract for symbol in config.symbols):
        return set()
    catalog = load_catalog(config.orders.instruments_path)
    return set(config.rolling_roots({each.symbol for each in catalog.futures()}))


def _directory_entry(symbol: SymbolConfig, is_rolling: bool) -> Symbol:
    tick_size = math.nan if symbol.tick_size is None else float(symbol.tick_size)
    return Symbol(0, symbol.name, "" if is_rolling else symbol.contract, tick_size)
