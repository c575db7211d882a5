"""What NEXUS believes and says next, without sockets or clocks: phases, revisions, doubts, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from nexus_gateway.core.messages import AdminResult, Query, RejectCode, Signal, SignalState
from nexus_gateway.nexus_link.orders import book as signal_book
from nexus_gateway.nexus_link.orders.book import BookTiming, SignalBook, SignalConflictError

from tests.support.scripted_gateway import make_report, make_signal, refuse

MS = 1_000_000
DAY_NS = 86_400 * 10**9
TIMING = BookTiming(send_again_ms=5_000, ask_again_ms=10_000)


def book_with(*signal_ids: str, restored: bool = False) -> SignalBook:
    book = SignalBook(TIMING)
    for signal_id in signal_ids:
        book.add(make_signal(signal_id), 0, restored=restored)
    book.link_up("boot-1", 0)
    return book


def sent(book: SignalBook, now_ns: int) -> list[str]:
    """Ids of what is due: a signal's own, a question's with a mark."""
    return [
        message.signal_id if isinstance(message, Signal) else f"?{message.signal_id}"
        for message in book.pop_due(now_ns)
        if isinstance(message, Signal | Query)
    ]


def test_open_signals_go_in_order_and_again_after_a_while():
    book = book_with("a", "b")
    assert sent(book, 0) == ["a", "b"]
    assert sent(book, 4_999 * MS) == []
    assert book.next_due_ns() == 5_000 * MS
    assert sent(book, 5_000 * MS) == ["a", "b"]
    assert book.counts["sent"] == book.counts["sent_again"] == 2


def test_nothing_is_due_without_a_session_and_everything_in_a_new_one():
    book = book_with("a", "b")
    sent(book, 0)
    book.apply_message(make_report(make_signal("a"), SignalState.WORKING), 0, 1)
    book.link_down()
    assert book.next_due_ns() is None
    assert sent(book, 60_000 * MS) == []
    book.link_up("boot-2", 60_000 * MS)
    assert sorted(sent(book, 60_000 * MS)) == ["?a", "b"]


def test_what_is_settled_is_asked_for_in_new_sessions_only():
    book = book_with("a")
    sent(book, 0)
    book.apply_message(make_report(make_signal("a"), SignalState.FILLED), 0, 1)
    assert sent(book, 3_600_000 * MS) == []
    book.link_up("boot-1", 3_600_000 * MS)
    assert sent(book, 3_600_000 * MS) == ["?a"]
    assert sent(book, 7_200_000 * MS) == []


def test_questions_of_a_long_session_do_not_pile_up():
    book = book_with("a")
    sent(book, 0)
    book.apply_message(make_report(make_signal("a"), SignalState.WORKING), 0, 1)
    for hour in range(1, 50):
        assert sent(book, hour * 3_600_000 * MS) == ["?a"]
    assert len(book._queries) == 1
    newest = next(iter(book._queries))
    lost = AdminResult(request_id=newest, accepted=False, done=False, code=RejectCode.UNKNOWN_SIGNAL)
    assert book.apply_message(lost, 0, 2).code is RejectCode.UNKNOWN_SIGNAL


def test_an_older_revision_is_no_news_but_another_boot_may_count_from_an_older_journal():
    book = book_with("a")
    assert book.apply_message(make_report(make_signal("a"), SignalState.FILLED, revision=5), 0, 1) is not None
    assert book.apply_message(make_report(make_signal("a"), SignalState.WORKING, revision=4), 0, 2) is None
    assert (
        book.apply_message(make_report(make_signal("a"), SignalState.FILLED, revision=6, changed_ns=9), 0, 3)
        is not None
    )
    assert book.outcome("a").state is SignalState.FILLED
    assert book.counts["old_reports"] == 1
    book.link_up("boot-2", 0)
    older = book.apply_message(make_report(make_signal("a"), SignalState.WORKING, revision=2), 0, 4)
    assert older is not None
    assert book.outcome("a").state is SignalState.WORKING


def test_the_same_report_again_is_no_news():
    book = book_with("a")
    signal = make_signal("a")
    report = make_report(signal, SignalState.FILLED, received_ns=1)
    assert book.apply_message(report, 0, 1) is not None
    assert book.apply_message(make_report(signal, SignalState.FILLED, received_ns=1, duplicate=True), 0, 2) is None


def test_a_final_signal_comes_back_with_a_late_fill():
    book = book_with("a")
    book.apply_message(make_report(make_signal("a"), SignalState.NOT_FILLED), 0, 1)
    assert book.is_final("a")
    assert book.unanswered == 0
    assert book.apply_message(make_report(make_signal("a"), SignalState.FILLED, revision=2), 0, 2) is not None
    assert not book.is_final("a")
    book.link_up("boot-1", 0)
    assert sent(book, 0) == ["?a"]


def test_a_stale_refusal_of_what_the_gateway_may_have_forgotten_is_unknown():
    signal = make_signal("a")
    late = {"code": RejectCode.STALE_SIGNAL, "legs": (), "received_ns": signal.created_ns + 8 * DAY_NS}
    book = book_with("a", restored=True)
    outcome = book.apply_message(make_report(signal, SignalState.REJECTED, **late), 0, 1)
    assert outcome.is_unknown
    assert "may have traded it before" in outcome.text
    # Asked for again, it stays so: the gateway's refusal is all that there is.
    book.apply_message(make_report(signal, SignalState.REJECTED, revision=2, **late), 0, 2)
    assert book.outcome("a").is_unknown
    # Within the time that the gateway remembers, its word is proof.
    soon = late | {"received_ns": signal.created_ns + 6 * DAY_NS}
    book = book_with("a", restored=True)
    assert book.apply_message(make_report(signal, SignalState.REJECTED, **soon), 0, 1).state is SignalState.REJECTED


def test_a_refusal_of_a_change_says_nothing_about_the_signal():
    book = book_with("a")
    sent(book, 0)
    assert book.apply_message(refuse(make_signal("a"), RejectCode.UNKNOWN_SIGNAL), 0, 1) is None
    assert book.outcome("a").is_unknown
    assert book.apply_message(refuse(make_signal("stranger"), RejectCode.MALFORMED), 0, 1) is None


def test_too_many_without_an_answer_are_not_taken(monkeypatch):
    monkeypatch.setattr(signal_book, "MAX_UNANSWERED", 2)
    book = book_with("a", "b")
    with pytest.raises(SignalConflictError, match="2 signals have no answer yet, allowed are 2"):
        book.find_duplicate(make_signal("c"))
    assert book.find_duplicate(make_signal("a", targets=make_signal("a").targets)) is not None


def test_the_oldest_answered_are_let_go_and_counted(monkeypatch):
    monkeypatch.setattr(signal_book, "MAX_WATCHED", 2)
    book = book_with("open", "a", "b", "c")
    for signal_id in ("a", "b", "c"):
        book.apply_message(make_report(make_signal(signal_id), SignalState.FILLED), 0, 1)
    assert book.forget_oldest() == ["a"]
    assert book.forget_oldest() == []
    assert book.counts["no_longer_watched"] == 1
    assert book.outcome("a").state is SignalState.FILLED  # still known, and not sent a second time
    assert not book.forget("open")


def test_final_ones_are_remembered_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(signal_book, "MAX_FINAL", 2)
    book = book_with("a", "b", "c")
    for signal_id in ("a", "b", "c"):
        book.apply_message(make_report(make_signal(signal_id), SignalState.CLOSED), 0, 1)
    assert book.outcome("a") is None
    assert book.outcome("c").is_final


def test_a_burst_is_paced():
    book = book_with(*(f"s{number}" for number in range(600)))
    assert [len(book.pop_due(0)) for _ in range(4)] == [256, 256, 88, 0]


STEPS = some.lists(
    some.one_of(
        some.tuples(
            some.just("report"), some.sampled_from("abc"), some.sampled_from(list(SignalState)), some.integers(1, 9)
        ),
        some.tuples(some.just("reject"), some.sampled_from("abc"), some.sampled_from(list(RejectCode))),
        some.tuples(some.just("result"), some.integers(0, 20), some.booleans()),
        some.tuples(some.just("due"), some.integers(0, 20_000)),
        some.tuples(some.just("up"), some.sampled_from(["x", "y"])),
        some.tuples(some.just("down")),
        some.tuples(some.just("add"), some.sampled_from("abc")),
        some.tuples(some.just("forget"), some.sampled_from("abc")),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_whatever_comes_an_answered_signal_is_never_sent_again(steps):
    book = SignalBook(TIMING)
    now_ns = 0
    answered: set[str] = set()
    for step in steps:
        if step[0] == "report":
            book.apply_message(make_report(make_signal(step[1]), step[2], revision=step[3]), now_ns, now_ns)
            if book.outcome(step[1]) is not None:
                answered.add(step[1])
        elif step[0] == "reject":
            book.apply_message(refuse(make_signal(step[1]), step[2]), now_ns, now_ns)
        elif step[0] == "result":
            result = AdminResult(request_id=step[1], accepted=step[2], done=False, code=RejectCode.UNKNOWN_SIGNAL)
            book.apply_message(result, now_ns, now_ns)
        elif step[0] == "due":
            now_ns += step[1] * MS
            for message in book.pop_due(now_ns):
                assert not (isinstance(message, Signal) and message.signal_id in answered)
        elif step[0] == "up":
            book.link_up(step[1], now_ns)
        elif step[0] == "down":
            book.link_down()
        elif step[0] == "forget":
            book.forget(step[1])
        elif book.find_duplicate(make_signal(step[1])) is None:
            book.add(make_signal(step[1]), now_ns)
        phases = [entry.phase for entry in book._entries.values()]
        assert book.unanswered == phases.count("open")
        assert not set(book._entries) & set(book._final)
