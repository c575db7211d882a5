"""`python -m benchmarks.order_path`: from a tick to the fill that NEXUS knows, through real processes.

Three rigs, each with the journal at FULL on disk and on a memory file system:

- bare: the same four ZeroMQ hops (NEXUS, relay, platform, relay, NEXUS) and one SQLite commit of a row as large as an
  order's, with nothing else in between. The floor that the gateway's share is held against.
- gateway: NEXUS's link, the real gateway process, a platform that answers each order at once with acknowledgement, fill
  and end. One order after another for the latency, many at a time for the rate.
- whole: the real adapter process with its paper account, a NEXUS that reads the ring and signals on a tick.

Each checks its own answers: every order placed once, every lot filled once.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq
from nexus_gateway.core.config import GatewayConfig, OrdersConfig, PlatformConfig, SymbolConfig
from nexus_gateway.core.messages import (
    Account,
    AccountMode,
    Bracket,
    Capabilities,
    Executions,
    Fill,
    Hello,
    LegState,
    Message,
    Order,
    OrderType,
    OrderUpdate,
    Positions,
    RejectCode,
    Report,
    Role,
    Signal,
    SignalClose,
    SignalState,
    Snapshot,
    SnapshotRequest,
    Target,
    TimeInForce,
    WorkingOrders,
)
from nexus_gateway.core.messages import Side as Direction
from nexus_gateway.core.plan import plan_processes
from nexus_gateway.core.process import LaunchFile, ProcessId
from nexus_gateway.core.risk import Stage
from nexus_gateway.core.transport import LinkClient, client_endpoint, ensure_token
from nexus_gateway.nexus_link.interface import NexusGatewayInterface
from nexus_gateway.nexus_link.link_options import options_of_config
from nexus_gateway.nexus_link.market_view import MarketView
from nexus_gateway.nexus_link.outcomes import SignalOutcome
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.segment import SegmentError
from nexus_gateway.shm.symbols import Symbol, add_symbols
from nexus_gateway.shm.tick import Platform, TickFlag
from nexus_gateway.shm.writer import TickWriter, empty_ticks

from benchmarks import machine
from benchmarks.between_processes import _expect

D = Decimal
ONE = D(1)
PLATFORMS = ("nt8", "sierra", "bookmap", "quantower")
PRICE = D(18_000)
ROW_BYTES = 1_600
"""What one signal with its order takes in the journal."""
MESSAGE_BYTES = 500
WARM_UP = 50
ROUND = 64
"""Signals opened, then closed, in a throughput run."""


def make_config(root: Path, platforms: tuple[str, ...]) -> GatewayConfig:
    """One symbol, no limits that a benchmark would meet, and the shipped waiting times."""
    plain = GatewayConfig().limits
    stage = Stage(
        name="all", platforms=platforms, symbols=("NQ",), max_size=D(5), max_trades_per_day=1_000_000,
        risk_per_trade_usd=D(1_000_000), confirmation="all of them",
    )  # fmt: skip
    limits = msgspec.structs.replace(
        plain, stage=1, stages={1: stage}, lookalike_window_ms=0, max_same_side_entries=None, max_spread_ticks=None,
        max_position_default=D(10**9), max_notional_usd=None, max_orders_per_s=None, max_quote_age_ms=60_000,
        max_orders_per_s_per_platform=None, max_daily_loss_usd=D(10**12), max_drawdown_usd=D(10**12),
    )  # fmt: skip
    simulator = PlatformConfig(
        adapter="nexus_gateway.adapters.simulator:SimulatorAdapter",
        symbols=("NQ",),
        settings={"ticks_per_s": 200, "halt_every_s": 1e9, "burst_every_s": 1e9},
    )
    return GatewayConfig(
        run_folder=str(root / "run"),
        log_folder=str(root / "logs"),
        symbols=(SymbolConfig(name="NQ", tick_size=D("0.25")),),
        ring_capacity=1 << 12,
        board_rows=16,
        orders=OrdersConfig(adapter_port=0, nexus_port=0, journal=str(root / "orders.sqlite"), proof_ms=3_600_000),
        platforms=dict.fromkeys(platforms, simulator),
        limits=limits,
    )


@contextmanager
def running(config: GatewayConfig, *names: str) -> Iterator[None]:
    """These processes of the configuration, until the block ends."""
    folder = config.run_path
    specs = {spec.name: spec for spec in plan_processes(config) if spec.name in names}
    LaunchFile(launcher=ProcessId.own(), console=False, config=config, processes=specs).write(folder)
    started = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "nexus_gateway.core.process", name, "--run-folder", str(folder)],
            stderr=subprocess.DEVNULL,
        )
        for name in names
    ]
    try:
        yield
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(60)


def wait_until(true: Callable[[], object], turn: Callable[[], object] = lambda: None) -> None:
    deadline_s = time.monotonic() + 60
    while not true():
        if time.monotonic() > deadline_s:
            raise RuntimeError("the benchmark's rig did not come up within 60 s; see the logs beside its journal")
        turn()
        time.sleep(0.005)


def gateway_counters(config: GatewayConfig) -> dict[str, int]:
    try:
        return CountersPage.attach(config.run_path, "gateway").values()
    except SegmentError:
        return {}


def percentiles(label: str, samples_ns: list[int]) -> float:
    """Print one row in milliseconds, and return the median in ms."""
    p50, p99, most = (float(value) / 1e6 for value in np.percentile(samples_ns[WARM_UP:], [50, 99, 100]))
    print(f"  {label:<46} {p50:>8.3f} {p99:>8.3f} {most:>8.3f}   n = {len(samples_ns) - WARM_UP}")
    return p50


# Bare: four hops and a commit.


def _relay(root: str) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as nexus, context.socket(zmq.ROUTER) as platform:
        nexus.bind(f"ipc://{root}/bare-nexus")
        platform.bind(f"ipc://{root}/bare-platform")
        database = sqlite3.connect(f"{root}/bare.sqlite", isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, content BLOB)")
        poller = zmq.Poller()
        poller.register(nexus, zmq.POLLIN)
        poller.register(platform, zmq.POLLIN)
        to_nexus, to_platform = b"", platform.recv_multipart()[0]
        while True:
            for socket, _ in poller.poll():
                if socket is nexus:
                    to_nexus, content = nexus.recv_multipart()
                    if not content:
                        platform.send_multipart([to_platform, b""])
                        return
                    database.execute("INSERT INTO rows (content) VALUES (?)", (bytes(ROW_BYTES),))
                    platform.send_multipart([to_platform, content])
                else:
                    nexus.send_multipart([to_nexus, platform.recv_multipart()[1]])


def _echo(root: str) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(f"ipc://{root}/bare-platform")
        socket.send(b"here")
        while content := socket.recv():
            socket.send(content)


def measure_bare(root: Path, count: int) -> list[int]:
    """ns from NEXUS to platform and back by way of a relay that commits once."""
    started = [machine.context().Process(target=each, args=(str(root),), daemon=True) for each in (_relay, _echo)]
    for process in started:
        process.start()
    samples_ns = []
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(f"ipc://{root}/bare-nexus")
        for number in range(count):
            content = number.to_bytes(4, "little") + bytes(MESSAGE_BYTES)
            before_ns = time.perf_counter_ns()
            socket.send(content)
            answer = socket.recv()
            samples_ns.append(time.perf_counter_ns() - before_ns)
            _expect(answer, content)
        socket.send(b"")
        for process in started:
            process.join(10)
    with sqlite3.connect(root / "bare.sqlite") as database:
        _expect(database.execute("SELECT count(*) FROM rows").fetchone()[0], count)
    return samples_ns


# Gateway: real process, platforms that answer at once.


class InstantPlatform:
    """An adapter and platform in one: every order is accepted and filled before anything else is looked at."""

    def __init__(self, config: GatewayConfig, name: str, token: str) -> None:
        can_all = Capabilities(order_types=tuple(OrderType), times_in_force=tuple(TimeInForce), brackets=True)
        hello = Hello(
            role=Role.ADAPTER, name=name, boot_id=f"instant-{name}", platform=name, account="SIM",
            account_mode=AccountMode.NETTING, capabilities=can_all, token=token,
        )  # fmt: skip
        self.client = LinkClient(client_endpoint(config.run_path, "adapters", "127.0.0.1", 0), hello)
        self._whose: dict[str, Any] = {"platform": name, "account": "SIM"}
        self._placed: set[str] = set()

    def turn(self) -> None:
        for body in self.client.receive():
            if isinstance(body, Order):
                self._fill(body)
            elif isinstance(body, SnapshotRequest):
                whose = self._whose | {"as_of_ns": time.time_ns()}
                parts = {"positions": Positions(**whose, rows=()), "working_orders": WorkingOrders(**whose, rows=())}
                funds = Account(**whose, currency="USD", balance=D(10**6), equity=D(10**6))
                parts |= {"executions": Executions(**whose, rows=()), "funds": funds}
                self.client.send(Snapshot(request_id=body.request_id, **self._whose, **parts))
        self.client.tick()

    def _fill(self, order: Order) -> None:
        _expect(order.client_order_id in self._placed, False)
        self._placed.add(order.client_order_id)
        row: dict[str, Any] = self._whose | {
            "client_order_id": order.client_order_id, "symbol": order.symbol, "side": order.side,
            "quantity": order.quantity, "platform_order_id": f"P{len(self._placed)}", "ts_event_ns": time.time_ns(),
        }  # fmt: skip
        terms = row | {"order_type": order.order_type}
        self.client.send(OrderUpdate(**terms, state=LegState.WORKING, filled=D(0)))
        self.client.send(Fill(**row, exec_id=f"X{len(self._placed)}", price=PRICE))
        self.client.send(OrderUpdate(**terms, state=LegState.FILLED, filled=order.quantity))


def _play_platforms(config: GatewayConfig, token: str) -> None:
    platforms = [InstantPlatform(config, name, token) for name in PLATFORMS]
    while True:
        poller = zmq.Poller()
        for platform in platforms:
            if platform.client.socket is not None:
                poller.register(platform.client.socket, zmq.POLLIN)
        poller.poll(min(platform.client.wait_ms() for platform in platforms))
        for platform in platforms:
            platform.turn()


class Desk:
    """NEXUS at the bare link, and the market that the gateway checks against."""

    def __init__(self, config: GatewayConfig, token: str) -> None:
        folder = config.run_path
        (self._symbol_id,) = add_symbols(folder, [Symbol(0, "NQ", tick_size=0.25)])
        self._writers = [TickWriter(folder, n, Platform.parse(n), capacity=64, board_rows=16) for n in PLATFORMS]
        hello = Hello(role=Role.NEXUS, name="nexus", boot_id="desk", token=token)
        self.client = LinkClient(client_endpoint(folder, "nexus", "127.0.0.1", 0), hello)
        self.filled: dict[str, Decimal] = {}
        self._sent = 0
        self._next_quote_s = 0.0

    def turn(self, wait_ms: int = 0) -> list[Message]:
        """What has come; `filled` has the lots of each signal by the newest report."""
        if time.monotonic() >= self._next_quote_s:
            self._next_quote_s = time.monotonic() + 0.5
            self._quote()
        if wait_ms and self.client.socket is not None:
            self.client.socket.poll(wait_ms)
        heard = self.client.receive()
        for body in heard:
            if isinstance(body, Report):
                self.filled[body.signal_id] = body.filled
        self.client.tick()
        return heard

    def send(self, platforms: tuple[str, ...], closing: bool = False) -> str:
        """One lot more on each platform, or one less."""
        self._sent += 1
        signal = Signal(
            signal_id=f"b{self._sent}",
            symbol="NQ",
            side=Direction.SELL if closing else Direction.BUY,
            created_ns=time.time_ns(),
            quantity=ONE,
            targets=tuple(Target(platform=name) for name in platforms),
            bracket=None if closing else Bracket(stop_loss=PRICE - 100),
            reduce_only=closing,
        )
        _expect(self.client.send(signal), True)
        return signal.signal_id

    def fill(self, platforms: tuple[str, ...], count: int, at_once: int, closing: bool) -> None:
        """Send so many signals, at most `at_once` in flight, until all have filled."""
        sent: list[str] = []
        done = 0
        while done < count:
            while len(sent) < min(count, done + at_once):
                sent.append(self.send(platforms, closing))
            self.turn(wait_ms=100)
            while done < len(sent) and self.filled.get(sent[done]) == len(platforms):
                done += 1

    def close(self) -> None:
        self.client.close()
        for writer in self._writers:
            writer.close()

    def _quote(self) -> None:
        tick = empty_ticks(1)
        tick["symbol"], tick["flags"] = self._symbol_id, int(TickFlag.BID | TickFlag.ASK)
        tick["bid"], tick["ask"], tick["last"] = float(PRICE), float(PRICE), float("nan")
        for writer in self._writers:
            writer.publish(tick)
            writer.beat()


def measure_gateway(root: Path, latencies: int, orders: int, at_once: int) -> tuple[list[int], dict[int, float]]:
    """ns from signal to the fill that NEXUS knows, one at a time; orders/s with signals of one leg, and of four."""
    config = make_config(root, PLATFORMS)
    config.run_path.mkdir(mode=0o700)
    token = ensure_token(config.token_path)
    with running(config, "gateway"):
        platforms = machine.context().Process(target=_play_platforms, args=(config, token), daemon=True)
        platforms.start()
        desk = Desk(config, token)
        wait_until(lambda: gateway_counters(config).get("routes_ready") == len(PLATFORMS), desk.turn)
        wait_until(lambda: desk.client.is_up, desk.turn)
        samples_ns = []
        for _ in range(latencies):
            before_ns = time.perf_counter_ns()
            signal_id = desk.send(PLATFORMS[:1])
            while not desk.filled.get(signal_id):
                desk.turn(wait_ms=100)
            samples_ns.append(time.perf_counter_ns() - before_ns)
        page = CountersPage.attach(config.run_path, "gateway")
        for name in ("signal_to_order_ns", "turn_ns", "commit_ns"):
            took = page.histogram(name)
            p50, p99, most = took.percentile(50) / 1e6, took.percentile(99) / 1e6, took.maximum / 1e6
            print(f"    gateway's own {name:<32} {p50:>8.3f} {p99:>8.3f} {most:>8.3f}   n = {took.count}")
        rates = {}
        lots = latencies
        for legs in (1, len(PLATFORMS)):
            rounds = max(1, orders // (2 * ROUND * legs))
            began_s = time.perf_counter()
            for _ in range(rounds):
                # Opened and closed again in turns, as in life: a gateway seldom holds thousands of open signals.
                for closing in (False, True):
                    desk.fill(PLATFORMS[:legs], ROUND, at_once, closing)
            lots += 2 * rounds * ROUND * legs
            rates[legs] = 2 * rounds * ROUND * legs / (time.perf_counter() - began_s)
        _expect(sum(desk.filled.values()), lots)
        wait_until(lambda: gateway_counters(config)["fills"] == lots, desk.turn)
        wait_until(lambda: gateway_counters(config)["orders_sent"] == lots, desk.turn)
        _expect(gateway_counters(config)["unknown"], 0)
        desk.close()
        platforms.kill()
        platforms.join()
    return samples_ns, rates


# Whole: from a tick in the ring.


def measure_whole(root: Path, count: int) -> tuple[list[int], list[int]]:
    """ns from the publication of a tick, and from the signal's decision, to the first fill that NEXUS knows."""
    config = make_config(root, ("nt8",))
    config.run_path.mkdir(mode=0o700)
    add_symbols(config.run_path, [Symbol(0, "NQ", tick_size=0.25)])
    from_tick_ns: list[int] = []
    from_signal_ns: list[int] = []
    filled_ns: dict[str, int] = {}

    def hear(outcome: SignalOutcome) -> None:
        if outcome.report is not None and outcome.report.filled:
            filled_ns.setdefault(outcome.signal_id, time.time_ns())

    with running(config, "gateway", "nt8"):
        nexus = NexusGatewayInterface(options_of_config(config, outbox=root / "nexus.outbox"))
        nexus.set_callbacks(on_outcome=hear)
        wait_until(lambda: gateway_counters(config).get("routes_ready") == 1)
        wait_until(lambda: nexus.connect(1))
        view = MarketView(config.run_path)
        ticks = empty_ticks(256)
        for number in range(count):
            while view.drain(ticks):
                pass  # what is there already is not news
            while not (taken := view.drain(ticks)):
                view.wait(1.0)
            decided_ns = time.time_ns()
            tick_ns = int(ticks["ts_recv_ns"][taken - 1])
            signal = Signal(
                signal_id=f"w{number}", symbol="NQ", side=Direction.BUY, created_ns=decided_ns, quantity=ONE,
                targets=(Target(platform="nt8"),), bracket=Bracket(stop_loss=PRICE - 1000), tick_ns=tick_ns,
            )  # fmt: skip
            nexus.send_signal(signal, 0)
            outcome = nexus.wait_settled(signal.signal_id, 30)
            _expect((outcome.state, outcome.code, outcome.text), (SignalState.FILLED, RejectCode.NONE, ""))
            wait_until(lambda name=signal.signal_id: name in filled_ns)
            from_tick_ns.append(filled_ns[signal.signal_id] - tick_ns)
            from_signal_ns.append(filled_ns[signal.signal_id] - decided_ns)
            nexus.change_signal(SignalClose(signal_id=signal.signal_id))
            wait_until(lambda name=signal.signal_id: nexus.outcome(name).state is SignalState.CLOSED)
        (account,) = nexus.ask_positions()
        _expect(sum(row.quantity for row in account.rows), 0)
        view.close()
        nexus.close()
    return from_tick_ns, from_signal_ns


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.order_path", description=__doc__)
    parser.add_argument("--latencies", type=int, default=500, help="orders one after another")
    parser.add_argument("--orders", type=int, default=4_000, help="orders of each throughput run")
    parser.add_argument("--at-once", type=int, default=64, help="signals in flight in the throughput runs")
    options = parser.parse_args()
    print(machine.describe())
    print(f"processes are not pinned; synchronous = FULL; row of {ROW_BYTES} bytes, message of {MESSAGE_BYTES}")
    for place, base in (("disk", None), ("memory", "/dev/shm" if Path("/dev/shm").is_dir() else None)):
        root = Path(tempfile.mkdtemp(prefix="nxg", dir=base))
        try:
            for name in ("bare", "gateway", "whole"):
                (root / name).mkdir(mode=0o700)
            print(f"\njournal on {place}, ms {'p50':>44} {'p99':>8} {'max':>8}")
            bare = percentiles("bare: four hops and one commit", measure_bare(root / "bare", options.latencies))
            samples_ns, rates = measure_gateway(root / "gateway", options.latencies, options.orders, options.at_once)
            share = percentiles("gateway: signal to fill, instant platform", samples_ns)
            from_tick_ns, from_signal_ns = measure_whole(root / "whole", options.latencies)
            percentiles("whole: tick to fill, paper adapter", from_tick_ns)
            percentiles("whole: signal to fill", from_signal_ns)
            print(f"  gateway against bare, p50: {share / bare:.2f} x")
            for legs, rate in rates.items():
                print(
                    f"  sustained, {legs} order(s) a signal, {options.at_once} signals in flight: {rate:,.0f} orders/s"
                )
        finally:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
