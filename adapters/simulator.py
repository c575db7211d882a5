"""Adapter without a platform: publishes a simulated market in real time. Its orders are paper, unless switched off."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from ..core.config import convert_settings
from ..shm.symbols import Symbol
from ..shm.tick import TICK_DTYPE, TickFlag
from ..shm.writer import empty_ticks
from .base import Adapter
from .feed import TickFeed
from .simulated_link import SimulatedLink
from .simulated_market import MarketShape, SimulatedMarket

_BATCH_TICKS: Final = 4096
_SCRIPT_LOOK_S: Final = 0.05
_Positive = Annotated[float, msgspec.Meta(gt=0)]


class SimulatorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`settings` of a simulated platform.

    Attributes:
        seed: same seed, same market.
        ticks_per_s: of all symbols together, on average; 0 = no market but the quotes of `SimulatedLink`'s file.
        burst_factor, burst_every_s: how much faster bursts are, and how often they come.
        halt_every_s: how often a symbol falls silent for some seconds.
    """

    seed: int = 1
    ticks_per_s: Annotated[float, msgspec.Meta(ge=0, le=10_000_000)] = 2000.0
    burst_factor: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 10.0
    burst_every_s: _Positive = 10.0
    halt_every_s: _Positive = 60.0


class SimulatorAdapter(Adapter):
    """Publishes what its market has due; being late makes a larger batch, never a skipped tick."""

    DEFAULT_ORDERS = "paper"

    def __init__(self, feed: TickFeed, settings: Mapping[str, Any]) -> None:
        super().__init__(feed, settings)
        self._settings = convert_settings(SimulatorSettings, settings, f"platform {feed.name!r}")
        self._link = SimulatedLink(feed.folder, feed.name)
        self._market: SimulatedMarket | None = None
        self._ids: dict[str, int] = {}
        self._batch = np.zeros(_BATCH_TICKS, TICK_DTYPE)
        self._batch_address = int(self._batch.ctypes.data)

    def connect(self) -> None:
        self._link.connect()

    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        self._ids = {symbol.name: symbol.id for symbol in symbols}
        chosen = self._settings
        if not chosen.ticks_per_s:
            return
        shape = MarketShape(chosen.ticks_per_s, chosen.burst_factor, chosen.burst_every_s, chosen.halt_every_s)
        # Each platform gets a market of its own from one seed, as two brokers never quote alike.
        seed = chosen.seed * 1000 + int(self.feed.platform)
        self._market = SimulatedMarket(symbols, shape, seed, self.feed.platform, time.time_ns())

    def poll(self, timeout_s: float) -> int:
        talks = self._link.check()
        scripted = self._publish_script()
        if scripted or not talks or self._market is None:
            if not scripted:
                self.wait(min(timeout_s, _SCRIPT_LOOK_S))
            return scripted
        now_ns = time.time_ns()
        wait_ns = self._market.next_event_ns - now_ns
        if wait_ns > 0:
            self.wait(min(timeout_s, wait_ns / 1e9))
            now_ns = time.time_ns()
        count = self._market.generate(now_ns, self._batch)
        if count:
            self.feed.publish_at(self._batch_address, count)
        return count

    def close(self) -> None:
        self._link.close()
        self._market = None

    def _publish_script(self) -> int:
        quotes = [quote for quote in self._link.take_quotes() if quote[0] in self._ids]
        if not quotes:
            return 0
        ticks = empty_ticks(len(quotes))
        for tick, (name, *values) in zip(ticks, quotes, strict=True):
            numbers = [math.nan if value is None else value for value in values]
            tick["bid"], tick["ask"], tick["bid_size"], tick["ask_size"] = numbers
            tick["symbol"] = self._ids[name]
            tick["flags"] = int(TickFlag.BID | TickFlag.ASK)
            tick["source"] = int(self.feed.platform)
            tick["ts_event_ns"] = time.time_ns()
        self.feed.publish(ticks)
        return len(ticks)
