"""The journal on a real file system without room: nothing leaves, links are cut, and trading returns with the room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from nexus_gateway.core.journal import Journal
from nexus_gateway.core.messages import SignalState

from tests.support.small_disk import small_disk_of
from tests.support.trading_floor import make_signal, open_floor

DISK_BYTES = 2 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_of(DISK_BYTES, tmp_path) as disk:
        yield disk


def fill_up(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return ballast
    raise AssertionError("the disk has no end")


def test_a_full_disk_stops_trading_and_its_room_brings_it_back(small_disk: Path) -> None:
    with open_floor(("nt8", "fill"), journal=str(small_disk / "orders.sqlite")) as (floor, (platform,), nexus):
        first = make_signal("nt8")
        nexus.client.send(first)
        floor.until(lambda: (r := nexus.report(first.signal_id)) is not None and r.state is SignalState.FILLED)
        ballast = fill_up(small_disk)
        placed = len(platform.placed)
        sent = [make_signal("nt8")]
        nexus.client.send(sent[0])
        floor.until(lambda: floor.counters()["journal_failures"] >= 2)
        assert len(platform.placed) == placed, "an order left without its journal"
        # It says so by its silence: both ends lose their links, and neither believes that somebody trades for it.
        floor.until(lambda: not nexus.client.is_up and not platform.client.is_up)
        assert "journal cannot be written" in floor.log()
        ballast.unlink()
        floor.until(lambda: nexus.client.is_up and platform.client.is_up)
        # What was decided when the room ran out met a cut link: unknown, until the platform has shown its orders.
        floor.until(lambda: (r := nexus.report(sent[0].signal_id)) is not None and r.state is not SignalState.UNKNOWN)
        last = make_signal("nt8")
        sent.append(last)
        nexus.client.send(last)
        floor.until(lambda: (r := nexus.report(last.signal_id)) is not None and r.state is SignalState.FILLED)
        assert max(Counter(order.client_order_id for order in platform.placed).values()) == 1
        assert len(platform.placed) <= placed + len(sent)
        assert floor.counters()["engine_faults"] == 0
        floor.kill()
        Journal(small_disk / "orders.sqlite").close()


def test_a_gateway_that_starts_on_a_full_disk_waits_and_says_why(small_disk: Path) -> None:
    with open_floor(("nt8", "fill"), journal=str(small_disk / "orders.sqlite")) as (floor, (platform,), nexus):
        floor.kill()
        ballast = fill_up(small_disk)
        links = nexus.client.counts["links"]
        floor.start()
        floor.until(lambda: "journal cannot be written" in floor.log())
        assert nexus.client.counts["links"] == links
        ballast.unlink()
        floor.until(lambda: nexus.client.counts["links"] > links and platform.client.is_up)
        signal = make_signal("nt8")
        nexus.client.send(signal)
        floor.until(lambda: nexus.report(signal.signal_id) is not None)
        assert len(platform.placed) <= 1
