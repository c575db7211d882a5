"""kill -9 of the gateway on its second day of trading: it comes back, with what the platforms hold.

The day is played in virtual time into the journal and the paper accounts; the processes that go on from there are real.
"""

from __future__ import annotations

import time

import numpy as np
import psutil
import pytest
from msgspec import structs
from nexus_gateway.core.config import LauncherConfig
from nexus_gateway.core.messages import SignalState
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.segment import SegmentError

from tests.support.launched import ROOT
from tests.support.ledgers import Ledgers
from tests.support.shm_processes import linux_only
from tests.support.system import PRICES, SIX, System
from tests.virtual_days.days import VirtualDays
from tests.virtual_days.trader import DAY_NS, Trader

pytestmark = linux_only
DOLLARS = {"paper": {"currency": "USD"}}
COMES_BACK_S = 300.0
"""Generous: a gateway that is not there by then will not come."""


def make_system() -> System:
    """Shipped settings. The launcher forgets a restart after a second: each kill is the first of its day."""
    launcher = LauncherConfig(max_restarts=1_000, restart_window_s=1.0)
    return System(dict.fromkeys(SIX, DOLLARS), ("NQ", "ES"), with_nexus=True, nexus_every_s=1.0, launcher=launcher)


def play(system: System, signals_a_day: float, days: float) -> Trader:
    """Trade for so long in virtual time, up to now; journal and accounts are what the system's processes start from."""
    orders = structs.replace(system.config.orders, durability="process")
    config = structs.replace(system.config, orders=orders, run_folder=str(system.root / "virtual"))
    prices = {each.name: PRICES[each.name] for each in config.symbols}
    with VirtualDays(config, prices, time.time_ns() - int(days * DAY_NS)) as made:
        made.trader.trade(signals_a_day)
        made.run_days(days)
        made.trader.rest()
        for _ in range(60):  # nothing is on its way any more; what is held stays
            if not made.faults():
                break
            made.run_for(10**9)
        assert made.faults() == []
        made.save_accounts(system.root)
        return made.trader


def kill_and_wait(system: System, kills: int, chance) -> list[tuple[float, float]]:
    """Kill the gateway while it trades, again and again. Returns how long each took until all routes were ready, s, and
    the new gateway's processor time for it, s, which says more where other programs run.
    """
    took_s = []
    for _ in range(kills):
        system.rest(chance.uniform(1, 4))
        before = system.row()
        began_s = time.monotonic()
        at_ns = system.kill(["gateway"])
        system.until(lambda before=before: is_ready(system, before.pid), COMES_BACK_S)
        wall_s = time.monotonic() - began_s
        took_s.append((wall_s, sum(psutil.Process(system.row().pid).cpu_times()[:2])))
        assert system.row().restarts == before.restarts + 1, "it was restarted more than once"
        system.until(lambda at_ns=at_ns: trades_since(system, at_ns))
    return took_s


def is_ready(system: System, killed_pid: int) -> bool:
    """Whether another gateway has reconciled every platform; the counters of the killed one are still there."""
    try:
        page = CountersPage.attach(system.folder, "gateway")
    except SegmentError:
        return False
    pid = system.row().pid
    is_own = pid != killed_pid and page.segment.field("writer_pid") == pid
    return is_own and page.values().get("routes_ready") == len(system.config.platforms)


def trades_since(system: System, at_ns: int) -> bool:
    """Whether an idea from after that time has filled on every platform, and NEXUS knows it."""
    system.diary.refresh()
    return any(
        told.outcome.state is SignalState.FILLED and system.diary.signals[told.outcome.signal_id].created_ns > at_ns
        for told in system.diary.told.values()
    )


def find_faults(system: System, trader: Trader) -> list[str]:
    """End the trading and the processes, and compare what platforms, journal and NEXUS say, both days."""
    (system.folder / "pause").touch()
    system.until(
        lambda: system.diary.refresh() is not None and system.diary.is_settled and not system.counters()["unknown"]
    )
    counters = system.counters()
    odd = ("engine_position_drift", "engine_orphan", "engine_faults")
    found = [f"{name} is {counters[name]}" for name in odd if counters[name]]
    system.stop()
    reports = [each.outcome.report for each in system.diary.told.values() if each.outcome.report is not None]
    books = {name: system.book(name) for name in system.config.platforms}
    signals = trader.signals | system.diary.signals
    ledgers = Ledgers(books, system.journaled_fills(), signals, [*trader.reports.values(), *reports])
    return found + ledgers.faults()


def kill_on_day_two(signals_a_day: float, days: float, kills: int, chance) -> list[tuple[float, float]]:
    system = make_system()
    trader = play(system, signals_a_day, days)
    with system:
        system.until(lambda: trades_since(system, 0))
        took_s = kill_and_wait(system, kills, chance)
        assert find_faults(system, trader) == []
    return took_s


def test_a_gateway_killed_in_trading_comes_back_with_what_its_platforms_hold(monkeypatch, chance):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the launcher's children do not look into the current folder
    assert len(kill_on_day_two(signals_a_day=20, days=0.03, kills=1, chance=chance)) == 1


@pytest.mark.torture
@pytest.mark.parametrize(("signals_a_day", "plays"), [(20, 10), (200, 10), (2_000, 2)])
def test_a_gateway_killed_at_any_moment_of_day_two_comes_back(monkeypatch, capsys, chance, signals_a_day, plays):
    """50 kills. A day of 2,000 signals takes minutes to play: it is played less often, and killed more often."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    took_s = []
    for _ in range(plays):
        took_s += kill_on_day_two(signals_a_day, chance.uniform(1.0, 2.0), 50 // plays, chance)
    assert len(took_s) == 50
    with capsys.disabled():
        print(f"\n{signals_a_day} signals a day, {len(took_s)} kills on day two, from the kill to six routes ready:")
        for column, what in enumerate(("elapsed", "processor time of the new gateway")):
            p50, p95, most = np.percentile([each[column] for each in took_s], [50, 95, 100])
            print(f"  {what}: p50 {p50:.2f} s, p95 {p95:.2f} s, max {most:.2f} s")
