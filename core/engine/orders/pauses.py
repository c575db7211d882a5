"""Pauses before something is tried again that a platform has refused, or that has traded nothing."""

from __future__ import annotations

from typing import Final

from ..turn import Turn

MOST_PAUSE_MS: Final = 60_000
SHUT_PAUSE_MS: Final = 300_000
"""Pause between two attempts in a market that is shut by our calendar. The calendar may be wrong, so they are made
where no stop has to go for them; they are rare, so that a weekend does not use up the ClOrdIDs of a leg."""


def pause_ms(turn: Turn, fruitless: int) -> int:
    """Pause before the next attempt after this many in a row that have come to nothing: it doubles up to a minute."""
    return int(min(turn.state.settings.retry_ms * 2 ** min(max(fruitless - 1, 0), 16), MOST_PAUSE_MS))
