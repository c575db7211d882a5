"""Derive the configuration of a replay from its recordings: symbols, and settings of the replay adapter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.config import SymbolConfig, convert_settings
from ...core.instruments.catalog import load_catalog
from .adapter import ReplayFile, ReplaySettings


def plan_replay(
    paths: Sequence[Path], *, speed: float, loop: bool = False, start: str | None = None, wait_for_readers: int = 0
) -> tuple[list[SymbolConfig], dict[str, Any]]:
    """Read the recordings' beginnings and return what their replay needs. Any process may call it.

    A symbol has the universal name ("NQ") when the recordings hold one contract of it, else the contract's own name
    ("GCZ13"), so that several months have symbols of their own. Its tick size is the catalog's, unknown without one.

    Returns:
        The symbols, and `settings` for the platform.

    Raises:
        ConfigError: `start` is no time.
        DataFormatError: a file is in no known format.
        FileNotFoundError: a file is not there.
    """
    recordings = [ReplayFile(path=str(path)).open() for path in paths]
    instruments = sorted(
        {instrument for recording in recordings for instrument in recording.instruments},
        key=lambda instrument: instrument.contract,
    )
    contracts_of = Counter(instrument.root for instrument in instruments)
    catalog = load_catalog()
    symbols = []
    for instrument in instruments:
        alone = contracts_of[instrument.root] == 1
        known = catalog.get(instrument.root)
        symbols.append(
            SymbolConfig(
                name=instrument.root if alone else instrument.contract,
                contract=instrument.contract if instrument.contract != instrument.root else "",
                tick_size=None if known is None else known.tick,
            )
        )
    settings = {
        "files": [{"path": str(path.resolve())} for path in paths],
        "speed": speed,
        "loop": loop,
        "start": start,
        "wait_for_readers": wait_for_readers,
    }
    convert_settings(ReplaySettings, settings, "replay")  # report faults now, not from a process that cannot start
    return symbols, settings
