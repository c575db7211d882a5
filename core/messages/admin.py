"""Commands of the operator and their answers. The receiving process checks which peers may send them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from .codes import RejectCode
from .fields import Name, OptionalPlatform, Sequence, Text
from .terms import KillLevel, QueryKind


class Kill(Struct, tag="kill", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Raise the kill level to `level`, on one platform or (empty) on all. Never lowers it; `Resume` does.

    `FLATTEN` closes every position of the account, those of other programs or people included, unless `own_only` is
    set.
    """

    request_id: Sequence
    level: KillLevel
    reason: Text
    by: Name
    platform: OptionalPlatform = ""
    own_only: bool = False


class Resume(Struct, tag="resume", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Return to normal trading. Refused while an order's outcome is unknown or a platform is not reconciled."""

    request_id: Sequence
    reason: Text
    by: Name
    platform: OptionalPlatform = ""


class Acknowledge(Struct, tag="acknowledge", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operator has checked at the platform: accept its figure of a position that differed from ours, and treat
    orders that it does not list, whose end is unknown, as ended.
    """

    request_id: Sequence
    platform: OptionalPlatform
    symbol: Annotated[str, Meta(max_length=32)]
    by: Name


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
    signal_id: Annotated[str, Meta(max_length=64)] = ""


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
