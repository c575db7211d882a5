"""Which format a file has, and the one door to all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from ...core.errors import DataFormatError
from .recording import Format, ReadOptions, Recording
from .trade_csv import HEADER, open_trade_csv

_OPENERS: Final[dict[Format, Callable[[Path, ReadOptions], Recording]]] = {
    Format.TRADE_CSV: open_trade_csv,
}


def detect_format(path: Path) -> Format:
    """Format of a file, by its first bytes."""
    return Format.TRADE_CSV


def open_recording(path: Path | str, options: ReadOptions | None = None) -> Recording:
    """Open a file of recorded ticks."""
    options = options or ReadOptions()
    path = Path(path)
    return _OPENERS[options.format or detect_format(path)](path, options)
