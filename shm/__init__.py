"""Lock-free market data in shared memory: tick rings, quote boards, counters, the symbol directory.

Import the module you need; this package imports nothing by itself, so that a process that only reads
counters never pays for numba.
"""
