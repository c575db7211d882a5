"""The recorder in one process: every published tick is on disk or counted as lost."""

from __future__ import annotations

import threading
import time

import msgspec
import numpy as np
import pytest
from nexus_gateway.core.config import GatewayConfig
from nexus_gateway.core.config.schema import RecorderConfig
from nexus_gateway.core.errors import RunFolderError
from nexus_gateway.core.process import ProcessContext
from nexus_gateway.core.recorder.recorder import main
from nexus_gateway.shm.recording.file import Follows
from nexus_gateway.shm.recording.reader import open_recorded
from nexus_gateway.shm.run_folder import attach_cursors
from nexus_gateway.shm.symbols import Symbol, add_symbols, roll_symbol
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter

from tests.support.recordings import assert_numbered, make_recorder, poll_now, publish_numbered, recorded, wait_until


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "recordings"


def make_writer(run_dir, name="sim", capacity=1 << 12):
    return TickWriter(run_dir, name, Platform.SIM, capacity=capacity, board_rows=0)


def test_every_tick_of_every_ring_is_recorded_bit_for_bit(run_dir, folder):
    writers = [make_writer(run_dir, name) for name in ("nt8", "sierra")]
    recorder, page = make_recorder(run_dir, folder)
    with recorder:
        for _ in range(20):
            for writer in writers:
                publish_numbered(writer, 700)
            recorder.step()
    recording = open_recorded(folder)
    assert list(recording.rings) == ["nt8", "sierra"]
    for ring in recording.rings.values():
        ticks = recorded(recording, ring.ring)
        assert len(ticks) == len(ring) == 14_000
        assert_numbered(ticks)
    assert recording.gaps() == []
    counted = page.values()
    assert (counted["ticks_recorded"], counted["ticks_lost"]) == (28_000, 0)
    assert counted["bytes_written"] == 28_000 * 64
    assert (counted["rings"], counted["files_opened"], counted["torn_tails_cut"]) == (2, 2, 0)


def test_cursor_is_published_and_withdrawn(run_dir, folder):
    writer = make_writer(run_dir)
    recorder, _ = make_recorder(run_dir, folder)
    publish_numbered(writer, 10)
    recorder.step()
    (cursor,) = attach_cursors(run_dir, "sim")
    assert (cursor.text("reader"), cursor.field("next_seq")) == ("recorder", 11)
    recorder.close()
    assert attach_cursors(run_dir, "sim") == []


def test_files_rotate_by_size_and_none_is_larger(run_dir, folder):
    writer = make_writer(run_dir)
    recorder, page = make_recorder(run_dir, folder, rotate_bytes=128 + 64 * 1000)
    with recorder:
        publish_numbered(writer, 2500)
        recorder.step()
    ring = open_recorded(folder).rings["sim"]
    assert [len(file) for file in ring.files] == [1000, 1000, 500]
    assert [file.header.first_seq for file in ring.files] == [1, 1001, 2001]
    assert [file.header.file_number for file in ring.files] == [1, 2, 3]
    assert [file.header.follows for file in ring.files] == [Follows.NOTHING, Follows.SAME_RING, Follows.SAME_RING]
    assert all(file.path.stat().st_size <= 128 + 64 * 1000 for file in ring.files)
    assert page.values()["files_opened"] == 3
    assert ring.gaps() == []


def test_files_rotate_by_time_also_without_ticks(run_dir, folder):
    writer = make_writer(run_dir)
    recorder, _ = make_recorder(run_dir, folder, rotate_s=0.05)
    with recorder:
        publish_numbered(writer, 5)
        recorder.step()
        time.sleep(0.06)
        poll_now(recorder)
        publish_numbered(writer, 5)
        recorder.step()
    ring = open_recorded(folder).rings["sim"]
    assert [len(file) for file in ring.files] == [5, 5]


def test_ticks_wait_for_company_until_flush_ms(run_dir, folder):
    writer = make_writer(run_dir)
    recorder, page = make_recorder(run_dir, folder, flush_ms=40)
    with recorder:
        publish_numbered(writer, 3)
        recorder.step()
        assert page.values()["ticks_recorded"] == 0
        time.sleep(0.05)
        recorder.step()
        assert page.values()["ticks_recorded"] == 3


def test_ring_that_appears_later_is_recorded_from_its_beginning(run_dir, folder):
    recorder, _ = make_recorder(run_dir, folder)
    with recorder:
        recorder.step()
        writer = make_writer(run_dir, "late")
        publish_numbered(writer, 50)
        poll_now(recorder)
    assert_numbered(recorded(open_recorded(folder), "late"))


