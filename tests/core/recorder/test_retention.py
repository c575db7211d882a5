"""Old recordings go, the newest of each ring stay, and what is left is a sound recording."""

from __future__ import annotations

import errno
import os

import pytest
from nexus_gateway.core.recorder import retention
from nexus_gateway.shm.recording import retention as recordings_on_disk
from nexus_gateway.shm.recording.file import data_files
from nexus_gateway.shm.recording.reader import open_recorded
from nexus_gateway.shm.recording.retention import choose_expired, remove_companions, remove_recording, size_of
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter

from tests.support.recordings import assert_numbered, make_recorder, publish_numbered, recorded
from tests.support.small_disk import small_disk_of

DAY_NS = 86_400 * 10**9
FILE_BYTES = 128 + 64 * 1000


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "recordings"


def record(run_dir, folder, names=("nt8", "sierra"), ticks=10_500, **options):
    writers = [TickWriter(run_dir, name, Platform.SIM, capacity=1 << 14, board_rows=0) for name in names]
    recorder, page = make_recorder(run_dir, folder, rotate_bytes=FILE_BYTES, **options)
    for writer in writers:
        publish_numbered(writer, ticks)
    recorder.step()
    return recorder, page, writers


def data_names(folder):
    return {ring.name: sorted(path.name for path in ring.glob("*.nxticks")) for ring in sorted(folder.glob("*/"))}


def again(recorder):
    recorder._retention._next_s = 0.0
    recorder._next_poll_s = 0.0
    recorder.step()


def test_the_oldest_files_go_until_all_together_are_small_enough(run_dir, folder):
    one = FILE_BYTES + 500  # with its index and symbols
    recorder, page, _ = record(run_dir, folder, keep_bytes=8 * one)
    assert {name: len(files) for name, files in data_names(folder).items()} == {"nt8": 11, "sierra": 11}
    for _ in range(5):
        again(recorder)
    recorder.close()
    files = list(folder.glob("*/*.nxticks"))
    assert 7 * one < sum(map(size_of, files)) <= 8 * one
    recording = open_recorded(folder)
    assert recording.gaps() == [], "what was removed is not lost"
    for ring in recording.rings.values():
        assert_numbered(recorded(recording, ring.ring))
        assert ring.files[-1].last_seq == 10_500
    assert len(list(folder.glob("*/*.nxindex"))) == len(list(folder.glob("*/*.nxsymbols"))) == len(files)
    assert page.values()["bytes_removed"] >= 13 * 64_000


def test_files_older_than_the_days_go_and_the_newest_of_each_ring_stays(run_dir, folder):
    recorder, _, writers = record(run_dir, folder, keep_days=2)
    for path in folder.glob("*/*"):
        os.utime(path, ns=(0, 0))
    current = {ring: files[-1] for ring, files in data_names(folder).items()}
    for _ in range(5):
        again(recorder)
    assert data_names(folder) == {ring: [name] for ring, name in current.items()}
    for writer in writers:
        publish_numbered(writer, 100)
    recorder.step()
    recorder.close()
    for ring in open_recorded(folder).rings.values():
        assert ring.files[-1].last_seq == 10_600
        assert ring.files[0].header.file_number == 11, "numbers go on"


def test_without_limits_nothing_goes(run_dir, folder):
    recorder, page, _ = record(run_dir, folder)
    for path in folder.glob("*/*"):
        os.utime(path, ns=(0, 0))
    again(recorder)
    recorder.close()
    assert {name: len(files) for name, files in data_names(folder).items()} == {"nt8": 11, "sierra": 11}
    assert page.values()["files_removed"] == 0


def test_a_restart_after_files_were_removed_counts_none_of_them_as_lost(run_dir, folder):
    recorder, page, writers = record(run_dir, folder, names=("nt8",))
    recorder.close()
    for path in choose_expired(folder, None, 3 * FILE_BYTES):
        remove_recording(path)
    page.close()
    recorder, page = make_recorder(run_dir, folder, rotate_bytes=FILE_BYTES)
    publish_numbered(writers[0], 500)
    recorder.step()
    recorder.close()
    counted = page.values()
    assert (counted["ticks_recorded"], counted["ticks_lost"]) == (11_000, 0)


