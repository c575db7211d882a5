"""`nexus-gateway certify` with the real bridge and adapter against the stand-in terminal, and against other bridges."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal

import msgspec
import numpy as np
import pytest
import yaml
from nexus_gateway.adapters.certify import certify, order_checks, own_orders, session_checks
from nexus_gateway.adapters.certify.certification import LAST_CHECK, ORDER_CHECKS, SESSION_CHECKS
from nexus_gateway.adapters.certify.report import CertifyReport, CheckRow, Outcome, write_text
from nexus_gateway.core.cli.app import app
from nexus_gateway.core.config import GatewayConfig, PlatformConfig, SymbolConfig
from nexus_gateway.core.errors import ConfigError, RunFolderError
from nexus_gateway.core.kill_file import KillEntry, add_kill, kill_file_path
from nexus_gateway.core.messages import KillLevel
from nexus_gateway.shm import host
from nexus_gateway.shm.counters import CountersPage
from typer.testing import CliRunner

from tests.mt5_terminal.control import MODULE_FOLDER, TICK_DTYPE, StandIn
from tests.support.bridges import TOKEN, reference_bridge
from tests.support.mt5_broker import Broker
from tests.support.patience import patient

ORDERS = tuple(check.number for check in ORDER_CHECKS)


@pytest.fixture(autouse=True)
def _module(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(MODULE_FOLDER))


@pytest.fixture
def make_broker(tmp_path):
    made = []

    def make(preset: str = "global", **options) -> Broker:
        made.append(Broker(tmp_path, preset, **options))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


def run(broker: Broker, config: GatewayConfig | None = None, **options) -> CertifyReport:
    report = certify(config or broker.config(), broker.platform, **({"listen_s": 0.6} | options))
    assert [row.number for row in report.checks] == list(range(1, 22)), "each check has its row, whatever happened"
    return report


def outcome(report: CertifyReport, number: int) -> Outcome:
    return row(report, number).outcome


def row(report: CertifyReport, number: int) -> CheckRow:
    return report.checks[number - 1]


def nothing_was_sent(broker: Broker) -> bool:
    truth = broker.tell(StandIn.truth)
    return not broker.tell(StandIn.requests) and not truth.orders and not truth.positions


def is_clean(broker: Broker) -> bool:
    truth = broker.tell(StandIn.truth)
    return not truth.orders and not truth.positions


@pytest.mark.parametrize(
    ("preset", "options", "skipped"),
    [
        ("global", {}, set()),
        ("global", {"margin_mode": "netting"}, {17}),  # a netting account keeps no brackets
        ("b3", {}, {17}),  # PLACED, and deals later
        ("b3", {"margin_mode": "hedging"}, set()),
    ],
)
def test_all_checks_pass_at_a_healthy_terminal(make_broker, preset, options, skipped):
    broker = make_broker(preset, **options).go()
    report = run(broker, trade=True)
    expected = {number: "skipped" if number in skipped else "pass" for number in range(1, 22)}
    assert {each.number: each.outcome.value for each in report.checks} == expected, write_text(report)
    assert report.passed
    assert report.simulated
    assert report.details["server"] == broker.server
    assert is_clean(broker)
    assert len(broker.tell(StandIn.truth).trades()) == 2, "one round trip"


def test_without_leave_nothing_trades(make_broker):
    broker = make_broker().go()
    report = run(broker)
    assert (outcome(report, 19), outcome(report, 20)) == (Outcome.SKIPPED, Outcome.PASS)
    assert report.passed
    assert broker.tell(StandIn.truth).trades() == []


def test_what_was_there_before_stays(make_broker):
    """Orders and positions of somebody else, on a netting account in the very symbol."""
    broker = make_broker(margin_mode="netting").go()
    broker.tell(lambda mt5: mt5.hand_trade("US100.cash", "sell", 0.5))
    broker.tell(lambda mt5: mt5.hand_order("US100.cash", 2, 0.3, 15000.0))
    report = run(broker, trade=True)
    truth = broker.tell(StandIn.truth)
    assert (len(truth.orders), truth.net("US100.cash")) == (1, -0.5)
    assert row(report, 19).outcome is Outcome.SKIPPED
    assert "holds NAS100 already" in row(report, 19).measured
    assert outcome(report, 20) is Outcome.PASS


def test_real_money_gets_no_order_unless_its_number_was_typed(make_broker):
    broker = make_broker().go()
    broker.tell(lambda mt5: mt5.set_account(trade_mode=2))
    report = run(broker, real_account="5001235")
    assert outcome(report, 3) is Outcome.FAIL
    assert "--real-money-account 5001234" in row(report, 3).cure
    assert {outcome(report, number) for number in ORDERS} == {Outcome.SKIPPED}
    assert nothing_was_sent(broker)
    report = run(broker, real_account="5001234")
    assert outcome(report, 12) is Outcome.PASS
    assert "REAL MONEY" in write_text(report).splitlines()[0]


@pytest.mark.parametrize(
    ("call", "text", "cure"),
    [
        (lambda mt5: mt5.set_switches(trade_allowed=False), "press Algo Trading", "press the button Algo Trading"),
        (lambda mt5: mt5.set_switches(tradeapi_disabled=True), "external Python API", "Tools, Options"),
        (lambda mt5: mt5.set_account(trade_allowed=False), "master password", "log in with the master password"),
        (lambda mt5: mt5.set_account(trade_expert=False), "forbids algo trading", "ask the broker to allow"),
    ],
)
def test_switches_that_are_off_are_named_with_their_cure(make_broker, call, text, cure):
    broker = make_broker().go()
    broker.tell(call)
    report = run(broker)
    assert outcome(report, 4) is Outcome.FAIL
    assert text in row(report, 4).measured
    assert cure in row(report, 4).cure
    assert outcome(report, 8) is Outcome.PASS, "data are there all the same"
    assert nothing_was_sent(broker)


def test_another_account_is_a_failed_check_with_both_names(make_broker):
    broker = make_broker().go()
    native = {"terminal_path": str(broker.mt5.exe), "options": {"account_wait_s": 1}}
    report = run(broker, broker.config(server="Another-Demo", native=native))
    assert outcome(report, 1) is Outcome.FAIL
    assert "exit code 2" in row(report, 1).measured, "the bridge itself refuses the terminal"
    assert {each.outcome for each in report.checks[1:]} == {Outcome.SKIPPED}


def test_a_closed_market_is_unknown_not_failed(make_broker):
    broker = make_broker().go()
    broker.tell(lambda mt5: mt5.set_market("US100.cash", False))
    report = run(broker)
    assert outcome(report, 12) is Outcome.UNKNOWN
    assert "10018" in row(report, 12).measured
    assert not report.passed


def test_a_market_that_stands_still(make_broker, monkeypatch):
    monkeypatch.setattr(order_checks, "ANSWER_S", 1.0)
    broker = make_broker()
    report = run(broker)
    assert outcome(report, 8) is Outcome.UNKNOWN
    assert outcome(report, 9) is Outcome.SKIPPED


def test_the_brokers_no_comes_with_its_words_and_a_cure(make_broker):
    broker = make_broker().go()
    broker.tell(lambda mt5: mt5.script("reject", retcode=10019))
    report = run(broker)
    assert outcome(report, 12) is Outcome.FAIL
    assert "10019" in row(report, 12).measured
    assert "top up the demo account" in row(report, 12).cure


def test_a_wrong_clock_is_measured(make_broker):
    broker = make_broker().go()
    clock = {"utc_offset_minutes": 60, "dst": "us", "mode": "configured"}
    native = {"terminal_path": str(broker.mt5.exe), "options": {"clock": clock}}
    report = run(broker, broker.config(native=native))
    assert outcome(report, 8) is Outcome.FAIL
    assert "off by about -1 hours" in row(report, 8).measured


def test_a_wrong_multiplier_is_found(make_broker):
    broker = make_broker().go()
    broker.tell(lambda mt5: mt5.set_symbol("US100.cash", trade_tick_value=2.0))
    report = run(broker)
    assert outcome(report, 6) is Outcome.FAIL
    assert "multiplier was 20 at the platform, 1 in the catalog" in row(report, 6).measured


def test_a_tick_that_nobody_sent_is_missed(make_broker, monkeypatch):
    """A tick that turns up in the history afterwards, behind others that came: the check must see the hole."""
    broker = make_broker().go()
    pauses = []

    def break_and_insert(seconds: float) -> None:
        if seconds == 1.0 and not pauses:
            pauses.append(seconds)
            ticks = broker.tell(lambda mt5: mt5.ticks("US100.cash"))
            late = np.array(ticks[-10:-9], TICK_DTYPE)
            late["time_msc"] -= 1
            late["bid"] -= 50
            broker.tell(lambda mt5: mt5.push_late_ticks("US100.cash", late))
        time.sleep(seconds)

    patched = type("Time", (), {"sleep": staticmethod(break_and_insert), "monotonic": staticmethod(time.monotonic)})
    monkeypatch.setattr(session_checks, "time", patched)
    report = run(broker, listen_s=2.0)
    assert row(report, 9).outcome is Outcome.FAIL, row(report, 9)
    assert "1 missing, 0 too many" in row(report, 9).measured


def test_what_cannot_be_cancelled_is_said_loudly(make_broker, monkeypatch):
    monkeypatch.setattr(own_orders, "CLEAN_UP_S", 2.0)
    monkeypatch.setattr(own_orders, "ANSWER_S", 1.0)
    monkeypatch.setattr(order_checks, "ANSWER_S", 1.0)
    broker = make_broker().go()
    broker.tell(lambda mt5: mt5.script_all("cancel_rejected"))
    report = run(broker)
    assert outcome(report, 15) is Outcome.FAIL
    assert outcome(report, 20) is Outcome.FAIL
    order_id = broker.tell(StandIn.truth).orders[0]["comment"]
    assert order_id in row(report, 20).measured
    assert "by hand" in row(report, 20).cure


def test_an_order_that_fills_after_all_is_closed_again(make_broker):
    """The far order trades while it is cancelled: what it has opened is ours to close."""
    broker = make_broker().go()
    broker.tell(lambda mt5: mt5.script("fill_during_cancel"))
    report = run(broker)
    assert outcome(report, 20) is Outcome.PASS, write_text(report)
    assert is_clean(broker)


def test_an_account_that_changes_on_the_way_gets_no_order(make_broker):
    """Somebody logs in to the real account while the bridge is restarted: the same number, and yet another account."""
    broker = make_broker().go()

    def switch(line: str) -> None:
        if line.startswith("  9 "):
            broker.tell(lambda mt5: mt5.set_account(trade_mode=2))
            broker.tell(lambda mt5: mt5.drop_clients())

    report = run(broker, say=switch)
    assert outcome(report, 3) is Outcome.PASS
    assert any("the login was changed" in each.measured for each in report.checks), write_text(report)
    assert nothing_was_sent(broker)


@pytest.mark.parametrize("number", [9, 13, 18, 19])
def test_when_it_is_stopped_it_takes_its_orders_away(make_broker, number):
    broker = make_broker().go()
    stops = []

    def stop_at(line: str) -> None:
        if line.startswith(f"{number:>3} "):
            stops[0]()

    report = run(broker, trade=True, on_stop=stops.append, say=stop_at)
    assert report.interrupted
    assert not report.passed
    assert row(report, number).measured == "interrupted"
    assert outcome(report, 20) is (Outcome.SKIPPED if number == 9 else Outcome.PASS)
    assert is_clean(broker)


def test_a_running_gateway_keeps_its_bridge(make_broker, tmp_path):
    broker = make_broker()
    config = broker.config()
    host.make_private_folder(config.run_path)
    page = CountersPage.create(config.run_path, "mt5", ())
    with pytest.raises(RunFolderError, match="serves one adapter at a time; stop it first"):
        certify(config, "mt5")
    folder = write_config(tmp_path / "config", config, "mt5")
    refused = CliRunner().invoke(app, ["certify", "mt5", "-c", str(folder)])
    page.close()
    assert (refused.exit_code, refused.stdout) == (4, "")


def test_the_kill_file_holds_here_too(make_broker):
    broker = make_broker().go()
    config = broker.config()
    host.make_private_folder(config.run_path)
    entry = KillEntry(level=KillLevel.NO_NEW, reason="test", by="test", at_ns=0)
    add_kill(kill_file_path(config.run_path), entry)
    report = run(broker, config)
    assert "the kill file says no_new" in row(report, 12).measured
    assert nothing_was_sent(broker)


@pytest.mark.parametrize(
    ("platform", "symbol", "text"),
    [
        ("nt8", None, "platform was 'nt8'; platform_configs.yaml has mt5"),
        ("mt5", "NQ", "symbol was 'NQ'"),
    ],
)
def test_wrong_names(make_broker, platform, symbol, text):
    with pytest.raises(ConfigError, match=text):
        certify(make_broker().config(), platform, symbol)


def test_a_platform_without_a_bridge_is_none(tmp_path):
    config = GatewayConfig(run_folder=str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="needs no bridge; name the platform's real adapter"):
        certify(config, "mt5")


# Another bridged platform, and a bridge that runs already.


@pytest.fixture
def other(tmp_path):
    with reference_bridge() as (platform, server):
        token_file = tmp_path / "bridge.token"
        token_file.touch(0o600)
        token_file.write_text(TOKEN)
        settings = {
            "port": server.port,
            "token_file": str(token_file),
            "names": {"NQ": "NQ 12-26"},
            "timing": {"heartbeat_ms": 100, "mute_after_ms": 2000},
        }
        config = GatewayConfig(
            run_folder=str(tmp_path / "run"),
            symbols=(SymbolConfig(name="NQ", contract="NQZ26", tick_size=Decimal("0.25")),),
            platforms={
                "nt8": PlatformConfig(
                    adapter="nexus_gateway.adapters.bridge.adapter:BridgeAdapter", symbols=("NQ",), settings=settings
                )
            },
        )
        over = threading.Event()

        def move() -> None:
            number = 0
            while not over.wait(0.02):
                if platform.is_subscribed:
                    platform.quote("NQ", 18000 + number % 5, 18000.25 + number % 5, 50, 50)
                    number += 1

        market = threading.Thread(target=move)
        market.start()
        yield config, platform, server
        over.set()
        market.join()


def test_any_bridged_platform_is_certified(other):
    config, _, _ = other
    report = certify(config, "nt8", trade=True, listen_s=1.0)
    found = {each.number: each.outcome.value for each in report.checks}
    assert [number for number, word in found.items() if word == "skipped"] == [9, 17, 18], write_text(report)
    assert set(found.values()) == {"pass", "skipped"}, write_text(report)
    assert "keeps no ticks" in report.checks[8].measured
    assert "--restart-wait" in report.checks[17].cure


def test_a_bridge_is_restarted_by_hand(other):
    config, _, server = other

    def restart(line: str) -> None:
        if line.startswith("restart the bridge now"):
            server.boot_id = "another life"
            server._session.queue({"type": "error", "code": "closing", "text": "restarting"})

    report = certify(config, "nt8", listen_s=1.0, restart_wait_s=patient(20.0), say=restart)
    assert report.checks[17].outcome is Outcome.PASS, report.checks[17]


def test_an_order_of_ours_that_a_new_bridge_has_forgotten(other, monkeypatch):
    monkeypatch.setattr(own_orders, "CLEAN_UP_S", 2.0)
    config, platform, server = other
    forget = []
    snapshot = platform.snapshot

    def lie(request):
        answer = snapshot(request)
        return answer | {"working_orders": answer["working_orders"] | {"rows": []}} if forget else answer

    platform.snapshot = lie

    def restart(line: str) -> None:
        if line.startswith("restart the bridge now"):
            forget.append(line)
            server.boot_id = "another life"
            server._session.queue({"type": "error", "code": "closing", "text": "restarting"})

    report = certify(config, "nt8", listen_s=1.0, restart_wait_s=patient(20.0), say=restart)
    assert report.checks[17].outcome is Outcome.FAIL
    assert "0 orders with the id" in report.checks[17].measured


def leave_out(platform, part: str, **claims: bool) -> None:
    """Let a platform's snapshots list no rows of a part, while its hello claims this."""
    snapshot, describe = platform.snapshot, platform.describe

    def lie(request):
        answer = snapshot(request)
        return answer | {part: answer[part] | {"rows": []}}

    platform.snapshot = lie
    platform.describe = lambda: describe() | {"capabilities": describe()["capabilities"] | claims}


