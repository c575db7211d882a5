"""What callers see of the clock: the intrinsic's typing context is numba's business."""

from collections.abc import Callable

def utc_ns() -> int: ...

read_utc_ns: Callable[[], int]
