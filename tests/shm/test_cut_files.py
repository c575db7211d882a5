"""Mapped files that are cut: the process lives, reads zeros, and knows it. In processes of their own, which may die."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.support.shm_processes import linux_only

pytestmark = [pytest.mark.processes, linux_only]

_HEAD = """
import faulthandler, gc, mmap, os, sys, threading, time
from pathlib import Path
import numpy as np
from nexus_gateway.shm import cut_files
from nexus_gateway.shm.cut_files import MappingGuard

def mapped(name, pages=4, access=mmap.ACCESS_WRITE):
    path = Path(sys.argv[1]) / name
    path.write_bytes(b"x" * (pages * mmap.PAGESIZE))
    with path.open("r+b") as file:
        return path, mmap.mmap(file.fileno(), pages * mmap.PAGESIZE, access=access)
"""


def run(folder, code):
    """Exit code (negative: the signal) and what was printed."""
    ran = subprocess.run(
        [sys.executable, "-c", _HEAD + code, str(folder)], capture_output=True, text=True, timeout=240, check=False
    )
    return ran.returncode, ran.stdout.strip() or ran.stderr[-2000:]


def test_lost_pages_read_zeros_and_what_the_file_still_has_stays_shared(tmp_path):
    code = """
path, mapping = mapped("a")
guard = MappingGuard(mapping, is_written=True)
os.truncate(path, mmap.PAGESIZE)
kept, lost = mapping[10], mapping[2 * mmap.PAGESIZE + 10]
mapping[3 * mmap.PAGESIZE] = 7
mapping[11] = 8
print(kept, lost, mapping[3 * mmap.PAGESIZE], guard.is_cut, path.read_bytes()[11], path.stat().st_size // mmap.PAGESIZE)
"""
    assert run(tmp_path, code) == (0, f"{ord('x')} 0 7 True 8 1")


def test_a_reader_gets_zeros_too_and_no_sound_mapping_is_marked(tmp_path):
    code = """
(cut, first), (_, second) = mapped("a", access=mmap.ACCESS_READ), mapped("b", access=mmap.ACCESS_READ)
guards = [MappingGuard(first, is_written=False), MappingGuard(second, is_written=False)]
os.truncate(cut, 0)
print(bytes(first).count(0) == len(first), second[0], [guard.is_cut for guard in guards])
"""
    assert run(tmp_path, code) == (0, f"True {ord('x')} [True, False]")


def test_a_thread_without_the_interpreter_lock_goes_on_in_compiled_code(tmp_path):
    code = """
from nexus_gateway.shm import fan_in_kernels
from nexus_gateway.shm.tick import TICK_DTYPE, Platform
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.writer import TickWriter
from nexus_gateway.shm.idle import Backoff
folder = Path(sys.argv[1])
writer = TickWriter(folder, "nt8", Platform.NT8, capacity=1024)
reader = TickReader(folder, "nt8")
found = []
thread = threading.Thread(target=lambda: found.append(reader.wait(Backoff(), 2.0)))
thread.start()
os.truncate(folder / "nt8.ticks", 0)
while thread.is_alive():  # holds the lock of the interpreter nearly all the time
    pass
writer.publish(np.zeros(8, TICK_DTYPE))
print(found, reader.is_replaced(), "was cut to 0 of" in writer._ring.damage())
"""
    assert run(tmp_path, code) == (0, "[False] True True")


def test_a_file_of_somebody_else_that_is_cut_ends_the_process_as_before(tmp_path):
    code = """
faulthandler.enable()
_, ours = mapped("ours")
guard = MappingGuard(ours, is_written=True)
path, mapping = mapped("other")
os.truncate(path, 0)
print(mapping[0])
"""
    returned, printed = run(tmp_path, code)
    assert returned == -signal.SIGBUS
    assert "Fatal Python error: Bus error" in printed


def test_faulthandler_enabled_between_two_mappings_ends_the_process_after_one_report(tmp_path):
    code = """
guards = [MappingGuard(mapped("a")[1], is_written=True)]
faulthandler.enable()
guards.append(MappingGuard(mapped("b")[1], is_written=True))
path, mapping = mapped("other")
os.truncate(path, 0)
print(mapping[0])
"""
    returned, printed = run(tmp_path, code)
    assert returned == -signal.SIGBUS
    assert printed.count("Fatal Python error: Bus error") == 1


def test_an_address_is_guarded_no_longer_than_its_mapping_lives(tmp_path):
    code = """
_, ours = mapped("ours")
guard = MappingGuard(ours, is_written=True)
view = np.frombuffer(ours, np.uint8)
del ours
gc.collect()
before = len(cut_files._guards)
del view
gc.collect()
print(before, len(cut_files._guards))
"""
    assert run(tmp_path, code) == (0, "1 0")


def test_a_handler_that_was_set_since_is_taken_over_with_the_next_mapping(tmp_path):
    code = """
guards = [MappingGuard(mapped("a")[1], is_written=True)]
faulthandler.enable()
path, mapping = mapped("b")
guards.append(MappingGuard(mapping, is_written=True))
os.truncate(path, 0)
print(mapping[0], guards[1].is_cut)
"""
    assert run(tmp_path, code) == (0, "0 True")
