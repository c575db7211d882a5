"""Adapter without a platform: publishes recordings, at recorded speed, faster, or as fast as they are read.

At full speed it follows the cursors that readers publish and never overwrites a tick that one of them has not read yet.
Only a replay may do so: a live feed must never wait for a reader.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np

from ...core.config import convert_settings
from ...core.errors import ConfigError
from ...core.logs import process_log
from ...shm import run_folder
from ...shm.durations import NS_PER_S
from ...shm.segment import Segment
from ...shm.symbols import Symbol
from ...shm.tick import TICK_DTYPE, TickArray
from ..base import Adapter
from ..feed import TickFeed
from ..formats.carry import carry_forward, make_carry_state
from ..formats.catalog import open_recording
from ..formats.merge import merge_by_time
from ..formats.oddities import Oddities
from ..formats.recording import Format, Instrument, ReadOptions, Recording
from .own_recording import OwnRecording, is_own_recording

_TURN_TICKS: Final = 8192
_CURSOR_REFRESH_S: Final = 0.25
_ODDITY_COUNTERS: Final = tuple(field.name for field in fields(Oddities) if field.name != "problems")


class ReplayFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file, with the options that its name and content do not give; see `formats.recording.ReadOptions`."""

    path: str
    format: str | None = None
    contract: str | None = None
    only: tuple[str, ...] | None = None
    base: str | None = None
    add_s: int | None = None
    zone: str | None = None
    price_decimals: int | None = None
    price_multiplier: Decimal = Decimal(1)
    tick_size: Decimal | None = None
    on_error: Literal["raise", "count"] = "raise"

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in list(Format):
            raise ValueError(
                f"format was {self.format!r}, must be one of {', '.join(Format)}; correct it or leave it out"
            )
        try:
            self.base_time  # noqa: B018  (reported with the other faults of the settings, before anything starts)
        except ValueError as error:
            raise ValueError(f"base was {self.base!r}: {error}; write 2019-02-04T10:00") from None

    @property
    def base_time(self) -> datetime | None:
        """`base`, read. Raises ValueError when it is no ISO time."""
        return None if self.base is None else datetime.fromisoformat(self.base)

    def open(self) -> Recording | OwnRecording:
        """The recording. Raises DataFormatError or OSError."""
        if self.format is None and is_own_recording(Path(self.path)):
            return OwnRecording(Path(self.path))
        chosen = {name: getattr(self, name) for name in self.__struct_fields__ if name not in ("path", "base")}
        return open_recording(Path(self.path), ReadOptions(base=self.base_time, **chosen))


class ReplaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`settings` of a replayed platform.

    Attributes:
        files: merged by time.
        speed: 1 = as recorded, 10 = ten times as fast; 0 = as fast as the attached readers take it.
        loop: begin again at the end, for ever.
        start: ISO time to begin at (UTC when it has no zone); None = at the first tick.
        wait_for_readers: publish nothing until this many readers have attached; at full speed also pause while there
            are fewer, so that a reader that is restarted misses nothing.
        keep_times: leave `ts_recv_ns` as recorded instead of setting it to the time of publication.
    """

    files: tuple[ReplayFile, ...]
    speed: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 1.0
    loop: bool = False
    start: str | None = None
    wait_for_readers: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    keep_times: bool = False

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("files was empty, must name at least one recording; add a path")
        try:
            self.start_ns  # noqa: B018  (reported with the other faults of the settings, before anything starts)
        except ValueError as error:
            raise ValueError(f"start was {self.start!r}: {error}; write 2019-12-16T14:30:00") from None

    @property
    def start_ns(self) -> int | None:
        """`start` as UTC nanoseconds. Raises ValueError when it is no ISO time."""
        if self.start is None:
            return None
        moment = datetime.fromisoformat(self.start)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp()) * NS_PER_S + moment.microsecond * 1000


class ReplayAdapter(Adapter):
    """Plays recordings. After a crash the next process continues behind the last published tick."""

    OWN_MARKET = True
    OWN_COUNTERS = ("replay_finished", "replay_passes", "replay_pass_ticks", "replay_first_seq", *_ODDITY_COUNTERS)

    def __init__(self, feed: TickFeed, settings: Mapping[str, Any]) -> None:
        super().__init__(feed, settings)
        where = f"platform {feed.name!r}"
        self._settings = convert_settings(ReplaySettings, settings, where)
        self._start_ns = self._settings.start_ns
        self._oddities = Oddities()
        self._recordings: list[Recording | OwnRecording] = []
        self._is_complete = False
        self._symbol_ids: dict[str, int] = {}
        self._symbols: Sequence[Symbol] = ()
        self._chunks: Iterator[TickArray] = iter(())
        self._chunk: TickArray = np.zeros(0, TICK_DTYPE)
        self._position = 0
        self._decoded = 0
        self._log = process_log(feed.name)
        self._pace = _Pace(self._settings.speed)
        self._readers = _ReaderWatch(feed)
        self._started = False
        self._finished = feed.counters.counter("replay_finished")
        self._passes = feed.counters.counter("replay_passes")
        self._pass_ticks = feed.counters.counter("replay_pass_ticks")
        self._first_seq = feed.counters.counter("replay_first_seq")
        if self._first_seq.value == 0:
            # A new counter page: this run begins here. The ring may be older, since a ring that readers have mapped
            # cannot be removed everywhere.
            self._first_seq.set(feed.writer.tail + 1)

    def connect(self) -> None:
        self._recordings = [file.open() for file in self._settings.files]
        own = [isinstance(recording, OwnRecording) for recording in self._recordings]
        if any(own) and not all(own):
            # Own ticks are complete. Filling them from other files' ticks, as those need, would invent data.
            raise ConfigError(f"platform {self.feed.name!r}: own recordings and other files at once; replay them apart")
        self._is_complete = all(own)
        for recording in self._recordings:
            # A wrongly assumed clock shifts every tick by hours without any other sign.
            write = self._log.warning if "assumed" in recording.clock else self._log.info
            write("recording opened", file=str(recording.path), format=recording.format, clock=recording.clock)

    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        self._symbols = symbols
        ids = {symbol.name: symbol.id for symbol in symbols}
        self._symbol_ids = {}
        for recording in self._recordings:
            for instrument in recording.instruments:
                self._symbol_ids[instrument.contract] = _id_of(instrument, ids, recording.path)
        self._finished.set(0)
        self._begin_pass()
        self._skip(self.feed.ticks_since_start + 1 - self._first_seq.value)

    def poll(self, timeout_s: float) -> int:
        if self._finished.value or not self._may_start(timeout_s):
            self.wait(timeout_s)
            return 0
        if self._position == len(self._chunk) and not self._next_chunk():
            self._end_pass()
            return 0
        count = min(len(self._chunk) - self._position, _TURN_TICKS)
        if self._settings.speed == 0:
            count = min(count, self._readers.room(self._settings.wait_for_readers))
        else:
            count = self._pace.due(self._chunk, self._position, count)
        if count == 0:
            self.wait(min(timeout_s, self._wait_s()))
            return 0
        self.feed.publish(self._chunk[self._position : self._position + count], stamp=not self._settings.keep_times)
        self._position += count
        return count

    def close(self) -> None:
        self._chunks = iter(())
        self._chunk = self._chunk[:0]
        self._position = 0

    def _may_start(self, timeout_s: float) -> bool:
        if not self._started:
            self._started = self._readers.count() >= self._settings.wait_for_readers
        return self._started

    def _begin_pass(self) -> None:
        streams = [
            recording.chunks(self._symbol_ids, int(self.feed.platform), self._start_ns, self._oddities)
            for recording in self._recordings
        ]
        self._chunks = merge_by_time(streams)
        self._known = make_carry_state(max(self._symbol_ids.values(), default=0) + 1)
        self._decoded = 0
        self._chunk = self._chunk[:0]
        self._position = 0
        self._pace.restart()

    def _next_chunk(self) -> bool:
        for chunk in self._chunks:
            if not self._is_complete:
                carry_forward(chunk, self._known)
            self._chunk = chunk
            self._position = 0
            self._decoded += len(chunk)
            self._count_oddities()
            return True
        return False

    def _end_pass(self) -> None:
        self._count_oddities()
        self._passes.add()
        self._pass_ticks.set(self._decoded)
        for problem in self._oddities.problems:
            self._log.warning("recording is broken in part", problem=problem)
        self._oddities.problems.clear()
        if not self._decoded:
            # Logged once, and not looped: a loop over an empty recording would only use up a core.
            self._log.warning("nothing to play: no tick in the recordings", start=self._settings.start or "beginning")
        if self._settings.loop and self._decoded:
            self._begin_pass()
        else:
            self.feed.mark_stale(self._symbols)  # the process goes on, but its last quotes are no longer live
            self._finished.set(1)

    def _skip(self, count: int) -> None:
        """Skip the ticks that former processes have published; decoding is deterministic, so counting is enough."""
        if self._settings.loop and self._pass_ticks.value:
            count %= self._pass_ticks.value  # whole passes need no decoding
        while count > 0:
            if self._position == len(self._chunk) and not self._next_chunk():
                self._end_pass()
                if self._finished.value:
                    return
                continue
            step = min(count, len(self._chunk) - self._position)
            self._position += step
            count -= step

    def _wait_s(self) -> float:
        if self._settings.speed == 0:
            return 50e-6  # a reader makes room within microseconds
        return self._pace.wait_s(self._chunk, self._position)

    def _count_oddities(self) -> None:
        for name in _ODDITY_COUNTERS:
            self.feed.counters.counter(name).set(getattr(self._oddities, name))


class _Pace:
    """Maps recorded times to real time. A tick that steps back in time is due with the one before it."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self.restart()

    def restart(self) -> None:
        self._first_ns: int | None = None
        self._began_s = 0.0

    def due(self, ticks: TickArray, position: int, count: int) -> int:
        """Return how many of the `count` ticks from `position` on are due now."""
        times = ticks["ts_recv_ns"][position : position + count]
        if self._first_ns is None:
            self._first_ns = int(times[0])
            self._began_s = time.monotonic()
        elapsed_ns = (time.monotonic() - self._began_s) * self._speed * 1e9
        now_ns = self._first_ns + int(elapsed_ns)
        return int(np.searchsorted(np.maximum.accumulate(times), now_ns, side="right"))

    def wait_s(self, ticks: TickArray, position: int) -> float:
        """Seconds until the tick at `position` is due."""
        assert self._first_ns is not None
        ahead_ns = int(ticks["ts_recv_ns"][position]) - self._first_ns
        return max(self._began_s + ahead_ns / 1e9 / self._speed - time.monotonic(), 0.0)


