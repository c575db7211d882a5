"""Read fixed-size binary records from byte blocks; broken records are reported with number and position."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ...core.errors import DataFormatError
from .batch import Batch
from .oddities import Oddities
from .recording import CHUNK_TICKS


class Records(Batch):
    """Some consecutive records. `array` is a read-only view."""

    def __init__(
        self,
        name: str,
        first: int,
        position: int,
        array: npt.NDArray[np.void],
        strict: bool,
        oddities: Oddities,
    ) -> None:
        super().__init__(strict, oddities)
        self.array = array
        self._name = name
        self._first = first
        self._position = position

    def describe(self, index: int) -> str:
        position = self._position + index * self.array.itemsize
        return f"{self._name}: record {self._first + index} (byte {position}): was {self.array[index].item()}"


def read_records(
    name: str,
    blocks: Iterator[bytes],
    dtype: np.dtype[np.void],
    header_bytes: int,
    strict: bool,
    oddities: Oddities,
) -> Iterator[Records]:
    """Cut blocks into records, at most CHUNK_TICKS at a time.

    Args:
        name: of the file, for messages.
        header_bytes: byte position of the first record, for messages.
        strict: raise at a refused record; else count it and leave it out.

    Raises:
        DataFormatError: the content ends inside a record; all whole records have been yielded.
    """
    size = dtype.itemsize
    rest = b""
    number = 0
    for block in blocks:
        content = rest + block
        whole = len(content) // size
        records = np.frombuffer(content, dtype, whole)
        for start in range(0, whole, CHUNK_TICKS):
            first = number + start
            array = records[start : start + CHUNK_TICKS]
            yield Records(name, first, header_bytes + first * size, array, strict, oddities)
        number += whole
        rest = content[whole * size :]
    if rest:
        raise DataFormatError(
            f"{name}: record {number} (byte {header_bytes + number * size}) has {len(rest)} of {size} bytes: the file"
            " was cut"
        )
