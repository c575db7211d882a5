"""A full disk: recording stops with an alarm, feeds go on, losses are counted, and recording resumes."""

from __future__ import annotations

import pytest
from nexus_gateway.shm.recording.reader import open_recorded
from nexus_gateway.shm.run_folder import attach_cursors
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter

from tests.support.recordings import (
    assert_numbered,
    make_recorder,
    poll_now,
    publish_numbered,
    recorded,
    spawn,
)
from tests.support.shm_processes import linux_only
from tests.support.small_disk import small_disk_of

DISK_BYTES = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    with small_disk_of(DISK_BYTES, tmp_path) as disk:
        yield disk


def retry_now(recorder):
    recorder._retry_at_s = 0.0
    recorder.step()


def test_full_disk(run_dir, small_disk):
    folder = small_disk / "recordings"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 2 + 40))
    writers = [TickWriter(run_dir, name, Platform.SIM, capacity=1 << 12, board_rows=0) for name in ("nt8", "sierra")]
    recorder, page = make_recorder(run_dir, folder, rotate_bytes=1 << 18)
    recorder.step()
    while not recorder.stopped:
        for writer in writers:
            publish_numbered(writer, 500)
        recorder.step()
    full_at = {writer.name: writer.tail for writer in writers}
    assert page.values()["disk_full_alarm"] == 1
    assert attach_cursors(run_dir, "nt8") == [], "a replay at full speed would wait for it"
    for path in folder.rglob("*.nxticks"):
        assert path.stat().st_size % 64 == 0, "a partial record was left"

    retry_now(recorder)
    assert recorder.stopped
    for writer in writers:
        publish_numbered(writer, 20_000)  # laps the stopped recorder; the feed does not notice
    recorder.step()
    assert page.values()["disk_full_alarm"] == 1
    on_disk = page.values()["ticks_recorded"]
    assert on_disk == sum(len(ring) for ring in open_recorded(folder).rings.values())

    ballast.unlink()
    retry_now(recorder)
    assert not recorder.stopped
    assert page.values()["disk_full_alarm"] == 0
    assert len(attach_cursors(run_dir, "nt8")) == 1
    recorder.step()
    recorder.close()
    counted = page.values()
    assert counted["disk_full_stops"] == 1
    assert counted["ticks_lost"] > 0
    assert counted["ticks_recorded"] + counted["ticks_lost"] == sum(writer.tail for writer in writers)
    for name, ring in open_recorded(folder).rings.items():
        ticks = recorded(open_recorded(folder), name)
        assert_numbered(ticks)
        assert int(ticks["seq"][-1]) == 20_000 + full_at[name]
        assert sum(gap.lost for gap in ring.gaps()) + len(ticks) == 20_000 + full_at[name]


RECORD_UNDER_LIMIT = """
import resource, sys
from pathlib import Path
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter
from tests.support.recordings import make_recorder, publish_numbered
run_folder, folder = map(Path, sys.argv[1:])
writer = TickWriter(run_folder, "sim", Platform.SIM, capacity=1 << 12, board_rows=0)
recorder, page = make_recorder(run_folder, folder)
recorder.step()
publish_numbered(writer, 10)
recorder.step()
resource.setrlimit(resource.RLIMIT_FSIZE, (128 + 64 * 100 + 30, resource.RLIM_INFINITY))
publish_numbered(writer, 200)
recorder.step()
size = next(folder.rglob("*.nxticks")).stat().st_size
print(recorder.stopped, size, page.values()["ticks_recorded"], flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
publish_numbered(writer, 50)
recorder._retry_at_s = 0.0
recorder.step()
recorder.step()
recorder.close()
print(recorder.stopped, page.values()["ticks_recorded"], page.values()["ticks_lost"], flush=True)
"""


@linux_only
def test_partial_record_is_cut_and_the_rest_follows_in_a_new_file(run_dir, tmp_path):
    """The system takes a part of a record: here at a limit on the size of files."""
    folder = tmp_path / "recordings"
    child = spawn(RECORD_UNDER_LIMIT, run_dir, folder)
    printed, _ = child.communicate()
    assert printed.splitlines() == [f"True {128 + 64 * 100} 100", "False 260 0"]
    ring = open_recorded(folder).rings["sim"]
    assert [len(file) for file in ring.files] == [100, 160]
    assert_numbered(recorded(open_recorded(folder), "sim"))
    assert ring.gaps() == []


def test_space_is_kept_for_others(run_dir, tmp_path):
    writer = TickWriter(run_dir, "sim", Platform.SIM, capacity=1 << 12, board_rows=0)
    recorder, page = make_recorder(run_dir, tmp_path / "recordings", keep_free_bytes=1 << 60)
    publish_numbered(writer, 10)
    recorder.step()
    assert recorder.stopped
    recorder._keep_free_bytes = 0
    retry_now(recorder)
    poll_now(recorder)
    recorder.close()
    assert page.values()["ticks_recorded"] == 10
    assert len(recorded(open_recorded(tmp_path / "recordings"), "sim")) == 10


def test_end_while_the_disk_is_full_is_clean(run_dir, tmp_path):
    folder = tmp_path / "recordings"
    writer = TickWriter(run_dir, "sim", Platform.SIM, capacity=1 << 12, board_rows=0)
    recorder, page = make_recorder(run_dir, folder, flush_ms=10_000)
    publish_numbered(writer, 10)
    recorder.step()  # drained, not written yet
    recorder._keep_free_bytes = 1 << 60
    poll_now(recorder)
    recorder.close()
    page.close()
    recorder, page = make_recorder(run_dir, folder)
    with recorder:
        recorder.step()
    assert len(recorded(open_recorded(folder), "sim")) == 10, "they were still in the ring"
