"""A feed in the test's own process, and an adapter whose platform does what the test says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nexus_gateway.adapters.base import Adapter, LinkLostError
from nexus_gateway.adapters.feed import COUNTERS, TickFeed
from nexus_gateway.adapters.replay.adapter import ReplayAdapter
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.symbols import Symbol, SymbolDirectory, add_symbols
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import empty_ticks


def make_feed(folder: Path, name: str = "nt8", platform: Platform = Platform.NT8, capacity: int = 64) -> TickFeed:
    page = CountersPage.create(folder, name, COUNTERS)
    return TickFeed(folder, name, platform, page, capacity=capacity, board_rows=64)


def make_replay_feed(folder: Path, capacity: int = 1024) -> TickFeed:
    page = CountersPage.create(folder, "replay", (*COUNTERS, *ReplayAdapter.OWN_COUNTERS))
    return TickFeed(folder, "replay", Platform.REPLAY, page, capacity=capacity, board_rows=64)


def close_feed(feed: TickFeed) -> None:
    feed.close()
    feed.counters.close()


def make_symbols(folder: Path, *names: str) -> list[Symbol]:
    add_symbols(folder, [Symbol(0, name, tick_size=0.25) for name in names])
    return SymbolDirectory.attach(folder).entries()


def publish_quote(
    feed: TickFeed, symbol: int, bid: float, ask: float, flags: int = 3, last: float = float("nan")
) -> None:
    tick = empty_ticks(1)
    tick["symbol"], tick["bid"], tick["ask"], tick["last"], tick["flags"] = symbol, bid, ask, last, flags
    tick["source"] = int(feed.platform)
    feed.publish(tick)


class ScriptedAdapter(Adapter):
    """Takes one step of its script at each call; a step is an exception to raise or a number of ticks to publish."""

    def __init__(self, feed: TickFeed, script: Sequence[object]) -> None:
        super().__init__(feed, {})
        self.script = list(script)
        self.calls: list[str] = []
        self.subscribed: list[Symbol] = []

    def _next(self, call: str) -> object:
        self.calls.append(call)
        return self.script.pop(0) if self.script else 0

    def connect(self) -> None:
        step = self._next("connect")
        if isinstance(step, BaseException):
            raise step

    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        self.calls.append("subscribe")
        self.subscribed = list(symbols)

    def poll(self, timeout_s: float) -> int:
        step = self._next("poll")
        if isinstance(step, BaseException):
            raise step
        assert isinstance(step, int)
        for _ in range(step):
            publish_quote(self.feed, 1, 100.0, 100.25)
        return step

    def close(self) -> None:
        self.calls.append("close")


def lost(reason: str = "gone") -> LinkLostError:
    return LinkLostError(reason)
