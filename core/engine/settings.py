"""Waiting times of the engine. Journaled with the events, so that a replay waits equally long."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Ms = Annotated[int, Meta(gt=0, le=86_400_000)]


class EngineSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Waiting times, in ms."""

    send_within_ms: Ms = 1_000  # an adapter refuses an order that is older than this
    ack_ms: Ms = 2_000  # an order without an answer is unknown after this
    settle_ms: Ms = 3_000
    """An order sent less than this before a snapshot was requested may rightly be missing in it; must exceed
    `send_within_ms` plus the time that the platform may take."""
    proof_ms: Ms = 30_000  # a snapshot is requested this often at least: a link that is up may still lose fills
    check_ms: Ms | None = None
    """The process around the engine compares a snapshot of each platform this often, and has the engine request one
    (`SnapshotWanted`) when it differs; then `proof_ms` is the time between the engine's own full comparisons. None =
    only the engine compares."""
    retry_ms: Ms = 1_000  # between two attempts of anything
    stop_wait_ms: Ms = 1_000  # a closing order waits this long for the end of the stop that it takes the place of
    cancel_on_disconnect_ms: Ms | None = None
    """Working entries of a NEXUS that has been gone for this long are cancelled; None = they work on."""
    snapshot_ms: Ms = 5_000  # a snapshot request without an answer is repeated after this
    sever_patience_ms: Ms = 10_000  # the kill level SEVER waits this long for flat before it cuts the link
    carry_within_ms: Ms = 60_000
    """Lots that a roll has closed in the old contract are opened in the new one within this, or not at all: minutes
    later it would be another trade, at another price, that no signal asked for."""
    retention_ms: Annotated[int, Meta(gt=0)] = 7 * 86_400_000
    """What is over and is not kept as rows of the journal is kept in memory this long; must exceed the age at which a
    signal is refused as stale."""
    finished_after_ms: Ms | None = None
    """A signal that has been over for this long becomes rows of the journal, and leaves the memory; it is recalled when
    anything is said of it. None = it stays in memory for `retention_ms`: the behaviour of journals that do not name
    it."""
    expected_platforms: tuple[str, ...] = ()
    """With a journal that is new (or was lost), nothing opens before a snapshot of each of these has been reconciled:
    then only they know what was traded today."""
    max_exit_attempts: Annotated[int, Meta(ge=1, le=500)] = 20
    """Of journals of 0.1 and 0.2 only: closing does not end by count any more."""
    client_order_id_chars: Literal[21, 22] = 21
    """Length of the ClOrdIDs of new orders. 21 is that of journals of 0.1, whose `Started` does not name it: their
    replay must make the same ids again."""
    await_brackets: bool = False
    """A close right after a fill waits `stop_wait_ms` for the report of the stop that the platform keeps with the lots.
    False is the behaviour of journals that do not name it."""
    close_overfills: bool = False  # close lots of a confirmed overfill at the market; False = only show them
    cancel_orphans: bool = True  # cancel orphaned entries; False = only show them

    def __post_init__(self) -> None:
        if self.settle_ms <= self.send_within_ms:
            raise ValueError(
                f"settle_ms was {self.settle_ms}, it must exceed send_within_ms {self.send_within_ms}: "
                "else an order on its way is presumed lost"
            )
        if self.finished_after_ms is not None and self.finished_after_ms <= self.settle_ms:
            raise ValueError(
                f"finished_after_ms was {self.finished_after_ms}, it must exceed settle_ms {self.settle_ms}: what has "
                "happened within that time may still be missing in a snapshot"
            )
