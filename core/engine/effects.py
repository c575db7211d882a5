"""Effects: actions that the engine asks for. The process carries them out in order, after the event is on disk."""

from __future__ import annotations

from decimal import Decimal

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


class FinishedExecution(Struct, frozen=True, kw_only=True):
    """An execution that has left the state with its signal: what must be known to see that it is only said again."""

    key: str  # platform|account|ExecID (17)
    route: str
    client_order_id: str  # ClOrdID (11) of our order; empty = it was the signal's by its position ticket
    symbol: str
    sign: int  # +1 buy, -1 sell
    quantity: Decimal  # lots
    price: Decimal
    fee: Decimal
    fee_currency: str
    ticket: str
    ts_event_ns: int  # TransactTime (60), UTC ns
    booked_ns: int  # engine's time
    listed: bool  # it counts, and a snapshot of its time has to list it
    presumed_busted: bool  # taken back because snapshots missed it: listed again, it counts again


class SignalFinished(Struct, frozen=True, kw_only=True):
    """Keep a signal as rows of the journal, in the commit of its event: it has left the state.

    `payload`: all that the state had of it, for `SignalRecalled`.
    """

    signal_id: str
    key: str  # short hash of its id in ClOrdIDs
    at_ns: int  # engine's time
    layout: int
    payload: bytes
    executions: tuple[FinishedExecution, ...]
    report: Report


Effect = SendToPlatform | TellNexus | AnswerAdmin | CutLink | RiskChecked | Alert | SignalFinished
