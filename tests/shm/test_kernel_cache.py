"""numba's stale cache: an edit anywhere in the hot folders reaches every cached kernel, in a copy of the tree."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import nexus_gateway.shm.layout as layout_module
import numba
import pytest
from nexus_gateway.shm import jit, kernel_cache

_ROOT = Path(layout_module.__file__).resolve().parents[1]

# Reads back, through cached kernels, where the bid lies and how many bytes a slot has.
_PROBE = """
import numpy as np
from nexus_gateway.shm import atomics, histogram, jit, layout, ring_kernels
from nexus_gateway.shm.jit import entry_point
state = ring_kernels.make_state(ring_kernels.WRITER_STATE)
slots, tail, records = np.zeros(4096, np.uint8), np.zeros(1, np.int64), np.full(4096, 7, np.uint8)
state["slots"], state["mask"], state["next_seq"], state["tail"] = slots.ctypes.data, 7, 2, tail.ctypes.data
entry_point(ring_kernels.publish_records)(state.ctypes.data, records.ctypes.data, 1, 0)
page = np.zeros(layout.HISTOGRAM.size_bytes, np.uint8)
histogram.observe_value(page.ctypes.data, 1000)
buckets = page[layout.HISTOGRAM.offset("buckets"):].view(np.uint64)
cached = sum(kernel.stats.cache_hits.total() for kernel in (ring_kernels.publish_records, histogram.observe))
print(int(np.flatnonzero(slots == 7)[0]), int(np.flatnonzero(buckets)[0]), cached, jit.source_key())
"""


@pytest.fixture
def tree(tmp_path):
    """A copy of the shared-memory package, importable as the product's own."""
    package = tmp_path / "nexus_gateway"
    shutil.copytree(_ROOT / "shm", package / "shm", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("adapters", "nexus_link"):
        (package / folder).mkdir()
        (package / folder / "__init__.py").touch()
    return tmp_path


def probe(tree):
    environment = {**os.environ, "PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": str(tree / "cache")}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)
    ran = subprocess.run(
        [sys.executable, "-c", _PROBE], env=environment, cwd=tree, capture_output=True, text=True, check=True
    )
    first_byte, bucket, cached, key = ran.stdout.split()
    return int(first_byte), int(bucket), int(cached), key


def edit(tree, file, old, new):
    path = tree / "nexus_gateway" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} must be there once for this test to mean something"
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_edits_in_other_files_reach_cached_kernels(tree):
    slot_two = 64
    before = probe(tree)
    assert before[:2] == (slot_two + 8, 4 * 32 + (1000 >> 4))
    assert before[2] == 0, "the first run compiles"
    again = probe(tree)
    assert again[:2] == before[:2]
    assert again[2] == 2, "the second run must use the cache, or the test proves nothing"

    edit(tree, "shm/layout.py", "TICK_BYTES: Final = 64", "TICK_BYTES: Final = 128")  # a constant
    edit(tree, "shm/layout.py", "assert TICK.size_bytes == TICK_BYTES", "")
    assert probe(tree)[0] == 2 * slot_two + 8

    edit(tree, "shm/atomics.py", "skip = ir.Constant(_I64, _SEQ_BYTES)", "skip = ir.Constant(_I64, 24)")  # a callee
    assert probe(tree)[0] == 2 * slot_two + 24

    edit(tree, "shm/layout.py", "HISTOGRAM_SUB_BITS: Final = 5", "HISTOGRAM_SUB_BITS: Final = 4")
    assert probe(tree)[1] == 5 * 16 + (1000 >> 5)


def test_the_key_covers_the_folders_where_kernels_may_live(tree, monkeypatch):
    monkeypatch.setattr(jit, "_SHM", tree / "nexus_gateway" / "shm")
    monkeypatch.setattr(jit, "HOT_FOLDERS", tuple(tree / "nexus_gateway" / folder.name for folder in jit.HOT_FOLDERS))
    keys = {jit.source_key()}
    assert jit.source_key() in keys, "the same sources have the same key"
    for folder in jit.HOT_FOLDERS:
        (folder / "more.py").write_text("CONSTANT = 1\n")
        keys.add(jit.source_key())
        (folder / "more.py").write_text("CONSTANT = 2\n")
        keys.add(jit.source_key())
    assert len(keys) == 1 + 2 * len(jit.HOT_FOLDERS)


