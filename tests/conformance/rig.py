"""One adapter under test: its real process, its platform (or a stand-in) that can be broken, the gateway's end."""

from __future__ import annotations

import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import psutil
from nexus_gateway.adapters.paper.scenarios import SCENARIOS
from nexus_gateway.core.config import GatewayConfig, PlatformConfig, SymbolConfig
from nexus_gateway.core.config.orders import OrdersConfig
from nexus_gateway.core.launcher.plan import ADAPTER_ENTRY
from nexus_gateway.core.process import LaunchFile, ProcessId, ProcessSpec
from nexus_gateway.core.transport import LinkTiming
from nexus_gateway.shm import host
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.segment import SegmentError
from nexus_gateway.shm.symbols import Symbol, add_symbols
from nexus_gateway.shm.tick import TickArray
from nexus_gateway.shm.writer import empty_ticks

from tests.conformance.gateway_peer import PATIENCE_S, GatewayPeer
from tests.support.patience import patient

Price = float | None
LIMITS = {"max_order_lots": 1_000, "max_orders_per_s": 1_000, "max_position_lots": 2_000}
"""The adapter's own limits: the positions of many checks add up on one account."""


class Rig(ABC):
    """What a check may do to an adapter. Made for each run in a folder of its own.

    Attributes:
        NAME: of the adapter, in the names of the tests.
        NOT_APPLICABLE: number of a check -> why this adapter cannot be put through it.
    """

    NAME: ClassVar[str]
    NOT_APPLICABLE: ClassVar[Mapping[str, str]] = {}
    platform = "nt8"
    symbol = "NQ"
    tick_size = Decimal("0.25")
    heartbeat_ms = 100
    mute_after_ms = 800

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.run_folder = folder / "run"
        host.make_private_folder(self.run_folder)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        timing = LinkTiming(heartbeat_ms=self.heartbeat_ms, mute_after_ms=self.mute_after_ms)
        self.timing = timing
        self.gateway = GatewayPeer(self.run_folder, timing)
        self.configure(**settings)

    # What differs from adapter to adapter.

    @abstractmethod
    def entry(self) -> str:
        """The adapter, "module:Class"."""

    @abstractmethod
    def settings(self, **changes: Any) -> dict[str, Any]:
        """Its settings against this rig's platform; `changes`: `mode` (netting, hedging), `silence_s`, `oco` ..."""

    @abstractmethod
    def start_platform(self) -> None:
        """The platform runs, lets the adapter in, and talks."""

    @abstractmethod
    def stop_platform(self) -> None:
        """As if the program had been closed."""

    @abstractmethod
    def refuse_login(self) -> None:
        """The platform runs, but the adapter's credentials are wrong."""

    @abstractmethod
    def mute_platform(self) -> None:
        """Connected, and not a word."""

    @abstractmethod
    def quote(self, bid: Price, ask: Price, bid_size: Price = 50, ask_size: Price = 50) -> None:
        """The market moves; None = not a number."""

    def lots(self, scenario: str) -> Decimal:
        """The quantity that makes the platform misbehave in this way."""
        return Decimal(SCENARIOS[scenario][0])

    # The same for all.

    def configure(self, **settings: Any) -> None:
        """Write the configuration; takes effect when the adapter starts next."""
        config = GatewayConfig(
            run_folder=str(self.run_folder),
            log_folder=str(self._folder / "logs"),
            symbols=(SymbolConfig(name=self.symbol, tick_size=self.tick_size, contract="NQZ26"),),
            platforms={
                self.platform: PlatformConfig(
                    adapter=self.entry(),
                    symbols=(self.symbol,),
                    settings={"limits": LIMITS, **self.settings(**settings)},
                )
            },
            orders=OrdersConfig(
                adapter_port=0,
                nexus_port=0,
                heartbeat_ms=self.heartbeat_ms,
                mute_after_ms=self.mute_after_ms,
                journal=str(self.run_folder / "orders.sqlite"),
            ),
            ring_capacity=1024,
            board_rows=64,
        )
        add_symbols(self.run_folder, [Symbol(0, self.symbol, "NQZ26", float(self.tick_size))])
        LaunchFile(
            launcher=ProcessId.own(),
            console=False,
            config=config,
            processes={self.platform: ProcessSpec(name=self.platform, entry=ADAPTER_ENTRY)},
        ).write(self.run_folder)

    def start_adapter(self) -> None:
        """Start its process; does not wait for it."""
        module = ["-m", "nexus_gateway.core.process", self.platform, "--run-folder", str(self.run_folder)]
        (self._folder / "logs").mkdir(exist_ok=True)
        with (self._folder / "console.txt").open("ab") as console:
            self._process = subprocess.Popen([sys.executable, *module], stdout=console, stderr=console)

    def go(self) -> GatewayPeer:
        """Platform and adapter start, the link comes up, a market is there."""
        links = len(self.gateway.ups)
        self.start_platform()
        self.start_adapter()
        self.gateway.wait_linked(links + 1)
        self.quote(18000, 18000.25)
        return self.gateway

    def kill_adapter(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop_adapter(self) -> int:
        """Ask it to stop; its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(patient(PATIENCE_S))

    def wait_exit(self) -> int:
        """Until it ends by itself; its exit code."""
        process = self._process
        assert process is not None
        self.gateway.until(lambda: process.poll() is not None, "the end of the process")
        return process.returncode

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def counters(self) -> dict[str, int]:
        """The adapter's own counters; empty before it has any."""
        try:
            return CountersPage.attach(self.run_folder, self.platform).values()
        except SegmentError:
            return {}

    def wait_counter(self, name: str, at_least: int) -> None:
        self.gateway.until(lambda: self.counters().get(name, 0) >= at_least, f"{name} of {at_least}")

    def ticks(self) -> TickArray:
        """All ticks that are still in the ring, a copy."""
        reader = TickReader(self.run_folder, self.platform, start="oldest")
        out = empty_ticks(1024)
        return out[: reader.drain(out)]

    def cpu_s(self) -> float:
        """Processor time that the adapter has taken so far."""
        assert self._process is not None
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        if self.is_running:
            self.kill_adapter()
        self.stop_platform()
        self.gateway.close()
