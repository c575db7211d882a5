"""The supervision policy alone: no process, no clock, no randomness."""

from __future__ import annotations

import msgspec
import pytest
from nexus_gateway.core.config import LauncherConfig
from nexus_gateway.core.launcher.supervision import ChildState, Supervision
from nexus_gateway.core.process import EXIT_CLEAN, EXIT_CONFIG, EXIT_FILES, EXIT_RESOURCES

LIMITS = LauncherConfig(
    heartbeat_timeout_s=10,
    start_timeout_s=100,
    max_restarts=3,
    restart_window_s=60,
    backoff_first_s=1,
    backoff_max_s=3,
)


def started(now_s: float = 0.0) -> Supervision:
    supervision = Supervision(LIMITS)
    supervision.on_start(now_s)
    return supervision


def test_first_sign_of_life_ends_the_start_phase() -> None:
    supervision = started()
    assert not supervision.check_heartbeat(99, None)
    assert supervision.state is ChildState.STARTING
    assert not supervision.check_heartbeat(99.5, 99.4)
    assert supervision.state is ChildState.RUNNING


def test_silence_at_start_and_later_have_limits_of_their_own() -> None:
    supervision = started()
    assert not supervision.check_heartbeat(100, None)
    assert supervision.check_heartbeat(100.1, None)
    assert supervision.detail == "no heartbeat for 100.1 s, limit 100 s"
    supervision = started()
    assert not supervision.check_heartbeat(15, 5)
    assert supervision.check_heartbeat(15.1, 5)
    assert supervision.state is ChildState.KILLED
    assert not supervision.check_heartbeat(16, 5), "killed once"


def test_a_page_that_was_removed_is_silence_since_the_last_heartbeat() -> None:
    supervision = started()
    supervision.check_heartbeat(5, 5)
    assert not supervision.check_heartbeat(15, None)
    assert supervision.check_heartbeat(15.1, None)
    supervision.on_exit(16, -9, jitter=1.0)
    supervision.on_start(20)
    assert not supervision.check_heartbeat(100, None), "the next process starts, whatever the former one did"
    assert supervision.state is ChildState.STARTING


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        (EXIT_FILES, "a file of it in the run folder was removed or damaged"),
        (EXIT_RESOURCES, "the system had no descriptor or memory for it"),
    ],
)
def test_what_is_no_fault_of_a_process_uses_up_no_budget_and_the_pauses_grow(code: int, detail: str) -> None:
    supervision = started()
    pauses = []
    for now_s in (10.0, 20.0, 30.0, 40.0, 50.0):
        supervision.on_exit(now_s, code, jitter=1.0)
        pauses.append(supervision.due_s - now_s)
        supervision.on_start(supervision.due_s)
    assert pauses == [1, 2, 3, 3, 3]
    assert supervision.detail == detail
    for now_s in (51.0, 52.0, 53.0):
        supervision.on_exit(now_s, 1, jitter=1.0)
        assert supervision.state is ChildState.WAITING, "faults of its own have their whole budget"
    supervision.on_exit(54, 1, jitter=1.0)
    assert supervision.state is ChildState.FAILED


def test_two_thousand_losses_in_one_window_are_tried_again_as_slowly_as_the_limit_says() -> None:
    supervision = Supervision(msgspec.structs.replace(LIMITS, restart_window_s=1e6))
    for now_s in range(2_000):
        supervision.on_start(now_s)
        supervision.on_exit(now_s, EXIT_FILES, jitter=1.0)
    assert supervision.due_s == 1_999 + LIMITS.backoff_max_s


@pytest.mark.parametrize("code", [0, 2, 1, -9])
def test_whoever_is_ended_for_lost_files_comes_back_whatever_its_code(code: int) -> None:
    supervision = started()
    for now_s in range(10):
        assert supervision.on_files_lost(now_s, "the folder was removed")
        supervision.on_exit(now_s, code, jitter=1.0)
        assert (supervision.state, supervision.detail) == (ChildState.WAITING, "the folder was removed")
        assert not supervision.on_files_lost(now_s, "again"), "there is no process to be killed"
        supervision.on_start(now_s)