def test_a_cache_folder_that_cannot_be_made_is_no_reason_not_to_start(tmp_path):
    (tmp_path / "file").touch()
    ran = subprocess.run(
        [sys.executable, "-c", "from nexus_gateway.shm import jit; print(jit.CACHE_FOLDER)"],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "None"
    assert ran.stderr.count("kernel folder cannot be used") == 1
    assert str(tmp_path / "file") in ran.stderr


def cut_to_half(content):
    return content[: len(content) // 2]


def flip_last_byte(content):
    return content[:-1] + bytes([content[-1] ^ 1])


def of_another_numba(content):
    return content.replace(numba.__version__.encode(), b"9" * len(numba.__version__), 1)


DAMAGES = {
    "emptied": lambda content: b"",
    "cut within the head": lambda content: content[:20],
    "cut to half": cut_to_half,
    "one byte too short": lambda content: content[:-1],
    "one byte too long": lambda content: content + b"x",
    "one bit flipped in the machine code": flip_last_byte,
    "noise": lambda content: random.Random(1).randbytes(len(content)),
    "a file of numba's own": lambda content: pickle.dumps(("0.1", {})) * 100,
    "of another version, with a digest that agrees": lambda content: resign(of_another_numba(content)),
    "a payload that is no kernel, with a digest that agrees": lambda content: resign(without_kernel(content)),
}


def without_kernel(content):
    start = len(kernel_cache._MAGIC) + kernel_cache._DIGEST_BYTES
    identity_bytes = int.from_bytes(content[start : start + 4], "little")
    return content[: start + 4 + identity_bytes] + pickle.dumps(("no", "kernel"))


def resign(content):
    """The content with the digest that belongs to it: as another release or machine would have written it."""
    start = len(kernel_cache._MAGIC) + kernel_cache._DIGEST_BYTES
    body = content[start:]
    return kernel_cache._MAGIC + hashlib.sha256(body).digest() + body


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Compile a small kernel through the cache; returns it and whether it came from the cache."""
    monkeypatch.setattr(jit, "CACHE_FOLDER", tmp_path)
    monkeypatch.setattr(kernel_cache, "_warned", set())

    def compile_():
        def triple(number: int) -> int:
            return number * 3

        compiled = jit.kernel("int64(int64)")(triple)
        assert compiled(14) == 42
        return compiled.stats.cache_hits.total() == 1

    assert not compile_(), "the first one is compiled"
    assert compile_(), "the second one must come from the cache, or the test proves nothing"
    return compile_


def kernel_file(folder):
    (path,) = folder.glob("*" + kernel_cache.SUFFIX)
    return path


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_kernel_file_is_a_miss_and_is_written_anew(cached, tmp_path, caplog, damage):
    path = kernel_file(tmp_path)
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert not cached(), "nothing of it may be used"
    (said,) = caplog.records
    assert said.levelname == "WARNING"
    assert str(path) in said.getMessage()
    caplog.clear()
    assert cached()
    assert not caplog.records


def test_a_file_that_cannot_be_read_or_replaced_is_compiled_at_each_start(cached, tmp_path, caplog):
    path = kernel_file(tmp_path)
    path.unlink()
    path.mkdir()  # root may read and write every file, but no folder
    (path / "something").touch()
    for _ in range(2):
        assert not cached()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.partition(",")[0] for text in warnings] == [
        "kernel file cannot be read",
        "kernel file cannot be written",
    ], "each said once per process"
    assert [each.name for each in tmp_path.iterdir()] == [path.name], "nothing is left behind"


def test_a_folder_that_has_gone_or_takes_nothing_is_compiled_at_each_start(cached, tmp_path, caplog, monkeypatch):
    shutil.rmtree(tmp_path)
    assert not cached()
    tmp_path.mkdir()

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    assert not cached()
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert [record.levelname for record in caplog.records] == ["WARNING"], "said once"


def test_kernels_that_differ_only_in_what_they_close_over_have_files_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(jit, "CACHE_FOLDER", tmp_path)

    def make(factor):
        return jit.kernel("int64(int64)")(lambda number: number * factor)

    assert [make(factor)(10) for factor in (2, 3, 2)] == [20, 30, 20]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_start_with_every_file_damaged_in_its_own_way_is_a_start(tree):
    before = probe(tree)
    assert probe(tree)[2] == 2
    files = sorted((tree / "cache").rglob("*" + kernel_cache.SUFFIX))
    assert len(files) >= len(DAMAGES)
    for number, path in enumerate(files):
        damage = list(DAMAGES.values())[number % len(DAMAGES)]
        path.write_bytes(damage(path.read_bytes()))
    assert probe(tree) == before, "compiled again"
    assert probe(tree)[2] == 2, "and kept again"


def test_the_users_own_cache_folder_is_left_alone():
    from numba.core import config

    before = config.CACHE_DIR
    jit.kernel("int64(int64)")(lambda number: number + 1)
    assert before == config.CACHE_DIR


def test_an_entry_point_needs_one_signature():
    @jit.kernel("int64(int64)", "float64(float64)")
    def double(number):
        return number * 2

    with pytest.raises(ValueError, match="too many values"):
        jit.entry_point(double)


def test_an_entry_point_checks_the_number_and_kind_of_its_arguments():
    from nexus_gateway.shm.histogram import observe_value

    for arguments in ((), (1,), (1, 2, 3), ([], 2), (None, 2)):
        with pytest.raises(TypeError):
            observe_value(*arguments)
