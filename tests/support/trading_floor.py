"""A real gateway process, with platforms and a NEXUS that are played by the test through real links."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import yaml
from nexus_gateway.core.config import DiskConfig, GatewayConfig, OrdersConfig, PlatformConfig
from nexus_gateway.core.messages import (
    Account,
    AdminResult,
    Bracket,
    Cancel,
    Executions,
    Fill,
    Hello,
    Kill,
    LegState,
    Message,
    Order,
    OrderUpdate,
    Position,
    Positions,
    Query,
    QueryKind,
    Reject,
    RejectCode,
    Report,
    Resume,
    Role,
    Side,
    Signal,
    SignalState,
    Snapshot,
    SnapshotRequest,
    StageChange,
    Target,
    WorkingOrder,
    WorkingOrders,
)
from nexus_gateway.core.process import LaunchFile, ProcessId, ProcessSpec
from nexus_gateway.core.risk import Limits, Stage
from nexus_gateway.core.transport import LinkClient, LinkTiming, client_endpoint
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.segment import SegmentError
from nexus_gateway.shm.symbols import Symbol, add_symbols
from nexus_gateway.shm.tick import TICK_DTYPE, Platform, TickFlag
from nexus_gateway.shm.writer import TickWriter

from .links import adapter_hello, keys_for, make_key_folder, nexus_hello, short_folder
from .patience import patient

D = Decimal
ROOT = Path(__file__).parents[2]
TIMING = LinkTiming(
    heartbeat_ms=100, mute_after_ms=int(patient(1_500)), welcome_within_ms=500, backoff_first_ms=20, backoff_max_ms=200
)

SYMBOLS = ("NQ", "ES")
OWN_ADAPTERS = {"orders": "external", "accounts": ["SIM1", "SIM2"]}
"""Settings of a platform whose adapter a test plays itself."""
_names = itertools.count(1)


def floor_limits(**changes: object) -> Limits:
    """The shipped limits with a stage that lets the floor's platforms trade, and no look-alike window."""
    shipped = GatewayConfig().limits
    names = ("nt8", "sierra", "quantower")
    stages = {
        1: Stage(
            name="small", platforms=names, symbols=SYMBOLS, max_size=D(2), max_trades_per_day=1000,
            risk_per_trade_usd=D(5_000), confirmation="small again",
        ),
        2: Stage(
            name="large", platforms=names, symbols=SYMBOLS, max_size=D(5), max_trades_per_day=1000,
            risk_per_trade_usd=D(5_000), confirmation="I promote to stage 2",
        ),
    }  # fmt: skip
    values = {"stages": stages, "lookalike_window_ms": 0, "max_same_side_entries": None, "max_position_default": D(50)}
    values |= {"max_daily_loss_usd": D(1_000_000), "max_drawdown_usd": D(1_000_000)}
    return msgspec.structs.replace(shipped, **(values | changes))


