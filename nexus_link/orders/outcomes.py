"""The two things that NEXUS is notified of: the outcome of a signal so far, and the state of the link."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from ...core.messages import KillLevel, RejectCode, Report, SignalState

_FINAL: Final = frozenset((SignalState.REJECTED, SignalState.NOT_FILLED, SignalState.FLATTENED, SignalState.CLOSED))
_BUSY: Final = frozenset((SignalState.WORKING, SignalState.FLATTENING, SignalState.UNKNOWN))


class SignalOutcome(Struct, frozen=True, kw_only=True):
    """A signal as NEXUS knows it at one moment. Immutable: each change is a new object.

    Attributes:
        state: the gateway's, or `unknown` while there is no response: it may have traded, or may still trade.
        code, text: why it was refused, or what is not known and why.
        report: the gateway's newest report; None before the first one.
        told_ns: when this process received it, UTC ns; 0 = no response yet.
    """

    signal_id: str
    state: SignalState
    code: RejectCode = RejectCode.NONE
    text: str = ""
    report: Report | None = None
    told_ns: int = 0

    @property
    def is_unknown(self) -> bool:
        """It is not certain how much of it traded. Send no new entry on this symbol until it is."""
        return self.state is SignalState.UNKNOWN

    @property
    def is_settled(self) -> bool:
        """No order of it is working or unknown, apart from the protection of an open position."""
        return self.state not in _BUSY

    @property
    def is_final(self) -> bool:
        """Rejected, ended without a fill, or flat again. Only a late fill or a bust can still change it."""
        return self.state in _FINAL


def outcome_of_report(report: Report, utc_ns: int) -> SignalOutcome:
    """The outcome that a report states, received at `utc_ns`."""
    return SignalOutcome(
        signal_id=report.signal_id,
        state=report.state,
        code=report.code,
        text=report.text,
        report=report,
        told_ns=utc_ns,
    )


class LinkStatus(Struct, frozen=True, kw_only=True):
    """State of the link to the gateway. `text`: why it is down, and the cure.

    `stage` and `kill_level` are those at the moment the link came up; they are not updated while it is up.
    """

    is_up: bool
    text: str = ""
    code: RejectCode = RejectCode.NONE
    gateway_boot_id: str = ""
    stage: int = 0
    kill_level: KillLevel = KillLevel.NORMAL
