"""Effects: actions that the engine asks for. The process carries them out in order, after the event is on disk."""

from __future__ import annotations

from msgspec import Struct

from ..messages import (
    Account,
    AccountState,
    AdminResult,
    Cancel,
    Executions,
    Flatten,
    Order,
    Positions,
    Reject,
    RejectCode,
    Replace,
    Report,
    SnapshotRequest,
    WorkingOrders,
)
from ..risk import Finding


class SendToPlatform(Struct, tag="send", frozen=True):
    """Send this to the adapter of the message's platform and account. Drop it when the link is down: the engine has a
    deadline for every answer, and never makes the same order twice.
    """

    message: Order | Cancel | Replace | Flatten | SnapshotRequest


class TellNexus(Struct, tag="tell", frozen=True):
    """Send this to a peer of NEXUS."""

    message: Report | Reject
    peer: str


class AnswerAdmin(Struct, tag="answer", frozen=True):
    """Send this to the peer that asked."""

    message: AdminResult | AccountState | Positions | WorkingOrders | Executions | Account | Report
    peer: str


class CutLink(Struct, tag="cut", frozen=True):
    """Sever: drop the adapter's link and accept no new one until the operator resumes."""

    platform: str
    account: str


class RiskChecked(Struct, tag="risk", frozen=True):
    """All findings of one opening order, for the journal. `client_order_id` is empty when it was refused."""

    signal_id: str
    platform: str
    client_order_id: str
    findings: tuple[Finding, ...]


class Alert(Struct, tag="alert", frozen=True):
    """A notice for the operator: goes to the journal, the log and the alert channels."""

    code: RejectCode
    text: str
    platform: str = ""


Effect = SendToPlatform | TellNexus | AnswerAdmin | CutLink | RiskChecked | Alert
