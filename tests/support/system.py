"""The whole product in real processes: launcher, gateway, simulated platforms with paper accounts, and a NEXUS.

The NEXUS is a process under the launcher too (`run_nexus`): it trades by itself, and writes what it decides and what it
is told into a diary, which is what a test later holds against the platforms' accounts and the journal.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psutil
import yaml
from nexus_gateway.adapters.paper.book import PaperBook
from nexus_gateway.adapters.paper.store import PaperStore
from nexus_gateway.core.config import (
    GatewayConfig,
    LauncherConfig,
    OrdersConfig,
    PlatformConfig,
    RolloverConfig,
    SymbolConfig,
)
from nexus_gateway.core.engine import AdapterSaid, SnapshotChanges
from nexus_gateway.core.journal.recovery import decode_event
from nexus_gateway.core.launcher.launcher import ChildRow, Launcher
from nexus_gateway.core.launcher.plan import plan_processes
from nexus_gateway.core.messages import Bracket, Fill, Side, Signal, SignalClose, Snapshot, Target
from nexus_gateway.core.process import ProcessContext, ProcessSpec
from nexus_gateway.nexus_link.interface import NexusGatewayInterface, options_of_config
from nexus_gateway.nexus_link.orders.outcomes import SignalOutcome
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.segment import SegmentError

from .launched import QUICK
from .links import short_folder
from .patience import patient
from .trading_floor import floor_limits

D = Decimal
SIX = ("mt5", "mt5_br", "nt8", "sierra", "bookmap", "quantower")
NEXUS = "nexus"
PRICES = {"NQ": D(18_000), "ES": D(5_000), "YM": D(39_000), "WIN": D(128_000)}
_TICK_SIZES = {"NQ": "0.25", "ES": "0.25", "YM": "1", "WIN": "5", "USDBRL": "0.0001"}
_SIMULATOR = "nexus_gateway.adapters.simulator:SimulatorAdapter"
_OPEN_SIGNALS = 4


def make_signal(signal_id: str, platforms: Sequence[str], symbol: str = "NQ", side: Side = Side.BUY) -> Signal:
    """One lot at the market on each platform, with a stop that the simulated walk does not reach."""
    away = 1 - D("0.01") * side.sign
    return Signal(
        signal_id=signal_id, symbol=symbol, side=side, created_ns=time.time_ns(), quantity=D(1),
        targets=tuple(Target(platform=name) for name in platforms),
        bracket=Bracket(stop_loss=D(int(PRICES[symbol] * away / 5) * 5)),
        enter_by_ns=time.time_ns() + 10**11,  # a busy machine is no reason to refuse it
    )  # fmt: skip


class System:
    """A context manager: starts everything and stops it. Who waits, waits with `until`, which turns the launcher."""

    def __init__(
        self,
        platforms: Mapping[str, Mapping[str, Any]],
        symbols: Sequence[str] = ("NQ", "ES", "YM"),
        *,
        with_nexus: bool = False,
        nexus_every_s: float = 0.1,
        launcher: LauncherConfig | None = None,
        rollover: RolloverConfig | None = None,
        contracts: Mapping[str, str] | None = None,
        ports: tuple[int, int] | None = None,
        **limits: object,
    ) -> None:
        """`platforms`: name -> settings beside a lively market; `launcher` None: a quick one; `limits`: changes.
        `ports`: of adapters and NEXUS, in a run folder whose path is too long for socket files.
        """
        self.root = short_folder()
        self.folder = self.root / ("run" if ports is None else "run" * 40)
        self.diary = Diary(self.root / "nexus.diary")
        plain = floor_limits()
        stage = msgspec.structs.replace(
            plain.stages[1],
            platforms=tuple(platforms),
            symbols=tuple(symbols),
            max_trades_per_day=1_000_000,
            risk_per_trade_usd=D(20_000),
        )
        values: dict[str, object] = {
            "stages": plain.stages | {1: stage}, "max_position_default": D(100_000), "max_spread_ticks": None,
            "max_notional_usd": None, "max_orders_per_s": None, "max_orders_per_s_per_platform": None,
        }  # fmt: skip
        market = {"ticks_per_s": 100, "halt_every_s": 1e9, "burst_every_s": 1e9}
        self.config = GatewayConfig(
            run_folder=str(self.folder),
            log_folder=str(self.root / "logs"),
            symbols=tuple(
                SymbolConfig(name=name, contract=(contracts or {}).get(name, ""), tick_size=D(_TICK_SIZES[name]))
                for name in symbols
            ),
            ring_capacity=1 << 12,
            board_rows=64,
            launcher=launcher or msgspec.structs.replace(QUICK, max_restarts=1_000, start_timeout_s=120),
            orders=OrdersConfig(
                adapter_port=0 if ports is None else ports[0],
                nexus_port=0 if ports is None else ports[1],
                journal=str(self.root / "orders.sqlite"),
            ),
            platforms={
                name: PlatformConfig(adapter=_SIMULATOR, symbols=tuple(symbols), settings=market | dict(settings))
                for name, settings in platforms.items()
            },
            rollover=rollover or RolloverConfig(enabled=False),
            limits=msgspec.structs.replace(plain, **(values | limits)),  # type: ignore[arg-type]  # named by the test
        )
        self._specs = plan_processes(self.config)
        if with_nexus:
            files = {"diary": str(self.diary.path), "outbox": str(self.root / "nexus.outbox")}
            arguments = files | {"every_s": nexus_every_s}
            self._specs.append(ProcessSpec(name=NEXUS, entry="tests.support.system:run_nexus", arguments=arguments))
        self._launcher: Launcher | None = None
        self._links: list[NexusGatewayInterface] = []

    def __enter__(self) -> System:
        self._launcher = Launcher(self.config, self._specs, console=False)
        self._launcher.start()
        self.until(lambda: self.counters().get("routes_ready") == len(self.config.platforms))
        for name, platform in self.config.platforms.items():
            if platform.settings.get("ticks_per_s"):  # a signal before the first quote of its symbol is refused
                ticks = 20 * len(platform.symbols)
                self.until(lambda name=name, ticks=ticks: self.counters(name).get("ticks_published", 0) > ticks)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def stop(self) -> None:
        """End all processes cleanly; journal and accounts stay to be read."""
        while self._links:
            self._links.pop().close()
        if self._launcher is not None:
            self._launcher.stop()
            self._launcher = None

    def until(self, true: Callable[[], object], patience_s: float = 90.0) -> None:
        """Supervise until `true`; the patience is for a busy machine, no bound on speed."""
        deadline_s = time.monotonic() + patient(patience_s)
        while not true():
            if time.monotonic() > deadline_s:
                raise AssertionError(f"what the test waits for did not happen\n{self._logs()}")
            assert self._launcher is not None
            self._launcher.step()
            down = [row for row in self._launcher.describe() if row.state == "failed"]
            assert not down, down
            time.sleep(0.005)

    def rest(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end_s)

    def connect(self, name: str = "second") -> NexusGatewayInterface:
        """A NEXUS in the test's own process, linked."""
        link = NexusGatewayInterface(options_of_config(self.config, name=name, outbox=self.root / f"{name}.outbox"))
        self._links.append(link)
        self.until(lambda: link.connect(0))
        return link

    def settled(self, link: NexusGatewayInterface, signal: Signal) -> SignalOutcome:
        """What became of a signal, once nothing of it works or is unknown."""
        self.until(lambda: (known := link.outcome(signal.signal_id)) is not None and known.told_ns and known.is_settled)
        outcome = link.outcome(signal.signal_id)
        assert outcome is not None
        return outcome

    def rows(self) -> list[ChildRow]:
        """The launcher's children."""
        assert self._launcher is not None
        return self._launcher.describe()

    def kill(self, names: Sequence[str]) -> int:
        """kill -9 of all at once; the launcher starts them again. Returns when, UTC ns."""
        assert self._launcher is not None
        pids = {row.name: row.pid for row in self._launcher.describe()}
        victims = [psutil.Process(pids[name]) for name in names]
        at_ns = time.time_ns()
        for victim in victims:
            victim.kill()
        return at_ns

    def row(self, process: str = "gateway") -> ChildRow:
        """What the launcher says of a process."""
        assert self._launcher is not None
        return next(row for row in self._launcher.describe() if row.name == process)

    def counters(self, process: str = "gateway") -> dict[str, int]:
        try:
            return CountersPage.attach(self.folder, process).values()
        except SegmentError:
            return {}

    def write_quotes(self, platform: str, *quotes: tuple[str, float, float], number: int) -> None:
        """What a platform without a market of its own (`ticks_per_s` 0) quotes from now on."""
        path = self.folder / f"{platform}.platform.json"
        rows = [[name, bid, ask, 50, 50] for name, bid, ask in quotes]
        path.with_suffix(".new").write_text(json.dumps({"quotes": rows, "number": number}))
        path.with_suffix(".new").replace(path)

    def write_config(self) -> Path:
        """The configuration as files, for commands."""
        folder = self.root / "config"
        folder.mkdir()
        plain = msgspec.to_builtins(self.config, str_keys=True)
        general = {name: plain[name] for name in ("run_folder", "log_folder", "orders", "symbols")}
        limits = plain["limits"] | {"stages": {int(key): row for key, row in plain["limits"]["stages"].items()}}
        platforms = {
            name: {key: each[key] for key in ("adapter", "symbols", "settings")}
            for name, each in plain["platforms"].items()
        }
        files = {"gateway_config": general, "platform_configs": platforms, "risk_limits": limits}
        for name, content in files.items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return folder

    def book(self, platform: str) -> PaperBook:
        """A platform's account as it is on disk; after `stop`."""
        with closing(PaperStore(self.root / f"orders.{platform}.paper")) as store:
            book = store.load()
        assert book is not None
        return book

    def journaled_fills(self) -> dict[tuple[str, str], Fill]:
        """Every execution that the gateway was told of, by platform and execution id; after `stop`."""
        found = {}
        with closing(sqlite3.connect(f"file:{self.root / 'orders.sqlite'}?mode=ro", uri=True)) as connection:
            for seq, payload in connection.execute("SELECT seq, payload FROM events ORDER BY seq"):
                event = decode_event(payload, seq)
                fills: tuple[Fill, ...] = ()
                match event:
                    case AdapterSaid(message=Fill() as fill):
                        fills = (fill,)
                    case AdapterSaid(message=Snapshot() as snapshot) | SnapshotChanges(snapshot=snapshot):
                        fills = snapshot.executions.rows
                found.update({(fill.platform, fill.exec_id): fill for fill in fills})
        return found

    def _logs(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in (self.root / "logs").glob("*.jsonl"))


