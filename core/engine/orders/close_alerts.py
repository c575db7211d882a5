"""Say why a leg that is being closed is not closed yet: in its report, and again and again to a person."""

from __future__ import annotations

from typing import Final

from ....shm.durations import NS_PER_S
from ...messages import RejectCode
from ..state import LegRecord, SignalRecord
from ..turn import Turn

_ALERT_NS: Final = 300 * NS_PER_S
"""Between two alerts about a leg that does not close."""


def explain(turn: Turn, signal: SignalRecord, leg: LegRecord, text: str) -> bool:
    """Say in the leg's report why no closing order leaves now; empty = nothing is in the way. True: it is news."""
    if leg.closing_waits == text:
        return False
    leg.closing_waits = text
    turn.touch(signal.signal.signal_id)
    return True


def explain_and_alert(turn: Turn, signal: SignalRecord, leg: LegRecord, text: str) -> None:
    """Say what is in the way, and alert it again and again."""
    explain(turn, signal, leg, text)
    if turn.now_ns - leg.exit_alert_ns >= _ALERT_NS:
        leg.exit_alert_ns = turn.now_ns
        text = f"{signal.signal.signal_id} {leg.platform}: still holds {leg.open:+f} {leg.symbol}; {text}"
        turn.alert(RejectCode.PLATFORM_REJECTED, text[:1_000], leg.platform)
    turn.look_again(leg, leg.exit_alert_ns + _ALERT_NS)


def report_stuck(turn: Turn, signal: SignalRecord, leg: LegRecord, text: str) -> None:
    """Say that closing makes no progress without a person, and alert it again and again."""
    is_news = leg.text != text
    if is_news:
        leg.code, leg.text = RejectCode.OUTCOME_UNKNOWN, text
        turn.touch(signal.signal.signal_id)
    if is_news or turn.now_ns - leg.exit_alert_ns >= _ALERT_NS:
        leg.exit_alert_ns = turn.now_ns
        turn.alert(leg.code, f"{signal.signal.signal_id} {leg.platform}: {text}", leg.platform)
    turn.look_again(leg, leg.exit_alert_ns + _ALERT_NS)
