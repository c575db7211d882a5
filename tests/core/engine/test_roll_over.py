"""Policy `roll`: closed in the old contract, opened again in the new one; what stands in the way, what is left then."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine import admission
from nexus_gateway.core.engine.rolls import roll_over
from nexus_gateway.core.messages import LegState, RejectCode, SignalState
from nexus_gateway.core.risk.day import Equity

from tests.support.orders import Desk, market, wide_limits

OLD, NEW = "NQH25", "NQM25"
SPREADS = (e.RollSpread(platform="a", old_price=D(21000), new_price=D("21180.10"), spread=D("180.10")),)


class RollDesk(Desk):
    """A desk on platform a, long two lots of the old contract. `brackets`: whether the platform keeps them."""

    def __init__(self, *, brackets: bool = True, mode: m.AccountMode = m.AccountMode.NETTING, **limits) -> None:
        super().__init__("a", limits=wide_limits(**limits))
        self.able = m.Capabilities(
            order_types=tuple(m.OrderType), times_in_force=tuple(m.TimeInForce), replace=True, brackets=brackets,
            close_by_ticket=mode is m.AccountMode.HEDGING,
        )  # fmt: skip
        self.mode = mode
        self.filled: list[m.Fill] = []
        self.present({"NQ": OLD}, [])
        bracket = m.Bracket(stop_loss=D(20990), take_profit=D(21050))
        self.signal(bracket=bracket, markets=(market("a", self.now_ns, contract=OLD, account="acc"),))
        self.trade(self.only())
        if not brackets:
            self.update(self.only(role=m.OrderRole.STOP_LOSS))
            self.update(self.only(role=m.OrderRole.TAKE_PROFIT))

    @property
    def ticket(self) -> str:
        return "T1" if self.mode is m.AccountMode.HEDGING else ""

    def trade(self, order: m.Order, quantity: object = None, **fields) -> m.Fill:
        """Fill an order; remembered for the snapshots to come."""
        opens = m.find_client_order_id(order.client_order_id).role in "ER"
        ticket = self.ticket if opens else order.close_ticket
        fill = self.fill(order, quantity, position_ticket=ticket, **fields)
        self.filled.append(fill)
        return fill

    def present(self, contracts: dict[str, str], positions: list, orders: tuple = ()) -> None:
        """A new session of the adapter with these symbols, and what the platform shows in it."""
        names = {contract: symbol for symbol, contract in contracts.items()}
        hello = m.Hello(
            role=m.Role.ADAPTER, name="a", boot_id="b1", platform="a", account="acc", account_mode=self.mode,
            capabilities=self.able,
            instruments=tuple(m.Instrument(symbol=s, platform_symbol=c, contract=c) for s, c in contracts.items()),
        )  # fmt: skip
        self.give(e.LinkUp(hello=hello))
        self.filled = [msgspec.structs.replace(fill, symbol=names[OLD]) if fill.symbol in ("NQ", OLD) else fill
                       for fill in self.filled]  # fmt: skip
        self.snapshot("a", fills=self.filled, positions=positions, orders=orders)

    def decide(self, policy: str = "roll", spreads=SPREADS, **markets) -> None:
        values = {"account": "acc", "quote_ns": self.now_ns} | markets
        told = (
            market("a", self.now_ns, **(values | {"symbol": "NQ", "contract": OLD})),
            market("a", self.now_ns, **(values | {"symbol": NEW, "contract": NEW, "bid": D(21180), "ask": D(21180)})),
        )
        self.give(e.ContractChosen(root="NQ", contract=NEW, old=OLD, policy=policy, spreads=spreads, markets=told))

    def switch(self, orders: tuple = ()) -> None:
        """The adapter has followed: the root means the new contract, the old one goes under its own name."""
        lots = sum((fill.quantity * fill.side.sign for fill in self.filled), D(0))
        self.present({"NQ": NEW, OLD: OLD}, [(OLD, lots, self.ticket)] if lots else [], orders)

    def roles(self) -> str:
        return "".join(m.find_client_order_id(name).role.value for name in self.orders)

    def legs(self):
        return self.engine.state.signals["s1"].legs

    def texts(self) -> str:
        return "\n".join(effect.text for effect in self.all_effects if isinstance(effect, e.Alert))


def rolled(desk: RollDesk) -> m.Order:
    """Up to the order that opens in the new contract."""
    desk.decide()
    desk.switch()
    closing = desk.only(role=m.OrderRole.EXIT)
    assert (closing.symbol, closing.contract, closing.quantity, closing.side) == (OLD, OLD, D(2), m.Side.SELL)
    desk.trade(closing, price=D(21010))
    return desk.only(role=m.OrderRole.ROLL)


def test_the_position_is_closed_first_and_opened_again_with_its_bracket_moved_by_the_spread():
    desk = RollDesk()
    opening = rolled(desk)
    assert (opening.symbol, opening.contract, opening.quantity, opening.side) == ("NQ", NEW, D(2), m.Side.BUY)
    # 180.10 is 180 on the tick of 0.25.
    assert (opening.stop_loss, opening.take_profit) == (D(21170), D(21230))
    assert desk.report().state is SignalState.WORKING
    assert desk.report().residual_quantity == 0
    desk.trade(opening, price=D(21190))
    report = desk.report()
    assert (report.state, report.quantity, report.filled, report.avg_price) == (SignalState.FILLED, 2, 2, D(21000))
    assert [(leg.contract, leg.open_quantity, leg.avg_price) for leg in report.legs] == [
        (OLD, D(0), D(21000)),
        (NEW, D(2), D(21190)),
    ]
    assert report.realized_usd == 2 * 10 * 2  # of the old contract alone: months are not mixed in an average
    assert "2 lots rolled over from NQH25" in desk.texts()
    assert desk.roles() == "EXR"


def test_neither_half_begins_before_the_adapter_presents_the_new_contract():
    desk = RollDesk(brackets=False)
    desk.decide()
    assert desk.roles() == "EST"  # position and stop stay as they are
    assert not desk.sent(m.Cancel)


def test_neither_half_begins_while_the_market_is_shut():
    desk = RollDesk()
    desk.decide(session_open=False)
    desk.switch()
    assert desk.roles() == "E"
    shut = market("a", desk.now_ns, contract=OLD, account="acc", symbol=OLD, session_open=False)
    desk.give(e.MarketMoved(markets=(shut,)))
    assert desk.roles() == "E"
    desk.give(e.MarketMoved(markets=(msgspec.structs.replace(shut, session_open=True),)))
    assert desk.roles() == "EX"


def test_a_shut_market_holds_back_policy_close_too_and_leaves_the_stop():
    desk = RollDesk(brackets=False)
    desk.decide("close", session_open=False)
    desk.switch()
    assert desk.roles() == "EST"
    assert not any(isinstance(x.message, m.Cancel) for x in desk.all_effects if isinstance(x, e.SendToPlatform))
    desk.give(e.NexusAsked(request=m.SignalClose(signal_id="s1")))  # no command takes the stop away either
    assert not desk.sent(m.Cancel)
    assert "its stop stays" in desk.report().legs[0].text


def test_a_bracket_of_the_gateways_own_is_placed_anew_for_what_is_open():
    desk = RollDesk(brackets=False)
    desk.decide()
    rows = tuple(desk.row(desk.only(role=role)) for role in (m.OrderRole.STOP_LOSS, m.OrderRole.TAKE_PROFIT))
    desk.switch(tuple(msgspec.structs.replace(row, symbol=OLD) for row in rows))
    assert desk.roles() == "EST"  # its stop goes first, and only then it is closed
    for role in (m.OrderRole.STOP_LOSS, m.OrderRole.TAKE_PROFIT):
        desk.update(desk.only(role=role), LegState.CANCELLED, symbol=OLD)
    desk.trade(desk.only(role=m.OrderRole.EXIT))
    opening = desk.only(role=m.OrderRole.ROLL)
    assert (opening.stop_loss, opening.take_profit) == (None, None)
    desk.trade(opening, 1)
    stop = desk.only(role=m.OrderRole.STOP_LOSS)
    assert (stop.symbol, stop.contract, stop.stop_price, stop.quantity) == ("NQ", NEW, D(21170), D(1))
    desk.update(stop)
    desk.update(desk.only(role=m.OrderRole.TAKE_PROFIT))
    desk.trade(opening, 1)
    assert sum(order.quantity for order in desk.orders.values() if order.stop_price == D(21170)) >= 1
    assert desk.roles().startswith("ESTXRST")


def test_a_hedging_account_closes_by_ticket():
    desk = RollDesk(mode=m.AccountMode.HEDGING)
    opening = rolled(desk)
    assert desk.only(role=m.OrderRole.EXIT).close_ticket == "T1"
    assert opening.close_ticket == ""


def test_closing_the_signal_later_closes_the_new_contract():
    desk = RollDesk()
    desk.trade(rolled(desk))
    desk.give(e.NexusAsked(request=m.SignalClose(signal_id="s1")))
    (closing,) = desk.sent(m.Order)
    assert (closing.symbol, closing.contract, closing.quantity, closing.side) == ("NQ", NEW, D(2), m.Side.SELL)
    assert desk.roles() == "EXRX"  # under another name than the first half's: no attempt is used twice
    desk.trade(closing)
    assert desk.report().state is SignalState.CLOSED


@pytest.mark.parametrize("moment", ["waiting", "closing", "opening"])
def test_closing_the_signal_on_the_way_ends_flat(moment):
    desk = RollDesk()
    desk.decide()
    if moment != "waiting":
        desk.switch()
    if moment == "opening":
        desk.trade(desk.only(role=m.OrderRole.EXIT))
    desk.give(e.NexusAsked(request=m.SignalClose(signal_id="s1")))
    if moment == "waiting":
        desk.switch()
    if moment == "opening":
        order = desk.only(role=m.OrderRole.ROLL)
        assert desk.sent(m.Cancel)[0].client_order_id == order.client_order_id
        desk.update(order, LegState.CANCELLED)
    else:
        desk.trade(desk.only(role=m.OrderRole.EXIT), symbol=OLD)
    for _ in range(3):
        desk.wait(1_000)
    assert desk.report().state is SignalState.CLOSED
    assert desk.roles() == ("EXR" if moment == "opening" else "EX")
    assert sum(leg.open for leg in desk.legs()) == 0


def test_a_partly_filled_entry_is_cancelled_and_what_it_holds_is_carried():
    desk = Desk("a")
    desk.__class__ = RollDesk
    desk.able, desk.mode, desk.filled = desk.engine.state.routes["a|acc"].hello.capabilities, m.AccountMode.NETTING, []
    desk.present({"NQ": OLD}, [])
    desk.signal(
        quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(20995),
        markets=(market("a", desk.now_ns, contract=OLD, account="acc"),),
    )  # fmt: skip
    entry = desk.only()
    desk.update(entry)
    desk.trade(entry, 1)
    desk.decide()
    assert [cancel.client_order_id for cancel in desk.sent(m.Cancel)] == [entry.client_order_id]
    desk.switch((msgspec.structs.replace(desk.row(entry, LegState.PARTIALLY_FILLED, 1), symbol=OLD),))
    assert desk.roles() == "E"  # nobody knows yet how many lots there are
    desk.trade(msgspec.structs.replace(entry, symbol=OLD), 1)
    desk.update(msgspec.structs.replace(entry, symbol=OLD), LegState.CANCELLED, filled=2)
    desk.trade(desk.only(role=m.OrderRole.EXIT))
    assert desk.only(role=m.OrderRole.ROLL).quantity == 2


def test_an_entry_that_never_filled_leaves_nothing_to_carry():
    desk = Desk("a")
    desk.__class__ = RollDesk
    desk.able, desk.mode, desk.filled = desk.engine.state.routes["a|acc"].hello.capabilities, m.AccountMode.NETTING, []
    desk.present({"NQ": OLD}, [])
    desk.signal(
        order_type=m.OrderType.LIMIT, limit_price=D(20995),
        markets=(market("a", desk.now_ns, contract=OLD, account="acc"),),
    )  # fmt: skip
    desk.update(desk.only())
    desk.decide()
    desk.update(desk.only(), LegState.CANCELLED)
    desk.switch()
    assert desk.report().state is SignalState.NOT_FILLED
    assert len(desk.legs()) == 1


def test_lots_that_the_stop_closed_are_not_brought_back():
    desk = RollDesk(brackets=False)
    desk.decide()
    stop = desk.only(role=m.OrderRole.STOP_LOSS)
    rows = tuple(desk.row(desk.only(role=role)) for role in (m.OrderRole.STOP_LOSS, m.OrderRole.TAKE_PROFIT))
    desk.switch(tuple(msgspec.structs.replace(row, symbol=OLD) for row in rows))
    desk.trade(msgspec.structs.replace(stop, symbol=OLD), 1)  # while its cancel is on its way
    desk.update(msgspec.structs.replace(stop, symbol=OLD), LegState.CANCELLED, filled=1)
    desk.update(desk.only(role=m.OrderRole.TAKE_PROFIT), LegState.CANCELLED, symbol=OLD)
    desk.trade(desk.only(role=m.OrderRole.EXIT))
    assert desk.only(role=m.OrderRole.ROLL).quantity == 1


def test_a_refused_second_half_is_tried_three_times_and_then_shown():
    desk = RollDesk()
    rolled(desk)
    for _ in range(3):
        desk.reject(desk.only(role=m.OrderRole.ROLL))
        desk.wait(1_000)
    assert desk.roles() == "EXRRR"
    assert "2 of 2 lots closed in NQH25 are not opened again: 3 orders ended unfilled; the last one: no" in desk.texts()
    leg = desk.report().legs[1]
    assert (leg.code, leg.open_quantity, leg.filled) == (RejectCode.PLATFORM_REJECTED, 0, 0)
    assert "2 of 2 lots" in leg.text
    assert desk.count("roll_residual") == 1
    assert desk.report().state is SignalState.CLOSED


def test_an_unknown_first_half_opens_nothing():
    desk = RollDesk()
    desk.decide()
    desk.switch()
    desk.link_down()
    for _ in range(5):
        desk.wait(1_000)
    assert desk.roles() == "EX"
    assert desk.report().state is SignalState.UNKNOWN


def test_an_unknown_second_half_is_waited_for_and_never_sent_again():
    desk = RollDesk()
    rolled(desk)
    for _ in range(10):
        desk.wait(1_000)
    assert desk.roles() == "EXR"
    assert desk.report().legs[1].state is LegState.UNKNOWN
    # Two snapshots without it: it may be gone, but the late answer of an order may still come.
    for _ in range(3):
        desk.wait(4_000)
        desk.snapshot("a", fills=desk.filled, positions=[])
        desk.wait(1_000)
    assert desk.roles() == "EXR"
    assert desk.report().legs[1].code is RejectCode.OUTCOME_UNKNOWN
    assert desk.report().legs[1].text.startswith("2 of 2 lots closed in NQH25 are not opened again: ")
    # And here it is: no more than was closed. Who was told that nothing is open there hears that it is.
    desk.trade(desk.only(role=m.OrderRole.ROLL), 1)
    leg = desk.report().legs[1]
    assert (leg.code, leg.open_quantity) == (RejectCode.OUTCOME_UNKNOWN, 1)
    assert leg.text.startswith("1 of 2 lots closed in NQH25 are not opened again; an order")
    desk.trade(desk.only(role=m.OrderRole.ROLL), 1)
    leg = desk.report().legs[1]
    assert (leg.code, leg.open_quantity) == (RejectCode.NONE, 2)
    assert leg.text == "2 lots rolled over from NQH25, by an order that was presumed lost"
    assert desk.texts().count("an order that was presumed lost") == 2
    assert desk.count("carried_late") == 2
    for _ in range(3):
        desk.wait(1_000)
    assert desk.count("carried_late") == 2


def test_the_second_half_passes_the_gate_and_says_what_it_waives(monkeypatch):
    waived = []

    def spy(turn, entry, names=frozenset()):
        waived.append(names)
        return admission.admit(turn, entry, names)

    monkeypatch.setattr(roll_over, "admit", spy)
    desk = RollDesk()
    assert rolled(desk).quantity == 2
    assert waived == [admission.WAIVED_FOR_ROLL_OVER]


def test_a_drawdown_that_lasts_does_not_end_a_trade_in_the_middle_of_its_roll():
    desk = RollDesk(max_drawdown_usd=D(100))
    desk.engine.state.day.equity["a|acc"] = Equity(day_start=D(900), peak=D(1000), now=D(900), usd_rate=D(1))
    desk.engine.state.day.drawdown_breached = True  # since yesterday, and resumed by the operator
    assert rolled(desk).quantity == 2


def test_lots_are_not_opened_minutes_later():
    desk = RollDesk()
    desk.decide()
    desk.switch()
    closing = desk.only(role=m.OrderRole.EXIT)
    fill = desk.make_fill(closing)
    desk.filled.append(fill)
    desk.link_down()
    desk.now_ns += 5_000_000_000
    desk.give(e.AdapterSaid(message=fill))
    for _ in range(61):
        desk.wait(1_000)
    assert desk.roles() == "EX"
    assert "not possible within 60000 ms" in desk.texts()


@pytest.mark.parametrize("level", [m.KillLevel.NO_NEW, m.KillLevel.REDUCE_ONLY, m.KillLevel.CANCEL_ALL])
def test_the_kill_ladder_forbids_the_second_half(level):
    desk = RollDesk()
    desk.give(e.AdminAsked(request=m.Kill(request_id=1, level=level, reason="test", by="me")))
    desk.decide()
    desk.switch()
    desk.trade(desk.only(role=m.OrderRole.EXIT))
    assert desk.roles() == "EX"
    assert desk.report().state is SignalState.CLOSED
    assert desk.report().legs[1].code is RejectCode.KILL_SWITCH


def test_flatten_on_the_way_ends_flat():
    desk = RollDesk()
    opening = rolled(desk)
    desk.give(e.AdminAsked(request=m.Kill(request_id=1, level=m.KillLevel.FLATTEN, reason="test", by="me")))
    desk.trade(opening, 1)
    desk.update(opening, LegState.CANCELLED, filled=1)
    desk.trade(desk.only(role=m.OrderRole.EXIT))
    for _ in range(5):
        desk.wait(1_000)
    assert sum(leg.open for leg in desk.legs()) == 0
    assert desk.roles() == "EXRX"


def test_a_stage_without_the_platform_forbids_the_second_half():
    desk = RollDesk()
    desk.decide()
    desk.switch()
    stages = {1: msgspec.structs.replace(desk.limits.stages[1], platforms=("b",))}
    desk.engine.state.limits = msgspec.structs.replace(desk.limits, stages=stages)
    desk.trade(desk.only(role=m.OrderRole.EXIT))
    assert desk.roles() == "EX"
    assert desk.report().legs[1].code is RejectCode.STAGE_PLATFORM


def test_a_wrong_description_of_the_new_contract_forbids_the_second_half():
    desk = RollDesk()
    desk.decide(identity_error="NQM25: multiplier was 5 at the platform, 20 in the catalog")
    desk.switch()
    desk.trade(desk.only(role=m.OrderRole.EXIT))
    leg = desk.report().legs[1]
    assert (desk.roles(), leg.code) == ("EX", RejectCode.IDENTITY_MISMATCH)
    assert "multiplier was 5 at the platform, 20 in the catalog" in leg.text


def test_the_daily_limit_neither_forbids_a_roll_nor_counts_it():
    stage = msgspec.structs.replace(wide_limits().stages[1], max_trades_per_day=1)
    desk = RollDesk(stages={1: stage})
    desk.trade(rolled(desk))
    assert len(desk.engine.state.day.trades) == 1
    assert sum(leg.open for leg in desk.legs()) == 2


def test_the_position_limit_holds_when_another_signal_has_taken_the_room():
    desk = RollDesk(max_position_default=D(3))
    opening_desk = desk
    opening_desk.decide()
    opening_desk.switch()
    closing = desk.only(role=m.OrderRole.EXIT)
    desk.update(closing)
    desk.engine.state.routes["a|acc"].positions.pop("NQ", None)
    desk.trade(closing, 1)
    desk.signal(signal_id="s2", markets=(market("a", desk.now_ns, contract=NEW, account="acc"),))
    desk.trade(desk.only())
    desk.trade(closing, 1)
    assert desk.report().legs[1].code is RejectCode.MAX_POSITION


def test_without_a_spread_a_position_with_a_stop_is_closed_only():
    desk = RollDesk()
    desk.decide(spreads=(replace_spread(None),))
    desk.switch()
    desk.trade(desk.only(role=m.OrderRole.EXIT))
    assert desk.roles() == "EX"
    assert "the stop has no price" in desk.report().legs[1].text


def replace_spread(spread: D | None) -> e.RollSpread:
    return e.RollSpread(platform="a", old_price=None, new_price=D(21180), spread=spread)


def test_the_spread_of_other_platforms_stands_in():
    desk = RollDesk()
    other = e.RollSpread(platform="b", old_price=D(1), new_price=D(2), spread=D(150))
    desk.decide(spreads=(replace_spread(None), other))
    desk.switch()
    desk.trade(desk.only(role=m.OrderRole.EXIT))
    assert desk.only(role=m.OrderRole.ROLL).stop_loss == D(21140)


def test_a_platform_that_is_down_rolls_when_it_is_back():
    desk = RollDesk()
    desk.link_down()
    desk.decide()
    for _ in range(100):
        desk.wait(1_000)
    assert desk.roles() == "E"
    desk.switch()
    desk.trade(desk.only(role=m.OrderRole.EXIT))
    assert desk.roles() == "EXR"


def test_a_roll_goes_on_from_the_journal_at_every_event():
    """Kill -9 between any two events: the rebuilt engine does what the first one would have done."""
    desk = RollDesk(brackets=False)
    desk.decide()
    rows = tuple(desk.row(desk.only(role=role)) for role in (m.OrderRole.STOP_LOSS, m.OrderRole.TAKE_PROFIT))
    desk.switch(tuple(msgspec.structs.replace(row, symbol=OLD) for row in rows))
    for role in (m.OrderRole.STOP_LOSS, m.OrderRole.TAKE_PROFIT):
        desk.update(desk.only(role=role), LegState.CANCELLED, symbol=OLD)
    desk.trade(desk.only(role=m.OrderRole.EXIT))
    desk.trade(desk.only(role=m.OrderRole.ROLL))
    for cut in range(1, len(desk.events)):
        engine = e.Engine(desk.settings, desk.limits)
        for at_ns, event in desk.events[:cut]:
            engine.handle(event, at_ns)
        engine = e.Engine.load(engine.save())
        sent = []
        for at_ns, event in desk.events[cut:]:
            sent += [x.message for x in engine.handle(event, at_ns) if isinstance(x, e.SendToPlatform)]
        assert engine.digest() == desk.engine.digest()


def test_two_rolls_in_a_row_move_the_bracket_twice():
    desk = RollDesk()
    desk.trade(rolled(desk), price=D(21190))
    later = "NQU25"
    told = (
        market("a", desk.now_ns, account="acc", symbol="NQ", contract=NEW),
        market("a", desk.now_ns, account="acc", symbol=later, contract=later),
    )
    spreads = (replace_spread(D(100)),)
    desk.give(e.ContractChosen(root="NQ", contract=later, old=NEW, policy="roll", spreads=spreads, markets=told))
    hello = msgspec.structs.replace(
        desk.engine.state.routes["a|acc"].hello,
        instruments=tuple(
            m.Instrument(symbol=s, platform_symbol=c, contract=c) for s, c in (("NQ", later), (NEW, NEW))
        ),
    )
    desk.give(e.LinkUp(hello=hello))
    fills = [msgspec.structs.replace(fill, symbol=NEW) if fill.symbol == "NQ" else fill for fill in desk.filled]
    desk.snapshot("a", fills=fills, positions=[(NEW, 2)])
    desk.trade(desk.only(role=m.OrderRole.EXIT), price=D(21190))
    opening = desk.only(role=m.OrderRole.ROLL)
    assert (opening.contract, opening.stop_loss) == (later, D(21270))
    assert desk.report().quantity == 2
