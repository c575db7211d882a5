"""kill -9 of the recorder at random points while a writer publishes: files stay whole, nothing goes uncounted."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.recording import file as recording_file
from nexus_gateway.shm.recording.reader import RecordingError, open_recorded

from tests.support.recordings import (
    PUBLISH,
    RECORD,
    assert_numbered,
    make_recorder,
    poll_now,
    recorded,
    spawn,
)
from tests.support.shm_processes import linux_only
from tests.support.torture import rounds

pytestmark = linux_only
ROTATE_BYTES = 128 + 64 * 3000


@rounds(10, 100)
@pytest.mark.parametrize("capacity", [1 << 15, 1 << 9], ids=["ring holds what a restart takes", "ring is lapped"])
def test_killed_at_random_points(run_dir, tmp_path, chance, rounds, capacity):
    folder = tmp_path / "recordings"
    writer = spawn(PUBLISH, run_dir, "sim", capacity, 40, 0.0005, 1 << 40)
    recorders = spawn(RECORD, run_dir, folder, ROTATE_BYTES)
    try:
        assert writer.stdout.readline() == recorders.stdout.readline() == "ready\n"
        for _ in range(rounds):
            recorders.stdin.write("\n")
            recorders.stdin.flush()
            child = int(recorders.stdout.readline())
            time.sleep(chance.uniform(0, 0.06))
            os.kill(child, signal.SIGKILL)
            assert int(recorders.stdout.readline()) == -signal.SIGKILL, "the recorder ended by itself"
            check_on_disk(folder)
            tear_last_file(folder, chance)
    finally:
        writer.kill()
        recorders.kill()
        writer.communicate()
        recorders.communicate()

    recorder, page = make_recorder(run_dir, folder, rotate_bytes=ROTATE_BYTES)
    with recorder:
        poll_now(recorder)
    check_on_disk(folder)
    published = TickReader(run_dir, "sim", start="new").next_seq - 1
    ring = open_recorded(folder).rings["sim"]
    ticks = recorded(open_recorded(folder), "sim")
    assert int(ticks["seq"][-1]) >= published, "the last records of the ring are there"
    published = int(ticks["seq"][-1])
    assert len(ticks) + ring.lost == published
    counted = page.values()
    assert (counted["ticks_recorded"], counted["ticks_lost"]) == (len(ticks), ring.lost)
    assert counted["unknown_losses"] == 0
    assert len({path.name[:6] for path in (folder / "sim").glob("*.nxticks")}) == len(ring.files)
    if capacity == 1 << 9:
        assert ring.lost > 0


def check_on_disk(folder):
    """Every file is a prefix of whole records in growing order, also across files; symbols and index never matter."""
    try:
        recording = open_recorded(folder)
    except RecordingError:
        return  # killed before the first record
    ticks = recorded(recording, "sim")
    assert_numbered(ticks)
    for file in recording.rings["sim"].files:
        assert file.torn_bytes < 64
    gaps = recording.rings["sim"].gaps()
    assert sum(gap.lost for gap in gaps) + len(ticks) == int(ticks["seq"][-1])


def tear_last_file(folder, chance):
    """A kill leaves whole pages; a torn record, as after a power failure, is made here. Returns 1 when it was."""
    files = recording_file.data_files(folder / "sim") if (folder / "sim").exists() else []
    if not files or chance.random() < 0.5:
        return 0
    size = files[-1].stat().st_size
    os.truncate(files[-1], max(size - chance.randrange(1, 200), 0))
    return 1


def test_writer_and_recorder_killed_in_turns(run_dir, tmp_path):
    """A writer's restart goes on in the same segment: for the recorder it is the same ring."""
    folder = tmp_path / "recordings"
    recorder, page = make_recorder(run_dir, folder)
    with recorder:
        for _ in range(4):
            writer = spawn(PUBLISH, run_dir, "sim", 1 << 14, 40, 0.0005, 1 << 40)
            assert writer.stdout.readline() == "ready\n"
            end = time.monotonic() + 0.1
            while time.monotonic() < end:
                recorder.step()
            writer.kill()
            writer.communicate()
            poll_now(recorder)
    ticks = recorded(open_recorded(folder), "sim")
    assert_numbered(ticks)
    ring = open_recorded(folder).rings["sim"]
    assert len(np.unique([file.header.ring_created_ns for file in ring.files])) == 1
    assert len(ticks) + ring.lost == int(ticks["seq"][-1])
    assert page.values()["ticks_recorded"] == len(ticks)
