"""The production engine, watched by the process that it runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.engine import Engine
from nexus_gateway.core.engine.orders.executions import booked_key
from nexus_gateway.core.gateway.journaled_engine import JournaledEngine

if TYPE_CHECKING:
    from tests.simulation.gateway import SimulatedGateway

COMPARE_EVERY = 5
"""Snapshots of an engine between two that are applied in both ways, the whole and the reduced one."""


class WatchedEngine(Engine):
    """The production engine; in a running process it is watched, and raises where the simulation wants it to."""

    process: SimulatedGateway | None = None
    snapshots = 0

    def condense(self, event: e.Event) -> e.Event:
        reduced = super().condense(event)
        self.snapshots += reduced is not event
        if self.process is not None and reduced is not event and self.snapshots % COMPARE_EVERY == 1:
            self._compare(event, reduced)
        return reduced

    def _compare(self, whole: e.AdapterSaid, reduced: e.SnapshotChanges) -> None:
        """The reduced snapshot has the outcome of the one with all rows."""
        unreduced = structs.replace(
            reduced,
            snapshot=whole.message,
            unlisted_executions=self._unlisted(whole.message),
            same_positions=False,
            same_external_orders=False,
        )
        outcomes = []
        for event in (unreduced, reduced):
            twin = Engine.load(self.save())
            outcomes.append((twin.handle(event, self.state.now_ns), twin.digest()))
        if outcomes[0] != outcomes[1]:
            self.process.broken.append(f"a reduced snapshot of {reduced.snapshot.platform} has another outcome")

    def _unlisted(self, snapshot: m.Snapshot) -> tuple[str, ...]:
        """The executions that a snapshot lacks, by a walk over all that are booked there."""
        part = snapshot.executions
        listed = {booked_key(self.state, fill) for fill in part.rows}
        booked = self.state.routes[e.route_of(snapshot.platform, snapshot.account)].executions
        records = [(key, self.state.executions[key]) for key in booked if key not in listed]
        return tuple(key for key, record in records if record.counts and record.ts_event_ns >= part.from_ns)

    def handle(self, event: e.Event, now_ns: int) -> list[e.Effect]:
        try:
            effects = super().handle(event, now_ns)
        except Exception as error:
            if self.process is not None:
                self.process.note_exception(event, error)
            raise
        return effects if self.process is None else self.process.watch(self, event, effects)


class WatchedJournaledEngine(JournaledEngine):
    """The production one; what it is given is noted as it came, before anything is left out of it."""

    def handle(self, event: e.Event, now_ns: int) -> list[e.Effect]:
        self._journal.whole = event
        return super().handle(event, now_ns)