def test_one_that_failed_is_tried_again_with_new_files_and_one_that_finished_is_not() -> None:
    supervision = started()
    supervision.on_exit(1, EXIT_CONFIG, jitter=1.0)
    assert supervision.state is ChildState.FAILED
    assert not supervision.on_files_lost(2, "the folder was removed")
    assert (supervision.state, supervision.due_s) == (ChildState.WAITING, 2)
    supervision.on_start(2)
    supervision.on_exit(3, EXIT_CLEAN, jitter=1.0)
    assert not supervision.on_files_lost(4, "the folder was removed")
    assert supervision.state is ChildState.FINISHED


def test_silence_while_the_launcher_stood_still_proves_nothing() -> None:
    supervision = started()
    supervision.check_heartbeat(1, 1)
    supervision.on_own_pause(3600)
    assert not supervision.check_heartbeat(3600, 1)
    assert not supervision.check_heartbeat(3610, 1)
    assert supervision.check_heartbeat(3610.1, 1)


def test_pauses_double_up_to_the_limit_and_then_the_budget_is_used_up() -> None:
    supervision = started()
    pauses = []
    for now_s in (10.0, 20.0, 30.0):
        supervision.on_exit(now_s, 1, jitter=1.0)
        pauses.append(supervision.due_s - now_s)
        supervision.on_start(supervision.due_s)
    assert pauses == [1, 2, 3]
    supervision.on_exit(40, -9, jitter=1.0)
    assert supervision.state is ChildState.FAILED
    assert supervision.detail == "ended by signal 9; 3 restarts in 60 s used up"


def test_budget_and_pause_recover_with_time() -> None:
    supervision = started()
    for now_s in (0.0, 100.0, 200.0, 300.0, 400.0):
        supervision.on_exit(now_s, 1, jitter=1.0)
        assert supervision.due_s == now_s + 1
        supervision.on_start(supervision.due_s)
    assert supervision.restarts == 5


@pytest.mark.parametrize(("jitter", "pause_s"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_jitter_shortens_the_pause_by_half_at_most(jitter: float, pause_s: float) -> None:
    supervision = started()
    supervision.on_exit(10, 1, jitter)
    assert supervision.due_s == 10 + pause_s


def test_without_a_budget_nothing_is_restarted() -> None:
    supervision = Supervision(msgspec.structs.replace(LIMITS, max_restarts=0))
    supervision.on_start(0)
    supervision.on_exit(1, 1, jitter=0)
    assert (supervision.state, supervision.restarts) == (ChildState.FAILED, 0)


@pytest.mark.parametrize(
    ("code", "state"),
    [(0, ChildState.FINISHED), (2, ChildState.FAILED), (1, ChildState.WAITING), (3, ChildState.WAITING)],
)
def test_exit_codes(code: int, state: ChildState) -> None:
    supervision = started()
    supervision.on_exit(1, code, jitter=0)
    assert supervision.state is state


@pytest.mark.parametrize("code", [0, 2])
def test_a_killed_process_is_restarted_whatever_its_code(code: int) -> None:
    supervision = started()
    supervision.check_heartbeat(101, None)
    supervision.on_exit(102, code, jitter=0)
    assert supervision.state is ChildState.WAITING


def test_a_stop_keeps_an_earlier_verdict() -> None:
    supervision = started()
    supervision.on_exit(1, 2, jitter=0)
    supervision.on_stop()
    assert supervision.state is ChildState.FAILED
    supervision = started()
    supervision.on_stop("killed")
    assert (supervision.state, supervision.detail) == (ChildState.STOPPED, "killed")


def test_a_process_that_reads_its_journal_has_a_limit_of_its_own_from_its_last_progress() -> None:
    supervision = Supervision(msgspec.structs.replace(LIMITS, recovery_timeout_s=50))
    supervision.on_start(0)
    for now_s in (1, 40, 80, 120):
        assert not supervision.check_heartbeat(now_s, now_s - 30, is_recovering=True)
        assert supervision.state is ChildState.RECOVERING
    assert not supervision.check_heartbeat(140, 90, is_recovering=True)
    assert supervision.check_heartbeat(140.1, 90, is_recovering=True)
    assert supervision.detail == "no progress in reading the journal for 50.1 s, limit 50 s"


def test_after_the_journal_is_read_the_short_limit_counts_and_a_rebuild_has_the_long_one_again() -> None:
    supervision = started()
    supervision.check_heartbeat(50, 50, is_recovering=True)
    assert not supervision.check_heartbeat(55, 55)
    assert supervision.state is ChildState.RUNNING
    assert not supervision.check_heartbeat(100, 55, is_recovering=True)
    assert supervision.check_heartbeat(100, 55)
