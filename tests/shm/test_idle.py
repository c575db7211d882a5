"""Idle strategies and the kernels' clock."""

from __future__ import annotations

import time

import pytest
from nexus_gateway.shm import host, idle
from nexus_gateway.shm.clock import read_utc_ns
from nexus_gateway.shm.idle import Backoff, BusySpin, Yield, make_idle


@pytest.fixture
def given_way(monkeypatch):
    """What a strategy does between looks: the list of "yield" and of seconds slept."""
    done = []
    monkeypatch.setattr(idle, "give_way", lambda: done.append("yield"))
    monkeypatch.setattr(idle.time, "sleep", done.append)
    return done


def test_names_of_the_configuration():
    assert {name: type(make_idle(name)) for name in idle.STRATEGIES} == {
        "busy_spin": BusySpin,
        "yield": Yield,
        "backoff": Backoff,
    }
    with pytest.raises(ValueError, match="idle strategy was 'spin'; use one of busy_spin, yield, backoff"):
        make_idle("spin")


def test_busy_spin_never_gives_way(given_way):
    strategy = BusySpin()
    for _ in range(1000):
        strategy.pause()
    assert given_way == []


def test_yield_gives_way_each_time(given_way):
    strategy = Yield()
    strategy.pause()
    strategy.pause()
    strategy.reset()
    assert given_way == ["yield", "yield"]


def test_backoff_yields_then_sleeps_longer_and_longer(given_way):
    strategy = Backoff(shortest_sleep_s=1e-4, longest_sleep_s=5e-4)
    for _ in range(Backoff._YIELDS):
        strategy.pause()
    assert set(given_way) == {"yield"}
    given_way.clear()
    for _ in range(5):
        strategy.pause()
    assert given_way == [1e-4, 2e-4, 4e-4, 5e-4, 5e-4]
    strategy.reset()
    given_way.clear()
    strategy.pause()
    assert given_way == ["yield"], "after a find it is awake again"


def test_giving_way_returns():
    idle.give_way()
    host.sharpen_timers()


def test_kernels_read_the_clock_of_python():
    for _ in range(1000):
        before = time.time_ns()
        between = read_utc_ns()
        assert before <= between <= time.time_ns()
