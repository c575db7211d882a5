"""The simulated market: same seed same market, prices on the grid, bursts and halts that are really there."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import numpy as np
import pytest
from nexus_gateway.adapters.simulator.market import MarketShape, SimulatedMarket
from nexus_gateway.shm.symbols import Symbol
from nexus_gateway.shm.tick import TICK_DTYPE, Platform, TickFlag

SYMBOLS = [
    Symbol(1, "NQ", tick_size=0.25),
    Symbol(2, "GC", tick_size=0.1),
    Symbol(3, "6E", tick_size=0.00005),
    Symbol(4, "WIN", tick_size=5.0),
    Symbol(5, "6J", tick_size=0.0000005),
]
START_NS = 1_700_000_000_000_000_000


def generate(seconds: float, *, seed: int = 7, shape: MarketShape | None = None, chunk: int = 100_000) -> np.ndarray:
    market = SimulatedMarket(SYMBOLS, shape or MarketShape(), seed, Platform.NT8, START_NS)
    out = np.zeros(chunk, TICK_DTYPE)
    parts = []
    while (count := market.generate(START_NS + int(seconds * 1e9), out)) > 0:
        parts.append(out[:count].copy())
    return np.concatenate(parts)


def test_same_seed_gives_the_same_records_however_they_are_asked_for():
    # Bytes, because a NaN price equals nothing.
    assert generate(2.0, chunk=100_000).tobytes() == generate(2.0, chunk=17).tobytes()
    assert generate(2.0)[:1000].tobytes() != generate(2.0, seed=8)[:1000].tobytes()


def test_prices_are_the_floats_nearest_to_decimals_on_the_tick_grid():
    ticks = generate(20.0)
    for symbol in SYMBOLS:
        mine = ticks[ticks["symbol"] == symbol.id]
        step = Decimal(repr(symbol.tick_size))
        for field in ("bid", "ask"):
            for price in np.unique(mine[field]):
                steps = (Decimal(repr(float(price))) / step).to_integral_value()
                assert float(steps * step) == price
        assert np.all(mine["ask"] > mine["bid"])


def test_a_trade_is_at_the_quote_of_its_aggressor():
    ticks = generate(5.0)
    trades = ticks[(ticks["flags"] & TickFlag.TRADE) != 0]
    buyers = trades[(trades["flags"] & TickFlag.BUYER) != 0]
    sellers = trades[(trades["flags"] & TickFlag.SELLER) != 0]
    assert len(buyers) + len(sellers) == len(trades) > 100
    assert np.array_equal(buyers["last"], buyers["ask"])
    assert np.array_equal(sellers["last"], sellers["bid"])
    assert np.all(trades["last_size"] >= 1)


def test_a_quote_repeats_the_last_trade_seen():
    ticks = generate(5.0)
    for symbol in SYMBOLS:
        mine = ticks[ticks["symbol"] == symbol.id]
        last = (np.nan, np.nan)
        for tick in mine:
            if tick["flags"] & TickFlag.TRADE:
                last = (tick["last"], tick["last_size"])
            assert np.array_equal((tick["last"], tick["last_size"]), last, equal_nan=True)


def test_rate_bursts_and_halts():
    shape = MarketShape(ticks_per_s=1000.0, burst_factor=20.0, burst_every_s=2.0, halt_every_s=5.0)
    ticks = generate(60.0, shape=shape)
    assert np.all(np.diff(ticks["ts_event_ns"]) > 0)
    per_100_ms = np.bincount((ticks["ts_event_ns"] - START_NS) // 100_000_000, minlength=600)
    assert per_100_ms.max() > 8 * np.median(per_100_ms)  # bursts
    nq_times = ticks["ts_event_ns"][ticks["symbol"] == 1]
    assert (
        np.diff(nq_times).max() > 2_000_000_000
    )  # a halt of the busiest symbol, which trades hundreds of times a second
    assert 40_000 < len(ticks) < 600_000


def test_unknown_tick_size_and_unknown_name_still_make_a_market():
    market = SimulatedMarket([Symbol(9, "SOMETHING")], MarketShape(), 1, Platform.SIM, START_NS)
    out = np.zeros(100, TICK_DTYPE)
    assert market.generate(START_NS + 10**9, out) == 100
    assert np.allclose(out["bid"], 100, atol=5)
    assert np.all(out["source"] == Platform.SIM)


def test_nothing_is_due_before_the_next_event():
    market = SimulatedMarket(SYMBOLS, MarketShape(ticks_per_s=1.0), 1, Platform.NT8, START_NS)
    out = np.zeros(10, TICK_DTYPE)
    market.generate(START_NS + 1, out)
    due = market.next_event_ns
    assert market.generate(due, out) == 0
    assert market.generate(due + 1, out) == 1
    assert out[0]["ts_event_ns"] == due


@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**70])
def test_any_integer_is_a_seed(seed: int):
    assert len(generate(0.2, seed=seed)) > 50


def test_a_market_that_was_made_is_compiled():
    """An adapter that compiles at its first tick, after its first sign of life, is killed as one that hangs."""
    script = (
        "from nexus_gateway.adapters.simulator import market as it\n"
        "from nexus_gateway.shm.symbols import Symbol\n"
        "from nexus_gateway.shm.tick import Platform\n"
        "it.SimulatedMarket([Symbol(1, 'NQ', tick_size=0.25)], it.MarketShape(), 1, Platform.NT8, 1)\n"
        "assert it._generate.signatures\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
