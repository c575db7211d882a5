"""The demo: simulated platforms or recordings, the example of NEXUS, a live table, and a summary at the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from ...shm import host
from ...shm.counters import CountersPage
from ...shm.run_folder import remove_stale_segments
from ...shm.segment import SegmentError
from ..config import GatewayConfig
from ..errors import GatewayError
from ..launcher.launcher import Launcher
from ..launcher.plan import NEXUS_NAME, REPLAY_NAME, plan_processes
from ..launcher.run_ownership import LOCK_FILE
from ..logs import LOG_SUFFIX, Log
from ..messages import LegState
from .monitor import LatencyStatus, Monitor, Snapshot, describe_latency

DEFAULT_SECONDS: Final = 15.0
# Written by nexus_link.nexus_ai, which core may not import.
_NEXUS_REPORT: Final = "nexus-report.json"
_LATENCY: Final = "tick_to_nexus_ns"
_FILL_LATENCY: Final = "tick_to_fill_ns"
_ORDER_PATIENCE_S: Final = 30.0
_ORDER_FIGURES: Final = ("signals", "legs", "fills", "rejects", "unknown", "residual", "avg_price")


class DemoResult(msgspec.Struct, frozen=True):
    """The summary of a demo, as `demo --json` prints it.

    Attributes:
        platforms: by name; ticks published and, for a replay, counts of what was wrong in the recordings.
        symbols: by universal name, as NEXUS counted them: ticks, trades, size_sum, price_sum ...
        ticks_published, ticks_read, ticks_lost: of all platforms. Stale marks are not ticks; those in a recording
            count in `ticks_published` only.
        is_complete: every record in the rings, stale marks included, was read or counted as lost.
        tick_to_nexus_us: publication to NEXUS's kernel; at full replay speed it is mostly time in the queue.
        signals: sent. legs: one per platform. fills: legs with any fill.
        rejects: by code.
        unknown: legs whose outcome is unknown.
        residual: lots held at the end, by symbol, as exact decimal text.
        avg_price: of the fills, by symbol and side, as exact decimal text.
        tick_to_fill_ms: from the tick that triggered the signal until NEXUS received a leg's first fill.
    """

    platforms: dict[str, dict[str, int]]
    symbols: dict[str, dict[str, Any]]
    ticks_published: int
    ticks_read: int
    ticks_lost: int
    is_complete: bool
    tick_to_nexus_us: dict[str, float | None]
    seconds: float
    restarts: int
    signals: int = 0
    legs: int = 0
    fills: int = 0
    rejects: dict[str, int] = {}
    unknown: int = 0
    residual: dict[str, str] = {}
    avg_price: dict[str, dict[str, str]] = {}
    tick_to_fill_ms: dict[str, float | None] = {}


def demo_folder() -> Path:
    """The demo's own run folder: in the default one it would collide with a gateway that trades."""
    default = host.default_run_folder()
    return default.with_name(default.name + "-demo")


def run_demo(
    config: GatewayConfig,
    nexus: dict[str, Any],
    seconds: float | None,
    show: Callable[[Snapshot, str], None],
    log: Log,
    *,
    console: bool,
) -> DemoResult:
    """Run the demo to its end, or until Ctrl-C, and clean up. Main thread only, since it handles the signals.

    Args:
        nexus: arguments of the example of NEXUS.
        seconds: None = 15 s for a simulation, to the end of the recordings for a replay.
        show: called five times a second with a snapshot and a title.
        console: whether the processes may print to stderr; else into files beside their logs.

    Raises:
        GatewayError: the run folder is in use, or a process failed for good; the text names it, the reason and its log.
    """
    watch = _DemoWatch(config, seconds, show, awaits_orders=bool(nexus))
    folder = config.run_path
    # In a folder of the user's own the clean-up removes our files only.
    is_ours = folder == demo_folder() or not folder.exists()
    results: list[DemoResult] = []

    # Called before the launcher releases the folder's lock: else a second demo could start in a half-removed folder.
    def finish() -> None:
        try:
            results.append(_summarize(config, watch.elapsed_s, sum(child.restarts for child in launcher.describe())))
        finally:
            _clear(folder, everything=is_ours)

    specs = plan_processes(config, nexus=nexus)
    launcher = Launcher(config, specs, console=console, log=log, before_release=finish)
    with launcher:
        launcher.run(lambda: watch.is_over(launcher))
    if watch.failure:
        raise GatewayError(watch.failure)
    if not results:
        raise GatewayError(f"run folder {folder} was taken by another launcher; stop that one, run the demo again")
    return results[0]


def _clear(folder: Path, *, everything: bool) -> None:
    """Remove the demo's files.

    Args:
        everything: all files but the lock's, whose removal would let two processes hold the folder; else only our own.
    """
    remove_stale_segments(folder)
    (folder / _NEXUS_REPORT).unlink(missing_ok=True)
    if everything:
        shutil.rmtree(folder / "keys", ignore_errors=True)
        for path in folder.iterdir():
            if path.name != LOCK_FILE and not path.is_dir():
                path.unlink()


