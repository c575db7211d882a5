"""The state of every signal of one NEXUS, and the messages that are due. Pure: no socket, no file, no clock.

Each signal passes through three phases. Each phase recovers from a lost message in its own way:

    open       no response of the gateway yet. Sent in every new session, and resent at intervals. Safe, because the
               gateway executes a signal id once, however often it arrives.
    answered   a report has been received. Never sent again; its report is queried in every new session, and at
               intervals while an order works or is unknown. A query cannot trade, even if the gateway has lost its
               journal meanwhile; a resend could.
    final      nothing of it can change. Removed from disk, kept in memory so that the same id is not sent again.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from typing import Final, Literal

from msgspec import Struct, structs

from ...core.errors import GatewayError
from ...core.messages import (
    AdminResult,
    Message,
    Query,
    QueryKind,
    Reject,
    RejectCode,
    Report,
    Signal,
    SignalState,
)
from ...shm.durations import NS_PER_MS
from .outcomes import SignalOutcome, outcome_of_report

MAX_UNANSWERED: Final = 1_000
"""Further signals are refused while so many have no response: something is wrong, and each of them may yet trade."""
MAX_WATCHED: Final = 1_000
"""Answered signals whose reports are queried; the oldest beyond this are no longer watched."""
MAX_FINAL: Final = 10_000
"""Final signals kept in memory to recognize a repeated id; the oldest beyond this are forgotten."""
_SENT: Final = ("sent", "sent_again", "asked")
_RECEIVED: Final = ("reports", "old_reports", "foreign_reports", "rejects", "no_longer_watched")
Phase = Literal["open", "answered", "final"]
_NO_ANSWER: Final = "no answer of the gateway yet; it may have traded or may still trade"
_NOT_EXECUTED: Final = frozenset((RejectCode.MALFORMED, RejectCode.TOO_LARGE, RejectCode.WRONG_VERSION))
"""Refused because of the message itself: the same bytes were refused each time they were sent before."""


class SignalConflictError(GatewayError):
    """The signal id was already used for another signal, or too many signals wait for an answer. Nothing was sent."""


class BookTiming(Struct, frozen=True, kw_only=True):
    """Intervals of resends and queries within a session.

    Attributes:
        send_again_ms: until an open signal is sent again.
        ask_again_ms: until the report of a signal that is not settled is queried again: a live link can still have
            dropped a report.
        remembered_ms: how long the gateway is certain to know a signal id (its `retention_ms`).
    """

    send_again_ms: int = 5_000
    ask_again_ms: int = 10_000
    remembered_ms: int = 7 * 86_400_000


class _Entry:
    __slots__ = ("boot_id", "due_number", "may_have_arrived", "outcome", "phase", "query_id", "signal", "times_sent")

    def __init__(self, signal: Signal, *, may_have_arrived: bool) -> None:
        self.signal = signal
        self.phase: Phase = "open"
        self.times_sent = 0  # by this process
        # An earlier process may have sent it. A reject of the resend then does not prove that it never traded.
        self.may_have_arrived = may_have_arrived
        self.due_number: int | None = None  # its valid entry in the queue of due times; None = nothing is due
        self.query_id = 0  # request id of its newest query; the result of an older one is ignored
        self.boot_id = ""  # the gateway's, when its newest report was received
        self.outcome = SignalOutcome(signal_id=signal.signal_id, state=SignalState.UNKNOWN, text=_NO_ANSWER)


class SignalBook:
    """Holds the phase and newest outcome of each signal, and decides what is sent when.

    Owned by `SignalDesk`, in the link's thread; only `outcome` and `unknown_symbols` may be called from other threads.

    Attributes:
        counts: sent, sent_again, asked, reports, old_reports, foreign_reports, rejects, no_longer_watched.
    """

    def __init__(self, timing: BookTiming | None = None) -> None:
        self.counts = dict.fromkeys(_SENT + _RECEIVED, 0)
        self._timing = timing or BookTiming()
        self._entries: dict[str, _Entry] = {}
        self._final: OrderedDict[str, _Entry] = OrderedDict()
        self._open = 0
        self._boot_id = ""
        self._is_up = False
        self._due: list[tuple[int, int, str]] = []  # heap of (due_ns, due_number, signal id); outdated entries stay
        self._due_numbers = itertools.count()
        self._queries: dict[int, str] = {}  # signal id by request id, of queries without a result
        self._request_ids = itertools.count(1)

    @property
    def unanswered(self) -> int:
        """Signals without a response of the gateway."""
        return self._open

    def outcome(self, signal_id: str) -> SignalOutcome | None:
        """The newest outcome of a signal; None for an id that this book never had or has dropped. Any thread."""
        # `_enter` moves an entry between the two: looked up a second time, it is found whichever way it was moving.
        entry = self._entries.get(signal_id) or self._final.get(signal_id) or self._entries.get(signal_id)
        return None if entry is None else entry.outcome

    def unknown_symbols(self) -> frozenset[str]:
        """Symbols on which a signal has an unknown outcome, unanswered ones included. Any thread."""
        return frozenset(entry.signal.symbol for entry in list(self._entries.values()) if entry.outcome.is_unknown)

    def next_request_id(self) -> int:
        """A new request id, for the other kinds of queries on the same link."""
        return next(self._request_ids)

    def find_duplicate(self, signal: Signal) -> SignalOutcome | None:
        """The outcome of the same signal if it was added before, so that it is not sent twice; None if it is new.

        Raises:
            SignalConflictError: the id was used for another signal, or too many signals wait for an answer.
        """
        entry = self._entries.get(signal.signal_id) or self._final.get(signal.signal_id)
        if entry is None:
            if self._open >= MAX_UNANSWERED:
                raise SignalConflictError(
                    f"{self._open} signals have no answer yet, allowed are {MAX_UNANSWERED}; see why the gateway "
                    "is silent before sending more"
                )
            return None
        # `created_ns` may differ: a restarted NEXUS that reads the same ticks makes the same signal at a later time.
        if structs.replace(signal, created_ns=entry.signal.created_ns) != entry.signal:
            raise SignalConflictError(
                f"signal id was {signal.signal_id!r}, which stands for another signal of this NEXUS; "
                "use a new id for each decision"
            )
        return entry.outcome

    def add(self, signal: Signal, now_ns: int, *, answered: bool = False, restored: bool = False) -> None:
        """Add a signal that is in the outbox. `restored`: by an earlier process. `answered`: a report had come."""
        entry = _Entry(signal, may_have_arrived=restored)
        self._entries[signal.signal_id] = entry
        if answered:
            entry.phase = "answered"
            entry.outcome = structs.replace(entry.outcome, text="answered before this process started; not yet asked")
        else:
            self._open += 1
        self._schedule(entry, now_ns)

    def link_up(self, boot_id: str, now_ns: int) -> None:
        """A session begins: send each open signal and query each answered one, since messages of the session before
        may be lost. `boot_id`: the gateway's.
        """
        self._is_up = True
        self._boot_id = boot_id
        self._queries.clear()
        for entry in self._entries.values():
            self._schedule(entry, now_ns)

    def link_down(self) -> None:
        """The session has ended. Nothing is due until the next one."""
        self._is_up = False

    def pop_due(self, now_ns: int, at_most: int = 256) -> list[Message]:
        """The messages to send now, in order. They count as sent: if sending fails, the session must end, and the
        next one sends everything again.
        """
        messages: list[Message] = []
        while self._is_up and self._due and self._due[0][0] <= now_ns and len(messages) < at_most:
            _, due_number, signal_id = heapq.heappop(self._due)
            entry = self._entries.get(signal_id)
            if entry is None or entry.due_number != due_number:
                continue  # outdated: it was rescheduled, or the signal is final
            if entry.phase == "open":
                self.counts["sent_again" if entry.times_sent else "sent"] += 1
                entry.times_sent += 1
                self._schedule(entry, now_ns + self._timing.send_again_ms * NS_PER_MS)
                messages.append(entry.signal)
            else:
                self.counts["asked"] += 1
                # A report carries no request id, so a query that it answered is still in the table: drop it here.
                self._queries.pop(entry.query_id, None)
                entry.query_id = request_id = next(self._request_ids)
                self._queries[request_id] = signal_id
                if not entry.outcome.is_settled:
                    self._schedule(entry, now_ns + self._timing.ask_again_ms * NS_PER_MS)
                messages.append(Query(request_id=request_id, what=QueryKind.REPORT, signal_id=signal_id))
        return messages

    def next_due_ns(self) -> int | None:
        """Due time of the next message, by the clock given to `pop_due`; None while nothing waits."""
        return self._due[0][0] if self._is_up and self._due else None

    def apply_message(self, message: Message, now_ns: int, utc_ns: int) -> SignalOutcome | None:
        """Apply a message of the gateway; returns the signal's new outcome, None if it changed none.

        Args:
            now_ns: steady clock, as given to `pop_due`.
            utc_ns: for `SignalOutcome.told_ns`.
        """
        if isinstance(message, Report):
            return self._apply_report(message, now_ns, utc_ns)
        if isinstance(message, Reject):
            self.counts["rejects"] += 1
            return self._apply_reject(message, utc_ns)
        if isinstance(message, AdminResult):
            return self._apply_result(message, utc_ns)
        return None

    def _apply_report(self, report: Report, now_ns: int, utc_ns: int) -> SignalOutcome | None:
        self.counts["reports"] += 1
        entry = self._entries.get(report.signal_id) or self._final.get(report.signal_id)
        if entry is None:
            # Of an earlier process of this name whose outbox is lost. Its fills are this owner's, so report them.
            self.counts["foreign_reports"] += 1
            return outcome_of_report(report, utc_ns)
        known = entry.outcome.report
        # Only within one boot of the gateway is a lower revision older: after a restart on a restored journal the
        # revisions continue from a lower number, and dropping them would hide every later change.
        if known is not None and entry.boot_id == self._boot_id and report.revision < known.revision:
            self.counts["old_reports"] += 1
            return None
        is_news = known is None or not report.has_same_content(known)
        entry.boot_id = self._boot_id
        entry.outcome = self._make_outcome(entry, report, utc_ns)
        self._advance(entry, now_ns)
        return entry.outcome if is_news else None

    def _make_outcome(self, entry: _Entry, report: Report, utc_ns: int) -> SignalOutcome:
        outcome = outcome_of_report(report, utc_ns)
        if (report.symbol, report.side) != (entry.signal.symbol, entry.signal.side):
            # Without the report: its fills are another process's, and would be counted as this signal's.
            text = f"this id stands for another process's signal, {report.side} {report.symbol}; ours was not traded"
            return structs.replace(
                outcome, state=SignalState.REJECTED, code=RejectCode.DUPLICATE_SIGNAL, text=text, report=None
            )
        if self._may_have_been_forgotten(entry, report):
            text = f"the gateway refused it as stale, but it may have traded it before and forgotten: {report.text}"
            return structs.replace(outcome, state=SignalState.UNKNOWN, text=text)
        return outcome

    def _apply_reject(self, reject: Reject, utc_ns: int) -> SignalOutcome | None:
        entry = self._entries.get(reject.signal_id)
        # Only a reject of the whole signal ends it: with a platform it is about one leg, `unknown_signal` is the answer
        # to a cancel, replace or close.
        if entry is None or entry.phase != "open" or reject.platform or reject.code is RejectCode.UNKNOWN_SIGNAL:
            return None
        # A reject proves that nothing traded only if this was the sole copy ever sent: an earlier copy may have been
        # accepted, and the signal then stays unknown and is resent until a report comes.
        is_only_copy = entry.times_sent == 1 and not entry.may_have_arrived
        if not is_only_copy and reject.code not in _NOT_EXECUTED:
            return None
        entry.outcome = SignalOutcome(
            signal_id=reject.signal_id,
            state=SignalState.REJECTED,
            code=reject.code,
            text=reject.text,
            told_ns=utc_ns,
        )
        self._end(entry)
        return entry.outcome

    def _apply_result(self, result: AdminResult, utc_ns: int) -> SignalOutcome | None:
        """Result of a query; only "unknown signal" matters: a signal that is known is answered by its report."""
        entry = self._entries.get(self._queries.pop(result.request_id, ""))
        if entry is None or result.accepted or result.code is not RejectCode.UNKNOWN_SIGNAL:
            return None
        text = "the gateway no longer knows this signal, which it had answered; compare the platforms' positions"
        entry.outcome = structs.replace(
            entry.outcome, state=SignalState.UNKNOWN, code=result.code, text=text, told_ns=utc_ns
        )
        entry.due_number = None  # no query until the next session: only a restored journal can change the answer
        return entry.outcome

    def _may_have_been_forgotten(self, entry: _Entry, report: Report) -> bool:
        """Whether the gateway may have executed the signal and then dropped its id by age. It then refuses the resend
        as a new signal that is too old; taking that as "not traded" could double the position.
        """
        if report.code is not RejectCode.STALE_SIGNAL or report.duplicate:
            return False
        age_ns = report.received_ns - entry.signal.created_ns
        return (entry.may_have_arrived or entry.times_sent > 1) and age_ns > self._timing.remembered_ms * NS_PER_MS

    def _advance(self, entry: _Entry, now_ns: int) -> None:
        """Set the phase after a report. A final signal becomes answered again after a late fill or a bust."""
        if entry.outcome.is_final:
            self._end(entry)
            return
        self._enter(entry, "answered")
        if entry.outcome.is_settled:
            entry.due_number = None
        else:
            self._schedule(entry, now_ns + self._timing.ask_again_ms * NS_PER_MS)

    def _end(self, entry: _Entry) -> None:
        self._enter(entry, "final")
        entry.due_number = None
        if len(self._final) > MAX_FINAL:
            self._final.popitem(last=False)

    def _enter(self, entry: _Entry, phase: Phase) -> None:
        signal_id = entry.signal.signal_id
        self._open -= entry.phase == "open"
        old = self._final if entry.phase == "final" else self._entries
        new = self._final if phase == "final" else self._entries
        entry.phase = phase
        if new is not old:
            new[signal_id] = entry  # before the deletion: a thread that calls `outcome` in between must find it
            del old[signal_id]

    def forget(self, signal_id: str) -> bool:
        """End an answered signal whose outcome a person has established. False: it is open, final or not known."""
        entry = self._entries.get(signal_id)
        if entry is None or entry.phase == "open":
            return False
        self._end(entry)
        return True

    def forget_oldest(self) -> list[str]:
        """End the oldest answered signals beyond `MAX_WATCHED` and return their ids; they are no longer queried."""
        beyond = len(self._entries) - self._open - MAX_WATCHED
        if beyond <= 0:
            return []
        oldest = (entry for entry in self._entries.values() if entry.phase == "answered")
        gone = list(itertools.islice(oldest, beyond))
        for entry in gone:
            self._end(entry)
        self.counts["no_longer_watched"] += len(gone)
        return [entry.signal.signal_id for entry in gone]

    def is_final(self, signal_id: str) -> bool:
        """Whether the signal is in its final phase, so that the outbox need not keep it."""
        return signal_id in self._final

    def _schedule(self, entry: _Entry, due_ns: int) -> None:
        entry.due_number = next(self._due_numbers)  # outdates the entry's older place in the heap
        heapq.heappush(self._due, (due_ns, entry.due_number, entry.signal.signal_id))
