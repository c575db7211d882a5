"""The example NEXUS against the real gateway and simulated platforms: real processes, from tick to fill."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from nexus_gateway.core.config import load_config
from nexus_gateway.core.messages import LegState, RejectCode, Side, SignalState
from nexus_gateway.core.process import ProcessContext
from nexus_gateway.nexus_link import nexus_ai
from nexus_gateway.nexus_link.example.demo_signal import read_demo_signal
from nexus_gateway.nexus_link.example.descriptions import describe_outcome
from nexus_gateway.nexus_link.example.features import FEATURES
from nexus_gateway.nexus_link.example.trend_rule import TrendRule, decide_side, stop_distance
from nexus_gateway.nexus_link.orders.outcomes import SignalOutcome
from nexus_gateway.shm.counters import CountersPage

from tests.support.commands import REPOSITORY, environment, start_command, stop_command
from tests.support.patience import patient
from tests.support.scripted_gateway import make_leg, make_report, make_signal, short_folder, until

SIX = ("nt8", "sierra", "bookmap", "quantower", "mt5", "mt5_br")
SIMULATOR = "nexus_gateway.adapters.simulator:SimulatorAdapter"
D = Decimal


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def write_config(folder: Path, scenarios: dict[str, str], names: Sequence[str] = SIX) -> Path:
    """These platforms quote MNQ and ES, at the last stage; `scenarios`: what goes wrong with every entry."""
    config = folder / "config"
    config.mkdir()
    general = {
        "run_folder": str(folder / "run"),
        "log_folder": str(folder / "logs"),
        "ring_capacity": 4096,
        "symbols": [{"name": "MNQ", "tick_size": "0.25"}, {"name": "ES", "tick_size": "0.25"}],
        "orders": {"journal": str(folder / "journal" / "orders.sqlite"), "adapter_port": 0, "nexus_port": 0},
    }
    platforms = {
        name: {
            "adapter": SIMULATOR,
            "symbols": ["MNQ", "ES"],
            "settings": {"ticks_per_s": 300.0, "paper": {"mode": "netting", "currency": "USD"}},
        }
        for name in names
    }
    for name, scenario in scenarios.items():
        platforms[name]["settings"]["paper"]["scenario"] = scenario  # type: ignore[index]  # it was made above
    limits = yaml.safe_load((REPOSITORY / "config" / "risk_limits.yaml").read_text())
    limits["stage"] = 4
    for name, content in (("gateway_config", general), ("platform_configs", platforms), ("risk_limits", limits)):
        (config / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return config


@pytest.fixture
def running(request: pytest.FixtureRequest, folder: Path) -> Iterator[Path]:
    """A gateway with the platforms that the test is parametrized with; mt5_br rejects every order."""
    names = request.param
    scenarios = {"mt5_br": "reject", "quantower": "partial_then_cancel"}
    config = write_config(folder, {name: scenarios[name] for name in names if name in scenarios}, names)
    gateway = start_command(folder, "run", "-c", config)
    try:
        yield config
    finally:
        code, _, errors = stop_command(gateway)
    assert code == 0, errors


@pytest.mark.parametrize("running", [SIX], indirect=True, ids=["six"])
def test_one_demo_signal_to_six_platforms(folder, running):
    arguments = {
        "demo_signal": {
            "symbol": "MNQ",
            "quantities": dict.fromkeys(SIX, "2"),
            "stop_distance": "35",
            "patience_s": patient(60),
        }
    }
    until(lambda: (folder / "run" / "nexus.ipc").exists(), 90)
    context = ProcessContext("nexus", folder / "run", load_config(running), arguments)
    ended: list[int] = []
    thread = threading.Thread(target=lambda: ended.append(nexus_ai.run_supervised(context)))
    thread.start()
    report_file = folder / "run" / nexus_ai.feature_reader.REPORT_FILE
    orders: dict[str, Any] = {}

    def entered() -> bool:
        """Every entry has ended; what its stops do later is no matter here."""
        orders.clear()
        if report_file.exists():
            orders.update(json.loads(report_file.read_bytes()).get("orders", {}))
        legs = [leg for report in orders.get("reports", ()) for leg in report["legs"]]
        return len(legs) == 6 and all(LegState(leg["state"]).final for leg in legs)

    try:
        until(entered, 90)
    finally:
        context.request_stop()
        thread.join(patient(60))
        context.close()
    assert ended == [0]
    (report,) = orders["reports"]
    legs = {leg["platform"]: leg for leg in report["legs"]}
    assert orders["legs"] == 6
    assert legs["mt5_br"]["state"] == LegState.REJECTED
    assert orders["rejects"] == {RejectCode.PLATFORM_REJECTED: 1}
    assert (legs["quantower"]["state"], legs["quantower"]["filled"]) == (LegState.CANCELLED, "1")
    assert (orders["fills"], orders["partials"], orders["unknown"]) == (5, 1, 0)
    assert sum(Decimal(leg["filled"]) for leg in legs.values()) == Decimal(report["filled"]) == 9
    assert Decimal(orders["residual"]["MNQ"]) == sum(Decimal(leg["open_quantity"]) for leg in legs.values())
    assert Decimal(orders["avg_price"]["MNQ"]["buy"]) > 0
    page = CountersPage.attach(folder / "run", "nexus")
    latency = page.histogram("tick_to_fill_ns")
    assert latency.count == 5
    assert 0 < latency.minimum <= latency.percentile(50) <= latency.maximum
    assert page.values()["legs_filled"] == 5
    assert page.values()["signals_sent"] == 1


@pytest.mark.parametrize("running", [("nt8", "mt5_br")], indirect=True, ids=["two"])
def test_the_script_trades_by_its_rule_and_says_what_became_of_it(folder, running):
    until(lambda: (folder / "run" / "nexus.ipc").exists(), 90)
    outcomes = ("[platform_rejected]", "nt8        filled           1 of 1 at")
    code = f"""
