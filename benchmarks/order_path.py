"""`python -m benchmarks.order_path`: from a tick to the fill that NEXUS knows, through real processes.

Three rigs, each with the journal at FULL on disk and on a memory file system:

- bare: the same four ZeroMQ hops (NEXUS, relay, platform, relay, NEXUS) and one SQLite commit of a row as large as an
  order's, with nothing else in between. The floor, taken before and after the gateway: the machine changes meanwhile.
- gateway: NEXUS's link, the real gateway process, a platform that answers each order at once with acknowledgement, fill
  and end. One order after another for the latency, many at a time for the rate.
- whole: the real adapter process with its paper account, a NEXUS that reads the ring and signals on a tick.

Each checks its own answers: every order placed once, every lot filled once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
from nexus_gateway.shm.counters import HistogramSnapshot

from benchmarks import machine
from benchmarks.bare_hops import MESSAGE_BYTES, ROW_BYTES, measure_bare
from benchmarks.gateway_path import measure_gateway
from benchmarks.whole_path import measure_whole

_WARM_UP = 50


def _median_ms(samples_ns: list[int]) -> float:
    return statistics.median(samples_ns[_WARM_UP:]) / 1e6


def _print_samples(label: str, samples_ns: list[int]) -> None:
    p50, p99, most = (float(value) / 1e6 for value in np.percentile(samples_ns[_WARM_UP:], [50, 99, 100]))
    print(f"  {label:<46} {p50:>8.3f} {p99:>8.3f} {most:>8.3f}   n = {len(samples_ns) - _WARM_UP}")


def _print_histogram(label: str, took: HistogramSnapshot) -> None:
    p50, p99, most = took.percentile(50) / 1e6, took.percentile(99) / 1e6, took.maximum / 1e6
    print(f"    {label:<44} {p50:>8.3f} {p99:>8.3f} {most:>8.3f}   n = {took.count}")


def measure_order_path(base: Path | None, latencies: int, orders: int, at_once: int) -> None:
    """Measure the three rigs with their files below `base` (None: the temporary folder), and print the rows."""
    root = Path(tempfile.mkdtemp(prefix="nxg", dir=base))
    try:
        for name in ("before", "gateway", "after", "whole"):
            (root / name).mkdir(mode=0o700)
        before_ns = measure_bare(root / "before", latencies)
        gateway = measure_gateway(root / "gateway", latencies, orders, at_once)
        after_ns = measure_bare(root / "after", latencies)
        from_tick_ns, from_signal_ns = measure_whole(root / "whole", latencies)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    _print_samples("bare hops and one commit, before", before_ns)
    _print_samples("bare hops and one commit, after", after_ns)
    _print_samples("gateway: signal to fill, instant platform", gateway.samples_ns)
    for name, took in gateway.own.items():
        _print_histogram(f"of which the gateway: {name}", took)
    _print_samples("whole: tick to fill, paper adapter", from_tick_ns)
    _print_samples("whole: signal to fill", from_signal_ns)
    floor_ms = (_median_ms(before_ns) + _median_ms(after_ns)) / 2
    print(f"  {'gateway / bare hops and one commit, p50':<46} {_median_ms(gateway.samples_ns) / floor_ms:>8.2f} x")
    print(f"  {'whole, from the tick / bare, p50':<46} {_median_ms(from_tick_ns) / floor_ms:>8.2f} x")
    for legs, rate in gateway.orders_per_s.items():
        print(f"  {f'sustained, {legs} order(s) a signal, {at_once} in flight':<46} {rate:>8,.0f} orders/s")


def print_order_path(latencies: int = 500, orders: int = 4_000, at_once: int = 64) -> None:
    """All rows, with the journal on disk and in memory."""
    machine.unpin()
    print(f"not pinned, load {os.getloadavg()[0]:.1f}; FULL; row of {ROW_BYTES} bytes, message of {MESSAGE_BYTES}")
    memory = Path("/dev/shm")
    for place, base in (("disk", None), *((("memory", memory),) if memory.is_dir() else ())):
        print(f"{f'orders, journal on {place}, ms':<48} {'p50':>8} {'p99':>8} {'max':>8}")
        measure_order_path(base, latencies, orders, at_once)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.order_path", description=__doc__)
    parser.add_argument("--latencies", type=int, default=500, help="orders one after another")
    parser.add_argument("--orders", type=int, default=4_000, help="orders of each throughput run")
    parser.add_argument("--at-once", type=int, default=64, help="signals in flight in the throughput runs")
    chosen = parser.parse_args()
    print(machine.describe())
    print_order_path(chosen.latencies, chosen.orders, chosen.at_once)


if __name__ == "__main__":
    main()
