"""Configuration, timing and printing of the growth benchmarks; `tests.virtual_days` plays the days."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from nexus_gateway.core.config import GatewayConfig, OrdersConfig, RolloverConfig

from benchmarks import order_rig
from tests.virtual_days.days import VirtualDays

Answer = TypeVar("Answer")
SIX = ("mt5", "mt5_br", "nt8", "sierra", "bookmap", "quantower")
PRICES = {"NQ": order_rig.PRICE}


def make_config(root: Path, **orders: object) -> GatewayConfig:
    """Six simulated platforms and the shipped settings of the gateway; `orders`: other ones of its section.

    The journal's commits do not wait for the disk, which has no part in what is measured here.
    """
    plain = order_rig.make_config(root, SIX)
    section = OrdersConfig(adapter_port=0, nexus_port=0, journal=str(root / "orders.sqlite"), durability="process")
    dollars = {"paper": {"currency": "USD"}}
    platforms = {
        name: msgspec.structs.replace(each, settings=each.settings | dollars) for name, each in plain.platforms.items()
    }
    return msgspec.structs.replace(
        plain,
        orders=msgspec.structs.replace(section, **orders),  # type: ignore[arg-type]  # named by the benchmark
        platforms=platforms,
        rollover=RolloverConfig(enabled=False),
    )


@contextmanager
def folder(base: Path | None) -> Iterator[Path]:
    """A new folder below `base` (None: the temporary one), removed at the end."""
    root = Path(tempfile.mkdtemp(prefix="nxg", dir=base))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def days(root: Path, **orders: object) -> Iterator[VirtualDays]:
    """A gateway in virtual time that has just started, two days before now."""
    start_ns = time.time_ns() - 2 * 86_400 * 10**9
    with VirtualDays(make_config(root, **orders), PRICES, start_ns) as made:
        yield made


def check(made: VirtualDays) -> None:
    """The benchmark's check of its own answer, once nothing is on its way: signals, gateway and platforms agree."""
    made.run_for(5 * 10**9)
    order_rig.expect(made.faults(), [])


def timed(call: Callable[[], Answer]) -> tuple[float, Answer]:
    """Processor time of a call, s, and what it returned."""
    before_s = time.process_time()
    answer = call()
    return time.process_time() - before_s, answer


def print_times(label: str, samples_ns: list[int], unit_ns: float = 1e6) -> None:
    p50, p99, most = (float(value) / unit_ns for value in np.percentile(samples_ns, [50, 99, 100]))
    print(f"  {label:<54} {p50:>9.3f} {p99:>9.3f} {most:>9.3f}   n = {len(samples_ns)}", flush=True)
