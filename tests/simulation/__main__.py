"""`python -m tests.simulation --seeds N --first S`: run seeds, print each violated one, then one summary line."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.run import run_seed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print every event of the run (one seed)")
    options = parser.parse_args()
    started = time.perf_counter()
    orders = events = crashes = fills = signals = 0
    failed: list[int] = []
    for seed in range(options.first, options.first + options.seeds):
        outcome = run_seed(seed, keep_lines=options.show)
        orders += outcome.orders
        events += outcome.events
        crashes += outcome.crashes
        fills += outcome.fills
        signals += outcome.signals
        if outcome.lines is not None:
            print("\n".join(outcome.lines))
        if outcome.violations:
            failed.append(seed)
            print(f"seed {seed} ({outcome.digest}): " + "; ".join(outcome.violations))
    seconds = time.perf_counter() - started
    print(
        f"simulation: {options.seeds} seeds from {options.first}, {len(failed)} failed {failed[:10]}, "
        f"{signals} signals, {orders} orders, {fills} fills, {events} events, {crashes} crashes, {seconds:.1f} s, "
        f"{orders / seconds:.0f} orders/s, {events / seconds:.0f} events/s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
