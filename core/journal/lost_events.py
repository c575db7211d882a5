"""What a restore gives up: the events of the journal that it replaces which the backup does not hold."""

from __future__ import annotations

import sqlite3
import time
from bisect import bisect_left
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from ...shm.durations import NS_PER_S
from .retention.history import first_seq
from .schema import JournalError
from .store import open_database


class LostEvents(Struct):
    """Result of a comparison of a journal with the backup that is to replace it.

    Attributes:
        count: events that only the journal holds; None = it could not be read, see `reason`.
        first_at_ns, last_at_ns: time of the first and last of them, UTC ns; 0 = none, or not known.
    """

    count: int | None
    first_at_ns: int = 0
    last_at_ns: int = 0
    reason: str = ""

    def describe(self, kept: Path) -> str:
        """Return it as a sentence; `kept`: where the replaced journal lies now."""
        if self.count is None:
            return f"what the replaced journal held beyond the backup is unknown ({self.reason}); it is in {kept}"
        if not self.count:
            return f"the backup holds all events of the replaced journal, which is in {kept}"
        span = f"from {_utc(self.first_at_ns)} to {_utc(self.last_at_ns)}"
        return (
            f"{self.count:,} events {span} that the backup does not hold are in {kept}; the platforms are asked what "
            "they hold at the next start"
        )


def find_lost_events(journal: Path, backup: Path) -> LostEvents:
    """Compare a journal with a backup of it. Both may go on differently from some event on: the hashes show where."""
    try:
        with (
            closing(open_database(journal, read_only=True)) as ours,
            closing(open_database(backup, read_only=True)) as theirs,
        ):
            return _compare(ours, theirs)
    except (sqlite3.Error, JournalError) as error:
        return LostEvents(None, reason=str(error))


def _compare(ours: sqlite3.Connection, theirs: sqlite3.Connection) -> LostEvents:
    our_last, their_last = (_last_seq(each) for each in (ours, theirs))
    # Both hold these, as far as they are not archived. Hashes run on: equal ones show that all before was equal.
    start = max(first_seq(ours), first_seq(theirs))
    both = range(start, min(our_last, their_last) + 1)
    common = start - 1 + bisect_left(both, True, key=lambda seq: _chain(ours, seq) != _chain(theirs, seq))
    common = min(common, their_last)  # older than what is left of ours: taken for its beginning
    if our_last <= common:
        return LostEvents(0)
    first, last = ours.execute("SELECT min(at_ns), max(at_ns) FROM events WHERE seq > ?", (common,)).fetchone()
    return LostEvents(our_last - common, first or 0, last or 0)


def _last_seq(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT max(seq) FROM events").fetchone()[0] or first_seq(connection) - 1)


def _chain(connection: sqlite3.Connection, seq: int) -> bytes | None:
    row = connection.execute("SELECT chain FROM events WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else bytes(row[0])


def _utc(at_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_ns / NS_PER_S))
