"""The legal changes of an order's state (OrdStatus, FIX 39): one table, each row with a case in which it happens.

Statuses, executions and snapshots come by ways of their own, so they may overtake each other, come twice or be lost.
What has no row here cannot have happened as it is reported: it is alerted, and not applied.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from ...messages import LegState


class OrderEvent(StrEnum):
    """What is known to have happened to an order."""

    ACKNOWLEDGED = "acknowledged"  # reported or listed as working, and no execution of it is booked
    ACKNOWLEDGED_PARTIAL = "acknowledged_partial"  # reported or listed as working, and some lots are booked
    EXECUTED = "executed"  # an execution was booked, and they do not add up to its size
    COMPLETED = "completed"  # the booked executions add up to its size
    BUSTED = "busted"  # an execution was taken back, and they do not add up to its size any more
    CANCELLED = "cancelled"  # reported as cancelled, or gone from the snapshots
    REJECTED = "rejected"  # reported as rejected, or never seen in the snapshots
    EXPIRED = "expired"  # reported as expired
    UNANSWERED = "unanswered"  # an answer is overdue, or the platform does not know it
    REAPPEARED = "reappeared"  # it had ended, and is listed as working or trades


class Transition(NamedTuple):
    """One row. `state`: the state after the event, often the same one. `case`: how it comes to it."""

    state: LegState
    case: str


_SENT, _WORKING, _PARTIAL, _UNKNOWN = LegState.SENT, LegState.WORKING, LegState.PARTIALLY_FILLED, LegState.UNKNOWN
_FILLED, _CANCELLED = LegState.FILLED, LegState.CANCELLED
_REJECTED, _EXPIRED = LegState.REJECTED, LegState.EXPIRED
_E = OrderEvent

TRANSITIONS: Final[dict[tuple[LegState, OrderEvent], Transition]] = {
    # Sent, and no answer yet.
    (_SENT, _E.ACKNOWLEDGED): Transition(_WORKING, "the platform has accepted it"),
    (_SENT, _E.ACKNOWLEDGED_PARTIAL): Transition(_PARTIAL, "its acceptance comes behind its first fill"),
    (_SENT, _E.EXECUTED): Transition(_PARTIAL, "a fill overtakes the acceptance"),
    (_SENT, _E.COMPLETED): Transition(_FILLED, "a market order fills before its acceptance arrives"),
    (_SENT, _E.CANCELLED): Transition(_CANCELLED, "an IOC order finds no counterparty"),
    (_SENT, _E.REJECTED): Transition(_REJECTED, "the platform refuses it"),
    (_SENT, _E.EXPIRED): Transition(_EXPIRED, "a day order is sent at the close"),
    (_SENT, _E.UNANSWERED): Transition(_UNKNOWN, "no answer in time, or the gateway restarted before one"),
    # Working, nothing traded.
    (_WORKING, _E.ACKNOWLEDGED): Transition(_WORKING, "a status or a snapshot confirms it"),
    (_WORKING, _E.ACKNOWLEDGED_PARTIAL): Transition(_PARTIAL, "a status comes behind a fill"),
    (_WORKING, _E.EXECUTED): Transition(_PARTIAL, "its first fill"),
    (_WORKING, _E.COMPLETED): Transition(_FILLED, "one fill of its whole size"),
    (_WORKING, _E.CANCELLED): Transition(_CANCELLED, "cancelled by us, by a person or by the exchange"),
    (_WORKING, _E.REJECTED): Transition(_REJECTED, "the broker accepts it, then the exchange refuses it"),
    (_WORKING, _E.EXPIRED): Transition(_EXPIRED, "a day order at the end of its session"),
    (_WORKING, _E.UNANSWERED): Transition(_UNKNOWN, "a snapshot does not list it"),
    # Partially filled.
    (_PARTIAL, _E.ACKNOWLEDGED): Transition(_WORKING, "its only fill was busted"),
    (_PARTIAL, _E.ACKNOWLEDGED_PARTIAL): Transition(_PARTIAL, "a status or a snapshot confirms it"),
    (_PARTIAL, _E.EXECUTED): Transition(_PARTIAL, "the next fill, or a correction of one"),
    (_PARTIAL, _E.COMPLETED): Transition(_FILLED, "its last fill"),
    (_PARTIAL, _E.CANCELLED): Transition(_CANCELLED, "the rest is cancelled"),
    (_PARTIAL, _E.REJECTED): Transition(_CANCELLED, "the rest is refused; what has traded stays traded"),
    (_PARTIAL, _E.EXPIRED): Transition(_EXPIRED, "the rest expires with its session"),
    (_PARTIAL, _E.UNANSWERED): Transition(_UNKNOWN, "a snapshot does not list it"),
    # Unknown: sent, and the platform has not said what became of it.
    (_UNKNOWN, _E.ACKNOWLEDGED): Transition(_WORKING, "a snapshot lists it, or a late answer comes"),
    (_UNKNOWN, _E.ACKNOWLEDGED_PARTIAL): Transition(_PARTIAL, "a snapshot lists it, and a fill was booked"),
    (_UNKNOWN, _E.EXECUTED): Transition(_UNKNOWN, "it trades, and what became of the rest is still not known"),
    (_UNKNOWN, _E.COMPLETED): Transition(_FILLED, "late fills of its whole size"),
    (_UNKNOWN, _E.CANCELLED): Transition(_CANCELLED, "its end is reported late, or two snapshots miss it"),
    (_UNKNOWN, _E.REJECTED): Transition(_REJECTED, "a late reject, or two snapshots show that it never arrived"),
    (_UNKNOWN, _E.EXPIRED): Transition(_EXPIRED, "its end is reported late"),
    (_UNKNOWN, _E.UNANSWERED): Transition(_UNKNOWN, "still no answer"),
    # Filled.
    (_FILLED, _E.BUSTED): Transition(_CANCELLED, "a trade bust: it works no longer, and is not filled either"),
    (_FILLED, _E.EXECUTED): Transition(_FILLED, "more than its size: its last replace was too late"),
    (_FILLED, _E.COMPLETED): Transition(_FILLED, "a correction of one of its fills, or an overfill"),
    (_FILLED, _E.ACKNOWLEDGED): Transition(_FILLED, "a status that its last fill has overtaken"),
    (_FILLED, _E.ACKNOWLEDGED_PARTIAL): Transition(_FILLED, "a status that its last fill has overtaken"),
    (_FILLED, _E.CANCELLED): Transition(_FILLED, "a cancel crosses the last fill, and the platform reports both"),
    (_FILLED, _E.EXPIRED): Transition(_FILLED, "the session ends with its last fill"),
    (_FILLED, _E.REAPPEARED): Transition(_WORKING, "it was made larger at the platform"),
    # Cancelled.
    (_CANCELLED, _E.EXECUTED): Transition(_CANCELLED, "a fill crosses the cancel and arrives behind it"),
    (_CANCELLED, _E.COMPLETED): Transition(_FILLED, "its last fill crosses the cancel and arrives behind it"),
    (_CANCELLED, _E.ACKNOWLEDGED): Transition(_CANCELLED, "a status that the cancel has overtaken"),
    (_CANCELLED, _E.ACKNOWLEDGED_PARTIAL): Transition(_CANCELLED, "a status that the cancel has overtaken"),
    (_CANCELLED, _E.CANCELLED): Transition(_CANCELLED, "the same end is reported twice"),
    (_CANCELLED, _E.REJECTED): Transition(_CANCELLED, "the refusal of its rest is reported twice"),
    (_CANCELLED, _E.EXPIRED): Transition(_CANCELLED, "an end at the close that some platforms report both ways"),
    (_CANCELLED, _E.REAPPEARED): Transition(_WORKING, "it was presumed gone, and the platform has it after all"),
    # Rejected.
    (_REJECTED, _E.EXECUTED): Transition(_CANCELLED, "a time-out was reported as a reject, and it has traded"),
    (_REJECTED, _E.COMPLETED): Transition(_FILLED, "a time-out was reported as a reject, and it has filled"),
    (_REJECTED, _E.ACKNOWLEDGED): Transition(_REJECTED, "a status that the reject has overtaken"),
    (_REJECTED, _E.ACKNOWLEDGED_PARTIAL): Transition(
        _REJECTED, "a time-out was reported as a reject; its executions will say what it has traded"
    ),
    (_REJECTED, _E.CANCELLED): Transition(_REJECTED, "presumed never to have arrived; its end is reported late"),
    (_REJECTED, _E.REJECTED): Transition(_REJECTED, "the same end is reported twice"),
    (_REJECTED, _E.EXPIRED): Transition(_REJECTED, "presumed never to have arrived; its end is reported late"),
    (_REJECTED, _E.REAPPEARED): Transition(_WORKING, "it was presumed never to have arrived, and is there"),
    # Expired.
    (_EXPIRED, _E.EXECUTED): Transition(_EXPIRED, "a fill of its last moment arrives behind its end"),
    (_EXPIRED, _E.COMPLETED): Transition(_FILLED, "its last fill arrives behind its end"),
    (_EXPIRED, _E.ACKNOWLEDGED): Transition(_EXPIRED, "a status that its end has overtaken"),
    (_EXPIRED, _E.ACKNOWLEDGED_PARTIAL): Transition(_EXPIRED, "a status that its end has overtaken"),
    (_EXPIRED, _E.CANCELLED): Transition(_EXPIRED, "an end at the close that some platforms report both ways"),
    (_EXPIRED, _E.REJECTED): Transition(_EXPIRED, "an end at the close that some platforms report both ways"),
    (_EXPIRED, _E.EXPIRED): Transition(_EXPIRED, "the same end is reported twice"),
    (_EXPIRED, _E.REAPPEARED): Transition(_WORKING, "the platform lists it in the next session after all"),
}
