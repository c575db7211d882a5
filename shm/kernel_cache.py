"""Compiled kernels on disk. A file that cannot be used is a miss, reported once per process; it never ends a start.

numba's own cache unpickles whatever a file holds and runs it: a cut file ends the process with a traceback, and machine
code with one wrong byte can end it anywhere. Here each file begins with the digest of the rest, which is compared
before anything of it is used, and with the versions and the processor that it was compiled for.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import pickle
import platform
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import llvmlite
import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

SUFFIX: Final = ".kernel"
_MAGIC: Final = b"NXKERNEL1\n"
_DIGEST_BYTES: Final = hashlib.sha256().digest_size
_log: Final = logging.getLogger(__name__)
_warned: Final[set[str]] = set()


class KernelCache(_Cache):  # type: ignore[misc]  # numba has no types
    """The cache of one kernel, in place of the one that numba's `cache=True` would make. Used by numba's compiler."""

    def __init__(
        self, function: Callable[..., Any], folder: Path | None, replace: Callable[[Path, bytes], object]
    ) -> None:
        """
        Args:
            folder: private to this user, since what lies in it is executed; None = nothing is kept.
            replace: writes a file in one step, mode 0600; raises OSError (`host.replace_private`).
        """
        self._function = function
        self._folder = folder
        self._replace = replace

    @property
    def cache_path(self) -> str:
        return str(self._folder)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled kernel of a signature; None = compile it."""
        target_context.refresh()
        identity = self._identity(sig, target_context.codegen())
        if self._folder is None or identity is None:
            return None
        path = self._path(identity)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            warn_once("kernel file cannot be read, the kernel is compiled", path, error.strerror or str(error))
            return None
        payload, fault = _unpack(content, identity)
        if payload is None:
            warn_once("kernel file is not used, the kernel is compiled and the file written again", path, fault)
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception as error:  # whatever numba raises for what another build of it has written
            warn_once("kernel file is not used, the kernel is compiled and the file written again", path, repr(error))
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel for the next start, if the folder takes it."""
        identity = self._identity(sig, data.codegen)
        # Code with addresses of this process in it is of no use to the next one.
        unfit = data.library.has_dynamic_globals or not all(lifted.can_cache for lifted in data.lifted)
        if self._folder is None or identity is None or unfit:
            return
        path = self._path(identity)
        try:
            # Not synced: after a crash of the machine the digest shows what is missing.
            self._replace(path, _pack(dumps(data._reduce()), identity))
        except OSError as error:
            # On Windows a file that another process reads right now cannot be replaced: that process has written it.
            if not (sys.platform == "win32" and isinstance(error, PermissionError) and path.is_file()):
                warn_once("kernel file cannot be written, each start compiles", path, error.strerror or str(error))

    def enable(self) -> None:
        """Always enabled."""

    def disable(self) -> None:
        """Always enabled."""

    def flush(self) -> None:
        """Nothing is kept in memory."""

    def _identity(self, sig: Any, codegen: Any) -> bytes | None:
        """All that the machine code depends on; None when the kernel's source cannot be read, as in a notebook."""
        source = _source_digest(self._function)
        if source is None:
            return None
        code = self._function.__code__
        closure = tuple(cell.cell_contents for cell in self._function.__closure__ or ())
        parts = (
            *(numba.__version__, llvmlite.__version__, platform.python_implementation(), sys.version),
            *(str(codegen.magic_tuple()), self._function.__module__, self._function.__qualname__, str(sig), source),
            *(code.co_code.hex(), hashlib.sha256(dumps(closure)).hexdigest()),
        )
        return "\n".join(parts).encode()

    def _path(self, identity: bytes) -> Path:
        assert self._folder is not None
        number = hashlib.sha256(identity).hexdigest()[:16]
        names = f"{self._function.__module__.rpartition('.')[2]}.{self._function.__name__}"
        readable = "".join(letter for letter in names if letter.isalnum() or letter in "._")  # "<lambda>" is no file
        return self._folder / f"{readable}-{number}{SUFFIX}"


def warn_once(event: str, path: Path, reason: str) -> None:
    """Log a warning, the first time in this process for each event: forty files of one cause are one cause."""
    level = logging.DEBUG if event in _warned else logging.WARNING
    _warned.add(event)
    _log.log(level, "%s: %s (%s)", event, path, reason)


@cache
def _file_digest(path: str) -> str | None:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def _source_digest(function: Callable[..., Any]) -> str | None:
    try:
        return _file_digest(inspect.getfile(function))
    except TypeError:
        return None


def _pack(payload: bytes, identity: bytes) -> bytes:
    body = len(identity).to_bytes(4, "little") + identity + payload
    return _MAGIC + hashlib.sha256(body).digest() + body


def _unpack(content: bytes, identity: bytes) -> tuple[bytes | None, str]:
    """The payload of a file; else None and what is wrong with it."""
    start = len(_MAGIC) + _DIGEST_BYTES
    if len(content) <= start + 4:
        return None, f"it has {len(content)} bytes, it was cut"
    if not content.startswith(_MAGIC):
        return None, "it is no kernel file of this release"
    body = content[start:]
    if hashlib.sha256(body).digest() != content[len(_MAGIC) : start]:
        return None, "its digest does not agree, it was cut or overwritten"
    length = int.from_bytes(body[:4], "little")
    if body[4 : 4 + length] != identity:
        return None, "it was compiled for another version or another processor"
    return body[4 + length :], ""
