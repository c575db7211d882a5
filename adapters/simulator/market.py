"""A seeded market of any number of symbols: random walks on the tick grid with spreads, bursts and halts.

The same seed and symbols give the same records in the same order on every machine; only their times move with the
start. Times come from the model's own clock, so a slow machine publishes late but never other prices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

from ...shm.jit import kernel
from ...shm.symbols import Symbol
from ...shm.tick import TICK_DTYPE, Platform, TickArray, TickFlag

_SYMBOL_STATE: Final = np.dtype(
    [
        ("symbol", "<i8"),
        ("tick_numerator", "<f8"),  # price = ticks * numerator / denominator: the float nearest to the decimal price
        ("tick_denominator", "<f8"),
        ("mid_half_ticks", "<i8"),  # mid price in half ticks, so that spreads of one tick are exact
        ("anchor_half_ticks", "<i8"),  # the walk is pulled back towards this
        ("spread_ticks", "<i8"),
        ("halted_until_ns", "<i8"),
        ("last_ticks", "<i8"),  # price of the last trade, 0 = none
        ("last_size", "<f8"),  # NaN = none
        ("cumulative_weight", "<f8"),
    ]
)
_WALK_FIELDS: Final = (
    "mid_half_ticks", "anchor_half_ticks", "spread_ticks", "halted_until_ns", "last_ticks", "last_size",
)  # fmt: skip
_MARKET_STATE: Final = np.dtype(
    [
        ("random", "<u8"),
        ("now_ns", "<i8"),  # time of the next event
        ("burst_until_ns", "<i8"),
        ("rate_per_ns", "<f8"),
        ("burst_chance", "<f8"),  # per event
        ("halt_chance", "<f8"),
        ("burst_factor", "<f8"),
    ]
)
_BURST_NS: Final = 200_000_000.0
_HALT_NS: Final = 5_000_000_000.0
_BID: Final = int(TickFlag.BID)
_ASK: Final = int(TickFlag.ASK)
_TRADE: Final = int(TickFlag.TRADE)
_BUYER: Final = int(TickFlag.TRADE | TickFlag.BUYER)
_SELLER: Final = int(TickFlag.TRADE | TickFlag.SELLER)

# Typical price levels, so that a screen of them looks like a market. Other names start at 100.
_PRICE_LEVELS: Final = {
    "ES": 5000.0, "MES": 5000.0, "NQ": 18000.0, "MNQ": 18000.0, "YM": 39000.0, "MYM": 39000.0,
    "RTY": 2050.0, "M2K": 2050.0, "CL": 78.0, "MCL": 78.0, "NG": 2.6, "GC": 2050.0, "MGC": 2050.0, "SI": 23.5,
    "HG": 3.85, "6E": 1.085, "6B": 1.265, "6J": 0.0067, "6A": 0.655, "6C": 0.741, "ZN": 111.0, "ZB": 119.0,
    "ZF": 107.0, "ZT": 102.0, "WIN": 128000.0, "IND": 128000.0, "WDO": 4970.0, "DOL": 4970.0, "NAS100": 18000.0,
    "US500": 5000.0, "US30": 39000.0, "US2000": 2050.0, "XAUUSD": 2050.0, "XAGUSD": 23.5, "EURUSD": 1.085,
    "GBPUSD": 1.265, "USDJPY": 149.0, "AUDUSD": 0.655, "USDCAD": 1.35, "USDBRL": 4.97, "BTC": 52000.0, "MBT": 52000.0,
    "NKD": 39000.0, "HO": 2.65, "RB": 2.25, "SIL": 23.5, "PL": 905.0, "M6E": 1.085, "6S": 1.135, "6N": 0.615,
    "6L": 0.2, "UB": 128.0, "ZC": 445.0, "ZS": 1190.0, "ZW": 590.0, "USOIL": 78.0, "NZDUSD": 0.615, "USDCHF": 0.88,
    "EURGBP": 0.857, "EURJPY": 161.7,
}  # fmt: skip


# The next contract of a future costs a little more, so that a roll can be seen.
_CARRY: Final = 1.01


def _price_level(name: str) -> float:
    root = name[:-3]  # of a contract such as NQH27
    if name not in _PRICE_LEVELS and root in _PRICE_LEVELS:
        return _PRICE_LEVELS[root] * _CARRY
    return _PRICE_LEVELS.get(name, 100.0)


@dataclass(frozen=True)
class MarketShape:
    """Parameters of the market.

    Attributes:
        ticks_per_s: average of all symbols together, outside bursts.
        burst_factor: how much faster a burst is; bursts come about once in `burst_every_s`.
        halt_every_s: one symbol halts for some seconds about this often; infinity = never.
    """

    ticks_per_s: float = 2000.0
    burst_factor: float = 10.0
    burst_every_s: float = 10.0
    halt_every_s: float = 60.0


class SimulatedMarket:
    """Generates ticks up to a given moment. Used by one thread; no clock of its own."""

    def __init__(
        self, symbols: Sequence[Symbol], shape: MarketShape, seed: int, source: Platform, start_ns: int
    ) -> None:
        """
        Args:
            symbols: at least one; an unknown tick size counts as 0.01.
            seed: any integer; same seed, same market.
        """
        states: npt.NDArray[np.void] = np.zeros(len(symbols), _SYMBOL_STATE)
        for i, symbol in enumerate(symbols):
            tick_size = Decimal(repr(0.01 if math.isnan(symbol.tick_size) else symbol.tick_size))
            half_ticks = 2 * round(_price_level(symbol.name) / float(tick_size))
            states[i]["symbol"] = symbol.id
            states[i]["tick_numerator"], states[i]["tick_denominator"] = tick_size.as_integer_ratio()
            states[i]["mid_half_ticks"] = states[i]["anchor_half_ticks"] = half_ticks
            states[i]["spread_ticks"] = 1
            states[i]["last_size"] = math.nan
            # The first symbols of a list trade most, as in a real market.
            states[i]["cumulative_weight"] = 1.0 / (1.0 + i)
        weights = np.cumsum(states["cumulative_weight"])
        states["cumulative_weight"] = weights / weights[-1]

        market: npt.NDArray[np.void] = np.zeros(1, _MARKET_STATE)
        # Made odd: xorshift would stay at 0 for ever.
        market["random"] = (seed * 2 + 1) & 0xFFFF_FFFF_FFFF_FFFF
        market["now_ns"] = start_ns
        market["rate_per_ns"] = shape.ticks_per_s / 1e9
        market["burst_chance"] = 1.0 / (shape.ticks_per_s * shape.burst_every_s)
        market["halt_chance"] = 1.0 / (shape.ticks_per_s * shape.halt_every_s)
        market["burst_factor"] = shape.burst_factor
        self._states = states
        self._market = market
        self._source = int(source)
        # Compile now: an adapter that compiles after its first heartbeat would be taken for hung.
        self.generate(start_ns, np.zeros(0, TICK_DTYPE))

    def follow_step(self, step_ns: int) -> None:
        """Move the market's times by a step of the wall clock: it would stand still, or catch up, until they agree."""
        for field in ("now_ns", "burst_until_ns"):
            self._market[field] += step_ns
        self._states["halted_until_ns"] += step_ns

    def continue_from(self, before: SimulatedMarket, moved: Mapping[int, int]) -> None:
        """Continue the market `before`, with the price walks of the same symbols.

        Args:
            moved: symbol id here -> id in `before`, of each walk that continues under another id.
        """
        for field in ("random", "now_ns", "burst_until_ns"):
            self._market[field] = before._market[field]
        for state in self._states:
            symbol = int(state["symbol"])
            walks = before._states[before._states["symbol"] == moved.get(symbol, symbol)]
            if len(walks):
                for field in _WALK_FIELDS:
                    state[field] = walks[0][field]

    @property
    def next_event_ns(self) -> int:
        """UTC time of the next tick."""
        return int(self._market["now_ns"][0])

    def generate(self, until_ns: int, out: TickArray) -> int:
        """Fill `out` (TICK_DTYPE) with the ticks due before `until_ns`, at most as many as fit. Returns how many."""
        return _generate(self._market, self._states, self._source, until_ns, out)


