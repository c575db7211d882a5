"""The one place that compiles kernels, and the guard against numba's stale cache.

`cache=True` stamps a kernel with its own file only: when a constant or a callee in another file changes, the old
machine code is used silently, and a ring would be read at last week's offsets. So the cache folder is keyed by a hash
over every source file with kernels, layouts and constants. Another release's folder is not used. The files in it are
`kernel_cache`'s: damaged ones are compiled again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import numba
from numba.core import typeinfer

from . import host
from .kernel_cache import KernelCache, warn_once

P = ParamSpec("P")
R = TypeVar("R")

_SHM: Final = Path(__file__).resolve().parent
# Kernels may be written in these packages only; a test walks the tree and enforces it.
HOT_FOLDERS: Final = (_SHM, _SHM.parent / "adapters", _SHM.parent / "nexus_link")


def source_key() -> str:
    """Hex hash over all Python files of the hot folders; changes when any kernel could."""
    digest = hashlib.sha256()
    for folder in HOT_FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(_SHM.parent).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _cache_folder() -> Path | None:
    base = os.environ.get("NUMBA_CACHE_DIR") or str(host.local_data_folder() / "kernels")
    folder = Path(base) / source_key()
    try:
        host.make_private_folder(folder)  # private, since the files in it are executed
    except OSError as error:  # such as a read-only home folder
        warn_once("kernel folder cannot be used, each process compiles its kernels", folder, str(error))
        return None
    return folder


CACHE_FOLDER: Final = _cache_folder()
"""Of this release's compiled kernels; None = nothing is kept."""


def kernel(*signatures: str, brief: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: compile for the signatures now, or load from the cache; the GIL is released while the kernel runs.

    Args:
        signatures: numba signature strings such as "int64(int64, int64)". None = compile at the first call.
        brief: it never waits, so it keeps the GIL. That saves 40 ns a call and, beside a busy Python thread, up to
            5 ms (the interpreter's switch interval) until the GIL is given back.
    """

    def compile_(function: Callable[P, R]) -> Callable[P, R]:
        # As numba's own decorator with `cache=True` does it, apart from the cache.
        decorate: Any = numba.njit(nogil=not brief)
        compiled: Any = decorate(function)
        compiled._cache = KernelCache(function, CACHE_FOLDER, host.replace_private)
        if signatures:
            with typeinfer.register_dispatcher(compiled):
                for signature in signatures:
                    compiled.compile(signature)
                compiled.disable_compile()
        result: Callable[P, R] = compiled
        return result

    return compile_


def entry_point(compiled: Callable[P, R]) -> Callable[P, R]:
    """The compiled code of a kernel with one signature, callable from Python without numba's dispatcher.

    The dispatcher costs over a microsecond, this 0.3. Give it plain integers and floats only, positionally.
    """
    overloads: Any = compiled
    (only,) = overloads.overloads.values()
    entry: Callable[P, R] = only.entry_point
    return entry
