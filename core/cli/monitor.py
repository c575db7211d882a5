"""Snapshots of all rings and processes of a run folder, read from shared memory alone.

No process is asked anything: one that hangs is seen as well as any other, and none is slowed. No numba is imported:
`status` must answer at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from ...shm import layout, run_folder
from ...shm.counters import CountersPage
from ...shm.segment import Segment, SegmentError, SegmentState
from ...shm.tick import Platform
from ..config import GATEWAY_NAME
from ..process import describe_recovery

UNRESPONSIVE_AFTER_S: Final = 2.0
"""Every process writes its heartbeat several times a second. A heartbeat this far in the future counts as silence too:
it is from before a reboot.
"""

_SHOWN: Final = (SegmentState.DAMAGED, SegmentState.OTHER_VERSION)
"""A file in one of these states is shown, without figures; in any other one it is just being made or removed."""


class ReaderStatus(msgspec.Struct, frozen=True):
    """One live reader of a ring.

    Attributes:
        lag: records that it has yet to read.
        lost: records that were overwritten before it read them.
        torn: those of `lost` that were overwritten while in use.
    """

    name: str
    pid: int
    lag: int
    read: int
    lost: int
    torn: int


class RingStatus(msgspec.Struct, frozen=True):
    """One ring.

    Attributes:
        state: "live", "closed", "dead writer"; "damaged" or "other version" of a file that cannot be read, and all
            figures are 0 then.
        published: records since the segment was created.
        rate_per_s: published since the last snapshot, per second; None in the first one.
        age_s: since the adapter published its last tick; None when it has published none. Stale marks do not count.
        gaps: ticks that the platform or its bridge has dropped, as far as known.
    """

    name: str
    platform: str
    state: str
    link_up: bool
    published: int
    rate_per_s: float | None
    age_s: float | None
    heartbeat_age_s: float
    gaps: int
    capacity: int
    readers: list[ReaderStatus]

    @property
    def unresponsive(self) -> bool:
        """Whether its writer gives no heartbeat."""
        return abs(self.heartbeat_age_s) > UNRESPONSIVE_AFTER_S


class LatencyStatus(msgspec.Struct, frozen=True):
    """Percentiles of a histogram in microseconds; None when it is empty."""

    count: int
    p50: float | None
    p99: float | None
    p999: float | None
    max: float | None


class ProcessStatus(msgspec.Struct, frozen=True):
    """One process with a counters page.

    Attributes:
        state: "live", "closed", "dead writer"; "damaged" or "other version" of a page that cannot be read, and all
            figures are 0 then; of a live one before its first heartbeat "starting", and while it reads
            its journal such as "recovering, 41 %".
        starts: how often it was started, the first time included.
        heartbeat_age_s: None = no heartbeat since it was started.
    """

    name: str
    pid: int
    state: str
    starts: int
    heartbeat_age_s: float | None
    counters: dict[str, int]
    latencies: dict[str, LatencyStatus]

    @property
    def unresponsive(self) -> bool:
        """Whether it gives no heartbeat any more. Not before its first one: that is the start."""
        return self.heartbeat_age_s is not None and abs(self.heartbeat_age_s) > UNRESPONSIVE_AFTER_S


class OrdersStatus(msgspec.Struct, frozen=True):
    """The order side, from the counters of the gateway and the adapters.

    Attributes:
        state: of the gateway's process, as in `ProcessStatus`. When it is not live, what stood at its end stands still.
        linked: accounts whose order link is up. ready: those that were reconciled since.
        expected: platforms that run; one with `orders: none` counts.
        unlinked: adapters without an order link.
        contradictions: what platforms have said that cannot be true, and that stands.
        routes_overdue: accounts that have owed a complete snapshot for too long.
        positions_unsettled: positions that differ from the platform's, or wait for `acknowledge`.
        latches: limits that bar entries until `resume`.
        entries_barred: 1 while entries are refused since the gateway has no descriptor for the kill file.
        accounts_left: accounts out of the configuration that still hold lots or orders of ours.
        ports_taken: TCP ports of the gateway that another program has.
    """

    state: str
    linked: int
    ready: int
    expected: int
    unlinked: list[str]
    contradictions: int
    routes_overdue: int
    positions_unsettled: int
    latches: int = 0
    entries_barred: int = 0
    accounts_left: int = 0
    ports_taken: int = 0

    @property
    def has_trouble(self) -> bool:
        """Whether something is barred, or left alone, until a snapshot or a person settles it."""
        waiting = self.contradictions or self.routes_overdue or self.positions_unsettled or self.latches
        return bool(waiting or self.accounts_left or self.entries_barred)


class Snapshot(msgspec.Struct, frozen=True):
    """All rings and processes of a run folder at `utc_ns`. `orders`: None without a gateway process."""

    run_folder: str
    utc_ns: int
    rings: list[RingStatus]
    processes: list[ProcessStatus]
    orders: OrdersStatus | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether all configured processes run and respond, all rings are live and all data links up, and nothing that
        a platform said waits to be settled.

        A process that ended cleanly (NEXUS, a `record`) does not count: one that should run is missing from the
        launcher's `children_running`.
        """
        processes = [process for process in self.processes if process.state != "closed"]
        return (
            bool(self.rings)
            and not (self.orders is not None and (self.orders.has_trouble or self.orders.ports_taken))
            and all(ring.state == "live" and ring.link_up and not ring.unresponsive for ring in self.rings)
            and all(process.state == "live" and not process.unresponsive for process in processes)
            and all(
                process.counters.get("children_running", 0) >= process.counters.get("children_configured", 0)
                for process in processes
            )
        )

    @property
    def is_closed(self) -> bool:
        """Whether everything has ended cleanly."""
        states = [ring.state for ring in self.rings] + [process.state for process in self.processes]
        return all(state == "closed" for state in states)


