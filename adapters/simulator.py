"""Adapter without a platform: publishes a simulated market in real time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from ..core.config import convert_settings
from ..shm.symbols import Symbol
from ..shm.tick import TICK_DTYPE
from .base import Adapter
from .feed import TickFeed
from .simulated_market import MarketShape, SimulatedMarket

_BATCH_TICKS: Final = 4096
_Positive = Annotated[float, msgspec.Meta(gt=0)]


class SimulatorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`settings` of a simulated platform.

    Attributes:
        seed: same seed, same market.
        ticks_per_s: of all symbols together, on average.
        burst_factor, burst_every_s: how much faster bursts are, and how often they come.
        halt_every_s: how often a symbol falls silent for some seconds.
    """

    seed: int = 1
    ticks_per_s: Annotated[float, msgspec.Meta(gt=0, le=10_000_000)] = 2000.0
    burst_factor: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 10.0
    burst_every_s: _Positive = 10.0
    halt_every_s: _Positive = 60.0


class SimulatorAdapter(Adapter):
    """Publishes what its market has due; being late makes a larger batch, never a skipped tick."""

    def __init__(self, feed: TickFeed, settings: Mapping[str, Any]) -> None:
        super().__init__(feed, settings)
        self._settings = convert_settings(SimulatorSettings, settings, f"platform {feed.name!r}")
        self._market: SimulatedMarket | None = None
        self._batch = np.zeros(_BATCH_TICKS, TICK_DTYPE)
        self._batch_address = int(self._batch.ctypes.data)

    def connect(self) -> None:
        pass  # there is nobody to connect to

    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        chosen = self._settings
        shape = MarketShape(chosen.ticks_per_s, chosen.burst_factor, chosen.burst_every_s, chosen.halt_every_s)
        # Each platform gets a market of its own from one seed, as two brokers never quote alike.
        seed = chosen.seed * 1000 + int(self.feed.platform)
        self._market = SimulatedMarket(symbols, shape, seed, self.feed.platform, time.time_ns())

    def poll(self, timeout_s: float) -> int:
        if self._market is None:
            time.sleep(timeout_s)
            return 0
        now_ns = time.time_ns()
        wait_ns = self._market.next_event_ns - now_ns
        if wait_ns > 0:
            time.sleep(min(timeout_s, wait_ns / 1e9))
            now_ns = time.time_ns()
        count = self._market.generate(now_ns, self._batch)
        if count:
            self.feed.publish_at(self._batch_address, count)
        return count

    def close(self) -> None:
        self._market = None