@kernel()
def _draw(market: npt.NDArray[np.void]) -> float:
    """Next number in [0, 1): xorshift64*, the same on every machine, unlike numpy's generators across versions."""
    x = market[0].random
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    market[0].random = x
    return np.float64((x * np.uint64(2685821657736338717)) >> np.uint64(11)) / 9007199254740992.0


@kernel()
def _choose_symbol(states: npt.NDArray[np.void], point: float) -> int:
    for i in range(len(states)):
        if point < states[i].cumulative_weight:
            return i
    return len(states) - 1


@kernel()
def _generate(
    market: npt.NDArray[np.void], states: npt.NDArray[np.void], source: int, until_ns: int, out: TickArray
) -> int:
    filled = 0
    while filled < len(out) and market[0].now_ns < until_ns:
        now_ns = market[0].now_ns
        in_burst = now_ns < market[0].burst_until_ns
        rate = market[0].rate_per_ns * (market[0].burst_factor if in_burst else 1.0)
        market[0].now_ns = now_ns + max(np.int64(-math.log(1.0 - _draw(market)) / rate), 1)
        if _draw(market) < market[0].burst_chance:
            market[0].burst_until_ns = now_ns + np.int64(_BURST_NS * (0.5 + _draw(market)))
        i = _choose_symbol(states, _draw(market))
        if _draw(market) < market[0].halt_chance:
            states[i].halted_until_ns = now_ns + np.int64(_HALT_NS * (0.5 + _draw(market)))
        if now_ns < states[i].halted_until_ns:
            continue
        _move(market, states, i)
        _write(market, states, i, source, now_ns, out, filled)
        filled += 1
    return filled


