"""Quote boards and symbol directory of a run folder, written as the adapters write them; the quotes never move."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from decimal import Decimal

from nexus_gateway.core.config import GatewayConfig
from nexus_gateway.shm.symbols import Symbol, SymbolDirectory, add_symbols
from nexus_gateway.shm.tick import Platform, TickFlag
from nexus_gateway.shm.writer import TickWriter, empty_ticks

_BEAT_S = 0.2


class VirtualMarket:
    """The same quotes at each `refresh`, with the hour that is played as their time."""

    def __init__(self, config: GatewayConfig, prices: Mapping[str, Decimal], now_ns: int) -> None:
        folder = config.run_path
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        named = [Symbol(0, each.name, each.contract, float(each.tick_size)) for each in config.symbols]
        ids = add_symbols(folder, named)
        self.symbols: Sequence[Symbol] = SymbolDirectory.attach(folder).entries()
        self._writers = [
            TickWriter(folder, name, Platform.parse(name), capacity=64, board_rows=config.board_rows)
            for name in config.platforms
        ]
        self._next_beat_s = 0.0
        self._ticks = empty_ticks(len(ids))
        self._ticks["flags"], self._ticks["last"] = int(TickFlag.BID | TickFlag.ASK), float("nan")
        for tick, symbol_id, each in zip(self._ticks, ids, config.symbols, strict=True):
            tick["symbol"], tick["bid"], tick["ask"] = symbol_id, float(prices[each.name]), float(prices[each.name])
        self.refresh(now_ns)

    def refresh(self, now_ns: int) -> None:
        """Publish the quotes. The heartbeats are in real time, and may be late without harm: the quotes are fresh."""
        self._ticks["ts_event_ns"] = self._ticks["ts_recv_ns"] = now_ns
        now_s = time.monotonic()
        is_due = now_s >= self._next_beat_s
        if is_due:
            self._next_beat_s = now_s + _BEAT_S
        for writer in self._writers:
            writer.publish(self._ticks, stamp=False)
            if is_due:
                writer.beat()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
