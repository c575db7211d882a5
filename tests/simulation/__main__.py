"""`python -m tests.simulation --seeds N --first S`: run seeds, print each violated one, then one summary line."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

from tests.simulation.run import Outcome, run_seed
from tests.simulation.schedule import SECOND


def run_seeds(first: int, seeds: int, jobs: int, show: bool, ways: dict[str, bool]) -> Iterator[Outcome]:
    """Outcomes in the order of the seeds; a seed's outcome does not depend on the process that runs it."""
    numbers = range(first, first + seeds)
    if jobs == 1 or show:
        for seed in numbers:
            yield run_seed(seed, keep_lines=show, **ways)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(partial(run_seed, **ways), numbers, chunksize=5)


def describe_exits(naked: dict[str, int], races: Counter[str]) -> str:
    """The longest that lots were without a working stop, by what forced it; and races that a platform has allowed."""
    worst = sorted(naked.items(), key=lambda each: -each[1])
    found = (
        "; without a stop at worst: " + ", ".join(f"{why} {ns / SECOND:.1f} s" for why, ns in worst) if worst else ""
    )
    return found + "".join(f"; {race} {count}" for race, count in sorted(races.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: one a core")
    parser.add_argument("--show", action="store_true", help="print every event of the run (one seed)")
    parser.add_argument("--liars", action="store_true", help="platforms lie in every run, not in one of three")
    options = parser.parse_args()
    ways = {name: getattr(options, name) for name in ("liars",)}
    started = time.perf_counter()
    orders = events = crashes = fills = signals = 0
    failed: list[int] = []
    faults: Counter[str] = Counter()
    races: Counter[str] = Counter()
    naked: dict[str, int] = {}
    for outcome in run_seeds(options.first, options.seeds, options.jobs, options.show, ways):
        orders += outcome.orders
        events += outcome.events
        crashes += outcome.crashes
        fills += outcome.fills
        signals += outcome.signals
        faults.update(outcome.faults)
        races.update(outcome.races)
        for reason, spent_ns in outcome.naked_worst.items():
            naked[reason] = max(naked.get(reason, 0), spent_ns)
        if outcome.lines is not None:
            print("\n".join(outcome.lines))
        if outcome.violations:
            failed.append(outcome.seed)
            print(f"seed {outcome.seed} ({outcome.digest}): " + "; ".join(outcome.violations))
            print(f"  drawn: {outcome.drawn}")
            again = " ".join([f"--seeds 1 --first {outcome.seed} --show", *(f"--{way}" for way in ways if ways[way])])
            print(f"  the same again, event by event: python -m tests.simulation {again}")
    seconds = time.perf_counter() - started
    print(
        f"simulation: {options.seeds} seeds from {options.first}, {len(failed)} failed {failed[:10]}, "
        f"{signals} signals, {orders} orders, {fills} fills, {events} events, {crashes} crashes, {seconds:.1f} s, "
        f"{orders / seconds:.0f} orders/s, {events / seconds:.0f} events/s; faults: "
        + ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in sorted(faults.items()))
        + describe_exits(naked, races)
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
