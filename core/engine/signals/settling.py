"""Settle the signals that an event or a deadline concerns, until nothing of what they have changed concerns another."""

from __future__ import annotations

from typing import Final

from ..orders.wakes import wake_waiting
from ..turn import Turn
from .fanout import settle

_MOST_ROUNDS: Final = 3
"""Times that signals are settled in one turn. What waits for each other beyond that goes on with the next tick."""


def settle_marked(turn: Turn) -> None:
    """Settle the signals that are marked, and those that wait for the books that this changes."""
    state = turn.state
    wake_waiting(turn)
    for _ in range(_MOST_ROUNDS):
        if not turn.review:
            return
        for signal_id in list(turn.review):
            record = state.signals[signal_id]
            moves, changes = len(turn.shifts), len(turn.changed_orders)
            settle(turn, record)
            turn.settled[signal_id] = None
            del turn.review[signal_id]
            for moved_id, _, _ in turn.shifts[moves:]:
                turn.mark_for_settle(moved_id)  # a hedge follows what its primary has just lost
            if len(turn.changed_orders) > changes and any(leg.closing for leg in record.legs):
                turn.mark_for_settle(signal_id)  # what is in the way of its close may be another thing by now
        wake_waiting(turn)


def postpone_marked(turn: Turn) -> None:
    """Let the next tick settle what is still marked: by what has followed the settling of this turn, or a replay."""
    for signal_id in turn.review:
        turn.state.signals[signal_id].legs[0].look_again_ns = turn.now_ns
