"""A platform's lies: what it says is altered on its way to the gateway, once or for a while; what it holds is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from msgspec import structs
from nexus_gateway.core import messages as m

from tests.simulation.faults import Faults
from tests.simulation.schedule import SECOND, Schedule

Told = TypeVar("Told", m.OrderUpdate, m.WorkingOrder)
ELSEWHERE = "ES"
"""A symbol that no platform of the simulation trades."""


@dataclass
class Liar:
    """`standing`: executions that are told wrongly in snapshots, too, and until when."""

    schedule: Schedule
    faults: Faults
    standing: dict[tuple[str, int, str], tuple[m.Fill, int]] = field(default_factory=dict)

    def tell(self, message: object) -> object | None:
        """The message as the platform tells it; None: it says nothing."""
        match message:
            case m.Fill():
                return self._tell_fill(message)
            case m.OrderUpdate():
                return self._tell_order(message)
            case m.Correction(kind=m.CorrectionKind.CORRECT) if self.faults.strike("lie", self.schedule):
                return structs.replace(message, quantity=message.quantity + 5)
            case m.Snapshot():
                return self._tell_snapshot(message)
            case _:
                return message

    def _tell_fill(self, fill: m.Fill) -> m.Fill:
        if not self.faults.strike("lie", self.schedule):
            return fill
        rng = self.schedule.rng
        other = {
            "side": fill.side.opposite,
            "symbol": ELSEWHERE,
            "quantity": fill.quantity + rng.randrange(4, 9),  # more than any order has left: else nobody could know
            "price": fill.price * 3 if rng.random() < 0.5 else fill.price + Decimal("0.1"),
        }
        name = rng.choice(list(other))
        told = structs.replace(fill, **{name: other[name]})
        if rng.random() < 0.4:
            self.standing[_key(fill)] = told, self.schedule.now_ns + rng.randrange(2, 30) * SECOND
        return told

    def _tell_order(self, order: Told) -> Told:
        if not self.faults.strike("lie_about_order", self.schedule):
            return order
        other = {"side": order.side.opposite, "symbol": ELSEWHERE, "filled": order.quantity + 2}
        name = self.schedule.rng.choice(list(other))
        return structs.replace(order, **{name: other[name]})

    def _tell_snapshot(self, snapshot: m.Snapshot) -> m.Snapshot | None:
        if self.faults.strike("swallowed_snapshot", self.schedule):
            return None
        executions = tuple(self._as_it_stands(fill) for fill in snapshot.executions.rows)
        orders = tuple(self._tell_order(row) for row in snapshot.working_orders.rows)
        positions = snapshot.positions.rows
        if positions and self.faults.strike("lie_about_position", self.schedule):
            positions = (structs.replace(positions[0], quantity=positions[0].quantity + 1), *positions[1:])
        told = structs.replace(
            snapshot,
            executions=structs.replace(snapshot.executions, rows=executions),
            working_orders=structs.replace(snapshot.working_orders, rows=orders),
            positions=structs.replace(snapshot.positions, rows=positions),
        )
        if self.faults.strike("incomplete_part", self.schedule):
            name = self.schedule.rng.choice(["positions", "working_orders", "executions"])
            part = getattr(told, name)
            told = structs.replace(told, **{name: structs.replace(part, rows=part.rows[1:], complete=False)})
        return told

    def _as_it_stands(self, fill: m.Fill) -> m.Fill:
        told, until_ns = self.standing.get(_key(fill), (fill, 0))
        return told if self.schedule.now_ns < until_ns and self.faults.lie else fill


def _key(fill: m.Fill) -> tuple[str, int, str]:
    return fill.exec_id, fill.ts_event_ns, fill.client_order_id