import signal, sys
from pathlib import Path
from nexus_gateway.nexus_link.nexus_ai import TradePlan, main_with_gateway
from nexus_gateway.nexus_link.example.trend_rule import TrendRule
from nexus_gateway.shm.idle import make_idle
eager = TrendRule(warm_up_ticks=20, threshold=0.0, imbalance=0.0, pause_s=3.0, least_stop_ticks=80)
plan = TradePlan(platforms=("nt8", "mt5_br"), rule=eager, outbox=Path({str(folder / "own.outbox")!r}))
shown = []
def show(text):
    print(text, flush=True)
    shown.append(text)
    if all(wanted in "".join(shown) for wanted in {outcomes!r}):
        signal.raise_signal(signal.SIGTERM)  # as an operator does who has seen enough
sys.exit(main_with_gateway(Path({str(folder / "run")!r}), make_idle("backoff"), {patient(30)}, show, plan))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=patient(120),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "gateway is there: stage 4" in ran.stdout
    assert "idea: " in ran.stdout
    assert [text for text in outcomes if text not in ran.stdout] == []
    assert "signals," in ran.stdout
    assert "UNKNOWN 0" in ran.stdout


def test_without_an_order_gateway_market_data_is_read_all_the_same(folder):
    config = write_config(folder, {}, ("nt8",))
    general = yaml.safe_load((config / "gateway_config.yaml").read_text())
    general["orders"] = {"enabled": False}
    (config / "gateway_config.yaml").write_text(yaml.safe_dump(general))
    gateway = start_command(folder, "run", "-c", config)
    script = [sys.executable, str(REPOSITORY / "nexus_link" / "nexus_ai.py"), "--gateway"]
    script += ["--run-folder", str(folder / "run"), "--seconds", "4"]
    try:
        until(lambda: (folder / "run" / "nt8.counters").exists(), 90)
        ran = subprocess.run(
            script, env=environment(folder), capture_output=True, text=True, timeout=patient(120), check=False
        )
    finally:
        stop_command(gateway)
    assert ran.returncode == 0, ran.stderr
    assert "no order gateway: keys folder" in ran.stdout
    assert "MNQ" in ran.stdout
    assert "idea" not in ran.stdout


def test_options_are_checked(tmp_path):
    script = [sys.executable, str(REPOSITORY / "nexus_link" / "nexus_ai.py"), "--gateway"]
    for options, text in ((["--risk-usd", "nan"], "was 'nan', must be a number above 0"), (["--risk-usd", "0"], "'0'")):
        ran = subprocess.run([*script, *options], capture_output=True, text=True, timeout=patient(60), check=False)
        assert ran.returncode == 2
        assert text in ran.stderr
    nowhere = [*script, "--run-folder", str(tmp_path / "nowhere"), "--seconds", "1"]
    ran = subprocess.run(
        nowhere, env=environment(tmp_path), capture_output=True, text=True, timeout=patient(60), check=False
    )
    assert ran.returncode == 1
    assert "cannot start" in ran.stdout


