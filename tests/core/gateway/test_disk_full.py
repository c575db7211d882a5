"""The journal on a real file system without room: nothing leaves, links are cut, and trading returns with the room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from nexus_gateway.core.config import DiskConfig
from nexus_gateway.core.engine import ClockTicked
from nexus_gateway.core.journal import Journal, JournalError, JournalRoom
from nexus_gateway.core.messages import KillLevel, Resume, Role, SignalClose, SignalState

from tests.support.small_disk import small_disk_of
from tests.support.trading_floor import make_signal, open_floor

DISK_BYTES = 2 << 20
NO_LIMITS = DiskConfig(**dict.fromkeys((name for name in DiskConfig.__struct_fields__ if name.endswith("_bytes")), 0))
RESERVE_BYTES = 512 << 10


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
    with open_floor(("nt8", "fill"), journal=str(small_disk / "orders.sqlite"), disk=NO_LIMITS) as (
        floor,
        (platform,),
        nexus,
    ):
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
    with open_floor(("nt8", "fill"), journal=str(small_disk / "orders.sqlite"), disk=NO_LIMITS) as (
        floor,
        (platform,),
        nexus,
    ):
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


def test_a_nearly_full_disk_stops_entries_and_exits_go_on_from_the_reserve(tmp_path: Path) -> None:
    """First entries stop, then checkpoints; when nothing is left the reserve takes the exit and its fill."""
    disk_config = msgspec.structs.replace(
        NO_LIMITS,
        entries_stop_bytes=1 << 20,
        checkpoints_stop_bytes=1 << 20,
        journal_reserve_bytes=RESERVE_BYTES,
    )
    with (
        small_disk_of(6 << 20, tmp_path) as disk,
        open_floor(("nt8", "fill"), journal=str(disk / "orders.sqlite"), disk=disk_config) as (
            floor,
            (platform,),
            nexus,
        ),
    ):
        reserve = disk / "orders.sqlite.reserve"
        floor.until(reserve.exists)
        held = make_signal("nt8")
        nexus.client.send(held)
        floor.until(lambda: (r := nexus.report(held.signal_id)) is not None and r.state is SignalState.FILLED)
        ballast = fill_up(disk)
        floor.until(lambda: "entries are stopped, the journal's disk is nearly full" in floor.log())
        floor.until(lambda: floor.counters()["kill_level"] == KillLevel.NO_NEW)
        links, placed = nexus.client.counts["links"], len(platform.placed)
        refused = make_signal("nt8")
        nexus.client.send(refused)
        floor.until(lambda: (r := nexus.report(refused.signal_id)) is not None and r.state is SignalState.REJECTED)
        assert len(platform.placed) == placed
        nexus.client.send(SignalClose(signal_id=held.signal_id))
        floor.until(lambda: (r := nexus.report(held.signal_id)) is not None and r.state is SignalState.CLOSED)
        assert not reserve.exists()
        assert platform.position == 0
        assert (floor.counters()["journal_failures"], nexus.client.counts["links"]) == (0, links)
        ballast.unlink()
        floor.until(reserve.exists)
        operator = floor.nexus("operator", Role.ADMIN)
        floor.until(lambda: operator.client.is_up)
        operator.client.send(Resume(request_id=1, reason="room was made", by="test"))
        floor.until(lambda: floor.counters()["kill_level"] == KillLevel.NORMAL)
        again = make_signal("nt8")
        nexus.client.send(again)
        floor.until(lambda: (r := nexus.report(again.signal_id)) is not None and r.state is SignalState.FILLED)
    assert not floor.process or floor.process.poll() is not None


def test_no_checkpoint_and_no_reserve_are_made_without_room(tmp_path: Path) -> None:
    with small_disk_of(DISK_BYTES, tmp_path) as disk:
        path = disk / "orders.sqlite"
        room = JournalRoom(path, RESERVE_BYTES * 4, DISK_BYTES * 2)
        assert not room.take_reserve()
        with Journal(path, room=room) as journal:
            journal.append(ClockTicked(), 1)
            journal.commit()
            with pytest.raises(JournalError, match="checkpoints stop below"):
                journal.checkpoint(b"state", 1)
        free = room.free_bytes()
        assert free is not None
        small = JournalRoom(path, free // 8)
        assert small.is_reserve_missing
        assert small.take_reserve()
        assert not small.take_reserve(), "it is there"
        left = small.free_bytes()
        assert left is not None
        assert free - left >= free // 8
        assert small.release_reserve()
        assert not small.release_reserve()