@kernel()
def _move(market: npt.NDArray[np.void], states: npt.NDArray[np.void], i: int) -> None:
    """One step of the walk: mostly none, else one tick, a little more often towards the anchor; spreads of 1 to 4."""
    if _draw(market) < 0.3:
        away = states[i].mid_half_ticks - states[i].anchor_half_ticks
        towards_up = 0.5 - 0.2 * away / (abs(away) + 2000.0)
        step = 2 if _draw(market) < towards_up else -2
        if states[i].mid_half_ticks + step > 20:
            states[i].mid_half_ticks += step
    if _draw(market) < 0.1:
        widen = _draw(market)
        states[i].spread_ticks = 1 if widen < 0.7 else (2 if widen < 0.9 else (3 if widen < 0.98 else 4))


@kernel()
def _write(
    market: npt.NDArray[np.void],
    states: npt.NDArray[np.void],
    i: int,
    source: int,
    now_ns: int,
    out: TickArray,
    at: int,
) -> None:
    # A spread of n ticks around a mid in half ticks: the bid is rounded down, so both lie on the grid.
    bid_ticks = (states[i].mid_half_ticks - states[i].spread_ticks) // 2
    ask_ticks = bid_ticks + states[i].spread_ticks
    kind = _draw(market)
    flags = _BID | _ASK
    if kind < 0.2:
        buyer = _draw(market) < 0.5
        states[i].last_ticks = ask_ticks if buyer else bid_ticks
        flags = _BUYER if buyer else _SELLER
    numerator, denominator = states[i].tick_numerator, states[i].tick_denominator
    out[at].ts_event_ns = now_ns
    out[at].ts_recv_ns = now_ns
    out[at].bid = bid_ticks * numerator / denominator
    out[at].ask = ask_ticks * numerator / denominator
    out[at].last = states[i].last_ticks * numerator / denominator if states[i].last_ticks else math.nan
    out[at].bid_size = 1 + int(_draw(market) * 50)
    out[at].ask_size = 1 + int(_draw(market) * 50)
    if flags & _TRADE:
        states[i].last_size = 1 + int(_draw(market) * 5)
    out[at].last_size = states[i].last_size
    out[at].symbol = states[i].symbol
    out[at].source = source
    out[at].flags = flags
