"""The archive of the MetaTrader 5 bridge: the same bytes each time, and it serves as the folder does."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from nexus_gateway.core import messages as m

from tests.support.mt5_benches import Mt5Bench
from tests.support.mt5_bridges import ROOT, SOURCE, find_old_python


def build(folder: Path) -> tuple[Path, str]:
    command = [sys.executable, "-W", "error", str(ROOT / "bridges" / "build.py"), str(folder)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(printed) == 3
    assert int(printed[1]) == Path(printed[2]).stat().st_size
    return Path(printed[2]), printed[0]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))[0]


def test_the_same_sources_give_the_same_bytes(archive, tmp_path):
    again, digest = build(tmp_path / "again")
    assert again.name == archive.name
    assert again.read_bytes() == archive.read_bytes()
    assert hashlib.sha256(again.read_bytes()).hexdigest() == digest


def test_it_holds_the_package_and_its_start(archive):
    with zipfile.ZipFile(archive) as content:
        names = content.namelist()
    assert names == sorted(["__main__.py", *(f"mt5_bridge/{path.name}" for path in SOURCE.glob("*.py"))])


def test_it_serves_a_session_with_ticks_and_orders(archive, tmp_path):
    with Mt5Bench(tmp_path) as bench:
        bench.bridge.program = archive
        bench.start()
        bench.quote(18_001, 18_001.25)
        assert bench.wait_moved(1)["bid"].tolist() == [18_001]
        bench.wait_state(bench.place(), m.LegState.FILLED)
        assert bench.bridge.stop() == 0


def test_it_says_what_to_install(archive, tmp_path):
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(archive), "bridge.json"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "pip install numpy MetaTrader5" in done.stderr


def test_python_3_9_compiles_it():
    """The oldest version that the README names."""
    old = find_old_python()
    if old is None:
        pytest.skip("no python3.9 on the path or in ~/.pyenv/versions")
    code = (
        "import sys; assert sys.version_info[:2] == (3, 9); "
        "[compile(open(path, encoding='utf-8').read(), path, 'exec') for path in sys.argv[1:]]"
    )
    subprocess.run([old, "-W", "error", "-c", code, *map(str, SOURCE.glob("*.py"))], check=True)
