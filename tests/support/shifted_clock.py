"""A wall clock for the product's processes that a test can set, as a person or a time service sets a computer's."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from .launched import ROOT

_FOLDER = Path(__file__).parent / "set_clock"


class ShiftedClock:
    """Processes that are started from now on have it; the test's own has not."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = folder / "clock"
        self._file.write_bytes(bytes(8))
        monkeypatch.setenv("NEXUS_TEST_CLOCK", str(self._file))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(_FOLDER), str(ROOT))))

    def set(self, seconds: int) -> None:
        """Set the clock to this far from the true time."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("<q", seconds * 10**9))
