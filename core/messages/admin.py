"""Commands of the operator and their answers. Who may send them is checked by the process that receives
them.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from .codes import RejectCode
from .fields import Name, OptionalPlatform, Sequence, Text
from .terms import KillLevel, QueryKind


class Kill(Struct, tag="kill", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Climb the kill ladder to `level`, on one platform or (empty) on all. Never climbs down.

    Flattening closes the whole account, hand-made positions included, unless `own_only` is set.
    """

    request_id: Sequence
    level: KillLevel
    reason: Text
    by: Name
    platform: OptionalPlatform = ""
    own_only: bool = False


class Resume(Struct, tag="resume", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Return to normal trading. Refused while an outcome is unknown or a platform is not reconciled."""

    request_id: Sequence
    reason: Text
    by: Name
    platform: OptionalPlatform = ""


class Acknowledge(Struct, tag="acknowledge", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operator has looked at the platform: its figure of a position that differed is accepted, and orders that it
    does not list, though nobody knows how they ended, are over.
    """

    request_id: Sequence
    platform: OptionalPlatform
    symbol: Annotated[str, Meta(max_length=32)]
    by: Name


class StageChange(Struct, tag="stage_change", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Move to another stage. Going up one stage needs the typed sentence of that stage; going down needs
    nothing.
    """

    request_id: Sequence
    stage: Annotated[int, Meta(ge=1, le=9)]
    by: Name
    confirmation: Text = ""
    evidence: Text = ""


class Query(Struct, tag="query", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask the gateway what it believes. `signal_id` for a report, `platform` empty for all."""

    request_id: Sequence
    what: QueryKind
    platform: OptionalPlatform = ""
    signal_id: Annotated[str, Meta(max_length=64)] = ""


class AdminResult(Struct, tag="admin_result", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of a command. `done` means verified against the platforms, not merely sent.

    `lines`: one sentence per platform or finding, for a person.
    """

    request_id: Sequence
    accepted: bool
    done: bool
    code: RejectCode = RejectCode.NONE
    text: Text = ""
    lines: Annotated[tuple[Text, ...], Meta(max_length=500)] = ()
