"""The wall clock inside kernels.

`time.time_ns` cannot be called from compiled code; the system's own function can, by name, which keeps kernels
cacheable (a raw function address would not be). Python code uses `time.time_ns()`: it reads the same clock.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Final

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import entry_point, kernel

_I64: Final = ir.IntType(64)
_I32: Final = ir.IntType(32)
# Windows counts 100 ns steps from 1601-01-01.
_FILETIME_UNIX_EPOCH: Final = 116_444_736_000_000_000


def _bind_windows_clock() -> None:
    # The JIT's linker only finds what is registered by name; kernel32 is always loaded.
    function = ctypes.windll.kernel32.GetSystemTimePreciseAsFileTime  # type: ignore[attr-defined,unused-ignore]
    binding.add_symbol("GetSystemTimePreciseAsFileTime", ctypes.cast(function, ctypes.c_void_p).value)


if sys.platform == "win32":
    _bind_windows_clock()


def _emit_windows(builder: Any) -> Any:
    slot = cgutils.alloca_once(builder, _I64)
    kind = ir.FunctionType(ir.VoidType(), [_I64.as_pointer()])
    function = cgutils.get_or_insert_function(builder.module, kind, "GetSystemTimePreciseAsFileTime")
    builder.call(function, [slot])
    ticks = builder.sub(builder.load(slot), ir.Constant(_I64, _FILETIME_UNIX_EPOCH))
    return builder.mul(ticks, ir.Constant(_I64, 100))


def _emit_posix(builder: Any) -> Any:
    timespec = ir.ArrayType(_I64, 2)
    slot = cgutils.alloca_once(builder, timespec)
    kind = ir.FunctionType(_I32, [_I32, timespec.as_pointer()])
    function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
    realtime = ir.Constant(_I32, 0)
    builder.call(function, [realtime, slot])
    pair = builder.load(slot)
    seconds, nanoseconds = builder.extract_value(pair, 0), builder.extract_value(pair, 1)
    return builder.add(builder.mul(seconds, ir.Constant(_I64, 1_000_000_000)), nanoseconds)


@intrinsic
def utc_ns(typingctx: Any) -> Any:
    """UTC nanoseconds since 1970, int64; some 20 ns a call. Only inside kernels."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _emit_windows(builder) if sys.platform == "win32" else _emit_posix(builder)

    return types.int64(), codegen


@kernel("int64()", brief=True)
def _read_utc_ns() -> int:
    return utc_ns()


read_utc_ns = entry_point(_read_utc_ns)
"""The kernels' clock from Python, to compare it with `time.time_ns()`."""