def test_stray_file_in_the_run_folder_harms_nobody(run_dir, folder):
    (run_dir / "Not A Ring.ticks").write_bytes(b"x")
    (run_dir / "short.ticks").write_bytes(b"x" * 300)
    writer = make_writer(run_dir)
    recorder, page = make_recorder(run_dir, folder)
    with recorder:
        publish_numbered(writer, 5)
        recorder.step()
    assert page.values()["rings"] == 1
    assert len(recorded(open_recorded(folder), "sim")) == 5


def test_replaced_ring_is_read_to_its_end_and_the_new_one_from_its_start(run_dir, folder):
    recorder, page = make_recorder(run_dir, folder)
    with recorder:
        old = make_writer(run_dir)
        publish_numbered(old, 30)
        recorder.step()
        publish_numbered(old, 12)
        old.close()
        new = make_writer(run_dir, capacity=1 << 13)
        publish_numbered(new, 20)
        poll_now(recorder)
        publish_numbered(new, 20)
        recorder.step()
    ring = open_recorded(folder).rings["sim"]
    assert [(len(file), file.header.follows) for file in ring.files] == [(42, Follows.NOTHING), (40, Follows.NEW_RING)]
    assert ring.files[0].header.ring_created_ns != ring.files[1].header.ring_created_ns
    assert ring.gaps() == []
    assert page.values()["unknown_losses"] == 0


def test_lapped_recorder_counts_exactly_and_shows_the_gap(run_dir, folder):
    writer = make_writer(run_dir, capacity=64)
    recorder, page = make_recorder(run_dir, folder)
    with recorder:
        publish_numbered(writer, 20)
        recorder.step()
        publish_numbered(writer, 500)
        recorder.step()
    ring = open_recorded(folder).rings["sim"]
    ticks = recorded(open_recorded(folder), "sim")
    assert_numbered(ticks)
    (gap,) = ring.gaps()
    assert (gap.after_seq, gap.before_seq, gap.lost) == (20, int(ticks["seq"][20]), int(ticks["seq"][20]) - 21)
    assert gap.ts_recv_ns == int(ticks["ts_recv_ns"][20])
    counted = page.values()
    assert counted["ticks_lost"] == gap.lost == ring.lost > 0
    assert counted["ticks_recorded"] + counted["ticks_lost"] == 520


def test_what_was_overwritten_before_the_first_start_is_a_gap_too(run_dir, folder):
    writer = make_writer(run_dir, capacity=64)
    publish_numbered(writer, 1000)
    recorder, page = make_recorder(run_dir, folder)
    with recorder:
        recorder.step()
    ring = open_recorded(folder).rings["sim"]
    (gap,) = ring.gaps()
    assert gap.after_seq == 0
    assert gap.lost == 1000 - len(ring) == ring.files[0].header.lost_before
    assert page.values()["ticks_lost"] == gap.lost


def test_restart_goes_on_after_the_last_record(run_dir, folder):
    writer = make_writer(run_dir)
    for _ in range(3):
        recorder, page = make_recorder(run_dir, folder)
        with recorder:
            publish_numbered(writer, 100)
            recorder.step()
        publish_numbered(writer, 50)  # while no recorder runs
        page.close()
    ring = open_recorded(folder).rings["sim"]
    assert [len(file) for file in ring.files] == [100, 150, 150]
    assert_numbered(recorded(open_recorded(folder), "sim"))
    assert ring.gaps() == []
    assert page.values()["ticks_recorded"] == 400  # counts all that is on disk, also from before the restart


def test_restart_over_a_ring_made_anew_says_that_its_end_is_unknown(run_dir, folder):
    for count in (10, 20):
        writer = make_writer(run_dir)
        recorder, page = make_recorder(run_dir, folder)
        publish_numbered(writer, count)
        recorder.step()
        recorder.close()
        page.close()
        writer.unlink()
        writer.close()
    ring = open_recorded(folder).rings["sim"]
    assert [len(file) for file in ring.files] == [10, 20]
    (gap,) = ring.gaps()
    assert (gap.after_seq, gap.lost) == (10, None)
    assert ring.lost == 0
    assert page.values()["unknown_losses"] == 1


def test_two_recorders_on_one_folder_are_refused(run_dir, folder, tmp_path):
    recorder, _ = make_recorder(run_dir, folder)
    other_run = tmp_path / "other"
    other_run.mkdir(mode=0o700)
    with recorder, pytest.raises(RunFolderError, match="another recorder"):
        make_recorder(other_run, folder)


