"""The kill file holds for accounts that connect later too, and each kill instruction reaches the engine once."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.gateway.kill_instructions import KillInstructions
from nexus_gateway.core.kill_file import (
    KillEntry,
    add_kill,
    kill_file_path,
    lower_severed,
    read_kill_file,
    remove_kills,
)
from nexus_gateway.core.logs import process_log
from nexus_gateway.core.messages import KillLevel
from nexus_gateway.shm import host

from tests.support.orders import SECOND, Desk


class Looking:
    """The gateway's check of the file, on an engine without process and links."""

    def __init__(self, folder: Path, desk: Desk) -> None:
        self.path, self.desk = kill_file_path(folder), desk
        self.kills = KillInstructions(self.path, process_log("gateway"))

    def write(self, level: KillLevel, platform: str = "", own_only: bool = False) -> None:
        entry = KillEntry(level=level, platform=platform, own_only=own_only, reason="test", by="desk", at_ns=1)
        add_kill(self.path, entry)

    def look(self) -> int:
        """How many kill instructions the engine was given."""
        given = 0
        for kill in self.kills.pending(lambda: self.desk.engine.state):
            self.desk.give(e.AdminAsked(request=kill))
            given += 1
        return given


@pytest.mark.parametrize("platform", ["", "a"])
def test_it_is_obeyed_once(tmp_path: Path, platform: str) -> None:
    looking = Looking(tmp_path, Desk("a"))
    looking.write(KillLevel.NO_NEW, platform)
    assert [looking.look(), looking.look()] == [1, 0]
    assert looking.desk.engine.state.kills["a|acc"].level is KillLevel.NO_NEW


def test_a_platform_that_connects_later_is_under_its_own_order_too(tmp_path: Path) -> None:
    looking = Looking(tmp_path, Desk("b"))
    looking.write(KillLevel.FLATTEN, "a")
    assert looking.look() == 0
    looking.desk.link_up("a", answer=False)
    assert [looking.look(), looking.look()] == [1, 0]
    assert looking.desk.engine.state.kills["a|acc"].level is KillLevel.FLATTEN


def test_the_whole_account_is_more_than_what_is_ours(tmp_path: Path) -> None:
    looking = Looking(tmp_path, Desk("a"))
    looking.write(KillLevel.FLATTEN, own_only=True)
    assert looking.look() == 1
    looking.write(KillLevel.FLATTEN)
    assert [looking.look(), looking.look()] == [1, 0]
    assert not looking.desk.engine.state.kills["a|acc"].own_only


def test_what_the_operator_has_resumed_stays_resumed(tmp_path: Path) -> None:
    looking = Looking(tmp_path, Desk("a"))
    looking.write(KillLevel.NO_NEW)
    looking.look()
    resume = m.Resume(request_id=1, reason="over", by="desk")
    looking.desk.ask(resume)
    looking.kills.note_resume(resume, accepted=True)
    assert looking.path.exists()  # until the journal has it
    looking.kills.remove_resumed()
    assert [looking.look(), looking.path.exists()] == [0, False]
    assert looking.desk.engine.state.kill is KillLevel.NORMAL


def test_a_kill_that_was_given_before_the_clock_was_set_back_can_be_resumed(tmp_path: Path) -> None:
    looking = Looking(tmp_path, Desk("a"))
    ahead_ns = time.time_ns() + 3_600 * SECOND
    add_kill(looking.path, KillEntry(level=KillLevel.NO_NEW, reason="", by="desk", at_ns=ahead_ns))
    looking.look()
    looking.kills.note_resume(m.Resume(request_id=1, reason="over", by="desk"), accepted=True)
    looking.kills.remove_resumed()
    assert not looking.path.exists()


def test_a_resume_that_was_not_accepted_lets_severed_links_come_up(tmp_path: Path) -> None:
    looking = Looking(tmp_path, Desk("a"))
    looking.write(KillLevel.SEVER)
    looking.kills.note_resume(m.Resume(request_id=1, reason="look", by="desk"), accepted=False)
    looking.kills.remove_resumed()
    assert looking.kills.level_of("a") is KillLevel.NO_NEW


def test_a_file_that_cannot_be_changed_stays_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looking = Looking(tmp_path, Desk("a"))
    looking.write(KillLevel.NO_NEW, "a")
    looking.write(KillLevel.NO_NEW, "b")

    def refuse(path: Path, data: bytes) -> None:
        raise OSError("no room")

    monkeypatch.setattr(host, "replace_private", refuse)
    looking.kills.note_resume(m.Resume(request_id=1, reason="over", by="desk", platform="a"), accepted=True)
    looking.kills.remove_resumed()
    assert looking.look() == 1


def test_a_file_that_cannot_be_opened_for_want_of_descriptors_is_no_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = Looking(tmp_path, Desk("a"))
    looking.write(KillLevel.FLATTEN, "b")

    def refuse(*_: object) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(host, "read_regular", refuse)
    assert looking.look() == 0
    assert looking.kills.trouble == "the kill file cannot be opened: Too many open files"
    assert looking.kills.level_of("a") is KillLevel.NO_NEW
    looking.kills.note_resume(m.Resume(request_id=1, reason="over", by="desk"), accepted=True)
    monkeypatch.undo()
    looking.kills.remove_resumed()
    looking.desk.link_up("b", answer=False)
    assert looking.look() == 1, "what could not be read is still there, and obeyed"
    assert looking.kills.trouble == ""


def test_a_kill_that_was_given_after_the_resume_is_not_lifted_by_it(tmp_path: Path) -> None:
    path = kill_file_path(tmp_path)
    first, second = (
        KillEntry(level=KillLevel.SEVER, platform=platform, reason="", by="desk", at_ns=1) for platform in ("a", "b")
    )
    add_kill(path, first)
    add_kill(path, second)
    lower_severed(path, given=(first,))
    assert [kill.level for kill in read_kill_file(path)] == [KillLevel.NO_NEW, KillLevel.SEVER]
    remove_kills(path, given=read_kill_file(path)[:1])
    assert [kill.platform for kill in read_kill_file(path)] == ["b"]
    remove_kills(path, "a")
    assert len(read_kill_file(path)) == 1
    remove_kills(path)
    assert not path.exists()
