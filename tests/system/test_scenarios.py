"""The owner's five scenarios with real processes: launcher, gateway, simulated platforms, and NEXUS's own interface."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from nexus_gateway.core.config import RolloverConfig
from nexus_gateway.core.messages import LegState, RejectCode, Side, SignalClose, SignalState

from tests.support.commands import one_json_object, run_command
from tests.support.ledgers import add_lots
from tests.support.system import SIX, System, make_signal

D = Decimal
DOLLARS = {"paper": {"mode": "netting", "currency": "USD"}}


def test_one_signal_to_a_single_platform() -> None:
    with System({"nt8": {}}, ("NQ",)) as system:
        nexus = system.connect()
        signal = make_signal("single", ["nt8"])
        nexus.send_signal(signal, 0)
        outcome = system.settled(nexus, signal)
        assert (outcome.state, outcome.report.filled) == (SignalState.FILLED, 1)
        (positions,) = nexus.ask_positions()
        assert [(row.symbol, row.quantity) for row in positions.rows] == [("NQ", 1)]
        system.stop()
        book = system.book("nt8")
        (entry, stop) = book.orders.values()
        assert (entry.filled, entry.cost) == (1, outcome.report.avg_price)
        assert (stop.side, stop.stop_price, stop.live) == (Side.SELL, signal.bracket.stop_loss, True)


def test_one_signal_to_six_platforms() -> None:
    with System(dict.fromkeys(SIX, DOLLARS), ("NQ",)) as system:
        nexus = system.connect()
        signal = make_signal("six", SIX)
        nexus.send_signal(signal, 0)
        report = system.settled(nexus, signal).report
        reasons = [leg.text for leg in report.legs]
        assert (report.state, report.filled, report.residual_quantity) == (SignalState.FILLED, 6, 6), reasons
        assert {leg.platform for leg in report.legs if leg.state is LegState.FILLED} == set(SIX)
        system.stop()
        entries = [order for name in SIX for order in system.book(name).orders.values() if order.filled]
        assert [order.filled for order in entries] == [1] * 6
        assert abs(report.avg_price - sum(order.cost for order in entries) / 6) < D("1e-9")
        fills = [(fill.platform, fill.symbol, fill.quantity) for fill in system.journaled_fills().values()]
        assert add_lots(fills) == {(name, "NQ"): 1 for name in SIX}


def test_rapid_signals_on_one_symbol_become_one_order() -> None:
    with System({"nt8": {}}, ("NQ",), lookalike_window_ms=60_000) as system:
        links = [system.connect("first"), system.connect("second")]  # the window holds across programs
        signals = [make_signal(f"rapid{number}", ["nt8"]) for number in range(10)]
        for number, signal in enumerate(signals):
            links[number % 2].send_signal(signal, 0)
        outcomes = [system.settled(links[number % 2], signal) for number, signal in enumerate(signals)]
        codes = [outcome.code for outcome in outcomes if outcome.state is SignalState.REJECTED]
        assert codes == [RejectCode.LOOKALIKE_SIGNAL] * 9
        assert [outcome.state for outcome in outcomes].count(SignalState.FILLED) == 1
        assert system.counters()["signals"] == 10
        system.stop()
        entry, stop = system.book("nt8").orders.values()
        assert (entry.filled, stop.filled) == (1, 0)


def test_an_expiring_contract_is_rolled_before_it_is_traded() -> None:
    """The roll itself, under trading and kills, is in test_rollover_live.py."""
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    roll = RolloverConfig(switch_at={"NQZ26": past}, warm_s=60)
    with System({"nt8": {}, "sierra": {}}, ("NQ",), rollover=roll, contracts={"NQ": "NQZ26"}) as system:
        nexus = system.connect()
        system.until(lambda: system.counters()["engine_rolls"] == 1)
        outcomes = []

        def traded() -> bool:
            """The platforms present themselves anew with the new contract; until then a signal is refused."""
            signal = make_signal(f"roll{len(outcomes)}", ["nt8", "sierra"])
            nexus.send_signal(signal, 0)
            outcomes.append(system.settled(nexus, signal))
            return outcomes[-1].report is not None and outcomes[-1].report.filled == 2

        system.until(traded)
        assert outcomes[-1].report.avg_price > 18_090  # the next contract costs a percent more
        system.stop()
        for name in ("nt8", "sierra"):
            entries = [order for order in system.book(name).orders.values() if order.filled]
            assert entries
            assert {order.contract for order in entries} == {"NQH27"}


def test_profit_of_a_brazilian_contract_in_reais_and_in_dollars(tmp_path) -> None:
    scripted = {"ticks_per_s": 0, "paper": {"commission": "0.50"}}
    with System({"mt5_br": scripted}, ("WIN", "USDBRL")) as system:
        nexus = system.connect()

        def quote(price: int) -> None:
            rows = (("WIN", price, price + 5), ("USDBRL", 4.9999, 5.0001))
            system.write_quotes("mt5_br", *rows, number=price)
            system.rest(1.3)  # the gateway looks at rates once a second

        quote(128_000)
        signal = make_signal("win", ["mt5_br"], "WIN")
        nexus.send_signal(signal, 0)
        assert system.settled(nexus, signal).report.avg_price == 128_005
        quote(128_505)
        nexus.change_signal(SignalClose(signal_id="win"))
        system.until(lambda: nexus.outcome("win").state is SignalState.CLOSED)
        # 500 points x 0.20 BRL, less two commissions of 0.50 BRL, at 5 reais a dollar.
        assert nexus.outcome("win").report.realized_usd == D("19.8")
        config = system.write_config()
        system.stop()
        assert system.book("mt5_br").funds.balance == 100_000 + D(99)
        ran = run_command(tmp_path, "report", "--json", "-c", config)
        assert ran.returncode == 0, ran.stderr
        page = one_json_object(ran.stdout)
        (trade,) = page["trade_list"]
        assert D(trade["realized_usd"]) == D("19.8")
        (reais,) = trade["currencies"]
        assert (reais["currency"], D(reais["realized"]), D(reais["usd_rate"])) == ("BRL", D(99), D("0.2"))
        plain = run_command(tmp_path, "report", "-c", config)
        assert "99.00 BRL; 1 BRL was 0.2" in plain.stdout
        assert time.time_ns() > trade["closed_ns"] > trade["opened_ns"]
        assert json.loads(ran.stdout)["unpriced"] == 0
