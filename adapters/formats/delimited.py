"""Parse delimited text into exact decimals, with one jitted parser for all text formats.

A format is described by its columns: the byte that ends each one and what it holds. A date such as 2020.01.06 is three
columns that end with dots. Numbers come out as integers with their count of decimals, so no digit is lost on the way:
8534.25 is (853425, 2), and 853425 / 10**2 in float64 is the float64 nearest to the decimal, because both are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from ...core.errors import DataFormatError
from ...shm.jit import kernel
from .batch import Batch, report_broken
from .byte_blocks import split_whole_lines
from .oddities import Oddities
from .recording import CHUNK_TICKS

_NEWLINE: Final = ord("\n")
_RETURN: Final = ord("\r")
_MINUS: Final = ord("-")
_POINT: Final = ord(".")
_ZERO: Final = ord("0")
_LARGEST: Final = 10**17  # one more digit fits 63 bits
_MOST_DECIMALS: Final = 18
BLANK: Final = -1
_EXACT: Final = 2**53
_POWERS: Final = np.array([float(10**decimals) for decimals in range(_MOST_DECIMALS + 1)])
_LINE_SHOWN: Final = 120


class Kind(IntEnum):
    """Content of a column."""

    NUMBER = 0
    OPTIONAL = 1  # a number or nothing
    TEXT = 2  # ignored


_EXPECTED: Final = {
    Kind.NUMBER: "a decimal number of at most 18 digits",
    Kind.OPTIONAL: "a decimal number of at most 18 digits, or nothing,",
    Kind.TEXT: "text",
}
_OPTIONAL: Final = int(Kind.OPTIONAL)
_TEXT: Final = int(Kind.TEXT)


@dataclass(frozen=True)
class Column:
    """One column: its name in messages, the character that ends it, its content."""

    name: str
    end: str
    kind: Kind = Kind.NUMBER


@kernel()
def parse_rows(
    data: npt.NDArray[np.uint8],
    start: int,
    end: int,
    ends: npt.NDArray[np.uint8],
    kinds: npt.NDArray[np.uint8],
    mantissas: npt.NDArray[np.int64],
    scales: npt.NDArray[np.int8],
) -> tuple[int, int, int]:
    """Parse whole lines until the output is full, the data ends or a line is broken.

    Args:
        data: text; data[end - 1] must be a line end, which is what stops every inner loop.
        start, end: positions in `data`.
        ends, kinds: for each column, the byte that ends it and its Kind; the last one ends with a line end.
        mantissas, scales: output, shape (rows, columns): value = mantissa / 10**scale; scale BLANK = nothing there.

    Returns:
        Rows parsed; position of the next line; index of the column in which the line there is broken, or -1.
    """
    position = start
    row = 0
    while row < mantissas.shape[0] and position < end:
        line = position
        for column in range(ends.size):
            stop = ends[column]
            if kinds[column] == _TEXT:
                while data[position] != stop and data[position] != _NEWLINE:
                    position += 1
            else:
                negative = data[position] == _MINUS
                if negative:
                    position += 1
                mantissa = 0
                scale = BLANK
                digits = 0
                while True:
                    byte = data[position]
                    if _ZERO <= byte <= _ZERO + 9:
                        digits += 1
                        if mantissa < _LARGEST and scale < _MOST_DECIMALS:
                            mantissa = mantissa * 10 + (byte - _ZERO)
                            if scale >= 0:
                                scale += 1
                        elif byte != _ZERO or scale < 0:
                            return row, line, column
                    elif byte == _POINT and scale < 0 and stop != _POINT:
                        scale = 0
                    else:
                        break
                    position += 1
                if digits == 0 and (kinds[column] != _OPTIONAL or negative or scale == 0):
                    return row, line, column
                if digits > 0 and scale < 0:
                    scale = 0
                mantissas[row, column] = -mantissa if negative else mantissa
                scales[row, column] = scale
            if stop == _NEWLINE and data[position] == _RETURN:
                position += 1
            if data[position] != stop:
                return row, line, column
            position += 1
        row += 1
    return row, position, -1


class Rows(Batch):
    """Some consecutive lines, parsed. Lines with invalid values are refused."""

    def __init__(
        self,
        table: Table,
        first_line: int,
        mantissas: npt.NDArray[np.int64],
        scales: npt.NDArray[np.int8],
    ) -> None:
        super().__init__(table.strict, table.oddities)
        self._table = table
        self._first_line = first_line
        self._mantissas = mantissas
        self._scales = scales

    def __len__(self) -> int:
        return len(self._mantissas)

    def blank(self, column: int) -> npt.NDArray[np.bool_]:
        """Where an optional column is empty."""
        blank: npt.NDArray[np.bool_] = self._scales[:, column] == BLANK
        return blank

    def decimals(self, column: int) -> npt.NDArray[np.float64]:
        """The float64 nearest to each decimal; NaN where the column is blank."""
        mantissas, scales = self._mantissas[:, column], self._scales[:, column]
        values: npt.NDArray[np.float64] = mantissas / _POWERS[scales]
        values[scales == BLANK] = np.nan
        for i in np.flatnonzero(np.abs(mantissas) > _EXACT):  # too long to divide exactly: let Python round it
            values[i] = float(f"{mantissas[i]}e-{scales[i]}")
        return values

    def sizes(self, column: int) -> npt.NDArray[np.float64]:
        """`decimals` of contracts or lots; a line with a size below 0 is refused."""
        sizes = self.decimals(column)
        self.refuse(sizes < 0, f"{self._table.columns[column].name} from 0")
        return sizes

    def integers(self, column: int, lowest: int, highest: int) -> npt.NDArray[np.int64]:
        """Whole numbers within limits; a line with another value is refused."""
        return self.scaled(column, 0, lowest, highest)

    def scaled(self, column: int, decimals: int, lowest: int, highest: int) -> npt.NDArray[np.int64]:
        """Values x 10**decimals as exact integers within limits (given in the same unit); else refused."""
        mantissas, scales = self._mantissas[:, column], self._scales[:, column].astype(np.int64)
        missing = np.clip(decimals - scales, 0, 18)
        powers = 10**missing
        fits = (scales <= decimals) & (np.abs(mantissas) <= np.iinfo(np.int64).max // powers)
        values = np.where(fits, mantissas, 0) * powers
        name = self._table.columns[column].name
        unit = "" if decimals == 0 else f" / 10**{decimals}"
        self.refuse(~fits | (values < lowest) | (values > highest), f"{name} from {lowest}{unit} to {highest}{unit}")
        return values

    def describe(self, index: int) -> str:
        values = " | ".join(
            f"{column.name} {Decimal(int(mantissa)).scaleb(-int(scale))}"
            for column, mantissa, scale in zip(
                self._table.columns, self._mantissas[index], self._scales[index], strict=True
            )
            if column.kind != Kind.TEXT and scale != BLANK
        )
        return f"{self._table.name}: line {self._first_line + index}: was {values}"


@dataclass(frozen=True)
class Table:
    """A delimited text.

    Attributes:
        name: of the file, for messages.
        columns: of every line.
        header: first line expected, without its line end; None = the file has none.
        strict: raise at a broken line; else count it and go on.
    """

    name: str
    columns: Sequence[Column]
    header: str | None
    strict: bool
    oddities: Oddities

    def read(self, blocks: Iterator[bytes]) -> Iterator[Rows]:
        """Parse a text that comes in blocks. Yields at most CHUNK_TICKS lines at a time.

        Raises:
            DataFormatError: header, broken line (line number, byte in the text, what was expected), or a line longer
                than a block.
        """
        ends = np.frombuffer("".join(each.end for each in self.columns).encode(), np.uint8).copy()
        kinds = np.array([each.kind for each in self.columns], np.uint8)
        line, base = 1, 0  # number of the next line; position in the text of the buffer's first byte
        for block in split_whole_lines(self.name, blocks, self.oddities):
            data = np.frombuffer(bytearray(block), np.uint8)
            position = 0
            if line == 1 and self.header is not None:
                position = block.index(b"\n") + 1
                self._check_header(block[:position])
                line = 2
            while position < data.size:
                mantissas = np.empty((CHUNK_TICKS, len(self.columns)), np.int64)
                scales = np.empty((CHUNK_TICKS, len(self.columns)), np.int8)
                count, position, broken = parse_rows(data, position, data.size, ends, kinds, mantissas, scales)
                if count:
                    yield Rows(self, line, mantissas[:count], scales[:count])
                line += count
                if broken >= 0:
                    line_end = block.index(b"\n", position)
                    self._report_broken(line, base + position, broken, block[position:line_end].rstrip(b"\r"))
                    position = line_end + 1
                    line += 1
            base += len(block)
        if line == 1 and self.header is not None:
            self._check_header(b"")

    def _check_header(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").removeprefix("\ufeff").rstrip("\r\n")
        if text != self.header:
            raise DataFormatError(f"{self.name}: line 1: header was {text[:_LINE_SHOWN]!r}; expected {self.header!r}")

    def _report_broken(self, line: int, position: int, column: int, content: bytes) -> None:
        text = content[:_LINE_SHOWN].decode("utf-8", "backslashreplace")
        broken = self.columns[column]
        report_broken(
            f"{self.name}: line {line} (byte {position} of the text): was {text!r}; expected {_EXPECTED[broken.kind]}"
            f" as {broken.name}, column {column + 1}, ended by {broken.end!r}",
            self.strict,
            self.oddities,
        )
