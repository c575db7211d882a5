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


def run_seeds(first: int, seeds: int, jobs: int, show: bool, liars: bool) -> Iterator[Outcome]:
    """Outcomes in the order of the seeds; a seed's outcome does not depend on the process that runs it."""
    numbers = range(first, first + seeds)
    if jobs == 1 or show:
        for seed in numbers:
            yield run_seed(seed, keep_lines=show, liars=liars)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(partial(run_seed, liars=liars), numbers, chunksize=5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: one a core")
    parser.add_argument("--show", action="store_true", help="print every event of the run (one seed)")
    parser.add_argument("--liars", action="store_true", help="platforms lie in every run, not in one of three")
    options = parser.parse_args()
    started = time.perf_counter()
    orders = events = crashes = fills = signals = 0
    failed: list[int] = []
    faults: Counter[str] = Counter()
    for outcome in run_seeds(options.first, options.seeds, options.jobs, options.show, options.liars):
        orders += outcome.orders
        events += outcome.events
        crashes += outcome.crashes
        fills += outcome.fills
        signals += outcome.signals
        faults.update(outcome.faults)
        if outcome.lines is not None:
            print("\n".join(outcome.lines))
        if outcome.violations:
            failed.append(outcome.seed)
            print(f"seed {outcome.seed} ({outcome.digest}): " + "; ".join(outcome.violations))
            print(f"  drawn: {outcome.drawn}")
            again = f"--seeds 1 --first {outcome.seed} --show" + (" --liars" if options.liars else "")
            print(f"  the same again, event by event: python -m tests.simulation {again}")
    seconds = time.perf_counter() - started
    print(
        f"simulation: {options.seeds} seeds from {options.first}, {len(failed)} failed {failed[:10]}, "
        f"{signals} signals, {orders} orders, {fills} fills, {events} events, {crashes} crashes, {seconds:.1f} s, "
        f"{orders / seconds:.0f} orders/s, {events / seconds:.0f} events/s; faults: "
        + ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in sorted(faults.items()))
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
