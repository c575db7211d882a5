"""The gate for what adds risk: every rule for every caller, and nothing that reduces is judged."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine import admission
from nexus_gateway.core.engine.admission import Entry, admit
from nexus_gateway.core.engine.effects import RiskChecked
from nexus_gateway.core.engine.signals import arrival, changes
from nexus_gateway.core.engine.state import PositionRecord
from nexus_gateway.core.engine.turn import Turn
from nexus_gateway.core.messages import RejectCode
from nexus_gateway.core.risk.day import Equity

from tests.support.orders import SECOND, D, Desk, market, wide_limits

CALLERS = {
    "entry": admission.NOTHING_WAIVED,
    "hedge": admission.WAIVED_FOR_HEDGE,
    "replace": admission.WAIVED_FOR_REPLACE,
    "roll_over": admission.WAIVED_FOR_ROLL_OVER,
}


class Case:
    """A working limit entry of 2 lots that would grow to 3, and everything about it that a rule may look at."""

    def __init__(self) -> None:
        self.desk = Desk("a")
        self.desk.signal(quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
        self.desk.update(self.desk.only())
        self.state = self.desk.engine.state
        self.record = self.state.signals["s1"]
        self.leg = self.record.legs[0]
        self.route = self.state.routes["a|acc"]
        self.market: dict = {}
        self.entry: dict = {}

    def limits(self, **values: object) -> None:
        self.state.limits = structs.replace(self.state.limits, **values)

    def stage(self, **values: object) -> None:
        self.limits(stages={1: structs.replace(self.state.limits.stages[1], **values)})

    def able(self, **values: object) -> None:
        hello = self.route.hello
        self.route.hello = structs.replace(hello, capabilities=structs.replace(hello.capabilities, **values))

    def admit(self, waived: frozenset[RejectCode]) -> tuple[RejectCode, str, list]:
        turn = Turn(self.state, self.desk.now_ns)
        values: dict = {
            "record": self.record,
            "leg": self.leg,
            "market": market("a", self.desk.now_ns, **self.market),
            "quantity": D(3),
            "added": D(1),
            "order_type": m.OrderType.LIMIT,
            "prices": (D(21000),),
        }
        return (*admit(turn, Entry(**(values | self.entry)), waived), turn.effects)


def _unknown(case: Case) -> None:
    case.desk.signal(signal_id="s2")
    case.desk.wait(10_000)
    assert case.desk.engine.state.orders[case.desk.only().client_order_id].state is m.LegState.UNKNOWN


def _opposed(case: Case) -> None:
    case.desk.engine.state.routes["a|acc"].positions["NQ"] = PositionRecord(net=D(-2), external=D(-2))


def _loss(case: Case, limit: str) -> None:
    case.limits(**{limit: D(100)})
    case.state.day.realized_usd = D(-100)
    case.state.day.equity["a|acc"] = Equity(day_start=D(1000), peak=D(1000), now=D(900), usd_rate=D(1))


BREAKS: list[tuple[RejectCode, Callable[[Case], object]]] = [
    (RejectCode.KILL_SWITCH, lambda c: setattr(c.state, "kill", m.KillLevel.NO_NEW)),
    (RejectCode.PLATFORM_NOT_READY, lambda c: c.desk.link_down()),
    (RejectCode.PLATFORM_NOT_READY, lambda c: setattr(c.route, "overdue_since_ns", 1)),
    (RejectCode.CONTRADICTION, lambda c: c.desk.update(c.desk.only(), side=m.Side.SELL)),
    (RejectCode.OUTCOME_UNKNOWN, _unknown),
    (RejectCode.IDENTITY_MISMATCH, lambda c: c.market.update(identity_error="tick was 1, catalog says 0.25")),
    (RejectCode.IDENTITY_MISMATCH, lambda c: (c.state.contracts.update(NQ=e.ContractRecord(contract="NQM25")),
                                              c.market.update(contract="NQH25"))),
    (RejectCode.CONTRACT_EXPIRED, lambda c: c.market.update(expiry_ns=1)),
    (RejectCode.CONTRACT_EXPIRED, lambda c: c.route.retired.update(NQ="NQ")),
    (RejectCode.POSITION_MISMATCH, lambda c: c.route.positions.update(NQ=PositionRecord(blocked=True))),
    (RejectCode.POSITION_MISMATCH, lambda c: c.route.positions.update(NQ=PositionRecord(mismatch_snapshots=1))),
    (RejectCode.UNSUPPORTED_TYPE, lambda c: c.able(order_types=(m.OrderType.MARKET,))),
    (RejectCode.UNSUPPORTED_TIF, lambda c: c.able(times_in_force=(m.TimeInForce.IOC,))),
    (RejectCode.UNSUPPORTED_BRACKET, lambda c: (setattr(c.leg, "protection", m.Protection.GATEWAY),
                                                c.able(order_types=(m.OrderType.LIMIT,)))),
    (RejectCode.OPPOSED_POSITION, _opposed),
    (RejectCode.NOT_FINITE, lambda c: c.entry.update(prices=(D("NaN"),))),
    (RejectCode.NO_MARKET_CONTEXT, lambda c: c.entry.update(market=None)),
    (RejectCode.STALE_RATE, lambda c: c.market.update(currency="BRL")),
    (RejectCode.STALE_RATE, lambda c: setattr(c.state.day, "unpriced", True)),
    (RejectCode.STAGE_PLATFORM, lambda c: c.stage(platforms=("b",))),
    (RejectCode.STAGE_SYMBOL, lambda c: c.stage(symbols=("ES",))),
    (RejectCode.MAX_SIZE, lambda c: c.stage(max_size=D(2))),
    (RejectCode.MAX_TRADES_PER_DAY, lambda c: (c.stage(max_trades_per_day=1), c.state.day.trades.update(other=1))),
    (RejectCode.RISK_PER_TRADE, lambda c: c.stage(risk_per_trade_usd=D(59))),
    (RejectCode.RISK_NOT_MEASURABLE, lambda c: setattr(c.leg, "bracket", None)),
    (RejectCode.BRACKET_INVALID, lambda c: c.entry.update(prices=(D(20990),))),
    (RejectCode.NOT_ON_LOT_STEP, lambda c: c.market.update(lot_step=D(2))),
    (RejectCode.NOT_ON_TICK, lambda c: c.entry.update(prices=(D("21000.10"),))),
    (RejectCode.SESSION_CLOSED, lambda c: c.market.update(session_open=False)),
    (RejectCode.STALE_QUOTE, lambda c: c.market.update(quote_ns=c.desk.now_ns - 60 * SECOND)),
    (RejectCode.BAD_QUOTE, lambda c: c.market.update(ask=None)),
    (RejectCode.PRICE_COLLAR, lambda c: c.limits(collar_ticks=0) or c.entry.update(prices=(D("20999.5"),))),
    (RejectCode.MAX_POSITION, lambda c: c.limits(max_position_default=D(3))),
    (RejectCode.MAX_NOTIONAL, lambda c: c.limits(max_notional_usd=D(125_999))),
    (RejectCode.DAILY_LOSS, lambda c: _loss(c, "max_daily_loss_usd")),
    (RejectCode.DRAWDOWN, lambda c: _loss(c, "max_drawdown_usd")),
    (RejectCode.ORDER_RATE, lambda c: c.limits(max_orders_per_s=1)),
    (RejectCode.REPEATED_ENTRIES, lambda c: c.limits(max_same_side_entries=1)),
    (RejectCode.LATCHED, lambda c: c.state.latches.update({"repeated_entries|a|acc|NQ|buy": "too many"})),
    (RejectCode.MAX_WORKING_ORDERS, lambda c: c.limits(max_working_orders=1)),
    (RejectCode.MAX_WORKING_ORDERS, lambda c: c.limits(max_working_orders_per_platform=1)),
    (RejectCode.MAX_TRADED_NOTIONAL, lambda c: c.limits(max_traded_notional_usd=D(125_999))),
    (RejectCode.MESSAGES_PER_FILL, lambda c: c.limits(max_messages_per_fill=1, messages_before_ratio=0)),
]  # fmt: skip


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("code", "break_rule"), BREAKS, ids=[f"{code}-{n}" for n, (code, _) in enumerate(BREAKS)])
def test_every_rule_for_every_caller(code, break_rule, caller):
    case = Case()
    assert case.admit(CALLERS[caller])[0] is RejectCode.NONE
    case = Case()
    break_rule(case)
    found, text, effects = case.admit(CALLERS[caller])
    waived = code in CALLERS[caller]
    assert found is (RejectCode.NONE if waived else code), text
    findings = [each for effect in effects if isinstance(effect, RiskChecked) for each in effect.findings]
    if waived:
        assert any(each.code is code and each.waived and not each.passed for each in findings), "the journal shows it"


def test_the_table_has_every_rule():
    """A rule that is added without a row here is not known to hold for any caller."""
    case = Case()
    findings = case.admit(admission.NOTHING_WAIVED)[2][0].findings
    rules = {code for code, _ in admission.ACCOUNT_RULES} | {finding.code for finding in findings}
    assert rules <= {code for code, _ in BREAKS}


# A replace that grows an order back to its leg's first size: findings A1.


def _second_symbol_unpriced(desk: Desk) -> dict:
    desk.engine.state.day.unpriced_accounts["b|acc"] = None
    return {}


def _one_lot_on_b(desk: Desk) -> dict:
    one = structs.replace(wide_limits().stages[1], max_size=D(1), platforms=("b",), symbols=("ES",))
    limits = wide_limits(stages={1: one, 2: structs.replace(wide_limits().stages[1], name="two")}, stage=2)
    desk.engine.state.limits, desk.engine.state.stage = limits, 2
    desk.ask(m.StageChange(request_id=1, stage=1, by="x", confirmation="", evidence=""))
    return {}


def _blocked(desk: Desk) -> dict:
    desk.engine.state.routes["a|acc"].positions["NQ"] = PositionRecord(blocked=True)
    return {}


def _other_unknown(desk: Desk) -> dict:
    desk.signal("a", signal_id="other", quantity=D(1))
    desk.wait(10_000)
    return {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_one_lot_on_b, RejectCode.STAGE_PLATFORM),
        (_blocked, RejectCode.POSITION_MISMATCH),
        (_other_unknown, RejectCode.OUTCOME_UNKNOWN),
        (_second_symbol_unpriced, RejectCode.STALE_RATE),
        (lambda desk: {"session_open": False}, RejectCode.SESSION_CLOSED),
        (lambda desk: {"expiry_ns": 1}, RejectCode.CONTRACT_EXPIRED),
    ],
)
def test_a_replace_grows_no_order_where_a_new_one_is_refused(change, code):
    desk = Desk("a", "b")
    desk.signal("a", quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(1)))
    (smaller,) = desk.sent(m.Replace)
    desk.update(order, quantity=D(1), replace_revision=smaller.revision)
    now = change(desk)
    markets = (market("a", desk.now_ns, account="acc", **now),)
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(3)), markets)
    assert (desk.sent(m.Replace), [each.code for each in desk.told() if isinstance(each, m.Reject)]) == ([], [code])
    desk.ask(m.SignalReplace(signal_id="s1", limit_price=D("20999.50")), markets)
    assert (desk.sent(m.Replace), [each.code for each in desk.told() if isinstance(each, m.Reject)]) == ([], [code])
    desk.signal("a", signal_id="s2", quantity=D(1), markets=markets)
    assert desk.report("s2").legs[0].code is code, "a new order is refused by the same rule"


def test_what_only_becomes_smaller_passes_every_limit():
    desk = Desk("a")
    desk.signal("a", quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    desk.update(desk.only())
    state = desk.engine.state
    state.limits = structs.replace(state.limits, max_orders_per_s=1, max_position_default=D(1), max_notional_usd=D(1))
    state.limits.stages[1] = structs.replace(state.limits.stages[1], platforms=(), max_size=D(1))
    state.day.unpriced = True
    state.kill = m.KillLevel.NO_NEW
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(2)), ())
    assert [each.quantity for each in desk.sent(m.Replace)] == [2]


def test_a_reduce_only_order_grows_no_further_than_there_is_to_close():
    desk = Desk("a")
    desk.signal("a", quantity=D(3))
    desk.fill(desk.only())
    desk.signal(
        "a", signal_id="s2", side=m.Side.SELL, quantity=D(3), reduce_only=True, bracket=None,
        order_type=m.OrderType.LIMIT, limit_price=D(21010),
    )  # fmt: skip
    order = desk.only()
    desk.update(order)
    desk.ask(m.SignalReplace(signal_id="s2", quantity=D(1)))
    (smaller,) = desk.sent(m.Replace)
    desk.update(order, quantity=D(1), replace_revision=smaller.revision)
    desk.signal("a", signal_id="s3", side=m.Side.SELL, quantity=D(1), reduce_only=True, bracket=None)
    desk.ask(m.SignalReplace(signal_id="s2", quantity=D(3)))
    assert (desk.sent(m.Replace), desk.told()[0].code) == ([], RejectCode.NOTHING_TO_CLOSE)
    desk.ask(m.SignalReplace(signal_id="s2", quantity=D(2), limit_price=D(21012)))
    assert [each.quantity for each in desk.sent(m.Replace)] == [2]


def test_a_smaller_size_that_restates_the_price_is_no_other_price():
    desk = Desk("a")
    desk.signal("a", quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    desk.update(desk.only())
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.NO_NEW, reason="x", by="x"))
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(1), limit_price=D("21000.00")))
    assert [each.quantity for each in desk.sent(m.Replace)] == [1]


def test_an_order_made_larger_at_the_platform_may_shrink_to_more_than_its_leg():
    desk = Desk("a")
    desk.signal("a", quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    desk.now_ns += 70 * SECOND
    desk.link_up("a", answer=False)
    desk.snapshot(orders=[structs.replace(desk.row(order), quantity=D(5))])
    for size, sent in ((6, []), (5, []), (4, [4])):
        desk.ask(m.SignalReplace(signal_id="s1", quantity=D(size)))
        assert [each.quantity for each in desk.sent(m.Replace)] == sent, size


def test_lots_that_are_filled_and_not_reported_yet_are_not_closed_twice():
    desk = Desk("a")
    desk.signal("a", quantity=D(5))
    desk.fill(desk.only())
    close = {"side": m.Side.SELL, "quantity": D(5), "reduce_only": True, "bracket": None}
    desk.signal("a", signal_id="s2", **close)
    desk.update(desk.only(), m.LegState.FILLED, 5)
    desk.signal("a", signal_id="s3", **close)
    assert (desk.position(), desk.report("s3").legs[0].code) == (5, RejectCode.NOTHING_TO_CLOSE)


def test_a_reduce_only_order_grows_by_what_is_left_and_not_by_what_it_has_closed():
    desk = Desk("a")
    desk.signal("a", quantity=D(5))
    entry = desk.only()
    desk.fill(entry)
    close = {"side": m.Side.SELL, "quantity": D(5), "reduce_only": True, "bracket": None}
    desk.signal("a", signal_id="s2", order_type=m.OrderType.LIMIT, limit_price=D(21010), **close)
    order = desk.only()
    desk.update(order)
    desk.ask(m.SignalReplace(signal_id="s2", quantity=D(3)))
    desk.update(order, quantity=D(3), replace_revision=desk.sent(m.Replace)[0].revision)
    desk.update(order, m.LegState.PARTIALLY_FILLED, 2, quantity=D(3))
    desk.give(e.AdapterSaid(message=desk.make_fill(entry, 2, client_order_id="external", side=m.Side.SELL)))
    for size, sent in ((5, []), (4, [])):  # one lot is left, and two of this order are not booked
        desk.ask(m.SignalReplace(signal_id="s2", quantity=D(size)))
        assert [each.quantity for each in desk.sent(m.Replace)] == sent
    desk.ask(m.SignalReplace(signal_id="s2", limit_price=D("21010.10")))
    assert desk.told()[0].code is RejectCode.NOT_ON_TICK


def test_the_callers_are_these(monkeypatch):
    """Each caller goes through the gate, and waives what it says."""
    seen: list[tuple[str, frozenset[RejectCode], Decimal]] = []
    for name, module in (("arrival", arrival), ("changes", changes)):

        def spy(turn, entry, waived=admission.NOTHING_WAIVED, name=name):
            seen.append((name, waived, entry.added))
            return admit(turn, entry, waived)

        monkeypatch.setattr(module, "admit", spy)
    desk = Desk("a", "b")
    policy = m.FanOut(kind=m.FanOutKind.PRIMARY_THEN_HEDGE)
    desk.signal("a", "b", policy=policy, quantity=D(2), order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only("a")
    desk.update(order)
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(1)))
    assert [each[:2] for each in seen] == [
        ("arrival", admission.NOTHING_WAIVED),
        ("arrival", admission.WAIVED_FOR_HEDGE),
    ], "a smaller size is not judged"
    desk.update(order, quantity=D(1), replace_revision=desk.sent(m.Replace)[0].revision)
    del seen[:]
    desk.ask(m.SignalReplace(signal_id="s1", quantity=D(2)))
    assert seen == [("changes", admission.WAIVED_FOR_REPLACE, D(1))]
