"""What the gateway sees of both contracts just before a roll: the spread by which stops are moved."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from nexus_gateway.core.config import GatewayConfig, PlatformConfig, SymbolConfig
from nexus_gateway.core.engine import ContractChosen, ContractNews, ContractRecord
from nexus_gateway.core.gateway.markets import Markets
from nexus_gateway.core.gateway.rolls import LiveContracts
from nexus_gateway.core.logs import process_log
from nexus_gateway.shm.symbols import Symbol, add_symbols
from nexus_gateway.shm.tick import TICK_DTYPE, Platform
from nexus_gateway.shm.writer import TickWriter

D = Decimal
OLD, NEW = "WING26", "WINJ26"
EVE_NS, DUE_NS = (
    int(datetime(2026, 2, day, hour, tzinfo=UTC).timestamp()) * 1_000_000_000 for day, hour in ((13, 15), (18, 12))
)
NONSENSE = (192_490.0, 157_495.0)  # as a Brazilian feed shows it after the close


class Floor:
    """One platform with both contracts of the mini index, and the gateway's eyes on it."""

    def __init__(self, folder: Path) -> None:
        self.ids = add_symbols(folder, [Symbol(0, "WIN", OLD, 5.0), Symbol(0, NEW, NEW, 5.0)])
        self.writer = TickWriter(folder, "mt5_br", Platform.parse("mt5_br"), capacity=1 << 10, board_rows=16)
        config = GatewayConfig(
            run_folder=str(folder),
            symbols=(SymbolConfig(name="WIN", contract=OLD, tick_size=D(5)),),
            platforms={"mt5_br": PlatformConfig(adapter="tests.support.links:FAST", symbols=("WIN",))},
        )
        self.markets = Markets(config, folder)
        self.contracts = LiveContracts(config, folder, self.markets, process_log("test"))

    def quote(self, old: tuple[float, float], new: tuple[float, float]) -> None:
        ticks = np.zeros(2, TICK_DTYPE)
        ticks["symbol"], ticks["flags"], ticks["ts_event_ns"] = self.ids, 3, time.time_ns()
        ticks["bid"], ticks["ask"] = zip(old, new, strict=True)
        self.writer.publish(ticks)
        self.writer.beat()
        self.markets.refresh(time.time_ns())

    def step(self, now_ns: int) -> list[ContractChosen | ContractNews]:
        self.writer.beat()
        return self.contracts.step(now_ns, {"WIN": ContractRecord(contract=OLD)}, {})


@pytest.fixture
def floor(run_dir: Path) -> Iterator[Floor]:
    made = Floor(run_dir)
    yield made
    made.writer.close()


SOUND = ((130_000.0, 130_010.0), (131_400.0, 131_420.0))


def test_the_spread_is_that_of_the_two_quotes(floor: Floor) -> None:
    floor.quote(*SOUND)
    (chosen,) = floor.step(DUE_NS)
    assert isinstance(chosen, ContractChosen)
    assert [(each.old_price, each.new_price, each.spread) for each in chosen.spreads] == [(130_005, 131_410, 1_405)]


@pytest.mark.parametrize("nonsense", [NONSENSE, (0.0, 131_420.0), (131_400.0, 0.0), (131_400.0, 135_000.0)], ids=str)
def test_a_quote_that_is_none_gives_no_spread_but_holds_nobody_back(floor: Floor, nonsense: tuple) -> None:
    """A stop that is moved by half a price would close the position at once, or never."""
    floor.quote(SOUND[0], nonsense)
    (chosen,) = floor.step(DUE_NS)
    assert isinstance(chosen, ContractChosen)
    assert [each.spread for each in chosen.spreads] == [None]


@pytest.mark.parametrize("side", [0, 1])
def test_at_a_shut_market_the_last_sound_quotes_count(floor: Floor, side: int) -> None:
    floor.quote(*SOUND)
    assert floor.step(EVE_NS) == []
    quotes = list(SOUND)
    quotes[side] = NONSENSE
    floor.quote(*quotes)
    (chosen,) = floor.step(DUE_NS)
    assert isinstance(chosen, ContractChosen)
    assert [each.spread for each in chosen.spreads] == [1_405]


@pytest.mark.parametrize("none", [(0.0, 0.0), (math.nan, math.nan)], ids=str)
def test_no_quote_at_all_is_waited_for(floor: Floor, none: tuple) -> None:
    floor.quote(SOUND[0], none)
    (waits,) = floor.step(DUE_NS - 600_000_000_000)
    assert isinstance(waits, ContractNews)
    assert f"has no quote of {NEW}" in waits.text


def test_prices_below_zero_have_a_spread_too(floor: Floor) -> None:
    floor.quote((-40.0, -35.0), (-25.0, -20.0))  # as oil had in April 2020
    (chosen,) = floor.step(DUE_NS)
    assert isinstance(chosen, ContractChosen)
    assert [each.spread for each in chosen.spreads] == [15]
