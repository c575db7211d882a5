"""Recording files: what was whole is read, mapped and sought exactly; torn ends, missing indexes and gaps are seen."""

from __future__ import annotations

import os

import numpy as np
import pytest
from nexus_gateway.shm import layout
from nexus_gateway.shm.recording.file import BLOCK, Follows, RecordingHeader, data_files, read_header
from nexus_gateway.shm.recording.reader import Position, RecordingError, open_recorded
from nexus_gateway.shm.recording.symbols import SymbolTable, encode_symbol
from nexus_gateway.shm.recording.writer import RecordingFileWriter, find_last, mend, next_file_number
from nexus_gateway.shm.symbols import Symbol
from nexus_gateway.shm.tick import Platform

from tests.support.recordings import numbered_ticks

HEADER = layout.RECORDING.size_bytes


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "sim"
    path.mkdir()
    return path


def write_file(folder, ticks, *, number=1, ring_created_ns=7, lost_before=0, follows=Follows.NOTHING, chunk=1000):
    header = RecordingHeader(
        number,
        1_700_000_000_000_000_000,
        "sim",
        Platform.NT8,
        ring_created_ns,
        int(ticks["seq"][0]),
        lost_before,
        follows,
    )
    writer = RecordingFileWriter(folder, header, [Symbol(1, "NQ", "NQH5", 0.25)])
    for start in range(0, len(ticks), chunk):
        writer.append(ticks[start : start + chunk])
    writer.close()
    return writer.path


def ticks_with_gaps():
    """Growing numbers with jumps, some at the edges of blocks, and a clock that steps back twice."""
    count = 4 * BLOCK + 500
    chance = np.random.default_rng(5)
    steps = np.ones(count, np.int64)
    steps[chance.choice(count, 9, replace=False)] += chance.integers(1, 1000, 9)
    steps[[BLOCK, 2 * BLOCK - 1, 2 * BLOCK]] = 7
    steps[0] = 1
    seq = np.cumsum(steps)
    ticks = numbered_ticks(1, int(seq[-1]))[seq - 1]
    ticks["ts_recv_ns"][2 * BLOCK - 50 : 3 * BLOCK + 9] -= 900_000_000
    ticks["ts_recv_ns"][3 * BLOCK + 100 :] -= 2_000_000_000
    return ticks


def check_seeking(file, ticks):
    times = ticks["ts_recv_ns"]
    wanted = [*times[::97].tolist(), int(times.min()) - 1, int(times.max()), int(times.max()) + 1]
    for ts_recv_ns in wanted:
        reached = np.flatnonzero(times >= ts_recv_ns)
        assert file.find_time(ts_recv_ns) == (reached[0] if len(reached) else len(ticks))
    for seq in [0, 1, *(ticks["seq"][::131] + np.uint64(1)).tolist(), int(ticks["seq"][-1]), int(ticks["seq"][-1]) + 1]:
        assert file.find_seq(seq) == np.searchsorted(ticks["seq"].copy(), seq)
    jumps = np.flatnonzero(np.diff(ticks["seq"]) > 1)
    expected = [(int(ticks["seq"][i]), int(ticks["seq"][i + 1]), int(ticks["ts_recv_ns"][i + 1])) for i in jumps]
    assert [(gap.after_seq, gap.before_seq, gap.ts_recv_ns) for gap in file.gaps()] == expected
    assert all(gap.lost == gap.before_seq - gap.after_seq - 1 for gap in file.gaps())


def test_file_is_header_and_the_very_records(folder):
    ticks = numbered_ticks(101, 5000)
    path = write_file(folder, ticks, lost_before=100)
    content = path.read_bytes()
    assert content[HEADER:] == ticks.tobytes()
    assert path.name == "000001-20231114T221320Z.nxticks"
    header = read_header(path)
    assert header == RecordingHeader(1, 1_700_000_000_000_000_000, "sim", Platform.NT8, 7, 101, 100, Follows.NOTHING)
    assert HEADER % 64 == 0


def test_ticks_are_mapped_read_only_and_shared(folder):
    path = write_file(folder, numbered_ticks(1, 100))
    file = open_recorded(path).rings["sim"].files[0]
    ticks = file.ticks
    assert ticks is file.ticks
    assert not ticks.flags.writeable
    assert not ticks.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        ticks["bid"][0] = 1.0
    with path.open("r+b") as changed:  # a mapping shows it, a copy would not
        changed.seek(HEADER + 24)
        changed.write(np.float64(123.5).tobytes())
    assert ticks["bid"][0] == 123.5