def test_a_working_order_that_no_snapshot_lists_is_found(other, monkeypatch):
    monkeypatch.setattr(own_orders, "CLEAN_UP_S", 2.0)
    config, platform, _ = other
    leave_out(platform, "working_orders")
    report = certify(config, "nt8", listen_s=1.0)
    assert report.checks[20].outcome is Outcome.FAIL
    assert "works and is not listed" in report.checks[20].measured


def test_a_part_that_is_never_complete_is_found(other, monkeypatch):
    monkeypatch.setattr(own_orders, "CLEAN_UP_S", 2.0)
    monkeypatch.setattr(session_checks, "ANSWER_S", 1.0)
    config, platform, _ = other
    snapshot = platform.snapshot

    def answer_in_part(request):
        answer = snapshot(request)
        return answer | {"executions": answer["executions"] | {"complete": False}}

    platform.snapshot = answer_in_part
    report = certify(config, "nt8", listen_s=1.0)
    assert report.checks[20].outcome is Outcome.FAIL
    assert report.checks[20].measured == "never complete: executions"


@pytest.mark.parametrize(
    ("part", "claim", "skipped", "text"),
    [
        ("working_orders", "lists_orders", [9, 17, 18], "working orders"),
        ("positions", "lists_positions", [9, 17, 18, 19], "positions"),
        ("executions", "executions_history", [9, 17, 18], "executions"),
    ],
)
def test_what_a_platform_says_that_it_cannot_list_is_not_asked_of_it(other, part, claim, skipped, text):
    config, platform, _ = other
    leave_out(platform, part, **{claim: False})
    report = certify(config, "nt8", trade=True, listen_s=1.0)
    found = {each.number: each.outcome.value for each in report.checks}
    assert [number for number, word in found.items() if word == "skipped"] == skipped, write_text(report)
    assert set(found.values()) == {"pass", "skipped"}, write_text(report)
    assert report.checks[20].measured.endswith(f"; not listed at this platform: {text}")
    assert not [order for order in platform._book.orders.values() if order.live]
    assert not platform._book.positions


