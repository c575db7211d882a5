"""Plain-Python twins of the kernels in `shm/`: slow, obvious, and written from the docstrings, not from the kernels."""

from __future__ import annotations


class NaiveRing:
    """A ring that is only ever seen between two publications, as one process sees it."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.slots_left = capacity  # fewer after the file was cut
        self.published: list[object] = []  # everything ever published; record number s is element s - 1

    @property
    def tail(self) -> int:
        return len(self.published)

    @property
    def oldest(self) -> int:
        """Number of the oldest record that has not been overwritten."""
        return max(1, self.tail - self.capacity + 1)

    def publish(self, records: list[object]) -> int:
        self.published.extend(records)
        return self.tail

    def record(self, seq: int) -> object:
        return self.published[seq - 1]

    def has(self, seq: int) -> bool:
        """Whether a record's slot still holds it."""
        return seq >= self.oldest and (seq - 1) % self.capacity < self.slots_left


class NaiveReader:
    """A reader that may be lapped. Counts as the docstrings of `shm/reader.py` promise."""

    def __init__(self, ring: NaiveRing, start: str, after_lap: str) -> None:
        self.ring = ring
        self.keep = 1 if after_lap == "newest" else ring.capacity * 3 // 4
        if start == "new":
            self.next_seq = ring.tail + 1
        elif start == "first":
            self.next_seq = 1
        else:
            self.next_seq = max(1, ring.tail - ring.capacity * 3 // 4 + 1)
        self.first_seq = self.next_seq
        self.read = self.lost = self.torn = 0

    def ready(self) -> int:
        if self.next_seq < self.ring.oldest:
            resume = self.ring.tail - self.keep + 1
            self.lost += resume - self.next_seq
            self.next_seq = resume
        return self.ring.tail - self.next_seq + 1

    def take(self, limit: int) -> list[object]:
        """`drain` into an array of `limit` records, or `views` + `confirm` with nothing published in between."""
        taken = [self.ring.record(self.next_seq + i) for i in range(min(self.ready(), limit))]
        self.next_seq += len(taken)
        self.read += len(taken)
        return taken

    def confirm(self, count: int) -> bool:
        """End the use of a batch of `count` records that began with the awaited one."""
        intact = all(self.ring.has(self.next_seq + i) for i in range(count))
        self.next_seq += count
        if intact:
            self.read += count
        else:
            self.lost += count
            self.torn += count
        return intact


def merge_by_time(rings: list[list[tuple[int, object]]]) -> list[object]:
    """Fan-in of (ts_recv_ns, record) lists: the earliest head first, the first ring first among equals.

    Not a sort: a record never overtakes an earlier one of its own ring, whatever its stamp.
    """
    heads = [0] * len(rings)
    merged = []
    while True:
        waiting = [(rings[i][heads[i]][0], i) for i in range(len(rings)) if heads[i] < len(rings[i])]
        if not waiting:
            return merged
        _, chosen = min(waiting)
        merged.append(rings[chosen][heads[chosen]][1])
        heads[chosen] += 1


def bucket_of(value: int) -> int:
    """Bucket of a log-linear histogram, by walking: 64 of width 1, then 32 to each power of two, ever wider."""
    value = max(value, 0)
    bucket, low, width = 0, 0, 1
    while value >= low + width:
        low += width
        bucket += 1
        if bucket >= 64 and bucket % 32 == 0:
            width *= 2
    return bucket