class FakePlatform:
    """An adapter with its platform: follows the messages, and does with an order what `mode` says.

    Modes: fill, partial (half, then works on), work, reject, silent (places it, and says nothing).
    """

    def __init__(self, floor: Floor, name: str, account: str = "SIM1", mode: str = "fill", **hello: object) -> None:
        self.name, self.account, self.mode = name, account, mode
        self.hello = adapter_hello(name, account, **hello)
        self.client = LinkClient(
            floor.adapter_endpoint, self.hello, keys_for(floor.config.keys_path, self.hello), TIMING
        )
        self.placed: list[Order] = []
        self.working: dict[str, WorkingOrder] = {}
        self.fills: list[Fill] = []
        self.refused = 0
        self.snapshots = 0
        self.held_updates = False
        self.hung = False
        self.answers_snapshots = True
        self.price = D(21_000)

    @property
    def position(self) -> Decimal:
        return sum((fill.quantity * fill.side.sign for fill in self.fills), D(0))

    def turn(self) -> None:
        if self.hung:
            return
        for body in self.client.receive():
            if isinstance(body, Order):
                self._place(body)
            elif isinstance(body, Cancel):
                self._cancel(body)
            elif isinstance(body, SnapshotRequest) and self.answers_snapshots:
                self.snapshots += 1
                self.client.send(self.snapshot(body.request_id))
        self.client.tick()

    def _place(self, order: Order) -> None:
        assert order.client_order_id not in {each.client_order_id for each in self.placed}, "an order was sent twice"
        self.placed.append(order)
        if self.mode == "reject":
            self.say(Reject(code=RejectCode.PLATFORM_REJECTED, text="no", client_order_id=order.client_order_id,
                            platform=self.name, account=self.account))  # fmt: skip
            return
        row = WorkingOrder(
            client_order_id=order.client_order_id, symbol=order.symbol, side=order.side, state=LegState.WORKING,
            quantity=order.quantity, filled=D(0), platform_order_id=f"P{len(self.placed)}",
            order_type=order.order_type, limit_price=order.limit_price, stop_price=order.stop_price,
        )  # fmt: skip
        self.working[order.client_order_id] = row
        self._update(row)
        if self.mode == "fill" or order.reduce_only:
            self.fill(order.client_order_id, order.quantity)
        elif self.mode == "partial":
            self.fill(order.client_order_id, order.quantity / 2)

    def fill(self, client_order_id: str, quantity: Decimal) -> None:
        row = self.working[client_order_id]
        filled = row.filled + quantity
        state = LegState.FILLED if filled == row.quantity else LegState.PARTIALLY_FILLED
        row = self.working[client_order_id] = msgspec.structs.replace(row, filled=filled, state=state)
        fill = Fill(
            platform=self.name, account=self.account, exec_id=f"{self.name}-{len(self.fills) + 1}",
            client_order_id=client_order_id, symbol=row.symbol, side=row.side, quantity=quantity, price=self.price,
            ts_event_ns=time.time_ns(), fee=D("0.5"), fee_currency="USD",
        )  # fmt: skip
        self.fills.append(fill)
        self.say(fill)
        self._update(row)

    def _cancel(self, cancel: Cancel) -> None:
        row = self.working.get(cancel.client_order_id)
        if row is not None and not row.state.final:
            row = self.working[cancel.client_order_id] = msgspec.structs.replace(row, state=LegState.CANCELLED)
            self._update(row)

    def _update(self, row: WorkingOrder) -> None:
        self.say(
            OrderUpdate(
                client_order_id=row.client_order_id, platform=self.name, account=self.account, symbol=row.symbol,
                side=row.side, state=row.state, quantity=row.quantity, filled=row.filled,
                platform_order_id=row.platform_order_id, order_type=row.order_type, limit_price=row.limit_price,
                stop_price=row.stop_price, ts_event_ns=time.time_ns(),
            )
        )  # fmt: skip

    def say(self, body: Message) -> None:
        if self.mode != "silent":
            self.client.send(body)

    def snapshot(self, request_id: int) -> Snapshot:
        whose = {"platform": self.name, "account": self.account, "as_of_ns": time.time_ns()}
        net = {s: sum((f.quantity * f.side.sign for f in self.fills if f.symbol == s), D(0)) for s in SYMBOLS}
        rows = tuple(Position(symbol=symbol, quantity=lots) for symbol, lots in net.items() if lots)
        return Snapshot(
            request_id=request_id,
            platform=self.name,
            account=self.account,
            positions=Positions(rows=rows, **whose),
            working_orders=WorkingOrders(rows=tuple(self.working.values()), **whose),
            executions=Executions(rows=tuple(self.fills), **whose),
            funds=Account(currency="USD", balance=D(50_000), equity=D(50_000), **whose),
        )


class FakeNexus:
    """A NEXUS, or an operator, at the other port."""

    def __init__(self, floor: Floor, name: str = "nexus", role: Role = Role.NEXUS) -> None:
        hello = nexus_hello(name, role)
        self.client = LinkClient(floor.nexus_endpoint, hello, keys_for(floor.config.keys_path, hello), TIMING)
        self.heard: list[Message] = []

    def turn(self) -> None:
        self.heard += self.client.receive()
        self.client.tick()

    def report(self, signal_id: str) -> Report | None:
        found = [body for body in self.heard if isinstance(body, Report) and body.signal_id == signal_id]
        return max(found, key=lambda report: report.revision) if found else None

    def results(self, request_id: int) -> list[AdminResult]:
        return [body for body in self.heard if isinstance(body, AdminResult) and body.request_id == request_id]