def test_what_a_killed_removal_leaves_is_no_recording_and_goes_too(run_dir, folder):
    recorder, _, _ = record(run_dir, folder, names=("nt8",))
    recorder.close()
    files = sorted(folder.glob("nt8/*.nxticks"))
    for path in files[:3]:
        path.unlink()
    assert open_recorded(folder).gaps() == []
    remove_companions(folder / "nt8")
    stems = {path.stem for path in folder.glob("nt8/*")}
    assert stems == {path.stem for path in files[3:]}


def test_the_oldest_of_all_rings_goes_first(run_dir, folder):
    recorder, _, _ = record(run_dir, folder)
    recorder.close()
    files = sorted(folder.glob("*/*.nxticks"), key=lambda path: path.name)
    for place, path in enumerate(files):
        os.utime(path, ns=(place * DAY_NS, place * DAY_NS))
    total = sum(map(size_of, files))
    expired = choose_expired(folder, None, total - 3 * 64_000)
    assert expired == files[: len(expired)]
    assert 3 <= len(expired) <= 4
    assert choose_expired(folder, 5 * DAY_NS, None) == files[:5]


def test_a_disk_that_is_full_of_old_recordings_is_recorded_on_again(run_dir, tmp_path):
    with small_disk_of(3 << 20, tmp_path) as disk:
        recorder, page, writers = record(run_dir, disk / "ticks", names=("nt8",), ticks=16_000, keep_bytes=500_000)
        ballast = (disk / "ballast").open("wb", buffering=0)
        try:
            while ballast.write(bytes(4096)):
                pass
        except OSError:
            pass
        ballast.close()
        publish_numbered(writers[0], 8_000)
        recorder.step()
        assert recorder.stopped or page.values()["files_removed"]
        recorder._retry_at_s = 0.0
        recorder._retention._next_s = 0.0
        for _ in range(10):
            recorder._retry_at_s = 0.0
            again(recorder)
        assert not recorder.stopped
        recorder.close()
        assert open_recorded(disk / "ticks").rings["nt8"].files[-1].last_seq == 24_000


def test_files_that_refuse_to_go_are_counted_and_stop_neither_the_others_nor_the_recording(
    run_dir, folder, monkeypatch
):
    recorder, page, writers = record(run_dir, folder, names=("nt8",), ticks=16_000, keep_days=2)
    for path in folder.glob("*/*"):
        os.utime(path, ns=(0, 0))
    stuck = set(data_names(folder)["nt8"][:9])
    remove = retention.remove_recording

    def refuse(path):
        if path.name in stuck:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return remove(path)

    monkeypatch.setattr(retention, "remove_recording", refuse)
    for _ in range(3):
        again(recorder)
    assert set(data_names(folder)["nt8"][:-1]) == stuck
    assert page.values()["removal_errors"] >= 9
    monkeypatch.setattr(retention, "choose_expired", refuse_to_list)
    again(recorder)
    assert not recorder.stopped
    monkeypatch.undo()
    publish_numbered(writers[0], 100)
    again(recorder)
    again(recorder)
    assert len(data_names(folder)["nt8"]) == 1
    recorder.close()
    assert page.values()["ticks_recorded"] == 16_100


def refuse_to_list(*_):
    raise OSError(errno.EIO, "Input/output error")


def test_a_file_that_vanishes_while_the_old_ones_are_chosen_is_passed_over(run_dir, folder, monkeypatch):
    recorder, _, _ = record(run_dir, folder, names=("nt8",))
    recorder.close()
    files = sorted(folder.glob("nt8/*.nxticks"))
    listed = data_files(folder / "nt8")
    files[0].unlink()
    monkeypatch.setattr(recordings_on_disk, "data_files", lambda _: listed)
    assert choose_expired(folder, 1 << 62, 0) == files[1:-1]
