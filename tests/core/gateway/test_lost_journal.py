"""A journal whose files are deleted, renamed or replaced under a gateway that trades: it stops, says why, and heals."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from nexus_gateway.core.journal import verify
from nexus_gateway.core.messages import Report, SignalState

from tests.support.trading_floor import FakeNexus, FakePlatform, Floor, make_signal, open_floor

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody rename or delete an open file")


def trade(floor: Floor, nexus: FakeNexus) -> str:
    """One signal, filled; its id."""
    signal = make_signal("nt8")
    nexus.client.send(signal)
    floor.until(lambda: (r := nexus.report(signal.signal_id)) is not None and r.state is SignalState.FILLED)
    return signal.signal_id


def events_of(journal: Path) -> int:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])


def wait_until_stopped(floor: Floor, platform: FakePlatform, nexus: FakeNexus, text: str) -> None:
    floor.until(lambda: text in floor.log())
    floor.until(lambda: not nexus.client.is_up and not platform.client.is_up)


def test_a_journal_that_was_renamed_stops_all_trading_until_it_has_its_name_again() -> None:
    with open_floor(("nt8", "fill")) as (floor, (platform,), nexus):
        trade(floor, nexus)
        journal = floor.root / "orders.sqlite"
        journal.rename(floor.root / "elsewhere")
        wait_until_stopped(floor, platform, nexus, "was deleted or renamed")
        placed = len(platform.placed)
        floor.until(lambda: floor.counters()["journal_failures"] >= 2)
        (floor.root / "elsewhere").rename(journal)
        floor.until(lambda: nexus.client.is_up and platform.client.is_up)
        floor.wait_until_reconciled()
        trade(floor, nexus)
        assert len(platform.placed) == placed + 1
        floor.kill()
        assert verify(journal).problems == []


def test_the_content_of_a_journal_that_was_deleted_is_saved_and_the_next_start_goes_on_with_it() -> None:
    with open_floor(("nt8", "fill")) as (floor, (platform,), nexus):
        signal_id = trade(floor, nexus)
        journal, saved = floor.root / "orders.sqlite", floor.root / "orders.sqlite.rescued"
        before = events_of(journal)
        journal.unlink()
        wait_until_stopped(floor, platform, nexus, "was deleted or renamed")
        floor.until(saved.exists)
        assert verify(saved).problems == []
        assert events_of(saved) >= before
        floor.kill()
        for rest in floor.root.glob("orders.sqlite-*"):
            rest.unlink()
        saved.rename(journal)
        floor.restart()
        with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
            orders = connection.execute("SELECT count(*) FROM intents WHERE kind = 'order'").fetchone()[0]
        assert orders >= len(platform.placed)
        trade(floor, nexus)
        assert {signal_id} <= {each.signal_id for each in nexus.heard if isinstance(each, Report)}


def test_a_write_ahead_log_that_was_deleted_costs_a_restart_and_nothing_else() -> None:
    with open_floor(("nt8", "fill")) as (floor, _, nexus):
        trade(floor, nexus)
        journal = floor.root / "orders.sqlite"
        before = events_of(journal)
        (floor.root / "orders.sqlite-wal").unlink()
        assert floor.process is not None
        floor.until(lambda: floor.process is not None and floor.process.poll() is not None)
        assert floor.process.returncode == 1
        assert verify(journal).problems == []
        assert events_of(journal) >= before
        floor.restart()
        trade(floor, nexus)


def test_a_journal_that_gets_a_second_name_stops_trading_until_that_is_removed() -> None:
    with open_floor(("nt8", "fill")) as (floor, (platform,), nexus):
        second = floor.root / "second.sqlite"
        os.link(floor.root / "orders.sqlite", second)
        wait_until_stopped(floor, platform, nexus, "has 2 names")
        second.unlink()
        floor.until(lambda: nexus.client.is_up and platform.client.is_up)
        floor.wait_until_reconciled()
        trade(floor, nexus)
