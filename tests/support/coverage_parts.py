"""`python -m tests.support.coverage_parts`: put together what the processes of one test run have measured.

Each process leaves a part, `.coverage.<host>.pid<pid>.X<random>x`. A test that kills a process while it writes leaves a
broken one: it is named and left out. The parts of the processes that run the tests must be whole, and most others too.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from coverage import Coverage
from coverage.data import CoverageData
from coverage.exceptions import CoverageException

PIDS_VARIABLE: Final = "NEXUS_TEST_PIDS"
"""Environment: the file in which processes that run tests note their process ids."""
_MOST_BROKEN: Final = 0.02
_CHILDREN_UNMEASURED: Final = ("conformance", "adapters", "bridges", "nexus_link")
"""Folders whose tests start hundreds of processes that run the same lines: measured, each costs a third more CPU."""
_UNMEASURED: Final = tuple(
    f"core/engine/{name}.py"
    for name in ("test_simulation", "test_exits_simulated", "test_histories", "test_clock_histories")
)
"""Tests that run the same lines of the engine a million times: measured, they take three times as long."""
_STARTS_COVERAGE: Final = "COVERAGE_PROCESS"
"""Environment: how the names of the variables begin by which a child process is measured."""


def note_process() -> None:
    """This process runs tests: its part must be there, and whole. Called by tests/conftest.py."""
    path = os.environ.get(PIDS_VARIABLE)
    if path:
        with Path(path).open("a", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")


def save_part() -> None:
    """Write this process's part now: pytest-xdist kills a worker that needs more than 10 s to end."""
    running = Coverage.current()
    if running is not None:
        running.save()


@contextmanager
def measured_as(test_file: Path) -> Iterator[None]:
    """Measure a test, and the processes that it starts, as its file says: its path below the folder of the tests."""
    running = Coverage.current() if test_file.as_posix() in _UNMEASURED else None
    kept = {name: value for name, value in os.environ.items() if name.startswith(_STARTS_COVERAGE)}
    if test_file.parts[0] in _CHILDREN_UNMEASURED:
        for name in kept:
            del os.environ[name]
    if running is not None:
        running.stop()
    try:
        yield
    finally:
        if running is not None:
            running.start()
        os.environ.update(kept)


def is_whole(part: Path) -> bool:
    """Whether it can be read to its end."""
    if part.name.endswith("-journal"):
        return False  # of a write that was cut off
    data = CoverageData(str(part))
    try:
        data.read()
        for name in data.measured_files():
            data.lines(name)
            data.arcs(name)
    except (CoverageException, sqlite3.Error):
        return False
    finally:
        data.close(force=True)
    return True


def combine(folder: Path, test_pids: set[int]) -> list[str]:
    """Combine the folder's parts into `.coverage`, say on stderr which are broken. Returns what is wrong."""
    parts = sorted(folder.glob(".coverage.*"))
    whole = [part for part in parts if is_whole(part)]
    broken = [part for part in parts if part.exists() and part not in whole]
    for part in broken:
        print(f"coverage: {part.name} is broken and left out: its process was killed while it wrote", file=sys.stderr)
        part.unlink()
    missing = test_pids - {pid_of(part) for part in whole}
    faults = [f"coverage: process {pid} ran tests and has left no whole part" for pid in sorted(missing)]
    if not test_pids:
        faults.append("coverage: no process has noted that it ran tests")
    if len(broken) > max(2, _MOST_BROKEN * len(parts)):
        faults.append(f"coverage: {len(broken)} of {len(parts)} parts are broken")
    if whole and not faults:
        every = Coverage(data_file=str(folder / ".coverage"))
        every.combine([str(part) for part in whole], strict=True)
        every.save()
    return faults


def pid_of(part: Path) -> int:
    """The process that has written it; 0 when its name does not say so."""
    found = re.search(r"\.pid(\d+)\.", part.name)
    return int(found[1]) if found else 0


def main() -> int:
    noted = Path(os.environ[PIDS_VARIABLE])
    pids = {int(line) for line in noted.read_text().split()} if noted.exists() else set()
    faults = combine(Path.cwd(), pids)
    print("\n".join(faults), file=sys.stderr, end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
