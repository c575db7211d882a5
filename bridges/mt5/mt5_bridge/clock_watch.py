"""Compare the server's clock, as measured on ticks, with the offset in use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from .constants import NS_PER_MS
from .server_clock import MINUTE_MS, ClockGauge, ServerClock
from .session import Session
from .terminal import Terminal
from .ticks import Stream


class ClockWatch:
    """Measures the offset of the server's clock; corrects it in mode `measured`, reports an error in mode `configured`.

    Attributes:
        gauge: collects the time stamps of new ticks.
        trouble: how the configured clock differs; empty when it does not.
        due_s: when to compare next, monotonic.
        on_change: called after the offset was corrected.
    """

    def __init__(self, terminal: Terminal, clock: ServerClock, session: Session) -> None:
        self.gauge = ClockGauge()
        self.trouble = ""
        self.due_s = 0.0
        self.on_change: Callable[[], None] = lambda: None
        self._terminal = terminal
        self._clock = clock
        self._session = session

    def compare(self, streams: Iterable[Stream]) -> None:
        """Compare the measured offset with the one in use. Raises TerminalLost."""
        now_ms = time.time_ns() // NS_PER_MS
        if not self._clock.is_known:
            self._sample(now_ms, streams)
        offset_ms = self.gauge.read(now_ms)
        if offset_ms is None:
            return
        believed_ms = self._clock.offset_ms(now_ms)
        self.due_s = time.monotonic() + 60.0
        if offset_ms == believed_ms and self._clock.is_known:
            self.trouble = ""
            return
        words = f"the server's clock is {offset_ms // MINUTE_MS} minutes ahead of UTC"
        if self._clock.is_measured:
            self._clock.take(offset_ms, now_ms)
            self._session.notice("warning", f"{words} from now on (measured), was {believed_ms // MINUTE_MS}")
            self.on_change()
        elif words != self.trouble:
            self.trouble = words
            text = f"{words}, configured are {believed_ms // MINUTE_MS}: times of ticks and fills are wrong"
            self._session.notice(
                "error", f"{text}; correct `clock` in the bridge's configuration, or this computer's clock"
            )

    def _sample(self, now_ms: int, streams: Iterable[Stream]) -> None:
        """Feed the gauge with the newest tick of each symbol: no ticks are read before the offset is known."""
        for stream in streams:
            tick = self._terminal.call("symbol_info_tick", stream.name)
            newest_ms = 0 if tick is None else int(tick.time_msc)
            if stream.newest_ms and newest_ms > stream.newest_ms:
                self.gauge.add(newest_ms, now_ms)
            stream.newest_ms = newest_ms
