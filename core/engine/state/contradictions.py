"""Contradictions: what a platform has said and cannot be true, and what is barred meanwhile."""

from __future__ import annotations

from msgspec import Struct, field

from ...messages import ContradictionKind, Fill


class ContradictionRecord(Struct, kw_only=True):
    """One contradiction; its key in `RouteRecord.contradictions` says what was said, so a repetition has the same one.

    While it stands nothing is sent for `barred` on its account, and `legs` are unknown.
    """

    kind: ContradictionKind  # how it cannot be true
    symbols: list[str]  # universal names concerned
    barred: list[str]  # those of them that are barred on the account still
    said: str  # what the platform said, for people
    expected: str  # what would be possible, for people
    exec_id: str = ""  # ExecID (17) of the execution concerned; empty = about none
    client_order_id: str = ""  # ClOrdID (11) of the order concerned; empty = about none of ours
    fill: Fill | None = None  # the execution that was not booked; None = about something else
    legs: list[tuple[str, int]] = field(default_factory=list)  # (signal id, leg) that are unknown because of it
    since_ns: int = 0  # when it was found, UTC ns
    repeated: int = 0  # how often the platform has said it again
    missed_snapshots: int = 0  # complete snapshots in a row that do not say it again
    confirmed_snapshots: int = 0  # complete snapshots in a row that say it again, and whose position agrees with it
    ended_ns: int = 0  # when it ended, UTC ns; 0 = it stands
    end: str = ""  # what has ended it, for people
