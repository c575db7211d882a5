"""Random histories with steps of the clock send what they send without."""

from __future__ import annotations

from decimal import Decimal as D
from random import Random

import msgspec
import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core.engine.engine import Engine

from tests.core.engine.test_clock import (
    HOUR,
    plain,
)
from tests.core.engine.test_histories import History
from tests.support.orders import SECOND, Desk, wide_limits
from tests.support.torture import rounds


class SteadyHistory(History):
    """One within a day, of a platform that lists all its executions."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        limits = wide_limits(max_orders_per_s=self.rng.choice([None, 5]))
        self.desk = Desk("a", limits=limits)
        self.link("b")

    def wait(self, _: str) -> None:
        self.desk.wait(self.rng.choice([0, 500, 1_000, 2_000, 5_000, 31_000]))

    def snapshot(self, platform: str) -> None:
        self.desk.snapshot(
            platform,
            orders=[self.row() for _ in range(self.rng.randrange(4))],
            fills=[self.make_fill(platform) for _ in range(self.rng.randrange(4))],
            positions=[("NQ", self.rng.choice([D(0), D(1), D(-2)]), "") for _ in range(self.rng.randrange(3))],
            complete=self.rng.random() < 0.8,
        )


_STAMPS = {"created_ns", "quote_ns", "usd_rate_ns", "ts_event_ns", "as_of_ns"}


def restamp(value: object, offset_ns: int) -> object:
    """The same event, stamped by a wall clock that lies this far from the engine's time."""
    if isinstance(value, list | tuple):
        return [restamp(each, offset_ns) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: each + offset_ns if name in _STAMPS and 0 < each < 2**62 else restamp(each, offset_ns)
        for name, each in value.items()
    }


@rounds(25, 1000)
@pytest.mark.parametrize("part", range(4))
def test_a_random_history_sends_the_same_with_and_without_steps(chance, part, rounds):
    for seed in [chance.getrandbits(32) for _ in range(rounds)]:
        history = SteadyHistory(seed)
        history.run(60)
        rng = Random(seed)
        desk = history.desk
        engines = [Engine(desk.settings, desk.limits) for _ in range(2)]
        offset_s = 0
        for at_ns, event in desk.events:
            if rng.random() < 0.2:
                # Together within a day: what begins with a day, or is told by it, would rightly be another.
                goal_s = rng.randrange(-4, 5) * HOUR
                engines[1].handle(e.ClockStepped(step_ns=(goal_s - offset_s) * SECOND), at_ns)
                offset_s = goal_s
            moved = msgspec.convert(
                restamp(msgspec.to_builtins(event, builtin_types=(D,)), offset_s * SECOND), e.Event, builtin_types=(D,)
            )
            if isinstance(moved, e.Started):
                moved = msgspec.structs.replace(moved, wall_offset_ns=offset_s * SECOND)
            sent, sent_after_steps = (
                [plain(x.message) for x in engine.handle(each, at_ns) if isinstance(x, e.SendToPlatform)]
                for engine, each in zip(engines, (event, moved), strict=True)
            )
            assert sent_after_steps == sent, f"seed {seed}, {e.describe_event(event)}"
            assert engines[1].next_due_ns() == engines[0].next_due_ns() or offset_s, f"seed {seed}"
