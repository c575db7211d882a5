"""Sizes, counts and ids in a segment's header are checked before a kernel or a reader uses them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nexus_gateway.core.cli.monitor import Monitor
from nexus_gateway.core.kill_file import kill_file_path, read_kill_file
from nexus_gateway.core.messages import KillLevel
from nexus_gateway.core.process import LAUNCH_FILE, LaunchFile
from nexus_gateway.shm import host, layout, run_folder
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.quotes import QuoteBoard
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.segment import Segment, SegmentError, SegmentState, find_damage, inspect
from nexus_gateway.shm.symbols import Symbol, SymbolDirectory, add_symbols
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter, empty_ticks

from tests.support.shm_processes import linux_only


@pytest.fixture
def writer(run_dir):
    made = TickWriter(run_dir, "nt8", Platform.NT8, capacity=64, board_rows=64)
    ticks = empty_ticks(10)
    ticks["symbol"] = 1
    made.publish(ticks)
    yield made
    made.close()


@pytest.fixture
def page(run_dir):
    made = CountersPage.create(run_dir, "nt8", ("ticks_published",), ("turn_ns",))
    made.beat()
    yield made
    made.close()


def overwrite(path: Path, kind: layout.Layout, field: str, value: int) -> None:
    """In place, as one that writes into the file does: every mapping of it sees the value."""
    with path.open("r+b") as file:
        file.seek(kind.offset(field))
        file.write(value.to_bytes(8, "little"))


RINGS = [
    ("capacity", 1 << 40, "capacity 1099511627776 need"),
    ("capacity", 0, "must be a power of two from 8"),
    ("capacity", 1000, "must be a power of two from 8"),
    ("capacity", 32, "capacity 32 need"),
    ("record_bytes", 8, "record_bytes was 8, must be 64"),
    ("tail", (1 << 63) - 1, "tail was"),
    ("tail", 1 << 63, "tail was"),
    ("tail", (1 << 64) - 1, "tail was"),
    ("platform", 99, "platform was 99, at most 8"),
]
BOARDS = [
    ("capacity", 1 << 40, "capacity 1099511627776 need"),
    ("capacity", 65, "capacity 65 need"),
    ("record_bytes", 8, "record_bytes was 8, must be 64"),
    ("platform", 99, "platform was 99, at most 8"),
]


@pytest.mark.parametrize(("field", "value", "text"), RINGS)
def test_a_ring_whose_header_cannot_be_true_is_damaged(run_dir, writer, field, value, text):
    path = run_folder.ring_path(run_dir, "nt8")
    overwrite(path, layout.RING, field, value)
    with pytest.raises(SegmentError, match=text) as caught:
        TickReader(run_dir, "nt8")
    assert caught.value.state is SegmentState.DAMAGED
    assert inspect(path, layout.RING) is SegmentState.DAMAGED
    assert "was overwritten" in find_damage(), "its writer sees it, too, and is restarted"
    writer.close()
    again = TickWriter(run_dir, "nt8", Platform.NT8, capacity=64, board_rows=64)
    assert inspect(path, layout.RING) is SegmentState.LIVE
    again.close()


@pytest.mark.parametrize(("field", "value", "text"), BOARDS)
def test_a_board_whose_header_cannot_be_true_is_damaged(run_dir, writer, field, value, text):
    path = run_folder.board_path(run_dir, "nt8")
    overwrite(path, layout.BOARD, field, value)
    with pytest.raises(SegmentError, match=text) as caught:
        QuoteBoard(run_dir, "nt8")
    assert caught.value.state is SegmentState.DAMAGED
    assert "nt8.board was overwritten" in find_damage()


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, value, _ in RINGS])
def test_a_reader_that_is_attached_already_goes_by_the_sizes_it_has_checked(run_dir, writer, field, value):
    # In a process of its own: what is guarded against is a segmentation fault.
    script = (
        "import sys; from pathlib import Path\n"
        "from nexus_gateway.shm import layout\n"
        "from nexus_gateway.shm.reader import TickReader\n"
        "from nexus_gateway.shm.quotes import QuoteBoard\n"
        "from nexus_gateway.shm.writer import empty_ticks\n"
        "folder, field, value = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])\n"
        "reader, board = TickReader(folder, 'nt8', start='oldest'), QuoteBoard(folder, 'nt8')\n"
        "for kind, path in ((layout.RING, 'nt8.ticks'), (layout.BOARD, 'nt8.board')):\n"
        "    if field in kind.dtype.names:\n"
        "        with (folder / path).open('r+b') as file:\n"
        "            file.seek(kind.offset(field)); file.write(value.to_bytes(8, 'little'))\n"
        "out = empty_ticks(1000)\n"
        "for _ in range(10): reader.drain(out)\n"
        "assert board.latest(1) is not None\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(run_dir), field, str(value)], capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()


@pytest.mark.parametrize(("field", "value"), [("counters", 1 << 40), ("histograms", 1 << 60), ("counters", 2)])
def test_a_page_with_counts_that_its_file_cannot_hold_is_damaged(run_dir, page, field, value):
    overwrite(run_folder.counters_path(run_dir, "nt8"), layout.COUNTERS, field, value)
    with pytest.raises(SegmentError, match=f"{field} {value}") as caught:
        CountersPage.attach(run_dir, "nt8")
    assert caught.value.state is SegmentState.DAMAGED
    page.close()
    made = CountersPage.create(run_dir, "nt8", ("ticks_published",), ("turn_ns",))
    assert CountersPage.attach(run_dir, "nt8").values() == {"ticks_published": 0}
    made.close()


@pytest.mark.parametrize(("field", "value"), [("capacity", 1 << 40), ("count", 5000), ("count", 1 << 63)])
def test_a_directory_with_more_than_it_can_hold_is_damaged_and_made_again(run_dir, field, value):
    add_symbols(run_dir, [Symbol(0, "NQ")])
    path = run_folder.symbols_path(run_dir)
    overwrite(path, layout.SYMBOLS, field, value)
    with pytest.raises(SegmentError) as caught:
        SymbolDirectory.attach(run_dir)
    assert caught.value.state is SegmentState.DAMAGED
    add_symbols(run_dir, [Symbol(0, "ES")])
    assert [each.name for each in SymbolDirectory.attach(run_dir).entries()] == ["ES"]


def test_names_that_are_not_utf8_end_no_reader(run_dir, page):
    add_symbols(run_dir, [Symbol(0, "NQ")])
    path = run_folder.symbols_path(run_dir)
    with path.open("r+b") as file:
        file.seek(layout.SYMBOLS.size_bytes + layout.SYMBOL.size_bytes + layout.SYMBOL.offset("name"))
        file.write(b"\xff\xfe")
    with run_folder.counters_path(run_dir, "nt8").open("r+b") as file:
        file.seek(layout.COUNTERS.size_bytes + layout.COUNTER.offset("name"))
        file.write(b"\xff\xfe")
    assert SymbolDirectory.attach(run_dir).id_of("NQ") is None
    assert len(Monitor(run_dir).snapshot().processes) == 1


def test_status_shows_a_damaged_file_as_such_and_all_others(run_dir, writer, page):
    other = CountersPage.create(run_dir, "gateway", ("routes_up",))
    other.beat()
    ring = TickWriter(run_dir, "sierra", Platform.SIERRA, capacity=64, board_rows=0)
    monitor = Monitor(run_dir)
    assert [each.state for each in monitor.snapshot().rings] == ["live", "live"]
    overwrite(run_folder.ring_path(run_dir, "nt8"), layout.RING, "platform", 99)
    overwrite(run_folder.counters_path(run_dir, "nt8"), layout.COUNTERS, "counters", 1 << 40)
    for each in (monitor, Monitor(run_dir)):  # one has the ring mapped already
        snapshot = each.snapshot()
        assert {ring.name: ring.state for ring in snapshot.rings} == {"nt8": "damaged", "sierra": "live"}
        assert {row.name: row.state for row in snapshot.processes} == {"nt8": "damaged", "gateway": "live"}
        assert not snapshot.is_healthy
    other.close()
    ring.close()


def put_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@linux_only
def test_a_pipe_in_a_files_place_is_refused_at_once(run_dir, page, writer):
    # Each of these waited for ever: the test would not end.
    for path in (run_folder.counters_path(run_dir, "nt8"), run_folder.ring_path(run_dir, "nt8")):
        put_pipe(path)
        with pytest.raises(SegmentError, match="not a regular file; remove it") as caught:
            Segment.attach(path, layout.COUNTERS)
        assert caught.value.state is SegmentState.DAMAGED
    snapshot = Monitor(run_dir).snapshot()
    assert [(row.name, row.state) for row in snapshot.processes] == [("nt8", "damaged")]
    put_pipe(kill_file_path(run_dir))
    assert [kill.level for kill in read_kill_file(kill_file_path(run_dir))] == [KillLevel.NO_NEW]
    put_pipe(run_dir / LAUNCH_FILE)
    with pytest.raises(Exception, match="cannot be read"):
        LaunchFile.read(run_dir)
    assert run_folder.counters_path(run_dir, "nt8") in run_folder.remove_stale_segments(run_dir)


@linux_only
def test_the_writer_replaces_a_pipe_by_its_file(run_dir):
    put_pipe(run_folder.counters_path(run_dir, "nt8"))
    made = CountersPage.create(run_dir, "nt8", ("ticks_published",))
    assert CountersPage.attach(run_dir, "nt8").values() == {"ticks_published": 0}
    made.close()


@linux_only
@pytest.mark.parametrize("path", ["/dev/zero", "/dev"])
def test_only_regular_files_are_read(path):
    with pytest.raises(OSError, match="not a regular file"):
        host.read_regular(Path(path))


def test_a_file_longer_than_any_of_ours_is_refused(tmp_path):
    path = tmp_path / "kill.json"
    path.write_bytes(b"x" * 101)
    assert len(host.read_regular(path, 101)) == 101
    with pytest.raises(OSError, match="longer than 100 bytes, which no file of ours is; remove it"):
        host.read_regular(path, 100)


def test_headers_of_every_kind_are_checked_with_any_word_in_any_field(run_dir, writer, page):
    # Each field of each kind, with values at the bounds of its type: attached or refused, never anything else.
    add_symbols(run_dir, [Symbol(0, "NQ")])
    kinds = {".ticks": layout.RING, ".board": layout.BOARD, ".counters": layout.COUNTERS, ".symbols": layout.SYMBOLS}
    for path in sorted(run_dir.iterdir()):
        kind, content = kinds[path.suffix], path.read_bytes()
        for field in kind.fields:
            if np.dtype(field.code).kind not in "ui":
                continue
            for value in (0, 1, 63, 1000, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
                overwrite(path, kind, field.name, value)
                inspect(path, kind)
                Monitor(run_dir).snapshot()
                path.write_bytes(content)