def test_nobody_listens(tmp_path, other):
    config, _, server = other
    server.stop()
    report = certify(config, "nt8", listen_s=1.0)
    assert report.checks[0].outcome is Outcome.FAIL
    assert "no bridge at 127.0.0.1" in report.checks[0].measured
    assert report.checks[19].outcome is Outcome.SKIPPED


# The command.


def test_numbers_are_for_good():
    checks = (*SESSION_CHECKS, *ORDER_CHECKS, LAST_CHECK)
    order = [check.number for check in checks]
    assert sorted(order) == list(range(1, 22))
    assert [number for number in order if number != 21] == list(range(1, 21)), "21 came later, and runs before 13"
    assert all(order.index(need) < order.index(check.number) for check in checks for need in check.needs)


def write_config(folder, config: GatewayConfig, platform: str):
    folder.mkdir()
    entry = msgspec.to_builtins(config.platforms[platform])
    symbols = [
        {"name": each.name, "contract": each.contract, "tick_size": str(each.tick_size)} for each in config.symbols
    ]
    gateway = {
        "run_folder": config.run_folder,
        "log_folder": config.log_folder,
        "symbols": symbols,
        "orders": {"journal": config.orders.journal},
    }
    (folder / "platform_configs.yaml").write_text(yaml.safe_dump({platform: entry}))
    (folder / "gateway_config.yaml").write_text(yaml.safe_dump(gateway))
    return folder


