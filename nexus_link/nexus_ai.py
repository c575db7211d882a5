"""A runnable NEXUS: the pattern that an owner copies.

    python nexus_link/nexus_ai.py --gateway

reads the rings of a running gateway directly, computes features per symbol in compiled code and prints them once a
second. Replace `update_features` by your own `@numba.njit` function and keep the rest.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from nexus_gateway.nexus_link import features
from nexus_gateway.nexus_link.market_view import MarketView
from nexus_gateway.shm import host
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.idle import STRATEGIES, Idle, make_idle
from nexus_gateway.shm.segment import SegmentError

if TYPE_CHECKING:
    from nexus_gateway.core.process import ProcessContext

COUNTERS: Final = ("ticks_read", "stale_marks_read", "ticks_lost", "ticks_torn", "symbols_seen")
HISTOGRAMS: Final = ("tick_to_nexus_ns",)
REPORT_FILE: Final = "nexus-report.json"
_TURN_TICKS: Final = 65_536
_REPORT_EVERY_S: Final = 1.0


class NexusExample:
    """Reads all rings of a run folder and keeps features per symbol; used by one thread.

    Attributes:
        view: the rings; `view.latest` and `view.best` answer at any time.
    """

    def __init__(self, folder: Path, page: CountersPage, idle: Idle) -> None:
        self.view = MarketView(folder, start="oldest", idle=idle)
        self._folder = folder
        self._page = page
        self._state = features.make_features()
        self._symbols_known = 0
        self._read = page.counter("ticks_read")
        self._stale_marks = page.counter("stale_marks_read")
        self._lost = page.counter("ticks_lost")
        self._torn = page.counter("ticks_torn")
        self._symbols_seen = page.counter("symbols_seen")
        self._report_at_s = 0.0
        self._latency = page.histogram_address("tick_to_nexus_ns")
        self._rings_known = 0
        self._catch_up()

    def step(self, timeout_s: float) -> int:
        """Wait for ticks and take in what is there. Returns how many."""
        if not self.view.wait(timeout_s):
            self._keep_books()
            return 0
        if len(self.view.platforms) != self._rings_known:
            self._catch_up()
        self._learn_symbols()
        count = self.view.run(features.update_features, self._state, _TURN_TICKS)
        self._keep_books()
        return count

    def summarize(self) -> dict[str, Any]:
        """Counts, and figures per symbol; JSON-able."""
        directory = self.view.directory
        symbols = {} if directory is None else features.summarize(self._state, directory)
        return {
            "ticks_read": self.view.read - self._stale_marks_read(),
            "ticks_lost": self.view.lost,
            "ticks_torn": self.view.torn,
            "symbols": symbols,
        }

    def write_report(self) -> None:
        """Leave the summary in the run folder, whole or not at all."""
        target = self._folder / REPORT_FILE
        draft = target.with_suffix(f".{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(self.summarize()))
        draft.replace(target)

    def close(self) -> None:
        """Leave a last report and withdraw the cursors."""
        self._keep_books()
        self.write_report()
        self.view.close()

    def _stale_marks_read(self) -> int:
        return int(self._state["stale_marks"].sum())

    def _catch_up(self) -> None:
        """Take in what was published before we attached to a ring: its age says nothing about our speed."""
        self.view.measure_latency(0)
        self._rings_known = len(self.view.platforms)
        self._learn_symbols()
        while self.view.run(features.update_features, self._state, _TURN_TICKS) == _TURN_TICKS:
            self._page.beat()
        self.view.measure_latency(self._latency)

    def _learn_symbols(self) -> None:
        directory = self.view.directory
        if directory is not None and len(directory) != self._symbols_known:
            self._symbols_known = len(directory)
            features.learn_tick_sizes(self._state, directory)

    def _keep_books(self) -> None:
        stale_marks = self._stale_marks_read()
        self._read.set(self.view.read - stale_marks)
        self._stale_marks.set(stale_marks)
        self._lost.set(self.view.lost)
        self._torn.set(self.view.torn)
        self._page.beat()
        if time.monotonic() >= self._report_at_s:
            self._report_at_s = time.monotonic() + _REPORT_EVERY_S
            self._symbols_seen.set(int((self._state["ticks"] > 0).sum()))
            self.write_report()


def run_supervised(context: ProcessContext) -> int:
    """Entry for the launcher: the example as one of the gateway's processes."""
    page = context.open_counters(COUNTERS, HISTOGRAMS)
    nexus = NexusExample(context.run_folder, page, make_idle(context.config.idle))
    try:
        while not context.stopping:
            nexus.step(0.1)
            context.beat()
        while nexus.step(0.0):
            pass  # the adapters have stopped before us: what they left is still counted
    finally:
        nexus.close()
    return 0


def main_with_gateway(folder: Path, idle: Idle, seconds: float | None, show: Callable[[str], None]) -> int:
    """Read a running gateway's rings until Ctrl-C or for `seconds`; print what is seen once a second."""
    try:
        page = CountersPage.create(folder, "nexus", COUNTERS, HISTOGRAMS)
    except (SegmentError, FileNotFoundError) as error:
        show(f"cannot start: {error}")
        return 1
    nexus = NexusExample(folder, page, idle)
    stopping = threading.Event()
    host.on_stop_request(stopping.set)
    end_s = None if seconds is None else time.monotonic() + seconds
    show_at_s = time.monotonic() + 1.0
    while not stopping.is_set() and (end_s is None or time.monotonic() < end_s):
        nexus.step(0.1)
        if time.monotonic() >= show_at_s:
            show_at_s += 1.0
            show(describe(nexus.summarize()))
    nexus.close()
    page.close()
    return 0


def describe(summary: dict[str, Any], rows: int = 10) -> str:
    """The busiest symbols as text."""
    lines = [f"read {summary['ticks_read']:,} ticks, lost {summary['ticks_lost']:,}"]
    busiest = sorted(summary["symbols"].items(), key=lambda item: -item[1]["ticks"])[:rows]
    for name, row in busiest:
        mid = "-" if row["mid"] is None else f"{row['mid']:.6g}"
        volatility = "-" if row["volatility"] is None else f"{row['volatility'] * 1e4:.3f}"
        imbalance = "-" if row["imbalance"] is None else f"{row['imbalance']:+.2f}"
        lines.append(
            f"  {name:<10} {row['ticks']:>10,} ticks  mid {mid:>10}  volatility {volatility:>7} bp  "
            f"imbalance {imbalance:>5}  flow {row['flow']:+,.0f}"
        )
    return "\n".join(lines)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The script's options."""
    parser = argparse.ArgumentParser(description="NEXUS example: reads market data straight from the gateway's rings.")
    parser.add_argument("--gateway", action="store_true", required=True, help="read a running gateway")
    parser.add_argument("--run-folder", type=Path, default=host.default_run_folder(), help="the gateway's run folder")
    parser.add_argument("--idle", choices=sorted(STRATEGIES), default="backoff", help="what to do while nothing comes")
    parser.add_argument("--seconds", type=float, default=None, help="stop after so long; default: at Ctrl-C")
    return parser.parse_args(arguments)


def main() -> int:
    """Exit codes: 0 ended as asked, 1 no gateway or another NEXUS is attached, 2 wrong options."""
    options = parse_arguments(sys.argv[1:])
    host.sharpen_timers()
    return main_with_gateway(options.run_folder, make_idle(options.idle), options.seconds, print)


if __name__ == "__main__":
    sys.exit(main())
