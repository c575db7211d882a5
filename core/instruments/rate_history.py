"""Daily reference rates from a file of the European Central Bank: date, usd_per_eur, brl_per_eur, ...

A row is published about 14:15 Frankfurt time. There is none on TARGET holidays although markets may be open;
the last row before then stands, with its age.
"""

from __future__ import annotations

import csv
import io
from bisect import bisect_right
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from zoneinfo import ZoneInfo

from ...shm.durations import NS_PER_S
from ..bounds import MAX_DECIMAL_PLACES, MAX_MAGNITUDE, is_bounded
from ..errors import DataFormatError
from .currency import Rate
from .data_file import read_text
from .refusals import RATE_MISSING, RateRefused

_PER_EUR = "_per_eur"
_PUBLISHED = time(14, 15)
_FRANKFURT = ZoneInfo("Europe/Berlin")
FILE_RANK = 1
"""Rates of a file are used when no live one (rank 0) is fresh, and before configured ones."""


class RateHistory:
    """Euro reference rates by date, read-only. Columns named `xxx_per_eur` are used, others ignored."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises DataFormatError naming file and line, ConfigError when it cannot be read."""
        self._source = path.name
        self._days: list[date] = []
        self._values: list[dict[str, Decimal]] = []
        with io.StringIO(read_text(path)) as lines:
            reader = csv.DictReader(lines)
            columns = [name for name in reader.fieldnames or [] if name.endswith(_PER_EUR)]
            if not columns or "date" not in (reader.fieldnames or []):
                raise DataFormatError(f"{path}: columns date and at least one such as usd_per_eur are needed")
            for row in reader:
                self._append(path, reader.line_num, row, columns)

    def rates_on(self, day: date, max_age_ns: int | None) -> tuple[Rate, ...]:
        """Return EUR rates of the last row on or before `day`. Raises RateRefused before the first row."""
        index = bisect_right(self._days, day) - 1
        if index < 0:
            raise RateRefused(RATE_MISSING, f"{self._source} has no row on or before {day}; use an older file")
        published = datetime.combine(self._days[index], _PUBLISHED, _FRANKFURT)
        time_ns = int(published.timestamp()) * NS_PER_S
        return tuple(
            Rate("EUR", currency, value, self._source, time_ns, max_age_ns, FILE_RANK)
            for currency, value in self._values[index].items()
        )

    def days(self) -> tuple[date, ...]:
        """The dates that have a row, rising."""
        return tuple(self._days)

    def _append(self, path: Path, line: int, row: dict[str, str], columns: list[str]) -> None:
        try:
            day = date.fromisoformat(row["date"])
            values = {name.removesuffix(_PER_EUR).upper(): Decimal(row[name]) for name in columns}
        except (ValueError, TypeError, InvalidOperation) as error:
            raise DataFormatError(f"{path}: line {line} is not a date and numbers ({error})") from error
        if self._days and day <= self._days[-1]:
            raise DataFormatError(f"{path}: line {line}: {day} does not come after {self._days[-1]}")
        if not all(is_bounded(value) and value > 0 for value in values.values()):
            raise DataFormatError(
                f"{path}: line {line}: rates must be above 0, with at most {MAX_DECIMAL_PLACES} decimals, up to "
                f"{MAX_MAGNITUDE:f}"
            )
        self._days.append(day)
        self._values.append(values)
