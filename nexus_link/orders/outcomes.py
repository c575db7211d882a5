"""What NEXUS is told: the outcome of a signal as far as it is known, and the state of the link."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from ...core.messages import KillLevel, RejectCode, Report, SignalState

_FINAL: Final = frozenset((SignalState.REJECTED, SignalState.NOT_FILLED, SignalState.FLATTENED, SignalState.CLOSED))
_BUSY: Final = frozenset((SignalState.WORKING, SignalState.FLATTENING, SignalState.UNKNOWN))


class SignalOutcome(Struct, frozen=True, kw_only=True):
    """A signal as NEXUS knows it at one moment. Never changes; each news is a new object.

    Attributes:
        state: the gateway's word; `unknown` as well while there is none. Unknown means just that: it may have traded.
        code, text: why it was refused, or what is not known and why.
        report: the gateway's newest report, None when there has been none.
        told_ns: when this process heard it, UTC ns; 0 = not yet.
    """

    signal_id: str
    state: SignalState
    code: RejectCode = RejectCode.NONE
    text: str = ""
    report: Report | None = None
    told_ns: int = 0

    @property
    def is_unknown(self) -> bool:
        """Nobody knows yet whether all of it traded: no new order on this symbol until that is cleared up."""
        return self.state is SignalState.UNKNOWN

    @property
    def is_settled(self) -> bool:
        """Nothing of it is working or unknown. A position may be open, and its stop may still trade."""
        return self.state not in _BUSY

    @property
    def is_final(self) -> bool:
        """Refused, without a lot, or flat again: nothing of it can change any more."""
        return self.state in _FINAL


class LinkStatus(Struct, frozen=True, kw_only=True):
    """The link to the gateway. `text` says why it is down, and what to do.

    `stage` and `kill_level` are those of the moment the link came up.
    """

    is_up: bool
    text: str = ""
    code: RejectCode = RejectCode.NONE
    gateway_boot_id: str = ""
    stage: int = 0
    kill_level: KillLevel = KillLevel.NORMAL
