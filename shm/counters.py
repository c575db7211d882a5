"""Counters and latency histograms of one process, in a page that every other process can read.

Monitoring reads these pages and sends no process a request. No numba here: `status` must start at once. Only one
process writes a page; its threads may share the page, but each counter has one writing thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import layout, run_folder
from .layout import HISTOGRAM_SUB_BITS
from .segment import Segment, SegmentState

_SUB = 1 << HISTOGRAM_SUB_BITS


class Counter:
    """One 64-bit value of the process that writes the page."""

    def __init__(self, cell: memoryview) -> None:
        self._cell = cell

    def add(self, amount: int = 1) -> None:
        """Add `amount`; some 60 ns."""
        self._cell[0] += amount

    def set(self, value: int) -> None:
        """Replace the value, for gauges such as a queue's depth."""
        self._cell[0] = value

    @property
    def value(self) -> int:
        return int(self._cell[0])


@dataclass(frozen=True)
class HistogramSnapshot:
    """Counts of a log-linear histogram at one moment; values are in the unit that its name ends with.

    Attributes:
        buckets: shape (1888,), uint64, copied.
    """

    name: str
    count: int
    total: int
    minimum: int
    maximum: int
    buckets: npt.NDArray[np.uint64]

    def percentile(self, percent: float) -> float:
        """Value below which `percent` of the recorded values lie, within 1.6 %; NaN when there are none."""
        counted = int(self.buckets.sum())
        if counted == 0:
            return float("nan")
        rank = min(max(int(np.ceil(counted * percent / 100)), 1), counted)
        bucket = int(np.searchsorted(np.cumsum(self.buckets), rank))
        low, high = bucket_bounds(bucket)
        return float(min(max((low + high - 1) / 2, self.minimum), self.maximum))


def bucket_bounds(bucket: int) -> tuple[int, int]:
    """Smallest value of a bucket, and the smallest one above it."""
    shift = max((bucket >> HISTOGRAM_SUB_BITS) - 1, 0)
    low = (bucket - (shift << HISTOGRAM_SUB_BITS)) << shift
    return low, low + (1 << shift)


def _check_names(names: Sequence[str]) -> None:
    # A name that is cut on the page would not be found after a restart: its counts would silently start from zero.
    longest = layout.COUNTER.dtype["name"].itemsize
    for name in names:
        if not 1 <= len(name) <= longest or not (name.isascii() and name.isprintable()) or names.count(name) > 1:
            raise ValueError(f"name was {name!r}; use 1 to {longest} printable ASCII characters, each name once")


class CountersPage:
    """A process's page. The process itself opens it with `create`, any other with `attach`."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        start = segment.layout.size_bytes
        counters, histograms = segment.field("counters"), segment.field("histograms")
        middle = start + counters * layout.COUNTER.size_bytes
        end = middle + histograms * layout.HISTOGRAM.size_bytes
        self._counters = segment.bytes[start:middle].view(layout.COUNTER.dtype)
        self._histograms = segment.bytes[middle:end].view(layout.HISTOGRAM.dtype)
        self._histograms_address = segment.address + middle

    @classmethod
    def create(
        cls, folder: Path, process: str, counters: Sequence[str], histograms: Sequence[str] = ()
    ) -> CountersPage:
        """The page of this process. An earlier process's page with the same names is reused: counts survive a restart.

        The heartbeat is 0 until the first `beat`: opening the page does not show that the process's loop runs.

        Raises:
            SegmentInUseError: a live process of that name has it.
            ValueError: a name is empty, twice, longer than 56 bytes or not plain ASCII.
        """
        _check_names(counters)
        _check_names(histograms)
        body = len(counters) * layout.COUNTER.size_bytes + len(histograms) * layout.HISTOGRAM.size_bytes

        def fill(segment: Segment) -> None:
            segment.set_field("process", process.encode())
            segment.set_field("counters", len(counters))
            segment.set_field("histograms", len(histograms))
            page = cls(segment)
            page._counters["name"] = [name.encode() for name in counters]
            page._histograms["name"] = [name.encode() for name in histograms]

        def fits(segment: Segment) -> bool:
            page = cls(segment)
            return page.counter_names() == list(counters) and page.histogram_names() == list(histograms)

        path = run_folder.counters_path(folder, process)
        return cls(Segment.open_writer(path, layout.COUNTERS, body, fill, fits, silent=True))

    @classmethod
    def attach(cls, folder: Path, process: str) -> CountersPage:
        """Another process's page, read-only. Raises SegmentError."""
        return cls(Segment.attach(run_folder.counters_path(folder, process), layout.COUNTERS))

    def counter(self, name: str) -> Counter:
        """Handle to one counter, for its writer. Raises KeyError."""
        row = self._row(self.counter_names(), name)
        cell: Any = self._counters["value"][row : row + 1]
        return Counter(memoryview(cell))

    def values(self) -> dict[str, int]:
        """All counters now, by name; each value is read whole, but not all at one instant."""
        return {name: int(row["value"]) for name, row in zip(self.counter_names(), self._counters, strict=True)}

    def histogram_address(self, name: str) -> int:
        """Address for the kernel `histogram.observe`; only the page's writer may use it. Raises KeyError."""
        return self._histograms_address + self._row(self.histogram_names(), name) * layout.HISTOGRAM.size_bytes

    def histogram(self, name: str) -> HistogramSnapshot:
        """Copy of one histogram. Raises KeyError."""
        row: Any = self._histograms[self._row(self.histogram_names(), name)]
        return HistogramSnapshot(
            name,
            int(row["count"]),
            int(row["sum"]),
            int(row["minimum"]),
            int(row["maximum"]),
            row["buckets"].copy(),
        )

    def counter_names(self) -> list[str]:
        # "replace": an overwritten page must not end a reader.
        return [bytes(name).decode(errors="replace") for name in self._counters["name"]]

    def histogram_names(self) -> list[str]:
        return [bytes(name).decode(errors="replace") for name in self._histograms["name"]]

    def beat(self) -> None:
        """Write the heartbeat that the launcher watches."""
        self.segment.beat()

    def last_beat_ns(self) -> int | None:
        """System-wide monotonic time of the last heartbeat; None = none since its process opened the page."""
        return self.segment.field("heartbeat_ns") or None

    def state(self) -> SegmentState:
        return self.segment.state()

    def close(self) -> None:
        """Mark the page as closed by its process; the last values stay readable."""
        self.segment.close_writer()

    @staticmethod
    def _row(names: list[str], name: str) -> int:
        try:
            return names.index(name)
        except ValueError:
            raise KeyError(f"no such name: was {name!r}; this page has {', '.join(names)}") from None
