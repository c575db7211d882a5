"""The adapter between a strategy and the gateway: sizes, refusals, duplicates, fills."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from nexus_gateway.core.config.default_symbols import DEFAULT_PLATFORM_SYMBOLS, DEFAULT_STAND_INS
from nexus_gateway.core.instruments.catalog import load_catalog
from nexus_gateway.core.messages import FanOut, FanOutKind, LegState, RejectCode, Report, Side, Signal, SignalState
from nexus_gateway.nexus_link.communication import AdapterSettings, NexusCommunicationAdapter, TradeIdea
from nexus_gateway.nexus_link.interface import NexusGatewayInterface
from nexus_gateway.nexus_link.market_view import Quote
from nexus_gateway.nexus_link.orders import ledger as order_ledger
from nexus_gateway.nexus_link.orders.book import SignalConflictError
from nexus_gateway.nexus_link.orders.ledger import OrderLedger
from nexus_gateway.nexus_link.orders.outbox import Outbox, OutboxError
from nexus_gateway.nexus_link.orders.outcomes import SignalOutcome
from nexus_gateway.nexus_link.sizing import InstrumentTable
from nexus_gateway.shm import host

from tests.support.scripted_gateway import (
    ScriptedGateway,
    make_leg,
    make_report,
    make_signal,
    options_of,
    short_folder,
    until,
)

D = Decimal
TABLE = InstrumentTable(load_catalog(), DEFAULT_PLATFORM_SYMBOLS, DEFAULT_STAND_INS)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def quote(platform: str, symbol: str, bid: float, ask: float, *, is_stale: bool = False) -> Quote:
    now_ns = time.time_ns()
    return Quote(symbol, platform, bid, ask, bid, 5.0, 5.0, 1.0, now_ns, now_ns, 0.0, is_stale)


def idea(**fields: Any) -> TradeIdea:
    values: dict[str, Any] = {
        "symbol": "NQ",
        "side": Side.BUY,
        "platforms": ("nt8", "sierra"),
        "stop_distance": D(20),
        "tick_ns": 1_000,
    }
    return TradeIdea(**(values | fields))


@contextmanager
def trading(folder: Path, **options: Any) -> Iterator[tuple[ScriptedGateway, NexusCommunicationAdapter]]:
    settings = AdapterSettings(
        risk_usd=options.pop("risk_usd", D(1_000)),
        strategy="test",
        **options.pop("settings", {"lookalike_window_ms": 0}),
    )
    gateway = ScriptedGateway(folder)
    interface = NexusGatewayInterface(options_of(folder))
    adapter = NexusCommunicationAdapter(interface, TABLE, settings, **options)
    try:
        assert adapter.start(30)
        for platform in ("nt8", "sierra"):
            adapter.handle_market_data(quote(platform, "NQ", 21_499.75, 21_500.0))
        yield gateway, adapter
    finally:
        interface.close()
        gateway.stop()


def sent(gateway: ScriptedGateway) -> list[Signal]:
    return [message for message in list(gateway.heard) if isinstance(message, Signal)]


def test_an_idea_is_sized_bracketed_and_sent_to_each_platform(folder):
    with trading(folder) as (gateway, adapter):
        answer = adapter.send_trading_signal(idea(take_profit_distance=D(40)), 30)
        assert answer.outcome.state is SignalState.FILLED
        assert answer.refusals == ()
        (signal,) = sent(gateway)
        assert signal.signal_id == "test-NQ-buy-1000"
        assert [(target.platform, target.quantity) for target in signal.targets] == [("nt8", 2), ("sierra", 2)]
        assert (signal.bracket.stop_distance, signal.bracket.take_profit_distance) == (D(20), D(40))
        assert signal.tick_ns == 1_000
        assert answer.sizings["nt8"].risk_usd == 800


def test_the_same_idea_is_sent_once_also_by_a_process_that_comes_after(folder):
    with trading(folder) as (gateway, adapter):
        assert not adapter.send_trading_signal(idea(), 30).is_repeated
        again = adapter.send_trading_signal(idea(), 30)
        assert again.is_repeated
        assert again.outcome.state is SignalState.FILLED
        assert len(sent(gateway)) == 1
        reports = gateway.reports
    gateway = ScriptedGateway(folder, reports=reports)
    interface = NexusGatewayInterface(options_of(folder))
    adapter = NexusCommunicationAdapter(interface, TABLE, AdapterSettings(risk_usd=D(1_000), strategy="test"))
    adapter.start(30)
    adapter.handle_market_data(quote("nt8", "NQ", 21_510.0, 21_510.25))
    assert adapter.send_trading_signal(idea(platforms=("nt8",)), 30).is_repeated
    assert gateway.executed == {}
    interface.close()
    gateway.stop()


def test_a_lookalike_is_refused_here_already(folder):
    with trading(folder, settings={"lookalike_window_ms": 60_000}) as (gateway, adapter):
        adapter.send_trading_signal(idea(), 30)
        answer = adapter.send_trading_signal(idea(tick_ns=2_000), 30)
        assert answer.outcome is None
        assert [refusal.code for refusal in answer.refusals] == [RejectCode.LOOKALIKE_SIGNAL]
        other_side = adapter.send_trading_signal(idea(tick_ns=2_000, side=Side.SELL), 30)
        assert other_side.outcome is not None
        assert len(sent(gateway)) == 2
        assert adapter.ledger.summarize()["rejects"] == {"lookalike_signal": 1}


@pytest.mark.parametrize("step_s", [-3_600, 3_600])
def test_a_quotes_age_is_measured_by_no_clock_that_is_set(folder, monkeypatch, step_s):
    now_ns, true_ns = host.steady_ns(), time.time_ns
    monkeypatch.setattr(host, "steady_ns", lambda: now_ns)
    with trading(folder) as (_, adapter):
        monkeypatch.setattr(time, "time_ns", lambda: true_ns() + step_s * 10**9)
        now_ns += 10**9
        assert adapter.send_trading_signal(idea(), 30).outcome is not None
        now_ns += 60 * 10**9
        codes = [refusal.code for refusal in adapter.send_trading_signal(idea(tick_ns=2_000), 30).refusals]
        assert codes == [RejectCode.STALE_QUOTE] * 2


def test_an_unknown_outcome_bars_new_risk_on_its_symbol(folder):
    with trading(folder) as (gateway, adapter):
        gateway.deaf = True
        assert adapter.send_trading_signal(idea(), 0.01).outcome.is_unknown
        answer = adapter.send_trading_signal(idea(tick_ns=2_000, side=Side.SELL))
        assert answer.refusals[0].code is RejectCode.OUTCOME_UNKNOWN
        assert adapter.ledger.summarize()["unknown"] == 1
        until(lambda: gateway.reports)
        gateway.say(gateway.reports["test-NQ-buy-1000"])
        until(lambda: adapter.ledger.summarize()["unknown"] == 0)
        assert adapter.send_trading_signal(idea(tick_ns=2_000, side=Side.SELL)).outcome is not None


def test_a_platform_that_cannot_be_sized_is_left_out_and_named(folder):
    with trading(folder) as (gateway, adapter):
        adapter.handle_market_data(quote("sierra", "NQ", 21_499.75, 21_500.0, is_stale=True))
        adapter.handle_market_data(quote("quantower", "NQ", math.nan, math.nan))
        adapter.handle_market_data(quote("mt5", "NAS100", 21_350.0, 21_350.5))  # a basis of 150 points
        answer = adapter.send_trading_signal(idea(platforms=("nt8", "sierra", "quantower", "mt5", "bookmap")), 30)
        assert {refusal.platform: refusal.code for refusal in answer.refusals} == {
            "sierra": RejectCode.STALE_QUOTE,
            "bookmap": RejectCode.STALE_QUOTE,
            "quantower": RejectCode.BAD_QUOTE,
        }
        # The stop is a distance, so what is quoted 150 points lower is traded all the same.
        assert [target.platform for target in sent(gateway)[0].targets] == ["nt8", "mt5"]


@pytest.mark.parametrize(
    ("policy", "platforms", "sent_to"),
    [
        (FanOut(kind=FanOutKind.BEST_EFFORT), ("bookmap", "nt8", "sierra"), ["nt8", "sierra"]),
        (FanOut(kind=FanOutKind.ALL_OR_FLATTEN), ("nt8", "sierra", "bookmap"), []),
        (FanOut(kind=FanOutKind.PRIMARY_THEN_HEDGE), ("bookmap", "nt8", "sierra"), []),
        (FanOut(kind=FanOutKind.PRIMARY_THEN_HEDGE), ("nt8", "sierra", "bookmap"), ["nt8", "sierra"]),
        (FanOut(kind=FanOutKind.QUORUM, quorum=3), ("nt8", "sierra", "bookmap"), []),
        (FanOut(kind=FanOutKind.QUORUM, quorum=2), ("nt8", "sierra", "bookmap"), ["nt8", "sierra"]),
        (FanOut(kind=FanOutKind.ALL_OR_FLATTEN), ("nt8", "sierra"), ["nt8", "sierra"]),
    ],
)
def test_a_platform_is_left_out_only_where_the_policy_lets_the_others_trade(folder, policy, platforms, sent_to):
    """The gateway would see a smaller `all`, and take the first hedge for the primary."""
    with trading(folder) as (gateway, adapter):
        answer = adapter.send_trading_signal(idea(platforms=platforms, policy=policy), 30)
        assert [target.platform for signal in sent(gateway) for target in signal.targets] == sent_to
        assert (answer.outcome is None) == (not sent_to)
        if not sent_to:
            assert "nothing was sent" in answer.refusals[-1].text
            assert answer.refusals[-1].code is RejectCode.STALE_QUOTE


def test_a_size_below_one_lot_is_refused_and_nothing_is_sent(folder):
    with trading(folder, risk_usd=D(50)) as (gateway, adapter):
        answer = adapter.send_trading_signal(idea())
        assert answer.outcome is None
        assert {refusal.code for refusal in answer.refusals} == {RejectCode.SIZE_BELOW_LOT}
        assert "400.00 USD" in answer.refusals[0].text
        assert sent(gateway) == []


def test_brazilian_risk_needs_a_live_rate(folder):
    with trading(folder) as (gateway, adapter):
        adapter.handle_market_data(quote("mt5_br", "WIN", 130_000.0, 130_005.0))
        win = idea(symbol="WIN", platforms=("mt5_br",), stop_distance=D(500))
        assert adapter.send_trading_signal(win).refusals[0].code is RejectCode.STALE_RATE
        adapter.handle_market_data(quote("mt5_br", "WDO", 5_400.0, 5_900.0))  # too wide to be a rate
        assert adapter.send_trading_signal(win).refusals[0].code is RejectCode.STALE_RATE
        adapter.handle_market_data(quote("mt5_br", "WDO", 5_499.5, 5_500.5))
        answer = adapter.send_trading_signal(win, 30)
        assert answer.sizings["mt5_br"].lots == 55  # 100 BRL a lot at 5.50
        assert sent(gateway)[0].targets[0].quantity == 55


@pytest.mark.parametrize("bad", [D(0), D(-5), D("NaN"), D("Infinity"), D("1e-15"), 20, 20.5])
def test_a_distance_that_is_none_is_refused(folder, bad):
    with trading(folder) as (_, adapter):
        assert adapter.send_trading_signal(idea(stop_distance=bad)).refusals[0].code is RejectCode.RISK_NOT_MEASURABLE


def test_an_idea_that_makes_no_signal_is_refused_and_ends_nothing(folder):
    with trading(folder, risk_usd=D("1e12")) as (gateway, adapter):
        answer = adapter.send_trading_signal(idea(stop_distance=D(1)))
        assert [refusal.code for refusal in answer.refusals] == [RejectCode.MALFORMED]
        assert "quantity must lie within ±1000000, was 5E+10" in answer.refusals[0].text
        assert adapter.send_trading_signal(idea(take_profit_distance=D("1e10"))).outcome is None
        assert sent(gateway) == []
        assert adapter.ledger.summarize()["rejects"] == {"malformed": 2}


def test_a_strategy_is_asked_on_each_quote(folder):
    asked: list[Quote] = []

    def decide(quote: Quote) -> TradeIdea | None:
        asked.append(quote)
        return idea(tick_ns=quote.ts_recv_ns, platforms=(quote.platform,)) if len(asked) == 3 else None

    with trading(folder, decide=decide) as (gateway, adapter):
        answer = adapter.handle_market_data(quote("nt8", "NQ", 21_499.75, 21_500.0))
        assert answer is not None
        assert answer.outcome is not None
        assert len(asked) == 3
        until(lambda: gateway.executed)


def test_what_could_not_be_sent_is_no_signal_of_the_ledger(folder, monkeypatch):
    def refuse_to_write(self: Outbox, signal: Signal) -> None:
        raise OutboxError("the disk is full")

    with trading(folder) as (gateway, adapter):
        with monkeypatch.context() as patched:
            patched.setattr(Outbox, "add", refuse_to_write)
            with pytest.raises(OutboxError):
                adapter.send_trading_signal(idea(), 30)
        summary = adapter.ledger.summarize()
        assert (summary["signals"], summary["unknown"]) == (0, 0), "nothing of it can have traded"
        gateway.deaf = True
        adapter.send(make_signal("a"))
        with pytest.raises(SignalConflictError):
            adapter.send(make_signal("a", side=Side.SELL))
        summary = adapter.ledger.summarize()
        assert (summary["signals"], summary["unknown"]) == (1, 1), "the first one of that id has been sent"


def test_the_ledger_forgets_the_legs_of_what_it_forgets(monkeypatch):
    monkeypatch.setattr(order_ledger, "_KEPT_SIGNALS", 3)
    ledger = OrderLedger()
    for number in range(10):
        signal = make_signal(f"s{number}")
        ledger.note_signal(signal)
        ledger.apply_outcome(told(make_report(signal), 1))
    assert len(ledger._filled_legs) == len(ledger._outcomes) == 3


def test_the_first_fill_of_each_leg_is_timed_from_its_tick():
    latencies: list[int] = []
    ledger = OrderLedger(latencies.append)
    signal = make_signal("a", tick_ns=1_000, targets=make_signal("x").targets)
    ledger.note_signal(signal)
    working = make_report(signal, SignalState.WORKING, legs=(make_leg(signal, filled=D(0), state=LegState.WORKING),))
    ledger.apply_outcome(told(working, 2_000))
    assert latencies == []
    ledger.apply_outcome(told(make_report(signal, revision=2), 5_000))
    ledger.apply_outcome(told(make_report(signal, SignalState.CLOSED, revision=3), 9_000))
    assert latencies == [4_000]


def test_the_summary_tells_rejects_unknowns_residual_and_price():
    ledger = OrderLedger()
    signal = make_signal("a", quantity=D(2), targets=tuple(map_targets("nt8", "mt5", "sierra", "bookmap")))
    ledger.note_signal(signal)
    ledger.note_signal(make_signal("silent"))
    ledger.note_refusal(RejectCode.STALE_QUOTE)
    legs = (
        make_leg(signal, 0),
        make_leg(signal, 1, filled=D(0), state=LegState.REJECTED, code=RejectCode.PLATFORM_REJECTED),
        make_leg(signal, 2, filled=D(1), state=LegState.PARTIALLY_FILLED),
        make_leg(signal, 3, filled=D(0), state=LegState.UNKNOWN),
    )
    report = make_report(signal, SignalState.UNKNOWN, legs=legs, filled=D(3), residual_quantity=D(3), unknown_legs=1)
    ledger.apply_outcome(told(report, 1))
    refused = SignalOutcome(signal_id="b", state=SignalState.REJECTED, code=RejectCode.KILL_SWITCH, told_ns=1)
    ledger.apply_outcome(refused)
    summary = ledger.summarize()
    assert len(summary.pop("reports")) == 1
    assert summary == {
        "signals": 2,
        "unanswered": 1,
        "legs": 4,
        "fills": 2,
        "partials": 1,
        "rejects": {"kill_switch": 1, "platform_rejected": 1, "stale_quote": 1},
        "unknown": 2,
        "residual": {"NQ": "3"},
        "avg_price": {"NQ": {"buy": "21500.25"}},
    }


def map_targets(*platforms: str) -> list[Any]:
    target = make_signal("x").targets[0]
    return [structs.replace(target, platform=platform) for platform in platforms]


def told(report: Report, told_ns: int) -> SignalOutcome:
    return SignalOutcome(signal_id=report.signal_id, state=report.state, report=report, told_ns=told_ns)
