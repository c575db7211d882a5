"""A real gateway whose NEXUS is gone: its working entry ends at the platform, the stop of what is held stays."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from decimal import Decimal

from msgspec import structs
from nexus_gateway.core.engine import NexusLost
from nexus_gateway.core.journal.recovery import decode_event
from nexus_gateway.core.messages import LegState, OrderRole, OrderType, SignalState, find_client_order_id

from tests.support.links import CAN_ALL
from tests.support.patience import patient
from tests.support.trading_floor import FakeNexus, FakePlatform, Floor, make_signal

D = Decimal
WAIT_MS = int(patient(1_000))


class Scene:
    """A platform without brackets of its own, with a lot held, its stop, and a limit entry that works."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        floor.quote()
        floor.start()
        self.platform: FakePlatform = floor.platform(
            "nt8", mode="work", capabilities=structs.replace(CAN_ALL, brackets=False, reduce_only=False)
        )
        self.nexus: FakeNexus = floor.nexus()
        floor.until(lambda: self.nexus.client.is_up)
        floor.ready(1)
        self.send(make_signal("nt8", signal_id="held"))
        floor.until(lambda: self.order(OrderRole.ENTRY))
        self.platform.fill(self.order(OrderRole.ENTRY), D(1))
        floor.until(lambda: self.state(OrderRole.STOP_LOSS) is LegState.WORKING)
        self.send(make_signal("nt8", signal_id="waits", order_type=OrderType.LIMIT, limit_price=D(20_990)))
        floor.until(lambda: self.state(OrderRole.ENTRY) is LegState.WORKING)
        floor.until(lambda: self.reported("waits") is SignalState.WORKING)

    def send(self, signal: object) -> None:
        assert self.nexus.client.send(signal)

    def order(self, role: OrderRole) -> str:
        """The id of the newest order of a role at the platform; empty = none."""
        ids = [each.client_order_id for each in self.platform.placed]
        return next((each for each in reversed(ids) if find_client_order_id(each).role is role), "")

    def state(self, role: OrderRole) -> LegState | None:
        row = self.platform.working.get(self.order(role))
        return None if row is None else row.state

    def reported(self, signal_id: str) -> SignalState | None:
        report = self.nexus.report(signal_id)
        return None if report is None else report.state

    def end_nexus(self) -> None:
        self.floor.people.remove(self.nexus)
        self.nexus.client.close()

    def new_nexus(self) -> None:
        self.nexus = self.floor.nexus()
        self.floor.until(lambda: self.nexus.client.is_up)

    def losses(self) -> list[str]:
        connection = sqlite3.connect(self.floor.config.journal_path)
        try:
            rows = connection.execute("SELECT seq, payload FROM events").fetchall()
        finally:
            connection.close()
        events = [decode_event(payload, seq) for seq, payload in rows if payload is not None]
        return [event.peer for event in events if isinstance(event, NexusLost)]


@contextlib.contextmanager
def scene() -> Iterator[Scene]:
    floor = Floor(("nt8",), cancel_on_disconnect_ms=WAIT_MS)
    try:
        yield Scene(floor)
    finally:
        floor.close()


def test_a_nexus_that_is_killed_leaves_no_entry_behind_and_every_stop():
    with scene() as desk:
        desk.end_nexus()
        desk.floor.until(lambda: desk.state(OrderRole.ENTRY) is LegState.CANCELLED)
        desk.floor.until(lambda: desk.floor.counters()["engine_nexus_lost"] == 1)
        desk.floor.rest(2 * WAIT_MS / 1_000)
        assert desk.state(OrderRole.STOP_LOSS) is LegState.WORKING
        assert desk.losses() == ["nexus|nexus"]
        assert "1 working entries cancelled" in desk.floor.log()
        desk.new_nexus()
        # What is over is not sent by itself: the next process of this name asks for it, or sends it again.
        desk.send(make_signal("nt8", signal_id="waits"))
        desk.floor.until(lambda: desk.reported("waits") is SignalState.NOT_FILLED)
        report = desk.nexus.report("waits")
        assert report is not None
        assert report.text.startswith("NEXUS nexus was gone for ")
        desk.floor.until(lambda: desk.reported("held") is SignalState.FILLED)


def test_a_reconnect_in_time_changes_nothing():
    with scene() as desk:
        for _ in range(3):
            desk.end_nexus()
            desk.new_nexus()
        desk.floor.rest(2.5 * WAIT_MS / 1_000)
        assert desk.state(OrderRole.ENTRY) is LegState.WORKING
        assert desk.losses() == []


def test_a_nexus_that_does_not_come_back_after_a_restart_of_the_gateway_is_gone_too():
    with scene() as desk:
        desk.end_nexus()
        desk.floor.kill()  # before the wait is over: the session has not even ended
        assert desk.losses() == []
        desk.floor.start()
        desk.floor.until(lambda: desk.state(OrderRole.ENTRY) is LegState.CANCELLED)
        assert desk.state(OrderRole.STOP_LOSS) is LegState.WORKING
        assert desk.losses() == ["nexus|nexus"]
