"""The figure of `make test` is of that run, and a part that is broken is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from coverage.data import CoverageData

from tests.support.coverage_parts import combine


def write_part(folder: Path, pid: int) -> Path:
    data = CoverageData(str(folder / f".coverage.host.pid{pid}.Xabcx"))
    data.add_lines({str(folder / "module.py"): [pid]})
    data.write()
    data.close(force=True)
    return folder / f".coverage.host.pid{pid}.Xabcx"


def combined_lines(folder: Path) -> set[int]:
    data = CoverageData(str(folder / ".coverage"))
    data.read()
    return set(data.lines(str(folder / "module.py")) or ())


@pytest.fixture(autouse=True)
def _module(tmp_path, monkeypatch):
    (tmp_path / "module.py").write_text("1\n" * 100)
    monkeypatch.chdir(tmp_path)


def test_all_parts_are_combined(tmp_path):
    for pid in (1, 2, 3):
        write_part(tmp_path, pid)
    assert combine(tmp_path, {1, 2}) == []
    assert combined_lines(tmp_path) == {1, 2, 3}
    assert not list(tmp_path.glob(".coverage.*"))


@pytest.mark.parametrize("keep", [100, 5_000])
def test_a_broken_part_of_a_killed_process_is_named_and_left_out(tmp_path, capsys, keep):
    write_part(tmp_path, 1)
    broken = write_part(tmp_path, 2)
    broken.write_bytes(broken.read_bytes()[:keep])
    assert combine(tmp_path, {1}) == []
    assert combined_lines(tmp_path) == {1}
    assert f"{broken.name} is broken" in capsys.readouterr().err


@pytest.mark.parametrize("is_broken", [True, False])
def test_a_process_that_ran_tests_must_have_left_a_whole_part(tmp_path, is_broken):
    write_part(tmp_path, 1)
    if is_broken:
        write_part(tmp_path, 2).write_bytes(b"SQLite format 3\0")
    assert combine(tmp_path, {1, 2}) == ["coverage: process 2 ran tests and has left no whole part"]
    assert not (tmp_path / ".coverage").exists()


def test_no_data_and_many_broken_parts_are_faults(tmp_path):
    assert combine(tmp_path, set()) == ["coverage: no process has noted that it ran tests"]
    write_part(tmp_path, 1)
    for pid in (2, 3, 4):
        write_part(tmp_path, pid).write_bytes(b"half")
    assert combine(tmp_path, {1}) == ["coverage: 3 of 4 parts are broken"]
