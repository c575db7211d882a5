"""Bytes that a day adds to the journal, and the time that a start needs just before the next checkpoint."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from nexus_gateway.core.journal import rebuild

from benchmarks.growth import rig
from tests.virtual_days.days import VirtualDays

_MB = 1e6


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def print_day(made: VirtualDays, label: str, since_seq: int, used_before: int, turns_before: int) -> None:
    connection = made.connection
    count, payload, largest = connection.execute(
        "SELECT count(*), ifnull(sum(length(payload)), 0), ifnull(max(length(payload)), 0) FROM events WHERE seq > ?",
        (since_seq,),
    ).fetchone()
    used = _used_bytes(connection) - used_before
    turns_s = sum(made.turns_ns[turns_before:]) / 1e9
    print(
        f"  {label:<22} {count:>9,} {payload / _MB:>10.1f} {used / _MB:>10.1f} {largest:>11,} {turns_s:>9.1f}",
        flush=True,
    )


def measure_journal(base: Path | None, signals_a_day: float, days: float) -> None:
    """Play days of trading, print a row for each, then the replay."""
    with rig.folder(base) as root, rig.days(root) as made:
        connection = made.connection
        made.trader.trade(signals_a_day)
        left, number = days, 0
        while left > 0:
            number += 1
            seq, used, turns = made.last_seq, _used_bytes(connection), len(made.turns_ns)
            part = min(left, 1.0)
            made.run_days(part)
            left -= part
            what = f"{signals_a_day:g} a day, day {number}" + ("" if part == 1 else f", {24 * part:g} h")
            print_day(made, what, seq, used, turns)
        made.trader.rest()
        made.run_days(1 / max(signals_a_day, 1))
        rig.check(made)
        _print_events(connection)
        print_replay(made)


def _print_events(connection: sqlite3.Connection) -> None:
    rows = connection.execute(
        "SELECT kind, count(*), sum(length(payload)) FROM events GROUP BY kind ORDER BY 3 DESC LIMIT 4"
    )
    print("    " + ", ".join(f"{kind} {count:,}: {size / _MB:.1f} MB" for kind, count, size in rows), flush=True)


def print_replay(made: VirtualDays) -> None:
    """The dearest start of all: the newest checkpoint was about to be written."""
    connection = made.connection
    newest = connection.execute("SELECT max(seq) FROM checkpoints").fetchone()[0]
    connection.execute("BEGIN IMMEDIATE")
    try:
        if newest is not None:
            connection.execute("DELETE FROM checkpoints WHERE seq = ?", (newest,))
            connection.execute("DELETE FROM intents WHERE event_seq > ?", (newest,))
            connection.execute("DELETE FROM events WHERE seq > ?", (newest,))
        took_s, rebuilt = rig.timed(lambda: rebuild(connection, made.journaled.settings, made.journaled.limits))
        size = connection.execute(
            "SELECT ifnull(sum(length(payload)), 0) FROM events WHERE seq > ?", (rebuilt.from_checkpoint_seq,)
        ).fetchone()[0]
    finally:
        connection.execute("ROLLBACK")
    what = "all, no checkpoint yet" if newest is None else f"just before checkpoint {newest:,}"
    print(
        f"    replay ({what}): {rebuilt.events:,} events of {size / _MB:.1f} MB, {took_s:.2f} s of processor, "
        f"{len(rebuilt.differing)} differing",
        flush=True,
    )