class _DemoWatch:
    """Shows a running demo and decides when it is over.

    Attributes:
        elapsed_s: from NEXUS's first tick to the last call of `is_over`.
        failure: why the demo cannot continue; empty = nothing failed.
    """

    def __init__(
        self,
        config: GatewayConfig,
        seconds: float | None,
        show: Callable[[Snapshot, str], None],
        *,
        awaits_orders: bool,
    ) -> None:
        self._report_file = config.run_path / _NEXUS_REPORT
        self._log_folder = config.log_path
        self._awaits_orders = awaits_orders
        self._replays = REPLAY_NAME in config.platforms
        self._limit_s = seconds if seconds is not None else (None if self._replays else DEFAULT_SECONDS)
        self._show = show
        self._monitor = Monitor(config.run_path)
        self._first_tick_s: float | None = None
        self.elapsed_s = 0.0
        self.failure = ""

    def is_over(self, launcher: Launcher) -> bool:
        """Whether the time is up, all recordings are read, or a process failed for good. Also refreshes the table."""
        failed = [child for child in launcher.describe() if child.state == "failed"]
        if failed:
            name, detail = failed[0].name, failed[0].detail
            self.failure = f"process {name} failed: {detail}; see {self._log_folder / name}{LOG_SUFFIX}"
            return True
        snapshot = self._monitor.snapshot()
        # The time runs from the first tick: the very first start compiles kernels for longer than the demo lasts.
        if self._first_tick_s is None and any(process.counters.get("ticks_read") for process in snapshot.processes):
            self._first_tick_s = time.monotonic()
        if self._first_tick_s is not None:
            self.elapsed_s = time.monotonic() - self._first_tick_s
        self._show(snapshot, self._title())
        if self._replays and _replay_is_read(snapshot):
            return True
        if self._limit_s is None or self.elapsed_s < self._limit_s:
            return False
        # On a slow machine the legs may not have ended yet, and the summary would show no fills. Wait longer, but not
        # for ever: a leg whose outcome stays unknown never ends.
        return self._orders_settled() or self.elapsed_s >= self._limit_s + _ORDER_PATIENCE_S

    def _orders_settled(self) -> bool:
        """Whether all legs of the signal have ended, or the demo sends none."""
        if not self._awaits_orders:
            return True
        if not self._report_file.exists():
            return False
        reports = msgspec.json.decode(self._report_file.read_bytes()).get("orders", {}).get("reports", [])
        return bool(reports) and all(LegState(leg["state"]).final for leg in reports[0]["legs"])

    def _title(self) -> str:
        if self._first_tick_s is None:
            return "demo: processes are starting (the first start compiles the kernels, later ones take a second)"
        limit = "" if self._limit_s is None else f" of {self._limit_s:.0f} s"
        return f"demo: {self.elapsed_s:.0f} s{limit}; Ctrl-C ends it"


def _replay_is_read(snapshot: Snapshot) -> bool:
    # `replay_finished` says that all is published. Ending then would cut off readers that are still behind.
    finished = any(process.counters.get("replay_finished") for process in snapshot.processes)
    readers = [reader for ring in snapshot.rings for reader in ring.readers]
    return finished and bool(readers) and all(reader.lag == 0 for reader in readers)


def _summarize(config: GatewayConfig, seconds: float, restarts: int) -> DemoResult:
    """Add up what the stopped processes left in the run folder. A process that never started counts as zero."""
    folder = config.run_path
    platforms = {name: _platform_figures(folder, name) for name, each in config.platforms.items() if each.enabled}
    published = sum(figures["ticks_published"] for figures in platforms.values())
    # From the rings, not from the adapters' counters: an adapter that was killed may have published ticks that it had
    # not counted yet, and the sum would be wrong.
    records = sum(ring.published for ring in Monitor(folder).snapshot().rings)
    read = marks_read = lost = 0
    latency = fill_latency = LatencyStatus(0, None, None, None, None)
    try:
        nexus = CountersPage.attach(folder, NEXUS_NAME)
        counted = nexus.values()
        read, marks_read, lost = (counted[name] for name in ("ticks_read", "stale_marks_read", "ticks_lost"))
        latency, fill_latency = describe_latency(nexus, _LATENCY), describe_latency(nexus, _FILL_LATENCY)
    except SegmentError:
        pass  # the demo ended before NEXUS started
    report_file = folder / _NEXUS_REPORT
    report = msgspec.json.decode(report_file.read_bytes()) if report_file.exists() else {"symbols": {}}
    orders = report.get("orders", {})
    return DemoResult(
        platforms=platforms,
        symbols=report["symbols"],
        ticks_published=published,
        ticks_read=read,
        ticks_lost=lost,
        is_complete=records == read + marks_read + lost,
        tick_to_nexus_us={"p50": latency.p50, "p99": latency.p99, "p999": latency.p999, "max": latency.max},
        seconds=round(seconds, 3),
        restarts=restarts,
        tick_to_fill_ms={name: _in_ms(getattr(fill_latency, name)) for name in ("p50", "p99", "max")},
        **{name: orders[name] for name in _ORDER_FIGURES if name in orders},
    )


def _in_ms(value_us: float | None) -> float | None:
    return None if value_us is None else round(value_us / 1000, 3)


def _platform_figures(folder: Path, name: str) -> dict[str, int]:
    try:
        figures = CountersPage.attach(folder, name).values()
    except SegmentError:
        return {"ticks_published": 0}  # the demo ended before this adapter started
    # Zeros are left out: among all the counters they would hide the few that are not zero.
    return {key: value for key, value in figures.items() if value or key == "ticks_published"}
