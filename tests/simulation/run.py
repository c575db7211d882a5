"""Run a seed."""

from __future__ import annotations

from tests.simulation.faults import Faults
from tests.simulation.plants import Plants
from tests.simulation.world import Outcome, World

__all__ = ["Outcome", "World", "run_seed"]


def run_seed(
    seed: int,
    plants: Plants | None = None,
    faults: Faults | None = None,
    keep_lines: bool = False,
    liars: bool = False,
    clocks: bool = True,
) -> Outcome:
    def make() -> World:
        return World(seed, plants, faults, keep_lines, liars, clocks)

    outcome = make().run()
    if any(violation.startswith("after ") for violation in outcome.violations) and faults is None:
        world = make()
        world.gateway.check_every = 1  # so that the event is named that broke it, and not the next one looked at
        outcome = world.run()
    outcome.seed = seed
    return outcome
