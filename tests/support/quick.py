"""What `make quick` (NEXUS_TEST_QUICK=1) refuses its tests, so that it stays quick: processes and connections."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

IS_QUICK: Final = bool(os.environ.get("NEXUS_TEST_QUICK"))
_REFUSED: Final = {"subprocess.Popen", "os.fork", "os.posix_spawn", "socket.bind", "socket.connect"}
_guarding = False


@contextmanager
def no_processes() -> Iterator[None]:
    """The test inside fails when it starts a process or opens a connection."""
    global _guarding
    _guarding = True
    try:
        yield
    finally:
        _guarding = False


def _refuse(event: str, _: tuple[Any, ...]) -> None:
    if _guarding and event in _REFUSED:
        raise AssertionError(f"{event} in a quick test: mark it `processes`")


if IS_QUICK:
    sys.addaudithook(_refuse)
