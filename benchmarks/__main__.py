"""`python -m benchmarks [--rounds N]`: latency and throughput between two processes, the best of several rounds, and
the latency of an order through the real processes.

Prints the machine, the pinning, the sizes, percentiles and the ratio to the half-round-trip taken around each figure;
for orders the ratio to the bare hops and one commit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks import between_processes, machine, peers
from benchmarks.between_processes import Percentiles, between_two
from benchmarks.order_path import print_order_path

_BATCHES = (1, 16, 256)


def _best(measure: Callable[[], Any], rank: Callable[[Any], float], rounds: int) -> tuple[float, Any, float]:
    """The best result of a steady round: its two half-round-trips agree, so the cores were not moved meanwhile."""
    taken = [between_two(measure) for _ in range(rounds)]
    steady = [one for one in taken if max(one[0], one[2]) <= 1.25 * min(one[0], one[2])]
    return min(steady or taken, key=lambda one: rank(one[1]))


def _print_latency(label: str, taken: tuple[float, Percentiles, float]) -> None:
    before, result, after = taken
    print(
        f"{label:<28} {result.p50:>8.0f} {result.p99:>8.0f} {result.p999:>9.0f} {result.max:>10.0f}"
        f"   {before:>5.0f} {after:>5.0f}   {result.p50 / ((before + after) / 2):>7.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="of each measurement")
    rounds = parser.parse_args().rounds
    first, second = machine.cores_at_start
    print(machine.describe())
    print(f"pinned to cores {first} and {second}; record 64 bytes; ring of {between_processes.CAPACITY} slots")
    print(f"best steady one of {rounds} rounds, each between two half-round-trips (hrt) of one 8-byte word\n")

    print(f"{'lossless, kernel to kernel':<28} {'M/s':>8}   {'hrt ns before, after':>22}")
    for batch in _BATCHES:
        before, rate, after = _best(
            lambda batch=batch: between_processes.lossless_per_second(batch), lambda r: -r, rounds
        )
        print(f"  batches of {batch:<15} {rate / 1e6:>8.1f}   {before:>16.0f} {after:>5.0f}")

    print(f"\n{'one way, ns':<28} {'p50':>8} {'p99':>8} {'p99.9':>9} {'max':>10}   {'hrt before, after':>11}   p50/hrt")
    _print_latency("kernel to kernel", _best(between_processes.latency_between_kernels, lambda p: p.p50, rounds))
    python = _best(between_processes.latency_between_python, lambda p: p.p50, rounds)
    _print_latency("Python to Python", python)
    for name, measure in peers.ALL.items():
        taken = _best(measure, lambda p: p.p50, max(1, rounds // 3))
        _print_latency(name, taken)
        print(f"{'':<28} {taken[1].p50 / python[1].p50:>8.1f} x the ring from Python")

    print()
    print_order_path()


if __name__ == "__main__":
    main()
