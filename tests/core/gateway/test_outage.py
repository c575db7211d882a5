"""A lost journal's content is saved as a database, tried again when that fails, and the launcher sees it go on."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nexus_gateway.core.engine import ClockTicked
from nexus_gateway.core.gateway.outage import JournalOutage
from nexus_gateway.core.journal import Journal, JournalError, JournalLostError, verify

from tests.simulation.surroundings import make_log

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows refuses to rename or delete an open file")


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are looked at with every call."""
    monkeypatch.setattr("nexus_gateway.core.journal.files._CHECK_NS", 0)


class Context:
    """A process that runs for `naps` naps, then is asked to stop. `on_nap`: called with the number of each."""

    def __init__(self, naps: int = 20) -> None:
        self.log = make_log()
        self.beats = self.slept = 0
        self.naps = naps
        self.on_nap: Any = lambda number: None

    def sleep(self, _seconds: float) -> bool:
        self.slept += 1
        self.on_nap(self.slept)
        return self.slept >= self.naps

    def beat(self) -> None:
        self.beats += 1


def make_outage(journal: Journal, context: Context) -> JournalOutage:
    def retry() -> None:
        journal.check_files()
        journal.commit()

    journaled: Any = SimpleNamespace(journal=journal, retry=retry)
    counters: Any = SimpleNamespace(add=lambda name: None)
    process: Any = context
    return JournalOutage(process, journaled, (), counters)


def write_events(journal: Journal, count: int) -> None:
    for number in range(count):
        journal.append(ClockTicked(), number + 1)
    journal.commit()


def lose(journal: Journal, path: Path) -> JournalLostError:
    path.unlink()
    with pytest.raises(JournalLostError) as lost:
        journal.check_files()
    return lost.value


def test_only_the_database_is_saved_with_heartbeats_also_during_a_stop(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    with closing(Journal(path)) as journal:
        write_events(journal, 20_000)  # several steps of a copy
        archives = tmp_path / "orders.sqlite.archive"
        archives.mkdir()
        context = Context(naps=1)
        with pytest.raises(JournalLostError):
            make_outage(journal, context).wait(lose(journal, path))
        assert context.beats >= 2
        saved = tmp_path / "orders.sqlite.rescued"
        assert (verify(saved).events, verify(saved).problems) == (20_000, [])
        assert sorted(each.name for each in tmp_path.glob("*.rescued*")) == [saved.name]


def test_a_copy_that_failed_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "orders.sqlite"
    with closing(Journal(path)) as journal:
        write_events(journal, 3)
        context = Context(naps=12)
        lost = lose(journal, path)
        folder.rename(tmp_path / "elsewhere")

        def bring_back(number: int) -> None:
            if number == 8:
                (tmp_path / "elsewhere").rename(folder)

        context.on_nap = bring_back
        with pytest.raises(JournalLostError):
            make_outage(journal, context).wait(lost)
        assert verify(folder / "orders.sqlite.rescued").events == 3
        assert not (folder / "orders.sqlite.rescued-2").exists()


def test_a_start_without_the_journal_names_its_saved_content_and_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    with closing(Journal(path)) as journal:
        write_events(journal, 3)
        with pytest.raises(JournalLostError):
            make_outage(journal, Context(naps=1)).wait(lose(journal, path))
    for side in tmp_path.glob("orders.sqlite-*"):
        side.unlink()
    with pytest.raises(JournalError, match=r"is missing.*orders\.sqlite\.rescued.*rename it to orders\.sqlite"):
        Journal(path)
    assert not path.exists()
    (tmp_path / "orders.sqlite.rescued").rename(path)
    with Journal(path) as again:
        assert again.last_seq == 3


def test_the_content_of_a_journal_behind_a_link_is_saved_beside_its_file(tmp_path: Path) -> None:
    real, link = tmp_path / "data" / "orders.sqlite", tmp_path / "link.sqlite"
    real.parent.mkdir()
    link.symlink_to(real)
    with closing(Journal(link)) as journal:
        write_events(journal, 3)
        with pytest.raises(JournalLostError):
            make_outage(journal, Context(naps=1)).wait(lose(journal, real))
        assert verify(real.with_name("orders.sqlite.rescued")).events == 3
    with pytest.raises(JournalError, match="is missing"):
        Journal(link)
