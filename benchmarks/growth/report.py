"""What `nexus-gateway report` needs, by the number of events in the journal."""

from __future__ import annotations

from pathlib import Path

from nexus_gateway.core.journal.trade_report import read_trades

from benchmarks.growth import rig
from benchmarks.order_rig import expect

_A_DAY = 12_000


def measure_report(base: Path | None, sizes: tuple[int, ...], proof_ms: int) -> None:
    """Trade until the journal has that many events; flat then, so each signal is a trade."""
    with rig.folder(base) as root, rig.days(root, proof_ms=proof_ms) as made:
        for size in sizes:
            made.trader.trade(_A_DAY)
            made.run_until(lambda size=size: made.last_seq >= size)
            made.trader.rest()
            made.run_days(1 / _A_DAY)
            rig.check(made)
            took_s, (report, _) = rig.timed(lambda: read_trades(made.config.journal_path, made.journaled.limits))
            expect(report.trades, len(made.trader.signals))
            print(
                f"  report of {made.last_seq:>10,} events, {report.trades:>7,} trades: {took_s:>8.2f} s of processor",
                flush=True,
            )
