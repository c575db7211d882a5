"""The production engine, watched by the process that it runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_gateway.core import engine as e
from nexus_gateway.core.engine.engine import Engine

if TYPE_CHECKING:
    from tests.simulation.gateway import SimulatedGateway


class WatchedEngine(Engine):
    """The production engine; in a running process it is watched, and raises where the simulation wants it to."""

    process: SimulatedGateway | None = None

    def handle(self, event: e.Event, now_ns: int) -> list[e.Effect]:
        try:
            effects = super().handle(event, now_ns)
        except Exception as error:
            if self.process is not None:
                self.process.note_exception(event, error)
            raise
        return effects if self.process is None else self.process.watch(self, event, effects)