class Floor:
    """The gateway, its run folder, its market, and who is linked to it. Close it."""

    def __init__(self, platforms: tuple[str, ...] = ("nt8", "sierra"), **orders: object) -> None:
        self.root = short_folder()
        self.folder = self.root / "run"
        self.folder.mkdir(mode=0o700)
        limits = orders.pop("limits", None) or floor_limits()
        disk = orders.pop("disk", None) or DiskConfig()
        settings: dict[str, object] = {
            "adapter_port": 0, "nexus_port": 0, "heartbeat_ms": TIMING.heartbeat_ms,
            "mute_after_ms": TIMING.mute_after_ms, "journal": str(self.root / "orders.sqlite"),
            "send_within_ms": 500, "ack_ms": 600, "settle_ms": 700, "proof_ms": 5_000,
        }  # fmt: skip
        adapter = "nexus_gateway.adapters.simulator:SimulatorAdapter"
        self.config = GatewayConfig(
            run_folder=str(self.folder),
            log_folder=str(self.root / "logs"),
            orders=OrdersConfig(**(settings | orders)),
            platforms={
                name: PlatformConfig(adapter=adapter, symbols=SYMBOLS, settings=dict(OWN_ADAPTERS))
                for name in platforms
            },
            disk=disk,  # type: ignore[arg-type]  # popped from free keywords
            limits=limits,  # type: ignore[arg-type]  # popped from free keywords
        )
        make_key_folder(self.config.keys_path)
        self.adapter_endpoint = client_endpoint(self.folder, "adapters", "127.0.0.1", self.config.orders.adapter_port)
        self.nexus_endpoint = client_endpoint(self.folder, "nexus", "127.0.0.1", self.config.orders.nexus_port)
        self.ids = dict(zip(SYMBOLS, add_symbols(self.folder, [Symbol(0, name) for name in SYMBOLS]), strict=True))
        self.writers = {
            name: TickWriter(self.folder, name, Platform.parse(name), capacity=64, board_rows=16) for name in platforms
        }
        self.entry, self.arguments = "nexus_gateway.core.gateway:main", dict[str, object]()
        self.command_prefix: tuple[str, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None
        self.people: list[FakePlatform | FakeNexus] = []
        self._next_beat_s = 0.0

    def write_config(self) -> Path:
        """The configuration as files, for commands."""
        folder = self.root / "config"
        folder.mkdir(exist_ok=True)
        plain = msgspec.to_builtins(self.config, str_keys=True)
        gateway = {name: plain[name] for name in ("run_folder", "log_folder", "orders")}
        limits = plain["limits"] | {"stages": {int(k): v for k, v in plain["limits"]["stages"].items()}}
        platforms = {
            name: {"adapter": each.adapter, "symbols": list(each.symbols), "settings": deepcopy(each.settings)}
            for name, each in self.config.platforms.items()
        }
        files = {"gateway_config": gateway, "platform_configs": platforms, "risk_limits": limits}
        for name, content in files.items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return folder

    def start(self) -> None:
        spec = ProcessSpec(name="gateway", entry=self.entry, arguments=self.arguments)
        LaunchFile(launcher=ProcessId.own(), console=True, config=self.config, processes={"gateway": spec}).write(
            self.folder
        )
        command = [
            *self.command_prefix,
            sys.executable,
            "-P",
            "-m",
            "nexus_gateway.core.process",
            "gateway",
            "--run-folder",
            str(self.folder),
        ]
        with (self.root / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=stderr)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Kill -9, start again, and wait until everybody has a new session and every platform is reconciled."""
        self.kill()
        links = {person: person.client.counts["links"] for person in self.people}
        self.start()
        self.until(lambda: all(person.client.counts["links"] > links[person] for person in self.people))
        self.wait_until_reconciled()

    def wait_until_reconciled(self) -> None:
        """As the gateway itself says, after links were cut: the counters page is some time behind it."""
        self.until(self._is_reconciled)

    def _is_reconciled(self) -> bool:
        # Asked of the operator's own question, since the counters page still shows what the dead one has written.
        admin = self.nexus(f"asker{next(_names)}", Role.ADMIN)
        try:
            self.until(lambda: admin.client.is_up)
            admin.client.send(Query(request_id=1, what=QueryKind.STATUS))
            self.until(lambda: admin.results(1))
            return all("not reconciled" not in line for line in admin.results(1)[0].lines)
        finally:
            self.people.remove(admin)
            admin.client.close()

    def platform(self, name: str, **options: object) -> FakePlatform:
        platform = FakePlatform(self, name, **options)  # type: ignore[arg-type]  # a test names what it varies
        self.people.append(platform)
        return platform

    def nexus(self, name: str = "nexus", role: Role = Role.NEXUS) -> FakeNexus:
        nexus = FakeNexus(self, name, role)
        self.people.append(nexus)
        return nexus

    def quote(self, bid: str = "20999.75", ask: str = "21000", flags: int = 3, platform: str | None = None) -> None:
        for name, writer in self.writers.items():
            if platform in (None, name):
                for symbol_id in self.ids.values():
                    tick = np.zeros(1, TICK_DTYPE)
                    tick["symbol"], tick["flags"] = symbol_id, flags
                    tick["bid"], tick["ask"], tick["last"] = float(bid), float(ask), float("nan")
                    tick["ts_event_ns"] = time.time_ns()
                    writer.publish(tick)

    def stale(self) -> None:
        self.quote(flags=int(TickFlag.STALE))

    def turn(self) -> None:
        if time.monotonic() >= self._next_beat_s:
            self._next_beat_s = time.monotonic() + 0.1
            for writer in self.writers.values():
                writer.beat()
        for person in self.people:
            person.turn()

    def until(self, true: Callable[[], object], patience_s: float = 30.0) -> None:
        """Turn everybody until `true`; the patience is for a busy machine, no bound on speed."""
        deadline = time.monotonic() + patient(patience_s)
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError(f"what the test waits for did not happen\n{self.log()[-3000:]}")
            self.turn()
            time.sleep(0.001)

    def rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def log(self) -> str:
        return (self.root / "stderr").read_text()

    def counters(self) -> dict[str, int]:
        try:
            return CountersPage.attach(self.folder, "gateway").values()
        except SegmentError:
            return {}

    def ready(self, routes: int) -> None:
        self.until(lambda: self.counters().get("routes_ready") == routes)

    def close(self) -> None:
        for person in self.people:
            person.client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=patient(60))
        for writer in self.writers.values():
            writer.close()
        shutil.rmtree(self.root, ignore_errors=True)


@contextlib.contextmanager
def open_floor(*modes: tuple[str, str], **orders: object) -> Iterator[tuple[Floor, list[FakePlatform], FakeNexus]]:
    """A floor whose platforms are linked and reconciled, with fresh quotes and a NEXUS. `modes`: (platform, mode)."""
    floor = Floor(tuple(name for name, _ in modes), **orders)
    try:
        floor.quote()
        floor.start()
        platforms = [floor.platform(name, mode=mode) for name, mode in modes]
        nexus = floor.nexus()
        floor.until(lambda: nexus.client.is_up)
        floor.ready(len(modes))
        yield floor, platforms, nexus
    finally:
        floor.close()


def make_signal(*platforms: str, signal_id: str = "", side: Side = Side.BUY, **fields: object) -> Signal:
    """A market order of one lot with a stop 20 points away, on each platform."""
    stop = D(20_980) if side is Side.BUY else D(21_020)
    values: dict[str, object] = {
        "signal_id": signal_id or f"s{next(_names)}",
        "symbol": "NQ",
        "side": side,
        "created_ns": time.time_ns(),
        "targets": tuple(Target(platform=platform) for platform in platforms),
        "quantity": D(1),
        "bracket": Bracket(stop_loss=stop),
        "enter_by_ns": time.time_ns() + 10**11,  # a busy machine is no reason to refuse it
    }
    return Signal(**(values | fields))  # type: ignore[arg-type]  # a test names what it varies


__all__ = [
    "FakeNexus",
    "FakePlatform",
    "Floor",
    "Hello",
    "Kill",
    "Query",
    "Resume",
    "SignalState",
    "StageChange",
    "floor_limits",
    "make_signal",
    "open_floor",
]
