"""Commands of the operator and their answers. The receiving process checks which peers may send them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

from ..bounds import PLAIN_TEXT
from .codes import RejectCode
from .fields import AccountName, Name, OptionalPlatform, Platform, Sequence, Text, check_signed_quantity
from .terms import KillLevel, QueryKind


class Kill(Struct, tag="kill", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Raise the kill level to `level`, on one platform or (empty) on all. Never lowers it; `Resume` does.

    `FLATTEN` closes every position of the account, those of other programs or people included, unless `own_only` is
    set. `unproven`, with `FLATTEN` and one platform: once, close there what the platform itself has last reported,
    although what it says contradicts itself.
    """

    request_id: Sequence
    level: KillLevel
    reason: Text
    by: Name
    platform: OptionalPlatform = ""
    own_only: bool = False
    unproven: bool = False

    def __post_init__(self) -> None:
        if self.unproven and (self.level is not KillLevel.FLATTEN or not self.platform or self.own_only):
            raise ValueError("unproven goes with level flatten and one platform, and closes the whole account")


class Resume(Struct, tag="resume", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Return to normal trading. Refused while an order's outcome is unknown or a platform is not reconciled."""

    request_id: Sequence
    reason: Text
    by: Name
    platform: OptionalPlatform = ""


class Acknowledge(Struct, tag="acknowledge", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operator has checked at the platform: accept its figure of a position that differed from ours, end what
    contradicts itself there, and treat orders that it does not list, whose end is unknown, as ended.

    `quantity`: signed lots that the operator has seen there. None only in journals of 0.1.
    """

    request_id: Sequence
    platform: OptionalPlatform
    symbol: Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=32)]
    by: Name
    quantity: Decimal | None = None
    account: AccountName = ""

    def __post_init__(self) -> None:
        if self.quantity is not None:
            check_signed_quantity("quantity", self.quantity)


class AccountRetire(Struct, tag="account_retire", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operator ends an account that is no longer configured: nothing is expected of it, nothing waits for it.

    `account`: empty = the only one of the platform that is not linked. `confirmation`: the account's name, or that of
    its platform where an account has none; empty = nothing is changed, the answer says what the books hold there.
    """

    request_id: Sequence
    platform: Platform
    by: Name
    account: AccountName = ""
    confirmation: AccountName = ""


class StageChange(Struct, tag="stage_change", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Change the stage. Up by one needs that stage's sentence as `confirmation`; down needs none."""

    request_id: Sequence
    stage: Annotated[int, Meta(ge=1, le=9)]
    by: Name
    confirmation: Text = ""
    evidence: Text = ""


class Query(Struct, tag="query", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a part of the gateway's state. `signal_id`: for a report only. `platform`: empty for all."""

    request_id: Sequence
    what: QueryKind
    platform: OptionalPlatform = ""
    signal_id: Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=64)] = ""


class AdminResult(Struct, tag="admin_result", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Result of a command. `done`: verified against the platforms, not only sent.

    `lines`: one sentence for each platform or finding, for people.
    """

    request_id: Sequence
    accepted: bool
    done: bool
    code: RejectCode = RejectCode.NONE
    text: Text = ""
    lines: Annotated[tuple[Text, ...], Meta(max_length=500)] = ()
