"""Universal contract codes: root + month letter + two-digit year, such as NQH25.

Month letters are the futures trade's own: F Jan, G Feb, H Mar, J Apr, K May, M Jun, N Jul, Q Aug, U Sep,
V Oct, X Nov, Z Dec.
"""

from __future__ import annotations

import re
from datetime import date

import msgspec

MONTH_LETTERS = "FGHJKMNQUVXZ"
CENTURY = 2000
FIRST_YEAR, LAST_YEAR = 2000, 2099
"""Two-digit years mean this century only: no electronic contract of the catalog is older."""

_CODE = re.compile(rf"([A-Z0-9]+)([{MONTH_LETTERS}])([0-9]{{2}})")
_PAST_YEARS = 1
"""Years that a one-digit year may lie in the past; the other nine of the ten years lie ahead."""


class Contract(msgspec.Struct, frozen=True, order=True):
    """One delivery month of a futures root, e.g. root "NQ", year 2025, month 3."""

    root: str
    year: int
    month: int

    def __post_init__(self) -> None:
        if not FIRST_YEAR <= self.year <= LAST_YEAR or not 1 <= self.month <= 12:
            raise ValueError(
                f"contract month was {self.year}-{self.month}; years run {FIRST_YEAR}-{LAST_YEAR}, months 1-12"
            )

    @property
    def letter(self) -> str:
        """The month letter, e.g. "H" for March."""
        return MONTH_LETTERS[self.month - 1]

    @property
    def code(self) -> str:
        """The universal name, e.g. "NQH25"."""
        return f"{self.root}{self.letter}{self.year % 100:02d}"

    @property
    def year_month(self) -> tuple[int, int]:
        """(year, month), to order contracts of one root."""
        return self.year, self.month


def month_of_letter(letter: str) -> int:
    """Return 1-12 for a futures month letter. Raises ValueError for any other text."""
    index = MONTH_LETTERS.find(letter) if len(letter) == 1 else -1
    if index < 0:
        raise ValueError(f"month letter was {letter!r}; it must be one of {MONTH_LETTERS}")
    return index + 1


def parse_code(text: str) -> Contract | None:
    """Return the contract of a universal code such as NQH25; None for anything else. Whether it is listed, the catalog
    knows.
    """
    match = _CODE.fullmatch(text)
    return None if match is None else Contract(match[1], CENTURY + int(match[3]), month_of_letter(match[2]))


def resolve_year(digits: str, on: date) -> int:
    """Return the four-digit year meant by one, two or four `digits` in a name read on the date `on`.

    One digit repeats every ten years: it is resolved to the year from one year before `on` to eight years
    after, which is exactly one.
    """
    if len(digits) == 4:
        return int(digits)
    if len(digits) == 2:
        return CENTURY + int(digits)
    first = on.year - _PAST_YEARS
    return first + (int(digits) - first) % 10
