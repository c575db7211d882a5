"""`python -m benchmarks.growth [PART ...]`: how cost grows with what has happened. Each part checks its own answer.

Days are played in virtual time: the production gateway on a real journal file, with paper exchanges as its platforms.
Every time is processor time of the one thread, so a busy machine changes it little; commits do not wait for the disk.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks import machine
from benchmarks.growth.checkpoints import measure_checkpoints
from benchmarks.growth.journal_days import measure_journal
from benchmarks.growth.report import measure_report
from benchmarks.growth.turns import measure_snapshots, measure_ticks

_PARTS = ("days", "checkpoints", "report", "ticks", "snapshots")
_TIMES = f"{'p50':>9} {'p99':>9} {'max':>9}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("parts", nargs="*", default=_PARTS, choices=(*_PARTS, []), metavar="PART")
    parser.add_argument("--folder", type=Path, help="where the journals are made; the temporary folder")
    parser.add_argument("--signals", type=float, nargs="+", default=(0, 20, 200, 2_000), help="a day, of `days`")
    parser.add_argument("--days", type=float, default=2.0, help="played for each of `--signals`")
    parser.add_argument("--finished", type=int, default=14_000, help="signals of the week, of `checkpoints`")
    parser.add_argument("--held", type=int, default=100, help="signals that stay open, of `checkpoints`")
    parser.add_argument("--events", type=int, nargs="+", default=(100_000, 1_000_000), help="of `report`")
    parser.add_argument(
        "--proof-ms", type=int, default=3_600_000, help="between regular checks, of `checkpoints` and `report`"
    )
    chosen = parser.parse_args()
    machine.unpin()
    print(machine.describe())
    print(f"not pinned, load {os.getloadavg()[0]:.1f}; six platforms, each signal an entry, a stop and an exit on each")
    if "days" in chosen.parts:
        columns = f"{'events':>9} {'events MB':>10} {'file MB':>10} {'largest, B':>11} {'turns, s':>9}"
        print(f"{'journal, shipped settings':<24} {columns}")
        for signals in chosen.signals:
            measure_journal(chosen.folder, signals, chosen.days)
    if "checkpoints" in chosen.parts:
        print(f"{'a week of finished signals':<56} {_TIMES}")
        measure_checkpoints(chosen.folder, chosen.finished, chosen.held, chosen.proof_ms)
    if "report" in chosen.parts:
        print("`nexus-gateway report`")
        measure_report(chosen.folder, tuple(chosen.events), chosen.proof_ms)
    if "ticks" in chosen.parts:
        print(f"{'turns by what is open':<56} {_TIMES}")
        measure_ticks(chosen.folder, (0, 100, 1_000))
    if "snapshots" in chosen.parts:
        print(f"{'turns by what is remembered':<56} {_TIMES}")
        measure_snapshots(chosen.folder, (1_000, 20_000, 100_000))


if __name__ == "__main__":
    main()
