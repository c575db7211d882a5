"""The engine against the paper exchange, every scenario at random: in the end the gateway believes what is true."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest
from nexus_gateway.adapters.paper.matching import make_quote
from nexus_gateway.adapters.paper.scenarios import SCENARIOS
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.risk import Stage

from tests.support.orders import market, wide_limits
from tests.support.paper import MS, NOON_NS, STEP, TICK, PaperDesk

D = Decimal


class Trading:
    """One engine, one paper platform, simulated time; what the platform says arrives at once."""

    def __init__(self, seed: int, platform: str, **paper: object) -> None:
        stage = Stage(
            name="test",
            platforms=(platform,),
            symbols=("NQ",),
            max_size=D(5),
            max_trades_per_day=1_000,
            risk_per_trade_usd=D(100_000),
            confirmation="yes",
        )
        limits = wide_limits(
            stages={1: stage},
            max_daily_loss_usd=None,
            max_drawdown_usd=None,
            max_notional_usd=None,
            collar_ticks=None,
            max_same_side_entries=None,
        )
        self.rng = Random(seed)
        settings = e.EngineSettings()
        self.engine = e.Engine(settings, limits)
        self.desk = PaperDesk(platform, seed=seed, latency_ms=3, jitter_ms=5, **paper)
        self.mid = 84_000
        self.give(e.Started(boot_id="g", settings=settings, limits=limits))
        self.give(e.LinkUp(hello=self.hello()))
        self.wait(100)

    @property
    def now_ns(self) -> int:
        return self.desk.now_ns

    @property
    def route(self):
        return next(iter(self.engine.state.routes.values()))

    def hello(self) -> m.Hello:
        desk = self.desk
        return m.Hello(
            role=m.Role.ADAPTER,
            name=desk.platform,
            boot_id="a",
            platform=desk.platform,
            account=desk.account,
            account_mode=desk.settings.account_mode(desk.platform),
            capabilities=desk.settings.capabilities(desk.platform),
        )

    def give(self, event: e.Event) -> None:
        for effect in self.engine.handle(event, self.now_ns):
            if not isinstance(effect, e.SendToPlatform):
                continue
            message = effect.message
            if isinstance(message, m.Order):
                self.desk.exchange.place(message, self.now_ns)
            elif isinstance(message, m.Cancel):
                self.desk.exchange.cancel(message, self.now_ns)
            elif isinstance(message, m.Replace):
                self.desk.exchange.replace(message, self.now_ns)
            else:
                self.give(e.AdapterSaid(message=self.desk.exchange.snapshot(message, self.now_ns)))
        self.hear()

    def hear(self) -> None:
        for report in self.desk.exchange.pop_reports(self.now_ns):
            self.give(e.AdapterSaid(message=report))

    def wait(self, ms: int) -> None:
        end_ns = self.now_ns + ms * MS
        while self.now_ns < end_ns:
            due = self.engine.next_due_ns()
            self.desk.now_ns = min(max(min(due or end_ns, self.desk.exchange.next_due_ns), self.now_ns + MS), end_ns)
            self.desk.exchange.advance(self.now_ns)
            self.hear()
            if due is not None and due <= self.now_ns:
                self.give(e.ClockTicked())

    def quote(self, step: int) -> None:
        self.mid += step
        bid = self.mid / 4
        sizes = (self.rng.randrange(1, 5), self.rng.randrange(1, 5))
        self.desk.exchange.set_quote("NQ", make_quote(bid, bid + 0.25, *sizes, TICK, STEP), self.now_ns)
        self.hear()

    def signal(self, number: int) -> None:
        rng = self.rng
        side = rng.choice(list(m.Side))
        price = D(self.mid) / 4
        away = D(rng.randrange(4, 40)) / 4 * side.sign
        limit = rng.random() < 0.4
        platform = self.desk.platform
        context = market(
            platform,
            self.now_ns,
            account=self.desk.account,
            bid=price,
            ask=price + D("0.25"),
            point_value=D(20),
        )
        signal = m.Signal(
            signal_id=f"s{number}",
            symbol="NQ",
            side=side,
            created_ns=self.now_ns,
            targets=(m.Target(platform=platform),),
            quantity=D(rng.randrange(1, 5)),
            order_type=m.OrderType.LIMIT if limit else m.OrderType.MARKET,
            limit_price=price - D(rng.randrange(0, 4)) / 4 * side.sign if limit else None,
            bracket=m.Bracket(stop_loss=price - away, take_profit=price + away) if rng.random() < 0.8 else None,
        )
        self.give(e.SignalArrived(signal=signal, markets=(context,), peer="n"))


@pytest.mark.parametrize("platform", ["nt8", "mt5"])
@pytest.mark.parametrize("seed", range(8))
def test_gateway_and_platform_agree_in_the_end(seed, platform):
    names = [name for name in SCENARIOS if not name.startswith("death") and name != "cancel_rejected"]
    trading = Trading(seed, platform, chances={name: 0.8 / len(names) for name in names})
    state = trading.engine.state
    for number in range(60):
        trading.quote(trading.rng.randrange(-3, 4))
        trading.signal(number)
        trading.wait(trading.rng.randrange(50, 3_000))
        if trading.rng.random() < 0.3:
            change = trading.rng.choice((m.SignalCancel, m.SignalClose))
            trading.give(e.NexusAsked(request=change(signal_id=f"s{trading.rng.randrange(number + 1)}"), peer="n"))
    orders = len(state.orders)
    assert orders > 15, state.counts

    for number in range(60):
        trading.give(e.NexusAsked(request=m.SignalClose(signal_id=f"s{number}"), peer="n"))
    for _ in range(60):
        trading.quote(trading.rng.randrange(-1, 2))
        trading.wait(2_000)
    desk, route = trading.desk, trading.route
    position = route.positions.get("NQ")
    assert (position.net if position is not None else 0) == desk.net()
    assert not [o for o in state.orders.values() if o.state is m.LegState.UNKNOWN]
    counted = sum(record.signed for record in state.executions.values())
    assert counted == desk.net()
    live = {order.client_order_id for order in desk.book.orders.values() if order.live and order.client_order_id}
    assert not live, "what was closed leaves no order behind"
    for record in state.orders.values():
        held = desk.book.by_client_id.get(record.order.client_order_id)
        # Lots beyond the order's size are the account's, and written off on the order. On a hedging account they are
        # part of the position that it has opened.
        assert record.cum_qty + record.written_off_qty == (held.filled if held is not None else 0)
        beyond = 0 if held is None or platform == "mt5" else max(held.filled - held.quantity, D(0))
        assert record.written_off_qty == beyond


def test_a_bracket_at_the_platform_is_known_to_the_gateway_by_its_ids():
    trading = Trading(1, "mt5")
    trading.quote(0)
    price = D(trading.mid) / 4
    context = market("mt5", NOON_NS, account=trading.desk.account, bid=price, ask=price, quote_ns=trading.now_ns)
    signal = m.Signal(
        signal_id="b",
        symbol="NQ",
        side=m.Side.BUY,
        created_ns=trading.now_ns,
        targets=(m.Target(platform="mt5"),),
        quantity=D(1),
        bracket=m.Bracket(stop_loss=price - 2, take_profit=price + 2),
    )
    trading.give(e.SignalArrived(signal=signal, markets=(context,), peer="n"))
    trading.wait(500)
    roles = {record.role for record in trading.engine.state.orders.values()}
    assert roles == {m.OrderRole.ENTRY, m.OrderRole.STOP_LOSS, m.OrderRole.TAKE_PROFIT}
    trading.quote(12)
    trading.wait(3_000)
    (leg,) = trading.engine.state.signals["b"].legs
    assert leg.open == 0
    assert leg.external_qty == 0, "closed by its own target, not by another hand"
    assert not trading.route.live
