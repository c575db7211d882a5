"""A desk whose engine stands on a journal file, as in the gateway: finished signals leave it and are recalled."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.gateway.checkpoints import CheckpointBounds
from nexus_gateway.core.gateway.journaled_engine import JournaledEngine
from nexus_gateway.core.journal import Journal, rebuild
from nexus_gateway.core.risk import Limits

from tests.simulation.surroundings import make_log
from tests.support.orders import Desk, wide_limits

FINISHED_AFTER_MS = 60_000
BOUNDS = CheckpointBounds(events=1_000_000, payload_bytes=1 << 40, replay_ns=1 << 60)


class FinishedDesk(Desk):
    """`path`: of its journal. `given`: the events that the engine was given for the last one, recalls included."""

    def __init__(self, path: Path, *platforms: str, limits: Limits | None = None, **settings: object) -> None:
        self.path = path
        made = e.EngineSettings(client_order_id_chars=22, finished_after_ms=FINISHED_AFTER_MS, **settings)
        self._open(made, limits or wide_limits())
        super().__init__(*platforms, limits=limits, settings=made)

    def _open(self, settings: e.EngineSettings, limits: Limits) -> None:
        self.journal = Journal(self.path, "process")
        read = partial(rebuild, self.journal.connection)
        self.journaled = JournaledEngine(self.journal, read, settings, limits, BOUNDS, make_log())
        self.journal_append = self.journal.append
        self.given: list[e.Event] = []
        self.journal.append = self._append  # type: ignore[method-assign]

    def _append(self, event: e.Event, now_ns: int, effects: list[e.Effect]) -> int:
        self.given.append(event)
        return self.journal_append(event, now_ns, effects)

    @property
    def engine(self) -> e.Engine:
        return self.journaled.engine

    @engine.setter
    def engine(self, _: e.Engine) -> None:
        """`Desk` makes one of its own: the journal's is used."""

    def give(self, event: e.Event) -> list:
        self.given = []
        self.journaled.handle(event, self.now_ns)
        self.effects = [*self.journaled.commit(), *self.journaled.pop_reports()]
        for message in self.sent(m.Order):
            assert message.client_order_id not in self.orders, "an order was sent twice"
            self.orders[message.client_order_id] = message
        return self.effects

    def restart(self) -> None:
        """The process is killed, and the next one rebuilds the engine from the file."""
        self.journal.close()
        self._open(self.settings, self.limits)

    def trade(self, signal_id: str = "s1", platform: str = "a", **fields: object) -> list[m.Fill]:
        """A signal of two lots that is bought and closed again."""
        self.signal(platform, signal_id=signal_id, **fields)
        fills = [self.fill(self.only(platform))]
        self.update(self.only(platform), m.LegState.FILLED, 2)
        self.ask(m.SignalClose(signal_id=signal_id))
        stops = [o for o in self.orders.values() if m.find_client_order_id(o.client_order_id).role in "ST"]
        for order in stops:
            self.update(order, m.LegState.CANCELLED)
        fills.append(self.fill(self.only(platform, m.OrderRole.EXIT)))
        self.update(self.only(platform, m.OrderRole.EXIT), m.LegState.FILLED, 2)
        return fills

    def finish(self) -> None:
        """Let the time pass after which what is over leaves."""
        self.wait(FINISHED_AFTER_MS * 11 // 10)

    def recalled(self) -> list[str]:
        """Ids of the signals that the last event has recalled."""
        return [event.signal_id for event in self.given if isinstance(event, e.SignalRecalled)]

    def ended(self, order: m.Order, state: m.LegState = m.LegState.FILLED, filled: object = 2) -> m.WorkingOrder:
        """Its row in a snapshot, as `update` has named it."""
        row = self.row(order, state, filled)
        return structs.replace(row, platform_order_id=f"P-{order.client_order_id[-6:]}")
