"""Fixtures that several test files share."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import coverage_parts, quick, torture

# No test has an upper bound on time: a machine may be busy, and a first example may load a calendar or compile.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    if _runs_tests(config):
        coverage_parts.note_process()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _runs_tests(session.config):
        coverage_parts.save_part()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with coverage_parts.measured_as(item.path.relative_to(Path(__file__).parent)):
        return (yield)


def _runs_tests(config: pytest.Config) -> bool:
    """Whether this process does; with workers (`-n`), the one that starts them does not."""
    return hasattr(config, "workerinput") or not config.getoption("numprocesses", None)


@pytest.fixture(autouse=quick.IS_QUICK)
def _quick() -> Iterator[None]:
    with quick.no_processes():
        yield


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """An empty private run folder."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """The test's random numbers: the same every time, or those of the seed of `make torture`."""
    return torture.random_numbers(request.node.nodeid)
