"""Recording into a log-linear histogram from kernels; reading it is in `counters.py`, which needs no numba."""

from __future__ import annotations

from typing import Final

from numba import carray

from .atomics import as_pointer
from .jit import entry_point, kernel
from .layout import HISTOGRAM, HISTOGRAM_SUB_BITS

_HISTOGRAM: Final = HISTOGRAM.dtype
_SUB: Final = 1 << HISTOGRAM_SUB_BITS


@kernel("void(int64, int64)", brief=True)
def observe(histogram: int, value: int) -> None:
    """Count one value in the histogram at that address. Its one writer calls it; below 0 counts as 0.

    Values under 32 have a bucket each; above, 32 buckets to each power of two, so an edge is off by 3.1 % at most.
    """
    value = max(value, 0)
    page = carray(as_pointer(histogram), 1, _HISTOGRAM)
    page[0].sum += value
    if page[0].count == 0 or value < page[0].minimum:
        page[0].minimum = value
    page[0].maximum = max(page[0].maximum, value)
    page[0].count += 1
    shift = 0
    while (value >> shift) >= 2 * _SUB:
        shift += 1
    page[0].buckets[(shift << HISTOGRAM_SUB_BITS) + (value >> shift)] += 1


observe_value = entry_point(observe)
"""`observe` from Python: (histogram address, value)."""
