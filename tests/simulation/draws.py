"""A platform as the seed draws it: its kind of account, and what it can do."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs
from nexus_gateway.core import messages as m

from tests.simulation.faults import Faults
from tests.simulation.platform import FakePlatform
from tests.simulation.schedule import Schedule

ALL_TYPES = tuple(m.OrderType)


def draw_platform(name: str, schedule: Schedule, faults: Faults, send: Callable[[object], None]) -> FakePlatform:
    rng = schedule.rng
    hedging = rng.random() < 0.3
    replace = rng.random() < 0.6
    if not hedging:
        rng.random()  # drawn in former runs: without it every known seed would be another run
    capabilities = m.Capabilities(
        order_types=ALL_TYPES,
        times_in_force=(m.TimeInForce.DAY, m.TimeInForce.GTC),
        replace=replace,
        close_by_ticket=hedging,
        reduce_only=not hedging and rng.random() < 0.6,
    )
    mode = m.AccountMode.HEDGING if hedging else m.AccountMode.NETTING
    extra = schedule.extra
    oco = not hedging and extra.random() < 0.5
    capabilities = structs.replace(
        capabilities,
        brackets=hedging or extra.random() < 0.1,  # most keep no stop of their own: the gateway has to
        oco=oco,
        oco_shrinks=oco and extra.random() < 0.5,
        replace_quantity=extra.random() < 0.7,
    )
    platform = FakePlatform(name, mode, capabilities, schedule, faults, send)
    platform.oco.ends_all = extra.random() < 0.5
    platform.keeps_wall = extra.random() < 0.5
    return platform
