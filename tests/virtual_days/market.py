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
    """`beat` is called often: in real time, for a board without a heartbeat counts as dead whatever hour is played."""

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
        ticks = empty_ticks(len(ids))
        for tick, symbol_id, each in zip(ticks, ids, config.symbols, strict=True):
            tick["symbol"], tick["flags"] = symbol_id, int(TickFlag.BID | TickFlag.ASK)
            tick["bid"] = tick["ask"] = float(prices[each.name])
            tick["last"] = float("nan")
            tick["ts_event_ns"] = tick["ts_recv_ns"] = now_ns
        for writer in self._writers:
            writer.publish(ticks, stamp=False)
        self.beat()

    def beat(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_beat_s:
            self._next_beat_s = now_s + _BEAT_S
            for writer in self._writers:
                writer.beat()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
