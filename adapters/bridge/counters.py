"""Counters of a bridge's sessions, and their lines in the log."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from ...core.logs import Log
from ...shm.counters import CountersPage
from ...shm.durations import NS_PER_MS, NS_PER_S
from .messages import BridgeHello, Notice
from .session import BridgeSession
from .symbols import BridgeSymbols
from .ticks import TickIntake

BRIDGE_COUNTERS: Final = (
    "bridge_ticks_refused",
    "bridge_quotes_gated",
    "bridge_symbols_refused",
    "bridge_gaps",
    "bridge_commands_unanswered",
    "bridge_snapshots_late",
    "bridge_events_elsewhere",
    "bridge_clock_offset_us",
    "bridge_round_trip_us",
    "bridge_ticks_waiting",
    "bridge_busy_ms",
)
_CLOCK_LIMIT_NS: Final = NS_PER_S
_NOTICE_EVERY_NS: Final = NS_PER_S


class BridgeCounters:
    """The counters that only a bridged platform has."""

    def __init__(self, page: CountersPage, log: Log, *, shows_link: bool = True) -> None:
        """`shows_link`: publish clock and queue of this bridge. False where the platform's other bridge does."""
        self._symbols_refused = page.counter("bridge_symbols_refused")
        self._gaps = page.counter("bridge_gaps")
        self.commands_unanswered = page.counter("bridge_commands_unanswered")
        self.snapshots_late = page.counter("bridge_snapshots_late")
        self.events_elsewhere = page.counter("bridge_events_elsewhere")
        self._ticks_refused = page.counter("bridge_ticks_refused")
        self._quotes_gated = page.counter("bridge_quotes_gated")
        self._dropped_at_source = page.counter("ticks_dropped_at_source")
        self._clock_offset = page.counter("bridge_clock_offset_us")
        self._round_trip = page.counter("bridge_round_trip_us")
        self._waiting = page.counter("bridge_ticks_waiting")
        self._busy = page.counter("bridge_busy_ms")
        self._shows_link = shows_link
        self._log = log
        self._notice_due_ns = 0
        self.begin_session()

    def begin_session(self) -> None:
        """Reset the counts that are of one session."""
        self._refused = 0
        self._gated = 0
        self._unanswered = 0
        self._dropped = 0
        self._faults = 0
        self._clock_reported = False

    def report_answers(self, answers: BridgeSymbols, names: Collection[str], unnamed: int) -> dict[str, str]:
        """Log and count the symbols without data, and those of `names` whose ticks may have a gap.

        Args:
            unnamed: number of symbols that the platform has no name for.

        Returns:
            Symbols without data, with the reason.
        """
        refusals = answers.refusals()
        self._symbols_refused.set(len(refusals) + unnamed)
        for name, reason in refusals.items():
            if name in names:
                cure = "look the name up at the platform, and write it into settings.names"
                self._log.error("symbol without data", symbol=name, reason=reason, cure=cure)
        for name, reason in answers.gaps().items():
            if name in names:
                self._gaps.add()
                self._log.warning("ticks may have a gap since the last session", symbol=name, reason=reason)
        return refusals

    def log_hello(self, hello: BridgeHello, wanted_account: str | None, *, wants_orders: bool) -> None:
        """Log what the bridge is connected to, and what keeps its platform from trading."""
        self._log.info(
            "bridge is there", platform_version=hello.platform_version, text=hello.text, details=dict(hello.details)
        )
        if not hello.data_up or not (hello.orders_up or not wants_orders):
            self._log.warning("platform is not fit", data=hello.data_up, orders=hello.orders_up, reason=hello.text)
        if hello.choose_account(wanted_account) is None:
            self._log.warning(
                "no account to trade",
                wanted=wanted_account,
                accounts=[each.name for each in hello.accounts],
                cure="log in to it at the platform, or name one of these in settings.account",
            )

    def log_notice(self, notice: Notice) -> None:
        """Log a notice of the bridge, one a second at most."""
        now_ns = time.monotonic_ns()
        if now_ns >= self._notice_due_ns:
            self._notice_due_ns = now_ns + _NOTICE_EVERY_NS
            write = {"info": self._log.info, "warning": self._log.warning, "error": self._log.error}[notice.level]
            write("the bridge says", text=notice.text)

    def update(self, session: BridgeSession, intake: TickIntake) -> None:
        """Add what has changed since the last call; cheap when nothing has."""
        if intake.refused != self._refused:
            self._ticks_refused.add(intake.refused - self._refused)
            self._refused = intake.refused
            if intake.faults != self._faults:
                self._faults = intake.faults
                self._log.warning("ticks refused", so_far=intake.refused, wrong=str(intake.faults))
        if intake.blanked != self._gated:
            self._quotes_gated.add(intake.blanked - self._gated)
            self._gated = intake.blanked
        if session.unanswered != self._unanswered:
            self.commands_unanswered.add(session.unanswered - self._unanswered)
            self._unanswered = session.unanswered
            self._log.error("a command has no answer: its outcome is unknown", so_far=self._unanswered)
        beat = session.heartbeat
        if beat is None:
            return
        self._dropped_at_source.add(beat.ticks_dropped - self._dropped)
        self._dropped = beat.ticks_dropped
        if self._shows_link:
            self._waiting.set(beat.ticks_waiting)
            self._busy.set(beat.busy_ms)
            self._clock_offset.set(session.clock.offset_ns // 1000)
            self._round_trip.set(session.clock.round_trip_ns // 1000)
        if abs(session.clock.offset_ns) > _CLOCK_LIMIT_NS and not self._clock_reported:
            self._clock_reported = True
            self._log.warning(
                "the bridge's clock is off",
                offset_ms=session.clock.offset_ns // NS_PER_MS,
                cure="synchronise the clocks of both machines",
            )
