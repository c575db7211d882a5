"""kill -9 of gateway, platforms and NEXUS at random instants of trading: nothing is lost, nothing is doubled."""

from __future__ import annotations

import random
import statistics
from collections import Counter

from nexus_gateway.core.messages import OrderRole, SignalState, find_client_order_id, signal_key

from tests.support.launched import ROOT
from tests.support.shm_processes import linux_only
from tests.support.system import NEXUS, System, Told, add_lots

pytestmark = linux_only
PLATFORMS = {"mt5": {"paper": {"currency": "USD"}}, "nt8": {}, "sierra": {}, "quantower": {}}
"""One hedging account, and three netting ones."""
GATEWAY = "gateway"
KILLS = 60
SEED = 3


def choose_victims(chance: random.Random) -> list[str]:
    """One round: gateway, NEXUS and platforms in every combination, several at once."""
    platforms = chance.sample(sorted(PLATFORMS), chance.choice((0, 1, 2, 3)))
    others = chance.choice(([], [GATEWAY], [NEXUS], [GATEWAY, NEXUS]))
    return [*platforms, *others] or [GATEWAY]


def test_sixty_kills_while_trading_lose_and_double_nothing(monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the launcher's children do not look into the current folder
    chance = random.Random(SEED)
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
        while killed.total() < KILLS:
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
        assert min(killed[name] for name in (GATEWAY, NEXUS, *PLATFORMS)) >= 5, killed
        system.stop()

        signals, told = system.diary.signals, system.diary.told
        books = {name: system.book(name) for name in PLATFORMS}
        owner = {signal_key(name): name for name in signals}
        entries: Counter[tuple[str, str]] = Counter()
        for platform, book in books.items():
            assert len(book.orders) == len(book.by_client_id)
            for order in book.orders.values():
                parts = find_client_order_id(order.client_order_id or book.orders[order.parent].client_order_id)
                assert parts is not None
                assert parts.key in owner, "an order that no signal of NEXUS explains"
                entries[platform, owner[parts.key]] += bool(order.filled) and (
                    parts.role is OrderRole.ENTRY and not order.parent
                )
        assert max(entries.values()) == 1, "a signal was executed twice"

        # Platforms, journal and NEXUS agree on each execution and each lot.
        executions = {
            (platform, each.fill.exec_id): each.fill
            for platform, book in books.items()
            for each in book.executions.values()
        }
        journaled = system.journaled_fills()
        assert journaled.keys() == executions.keys()
        positions = add_lots(
            [(name, each.symbol, each.quantity) for name, book in books.items() for each in book.positions.values()]
        )
        fills = [(fill.platform, fill.symbol, fill.quantity * fill.side.sign) for fill in journaled.values()]
        assert add_lots(fills) == positions
        reports = [each.outcome.report for each in told.values() if each.outcome.report is not None]
        legs = [(leg.platform, report.symbol, leg.open_quantity) for report in reports for leg in report.legs]
        assert add_lots(legs) == positions
        known = {
            (leg.platform, report.signal_id): leg.filled for report in reports for leg in report.legs if leg.filled
        }
        assert known == {key: 1 for key, count in entries.items() if count}
        assert positions

    states = Counter(str(each.outcome.state) for each in told.values())
    with capsys.disabled():
        print(
            f"\n{killed.total()} kills in {len(recovered_s)} rounds {dict(killed)}: from the kill to reconciled and "
            f"trading p50 {statistics.median(recovered_s):.2f} s, max {max(recovered_s):.2f} s; {len(signals)} signals "
            f"{dict(states)}, {len(executions)} executions, {len(known)} legs filled"
        )
