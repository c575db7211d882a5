"""Detect a file's format and open it: the entry point to all formats."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ...core.errors import DataFormatError
from . import mt5_export, nt8_export, trade_csv
from .byte_blocks import list_members, read_first_line
from .depth_feed import open_depth_feed
from .dukascopy_bi5 import open_dukascopy_bi5
from .dukascopy_csv import open_dukascopy_csv
from .lean_zip import QUOTE_MEMBER, TRADE_MEMBER, open_futures_zip, open_quote_zip
from .recording import Format, ReadOptions, Recording
from .scid import MAGIC, open_scid

_OPENERS: Final[dict[Format, Callable[[Path, ReadOptions], Recording]]] = {
    Format.TRADE_CSV: trade_csv.open_trade_csv,
    Format.QUOTE_ZIP: open_quote_zip,
    Format.FUTURES_ZIP: open_futures_zip,
    Format.DUKASCOPY_BI5: open_dukascopy_bi5,
    Format.DUKASCOPY_CSV: open_dukascopy_csv,
    Format.DEPTH_FEED: open_depth_feed,
    Format.MT5_TICKS: mt5_export.open_mt5_export,
    Format.NT8_TICKS: nt8_export.open_nt8_export,
    Format.SCID: open_scid,
}
assert set(_OPENERS) == set(Format)

_ZIP_MAGIC: Final = b"PK"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_FIRST_LINES: Final = (
    (re.compile(re.escape(trade_csv.HEADER)), Format.TRADE_CSV),
    (re.compile(re.escape(mt5_export.HEADER)), Format.MT5_TICKS),
    (nt8_export.FIRST_LINE, Format.NT8_TICKS),
    (re.compile(r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d.*,.*"), Format.DUKASCOPY_CSV),
    (re.compile(r"\d+ \{.*"), Format.DEPTH_FEED),
)


def detect_format(path: Path | str) -> Format:
    """Return the format of a file, by its name and its first line or bytes.

    Raises:
        DataFormatError: it is none of the known formats; the text shows the file's beginning.
        OSError: the file cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
    if path.suffix.lower() == ".bi5":  # may be empty, and LZMA has no mark of its own
        return Format.DUKASCOPY_BI5
    if magic == MAGIC:
        return Format.SCID
    if magic.startswith(_ZIP_MAGIC):
        return _detect_archive(path)
    if magic.startswith(_UTF16_MARKS):
        raise DataFormatError(f"{path}: is UTF-16 text; save it as UTF-8")
    line = read_first_line(path)
    for pattern, found in _FIRST_LINES:
        if pattern.fullmatch(line):
            return found
    raise DataFormatError(f"{path}: line 1: was {line!r}: none of the known formats ({', '.join(Format)})")


def _detect_archive(path: Path) -> Format:
    members = list_members(path)
    for pattern, found in ((QUOTE_MEMBER, Format.QUOTE_ZIP), (TRADE_MEMBER, Format.FUTURES_ZIP)):
        if members and all(map(pattern.fullmatch, members)):
            return found
    if any("openinterest" in each for each in members):
        raise DataFormatError(f"{path}: holds open interest, no ticks")
    raise DataFormatError(
        f"{path}: members were {', '.join(members[:3]) or 'none'}; expected tick_quote.csv or tick_trade CSV files"
    )


def open_recording(path: Path | str, options: ReadOptions | None = None) -> Recording:
    """Open a file of recorded ticks. Reads its beginning only and keeps no handle.

    Args:
        options: information that the file does not contain.

    Raises:
        DataFormatError: the format is unknown, or the file's beginning violates it.
        ConfigError: an option is invalid.
        OSError: the file cannot be read.
    """
    chosen = options or ReadOptions()
    path = Path(path)
    return _OPENERS[chosen.format or detect_format(path)](path, chosen)
