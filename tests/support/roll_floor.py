"""Gateway and six simulated platforms as real processes, whose roll waits until the test lets the last one be warm."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import msgspec
import psutil
from nexus_gateway.adapters.paper.book import PaperBook
from nexus_gateway.adapters.paper.store import PaperStore
from nexus_gateway.core.config import GatewayConfig, OrdersConfig, PlatformConfig, RolloverConfig, SymbolConfig
from nexus_gateway.core.launcher.launcher import Launcher
from nexus_gateway.core.launcher.plan import plan_processes
from nexus_gateway.core.messages import Bracket, Message, Report, Side, Signal, SignalState, Target
from nexus_gateway.core.risk import Stage
from nexus_gateway.core.transport import LinkClient, client_endpoint
from nexus_gateway.nexus_link.market_view import MarketView
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.segment import SegmentError
from nexus_gateway.shm.symbols import Symbol, SymbolDirectory
from nexus_gateway.shm.tick import Platform, TickFlag
from nexus_gateway.shm.writer import empty_ticks

from .launched import QUICK
from .links import nexus_hello, short_folder
from .patience import patient
from .trading_floor import TIMING, floor_limits

D = Decimal
SIX = ("mt5", "mt5_br", "nt8", "sierra", "bookmap", "quantower")
LATE = "bookmap"
"""Publishes what the test scripts, and so decides when everybody is warm."""
ROLLS = {"NQ": ("NQZ26", "NQH27"), "ES": ("ESZ26", "ESH27"), "YM": ("YMZ26", "YMH27")}
PRICES = {"NQ": (18000.0, 18180.0), "ES": (5000.0, 5050.0), "YM": (39000.0, 39390.0)}
_SIMULATOR = "nexus_gateway.adapters.simulator:SimulatorAdapter"


def _config(root: Path, rolls: dict[str, tuple[str, str]], rollover: dict, settings: dict[str, dict]) -> GatewayConfig:
    limits = floor_limits()
    roots = tuple(rolls)
    stage = msgspec.structs.replace(
        limits.stages[2], platforms=SIX, symbols=roots, max_trades_per_day=100_000, risk_per_trade_usd=D(100_000)
    )
    assert isinstance(stage, Stage)
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    chosen = {"switch_at": {rolls[name][0]: past for name in roots}, "warm_s": 60.0} | rollover
    return GatewayConfig(
        run_folder=str(root / "run"),
        log_folder=str(root / "logs"),
        symbols=tuple(
            SymbolConfig(name=name, contract=rolls[name][0], tick_size=D(1) if name == "YM" else D("0.25"))
            for name in roots
        ),
        ring_capacity=1 << 16,
        board_rows=64,
        launcher=msgspec.structs.replace(QUICK, max_restarts=50, start_timeout_s=120, heartbeat_timeout_s=60),
        platforms={
            name: PlatformConfig(
                adapter=_SIMULATOR,
                symbols=roots,
                settings={
                    "ticks_per_s": 0 if name == LATE else 200, "halt_every_s": 1e6, "burst_every_s": 1e6,
                    "paper": {"mode": "netting", "currency": "USD"},
                } | settings.get(name, {}),
            )
            for name in SIX
        },
        orders=OrdersConfig(
            adapter_port=0, nexus_port=0, heartbeat_ms=100, mute_after_ms=int(patient(1_000)),
            journal=str(root / "orders.sqlite"),
        ),
        rollover=RolloverConfig(**chosen),
        limits=msgspec.structs.replace(
            limits, stages=dict(limits.stages) | {1: msgspec.structs.replace(stage, name="all")},
            max_position_default=D(10_000), max_spread_ticks=None, max_notional_usd=None, max_orders_per_s=None,
            max_orders_per_s_per_platform=None, max_quote_age_ms=60_000,
        ),
    )  # fmt: skip


class RollFloor:
    """A context manager: starts everything and stops it. Turn it with `until`. `detached`: the launcher is a process of
    its own, which can be killed.
    """

    def __init__(
        self,
        roots: Sequence[str] = ("NQ",),
        *,
        rollover: dict | None = None,
        settings: dict | None = None,
        detached: bool = False,
        rolls: dict[str, tuple[str, str]] | None = None,
    ) -> None:
        self.root = short_folder()
        self.folder = self.root / "run"
        self.contracts = rolls or {root: ROLLS[root] for root in roots}
        self.roots = tuple(self.contracts)
        self.config = _config(self.root, self.contracts, rollover or {}, settings or {})
        self.warm: set[str] = set()
        self.detached = detached
        self.launcher: Launcher | subprocess.Popen[bytes] | None = None
        self.client: LinkClient | None = None
        self.view: MarketView | None = None
        self.heard: list[Message] = []
        self.rolls: list[tuple[str, int, int, float]] = []
        self.numbers = 0
        self._out = empty_ticks(8192)
        self._next_quote_s = 0.0

    def __enter__(self) -> RollFloor:
        self.folder.mkdir(mode=0o700)
        self.script()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self) -> None:
        if self.detached:
            path = self.root / "config.msgpack"
            path.write_bytes(msgspec.msgpack.encode(self.config))
            self.launcher = subprocess.Popen([sys.executable, "-m", __name__, str(path)], cwd=Path(__file__).parents[2])
            return
        self.launcher = Launcher(self.config, plan_processes(self.config), console=False)
        self.launcher.start()

    def stop(self) -> None:
        self._let_go()
        if isinstance(self.launcher, Launcher):
            self.launcher.stop()
        elif self.launcher is not None:
            self.launcher.terminate()
            self.launcher.wait(patient(60))
        self.launcher = None

    def kill_launcher(self) -> None:
        """kill -9 of the launcher; when its children have ended, another one starts."""
        assert isinstance(self.launcher, subprocess.Popen)
        children = psutil.Process(self.launcher.pid).children()
        self.launcher.kill()
        self.launcher.wait(patient(60))
        _, alive = psutil.wait_procs(children, timeout=patient(60))
        assert not alive
        self._let_go()
        self.start()

    def _let_go(self) -> None:
        for part in (self.view, self.client):
            if part is not None:
                part.close()
        self.view = self.client = None

    def script(self) -> None:
        """What the late platform publishes: quotes of the contracts in front, and of the next ones that are warm."""
        self.numbers += 1
        quotes = []
        for name in self.roots:
            old, new = PRICES[name]
            quotes.append([name, old, old + 1, 500, 500])
            # Heard after the roll only, under the old contract's own name: what is still open there can be closed.
            quotes.append([self.contracts[name][0], old, old + 1, 500, 500])
            if name in self.warm:
                quotes.append([self.contracts[name][1], new, new + 1, 500, 500])
        path = self.folder / f"{LATE}.platform.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"quotes": quotes, "number": self.numbers}))
        fresh.replace(path)

    def release(self, root: str) -> None:
        """From now on nothing stands in the way of a root's roll."""
        self.warm.add(root)
        self.script()

    def go_on(self) -> None:
        """The late platform's market goes on: a quote that is said once only may have come before anybody needed it."""
        if time.monotonic() >= self._next_quote_s:
            self._next_quote_s = time.monotonic() + 0.3
            self.script()

    def turn(self) -> None:
        assert self.launcher is not None
        if isinstance(self.launcher, Launcher):
            self.launcher.step()
        if self.client is None and self.config.keys_path.exists():
            endpoint = client_endpoint(self.folder, "nexus", "127.0.0.1", 0)
            self.client = LinkClient(endpoint, nexus_hello("nexus"), self.config.keys_path / "nexus", TIMING)
        if self.client is not None:
            self.heard += self.client.receive()
            self.client.tick()
        if self.view is None and (self.folder / "directory.symbols").exists():
            self.view = MarketView(self.folder, start="first")
        if self.view is None:
            return
        self.view.refresh_if_due()
        while count := self.view.drain(self._out):
            for tick in self._out[:count]:
                if tick["flags"] & TickFlag.ROLL:
                    source = Platform(int(tick["source"])).key
                    self.rolls.append((source, int(tick["symbol"]), int(tick["ts_recv_ns"]), float(tick["bid"])))

    def until(self, true: Callable[[], object], patience_s: float = 25.0) -> None:
        deadline = time.monotonic() + patient(patience_s)
        while not true():
            if time.monotonic() > deadline:
                logs = "\n".join(path.read_text()[-2500:] for path in (self.root / "logs").glob("*"))
                raise AssertionError(f"what the test waits for did not happen\n{logs}")
            self.turn()
            time.sleep(0.002)

    def entry(self, name: str) -> Symbol | None:
        try:
            directory = SymbolDirectory.attach(self.folder)
        except SegmentError:
            return None
        symbol_id = directory.id_of(name)
        return None if symbol_id is None else directory.entry(symbol_id)

    def contract(self, root: str) -> str:
        entry = self.entry(root)
        return "" if entry is None else entry.contract

    def counters(self, process: str = "gateway") -> dict[str, int]:
        try:
            return CountersPage.attach(self.folder, process).values()
        except SegmentError:
            return {}

    def ready(self, routes: int = len(SIX)) -> None:
        self.until(lambda: self.client is not None and self.client.is_up)
        self.until(lambda: self.counters().get("routes_ready") == routes)

    def signal(self, root: str = "NQ", platforms: Sequence[str] = SIX) -> str:
        """One lot at the market, everywhere; its id."""
        self.numbers += 1
        signal_id = f"s{self.numbers}"
        assert self.client is not None
        self.client.send(
            Signal(
                signal_id=signal_id, symbol=root, side=Side.BUY, created_ns=time.time_ns(),
                targets=tuple(Target(platform=name) for name in platforms), quantity=D(1),
                bracket=Bracket(stop_loss=D(int(PRICES[root][0] * 0.9))),  # killed, a simulator walks anew
                enter_by_ns=time.time_ns() + 10**11,  # a busy machine is no reason to refuse it
            )
        )  # fmt: skip
        return signal_id

    def trade_everywhere(self, root: str = "NQ", fills: int = len(SIX)) -> Report:
        """Signals to all six until one has filled on so many: while links are new some legs are refused."""
        texts: list[str] = []
        deadline = time.monotonic() + patient(60)
        while time.monotonic() < deadline:
            signal_id = self.signal(root)
            self.until(partial(self._is_settled_or_late, signal_id, time.monotonic() + patient(3)))
            report = self.report(signal_id)
            if report is None:
                continue  # lost with a gateway that was killed; NEXUS's own link would say it again
            if report.filled == fills:
                return report
            texts = [f"{leg.platform} {leg.state} {leg.code} {leg.text}" for leg in report.legs if not leg.filled]
            self.rest(0.2)
        raise AssertionError(f"no signal of {root} was filled everywhere; at last: {texts}")

    def _is_settled_or_late(self, signal_id: str, late_s: float) -> bool:
        return self.is_settled(signal_id) or time.monotonic() > late_s

    def rest(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end_s)

    def is_settled(self, signal_id: str) -> bool:
        report = self.report(signal_id)
        return report is not None and report.state not in (SignalState.WORKING, SignalState.UNKNOWN)

    def report(self, signal_id: str) -> Report | None:
        found = [body for body in self.heard if isinstance(body, Report) and body.signal_id == signal_id]
        return max(found, key=lambda report: report.revision) if found else None

    def kill(self, process: str) -> None:
        """kill -9; the launcher starts it again."""
        self.process(process).kill()

    def process(self, name: str) -> psutil.Process:
        """A child of the launcher."""
        assert isinstance(self.launcher, Launcher)
        return psutil.Process(next(row.pid for row in self.launcher.describe() if row.name == name))

    def book(self, platform: str) -> PaperBook:
        """A platform's account; after `stop`."""
        store = PaperStore(self.root / f"orders.{platform}.paper")
        try:
            book = store.load()
            assert book is not None
            return book
        finally:
            store.close()

    def decisions(self) -> int:
        """Rolls that the journal has."""
        path = self.root / "orders.sqlite"
        if not path.exists():
            return 0
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=patient(5))
        try:
            (count,) = connection.execute("SELECT count(*) FROM events WHERE kind = 'contract_chosen'").fetchone()
            return int(count)
        except sqlite3.Error:
            return 0
        finally:
            connection.close()

    def notes(self) -> str:
        """What users were told, as raw text."""
        connection = sqlite3.connect(f"file:{self.root / 'orders.sqlite'}?mode=ro", uri=True, timeout=patient(5))
        try:
            rows = connection.execute("SELECT payload FROM notes WHERE kind = 'alert'").fetchall()
        finally:
            connection.close()
        return "\n".join(bytes(payload).decode(errors="replace") for (payload,) in rows)


def _run_launcher(path: str) -> None:
    config = msgspec.msgpack.decode(Path(path).read_bytes(), type=GatewayConfig)
    with Launcher(config, plan_processes(config), console=False) as launcher:
        launcher.run()


if __name__ == "__main__":
    _run_launcher(sys.argv[1])
