"""A small trading desk for tests of the engine: one engine, hand-written answers of platforms, no simulation."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.invariants import check
from nexus_gateway.core.risk import Limits, MarketContext, Stage, read_limits

from tests.simulation.due_times import find_lost
from tests.support.settling import find_missed_steps

D = Decimal
MS = 1_000_000
SECOND = 1_000 * MS
T0 = 1_760_000_000 * SECOND
CONFIG = Path(__file__).parents[2] / "config" / "risk_limits.yaml"


def wide_limits(**changes: object) -> Limits:
    """The shipped limits with a stage that allows the test platforms, and no look-alike window."""
    shipped = read_limits(CONFIG)
    stage = Stage(
        name="test",
        platforms=("a", "b", "c"),
        symbols=("NQ", "ES"),
        max_size=D(5),
        max_trades_per_day=50,
        risk_per_trade_usd=D(1000),
        confirmation="yes",
    )
    values = {name: getattr(shipped, name) for name in Limits.__struct_fields__}
    values |= {"stage": 1, "stages": {1: stage}, "lookalike_window_ms": 0, "max_position_default": D(20)}
    return Limits(**(values | changes))


def market(platform: str, now_ns: int, **changes: object) -> MarketContext:
    values: dict = {
        "platform": platform,
        "symbol": "NQ",
        "tick_size": D("0.25"),
        "lot_step": D(1),
        "point_value": D(2),
        "bid": D("20999.75"),
        "ask": D(21000),
        "quote_ns": now_ns,
    }
    return MarketContext(**(values | changes))


class Desk:
    """`effects` holds those of the last call; `orders` every order sent, by client order id. `checks`: the engine's
    invariants are looked at after every event, and that it has left no signal that would take another step.
    """

    checks = True

    def __init__(self, *platforms: str, limits: Limits | None = None, settings: e.EngineSettings | None = None):
        self.settings = settings or e.EngineSettings(client_order_id_chars=22)
        self.limits = limits or wide_limits()
        self.engine = e.Engine(self.settings, self.limits)
        self.now_ns = T0
        self.effects: list = []
        self.all_effects: list = []
        self.events: list = []
        self.orders: dict[str, m.Order] = {}
        self.numbers = 0
        self.give(e.Started(boot_id="g1", settings=self.settings, limits=self.limits))
        for platform in platforms or ("a",):
            self.link_up(platform)

    def give(self, event: e.Event) -> list:
        event = self.engine.condense(event)  # as the gateway does
        self.events.append((self.now_ns, event))
        self.effects = [*self.engine.handle(event, self.now_ns), *self.engine.pop_reports()]
        self.all_effects += self.effects
        found = self.find_faults() if self.checks else []
        assert found == [], f"after {e.describe_event(event)}: {found}"
        for message in self.sent(m.Order):
            assert message.client_order_id not in self.orders, "an order was sent twice"
            self.orders[message.client_order_id] = message
        return self.effects

    def find_faults(self) -> list[str]:
        return [*check(self.engine.state), *find_missed_steps(self.engine.state), *find_lost(self.engine)]

    def sent(self, kind: type) -> list:
        return [x.message for x in self.effects if isinstance(x, e.SendToPlatform) and isinstance(x.message, kind)]

    def told(self) -> list:
        return [x.message for x in self.effects if isinstance(x, e.TellNexus)]

    def answers(self) -> list:
        return [x.message for x in self.effects if isinstance(x, e.AnswerAdmin)]

    def report(self, signal_id: str = "s1") -> m.Report:
        return self.engine.report(signal_id)

    def link_up(self, platform: str, mode: m.AccountMode = m.AccountMode.NETTING, answer: bool = True, **able) -> None:
        values = {
            "order_types": tuple(m.OrderType),
            "times_in_force": tuple(m.TimeInForce),
            "replace": True,
            "brackets": True,
        }
        self.give(
            e.LinkUp(
                hello=m.Hello(
                    role=m.Role.ADAPTER,
                    name=platform,
                    boot_id="b1",
                    platform=platform,
                    account="acc",
                    account_mode=mode,
                    capabilities=m.Capabilities(**(values | able)),
                )
            )
        )
        if answer:
            self.snapshot(platform)

    def link_down(self, platform: str = "a") -> None:
        self.give(e.LinkDown(platform=platform, account="acc"))

    @property
    def wall_ns(self) -> int:
        """The wall clock; `now_ns` is the engine's time."""
        return self.now_ns + self.engine.state.wall_offset_ns

    def step_clock(self, seconds: int) -> list:
        return self.give(e.ClockStepped(step_ns=seconds * SECOND))

    def wait(self, ms: int) -> list:
        self.now_ns += ms * MS
        return self.give(e.ClockTicked())

    def make_signal(self, *platforms: str, **fields) -> m.Signal:
        values: dict = {
            "signal_id": "s1",
            "symbol": "NQ",
            "side": m.Side.BUY,
            "created_ns": self.wall_ns,
            "targets": tuple(m.Target(platform=p) for p in platforms or ("a",)),
            "quantity": D(2),
            "bracket": m.Bracket(stop_loss=D(20990) if fields.get("side") != m.Side.SELL else D(21010)),
        }
        if "risk_usd" in fields:
            values["quantity"] = None
        return m.Signal(**(values | fields))

    def signal(self, *platforms: str, markets: tuple | None = None, **fields) -> list:
        if markets is None:
            markets = tuple(market(p, self.wall_ns) for p in platforms or ("a",))
        return self.give(e.SignalArrived(signal=self.make_signal(*platforms, **fields), markets=markets, peer="nexus"))

    def ask(self, request, markets: tuple | None = None) -> list:
        """As the gateway does, a replace comes with the market of each leg: `markets`, or a fresh one."""
        if not isinstance(request, m.SignalCancel | m.SignalReplace | m.SignalClose):
            return self.give(e.AdminAsked(request=request, peer="desk"))
        record = self.engine.state.signals.get(request.signal_id)
        if markets is None and isinstance(request, m.SignalReplace) and record is not None:
            markets = tuple(
                market(leg.platform, self.wall_ns, account=leg.account, symbol=leg.symbol) for leg in record.legs
            )
        return self.give(e.NexusAsked(request=request, peer="desk", markets=markets or ()))

    def only(self, platform: str = "a", role: m.OrderRole = m.OrderRole.ENTRY) -> m.Order:
        """The newest order of this platform and role."""
        found = [
            order
            for order in self.orders.values()
            if order.platform == platform and m.find_client_order_id(order.client_order_id).role is role
        ]
        return found[-1]

    def update(self, order: m.Order, state: m.LegState = m.LegState.WORKING, filled: object = 0, **fields) -> list:
        values: dict = {
            "client_order_id": order.client_order_id,
            "platform": order.platform,
            "account": order.account,
            "symbol": order.symbol,
            "side": order.side,
            "state": state,
            "quantity": order.quantity,
            "filled": D(str(filled)),
            "platform_order_id": f"P-{order.client_order_id[-6:]}",
            "order_type": order.order_type,
            "limit_price": order.limit_price,
            "stop_price": order.stop_price,
        }
        return self.give(e.AdapterSaid(message=m.OrderUpdate(**(values | fields))))

    def make_fill(self, order: m.Order, quantity: object = None, **fields) -> m.Fill:
        self.numbers += 1
        values: dict = {
            "platform": order.platform,
            "account": order.account,
            "exec_id": f"x{self.numbers}",
            "client_order_id": order.client_order_id,
            "symbol": order.symbol,
            "side": order.side,
            "quantity": order.quantity if quantity is None else D(str(quantity)),
            "price": D(21000),
            "ts_event_ns": self.wall_ns,
        }
        return m.Fill(**(values | fields))

    def fill(self, order: m.Order, quantity: object = None, **fields) -> m.Fill:
        fill = self.make_fill(order, quantity, **fields)
        self.give(e.AdapterSaid(message=fill))
        return fill

    def reject(self, order: m.Order, code: m.RejectCode = m.RejectCode.PLATFORM_REJECTED, **fields) -> list:
        reject = m.Reject(code=code, text="no", client_order_id=order.client_order_id, **fields)
        return self.give(e.AdapterSaid(message=reject))

    def snapshot(self, platform: str = "a", **fields) -> list:
        """Answer the pending snapshot request of a platform."""
        return self.give(e.AdapterSaid(message=self.make_snapshot(platform, **fields)))

    def make_snapshot(
        self, platform: str = "a", orders=(), fills=(), positions=(), complete: bool = True, **fields
    ) -> m.Snapshot:
        route = self.engine.state.routes[f"{platform}|acc"]
        name = {"platform": platform, "account": "acc"}
        rows = tuple(m.Position(symbol=p[0], quantity=D(p[1]), ticket=p[2] if len(p) > 2 else "") for p in positions)
        return m.Snapshot(
            request_id=fields.pop("request_id", route.request_id),
            **name,
            positions=m.Positions(**name, rows=rows),
            working_orders=m.WorkingOrders(**name, rows=tuple(orders)),
            executions=m.Executions(**name, rows=tuple(fills), from_ns=fields.pop("from_ns", 0)),
            complete=complete,
            **fields,
        )

    def row(self, order: m.Order, state: m.LegState = m.LegState.WORKING, filled: object = 0) -> m.WorkingOrder:
        return m.WorkingOrder(
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            state=state,
            quantity=order.quantity,
            filled=D(str(filled)),
            platform_order_id="P1",
            order_type=order.order_type,
            limit_price=order.limit_price,
            stop_price=order.stop_price,
        )

    def position(self, platform: str = "a", symbol: str = "NQ") -> Decimal:
        return self.engine.state.routes[f"{platform}|acc"].positions[symbol].net

    def count(self, name: str) -> int:
        return self.engine.state.counts.get(name, 0)