def test_recording_of_another_version_stops_only_its_ring(run_dir, folder):
    (folder / "sim").mkdir(parents=True)
    strange = folder / "sim" / "000007-20200101T000000Z.nxticks"
    strange.write_bytes(b"NXRECRD\0" + bytes([99]) + bytes(200))
    writers = [make_writer(run_dir, name) for name in ("nt8", "sim")]
    recorder, page = make_recorder(run_dir, folder)
    with recorder:
        for writer in writers:
            publish_numbered(writer, 5)
        recorder.step()
    assert page.values()["rings"] == 1
    assert strange.stat().st_size == 209


def test_symbols_are_stored_before_the_records_that_need_them(run_dir, folder):
    add_symbols(run_dir, [Symbol(0, "NQ", "NQH5", 0.25), Symbol(0, "EURUSD")])
    writer = make_writer(run_dir)
    recorder, _ = make_recorder(run_dir, folder)
    publish_numbered(writer, 10)
    recorder.step()
    add_symbols(run_dir, [Symbol(0, "ES", "ESH5", 0.25)])
    rolled_ns = 15 * 1_000_000
    roll_symbol(run_dir, "NQ", "NQM5", rolled_ns)
    publish_numbered(writer, 10)
    recorder.step()
    # Nothing is ended or closed here: it must be complete at any moment.
    symbols = open_recorded(folder).rings["sim"].files[0].symbols
    assert symbols.names() == {1: "NQ", 2: "EURUSD", 3: "ES"}
    assert symbols.symbol(1, rolled_ns - 1).contract == "NQH5"
    assert symbols.symbol(1, rolled_ns).contract == "NQM5"
    assert symbols.symbol(1, rolled_ns).tick_size == 0.25
    assert np.isnan(symbols.symbol(2, 0).tick_size)
    assert symbols.id_of("ES") == 3
    assert symbols.id_of("YM") is None
    with pytest.raises(KeyError, match=r"was 9.*\[1, 2, 3\]"):
        symbols.symbol(9, 0)
    recorder.close()


def test_symbol_directory_made_anew_begins_a_new_file(run_dir, folder):
    add_symbols(run_dir, [Symbol(0, "NQ")])
    writer = make_writer(run_dir)
    recorder, _ = make_recorder(run_dir, folder)
    with recorder:
        publish_numbered(writer, 10)
        recorder.step()
        (run_dir / "directory.symbols").unlink()
        add_symbols(run_dir, [Symbol(0, "ES")])
        poll_now(recorder)
        publish_numbered(writer, 10)
        recorder.step()
    files = open_recorded(folder).rings["sim"].files
    assert [(len(file), file.symbols.names()) for file in files] == [(10, {1: "NQ"}), (10, {1: "ES"})]


def test_recording_published_again_is_the_same_recording(run_dir, folder, tmp_path):
    writer = make_writer(run_dir, "sim")
    recorder, _ = make_recorder(run_dir, folder, rotate_bytes=128 + 64 * 300)
    with recorder:
        publish_numbered(writer, 1000)
        recorder.step()
    first = recorded(open_recorded(folder), "sim")
    again = make_writer(run_dir, "again")
    page_folder = tmp_path / "again"
    for _, ticks in open_recorded(folder).rings["sim"].arrays():
        again.publish(np.ascontiguousarray(ticks), stamp=False)
    other_run = tmp_path / "run2"
    other_run.mkdir(mode=0o700)
    (run_dir / "again.ticks").rename(other_run / "again.ticks")
    recorder, _ = make_recorder(other_run, page_folder)
    with recorder:
        recorder.step()
    assert recorded(open_recorded(page_folder), "again").tobytes() == first.tobytes()


def test_process_records_until_it_is_asked_to_stop(run_dir, folder):
    recorder_config = RecorderConfig(enabled=True, folder=str(folder), flush_ms=1)
    context = ProcessContext("recorder", run_dir, msgspec.structs.replace(GatewayConfig(), recorder=recorder_config))
    writer = make_writer(run_dir)
    publish_numbered(writer, 100)
    process = threading.Thread(target=main, args=(context,))
    process.start()
    wait_until(lambda: (folder / "sim").exists() and list((folder / "sim").glob("*.nxticks")))
    publish_numbered(writer, 100)
    context.request_stop()
    process.join()
    context.close()
    assert_numbered(recorded(open_recorded(folder), "sim"))
    counted = context.counters.values()
    assert (counted["ticks_recorded"], counted["ticks_lost"], counted["disk_full_alarm"]) == (200, 0, 0)