class Told(msgspec.Struct, tag="told"):
    """What NEXUS has heard of a signal, and when (UTC ns)."""

    at_ns: int
    outcome: SignalOutcome


class Decided(msgspec.Struct, tag="decided"):
    """A signal as NEXUS has decided on it, written before it is sent."""

    signal: Signal


class Diary:
    """A file of lines, each written at once, so that kill -9 leaves whole ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.signals: dict[str, Signal] = {}
        self.told: dict[str, Told] = {}
        self._read = 0
        self._file = -1

    def write(self, entry: Told | Decided) -> None:
        if self._file < 0:
            self._file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        os.write(self._file, msgspec.json.encode(entry) + b"\n")

    def refresh(self) -> list[Told]:
        """Take in what was written since; the last word on each signal is in `told`."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        news = []
        for line in whole.splitlines():
            entry = msgspec.json.decode(line, type=Told | Decided)
            if isinstance(entry, Decided):
                self.signals[entry.signal.signal_id] = entry.signal
                continue
            news.append(entry)
            known = self.told.get(entry.outcome.signal_id)
            if known is None or _revision(entry) >= _revision(known):
                self.told[entry.outcome.signal_id] = entry
        return news

    @property
    def is_settled(self) -> bool:
        """Every signal that was ever decided on has an outcome, and none works or is unknown."""
        return all(name in self.told and self.told[name].outcome.is_settled for name in self.signals)


