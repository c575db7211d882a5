"""A desk whose platform says what cannot be true, and the snapshots that settle it."""

from __future__ import annotations

from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.state import RouteRecord
from nexus_gateway.core.messages import ContradictionKind as Kind
from nexus_gateway.core.messages import OrderRole, Side

from tests.support.orders import D, Desk

CLOSING = e.EngineSettings(client_order_id_chars=22, close_overfills=True)


class DoubtDesk(Desk):
    """`filled`: what the platform lists as executed."""

    def __init__(self, *platforms: str, **options) -> None:
        self.filled: list[m.Fill] = []
        super().__init__(*platforms or ("a",), **options)

    @property
    def route(self) -> RouteRecord:
        return self.engine.state.routes["a|acc"]

    def kinds(self) -> list[Kind]:
        return [each.kind for each in self.route.contradictions.values()]

    def prove(self, *held: tuple[str, object], fills: list[m.Fill] | None = None, orders=(), times: int = 2) -> None:
        """Complete snapshots, far enough apart from everything before."""
        for _ in range(times):
            self.wait(5_000)
            while not self.route.request_pending:
                self.wait(5_000)
            self.snapshot(positions=held, fills=self.filled if fills is None else fills, orders=orders)

    def acknowledge(self, lots: object, symbol: str = "NQ", platform: str = "a") -> m.AdminResult:
        request = m.Acknowledge(request_id=9, platform=platform, symbol=symbol, by="ops", quantity=D(str(lots)))
        self.ask(request)
        return self.answers()[-1]

    def closings(self) -> list[m.Order]:
        return [each for each in self.orders.values() if m.find_client_order_id(each.client_order_id).role in "XRH"]


def entered(lots: object = 2, **options) -> tuple[DoubtDesk, m.Order]:
    desk = DoubtDesk(**options)
    desk.signal(quantity=D(str(lots)))
    return desk, desk.only()


def bust(desk: Desk, fill: m.Fill) -> None:
    correction = m.Correction(platform="a", account="acc", exec_id=fill.exec_id, kind=m.CorrectionKind.BUST, revision=1)
    desk.give(e.AdapterSaid(message=correction))


def platform_stop(desk: DoubtDesk, order: m.Order) -> m.Order:
    """The stop that the platform has made of an entry's bracket."""
    stop_id = m.client_order_id(m.signal_key("s1"), 0, OrderRole.STOP_LOSS, 0)
    terms = {"side": Side.SELL, "order_type": m.OrderType.STOP, "stop_price": D(20990)}
    stop = structs.replace(order, client_order_id=stop_id, **terms)
    desk.update(stop)
    return stop
