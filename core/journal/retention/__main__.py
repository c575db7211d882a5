"""The archiving process: `python -m nexus_gateway.core.journal.retention JOURNAL KEEP_DAYS NOW_NS STOP_BELOW_BYTES`.

The gateway starts it, since compressing a day takes too long for a trading turn. It prints each finished archive as a
line of JSON (`ArchiveEntry`), or an error as a line of text on stderr with exit code 1. KEEP_DAYS may be empty: it
prints only those that are written already then. It runs with low priority, on any core: the gateway may be pinned to
one of its own.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import msgspec
import psutil

from ..schema import JournalError
from .archiving import archive_due

_LOW_PRIORITY = 10


def main(arguments: list[str]) -> int:
    """Archive what is due; returns the exit code."""
    journal, keep_days, now_ns, stop_below_bytes = arguments
    days = int(keep_days) if keep_days else None
    _yield_to_others()
    try:
        for entry in archive_due(Path(journal), days, int(now_ns), stop_below_bytes=int(stop_below_bytes)):
            print(msgspec.json.encode(entry).decode(), flush=True)
    except (JournalError, OSError, sqlite3.Error) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _yield_to_others() -> None:
    process = psutil.Process()
    try:
        if sys.platform == "win32":
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            process.nice(_LOW_PRIORITY)
        if hasattr(process, "cpu_affinity"):
            process.cpu_affinity([])  # all that this process may use
    except (psutil.Error, OSError, ValueError):
        pass  # it only is slower for itself, or for others


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
