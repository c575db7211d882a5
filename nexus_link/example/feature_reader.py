"""The market-data half of the example: reads all rings into features per symbol, and counts what it reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from ...shm import host
from ...shm.counters import CountersPage
from ...shm.fan_in import FanIn
from ...shm.idle import Idle
from ...shm.reader import Start
from ...shm.symbols import SymbolDirectory
from ..market_view import MarketView
from . import features

COUNTERS: Final = ("ticks_read", "stale_marks_read", "ticks_lost", "ticks_torn", "symbols_seen")
HISTOGRAMS: Final = ("tick_to_nexus_ns",)
REPORT_FILE: Final = "nexus-report.json"
_TURN_TICKS: Final = 65_536
_REPORT_EVERY_S: Final = 1.0


class FeatureReader:
    """Reads all rings of a run folder and keeps features per symbol; used by one thread.

    Attributes:
        view: the rings; `view.latest` and `view.best` answer at any time.
        add_to_report: called when the report is written; the entries that it returns are added.
    """

    def __init__(self, folder: Path, page: CountersPage, idle: Idle, *, start: Start = "oldest") -> None:
        self._state = features.make_features()
        # Compile before attaching: a ring would be overwritten during the seconds that it takes.
        FanIn([]).run(features.update_features, self._state)
        self.view = MarketView(folder, start=start, idle=idle)
        self.add_to_report: Callable[[], dict[str, Any]] = dict
        self._folder = folder
        self._page = page
        self._directory: SymbolDirectory | None = None
        self._names: list[str] = []
        self._marks_forgotten = 0
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
        """Wait for ticks and apply those that are there. Returns how many."""
        found = self.view.wait(timeout_s)
        self._learn_symbols()
        if not found:
            self._update_counters()
            return 0
        if len(self.view.platforms) != self._rings_known:
            self._catch_up()
        count = self.view.run(features.update_features, self._state, _TURN_TICKS)
        self._update_counters()
        return count

    def features_of(self, symbol: str) -> Any | None:
        """The symbol's row of `features.FEATURES`, a view that changes with each step; None before its first tick."""
        symbol_id = self.view.symbol_id(symbol)
        if symbol_id is None or symbol_id >= len(self._state) or self._state[symbol_id]["ticks"] == 0:
            return None
        return self._state[symbol_id]

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
        """Write the summary to the run folder; the old file is replaced at once, never half."""
        report = {**self.summarize(), **self.add_to_report()}
        host.replace_private(self._folder / REPORT_FILE, msgspec.json.encode(report))

    def close(self) -> None:
        """Write a last report and remove the cursors."""
        self._update_counters()
        try:
            self.write_report()
        finally:
            self.view.close()

    def _stale_marks_read(self) -> int:
        return self._marks_forgotten + int(self._state["stale_marks"].sum())

    def _catch_up(self) -> None:
        """Read the records published before the attachment without measuring: their latency is not this reader's."""
        self.view.measure_latency(0)
        self._rings_known = len(self.view.platforms)
        self._learn_symbols()
        while self.view.run(features.update_features, self._state, _TURN_TICKS) == _TURN_TICKS:
            self._page.beat()
        self.view.measure_latency(self._latency)

    def _learn_symbols(self) -> None:
        directory = self.view.directory
        if directory is None or (directory is self._directory and len(directory) == len(self._names)):
            return
        names = [symbol.name for symbol in directory.entries()]
        if names[: len(self._names)] != self._names:
            # A gateway restarted with other symbols has reassigned the ids. The state of an id is another symbol's, and
            # the step from its price to the new one would look like a move.
            self._marks_forgotten = self._stale_marks_read()
            self._state[:] = features.make_features()
        elif directory is not self._directory:
            self._state["lead"] = 0  # another run: its first price is a level, not a move
        self._directory, self._names = directory, names
        features.learn_tick_sizes(self._state, directory)

    def _update_counters(self) -> None:
        stale_marks = self._stale_marks_read()
        self._read.set(self.view.read - stale_marks)
        self._stale_marks.set(stale_marks)
        self._lost.set(self.view.lost)
        self._torn.set(self.view.torn)
        self._page.beat()
        if time.monotonic() >= self._report_at_s:
            self._report_at_s = time.monotonic() + _REPORT_EVERY_S
            self._symbols_seen.set(int((self._state["ticks"] > 0).sum()))
            try:
                self.write_report()
            except OSError:
                pass  # the run folder is full: trading must not stop for want of a report
