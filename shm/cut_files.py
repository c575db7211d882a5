"""Survive a mapped file that is cut while it is mapped.

On Linux the first touch of a page that the file does not have any more raises SIGBUS, which ends the process without a
word: `: > file` in the run folder would end every process that maps it, the launcher among them. With a guard the lost
pages become zeros of this process alone, the access goes on, and the mapping is marked as cut. All our structures read
zeros as "nothing there", so what is left is to let go of the mapping and attach again. Windows refuses to cut a mapped
file. Nothing here costs anything until it happens.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import weakref
from typing import Any, Final

import numpy as np

_PROT_READ, _PROT_WRITE = 1, 2
_MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS = 0x02, 0x10, 0x20
_SIGBUS: Final = 7  # on Linux; the module `signal` of Windows has no such name
_SA_SIGINFO: Final = 4
_ADDRESS_OFFSET: Final = 16  # of si_addr in siginfo_t, on every 64-bit Linux
_IS_GUARDED: Final = sys.platform == "linux" and ctypes.sizeof(ctypes.c_void_p) == 8


class MappingGuard:
    """Guards one mapping for as long as that lives.

    Attributes:
        is_cut: whether this process has touched a page that the file had lost; it reads zeros from there on.
    """

    def __init__(self, mapping: mmap.mmap, *, is_written: bool) -> None:
        """Any thread. `is_written`: the mapping is writable, and the zeros in its place have to be too."""
        self.is_cut = False
        self.protection = _PROT_READ | _PROT_WRITE if is_written else _PROT_READ
        # Not by holding the array, which would never release the mapping.
        self.start = int(np.frombuffer(mapping, np.uint8).ctypes.data)
        self.end = self.start + -(-len(mapping) // mmap.PAGESIZE) * mmap.PAGESIZE
        if _IS_GUARDED:
            _guards[self.start] = self
            # The address may belong to another file as soon as the mapping has gone.
            weakref.finalize(mapping, _forget, self.start, weakref.ref(self)).atexit = False
            _install()

    def replace_lost_pages(self, address: int) -> bool:
        """Put zeros in place of the page at `address` and all behind it: the file has ended before it."""
        page = address // mmap.PAGESIZE * mmap.PAGESIZE
        flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_FIXED
        if _mmap(page, self.end - page, self.protection, flags, -1, 0) != page:
            return False
        self.is_cut = True
        return True


_guards: Final[dict[int, MappingGuard]] = {}


def _forget(start: int, guard: weakref.ref[MappingGuard]) -> None:
    if _guards.get(start) is guard():
        _guards.pop(start, None)


class _Sigaction(ctypes.Structure):
    """`struct sigaction` of glibc and musl on 64-bit Linux."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


_before: Final = _Sigaction()
_default: Final = _Sigaction()  # ends the process
_handed_over = False


def _handle_bus_error(_number: int, info: int, _context: int) -> None:
    """Run by the faulting thread in the middle of its access, which is repeated on return."""
    address = ctypes.c_void_p.from_address(info + _ADDRESS_OFFSET).value or 0
    for guard in list(_guards.values()):
        if guard.start <= address < guard.end and guard.replace_lost_pages(address):
            return
    # None of ours: the former handler handles the repeated access. It may restore ours and raise the signal again, as
    # faulthandler does when it was enabled after us: the process then ends, or both would call each other without end.
    global _handed_over
    _libc.sigaction(_SIGBUS, ctypes.byref(_default if _handed_over else _before), None)
    _handed_over = True


if _IS_GUARDED:
    _libc: Final[Any] = ctypes.CDLL(None, use_errno=True)
    _mmap: Final[Any] = _libc.mmap
    _mmap.restype = ctypes.c_void_p
    _mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    _handler: Final[Any] = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(_handle_bus_error)
    _ours: Final = _Sigaction(handler=ctypes.cast(_handler, ctypes.c_void_p).value, flags=_SA_SIGINFO)


def _install() -> None:
    """Handle SIGBUS, with each new mapping again: `faulthandler.enable` since then would have taken it."""
    global _handed_over
    present = _Sigaction()
    _libc.sigaction(_SIGBUS, None, ctypes.byref(present))
    if present.handler != _ours.handler:
        ctypes.memmove(ctypes.byref(_before), ctypes.byref(present), ctypes.sizeof(_Sigaction))
        _handed_over = False
        _libc.sigaction(_SIGBUS, ctypes.byref(_ours), None)