class _ReaderWatch:
    """The cursors of the ring's live readers; the list of readers is refreshed every `_CURSOR_REFRESH_S`."""

    def __init__(self, feed: TickFeed) -> None:
        self._feed = feed
        self._cursors: list[Segment] = []
        self._refresh_at_s = 0.0

    def count(self) -> int:
        """Return the number of live readers that publish a cursor."""
        self._refresh()
        return len(self._cursors)

    def room(self, least_readers: int) -> int:
        """Return how many ticks can be published without overwriting one that a reader has not read.

        At most half the ring; 0 while fewer than `least_readers` are attached.
        """
        self._refresh()
        if len(self._cursors) < least_readers:
            return 0
        writer = self._feed.writer
        behind = [writer.tail + 1 - cursor.field("next_seq") for cursor in self._cursors]
        return max(writer.capacity // 2 - max(behind, default=0), 0)

    def _refresh(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._refresh_at_s:
            self._cursors = run_folder.attach_cursors(self._feed.folder, self._feed.name)
            self._refresh_at_s = now_s + _CURSOR_REFRESH_S


def _id_of(instrument: Instrument, ids: Mapping[str, int], path: Path) -> int:
    """Return the id of a file's instrument, by its contract first, so that several months have ids of their own."""
    for name in (instrument.contract, instrument.root):
        if name in ids:
            return ids[name]
    raise ConfigError(
        f"{path}: holds {instrument.contract}, which is none of this platform's symbols; add {instrument.root} or "
        f"{instrument.contract} to them"
    )
