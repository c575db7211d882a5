"""A trade in WIN through the whole product: launcher, gateway, adapter, bridge, and a stand-in terminal in reais."""

from __future__ import annotations

import json
import os
import time
from decimal import Decimal

import msgspec
from nexus_gateway.core.config import PlatformConfig, RolloverConfig, SymbolConfig
from nexus_gateway.core.gateway import main as run_gateway
from nexus_gateway.core.gateway import markets
from nexus_gateway.core.launcher.plan import GATEWAY_ENTRY, plan_processes
from nexus_gateway.core.messages import RejectCode, SignalClose, SignalState
from nexus_gateway.core.process import ProcessContext

from tests.mt5_terminal.control import MODULE_FOLDER
from tests.support.commands import one_json_object, run_command
from tests.support.launched import ROOT
from tests.support.mt5_broker import ADAPTERS, Broker, list_contract
from tests.support.system import System, make_signal

D = Decimal
RATE_AGE_MS = 3_000


def run_open_gateway(context: ProcessContext) -> int:
    """The gateway, for which B3 is open on whatever day the test runs."""
    markets._ALWAYS_OPEN = (*markets._ALWAYS_OPEN, ADAPTERS["mt5_br"])
    return run_gateway(context)


def test_profit_in_reais_and_dollars_and_no_trade_on_a_stale_rate(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(MODULE_FOLDER), str(ROOT))))
    broker = Broker(tmp_path, "b3")
    dollar = list_contract(broker.mt5, "WDO")
    contracts = {"WIN": broker.name, "WDO": dollar}
    system = System(
        {"mt5_br": {}},
        ("WIN",),
        contracts=contracts,
        rollover=RolloverConfig(enabled=False),
        max_rate_age_ms=RATE_AGE_MS,
    )
    settings = broker.settings(orders="platform", accounts=[broker.account], mode="netting")
    platform = PlatformConfig(adapter=ADAPTERS["mt5_br"], symbols=("WIN", "WDO"), settings=settings)
    wdo = SymbolConfig(name="WDO", contract=dollar, tick_size=D("0.5"))
    system.config = msgspec.structs.replace(
        system.config, platforms={"mt5_br": platform}, symbols=(*system.config.symbols, wdo)
    )
    here = "tests.adapters.mt5.test_adapters_money:run_open_gateway"
    system._specs = [
        msgspec.structs.replace(spec, entry=here) if spec.entry == GATEWAY_ENTRY else spec
        for spec in plan_processes(system.config)
    ]
    assert [spec.name for spec in system._specs] == ["gateway", "mt5_br_bridge", "mt5_br"]

    def quote(win: float) -> None:
        broker.mt5.quote(broker.name, win, win + 5, last=win, volume=1)
        broker.mt5.quote(dollar, 4999.5, 5000.5, last=5000, volume=1)

    quote(128_000)
    try:
        with system:
            nexus = system.connect()
            quote(128_000)
            system.rest(1.5)  # the gateway looks at rates once a second
            quote(128_000)
            signal = make_signal("win", ["mt5_br"], "WIN")
            nexus.send_signal(signal, 0)
            report = system.settled(nexus, signal).report
            assert report.avg_price == 128_005, report
            quote(128_505)
            nexus.change_signal(SignalClose(signal_id="win"))
            system.until(lambda: nexus.outcome("win").state is SignalState.CLOSED)
            # 500 points x 0.20 BRL, at 5 reais a dollar.
            assert nexus.outcome("win").report.realized_usd == D(20)
            first, second = broker.mt5.truth().trades()
            assert (first["price"], second["price"], second["profit"]) == (128_005, 128_505, 100)

            # From here on the dollar has no quote that anybody could trade on: crossed, as after hours.
            deadline = time.monotonic() + 1.5 + RATE_AGE_MS / 1000
            while time.monotonic() < deadline:
                broker.mt5.quote(dollar, 5100.0, 4900.0, last=5000, volume=1)
                broker.mt5.quote(broker.name, 128_505, 128_510, last=128_505, volume=1)
                system.rest(0.1)
            late = make_signal("late", ["mt5_br"], "WIN")
            nexus.send_signal(late, 0)
            refused = system.settled(nexus, late).report
            assert refused.state is SignalState.REJECTED
            assert {leg.code for leg in refused.legs} == {RejectCode.STALE_RATE}, refused
            assert len(broker.mt5.truth().trades()) == 2, "the platform has seen nothing of it"
            config = system.write_config()
            system.stop()
            ran = run_command(tmp_path, "report", "--json", "-c", config)
        assert ran.returncode == 0, ran.stderr
        trade = one_json_object(ran.stdout)["trade_list"][0]
        assert D(trade["realized_usd"]) == D(20)
        (reais,) = trade["currencies"]
        assert (reais["currency"], D(reais["realized"]), D(reais["usd_rate"])) == ("BRL", D(100), D("0.2"))
        assert json.loads(ran.stdout)["unpriced"] == 0
    finally:
        broker.close()
