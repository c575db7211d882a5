"""How long tests wait for what must happen: every deadline of a test goes through `patient`.

A test that passes never waits so long, so the factor costs time only where something is wrong. It is for what must
happen in the end. A pause in which nothing may happen, and a time-out of the program under test, are not multiplied.
"""

from __future__ import annotations

import os
from typing import Final

PATIENCE: Final = float(os.environ.get("NEXUS_TEST_PATIENCE", "4"))
"""The one factor: 1 is enough on an idle machine, 4 where other programs use the cores too."""


def patient(seconds: float) -> float:
    """A deadline that is right on an idle machine, as one that is right on this machine (both in s)."""
    return seconds * PATIENCE