def _revision(entry: Told) -> int:
    return 0 if entry.outcome.report is None else entry.outcome.report.revision


def run_nexus(context: ProcessContext) -> int:
    """Trade until told to stop: an idea every `every_s` on the next symbol, at most a few of them held at a time.

    As an owner's program should, it opens nothing on a symbol with an unknown outcome, and after a restart decides once
    more whatever it has not seen the end of. A file `pause` in the run folder ends the ideas.
    """
    context.open_counters(())
    diary = Diary(Path(context.arguments["diary"]))
    diary.refresh()
    platforms = tuple(context.config.platforms)
    symbols = [symbol.name for symbol in context.config.symbols]
    options = options_of_config(context.config, outbox=Path(context.arguments["outbox"]))
    nexus = NexusGatewayInterface(options)
    nexus.set_callbacks(on_outcome=lambda outcome: diary.write(Told(time.time_ns(), outcome)))
    nexus.connect(0)
    for name, signal in diary.signals.items():
        if name not in diary.told or not diary.told[name].outcome.is_final:
            nexus.send_signal(signal, 0)
    while not context.sleep(context.arguments["every_s"]):
        diary.refresh()
        if (context.run_folder / "pause").exists():
            continue
        clear = [name for name in symbols if name not in nexus.unknown_symbols()]
        if clear:
            symbol = clear[len(diary.signals) % len(clear)]
            # Each symbol has its side: on a netting account an opposite entry would close what another signal holds.
            side = Side.SELL if symbols.index(symbol) % 2 else Side.BUY
            signal = make_signal(f"k{len(diary.signals)}", platforms, symbol, side)
            diary.write(Decided(signal))
            nexus.send_signal(signal, 0)
        held = [told.outcome for told in diary.told.values() if told.outcome.is_settled and not told.outcome.is_final]
        for outcome in held[:-_OPEN_SIGNALS]:
            nexus.change_signal(SignalClose(signal_id=outcome.signal_id))
    nexus.close()
    return 0
