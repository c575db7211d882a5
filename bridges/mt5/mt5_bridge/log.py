"""Write the log: to standard error or a file."""

from __future__ import annotations

import contextlib
import sys
import time

from .constants import NS_PER_MS, NS_PER_S

LEVELS = ("debug", "info", "warning", "error")


class Log:
    """Writes lines of `time LEVEL text`; never pass the token. A line that cannot be written is lost: a full disk must
    not end the bridge while an order is being sent.
    """

    def __init__(self, path: str | None, level: str) -> None:
        self._stream = sys.stderr
        if path is not None:
            # Stays open until the program ends.
            self._stream = open(path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        self._least = LEVELS.index(level)

    def say(self, level: str, text: str) -> None:
        """Write one line; `level`: one of LEVELS."""
        if LEVELS.index(level) >= self._least:
            now_ns = time.time_ns()
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // NS_PER_S))
            with contextlib.suppress(OSError):
                self._stream.write(f"{stamp}.{now_ns % NS_PER_S // NS_PER_MS:03d}Z {level.upper()} {text}\n")
                self._stream.flush()
