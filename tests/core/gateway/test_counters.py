"""What the gateway's page shows from the first moment on."""

from __future__ import annotations

from pathlib import Path

from nexus_gateway.core.gateway.counters import COUNTERS, HISTOGRAMS, GatewayCounters
from nexus_gateway.shm.counters import CountersPage

from tests.support.orders import Desk


def test_links_of_a_predecessor_are_not_shown_as_ones_own_and_what_it_counted_goes_on(run_dir: Path) -> None:
    page = CountersPage.create(run_dir, "gateway", COUNTERS, HISTOGRAMS)
    first = GatewayCounters(page)
    first.add("signals", 3)
    first.publish(Desk("a", "b").engine.state, {})
    assert (page.values()["routes_up"], page.values()["routes_ready"]) == (2, 2)
    second = GatewayCounters(page)
    assert (page.values()["routes_up"], page.values()["routes_ready"]) == (0, 0)
    second.add("signals")
    assert page.values()["signals"] == 4
    page.close()
