"""Entries stop for two reasons, and the kill's reason names the figures of both."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nexus_gateway.core.gateway.disk_guard import DiskGuard
from nexus_gateway.core.journal import JournalRoom
from nexus_gateway.core.messages import KillLevel

from tests.simulation.surroundings import make_log

MIB = 1 << 20
SECOND = 10**9
STATE: Any = SimpleNamespace(kill=KillLevel.NORMAL)


@pytest.mark.parametrize(
    ("free", "is_taken", "reason"),
    [
        (97 * MIB, False, ""),
        (96 * MIB, False, ""),
        (96 * MIB - 1, False, "the journal's disk has 95 MiB free, entries stop below 96 MiB: make room"),
        (0, False, "the journal's disk has 0 MiB free, entries stop below 96 MiB: make room"),
        (0, True, "has 0 MiB free, entries stop below 96 MiB, and the journal's reserve of 2 MiB is used up: make"),
        (500 * MIB, True, ""),  # it is made again
        (None, False, ""),
        (None, True, "the journal's reserve of 2 MiB is used up: make room"),
    ],
)
def test_the_reason_names_what_is_free_and_what_is_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int | None, is_taken: bool, reason: str
) -> None:
    def usage(_: Path) -> SimpleNamespace:
        if left is None:
            raise OSError("the mount is gone")
        return SimpleNamespace(free=left)

    left: int | None = 500 * MIB
    monkeypatch.setattr(shutil, "disk_usage", usage)
    room = JournalRoom(tmp_path / "orders.sqlite", reserve_bytes=2 * MIB)
    guard = DiskGuard(room, 96 * MIB, make_log())
    assert guard.step(0, STATE) is None
    assert not room.is_reserve_missing
    left = free
    if is_taken:
        room.release_reserve()
    kill = guard.step(SECOND, STATE)
    assert (kill is None) is (not reason)
    assert reason in (kill.reason if kill else "")
    assert guard.step(SECOND + 1, STATE) is None, "once a second"


def test_a_level_of_0_stops_nothing_and_a_used_reserve_names_no_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    guard = DiskGuard(JournalRoom(tmp_path / "orders.sqlite"), 0, make_log())
    assert guard.step(0, STATE) is None
