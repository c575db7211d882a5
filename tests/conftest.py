"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# No test has an upper bound on time: a machine may be busy, and a first example may load a calendar or compile.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """An empty private run folder."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return folder
