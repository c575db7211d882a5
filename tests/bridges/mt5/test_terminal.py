"""The real bridge of MetaTrader 5 and what can befall it: its start, its terminal, other accounts, liars."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from nexus_gateway.adapters.base import LinkLostError
from nexus_gateway.core import messages as m
from nexus_gateway.core.errors import ConfigError

from tests.mt5_terminal.control import StandIn
from tests.reference_bridge import wire
from tests.support.mt5_benches import Mt5Bench
from tests.support.mt5_bridges import SCRIPT, BridgeProcess, load_bridge
from tests.support.patience import patient
from tests.support.ports import free_port

mt5 = load_bridge()
PATIENCE_S = 30.0


@pytest.fixture
def bench(tmp_path):
    with Mt5Bench(tmp_path, margin_mode="netting") as bench:
        yield bench.start()


def wait_log(bridge: BridgeProcess, words: str) -> None:
    deadline = time.monotonic() + patient(PATIENCE_S)
    while words not in bridge.log():
        assert time.monotonic() < deadline, bridge.log()[-2000:]
        time.sleep(0.01)


def wait_pulse(bridge: BridgeProcess) -> None:
    deadline = time.monotonic() + patient(PATIENCE_S)
    while not Path(str(bridge.config["pulse_file"])).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Its start and its end.


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    with StandIn(tmp_path_factory.mktemp("t"), "b3", launch_wait_s=0.2) as stand_in:
        yield stand_in


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"login": 4711}, "login was 70012345, the configuration names 4711"),
        ({"server": "Elsewhere"}, "server was 'StandInB3-PRD'"),
        ({"company": "Somebody"}, "company was"),
        ({"servr": "x"}, "unknown key 'servr'"),
        ({"token_file": "/no/such/file"}, "cannot be read"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_what_a_person_must_correct_ends_it_with_2(stand_in, tmp_path, change, words):
    bridge = BridgeProcess(stand_in, tmp_path, "b3", "mt5_br", account_wait_s=0, **change)
    assert bridge.start().wait(patient(PATIENCE_S)) == 2
    assert words in bridge.log()
    assert "Traceback" not in bridge.log()


def test_a_terminal_that_is_still_on_its_way_to_the_account_is_waited_for(tmp_path):
    with Mt5Bench(tmp_path) as bench:
        bench.stand_in.set_account(login=31337)
        bench.bridge.start()
        wait_log(bench.bridge, "login was 31337")
        with pytest.raises(LinkLostError, match=r"not_ready.*login was 31337"):
            bench.adapter.connect()
        bench.stand_in.set_account(login=bench.bridge.config["login"])
        assert bench.open().complete


def test_without_the_package_it_says_what_to_install(stand_in, tmp_path):
    bridge = BridgeProcess(stand_in, tmp_path, "b3", "mt5_br")
    bridge.config_file.write_text(json.dumps(bridge.config))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(bridge.config_file)], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 2
    assert "pip install MetaTrader5" in done.stderr


def test_check_prints_what_was_found(stand_in, tmp_path):
    bridge = BridgeProcess(stand_in, tmp_path, "b3", "mt5_br")
    process = bridge.start("--check", stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=patient(PATIENCE_S))
    assert process.returncode == 0
    found = json.loads(out)
    assert (found["account"], found["currency"], found["mode"]) == ("70012345", "BRL", "netting")
    assert found["orders_up"] is True
    unknown = BridgeProcess(stand_in, tmp_path / "u", "b3", "mt5_br", terminal_path=str(tmp_path / "terminal64.exe"))
    assert unknown.start("--check").wait(patient(PATIENCE_S)) == 1
    assert "Process create failed" in unknown.log()


def test_it_ends_when_asked_or_when_its_lifeline_is_cut_and_tells_no_secret(stand_in, tmp_path):
    with contextlib.closing(BridgeProcess(stand_in, tmp_path, "b3", "mt5_br")) as bridge:
        bridge.start()
        wait_log(bridge, "serves mt5_br")
        wait_pulse(bridge)
        assert bridge.pulse()["until_ns"] > time.time_ns()
        assert bridge.stop() == 0
        process = bridge.start("--stdin-lifeline", stdin=subprocess.PIPE)
        deadline = time.monotonic() + patient(PATIENCE_S)
        while bridge.log().count("serves mt5_br") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(patient(PATIENCE_S)) == 0
        assert bridge.token not in bridge.log()
        assert bridge.token not in " ".join(map(str, process.args))


def test_a_port_that_is_taken_is_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(OSError, match="in use"):
            mt5.listen("127.0.0.1", port, 0.4)
        assert time.monotonic() - began > 0.3
    mt5.listen("127.0.0.1", port, 0.0).close()


# The terminal.


def test_a_terminal_that_is_not_there_yet(tmp_path):
    with Mt5Bench(tmp_path, running=False, launches=False) as bench:
        bench.bridge.start()
        wait_log(bench.bridge, "the terminal is lost")
        with pytest.raises(LinkLostError, match="not_ready: the terminal is not connected"):
            bench.adapter.connect()
        bench.stand_in.launch_terminal()
        assert bench.open().complete


def test_a_login_that_is_refused_names_its_cure(tmp_path):
    with Mt5Bench(tmp_path) as bench:
        bench.stand_in.refuse_login(True)
        bench.bridge.start()
        wait_log(bench.bridge, "log in to it by hand once")
        bench.stand_in.refuse_login(False)
        assert bench.open().complete


def test_somebody_logs_in_elsewhere_meanwhile(bench):
    """The other account's orders are nobody's business; the right one is served again when it is back."""
    bench.stand_in.set_account(login=31337)
    assert "login was 31337" in bench.until_lost()
    bench.stand_in.hand_trade(bench.name, "buy", 1.0)
    with pytest.raises(LinkLostError, match="not_ready"):
        bench.adapter.connect()
    bench.stand_in.set_account(login=bench.bridge.config["login"])
    bench.reopen()
    assert bench.bridge.is_running


def test_a_login_that_finds_the_terminal_wrong_or_gone_is_told_why(bench):
    bench.adapter.close()
    bench.stand_in.set_account(login=31337)
    with pytest.raises(LinkLostError, match=r"not_ready.*login was 31337"):
        bench.adapter.connect()
    bench.stand_in.set_account(login=bench.bridge.config["login"])
    bench.reopen()
    bench.adapter.close()
    bench.stand_in.kill_terminal(stay_down=True)
    with pytest.raises(LinkLostError, match="not_ready"):
        bench.adapter.connect()
    bench.stand_in.launch_terminal()
    bench.reopen()


def test_a_broker_that_is_away(bench):
    bench.stand_in.disconnect()
    bench.until(lambda: not bench.adapter.data_up, "a status")
    bench.wait_reject(bench.place(), m.RejectCode.LINK_DOWN)
    bench.stand_in.reconnect()
    assert "a new snapshot is needed" in bench.until_lost()
    bench.reopen()
    bench.wait_filled(bench.place())


def test_an_updated_terminal_is_another_build(bench):
    bench.stand_in.kill_terminal(stay_down=True)
    assert "the terminal is lost" in bench.until_lost()
    bench.stand_in.launch_terminal(build=6000)
    bench.reopen()
    assert "'build': '6000'" in bench.bridge.log()


# Busy, stalled, hung.


def test_a_long_order_send_is_announced_and_cuts_nothing(bench):
    """Longer than `mute_after_ms`: without the announcement the adapter would give the bridge up."""
    bench.stand_in.script("slow", after_ms=4_000)
    order = bench.place()
    bench.wait_filled(order)
    assert bench.pending_commands == 0
    bench.wait_state(order, m.LegState.FILLED)


def test_history_that_is_slow_to_come_is_announced(bench):
    """After an interruption the first read may have to fetch history: 45 s in life."""
    bench.quote(18001, 18001.25)
    bench.until(lambda: bench.moved().size, "a tick, to go on after")
    bench.adapter.close()
    bench.stand_in.slow_calls("copy_ticks_from", 3.0)
    bench.quote(18002, 18002.25)
    bench.open()
    assert bench.wait_moved(1)["bid"].tolist() == [18002]


def test_a_hung_terminal_is_given_up_by_the_adapter_and_shown_to_the_supervisor(bench):
    bench.listen(0.3)
    before = bench.bridge.pulse()
    assert before["pid"] == bench.bridge.pid
    bench.stand_in.hang()
    reason = bench.until_lost()
    assert "nothing heard" in reason or "does not listen" in reason
    with pytest.raises(LinkLostError):
        bench.adapter.connect()
    time.sleep(1.2)
    after = bench.bridge.pulse()
    assert after["at_ns"] == bench.bridge.pulse()["at_ns"], "no sign of life"
    assert after["until_ns"] - after["at_ns"] == mt5.HANG_LIMIT_MS * 1_000_000
    bench.bridge.kill()  # what a supervisor does then
    bench.stand_in.release()
    bench.bridge.start()
    bench.reopen()
    bench.wait_filled(bench.place())


def test_an_order_whose_call_never_returns(bench):
    """The bridge hangs in order_send and is killed: the order was executed, and the next session knows it."""
    bench.stand_in.script("hang_after")
    order = bench.place()
    deadline = time.monotonic() + patient(PATIENCE_S)
    while not bench.stand_in.truth().trades():
        assert time.monotonic() < deadline
        bench.listen(0.05)
    bench.bridge.kill()
    bench.stand_in.release()
    bench.bridge.start()
    snapshot = bench.reopen()
    assert [fill.client_order_id for fill in snapshot.executions.rows] == [order.client_order_id]
    bench.adapter.execute(order)
    bench.listen(0.3)
    assert len(bench.stand_in.truth().trades()) == 1


# Adapters.


def test_a_wrong_token_is_said_and_not_tried_again(tmp_path):
    with Mt5Bench(tmp_path) as bench:
        bench.bridge.write_token("another token, also long enough")
        bench.bridge.start()
        wait_log(bench.bridge, "serves")
        with pytest.raises(ConfigError, match="refused the token"):
            bench.adapter.connect()


def greet(port: int) -> tuple[socket.socket, wire.FrameReader]:
    connection = socket.create_connection(("127.0.0.1", port), 5)
    return connection, wire.FrameReader()


def read_to_the_end(connection: socket.socket, frames: wire.FrameReader) -> list[dict]:
    bodies = []
    connection.settimeout(patient(10))
    while True:
        data = connection.recv(1 << 16)
        if not data:
            return bodies
        bodies += [json.loads(payload)["body"] for _, payload in frames.feed(data)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" * 3, "wrong_version"),
        (wire.HEADER.pack(5, wire.MESSAGE, 0, wire.VERSION - 1) + b"hello", "wrong_version"),
        (wire.HEADER.pack(1 << 30, wire.MESSAGE, 0, wire.VERSION), "malformed"),
        (wire.HEADER.pack(64, wire.TICKS, 0, wire.VERSION) + bytes(64), "malformed"),
        (wire.pack_message(1, {"type": "place"}), "malformed"),
        (wire.pack_message(7, {"type": "login"}), "malformed"),
        (wire.pack_message(1, {"type": "subscribe", "symbols": []}), "malformed"),
        (wire.HEADER.pack(26, wire.MESSAGE, 0, wire.VERSION) + b'{"seq":"\\ud800","body":{}}', "malformed"),
    ],
    ids=["http", "version", "too long", "ticks", "fields missing", "gap", "before login", "no text"],
)
def test_a_liar_harms_its_own_connection_alone(bench, data, code):
    connection, frames = greet(bench.bridge.port)
    with connection:
        for first in range(0, len(data), 3):
            connection.sendall(data[first : first + 3])
        bodies = read_to_the_end(connection, frames)
    assert [body["type"] for body in bodies] == ["challenge", "error"]
    assert bodies[-1]["code"] == code
    bench.wait_filled(bench.place())
    assert bench.bridge.is_running


def test_garbage_floods_and_silence_harm_nobody_else(bench):
    rng = random.Random(5)
    silent, frames = greet(bench.bridge.port)
    for _ in range(30):
        connection, _ = greet(bench.bridge.port)
        with connection:
            try:
                connection.sendall(rng.randbytes(rng.choice([3, 8, 9, 200, 300_000])))
            except OSError:
                pass  # the bridge was quicker
        bench.adapter.poll(0.001)
    bench.quote(18_005, 18_005.25)
    bench.wait_moved(1)
    bench.wait_filled(bench.place())
    bench.listen(mt5.LOGIN_WITHIN_S)
    with silent:
        bodies = read_to_the_end(silent, frames)
    assert [body["type"] for body in bodies] == ["challenge", "error"]
    assert bodies[-1]["code"] == "mute"


def test_a_crowd_before_the_door_is_thinned_and_harms_nobody_else(bench):
    """Each holds one of the sockets that select can take."""
    crowd = []
    for _ in range(mt5.MAX_WITHOUT_SESSION + 8):
        crowd.append(greet(bench.bridge.port))
        bench.listen(0.02)
    for connection, frames in crowd[:8]:
        assert [body["type"] for body in read_to_the_end(connection, frames)] == ["challenge"], "no last word"
    wait_log(bench.bridge, "connections were closed to make room")
    bench.wait_filled(bench.place())
    for connection, _ in crowd:
        connection.close()


def test_a_new_login_replaces_the_older_one(bench):
    connection, frames = greet(bench.bridge.port)
    with connection:
        ((_, payload),) = frames.feed(connection.recv(1 << 16))
        challenge = wire.unpack_message(payload, 1)
        login = {
            "type": "login",
            "nonce": "ab" * 16,
            "proof": wire.prove(bench.bridge.token, "adapter", challenge["nonce"], "ab" * 16),
            "platform": "mt5",
            "heartbeat_ms": 100,
            "mute_after_ms": 500,
            "sent_ns": time.time_ns(),
        }
        connection.sendall(wire.pack_message(1, login))
        assert "replaced" in bench.until_lost()
        bodies = read_to_the_end(connection, frames)
    assert bodies[0]["type"] == "hello"
    assert bodies[0]["proof"] == wire.prove(bench.bridge.token, "bridge", "ab" * 16, challenge["nonce"])
    assert bodies[-1]["code"] == "mute", "it said nothing more"
    assert {body["type"] for body in bodies[1:-1]} <= {"heartbeat", "account"}
    bench.reopen()


def test_two_terminals_two_bridges_two_adapters_at_once(tmp_path):
    """Global and Brazil: each its own account, market and orders, also while the other one dies."""
    patience = {"mute_after_ms": 20_000}  # one is not turned while the other is waited for
    with (
        Mt5Bench(tmp_path / "g", "global", timing=patience) as world,
        Mt5Bench(tmp_path / "b", "b3", timing=patience) as brazil,
    ):
        world.start(20_000.0, 20_001.0)
        brazil.start(130_000, 130_005)
        for number in range(5):
            orders = [(each, each.place()) for each in (world, brazil)]
            for each, order in orders:
                each.quote(*((20_000.0, 20_001.0) if each is world else (130_000, 130_005)))
                each.wait_filled(order)
            if number == 2:
                world.stand_in.kill_terminal()
                brazil.bridge.kill()
                brazil.bridge.start()
                world.until_lost()
                world.reopen()
                brazil.reopen()
        for each, mode, currency in ((world, "hedging", "USD"), (brazil, "netting", "BRL")):
            assert each.adapter.account.mode.value == mode
            assert each.adapter.account.currency == currency
            (instrument,) = each.adapter.instruments
            assert instrument.platform_symbol == each.name
            snapshot = each.snapshot()
            assert sum(row.quantity for row in snapshot.positions.rows) == 5
            assert len(snapshot.executions.rows) == len(each.stand_in.truth().trades()) == 5
        wdo = brazil.adapter.instruments[0]
        assert (wdo.tick_size, wdo.point_value, wdo.lot_step) == (5, mt5.Decimal("0.2"), 1)


@contextlib.contextmanager
def two_bridges(folder: Path) -> Iterator[tuple[Mt5Bench, BridgeProcess]]:
    """One for orders, which the bench starts, and one for ticks; both on one terminal."""
    port = free_port()
    with Mt5Bench(folder / "o", bridge={"role": "orders"}, settings={"ticks_port": port}) as bench:
        token_file = bench.bridge.token_file.as_posix()
        ticks = BridgeProcess(bench.stand_in, folder / "k", "futures", role="ticks", port=port, token_file=token_file)
        try:
            yield bench, ticks
        finally:
            ticks.close()


def test_ticks_and_orders_in_two_processes_on_one_terminal(tmp_path):
    """Ticks do not wait for an order that takes long; and when one bridge dies, ticks go on where they ended."""
    with two_bridges(tmp_path) as (bench, ticks):
        ticks.start()
        bench.start()
        bench.stand_in.script("slow", after_ms=1_500)
        order = bench.place()
        for number in range(40):
            bench.quote(18_001 + number, 18_001.25 + number)
            bench.listen(0.01)
        assert bench.wait_moved(40)["bid"].tolist() == [18_001 + number for number in range(40)]
        assert not bench.fills(order), "order_send has not returned yet"
        bench.wait_filled(order)
        assert bench.page.values()["bridge_ticks_refused"] == 0
        for process in (ticks, bench.bridge):
            process.kill()
            bench.until_lost()
            with pytest.raises(LinkLostError):
                bench.adapter.connect()
            bench.adapter.close()
            bench.quote(19_000, 19_000.25)
            process.start()
            assert bench.reopen().complete
            bench.quote(19_001, 19_001.25)
            assert bench.wait_moved(2)["bid"].tolist() == [19_000, 19_001], "no hole, nothing twice"
            bench.wait_filled(bench.place())


def test_roles_that_do_not_go_together_are_refused(tmp_path):
    with two_bridges(tmp_path) as (bench, ticks):
        bench.bridge.start()
        ticks.config["role"] = "orders"
        ticks.start()
        with pytest.raises(ConfigError, match="has role 'orders', so nobody gives ticks"):
            bench.open()
        ticks.kill()
        bench.bridge.kill()
        ticks.config["role"] = "ticks"
        bench.bridge.config["role"] = "both"
        ticks.start()
        bench.bridge.start()
        with pytest.raises(ConfigError, match="has role 'both', must be 'orders'"):
            bench.open()


def test_a_bridge_for_ticks_takes_no_orders(tmp_path):
    with Mt5Bench(tmp_path, bridge={"role": "ticks"}) as bench:
        bench.start()
        bench.quote(18_001, 18_001.25)
        assert bench.wait_moved(1)["bid"].tolist() == [18_001]
        assert not bench.adapter.account.instruments
        bench.wait_reject(bench.place(), m.RejectCode.LINK_DOWN)
        assert bench.sends == 0


@pytest.mark.parametrize("role", ["orders", "both"])
def test_without_ticks_to_read_it_rests(stand_in, tmp_path, role):
    """A stream that nobody polls is always due."""
    process = BridgeProcess(stand_in, tmp_path, "b3", "mt5_br", role=role)
    process.config_file.write_text(json.dumps(process.config))
    config = mt5.load_config(str(process.config_file))
    bridge = mt5.Bridge(None, config, mt5.Log(None, "error"), None)
    bridge._keeper.trade = SimpleNamespace(monitor=SimpleNamespace(at_once=False))
    bridge._session.link = object()
    wanted = {"symbol_id": 1, "symbol": "WIN", "platform_symbol": "WINZ26", "after_ns": 0, "after_count": 0}
    bridge._subscriptions.streams = {1: mt5.Stream(wanted, None)}
    bridge._keeper.watch_due_s = bridge._orders.look_due_s = bridge._clock_watch.due_s = bridge._lag_due_s = 105.0
    assert (bridge._wait_s(100.0) > 0) == (role == "orders")


# The writer.


def test_order_events_overtake_ticks_and_counts_are_of_what_was_written():
    ours, theirs = socket.create_server(("127.0.0.1", 0)), socket.socket()
    theirs.connect(ours.getsockname())
    connection, _ = ours.accept()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    link = mt5.Link(connection, 0.0)
    link.open(lambda: {"type": "heartbeat", "ticks_sent": link.ticks_sent}, 1_000, 5_000)
    records = np.zeros(200_000, mt5.RECORD)
    link.queue_ticks(3, records)
    link.flush(0.5)
    assert 0 < link.ticks_waiting < 200_000, "the socket takes no more"
    for number in range(3):
        link.queue({"type": "fill", "number": number})
    frames = wire.FrameReader()
    seen: list = []
    ticks_before = 0
    theirs.settimeout(0.05)
    now_s = 0.5
    while sum(each if isinstance(each, int) else 0 for each in seen) < 200_000:
        try:
            data = theirs.recv(1 << 16)
        except TimeoutError:
            data = b""  # nothing is under way: the socket was not yet ready at the last flush
        for kind, payload in frames.feed(data):
            seen.append(len(payload) // 64 if kind == wire.TICKS else json.loads(payload)["body"])
        now_s += 0.05
        link.flush(now_s)
    fills = [i for i, each in enumerate(seen) if isinstance(each, dict) and each["type"] == "fill"]
    assert [seen[i]["number"] for i in fills] == [0, 1, 2]
    assert len(seen) - fills[-1] > 50, "they did not wait behind the ticks"
    for each in seen:
        if isinstance(each, int):
            ticks_before += each
        elif each["type"] == "heartbeat":
            assert each["ticks_sent"] == ticks_before
    assert sum(1 for each in seen if isinstance(each, dict) and each["type"] == "heartbeat") >= 2
    for each in (ours, theirs, connection):
        each.close()


def test_a_connection_that_cannot_keep_order_events_is_closed():
    server, theirs = socket.create_server(("127.0.0.1", 0)), socket.socket()
    theirs.connect(server.getsockname())
    link = mt5.Link(server.accept()[0], 0.0)
    for _ in range(mt5.MAX_URGENT):
        link.queue({"type": "fill"})
    assert not link.is_over
    link.queue({"type": "fill"})
    assert link.is_over
    for each in (server, theirs):
        each.close()


def test_ticks_of_a_contract_that_was_rolled_are_thrown_away():
    server, theirs = socket.create_server(("127.0.0.1", 0)), socket.socket()
    theirs.connect(server.getsockname())
    link = mt5.Link(server.accept()[0], 0.0)
    link.queue_ticks(1, np.zeros(10, mt5.RECORD))
    link.queue_ticks(2, np.zeros(3_000, mt5.RECORD))
    link.forget_ticks({2})
    assert link.ticks_waiting == 10
    link.close()
    for each in (server, theirs):
        each.close()
