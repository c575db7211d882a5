"""Simulated time and its events, in an order that the seed alone decides."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from random import Random

MS = 1_000_000
SECOND = 1_000 * MS
START_NS = 1_760_000_000 * SECOND


class Schedule:
    """Calls functions at simulated times. `trace` hashes what happened, so that two runs can be compared.

    `extra`: draws the faults of exits, so that a run without them is the one that it was before there were any.
    `wall_step_ns`: by what the wall clock of the gateway's computer was set since the start; `now_ns` is steady.
    """

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.extra = Random(f"exits of {seed}")
        self.now_ns = START_NS
        self.wall_step_ns = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self.lines: list[str] | None = None

    @property
    def wall_ns(self) -> int:
        """What the clock of the gateway's computer shows."""
        return self.now_ns + self.wall_step_ns

    def at(self, delay_ns: int, call: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (self.now_ns + delay_ns, self._number, call))

    def run_until(self, end_ns: int) -> None:
        """May be called from within an event: the world goes on while that event waits."""
        while self._queue and self._queue[0][0] <= end_ns:
            self.now_ns, _, call = heapq.heappop(self._queue)
            call()
        self.now_ns = max(self.now_ns, end_ns)

    def trace(self, what: str, content: bytes | str = b"") -> None:
        data = content if isinstance(content, bytes) else content.encode()
        self._hash.update(f"{self.now_ns} {what} ".encode() + data)
        if self.lines is not None:
            self.lines.append(f"{(self.now_ns - START_NS) / SECOND:10.4f} {what} {content!r:.400}")

    def digest(self) -> str:
        return self._hash.hexdigest()

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability
