"""Derive the instrument of a file from its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ...core.errors import DataFormatError
from ...core.instruments.contract_code import MONTH_LETTERS
from .recording import Instrument, ReadOptions

# Roots of one character are left out: HK50 is an index, not a contract of "H".
_FUTURE: Final = re.compile(rf"([A-Z0-9]{{2,4}})([{MONTH_LETTERS}])(\d{{1,2}})")
_SYMBOL: Final = re.compile(r"[A-Za-z0-9]+")
_NT8_FUTURE: Final = re.compile(r"([A-Z0-9]{1,4}) (\d\d)-(\d\d)")


def guess_instrument(contract: str) -> Instrument:
    """Instrument of a contract or pair as written: NQH0 -> root NQ, EURUSD -> root EURUSD."""
    contract = contract.upper()
    future = _FUTURE.fullmatch(contract)
    return Instrument(contract, future[1] if future else contract)


def name_of_file(path: Path, options: ReadOptions, name: str | None = None) -> Instrument:
    """Instrument of a single-instrument file: as given, or the first word of letters and digits of its name.

    Args:
        name: text to use instead of the file's name.

    Raises:
        DataFormatError: the name begins with something else; the cure is `contract`.
    """
    if options.contract is not None:
        return guess_instrument(options.contract)
    word = _SYMBOL.match(path.name if name is None else name)
    if word is None:
        raise DataFormatError(f"{path}: its name begins with no instrument; give one as contract=")
    return guess_instrument(word[0])


def name_of_nt8_file(path: Path, options: ReadOptions) -> Instrument:
    """As `name_of_file`, for NinjaTrader's own names: "NQ 03-20.Last.txt" is NQH20."""
    future = _NT8_FUTURE.match(path.name)
    if options.contract is None and future is not None and 1 <= int(future[2]) <= 12:
        return Instrument(f"{future[1]}{MONTH_LETTERS[int(future[2]) - 1]}{future[3]}", future[1])
    return name_of_file(path, options)
