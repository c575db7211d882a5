"""Snapshots of a bridge: numbering of the requests, matching of the answers, checks of their content."""

from __future__ import annotations

import msgspec

from ...core.messages import (
    Account,
    Executions,
    Fill,
    Positions,
    Snapshot,
    SnapshotRequest,
    WorkingOrders,
)
from .frames import FrameError


class SnapshotInbox:
    """The snapshots of one session. Used by the adapter's thread.

    Requests are numbered here, not by the gateway: an answer that arrives after its time-out must not pass for the
    answer to a later request, since fills reported meanwhile would be missing in it.

    Attributes:
        requested: whether this session has asked for a snapshot yet.
    """

    def __init__(self) -> None:
        self._newest = 0
        self._answers: dict[int, Snapshot] = {}

    @property
    def requested(self) -> bool:
        return self._newest > 0

    def number(self, request: SnapshotRequest) -> SnapshotRequest:
        """Return the request as it goes to the bridge, with the next number."""
        self._newest += 1
        return msgspec.structs.replace(request, request_id=self._newest)

    def receive(self, snapshot: Snapshot) -> None:
        """Keep the answer to the newest request; answers to earlier ones are ignored."""
        if snapshot.request_id == self._newest:
            self._answers[snapshot.request_id] = snapshot

    def has(self, number: int) -> bool:
        """Whether the answer to this request has arrived."""
        return number in self._answers

    def pop(self, number: int) -> Snapshot | None:
        """Remove and return the answer to this request; None when it has not arrived."""
        return self._answers.pop(number, None)


def make_incomplete_snapshot(request: SnapshotRequest) -> Snapshot:
    """Return an empty snapshot, no part complete: it proves neither that something is there nor that it is not."""
    platform, account = request.platform, request.account
    empty = Snapshot(
        request_id=request.request_id,
        platform=platform,
        account=account,
        positions=Positions(platform=platform, account=account, rows=()),
        working_orders=WorkingOrders(platform=platform, account=account, rows=()),
        executions=Executions(platform=platform, account=account, rows=(), from_ns=request.executions_from_ns),
    )
    return mark_incomplete(empty)


def mark_incomplete(snapshot: Snapshot) -> Snapshot:
    """Return the same rows in a snapshot of which no part is complete."""
    replace = msgspec.structs.replace
    return replace(
        snapshot,
        positions=replace(snapshot.positions, complete=False),
        working_orders=replace(snapshot.working_orders, complete=False),
        executions=replace(snapshot.executions, complete=False),
        complete=False,
    )


def check_snapshot(snapshot: Snapshot, platform: str, account: str) -> None:
    """Check that all parts are of this platform and account; others would be booked to the wrong account.

    Raises:
        FrameError: a part is not.
    """
    parts: list[Snapshot | Positions | WorkingOrders | Executions | Account | Fill] = [
        snapshot,
        snapshot.positions,
        snapshot.working_orders,
        snapshot.executions,
        *snapshot.executions.rows,
    ]
    if snapshot.funds is not None:
        parts.append(snapshot.funds)
    for part in parts:
        if (part.platform, part.account) != (platform, account):
            raise FrameError(
                f"a part of the snapshot was of {part.platform}|{part.account}, asked for was {platform}|{account}"
            )
