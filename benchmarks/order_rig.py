"""The rig of the order path: a configuration without limits that a benchmark would meet, and its real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import msgspec
from nexus_gateway.core.config import GatewayConfig, OrdersConfig, PlatformConfig, SymbolConfig
from nexus_gateway.core.launcher.plan import plan_processes
from nexus_gateway.core.process import LaunchFile, ProcessId
from nexus_gateway.core.risk import Stage
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.segment import SegmentError

D = Decimal
ONE = D(1)
NO_LIMITS = {"max_order_lots": "1000", "max_orders_per_s": 10_000, "max_position_lots": "100000"}
PRICE = D(18_000)
"""Where the simulator's NQ begins."""


def make_config(root: Path, platforms: tuple[str, ...], **settings: object) -> GatewayConfig:
    """One symbol, no limits that a benchmark would meet, the shipped waiting times. `settings`: of each platform."""
    plain = GatewayConfig().limits
    stage = Stage(
        name="all", platforms=platforms, symbols=("NQ",), max_size=D(5), max_trades_per_day=1_000_000,
        risk_per_trade_usd=D(1_000_000), confirmation="all of them",
    )  # fmt: skip
    limits = msgspec.structs.replace(
        plain, stage=1, stages={1: stage}, lookalike_window_ms=0, max_same_side_entries=None, max_spread_ticks=None,
        max_position_default=D(10**9), max_notional_usd=None, max_orders_per_s=None, max_quote_age_ms=60_000,
        max_orders_per_s_per_platform=None, max_daily_loss_usd=D(10**12), max_drawdown_usd=D(10**12),
        max_working_orders=None, max_working_orders_per_platform=None, max_messages_per_fill=None,
    )  # fmt: skip
    simulator = PlatformConfig(
        adapter="nexus_gateway.adapters.simulator:SimulatorAdapter",
        symbols=("NQ",),
        settings={"ticks_per_s": 200, "halt_every_s": 1e9, "burst_every_s": 1e9, "limits": NO_LIMITS} | settings,
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


def expect(was: object, wanted: object) -> None:
    """A benchmark's check of its own answer; RuntimeError when it is wrong."""
    if was != wanted:
        raise RuntimeError(f"the benchmark's own check failed: was {str(was)[:200]}, wanted {str(wanted)[:200]}")
