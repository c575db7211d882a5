"""How long the engine waits for what. Journaled with the events, so that a replay waits equally long."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Ms = Annotated[int, Meta(gt=0, le=86_400_000)]


class EngineSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Waiting times in ms.

    `send_within_ms`: an adapter refuses an order that is older than this. `ack_ms`: an order without an
    answer is unknown after this. `settle_ms`: an order sent less than this before a snapshot was asked for
    may rightly be missing from it; must exceed `send_within_ms` plus what the platform may take. `proof_ms`:
    a snapshot is asked for this often even when all seems well, because a link that is alive may still
    swallow fills. `retry_ms`: between attempts of anything. `sever_patience_ms`: how long `sever` waits for
    flat before it cuts the link. `retention_ms`: how long a finished signal is remembered; must exceed the
    age at which a signal is refused as stale.

    `carry_within_ms`: lots that a roll has closed in the old contract are opened in the new one within this, or not at
    all: minutes later it would be another trade, which nobody asked for.

    `expected_platforms`: with a journal that is new (or was lost), nothing opens before each of these has
    shown what it holds: only they know then what was traded today.
    """

    send_within_ms: Ms = 1_000
    ack_ms: Ms = 2_000
    settle_ms: Ms = 3_000
    proof_ms: Ms = 30_000
    retry_ms: Ms = 1_000
    snapshot_ms: Ms = 5_000
    sever_patience_ms: Ms = 10_000
    carry_within_ms: Ms = 60_000
    retention_ms: Annotated[int, Meta(gt=0)] = 7 * 86_400_000
    expected_platforms: tuple[str, ...] = ()
    max_exit_attempts: Annotated[int, Meta(ge=1, le=500)] = 20
    cancel_orphans: bool = True

    def __post_init__(self) -> None:
        if self.settle_ms <= self.send_within_ms:
            raise ValueError(
                f"settle_ms was {self.settle_ms}, it must exceed send_within_ms {self.send_within_ms}: "
                "else an order on its way is taken for lost"
            )
