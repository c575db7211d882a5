"""The person beside the gateway: looks at the platforms themselves, and types what they hold."""

from __future__ import annotations

from nexus_gateway.core import messages as m

from tests.simulation.faults import Faults
from tests.simulation.gateway import ADMIN, SimulatedGateway
from tests.simulation.platform import FakePlatform
from tests.simulation.schedule import SECOND, Schedule


class Operator:
    """Acknowledges what the gateway shows as waiting, a little later than it is shown."""

    def __init__(
        self, schedule: Schedule, faults: Faults, gateway: SimulatedGateway, platforms: dict[str, FakePlatform]
    ) -> None:
        self.schedule, self.faults = schedule, faults
        self.gateway, self.platforms = gateway, platforms

    def step(self) -> None:
        """Once a second, in storm and calm."""
        engine = self.gateway.engine
        for platform in self.platforms.values() if engine is not None else ():
            route = engine.state.routes.get(f"{platform.name}|{platform.account}")
            if route is None:
                continue
            waiting = [symbol for symbol, position in route.positions.items() if position.blocked]
            waiting += [symbol for each in route.contradictions.values() for symbol in each.barred]
            if waiting and self.schedule.chance(0.3 if len(waiting) < 3 else 0.6):
                self._acknowledge(platform, self.schedule.rng.choice(waiting))
            elif route.contradictions and self.faults.lie and self.schedule.chance(0.02):
                self._flatten_unproven(platform)
        self.schedule.at(SECOND, self.step)

    def _acknowledge(self, platform: FakePlatform, symbol: str) -> None:
        held = platform.net(platform.contract_of(symbol))
        self.gateway.ask(
            ADMIN, m.Acknowledge(request_id=1, platform=platform.name, symbol=symbol, by="sim", quantity=held)
        )

    def _flatten_unproven(self, platform: FakePlatform) -> None:
        self.faults.note("flatten_unproven")
        kill = m.Kill(
            request_id=4, level=m.KillLevel.FLATTEN, reason="lies", by="sim", platform=platform.name, unproven=True
        )
        self.gateway.ask(ADMIN, kill)
        for seconds in (10, 20, 40):
            self.schedule.at(seconds * SECOND, lambda: self._resume(platform.name))

    def _resume(self, platform: str) -> None:
        self.gateway.ask(ADMIN, m.Resume(request_id=5, reason="lies over", by="sim", platform=platform))
