"""kill -9 of gateway, platforms and NEXUS at random instants of trading: nothing is lost, nothing is doubled."""

from __future__ import annotations

import random
import statistics
from collections import Counter

import pytest
from msgspec import structs
from nexus_gateway.core.messages import SignalState

from tests.support.launched import ROOT
from tests.support.ledgers import Ledgers
from tests.support.shm_processes import linux_only
from tests.support.system import NEXUS, System, Told
from tests.support.torture import rounds

pytestmark = linux_only
PLATFORMS = {"mt5": {"paper": {"currency": "USD"}}, "nt8": {}, "sierra": {}, "quantower": {}}
"""One hedging account, and three netting ones."""
GATEWAY = "gateway"
VICTIMS = (GATEWAY, NEXUS, *PLATFORMS)


def choose_victims(chance: random.Random) -> list[str]:
    """One round: gateway, NEXUS and platforms in every combination, several at once."""
    platforms = chance.sample(sorted(PLATFORMS), chance.choice((0, 1, 2, 3)))
    others = chance.choice(([], [GATEWAY], [NEXUS], [GATEWAY, NEXUS]))
    return [*platforms, *others] or [GATEWAY]


def read_ledgers(system: System) -> Ledgers:
    """After `stop`."""
    reports = [each.outcome.report for each in system.diary.told.values() if each.outcome.report is not None]
    books = {name: system.book(name) for name in system.config.platforms}
    return Ledgers(books, system.journaled_fills(), dict(system.diary.signals), reports)


@rounds(8, 120)
def test_kills_while_trading_lose_and_double_nothing(monkeypatch, capsys, chance, rounds):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the launcher's children do not look into the current folder
    each = max(1, rounds // 12)
    killed: Counter[str] = Counter()
    recovered_s = []
    with System(PLATFORMS, with_nexus=True) as system:
        heard: list[Told] = []

        def traded_since(at_ns: int) -> bool:
            heard[:] = [
                told
                for told in (*heard, *system.diary.refresh())
                if told.outcome.state is SignalState.FILLED
                and system.diary.signals[told.outcome.signal_id].created_ns > at_ns
            ]
            return bool(heard)

        system.until(lambda: traded_since(0))
        while killed.total() < rounds or min(killed[name] for name in VICTIMS) < each:
            system.rest(chance.uniform(0, 0.7))
            victims = choose_victims(chance)
            at_ns = system.kill(victims)
            killed.update(victims)
            # Reconciled and trading: an idea from after the kill has filled on every platform, and NEXUS knows it.
            system.until(lambda at_ns=at_ns: traded_since(at_ns))
            recovered_s.append((heard[0].at_ns - at_ns) / 1e9)
        (system.folder / "pause").touch()

        def is_quiet() -> bool:
            system.diary.refresh()
            return system.diary.is_settled and system.counters()["unknown"] == 0

        system.until(is_quiet)
        counters = system.counters()
        assert counters["engine_position_drift"] == counters["engine_orphan"] == counters["engine_faults"] == 0
        system.stop()

        ledgers = read_ledgers(system)
        assert ledgers.faults() == []
        assert ledgers.journaled

    states = Counter(str(each.outcome.state) for each in system.diary.told.values())
    with capsys.disabled():
        print(
            f"\n{killed.total()} kills in {len(recovered_s)} rounds {dict(killed)}: from the kill to reconciled and "
            f"trading p50 {statistics.median(recovered_s):.2f} s, max {max(recovered_s):.2f} s; {len(ledgers.signals)} "
            f"signals {dict(states)}, {len(ledgers.journaled)} executions, "
            f"{sum(leg.filled > 0 for report in ledgers.reports for leg in report.legs)} legs filled"
        )


def _filled(system: System) -> int:
    return sum(told.outcome.state is SignalState.FILLED for told in system.diary.told.values())


@pytest.fixture(scope="module")
def ledgers():
    """Of a run of two platforms without a kill, in which everything agrees."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        with System({"nt8": {}, "sierra": {}}, with_nexus=True) as system:
            # A busy machine may refuse the first ones, for quotes that are late.
            system.until(lambda: system.diary.refresh() and _filled(system) >= 3)
            (system.folder / "pause").touch()
            system.until(lambda: system.diary.refresh() is not None and system.diary.is_settled)
            system.stop()
            found = read_ledgers(system)
    assert found.faults() == []
    return found


def test_a_lost_execution_would_be_seen(ledgers):
    lost = dict(list(ledgers.journaled.items())[1:])
    faults = Ledgers(ledgers.books, lost, ledgers.signals, ledgers.reports).faults()
    assert any("journal alone" in fault for fault in faults)
    assert any("positions of the journal" in fault for fault in faults)


def test_a_signal_traded_twice_would_be_seen(ledgers):
    book = ledgers.books["nt8"]
    entry = next(order for order in book.orders.values() if order.filled and order.client_order_id[16] == "E")
    book.orders["again"] = entry
    try:
        faults = ledgers.faults()
    finally:
        del book.orders["again"]
    assert any("was executed 2 times" in fault for fault in faults)
    assert any("orders of" in fault for fault in faults)


def test_an_order_of_nobody_would_be_seen(ledgers):
    traded = next(report.signal_id for report in ledgers.reports if report.filled)
    others = {name: signal for name, signal in ledgers.signals.items() if name != traded}
    faults = Ledgers(ledgers.books, ledgers.journaled, others, ledgers.reports).faults()
    assert any("explained by no signal" in fault for fault in faults)


def test_a_fill_that_nexus_was_not_told_would_be_seen(ledgers):
    first = next(report for report in ledgers.reports if report.filled)
    deaf = structs.replace(first, legs=first.legs[1:])
    reports = [deaf if report is first else report for report in ledgers.reports]
    faults = Ledgers(ledgers.books, ledgers.journaled, ledgers.signals, reports).faults()
    assert any("NEXUS knows other fills" in fault for fault in faults)
