"""A desk with one leg on one platform, and what the platform lists of it: for comparisons with snapshots."""

from __future__ import annotations

from decimal import Decimal as D

from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import LegState, OrderRole

from tests.support.orders import SECOND, Desk

LOST_ID = m.client_order_id("A" * 12, 0, OrderRole.ENTRY, 0, 22)


def settings(**changes) -> e.EngineSettings:
    return e.EngineSettings(client_order_id_chars=22, check_ms=30_000, proof_ms=3_600_000, **changes)


class Books(Desk):
    """A desk with one leg of two lots on `a`, its stop at work there; and what the platform lists of it."""

    def __init__(self) -> None:
        super().__init__("a", settings=settings())
        self.signal("a")
        self.entry = self.only()
        self.update(self.entry)
        self.booked = self.fill(self.entry)
        self.stop = self.only(role=OrderRole.STOP_LOSS)
        self.update(self.stop)
        self.now_ns += 60 * SECOND
        self.compare()
        self.now_ns += 60 * SECOND

    def link_up(self, platform: str, *args, **able) -> None:
        super().link_up(platform, *args, **({"brackets": False} | able))

    def listed(self, **changes) -> m.Snapshot:
        name = {"platform": "a", "account": "acc"}
        row = structs.replace(self.row(self.stop), platform_order_id=f"P-{self.stop.client_order_id[-6:]}")
        rows = {"positions": (m.Position(symbol="NQ", quantity=D(2)),), "orders": (row,), "fills": (self.booked,)}
        rows |= changes
        return m.Snapshot(
            request_id=self.engine.state.routes["a|acc"].request_id,
            **name,
            positions=m.Positions(**name, rows=rows["positions"]),
            working_orders=m.WorkingOrders(**name, rows=rows["orders"]),
            executions=m.Executions(**name, rows=rows["fills"]),
            complete=rows.get("complete", True),
        )

    def compare(self, **changes) -> None:
        self.want()
        self.give(e.AdapterSaid(message=self.listed(**changes)))

    def want(self) -> None:
        self.give(e.SnapshotWanted(platform="a", account="acc", reason="test"))

    def difference(self, **changes) -> str:
        found = self.engine.compare_snapshot(self.listed(**changes), self.now_ns)
        return "" if found is None else found.text

    def reduced(self, **changes) -> e.SnapshotChanges:
        self.want()
        event = self.engine.condense(e.AdapterSaid(message=self.listed(**changes)))
        assert isinstance(event, e.SnapshotChanges)
        return event

    def of(self, **changes) -> m.Fill:
        return structs.replace(self.booked, **changes)


ROWS = {
    "nothing new": {},
    "an execution that was lost on its way": {"fills": "booked and another"},
    "an execution at another price": {"fills": "at another price"},
    "an execution of another order": {"fills": "of no order"},
    "an execution twice": {"fills": "twice"},
    "a busted execution": {"fills": ()},
    "an order that is gone": {"orders": ()},
    "an order that ended": {"orders": "cancelled"},
    "an order of other terms": {"orders": "at another price"},
    "an order of another side": {"orders": "turned"},
    "an order of others": {"orders": "ours and theirs"},
    "an order of ours that is not known": {"orders": "ours and a lost one"},
    "another position": {"positions": (m.Position(symbol="NQ", quantity=D(3)),)},
    "another symbol": {"positions": (m.Position(symbol="ES", quantity=D(2)),)},
    "flat": {"positions": ()},
    "not complete": {"complete": False},
}


def rows_of(desk: Books, what: dict) -> dict:
    own = desk.listed().working_orders.rows[0]
    theirs = structs.replace(own, client_order_id="by hand", platform_order_id="H1")
    fills = {
        "booked and another": (desk.booked, desk.of(exec_id="lost", client_order_id="")),
        "at another price": (desk.of(price=D(20999)),),
        "of no order": (desk.of(client_order_id=""),),
        "twice": (desk.booked, desk.booked),
    }
    orders = {
        "cancelled": (structs.replace(own, state=LegState.CANCELLED),),
        "at another price": (structs.replace(own, stop_price=D(20980)),),
        "turned": (structs.replace(own, side=m.Side.BUY),),
        "ours and theirs": (own, theirs),
        "ours and a lost one": (own, structs.replace(theirs, client_order_id=LOST_ID)),
    }
    found = dict(what)
    if isinstance(what.get("fills"), str):
        found["fills"] = fills[what["fills"]]
    if isinstance(what.get("orders"), str):
        found["orders"] = orders[what["orders"]]
    return found
