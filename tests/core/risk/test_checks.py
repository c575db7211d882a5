"""Each check refuses what it should, at its limit exactly, and says what it measured."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import RejectCode, Side
from nexus_gateway.core.risk import DayCounters, Proposal, check_entry, first_failure, read_limits

from tests.support.orders import CONFIG, MS, T0, Desk, market, wide_limits


def proposal(**changes) -> Proposal:
    values: dict = {
        "key": "K",
        "route": "a|acc",
        "platform": "a",
        "symbol": "NQ",
        "side": Side.BUY,
        "quantity": D(1),
        "prices": (),
        "stop_loss": D(20990),
        "position_after": D(1),
    }
    return Proposal(**(values | changes))


def refusal(proposed=None, limits=None, day=None, now_ns=T0, stage=1, **context) -> RejectCode:
    findings = check_entry(
        proposed or proposal(),
        market("a", T0, **context),
        limits or wide_limits(),
        stage,
        day or DayCounters(),
        now_ns,
    )
    failure = first_failure(findings)
    if failure is None:
        return RejectCode.NONE
    assert failure.measured
    assert failure.limit
    assert failure.stage == stage
    return failure.code


def test_a_sound_order_passes_every_check_and_leaves_every_finding():
    findings = check_entry(proposal(), market("a", T0), wide_limits(), 1, DayCounters(), T0)
    assert all(finding.passed for finding in findings)
    assert len({finding.code for finding in findings}) >= 18


def test_stage_one_is_one_micro_contract():
    limits = read_limits(CONFIG)
    mnq = {"platform": "mt5", "symbol": "MNQ", "stop_loss": D(20980)}
    assert refusal(proposal(**mnq), limits) is RejectCode.NONE
    assert refusal(proposal(**mnq, quantity=D(2)), limits) is RejectCode.MAX_SIZE
    nq = mnq | {"symbol": "NQ"}
    assert refusal(proposal(**nq), limits, point_value=D(20)) is RejectCode.MAX_SIZE
    cfd = {"point_value": D(1), "lot_step": D("0.1")}
    assert refusal(proposal(**nq, quantity=D(2)), limits, **cfd) is RejectCode.NONE
    assert refusal(proposal(**nq, quantity=D("2.1")), limits, **cfd) is RejectCode.MAX_SIZE


@pytest.mark.parametrize(
    ("stage", "platforms", "size", "trades", "risk"),
    [(1, 1, 1, 5, 50), (2, 2, 1, 10, 75), (3, 3, 2, 20, 100), (4, 6, 5, 50, 200)],
)
def test_the_shipped_stages_are_those_of_the_owner(stage, platforms, size, trades, risk):
    found = read_limits(CONFIG).stages[stage]
    assert (len(found.platforms), found.max_size, found.max_trades_per_day) == (platforms, D(size), trades)
    assert found.risk_per_trade_usd == risk
    assert len(found.symbols) == {1: 1, 2: 1, 3: 3}.get(stage, len(found.symbols))
    assert stage < 4 or len(found.symbols) >= 10


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"platform": "z"}, RejectCode.STAGE_PLATFORM),
        ({"symbol": "CL"}, RejectCode.STAGE_SYMBOL),
        ({"quantity": D(6)}, RejectCode.MAX_SIZE),
        ({"quantity": D("0.5")}, RejectCode.NOT_ON_LOT_STEP),
        ({"prices": (D("21000.10"),)}, RejectCode.NOT_ON_TICK),
        ({"prices": (D(21000) + 50,)}, RejectCode.NONE),
        ({"prices": (D(21000) + D("50.25"),)}, RejectCode.PRICE_COLLAR),
        ({"stop_loss": None}, RejectCode.RISK_NOT_MEASURABLE),
        ({"stop_loss": D(21000)}, RejectCode.BRACKET_INVALID),
        ({"stop_loss": D(20500)}, RejectCode.NONE),
        ({"stop_loss": D("20499.75")}, RejectCode.RISK_PER_TRADE),
        ({"side": Side.SELL, "stop_loss": D(21010)}, RejectCode.NONE),
        ({"position_after": D(-20)}, RejectCode.NONE),
        ({"position_after": D(-21)}, RejectCode.MAX_POSITION),
        ({"quantity": D("NaN")}, RejectCode.NOT_FINITE),
        ({"prices": (D("Infinity"),)}, RejectCode.NOT_FINITE),
    ],
)
def test_the_order(changes, code):
    assert refusal(proposal(**changes)) is code


@pytest.mark.parametrize(
    ("context", "code"),
    [
        ({"quote_ns": T0 - 2_000 * MS}, RejectCode.NONE),
        ({"quote_ns": T0 - 2_001 * MS}, RejectCode.STALE_QUOTE),
        ({"quote_ns": 0}, RejectCode.STALE_QUOTE),
        ({"bid": None}, RejectCode.BAD_QUOTE),
        ({"bid": D("21000.25")}, RejectCode.BAD_QUOTE),
        ({"bid": D(20989)}, RejectCode.BAD_QUOTE),
        ({"ask": D("NaN")}, RejectCode.NOT_FINITE),
        ({"expiry_ns": T0}, RejectCode.CONTRACT_EXPIRED),
        ({"expiry_ns": T0 + 1}, RejectCode.NONE),
        ({"session_open": False}, RejectCode.SESSION_CLOSED),
        ({"identity_error": "tick 0.1, catalog 0.25"}, RejectCode.IDENTITY_MISMATCH),
        ({"currency": "BRL", "usd_rate": D("0.2"), "usd_rate_ns": T0}, RejectCode.NONE),
        ({"currency": "BRL", "usd_rate": D("0.2"), "usd_rate_ns": T0 - 60_001 * MS}, RejectCode.STALE_RATE),
        (
            {"currency": "BRL", "usd_rate": D("0.2"), "usd_rate_ns": T0 - 60_001 * MS, "usd_rate_until_ns": T0},
            RejectCode.NONE,
        ),
        (
            {"currency": "BRL", "usd_rate": D("0.2"), "usd_rate_ns": T0, "usd_rate_until_ns": T0 - 1},
            RejectCode.STALE_RATE,
        ),
        ({"currency": "BRL"}, RejectCode.STALE_RATE),  # no rate: the risk has no figure, never 1:1
        ({"point_value": D(200)}, RejectCode.RISK_PER_TRADE),
    ],
)
def test_the_market(context, code):
    assert refusal(**context) is code


def test_a_missing_rate_leaves_a_stale_rate_finding_too():
    findings = check_entry(proposal(), market("a", T0, currency="BRL"), wide_limits(), 1, DayCounters(), T0)
    assert RejectCode.STALE_RATE in {finding.code for finding in findings if not finding.passed}


def test_notional():
    limits = wide_limits(max_notional_usd=D(42_000))
    assert refusal(limits=limits) is RejectCode.NONE
    assert refusal(limits=limits, ask=D("21000.25")) is RejectCode.MAX_NOTIONAL


def test_trades_a_day_count_signals_not_legs():
    limits = wide_limits()
    day = DayCounters(trades={f"k{n}": 0 for n in range(50)})
    assert refusal(limits=limits, day=day) is RejectCode.MAX_TRADES_PER_DAY
    assert refusal(proposal(key="k3"), limits, day) is RejectCode.NONE


def test_order_rate_per_platform_and_over_all():
    limits = wide_limits(max_orders_per_s=3, max_orders_per_s_per_platform=2)
    day = DayCounters()
    day.count_sent("a|acc", T0)
    assert refusal(limits=limits, day=day) is RejectCode.NONE
    day.count_sent("a|acc", T0)
    assert refusal(limits=limits, day=day) is RejectCode.ORDER_RATE
    assert refusal(proposal(route="b|acc"), limits, day) is RejectCode.NONE
    day.count_sent("c|acc", T0)
    assert refusal(proposal(route="b|acc"), limits, day) is RejectCode.ORDER_RATE
    assert refusal(limits=limits, day=day, now_ns=T0 + 1_000 * MS) is RejectCode.NONE


def test_repeated_entries_of_one_side():
    limits = wide_limits(max_same_side_entries=1)
    day = DayCounters()
    day.count_entry("a|acc|NQ|buy", T0, 60_000 * MS)
    assert refusal(limits=limits, day=day) is RejectCode.REPEATED_ENTRIES
    assert refusal(proposal(side=Side.SELL, stop_loss=D(21010)), limits, day) is RejectCode.NONE


def test_loss_and_drawdown():
    day = DayCounters(realized_usd=D(-500))
    assert refusal(day=day) is RejectCode.DAILY_LOSS
    day = DayCounters()
    day.set_equity("a|acc", D(12_000), None)
    day.set_equity("a|acc", D(11_000), None)
    assert refusal(day=day) is RejectCode.DAILY_LOSS
    limits = wide_limits(max_daily_loss_usd=None)
    day.set_equity("a|acc", D(10_500), None)
    assert refusal(limits=limits, day=day) is RejectCode.DRAWDOWN
    assert refusal(day=DayCounters(unpriced=True)) is RejectCode.STALE_RATE


def test_an_account_whose_currency_has_no_rate_blocks_until_there_is_one():
    desk = Desk("a")
    name = {"platform": "a", "account": "acc", "currency": "BRL", "balance": D(5000)}
    desk.give(e.AdapterSaid(message=m.Account(**name, equity=D(5000))))
    desk.signal()
    assert desk.report().code is RejectCode.STALE_RATE
    rate = market("b", desk.now_ns, currency="BRL", usd_rate=D("0.2"), usd_rate_ns=desk.now_ns)
    desk.give(e.MarketMoved(markets=(rate,)))
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.NONE
    desk.give(e.AdapterSaid(message=m.Account(**name, equity=D(4000), as_of_ns=1)))
    assert desk.engine.state.day.loss_usd() == 200


def test_every_finding_of_an_order_is_journaled_also_the_passed_ones():
    desk = Desk("a")
    desk.signal()
    (checked,) = [x for x in desk.effects if type(x).__name__ == "RiskChecked"]
    assert len(checked.findings) >= 18
    assert desk.report().code is m.RejectCode.NONE


def test_working_orders_reserve_position_before_they_fill():
    desk = Desk("a", limits=wide_limits(max_position_default=D(3)))
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(21000))
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.MAX_POSITION
    desk.signal(signal_id="s3", quantity=D(1))
    assert desk.report("s3").code is RejectCode.NONE
    desk.update(desk.only(), m.LegState.CANCELLED)
    desk.signal(signal_id="s4", quantity=D(1))
    assert desk.report("s4").code is RejectCode.NONE


def test_the_orders_of_one_signal_count_against_the_rate_together():
    stage = wide_limits().stages[1]
    desk = Desk("a", "b", "c", limits=wide_limits(max_orders_per_s=2, stages={1: stage}))
    desk.signal("a", "b", "c")
    assert [leg.code for leg in desk.report().legs] == [RejectCode.NONE, RejectCode.NONE, RejectCode.ORDER_RATE]


def test_a_quote_or_a_rate_from_the_future_is_not_fresh():
    ahead = T0 + 3_000 * MS
    assert refusal(quote_ns=ahead) is RejectCode.STALE_QUOTE
    rate = {"currency": "BRL", "usd_rate": D("0.2")}
    assert refusal(**rate, usd_rate_ns=T0) is RejectCode.NONE
    assert refusal(**rate, usd_rate_ns=T0 + 61_000 * MS) is RejectCode.STALE_RATE


def test_a_currency_that_falls_is_no_loss_of_the_day():
    desk = Desk("a")
    name = {"platform": "a", "account": "acc", "currency": "BRL", "balance": D(100_000)}
    rate = {"currency": "BRL", "usd_rate_ns": desk.now_ns}
    desk.give(e.MarketMoved(markets=(market("b", desk.now_ns, usd_rate=D("0.20"), **rate),)))
    funds = m.Account(**name, equity=D(100_000), as_of_ns=desk.now_ns, day_start_equity=D(100_000))
    desk.give(e.AdapterSaid(message=funds))
    desk.give(e.MarketMoved(markets=(market("b", desk.now_ns, usd_rate=D("0.19"), **rate),)))
    desk.give(e.AdapterSaid(message=funds))
    assert (desk.engine.state.day.loss_usd(), desk.engine.state.day.drawdown_usd()) == (D(0), D(0))
    desk.give(e.AdapterSaid(message=m.Account(**name, equity=D(99_000), as_of_ns=desk.now_ns)))
    assert desk.engine.state.day.loss_usd() == 190


def test_a_platforms_day_start_of_the_day_before_is_not_todays():
    desk = Desk("a")
    name = {"platform": "a", "account": "acc", "currency": "USD", "balance": D(10_000)}
    yesterday = m.Account(**name, equity=D(9_700), day_start_equity=D(10_000), as_of_ns=desk.now_ns)
    desk.give(e.AdapterSaid(message=yesterday))
    assert desk.engine.state.day.loss_usd() == 300
    desk.wait(86_400_000)
    assert desk.engine.state.day.loss_usd() == 0
    desk.give(e.AdapterSaid(message=yesterday))  # on its way when the day ended
    assert desk.engine.state.day.loss_usd() == 0
