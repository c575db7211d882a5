"""Ordered loads and stores on raw addresses, for use inside kernels.

numba has no atomics on plain memory, so these emit LLVM's own `load atomic acquire`, `store atomic release` and
`fence`: right on ARM as well as on x86, where all but the compiler barrier cost nothing. Payload bytes between two
looks at a `seq` are copied with plain loads: a torn copy is possible there and is always thrown away afterwards,
because the second look shows another number.

`atomics.pyi` gives type checkers the signatures as callers see them (without the typing context).
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .layout import TICK, TICK_BYTES

_I64 = ir.IntType(64)
_I32 = ir.IntType(32)
_IS_X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
_SEQ_BYTES = TICK.offset("ts_event_ns")  # the payload begins where the seq word ends


def _pointer(builder: Any, address: Any, kind: Any = _I64) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


@intrinsic
def load_acquire(typingctx: Any, address: Any) -> Any:
    """int64 at `address` (8-byte aligned); what its release-store published is visible afterwards."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_pointer(builder, args[0]), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def store_release(typingctx: Any, address: Any, value: Any) -> Any:
    """Store an int64 at `address` (8-byte aligned); everything stored before it becomes visible no later."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], _pointer(builder, args[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def fence_acquire(typingctx: Any) -> Any:
    """No load after it may happen before a load that precedes it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("acquire")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def fence_release(typingctx: Any) -> Any:
    """No store after it may become visible before a store that precedes it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("release")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def cpu_pause(typingctx: Any) -> Any:
    """Tell the core that this is a spin loop (`pause` on x86, `yield` on ARM): less heat, a faster way out."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _IS_X86:
            kind, name, values = ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause", []
        else:
            kind = ir.FunctionType(ir.VoidType(), [_I32])
            name, values = "llvm.aarch64.hint", [ir.Constant(_I32, 1)]
        builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), values)
        return context.get_dummy_value()

    return types.void(), codegen


def _copy(builder: Any, target: Any, source: Any, count: Any) -> None:
    byte = ir.IntType(8)
    cgutils.raw_memcpy(builder, _pointer(builder, target, byte), _pointer(builder, source, byte), count, 1)


@intrinsic
def copy_payload(typingctx: Any, target: Any, source: Any) -> Any:
    """Copy a record's 56 bytes after `seq`; both are addresses of whole records."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        skip = ir.Constant(_I64, _SEQ_BYTES)
        size = ir.Constant(_I64, TICK_BYTES - _SEQ_BYTES)
        _copy(builder, builder.add(args[0], skip), builder.add(args[1], skip), size)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def copy_records(typingctx: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy `count` whole 64-byte records between addresses that do not overlap."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size = builder.mul(args[2], ir.Constant(_I64, TICK_BYTES))
        _copy(builder, args[0], args[1], size)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def as_pointer(typingctx: Any, address: Any) -> Any:
    """The address as a pointer that `numba.carray` accepts."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _pointer(builder, args[0], ir.IntType(8))

    return types.voidptr(types.int64), codegen
