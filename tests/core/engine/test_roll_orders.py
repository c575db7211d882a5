"""What a roll does to orders and positions: months never add up, and a closing order goes where its position is."""

from __future__ import annotations

from decimal import Decimal as D

from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import LegState, RejectCode, SignalState

from tests.support.orders import Desk, market

OLD, NEW = "NQH25", "NQM25"


def hello(platform: str, **contracts: str) -> m.Hello:
    return m.Hello(
        role=m.Role.ADAPTER,
        name=platform,
        boot_id="b1",
        platform=platform,
        account="acc",
        capabilities=m.Capabilities(
            order_types=tuple(m.OrderType), times_in_force=tuple(m.TimeInForce), replace=True, brackets=True
        ),
        instruments=tuple(m.Instrument(symbol=s, platform_symbol=c, contract=c) for s, c in contracts.items()),
    )


def chosen(policy: str = "hold") -> e.ContractChosen:
    spreads = (e.RollSpread(platform="a", old_price=D(21000), new_price=D(21180), spread=D(180)),)
    return e.ContractChosen(root="NQ", contract=NEW, old=OLD, policy=policy, spreads=spreads)  # type: ignore[arg-type]


class RollDesk(Desk):
    """A desk on platform a, long two lots of the old contract."""

    def __init__(self) -> None:
        super().__init__("a")
        self.fills: list[m.Fill] = []
        self.present(NQ=OLD)
        self.signal(markets=(market("a", self.now_ns, contract=OLD, account="acc"),))
        self.fills.append(self.fill(self.only()))
        assert self.only().contract == OLD

    def present(self, **contracts: str) -> None:
        """A new session of the adapter, whose symbols are these contracts; what it holds is shown."""
        self.give(e.LinkUp(hello=hello("a", **contracts)))
        name = next(symbol for symbol, contract in contracts.items() if contract == OLD)
        lots = [(name, 2)] if self.fills else []
        self.snapshot("a", fills=[m.Fill(**{k: getattr(f, k) for k in f.__struct_fields__} | {"symbol": name})
                                  for f in self.fills], positions=lots)  # fmt: skip

    def texts(self) -> list[str]:
        return [effect.text for effect in self.all_effects if isinstance(effect, e.Alert)]

    def route(self):
        return self.engine.state.routes["a|acc"]


def test_hold_leaves_the_position_and_tells_the_user():
    desk = RollDesk()
    desk.give(chosen())
    assert desk.engine.state.contracts["NQ"].contract == NEW
    assert any("NQH25 to NQM25" in text and "180" in text for text in desk.texts())
    assert any("2 lots and 0 working orders stay on NQH25" in text for text in desk.texts())
    assert not desk.sent(m.Order)


def test_the_old_position_goes_on_under_its_contracts_own_name():
    desk = RollDesk()
    desk.give(chosen())
    desk.present(NQ=NEW, NQH25=OLD)
    assert "NQ" not in desk.route().positions
    assert desk.route().positions[OLD].net == 2
    leg = desk.engine.state.signals["s1"].legs[0]
    assert (leg.symbol, leg.open) == (OLD, 2)
    assert desk.count("position_drift") == 0


def test_a_position_that_is_renamed_in_a_shut_market_is_known_as_shut_until_it_opens():
    """Closing orders that wait are woken by the change to open: a position renamed as open would show no change."""
    desk = RollDesk()
    shut = market("a", desk.now_ns, contract=OLD, account="acc", session_open=False, session_change_ns=desk.now_ns)
    desk.give(e.MarketMoved(markets=(shut,)))
    desk.give(chosen())
    desk.present(NQ=NEW, **{OLD: OLD})
    position = desk.engine.state.routes["a|acc"].positions[OLD]
    assert (position.session_open, position.session_change_ns) == (False, shut.session_change_ns)


def test_a_platform_that_is_left_behind_is_named_and_gets_no_order():
    desk = RollDesk()
    reason = "a: has no quote of NQM25"
    desk.give(e.ContractChosen(root="NQ", contract=NEW, old=OLD, left_behind=(reason,)))
    assert any(text.startswith(f"{reason}: it gets no order of NQ") for text in desk.texts())
    desk.signal(signal_id="s2", markets=(market("a", desk.now_ns, contract=OLD, account="acc"),))
    leg = desk.report("s2").legs[0]
    assert leg.code is RejectCode.IDENTITY_MISMATCH
    assert "contract was NQH25 on a, NQM25 is in front" in leg.text


def test_a_hedge_is_not_opened_in_the_contract_before():
    desk = Desk("a", "b")
    both = tuple(market(name, desk.now_ns, contract=OLD, account="acc") for name in ("a", "b"))
    policy = m.FanOut(kind=m.FanOutKind.PRIMARY_THEN_HEDGE)
    desk.signal("a", "b", markets=both, policy=policy)
    desk.give(chosen())
    desk.fill(desk.only())
    assert [order.platform for order in desk.orders.values()] == ["a"]
    leg = desk.report().legs[1]
    assert (leg.code, leg.text) == (RejectCode.CONTRACT_EXPIRED, "2 lots are not hedged: the contract was rolled")