def test_a_second_nexus_runs_beside_the_first_under_a_name_of_its_own(folder):
    script = [sys.executable, str(REPOSITORY / "nexus_link" / "nexus_ai.py"), "--gateway", "--run-folder", str(folder)]
    first = CountersPage.create(folder, "nexus", ("one",))
    try:
        for name, code, text in (
            ("nexus", 1, "nexus.counters is being written by process"),
            ("nt8", 2, "the name was 'nt8', which is that of a process of the gateway"),
            ("../x", 1, "name was '../x'"),
            ("second", 0, "0 signals, 0 legs"),
        ):
            command = [*script, "--name", name, "--seconds", "1"]
            ran = subprocess.run(
                command, env=environment(folder), capture_output=True, text=True, timeout=patient(120), check=False
            )
            assert (ran.returncode, text in ran.stdout) == (code, True), ran.stdout + ran.stderr
    finally:
        first.close()


def make_row(**values: float) -> Any:
    row = np.zeros(1, FEATURES)[0]
    for name, value in ({"ticks": 1_000, "mid": 100.0, "mid_ewma": 100.0, "variance_ewma": 1e-8} | values).items():
        row[name] = value
    return row


@pytest.mark.parametrize(
    ("values", "side"),
    [
        ({"mid": 100.1, "imbalance_ewma": 0.2}, Side.BUY),  # 2 usual deviations of 5e-4
        ({"mid": 99.9, "imbalance_ewma": -0.2}, Side.SELL),
        ({"mid": 100.1, "imbalance_ewma": -0.2}, None),
        ({"mid": 100.06, "imbalance_ewma": 0.2}, None),
        ({"mid": 100.1, "imbalance_ewma": 0.2, "ticks": 499}, None),
        ({"mid": 100.1, "imbalance_ewma": 0.2, "variance_ewma": 0.0}, None),
        ({"mid": math.nan, "imbalance_ewma": 0.2}, None),
    ],
)
def test_the_rule(values, side):
    assert decide_side(TrendRule(), make_row(**values)) is side


def test_the_stop_is_whole_ticks_within_its_bounds():
    assert stop_distance(TrendRule(), make_row(variance_ewma=1e-12), D("0.25")) == D("2.00")
    assert stop_distance(TrendRule(), make_row(mid=5_000.0), D("0.25")) == D("10.00")  # 20 moves of 0.5 points
    assert stop_distance(TrendRule(), make_row(mid=5_001.0), D("0.25")) == D("10.25")
    assert stop_distance(TrendRule(), make_row(mid=50_000.0), D("0.25")) == D("20.00")


def test_a_demo_signal_that_cannot_be_read_is_a_configuration_error():
    assert read_demo_signal({}) is None
    with pytest.raises(Exception, match=r"demo_signal was .*unknown field `lots`") as refused:
        read_demo_signal({"demo_signal": {"symbol": "NQ", "quantities": {"nt8": "1"}, "lots": 3}})
    assert type(refused.value).__name__ == "ConfigError"


def test_what_a_person_reads_names_unknowns_residual_and_codes():
    signal = make_signal("a", quantity=D(2))
    leg = make_leg(signal, state=LegState.UNKNOWN, filled=D(1), open_quantity=D(1), code=RejectCode.LINK_DOWN, text="x")
    report = make_report(signal, SignalState.UNKNOWN, legs=(leg,), filled=D(1), quantity=D(2), residual_quantity=D(1))
    outcome = SignalOutcome(signal_id="a", state=SignalState.UNKNOWN, report=report)
    assert describe_outcome(outcome) == (
        "signal a: UNKNOWN, buy NQ 1 of 2 lots at 21500.25, holds +1\n"
        "    nt8        UNKNOWN          1 of 2 at 21500.25, holds +1 [link_down]: x"
    )
    refused = SignalOutcome(signal_id="b", state=SignalState.REJECTED, code=RejectCode.KILL_SWITCH, text="resume first")
    assert describe_outcome(refused) == "signal b: rejected [kill_switch]: resume first"