def test_the_command_writes_its_report(make_broker, tmp_path):
    broker = make_broker().go()
    folder = write_config(tmp_path / "config", broker.config(), "mt5")
    command = [sys.executable, "-m", "nexus_gateway.core.cli", "certify", "mt5", "-c", str(folder), "--seconds", "1"]
    text_file = tmp_path / "report.txt"
    done = subprocess.run([*command, "--json", "--report", str(text_file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"] is True
    assert [each["number"] for each in report["checks"]] == list(range(1, 22))
    assert "16 PASS" in text_file.read_text()
    broker.tell(lambda mt5: mt5.set_switches(trade_allowed=False))
    json_file = tmp_path / "report.json"
    done = subprocess.run([*command, "--report", str(json_file)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert " 4 FAIL" in done.stdout
    assert json.loads(json_file.read_text())["passed"] is False


def test_ctrl_c_takes_the_orders_away(make_broker, tmp_path):
    broker = make_broker().go()
    folder = write_config(tmp_path / "config", broker.config(), "mt5")
    command = [sys.executable, "-m", "nexus_gateway.core.cli", "certify", "mt5", "-c", str(folder), "--seconds", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(" 13 "):
                process.send_signal(signal.SIGINT)
                break
        printed, _ = process.communicate(timeout=patient(60))
    assert process.returncode == 1
    assert "interrupted" in printed
    assert is_clean(broker)


@pytest.mark.parametrize(
    "options", [["--quantity", "0"], ["--distance", "nan"], ["--seconds", "0"], ["--platform", "x"]]
)
def test_wrong_options(options):
    assert CliRunner().invoke(app, ["certify", "mt5", *options]).exit_code == 2
