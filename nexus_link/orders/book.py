"""What NEXUS has asked for, what it knows of it, and what has to be said next. Pure: no socket, no file, no clock.

Each signal passes through three phases, and each has its own way of surviving a lost message:

    open       no word of the gateway yet: sent in every new session, and again now and then. The gateway trades an id
               once, however often it comes.
    answered   there is a report: never sent again, but asked for in every new session, and now and then while something
               of it works. A question cannot trade, whatever has become of the gateway's journal in the meantime.
    final      nothing of it can change: forgotten on disk, remembered in memory so that the same id is not sent again.
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
from .outcomes import SignalOutcome

UNANSWERED_AT_MOST: Final = 1_000
"""More signals without a word of the gateway are not taken: something is wrong, and each of them may yet trade."""
WATCHED_AT_MOST: Final = 1_000
FINAL_AT_MOST: Final = 10_000
Phase = Literal["open", "answered", "final"]
_NO_ANSWER: Final = "no answer of the gateway yet; it may have traded or may still trade"
_NOT_EXECUTED: Final = frozenset((RejectCode.MALFORMED, RejectCode.TOO_LARGE, RejectCode.WRONG_VERSION))
"""Refused for what the message is: the same bytes were refused every time before as well."""


class SignalConflictError(GatewayError):
    """A signal id was used before for another signal, or too many signals wait for an answer. Nothing was sent."""


class BookTiming(Struct, frozen=True, kw_only=True):
    """When to speak again within a session.

    `send_again_ms`: an open signal. `ask_again_ms`: one of which something works or is unknown, since a link that is
    alive may still swallow reports. `remembered_ms`: for how long the gateway surely knows an id (its `retention_ms`).
    """

    send_again_ms: int = 5_000
    ask_again_ms: int = 10_000
    remembered_ms: int = 7 * 86_400_000


class _Entry:
    __slots__ = ("boot_id", "may_have_arrived", "outcome", "phase", "place", "question", "sent", "signal")

    def __init__(self, signal: Signal, *, may_have_arrived: bool) -> None:
        self.signal = signal
        self.phase: Phase = "open"
        self.sent = 0
        # A process before this one may have sent it; then a plain "no" to the repetition proves nothing.
        self.may_have_arrived = may_have_arrived
        self.place: int | None = None  # of its newest entry in the queue of what is due; None = it has none
        self.question = 0  # the newest one; an answer to an older one brings nothing that this one's does not
        self.boot_id = ""
        self.outcome = SignalOutcome(signal_id=signal.signal_id, state=SignalState.UNKNOWN, text=_NO_ANSWER)


class SignalBook:
    """Owned by one thread; only `outcome` and `unknown_symbols` may be called from others.

    Attributes:
        counts: sent, sent_again, asked, reports, old_reports, foreign_reports, rejects, no_longer_watched.
    """

    def __init__(self, timing: BookTiming | None = None) -> None:
        self.counts = dict.fromkeys(
            (
                "sent",
                "sent_again",
                "asked",
                "reports",
                "old_reports",
                "foreign_reports",
                "rejects",
                "no_longer_watched",
            ),
            0,
        )
        self._timing = timing or BookTiming()
        self._entries: dict[str, _Entry] = {}
        self._final: OrderedDict[str, _Entry] = OrderedDict()
        self._open = 0
        self._boot_id = ""
        self._is_up = False
        self._due: list[tuple[int, int, str]] = []
        self._places = itertools.count()
        self._questions: dict[int, str] = {}
        self._request_ids = itertools.count(1)

    @property
    def unanswered(self) -> int:
        """Signals without a word of the gateway."""
        return self._open

    def outcome(self, signal_id: str) -> SignalOutcome | None:
        """What is known of a signal; None for an id that this book has never had, or has long forgotten."""
        entry = self._entries.get(signal_id) or self._final.get(signal_id) or self._entries.get(signal_id)
        return None if entry is None else entry.outcome

    def unknown_symbols(self) -> frozenset[str]:
        """Symbols of which a signal has an unknown outcome, unanswered ones included. Any thread."""
        return frozenset(entry.signal.symbol for entry in list(self._entries.values()) if entry.outcome.is_unknown)

    def next_request_id(self) -> int:
        """A fresh number for a question of somebody else on the same link."""
        return next(self._request_ids)

    def check(self, signal: Signal) -> SignalOutcome | None:
        """Whether a signal is new (None). If it was given before: what is known of it, and it is not sent again.

        Raises:
            SignalConflictError: its id stands for another signal, or too many wait for an answer.
        """
        entry = self._entries.get(signal.signal_id) or self._final.get(signal.signal_id)
        if entry is None:
            if self._open >= UNANSWERED_AT_MOST:
                raise SignalConflictError(
                    f"{self._open} signals have no answer yet, allowed are {UNANSWERED_AT_MOST}; see why the gateway "
                    "is silent before sending more"
                )
            return None
        # When it was decided may differ: a NEXUS that reads its ticks again decides the same at another time.
        if structs.replace(signal, created_ns=entry.signal.created_ns) != entry.signal:
            raise SignalConflictError(
                f"signal id was {signal.signal_id!r}, which stands for another signal of this NEXUS; "
                "use a new id for each decision"
            )
        return entry.outcome

    def add(self, signal: Signal, now_ns: int, *, answered: bool = False, restored: bool = False) -> None:
        """Take in a signal that is in the outbox. `restored`: from the outbox of an earlier process."""
        entry = _Entry(signal, may_have_arrived=restored)
        self._entries[signal.signal_id] = entry
        if answered:
            entry.phase = "answered"
            entry.outcome = structs.replace(entry.outcome, text="answered before this process started; not yet asked")
        else:
            self._open += 1
        self._schedule(entry, now_ns)

    def link_up(self, boot_id: str, now_ns: int) -> None:
        """A new session: nothing that was in flight on the old one can be relied on."""
        self._is_up = True
        self._boot_id = boot_id
        self._questions.clear()
        for entry in self._entries.values():
            self._schedule(entry, now_ns)

    def link_down(self) -> None:
        """The session is over. What is due waits for the next one."""
        self._is_up = False

    def due(self, now_ns: int, at_most: int = 256) -> list[Message]:
        """What to send now, in order. What cannot be sent ends the session, and the next one starts afresh."""
        messages: list[Message] = []
        while self._is_up and self._due and self._due[0][0] <= now_ns and len(messages) < at_most:
            _, place, signal_id = heapq.heappop(self._due)
            entry = self._entries.get(signal_id)
            if entry is None or entry.place != place:
                continue  # its date was moved, or it has ended
            if entry.phase == "open":
                self.counts["sent_again" if entry.sent else "sent"] += 1
                entry.sent += 1
                self._schedule(entry, now_ns + self._timing.send_again_ms * NS_PER_MS)
                messages.append(entry.signal)
            else:
                self.counts["asked"] += 1
                self._questions.pop(entry.question, None)  # a report does not say which question it answers
                entry.question = request_id = next(self._request_ids)
                self._questions[request_id] = signal_id
                if not entry.outcome.is_settled:
                    self._schedule(entry, now_ns + self._timing.ask_again_ms * NS_PER_MS)
                messages.append(Query(request_id=request_id, what=QueryKind.REPORT, signal_id=signal_id))
        return messages

    def next_due_ns(self) -> int | None:
        """When `due` has something next, in the clock that it is given; None while nothing waits."""
        return self._due[0][0] if self._is_up and self._due else None

    def take(self, message: Message, now_ns: int, utc_ns: int) -> SignalOutcome | None:
        """The news in a message of the gateway, None when it has none about a signal as a whole."""
        if isinstance(message, Report):
            return self._take_report(message, now_ns, utc_ns)
        if isinstance(message, Reject):
            self.counts["rejects"] += 1
            return self._take_reject(message, utc_ns)
        if isinstance(message, AdminResult):
            return self._take_result(message, utc_ns)
        return None

    def _take_report(self, report: Report, now_ns: int, utc_ns: int) -> SignalOutcome | None:
        self.counts["reports"] += 1
        entry = self._entries.get(report.signal_id) or self._final.get(report.signal_id)
        if entry is None:
            # Of a process before this one, whose outbox is lost. Its owner wants to know all the same.
            self.counts["foreign_reports"] += 1
            return _outcome_of(report, utc_ns)
        known = entry.outcome.report
        # Another boot of the gateway may rest on an older journal, whose revisions count from an earlier one.
        if known is not None and entry.boot_id == self._boot_id and report.revision < known.revision:
            self.counts["old_reports"] += 1
            return None
        is_news = known is None or not report.has_same_content(known)
        entry.boot_id = self._boot_id
        entry.outcome = self._judge(entry, report, utc_ns)
        self._move_on(entry, now_ns)
        return entry.outcome if is_news else None

    def _judge(self, entry: _Entry, report: Report, utc_ns: int) -> SignalOutcome:
        outcome = _outcome_of(report, utc_ns)
        if (report.symbol, report.side) != (entry.signal.symbol, entry.signal.side):
            # Its report is not ours to show: somebody would count those fills as this signal's.
            text = f"this id stands for another process's signal, {report.side} {report.symbol}; ours was not traded"
            return structs.replace(
                outcome, state=SignalState.REJECTED, code=RejectCode.DUPLICATE_SIGNAL, text=text, report=None
            )
        if self._may_be_forgotten(entry, report):
            text = f"the gateway refused it as stale, but it may have traded it before and forgotten: {report.text}"
            return structs.replace(outcome, state=SignalState.UNKNOWN, text=text)
        return outcome

    def _take_reject(self, reject: Reject, utc_ns: int) -> SignalOutcome | None:
        entry = self._entries.get(reject.signal_id)
        # With a platform it is about a leg, and unknown_signal answers a change; neither is about a signal as a whole.
        if entry is None or entry.phase != "open" or reject.platform or reject.code is RejectCode.UNKNOWN_SIGNAL:
            return None
        certain = entry.sent == 1 and not entry.may_have_arrived
        if not certain and reject.code not in _NOT_EXECUTED:
            return None  # it may have been taken in before this refusal: it stays unknown and is sent again
        entry.outcome = SignalOutcome(
            signal_id=reject.signal_id,
            state=SignalState.REJECTED,
            code=reject.code,
            text=reject.text,
            told_ns=utc_ns,
        )
        self._end(entry)
        return entry.outcome

    def _take_result(self, result: AdminResult, utc_ns: int) -> SignalOutcome | None:
        entry = self._entries.get(self._questions.pop(result.request_id, ""))
        if entry is None or result.accepted or result.code is not RejectCode.UNKNOWN_SIGNAL:
            return None
        text = "the gateway no longer knows this signal, which it had answered; compare the platforms' positions"
        entry.outcome = structs.replace(
            entry.outcome, state=SignalState.UNKNOWN, code=result.code, text=text, told_ns=utc_ns
        )
        entry.place = None  # asking again would bring nothing; the next session may, after a restored journal
        return entry.outcome

    def _may_be_forgotten(self, entry: _Entry, report: Report) -> bool:
        if report.code is not RejectCode.STALE_SIGNAL or report.duplicate:
            return False
        age_ns = report.received_ns - entry.signal.created_ns
        return (entry.may_have_arrived or entry.sent > 1) and age_ns > self._timing.remembered_ms * NS_PER_MS

    def _move_on(self, entry: _Entry, now_ns: int) -> None:
        """Next phase of a signal of which a report has come; a late fill or bust can bring a final one back."""
        if entry.outcome.is_final:
            self._end(entry)
            return
        self._enter(entry, "answered")
        if entry.outcome.is_settled:
            entry.place = None
        else:
            self._schedule(entry, now_ns + self._timing.ask_again_ms * NS_PER_MS)

    def _end(self, entry: _Entry) -> None:
        self._enter(entry, "final")
        entry.place = None
        if len(self._final) > FINAL_AT_MOST:
            self._final.popitem(last=False)

    def _enter(self, entry: _Entry, phase: Phase) -> None:
        signal_id = entry.signal.signal_id
        self._open -= entry.phase == "open"
        old = self._final if entry.phase == "final" else self._entries
        new = self._final if phase == "final" else self._entries
        entry.phase = phase
        if new is not old:
            new[signal_id] = entry  # before it leaves the other: threads that ask in between must find it
            del old[signal_id]

    def forget(self, signal_id: str) -> bool:
        """Stop asking for an answered signal: a person knows better. False for one that is open, final or not known."""
        entry = self._entries.get(signal_id)
        if entry is None or entry.phase == "open":
            return False
        self._end(entry)
        return True

    def forget_oldest(self) -> list[str]:
        """Ids of answered signals beyond `WATCHED_AT_MOST`, the oldest first: from now on nobody asks for them."""
        beyond = len(self._entries) - self._open - WATCHED_AT_MOST
        if beyond <= 0:
            return []
        oldest = (entry for entry in self._entries.values() if entry.phase == "answered")
        gone = list(itertools.islice(oldest, beyond))
        for entry in gone:
            self._end(entry)
        self.counts["no_longer_watched"] += len(gone)
        return [entry.signal.signal_id for entry in gone]

    def is_final(self, signal_id: str) -> bool:
        """Whether the signal has ended for this book, so that the outbox need not keep it."""
        return signal_id in self._final

    def _schedule(self, entry: _Entry, due_ns: int) -> None:
        entry.place = next(self._places)
        heapq.heappush(self._due, (due_ns, entry.place, entry.signal.signal_id))


def _outcome_of(report: Report, utc_ns: int) -> SignalOutcome:
    return SignalOutcome(
        signal_id=report.signal_id,
        state=report.state,
        code=report.code,
        text=report.text,
        report=report,
        told_ns=utc_ns,
    )
