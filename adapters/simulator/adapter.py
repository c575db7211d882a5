"""Adapter without a platform: publishes a simulated market in real time. Its orders are paper orders by default."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from ...core.config import convert_settings
from ...core.messages import Instrument
from ...shm.durations import NS_PER_S
from ...shm.steps import StepWatch
from ...shm.symbols import Symbol
from ...shm.tick import TICK_DTYPE, TickFlag
from ...shm.writer import empty_ticks
from ..base import Adapter
from ..feed import TickFeed
from ..symbol_watch import describe_from_catalog
from .link import SimulatedLink
from .market import MarketShape, SimulatedMarket

_BATCH_TICKS: Final = 4096
_SCRIPT_CHECK_S: Final = 0.05
_Positive = Annotated[float, msgspec.Meta(gt=0)]


class Lie(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wrong values for an instrument's description; None = the right value. `expiry`: a day, such as 2027-03-18."""

    tick_size: Decimal | None = None
    lot_step: Decimal | None = None
    point_value: Decimal | None = None
    currency: str | None = None
    expiry: str | None = None

    def __post_init__(self) -> None:
        if self.expiry is not None:
            try:
                date.fromisoformat(self.expiry)
            except ValueError:
                raise ValueError(f"expiry was {self.expiry!r}, must be a day; write 2027-03-18") from None

    def apply(self, instrument: Instrument) -> Instrument:
        """Return the description with the wrong values in it."""
        wrong = {name: getattr(self, name) for name in ("tick_size", "lot_step", "point_value", "currency")}
        if self.expiry is not None:
            noon = datetime.combine(date.fromisoformat(self.expiry), time_of_day(12), UTC)
            wrong["expiry_ns"] = int(noon.timestamp()) * NS_PER_S
        return msgspec.structs.replace(
            instrument, **{name: value for name, value in wrong.items() if value is not None}
        )


class SimulatorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`settings` of a simulated platform.

    Attributes:
        seed: same seed, same market.
        ticks_per_s: of all symbols together, on average; 0 = only the quotes written to `SimulatedLink`'s file.
        burst_factor, burst_every_s: how much faster bursts are, and how often they come.
        halt_every_s: how often a symbol halts for some seconds.
        lies: symbol or contract -> wrong values in its description, to rehearse the refusal of its orders.
    """

    seed: int = 1
    ticks_per_s: Annotated[float, msgspec.Meta(ge=0, le=10_000_000)] = 2000.0
    burst_factor: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 10.0
    burst_every_s: _Positive = 10.0
    halt_every_s: _Positive = 60.0
    lies: dict[str, Lie] = {}


class SimulatorAdapter(Adapter):
    """Publishes the ticks that are due; when it is late the batch is larger, and no tick is skipped."""

    DEFAULT_ORDERS = "paper"
    OWN_MARKET = True

    def __init__(self, feed: TickFeed, settings: Mapping[str, Any]) -> None:
        super().__init__(feed, settings)
        self._settings = convert_settings(SimulatorSettings, settings, f"platform {feed.name!r}")
        self._link = SimulatedLink(feed.folder, feed.name)
        self._market: SimulatedMarket | None = None
        self._clock = StepWatch()
        self._symbols: Sequence[Symbol] = ()
        self._ids: dict[str, int] = {}
        self._batch = np.zeros(_BATCH_TICKS, TICK_DTYPE)
        self._batch_address = int(self._batch.ctypes.data)

    def connect(self) -> None:
        self._link.connect()

    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        before, self._symbols = self._symbols, symbols
        self._ids = {symbol.name: symbol.id for symbol in symbols}
        chosen = self._settings
        described = describe_from_catalog(symbols, self.catalog, self.sessions)
        self.instruments = tuple(
            chosen.lies[name].apply(each) if name in chosen.lies else each for name, each in described.items()
        )
        known = self._market
        if not chosen.ticks_per_s or (known is not None and _walks(before) == _walks(symbols)):
            return
        shape = MarketShape(chosen.ticks_per_s, chosen.burst_factor, chosen.burst_every_s, chosen.halt_every_s)
        # Platforms with the same seed get different markets, since two brokers never quote the same.
        seed = chosen.seed * 1000 + int(self.feed.platform)
        self._market = SimulatedMarket(symbols, shape, seed, self.feed.platform, self._now_ns())
        if known is not None:
            ids = {walk: symbol_id for symbol_id, walk in _walks(before).items()}
            moved = {symbol_id: ids[walk] for symbol_id, walk in _walks(symbols).items() if walk in ids}
            self._market.continue_from(known, moved)

    def poll(self, timeout_s: float) -> int:
        talks = self._link.check()
        scripted = self._publish_script()
        if scripted or not talks or self._market is None:
            if not scripted:
                self.wait(min(timeout_s, _SCRIPT_CHECK_S))
            return scripted
        now_ns = self._now_ns()
        wait_ns = self._market.next_event_ns - now_ns
        if wait_ns > 0:
            self.wait(min(timeout_s, wait_ns / 1e9))
            now_ns = self._now_ns()
        count = self._market.generate(now_ns, self._batch)
        if count:
            self.feed.publish_at(self._batch_address, count)
        return count

    def close(self) -> None:
        self._link.close()
        self._market = None

    def _now_ns(self) -> int:
        now_ns, step_ns = self._clock.read()
        if step_ns and self._market is not None:
            self._market.follow_step(step_ns)
        return now_ns

    def _publish_script(self) -> int:
        quotes = [quote for quote in self._link.pop_quotes() if quote[0] in self._ids]
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


def _walks(symbols: Sequence[Symbol]) -> dict[int, str]:
    """Map each id to its price series: that of the contract, which continues when the universal name rolls."""
    return {symbol.id: symbol.contract or symbol.name for symbol in symbols}
