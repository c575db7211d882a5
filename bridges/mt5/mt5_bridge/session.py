"""Send events, notices and heartbeats to the adapter that has logged in."""

from __future__ import annotations

import time
from collections.abc import Callable

from .connection import Link
from .constants import MAX_BUSY_MS
from .fields import Body
from .log import Log
from .pulse import Pulse


class Session:
    """The one session of the bridge. Without a `link` events are not sent: the next snapshot contains them.

    Attributes:
        link: connection of the adapter that has logged in.
        on_end: called when the session has ended, after `link` has become None.
    """

    def __init__(self, log: Log, pulse: Pulse) -> None:
        self.log = log
        self.link: Link | None = None
        self.on_end: Callable[[], None] = lambda: None
        self._pulse = pulse

    def send(self, body: Body) -> None:
        """Send an event to the adapter, if one is logged in."""
        if self.link is not None:
            self.link.queue(body)

    def notice(self, level: str, text: str) -> None:
        """Write to the log, and send to the adapter's."""
        self.log.say(level, text)
        self.send({"type": "notice", "level": level, "text": text[:512]})

    def announce(self, for_ms: int, doing: str) -> None:
        """Announce a call that may block for `for_ms`: write the heartbeat file, and send `busy` at once."""
        now_s = time.monotonic()
        self._pulse.write(now_s, doing)
        link = self.link
        if link is None or link.is_over or for_ms < link.mute_after_s * 1000:
            return
        link.queue({"type": "busy", "for_ms": min(for_ms, MAX_BUSY_MS), "doing": doing})
        link.flush(now_s)

    def open(self, link: Link, login: Body) -> None:
        """Make this link the session; `hello` is already in its queue."""
        self.link = link
        link.open(self._make_heartbeat, login["heartbeat_ms"], login["mute_after_ms"])
        self.log.say("info", "an adapter has logged in")

    def end(self, text: str) -> None:
        """End the session with `not_ready`, because the terminal cannot be used."""
        link, now_s = self.link, time.monotonic()
        if link is not None:
            self.send({"type": "status", "data_up": False, "orders_up": False, "text": text[:512]})
            link.end("not_ready", text, now_s)
            link.flush(now_s)
            self.forget()

    def forget(self) -> None:
        """Clear the session: its adapter is gone or was replaced."""
        self.link = None
        self.on_end()
        self.log.say("info", "the adapter is gone; orders and positions stay as they are")

    def _make_heartbeat(self) -> Body:
        link = self.link
        assert link is not None
        echo_sent_ns, echo_received_ns = link.echo
        return {
            "type": "heartbeat",
            "sent_ns": time.time_ns(),
            "last_seq_received": link.received,
            "ticks_sent": link.ticks_sent,
            "ticks_dropped": link.ticks_dropped,
            "ticks_waiting": link.ticks_waiting,
            "busy_ms": 0,
            "echo_sent_ns": echo_sent_ns,
            "echo_received_ns": echo_received_ns,
        }
