"""What the engine wants done. The process carries effects out in order, after the event is on disk."""

from __future__ import annotations

from msgspec import Struct

from ..messages import (
    Account,
    AdminResult,
    Cancel,
    Executions,
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
    """Give this to the adapter of the message's platform and account. If the link is gone, drop it: the
    engine has a
    deadline for every answer, and the same order is never made twice.
    """

    message: Order | Cancel | Replace | SnapshotRequest


class TellNexus(Struct, tag="tell", frozen=True):
    """Give this to NEXUS."""

    message: Report | Reject
    peer: str


class AnswerAdmin(Struct, tag="answer", frozen=True):
    """Give this to whoever asked."""

    message: AdminResult | Positions | WorkingOrders | Executions | Account | Report
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
    """Something that a person should see: goes to the journal, the log and the alert channels."""

    code: RejectCode
    text: str
    platform: str = ""


Effect = SendToPlatform | TellNexus | AnswerAdmin | CutLink | RiskChecked | Alert
