"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """An empty private run folder."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return folder