@dataclass
class _RingSample:
    segment: Segment
    published: int
    at_s: float


class Monitor:
    """Makes snapshots of one run folder. Keeps rings mapped in between, for the rates. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rings: dict[str, _RingSample] = {}

    def snapshot(self) -> Snapshot:
        """The state now. Segments that are just being created are left out."""
        pages: dict[str, CountersPage] = {}
        processes = []
        for name in run_folder.process_names(self.folder):
            try:
                pages[name] = CountersPage.attach(self.folder, name)
                processes.append(_describe_process(name, pages[name]))
            except SegmentError as error:
                if error.state in _SHOWN:
                    processes.append(ProcessStatus(name, 0, error.state.value, 0, None, {}, {}))
        rings = []
        for name in run_folder.ring_names(self.folder):
            try:
                rings.append(self._describe_ring(name, pages.get(name)))
            except SegmentError as error:
                self._rings.pop(name, None)
                if error.state in _SHOWN:
                    rings.append(RingStatus(name, name, error.state.value, False, 0, None, None, 0.0, 0, 0, []))
        return Snapshot(str(self.folder), time.time_ns(), rings, processes, _describe_orders(rings, processes))

    def _describe_ring(self, name: str, page: CountersPage | None) -> RingStatus:
        earlier = self._rings.get(name)
        if earlier is None or earlier.segment.is_replaced():
            earlier = None
            segment = Segment.attach(run_folder.ring_path(self.folder, name), layout.RING)
        else:
            segment = earlier.segment
            segment.check()
        published, now_s = segment.field("tail"), time.monotonic()
        self._rings[name] = _RingSample(segment, published, now_s)
        rate = None
        if earlier is not None and now_s > earlier.at_s:
            rate = (published - earlier.published) / (now_s - earlier.at_s)
        counters = {} if page is None else page.values()
        return RingStatus(
            name,
            Platform(segment.field("platform")).key,
            segment.state().value,
            counters.get("link_up", 0) == 1,
            published,
            rate,
            _age_s(counters.get("last_publish_utc_ns", 0)),
            segment.heartbeat_age_ns() / 1e9,
            counters.get("ticks_dropped_at_source", 0),
            segment.field("capacity"),
            [_describe_reader(cursor, published) for cursor in run_folder.attach_cursors(self.folder, name)],
        )


def _age_s(utc_ns: int) -> float | None:
    return (time.time_ns() - utc_ns) / 1e9 if utc_ns else None


def _describe_reader(cursor: Segment, published: int) -> ReaderStatus:
    return ReaderStatus(
        cursor.text("reader"),
        cursor.field("writer_pid"),
        max(published + 1 - cursor.field("next_seq"), 0),
        cursor.field("read"),
        cursor.field("lost"),
        cursor.field("torn"),
    )


def _describe_process(name: str, page: CountersPage) -> ProcessStatus:
    segment, counters, state, beat_ns = page.segment, page.values(), page.state(), page.last_beat_ns()
    phase = "starting" if beat_ns is None else describe_recovery(counters)
    return ProcessStatus(
        name,
        segment.field("writer_pid"),
        phase if phase and state is SegmentState.LIVE else state.value,
        segment.field("incarnation"),
        None if beat_ns is None else (time.monotonic_ns() - beat_ns) / 1e9,
        counters,
        {histogram: describe_latency(page, histogram) for histogram in page.histogram_names()},
    )


def _describe_orders(rings: list[RingStatus], processes: list[ProcessStatus]) -> OrdersStatus | None:
    gateway = next((process for process in processes if process.name == GATEWAY_NAME), None)
    if gateway is None:
        return None
    counters = gateway.counters
    # Its links have ended with it, whatever its gauges say still.
    has_ended = gateway.state in (SegmentState.CLOSED.value, SegmentState.DEAD_WRITER.value)
    linked, ready = (0 if has_ended else counters.get(name, 0) for name in ("routes_up", "routes_ready"))
    return OrdersStatus(
        state=gateway.state,
        linked=linked,
        ready=ready,
        expected=max(len(rings), linked),  # one platform may have several accounts, or an adapter of the user's own
        unlinked=[
            each.name
            for each in processes
            if "order_link_up" in each.counters and not (each.state == "live" and each.counters["order_link_up"])
        ],
        contradictions=counters.get("contradictions", 0),
        routes_overdue=counters.get("routes_overdue", 0),
        positions_unsettled=counters.get("positions_unsettled", 0),
        latches=counters.get("latches", 0),
        entries_barred=counters.get("entries_barred", 0),
        accounts_left=counters.get("accounts_left", 0),
        ports_taken=counters.get("ports_taken", 0),
    )


def describe_latency(page: CountersPage, histogram: str) -> LatencyStatus:
    """Percentiles of a histogram that counts nanoseconds, in microseconds."""
    snapshot = page.histogram(histogram)

    def in_us(value_ns: float) -> float | None:
        return None if np.isnan(value_ns) else round(value_ns / 1000, 3)

    return LatencyStatus(
        snapshot.count,
        in_us(snapshot.percentile(50)),
        in_us(snapshot.percentile(99)),
        in_us(snapshot.percentile(99.9)),
        in_us(float(snapshot.maximum)) if snapshot.count else None,
    )
