"""Segments: their named states, the one writer, readers that can do no harm, modes of files and folders."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from nexus_gateway.shm import host, layout, run_folder
from nexus_gateway.shm.segment import Segment, SegmentError, SegmentInUseError, SegmentState, find_damage, inspect

from tests.support import shm_children
from tests.support.shm_processes import kill, linux_only, running, wait_for, wait_for_file

_BODY_BYTES = 4096


def open_writer(path, *, body_bytes=_BODY_BYTES, capacity=64, platform=3):
    def fill(segment):
        segment.set_field("capacity", capacity)
        segment.set_field("platform", platform)
        segment.set_field("record_bytes", layout.TICK_BYTES)

    return Segment.open_writer(
        path,
        layout.RING,
        body_bytes,
        fill,
        lambda segment: segment.field("platform") == platform,
    )


@pytest.fixture
def path(run_dir):
    return run_dir / "a.ticks"


def write_header(path, *, version=1, magic=layout.RING.magic, segment_bytes=None, size=layout.RING.size_bytes):
    content = np.zeros(1, layout.RING.dtype)
    content["magic"], content["version"] = magic, version
    content["segment_bytes"] = size if segment_bytes is None else segment_bytes
    path.write_bytes(content.tobytes()[:size].ljust(size, b"\0"))


# -- states -------------------------------------------------------------------------------------------------------


def test_state_not_there(path):
    assert inspect(path, layout.RING) is SegmentState.NOT_THERE
    with pytest.raises(SegmentError, match="no such segment; is its writer running"):
        Segment.attach(path, layout.RING)


@pytest.mark.parametrize("size", [0, 1, layout.HEADER.size_bytes - 1])
def test_state_not_ready_while_the_file_is_short(path, size):
    path.write_bytes(b"\0" * size)
    assert inspect(path, layout.RING) is SegmentState.NOT_READY


def test_state_not_ready_while_the_version_is_zero(path):
    write_header(path, version=0)
    assert inspect(path, layout.RING) is SegmentState.NOT_READY


@pytest.mark.parametrize(
    "header",
    [
        {"version": 2},
        {"magic": b"NXBOARD\0"},
        {"segment_bytes": 4096},
        {"version": 7, "size": layout.HEADER.size_bytes},  # another release's layout may be shorter than ours
    ],
    ids=["version", "magic", "size", "shorter layout"],
)
def test_state_other_version(path, header):
    write_header(path, **header)
    assert inspect(path, layout.RING) is SegmentState.OTHER_VERSION
    with pytest.raises(SegmentError, match="run the same release on both sides"):
        Segment.attach(path, layout.RING)


def test_states_live_and_closed(path):
    writer = open_writer(path)
    reader = Segment.attach(path, layout.RING)
    assert reader.state() is SegmentState.LIVE
    assert reader.field("writer_pid") == os.getpid()
    writer.close_writer()
    writer.close_writer()  # twice does no harm
    assert reader.state() is SegmentState.CLOSED
    assert inspect(path, layout.RING) is SegmentState.CLOSED


@linux_only
def test_state_dead_writer_after_kill(path):
    with running(shm_children.hold_segment, path) as child:
        wait_for(lambda: inspect(path, layout.RING) is SegmentState.LIVE, "a live writer")
        reader = Segment.attach(path, layout.RING)
        kill(child)
        assert reader.state() is SegmentState.DEAD_WRITER
        reader.field("capacity")  # its data can still be read


def test_a_reused_pid_is_not_the_writer(path):
    writer = open_writer(path)
    writer.set_field("writer_started_ms", writer.field("writer_started_ms") - 3_600_000)
    assert Segment.attach(path, layout.RING).state() is SegmentState.DEAD_WRITER
    writer.close_writer()


@linux_only
def test_liveness_does_not_depend_on_the_wall_clock(monkeypatch):
    # A step of the system clock (NTP after boot, a resumed virtual machine) moves the start times that are derived
    # from it; a live writer must not be declared dead by it.
    import psutil

    started = host.started_ms(os.getpid())
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: time.time() - 86_400)
    assert host.is_alive(os.getpid(), started)


def test_no_such_process_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert host.started_ms(child.pid) is None
    assert not host.is_alive(child.pid, 0)


@linux_only
def test_a_zombie_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    wait_for(lambda: host.started_ms(child.pid) is None, "the unreaped child to count as ended")
    child.wait()


# -- one writer ---------------------------------------------------------------------------------------------------


@linux_only
def test_a_second_writer_is_refused_in_another_process(path, monkeypatch):
    monkeypatch.setattr("nexus_gateway.shm.segment._LOCK_PATIENCE_S", 0.02)
    with running(shm_children.hold_segment, path) as child:
        wait_for(lambda: inspect(path, layout.RING) is SegmentState.LIVE, "a live writer")
        with pytest.raises(SegmentInUseError, match=f"process {child.pid}; stop it, or use another run folder"):
            open_writer(path)
        kill(child)
        writer = open_writer(path)
        assert writer.field("writer_pid") == os.getpid()
        writer.close_writer()


def test_a_second_writer_is_refused_in_the_same_process(path, monkeypatch):
    monkeypatch.setattr("nexus_gateway.shm.segment._LOCK_PATIENCE_S", 0.02)
    writer = open_writer(path)
    with pytest.raises(SegmentInUseError):
        open_writer(path)
    writer.close_writer()


def test_a_second_writer_does_not_name_a_holder_that_has_written_nothing(path, monkeypatch):
    monkeypatch.setattr("nexus_gateway.shm.segment._LOCK_PATIENCE_S", 0.02)
    descriptor = host.open_private(path, create=True)
    assert host.try_lock(descriptor)
    with pytest.raises(SegmentInUseError, match="another process"):
        open_writer(path)
    os.close(descriptor)


def test_a_successor_adopts_the_same_file_and_counts_itself(path):
    first = open_writer(path)
    first.bytes[-1] = 7
    first.close_writer()
    reader = Segment.attach(path, layout.RING)
    second = open_writer(path)
    assert second.bytes[-1] == 7
    assert second.field("incarnation") == 2
    assert reader.state() is SegmentState.LIVE
    assert not reader.is_replaced()
    second.close_writer()


@pytest.mark.parametrize("change", [{"platform": 4}, {"body_bytes": 8192, "capacity": 128}], ids=["fields", "size"])
def test_an_unfit_segment_is_replaced_and_readers_can_see_it(path, change):
    open_writer(path).close_writer()
    reader = Segment.attach(path, layout.RING)
    writer = open_writer(path, **change)
    assert reader.is_replaced()
    assert reader.field("capacity") == 64, "the old mapping must not change under its reader"
    assert Segment.attach(path, layout.RING).field("incarnation") == 1
    writer.close_writer()


def test_a_half_created_segment_is_made_anew(path):
    write_header(path, version=0, size=layout.RING.size_bytes + _BODY_BYTES)
    writer = open_writer(path)
    assert inspect(path, layout.RING) is SegmentState.LIVE
    writer.close_writer()


def test_a_writer_that_fails_to_fill_lets_go_of_the_file(path):
    def fail(segment):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        Segment.open_writer(path, layout.RING, _BODY_BYTES, fail, lambda segment: True)
    assert inspect(path, layout.RING) is SegmentState.NOT_READY
    open_writer(path).close_writer()


def test_another_release_is_replaced(path):
    write_header(path, version=99, size=layout.RING.size_bytes + _BODY_BYTES)
    writer = open_writer(path)
    assert inspect(path, layout.RING) is SegmentState.LIVE
    writer.close_writer()


# -- readers do no harm -------------------------------------------------------------------------------------------


def test_a_reader_cannot_write(path):
    writer = open_writer(path)
    reader = Segment.attach(path, layout.RING)
    assert not reader.bytes.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        reader.bytes[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        reader.set_field("tail", 1)
    with pytest.raises(ValueError, match="WRITEABLE"):
        reader.bytes.flags.writeable = True
    writer.close_writer()


@linux_only
def test_a_readers_pages_are_read_only_for_the_processor_too(path):
    writer = open_writer(path)
    before = writer.bytes.copy()
    with running(shm_children.poke_mapping, path) as child:
        child.join()
        assert child.exitcode == -11, "a store through the raw address must be a fault"
    assert (writer.bytes == before).all()
    writer.close_writer()


def test_unlink_belongs_to_the_writer(path):
    writer = open_writer(path)
    reader = Segment.attach(path, layout.RING)
    with pytest.raises(PermissionError, match="only the writer"):
        reader.unlink()
    assert path.exists()
    if not host.IS_WINDOWS:  # there a mapped file cannot be removed
        writer.unlink()
        assert reader.is_replaced()
        assert reader.field("capacity") == 64, "what is mapped stays readable"
    writer.close_writer()
    with pytest.raises(PermissionError):
        writer.unlink()


@linux_only
def test_a_readers_end_does_not_unlink(path):
    writer = open_writer(path)
    with running(shm_children.attach_and_exit, path) as child:
        child.join()
        assert child.exitcode == 0
    assert path.exists()
    assert inspect(path, layout.RING) is SegmentState.LIVE
    writer.close_writer()


def test_replacement_between_open_and_a_look_at_the_path_is_seen(path, monkeypatch):
    # The identity must come from the opened file: asked from the path later, it is the successor's, and the reader
    # would stay with the dead file for ever.
    open_writer(path).close_writer()
    genuine_init = Segment.__init__

    def replace_first(self, *args, **kwargs):
        path.unlink()
        write_header(path)
        genuine_init(self, *args, **kwargs)

    monkeypatch.setattr(Segment, "__init__", replace_first)
    reader = Segment.attach(path, layout.RING)
    assert reader.is_replaced()


def test_removal_between_open_and_a_look_at_the_path_is_no_error(path, monkeypatch):
    open_writer(path).close_writer()
    genuine_init = Segment.__init__

    def remove_first(self, *args, **kwargs):
        path.unlink()
        genuine_init(self, *args, **kwargs)

    monkeypatch.setattr(Segment, "__init__", remove_first)
    reader = Segment.attach(path, layout.RING)
    assert reader.is_replaced()


def test_adopting_is_no_sign_of_life(path):
    """What a dead writer left must not look live before its successor has marked it."""
    writer = open_writer(path)
    before = writer.field("heartbeat_ns")
    writer.close_writer()
    successor = open_writer(path)
    assert successor.field("heartbeat_ns") == before
    successor.close_writer()


@linux_only
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "was removed"),
        (lambda path: os.truncate(path, 0), "was cut to 0 of"),
        (lambda path: os.truncate(path, path.stat().st_size - 1), f"of {layout.RING.size_bytes + _BODY_BYTES} bytes"),
        (lambda path: path.write_bytes(b"x" * path.stat().st_size), "was overwritten"),
        (lambda path: path.replace(path.with_suffix(".old")), "was removed"),
        (lambda path: (path.unlink(), path.write_bytes(b"x")), "was replaced by another file"),
    ],
)
def test_a_writer_is_told_what_was_done_to_its_file(path, damage, said):
    writer = open_writer(path)
    other = open_writer(path.with_name("b.ticks"))
    assert (writer.damage(), find_damage()) == ("", "")
    damage(path)
    assert said in writer.damage()
    assert find_damage() == f"{path} {writer.damage()}"
    assert other.damage() == ""
    writer.close_writer()
    assert find_damage() == "", "what it has closed is no business of a writer any more"
    again = open_writer(path)
    assert again.damage() == "", "the next writer makes a new file"
    again.close_writer()
    other.unlink()
    assert find_damage() == ""
    other.close_writer()


@linux_only
def test_a_reader_of_a_file_that_was_cut_attaches_to_the_next_one(path):
    writer = open_writer(path)
    reader = Segment.attach(path, layout.RING)
    os.truncate(path, 0)
    assert reader.field("capacity") == 0
    assert reader.is_replaced()
    assert reader.state() is SegmentState.DEAD_WRITER
    writer.close_writer()
    again = open_writer(path)
    assert Segment.attach(path, layout.RING).field("capacity") == 64
    again.close_writer()


def test_a_folder_in_place_of_a_segment_is_a_segment_that_is_not_ready(path):
    path.mkdir()
    with pytest.raises(SegmentError, match="cannot be read"):
        Segment.attach(path, layout.RING)


def test_heartbeat_age_grows_and_is_reset(path):
    writer = open_writer(path)
    reader = Segment.attach(path, layout.RING)
    time.sleep(0.01)
    assert reader.heartbeat_age_ns() >= 10_000_000
    before = reader.field("heartbeat_ns")
    writer.beat()
    assert reader.field("heartbeat_ns") > before
    writer.close_writer()


# -- files and folders --------------------------------------------------------------------------------------------


@linux_only
def test_files_are_private_and_their_memory_is_reserved(path):
    writer = open_writer(path)
    status = path.stat()
    assert status.st_mode & 0o777 == 0o600
    # A sparse file on a full memory disk would kill the writer with SIGBUS at its first touch.
    assert status.st_blocks * 512 >= status.st_size
    writer.close_writer()


@linux_only
def test_a_link_is_not_followed(run_dir, path):
    (run_dir / "elsewhere").write_bytes(b"")
    path.symlink_to(run_dir / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        open_writer(path)


@linux_only
def test_private_folder(tmp_path):
    folder = tmp_path / "run"
    host.make_private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    host.make_private_folder(folder)
    folder.chmod(0o750)
    with pytest.raises(PermissionError, match=r"mode 0o750, allowed is 0o700; run: chmod 700"):
        host.make_private_folder(folder)
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(PermissionError, match="is a link"):
        host.make_private_folder(link)


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "a.b", "-a", "a" * 33, "con", "nul", "com1"])
def test_names_that_cannot_be_files_everywhere_are_refused(run_dir, name):
    with pytest.raises(ValueError, match="name was"):
        run_folder.ring_path(run_dir, name)


@linux_only
def test_stale_segments_go_and_live_ones_stay(run_dir):
    live, dead = run_dir / "live.ticks", run_dir / "dead.ticks"
    open_writer(dead).close_writer()
    (run_dir / "notes.txt").write_text("not ours")
    with running(shm_children.hold_segment, live):
        wait_for(lambda: inspect(live, layout.RING) is SegmentState.LIVE, "a live writer")
        assert run_folder.remove_stale_segments(run_dir) == [dead]
    assert sorted(path.name for path in run_dir.iterdir()) == ["live.ticks", "notes.txt"]
    assert run_folder.ring_names(run_dir) == ["live"]


@linux_only
def test_the_symbol_directory_stays_while_anybody_still_writes_by_it(run_dir):
    # An adapter that outlived its launcher goes on with the ids it knows: given out anew they would name other symbols.
    live, directory = run_dir / "live.ticks", run_folder.symbols_path(run_dir)
    directory.write_bytes(b"")
    with running(shm_children.hold_segment, live):
        wait_for(lambda: inspect(live, layout.RING) is SegmentState.LIVE, "a live writer")
        assert run_folder.remove_stale_segments(run_dir) == []
    assert run_folder.remove_stale_segments(run_dir) == [directory, live]


@linux_only
def test_a_stale_segment_is_removed_under_its_lock(run_dir, monkeypatch):
    # Without it a writer that starts in between has its new file removed under its feet.
    path = run_dir / "a.ticks"
    open_writer(path).close_writer()
    monkeypatch.setattr("nexus_gateway.shm.segment._LOCK_PATIENCE_S", 0.02)
    genuine_unlink = type(path).unlink

    def start_a_writer_first(self, missing_ok=False):
        with pytest.raises(SegmentInUseError):
            open_writer(self)
        genuine_unlink(self, missing_ok)

    monkeypatch.setattr(type(path), "unlink", start_a_writer_first)
    assert run_folder.remove_stale_segments(run_dir) == [path]


def test_process_names(run_dir):
    for name in ("gateway.counters", "Copy of gateway.counters", "Old.ticks", ".ticks"):
        (run_dir / name).write_bytes(b"")
    assert run_folder.process_names(run_dir) == ["gateway"]
    assert run_folder.ring_names(run_dir) == []


@linux_only
def test_memory_that_is_not_there_is_named_with_its_file_and_size(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    size = layout.RING.size_bytes + _BODY_BYTES
    with pytest.raises(
        OSError, match=rf"No space left on device: .*a\.ticks needs {size} bytes; free some there"
    ) as told:
        open_writer(path)
    assert told.value.errno == errno.ENOSPC
    monkeypatch.undo()
    open_writer(path).close_writer()  # its lock was given back


@linux_only
def test_locks_end_with_their_holder(run_dir):
    path = run_dir / "a.ticks"
    with running(shm_children.hold_segment, path) as child:
        wait_for_file(path)
        wait_for(lambda: inspect(path, layout.RING) is SegmentState.LIVE, "a live writer")
        descriptor = host.open_private(path)
        assert not host.lock_within(descriptor, 0.01)
        kill(child)
        assert host.lock_within(descriptor, 10)
        os.close(descriptor)


@linux_only
@pytest.mark.parametrize("open_it", [lambda path: Segment.attach(path, layout.RING), open_writer])
def test_a_file_that_is_cut_while_it_is_opened_is_not_ready(path, monkeypatch, open_it):
    open_writer(path).close_writer()
    map_file = mmap.mmap

    def cut_and_map(descriptor, size, **options):
        os.truncate(path, 0)
        return map_file(descriptor, size, **options)

    monkeypatch.setattr(mmap, "mmap", cut_and_map)
    with pytest.raises(SegmentError, match="was cut while it was opened") as caught:
        open_it(path)
    assert caught.value.state is SegmentState.NOT_READY
    monkeypatch.undo()
    open_writer(path).close_writer()  # nothing holds its lock