def test_closing_after_the_roll_goes_to_the_old_contract():
    desk = RollDesk()
    desk.give(chosen())
    desk.present(NQ=NEW, NQH25=OLD)
    # A newer quote of the universal name is one of the new contract, and none for this leg.
    desk.give(e.MarketMoved(markets=(market("a", desk.now_ns, contract=NEW, account="acc"),)))
    desk.give(e.NexusAsked(request=m.SignalClose(signal_id="s1")))
    exits = [order for order in desk.orders.values() if order.side is m.Side.SELL]
    assert [(order.symbol, order.contract, order.quantity) for order in exits] == [(OLD, OLD, D(2))]


def test_close_closes_our_legs_on_the_old_contract():
    desk = RollDesk()
    desk.give(chosen("close"))
    exits = [order for order in desk.orders.values() if order.side is m.Side.SELL]
    assert [(order.contract, order.quantity) for order in exits] == [(OLD, D(2))]


def test_nothing_opens_on_the_old_contract_any_more():
    desk = RollDesk()
    desk.give(chosen())
    desk.present(NQ=NEW, NQH25=OLD)
    old = market("a", desk.now_ns, contract=OLD, account="acc", symbol=OLD)
    desk.signal(signal_id="s2", symbol=OLD, markets=(old,))
    report = desk.report("s2")
    assert report.state is SignalState.REJECTED
    assert report.legs[0].code is RejectCode.CONTRACT_EXPIRED
    assert "trade NQ" in report.legs[0].text


def test_the_old_position_counts_against_the_limit_of_its_root():
    desk = RollDesk()
    desk.engine.state.limits = desk.limits = type(desk.limits)(
        **{name: getattr(desk.limits, name) for name in desk.limits.__struct_fields__} | {"max_position_default": D(3)}
    )
    desk.give(chosen())
    desk.present(NQ=NEW, NQH25=OLD)
    desk.signal(signal_id="s2", markets=(market("a", desk.now_ns, contract=NEW, account="acc"),))
    assert desk.report("s2").legs[0].code is RejectCode.MAX_POSITION


def test_a_working_order_keeps_its_name_through_the_roll():
    desk = Desk("a")
    desk.give(e.LinkUp(hello=hello("a", NQ=OLD)))
    desk.snapshot("a")
    desk.signal(
        order_type=m.OrderType.LIMIT,
        limit_price=D(20995),
        markets=(market("a", desk.now_ns, contract=OLD, account="acc"),),
    )
    desk.update(desk.only())
    desk.give(chosen())
    desk.give(e.LinkUp(hello=hello("a", NQ=NEW, NQH25=OLD)))
    order = desk.engine.state.orders[desk.only().client_order_id]
    assert (order.order.symbol, order.state) == (OLD, LegState.WORKING)
    desk.give(e.NexusAsked(request=m.SignalCancel(signal_id="s1")))
    assert [cancel.symbol for cancel in desk.sent(m.Cancel)] == [OLD]


def test_mixed_months_are_refused_with_both_named():
    desk = Desk("a", "b")
    mixed = (market("a", desk.now_ns, contract=OLD), market("b", desk.now_ns, contract=NEW))
    desk.signal("a", "b", markets=mixed)
    report = desk.report()
    assert (report.state, report.code) == (SignalState.REJECTED, RejectCode.IDENTITY_MISMATCH)
    assert "a NQH25" in report.text
    assert "b NQM25" in report.text


def test_a_platform_that_was_left_behind_does_not_stop_the_others():
    desk = Desk("a", "b")
    desk.give(e.ContractChosen(root="NQ", contract=NEW, old=OLD))
    mixed = (market("a", desk.now_ns, contract=OLD), market("b", desk.now_ns, contract=NEW))
    desk.signal("a", "b", markets=mixed)
    assert [order.platform for order in desk.orders.values()] == ["b"]
    assert [leg.code for leg in desk.report().legs] == [RejectCode.IDENTITY_MISMATCH, RejectCode.NONE]
    all_of_them = m.FanOut(kind=m.FanOutKind.ALL_OR_FLATTEN)
    desk.signal("a", "b", signal_id="s2", markets=mixed, policy=all_of_them)
    assert desk.report("s2").state is SignalState.REJECTED
    assert len(desk.orders) == 1


def test_a_cfd_beside_a_future_is_no_mixed_month():
    desk = Desk("a", "b")
    desk.signal("a", "b", markets=(market("a", desk.now_ns, contract=OLD), market("b", desk.now_ns)))
    assert desk.report().state is SignalState.WORKING


def test_the_decision_survives_a_checkpoint():
    desk = RollDesk()
    desk.give(chosen())
    loaded = e.Engine.load(desk.engine.save())
    assert loaded.state.contracts["NQ"].contract == NEW
    assert loaded.digest() == desk.engine.digest()
