"""Consecutive lines or records of a file, some of which may be refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ...core.errors import DataFormatError
from ...shm.tick import TickArray
from .oddities import Oddities


def report_broken(text: str, strict: bool, oddities: Oddities) -> None:
    """Raise DataFormatError, or count a broken line or record and keep its text."""
    if strict:
        raise DataFormatError(text)
    oddities.bad_lines += 1
    oddities.add_problem(text)


class Batch(ABC):
    """The lines or records that a decoder handles in one step.

    Refused ones are left out, or raise, in `accepted`: the ticks before them are not lost.
    """

    def __init__(self, strict: bool, oddities: Oddities) -> None:
        self._strict = strict
        self._oddities = oddities
        self._refused: dict[int, str] = {}

    @abstractmethod
    def describe(self, index: int) -> str:
        """File and position of a line or record, and what it was."""

    def refuse(self, bad: npt.NDArray[np.bool_], expected: str) -> None:
        """Refuse the lines or records marked in `bad`; `expected` becomes part of the message."""
        for i in np.flatnonzero(bad):
            self._refused.setdefault(int(i), expected)

    def accepted(self, ticks: TickArray) -> Iterator[TickArray]:
        """Yield the ticks (one for each line or record) that were not refused.

        Raises:
            DataFormatError: at the first refused one, when strict; the ticks before it have been yielded.
        """
        if not self._refused:
            yield ticks
            return
        if self._strict:
            yield ticks[: min(self._refused)]
        for index in sorted(self._refused):
            text = f"{self.describe(index)}; expected {self._refused[index]}"
            report_broken(text, self._strict, self._oddities)
        yield np.delete(ticks, list(self._refused))