def test_a_folder_of_files_is_one_stream(folder):
    ticks = numbered_ticks(1, 300)
    for number, start in enumerate(range(0, 300, 100), start=1):
        follows = Follows.SAME_RING if start else Follows.NOTHING
        write_file(folder, ticks[start : start + 100], number=number, follows=follows)
    for opened in (folder, folder.parent):
        ring = open_recorded(opened).rings["sim"]
        assert (len(ring), ring.platform, len(ring.files)) == (300, Platform.NT8, 3)
        assert b"".join(part.tobytes() for _, part in ring.arrays()) == ticks.tobytes()
        assert ring.gaps() == []
        position = ring.seek_time(int(ticks["ts_recv_ns"][142]))
        assert position == Position(1, 42)
        assert b"".join(part.tobytes() for _, part in ring.arrays(position)) == ticks[142:].tobytes()
        assert ring.seek_time(0) == Position(0, 0)
        assert ring.seek_seq(250) == Position(2, 49)
        assert list(ring.arrays(ring.seek_time(1 << 62))) == []
        assert list(ring.arrays(ring.seek_seq(301))) == []


def test_one_file_of_several_shows_only_its_own_gap(folder):
    ticks = numbered_ticks(1, 300)
    write_file(folder, ticks[:100])
    second = write_file(folder, ticks[150:], number=2, lost_before=50, follows=Follows.SAME_RING)
    gaps = open_recorded(second).rings["sim"].gaps()
    assert [(gap.after_seq, gap.before_seq, gap.lost) for gap in gaps] == [(100, 151, 50)]
    assert open_recorded(folder).gaps() == gaps


def test_a_removed_file_is_a_gap(folder):
    ticks = numbered_ticks(1, 300)
    for number in (1, 2, 3):
        write_file(folder, ticks[number * 100 - 100 : number * 100], number=number, follows=Follows.SAME_RING)
    data_files(folder)[1].unlink()
    (gap,) = open_recorded(folder).gaps()
    assert (gap.after_seq, gap.before_seq, gap.lost) == (100, 201, 100)


@pytest.mark.parametrize("chunk", [777, BLOCK, 3 * BLOCK + 1])
def test_seeking_and_gaps_are_those_of_a_plain_search(folder, chunk):
    ticks = ticks_with_gaps()
    path = write_file(folder, ticks, chunk=chunk)
    check_seeking(open_recorded(path).rings["sim"].files[0], ticks)


def damage(index, kind):
    rows = np.fromfile(index, layout.RECORDING_INDEX.dtype)
    if kind == "missing":
        index.unlink()
    elif kind == "torn":
        os.truncate(index, 2 * 32 + 11)
    elif kind == "zeros":
        rows[2:] = 0
        rows.tofile(index)
    elif kind == "wrong number":
        rows["last_seq"][1] += 1
        rows.tofile(index)
    elif kind == "too long":
        rows = np.concatenate([rows, rows])
        rows.tofile(index)


@pytest.mark.parametrize("kind", ["missing", "torn", "zeros", "wrong number", "too long"])
def test_damaged_index_changes_nothing_and_is_mended(folder, kind):
    ticks = ticks_with_gaps()
    path = write_file(folder, ticks)
    index = path.with_suffix(".nxindex")
    whole = index.read_bytes()
    assert len(whole) == 4 * 32
    damage(index, kind)
    check_seeking(open_recorded(path).rings["sim"].files[0], ticks)
    assert mend(folder, trust_index_since_ns=0) == 0
    assert index.read_bytes() == whole


def test_index_is_used(folder):
    """Were it not, seeking would go through the whole file."""
    ticks = ticks_with_gaps()
    path = write_file(folder, ticks)
    index = path.with_suffix(".nxindex")
    rows = np.fromfile(index, layout.RECORDING_INDEX.dtype)
    rows["ts_recv_max_ns"][1:] = 1 << 62
    rows.tofile(index)
    assert open_recorded(path).rings["sim"].files[0].ts_recv_max_ns == 1 << 62


@pytest.mark.parametrize("cut_bytes", [1, 63, 64, 65, 640])
def test_torn_end_is_left_out_and_cut(folder, cut_bytes):
    ticks = numbered_ticks(1, 5000)
    path = write_file(folder, ticks)
    os.truncate(path, path.stat().st_size - cut_bytes)
    whole = (5000 * 64 - cut_bytes) // 64
    file = open_recorded(path).rings["sim"].files[0]
    assert file.ticks.tobytes() == ticks[:whole].tobytes()
    assert file.torn_bytes == -cut_bytes % 64
    del file
    assert mend(folder, trust_index_since_ns=0) == (1 if cut_bytes % 64 else 0)
    assert path.stat().st_size == HEADER + whole * 64
    assert find_last(folder).last_seq == whole
    assert mend(folder, trust_index_since_ns=0) == 0


@pytest.mark.parametrize("number", [0, 5000, 4999, 17])
def test_records_whose_number_does_not_go_on_end_the_file(folder, number):
    """Zeroed pages after a power failure, or a record of an earlier life of the same disk block."""
    ticks = numbered_ticks(1, 5000)
    path = write_file(folder, ticks)
    strange = numbered_ticks(number, 3)
    with path.open("ab") as file:
        file.write(strange.tobytes())
    assert len(open_recorded(path).rings["sim"].files[0]) == 5000
    assert open_recorded(path).rings["sim"].files[0].torn_bytes == 192
    assert mend(folder, trust_index_since_ns=0) == 1
    assert path.stat().st_size == HEADER + 5000 * 64


def test_hole_in_front_of_the_end_is_found_after_a_reboot(folder):
    path = write_file(folder, numbered_ticks(1, 3 * BLOCK))
    with path.open("r+b") as file:
        file.seek(HEADER + 64 * (BLOCK + 5))
        file.write(bytes(64 * 64))
    assert mend(folder, trust_index_since_ns=1 << 62) == 1
    assert len(open_recorded(path).rings["sim"].files[0]) == BLOCK + 5


def test_file_without_records_is_removed_but_its_number_is_not_reused_by_a_living_one(folder):
    write_file(folder, numbered_ticks(1, 10))
    begun = write_file(folder, numbered_ticks(11, 10), number=2)
    os.truncate(begun, HEADER - 1)
    assert len(open_recorded(folder).rings["sim"].files) == 1
    assert next_file_number(folder) == 3
    assert mend(folder, trust_index_since_ns=0) == 1
    assert [path.name for path in sorted(folder.iterdir())] == [
        f"000001-20231114T221320Z.{suffix}" for suffix in ("nxindex", "nxsymbols", "nxticks")
    ]
    assert find_last(folder).records_of_ring == 10


def test_file_whose_records_do_not_go_with_its_header_is_set_aside_and_not_removed(folder):
    write_file(folder, numbered_ticks(1, 10))
    path = write_file(folder, numbered_ticks(11, 20), number=2)
    with path.open("r+b") as file:
        file.seek(layout.RECORDING.offset("first_seq") + 5)
        file.write(b"\x01")
    assert mend(folder, trust_index_since_ns=0) == 1
    (aside,) = folder.glob("*.nxdamaged")
    assert aside.read_bytes()[HEADER:] == numbered_ticks(11, 20).tobytes()
    assert [each.name[:6] for each in data_files(folder)] == ["000001"]
    assert find_last(folder).last_seq == 10
    for content in (bytes(5 * 64), numbered_ticks(11, 1).tobytes()[:50]):  # after a power failure; after kill -9
        begun = write_file(folder, numbered_ticks(11, 5), number=3)
        os.truncate(begun, HEADER)
        with begun.open("ab") as file:
            file.write(content)
        assert mend(folder, trust_index_since_ns=0) == 1
        assert not begun.exists()
    assert len(list(folder.glob("*.nxdamaged"))) == 1


def test_existing_file_is_never_overwritten(folder):
    path = write_file(folder, numbered_ticks(1, 10))
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        write_file(folder, numbered_ticks(11, 10))
    assert path.read_bytes() == before
    assert path.with_suffix(".nxsymbols").exists()


def test_files_are_private(folder):
    if os.name != "posix":
        pytest.skip("POSIX modes")
    write_file(folder, numbered_ticks(1, 10))
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_end_of_a_recording_counts_the_records_of_one_numbering(folder):
    assert find_last(folder) is None
    write_file(folder, numbered_ticks(1, 10), ring_created_ns=1)
    write_file(folder, numbered_ticks(1, 20), number=2, ring_created_ns=2)
    write_file(folder, numbered_ticks(31, 5), number=3, ring_created_ns=2)
    last = find_last(folder)
    assert (last.header.file_number, last.last_seq, last.records_of_ring) == (3, 35, 25)


def test_what_is_no_recording_is_refused(tmp_path, folder):
    with pytest.raises(RecordingError, match="no recorded tick"):
        open_recorded(tmp_path)
    path = write_file(folder, numbered_ticks(1, 10))
    with path.open("r+b") as file:
        file.seek(8)
        file.write(b"\2")
    with pytest.raises(RecordingError, match=r"version 2 .*reads b'NXRECRD\\x00' version 1"):
        open_recorded(folder)


@pytest.mark.parametrize(("field", "damage"), [("platform", b"\xee"), ("follows", b"\x09"), ("ring", b"\xff")])
def test_a_damaged_header_is_refused_by_name(folder, field, damage):
    path = write_file(folder, numbered_ticks(1, 10))
    with path.open("r+b") as file:
        file.seek(layout.RECORDING.offset(field))
        file.write(damage)
    with pytest.raises(RecordingError, match=r"\.nxticks: its header is damaged"):
        open_recorded(folder)


def test_symbol_lines_survive_a_torn_end_and_refuse_a_broken_middle(tmp_path):
    path = tmp_path / "x.nxsymbols"
    whole = encode_symbol(Symbol(1, "NQ", "NQH5", 0.25, 2, 500)) + encode_symbol(Symbol(2, "AÇO"))
    path.write_bytes(whole + whole[:20])
    table = SymbolTable.read(path)
    assert table.names() == {1: "NQ", 2: "AÇO"}
    assert table.symbol(1, 500) == Symbol(1, "NQ", "NQH5", 0.25, 2, 500)
    assert (table.symbol(1, 499).contract, table.symbol(1, 499).generation) == ("unknown", 1)
    path.write_bytes(b'{"id": 1}\n' + whole)
    with pytest.raises(ValueError, match=r"x\.nxsymbols, line 1: no symbol line"):
        SymbolTable.read(path)
    assert SymbolTable.read(tmp_path / "none").ids == []
