"""Scenarios of faults: a plan for each, chosen for an order by its quantity, by name or by seed.

The scenario of an order is a pure function of settings and order. A run therefore repeats exactly, whatever the order
of commands and the number of restarts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

Death = Literal["", "before_accept", "after_accept", "after_fill"]
ByHand = Literal["", "trade", "close", "order"]
_Ms = Annotated[int, Meta(ge=0, le=3_600_000)]


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the exchange treats one order; with all defaults it behaves correctly.

    Attributes:
        reject, lost: the order is rejected; or it never arrives, without any report.
        ack_after_ms: delay of the first update; executions are not delayed.
        report_after_ms: delay of all reports on this order.
        in_two_parts, second_part_after_ms: half of the lots trade at once, the rest after this time.
        second_part_first: the first part is reported after the second.
        rests: never trades against the market.
        fill_on_cancel, fill_on_replace: trades in full just before the command takes effect.
        late_cancel_ms: delay of a cancel, also of the platform's own cancel of an OCO sibling.
        reject_cancel: cancels are rejected.
        cancelled_after_ms: the platform cancels the rest unasked after this time; 0 = never.
        duplicate: each execution is reported twice.
        silent_fills: executions are never reported; only snapshots show them.
        bust_after_ms, correct_after_ms: the first execution is busted, or its price corrected; 0 = never.
        overfill_lots: lots traded beyond the order's quantity.
        mute_ms: after its acceptance the platform reports nothing for this time; those reports are lost.
        dies: moment at which the adapter's process ends.
        by_hand: external action after the fill: a trade of 1 lot, a close of the position, or an order of 1 lot.
    """

    reject: bool = False
    lost: bool = False
    ack_after_ms: _Ms = 0
    report_after_ms: _Ms = 0
    in_two_parts: bool = False
    second_part_after_ms: _Ms = 0
    second_part_first: bool = False
    rests: bool = False
    fill_on_cancel: bool = False
    fill_on_replace: bool = False
    late_cancel_ms: _Ms = 0
    reject_cancel: bool = False
    cancelled_after_ms: _Ms = 0
    duplicate: bool = False
    silent_fills: bool = False
    bust_after_ms: _Ms = 0
    correct_after_ms: _Ms = 0
    overfill_lots: Decimal = Decimal(0)
    mute_ms: _Ms = 0
    dies: Death = ""
    by_hand: ByHand = ""


AS_IT_SHOULD: Final = Plan()
SECOND_REPORT_MS: Final = 250
"""Delay between two reports that a person should be able to tell apart."""

SCENARIOS: Final[Mapping[str, tuple[int, Plan]]] = {
    "reject": (11, Plan(reject=True)),
    "partial_then_fill": (12, Plan(in_two_parts=True, second_part_after_ms=1_000)),
    "partial_then_cancel": (13, Plan(in_two_parts=True, second_part_after_ms=60_000, cancelled_after_ms=1_000)),
    "fill_during_cancel": (14, Plan(rests=True, fill_on_cancel=True)),
    "fill_during_replace": (15, Plan(rests=True, fill_on_replace=True)),
    "unsolicited_cancel": (16, Plan(rests=True, cancelled_after_ms=1_000)),
    "duplicate_execution": (17, Plan(duplicate=True)),
    "fill_before_ack": (18, Plan(ack_after_ms=SECOND_REPORT_MS)),
    "timeout_then_ack": (19, Plan(report_after_ms=4_000)),
    "timeout_then_nothing": (20, Plan(lost=True)),
    "bust": (21, Plan(bust_after_ms=1_000)),
    "correction": (22, Plan(correct_after_ms=1_000)),
    "overfill": (23, Plan(overfill_lots=Decimal(1))),
    "out_of_order": (24, Plan(in_two_parts=True, second_part_first=True)),
    "silent_fill": (25, Plan(silent_fills=True)),
    "late_sibling": (26, Plan(late_cancel_ms=2_000)),
    "manual_trade": (27, Plan(by_hand="trade")),
    "manual_close": (28, Plan(by_hand="close")),
    "manual_order": (29, Plan(by_hand="order")),
    "mute_link": (30, Plan(mute_ms=5_000)),
    "death_before_accept": (31, Plan(dies="before_accept")),
    "death_after_accept": (32, Plan(dies="after_accept")),
    "death_after_fill": (33, Plan(dies="after_fill")),
    "cancel_rejected": (34, Plan(rests=True, reject_cancel=True)),
    "rest": (35, Plan(rests=True)),
}
"""Name -> (lots that choose it when `rehearse` is on, plan). Documented for users in docs/adapters.md."""

_BY_LOTS: Final = {Decimal(lots): name for name, (lots, _) in SCENARIOS.items()}
_PROTECTIVE: Final = ("late_sibling",)
"""The only scenarios that apply to stops and targets: with others a rehearsal could not end flat."""


def check_names(key: str, names: Mapping[str, float]) -> None:
    """Check scenario names and their chances; raises ValueError, whose text begins with `key`."""
    for name, chance in names.items():
        if name not in SCENARIOS:
            raise ValueError(f"{key} named {name!r}, must be one of {', '.join(SCENARIOS)}; correct the name")
        if not 0 <= chance <= 1:
            raise ValueError(f"{key}: {name} was {chance}, must lie between 0 and 1; correct it")
    if sum(names.values()) > 1:
        raise ValueError(f"{key} add up to {sum(names.values())}, must be at most 1; lower some")


def choose_scenario(
    client_order_id: str,
    lots: Decimal,
    *,
    is_entry: bool,
    is_protective: bool,
    rehearse: bool,
    every_order: str | None,
    chances: Mapping[str, float],
    seed: int,
) -> str:
    """Return the name of an order's scenario, empty for none. Pure.

    Args:
        is_entry: whether it opens risk. Scenarios apply to such orders only, so that a rehearsal can always be ended.
        is_protective: whether it is a stop or target; only `late_sibling` applies to these.
    """
    if not (is_entry or is_protective):
        return ""
    name = every_order or ""
    if not name and rehearse:
        name = _BY_LOTS.get(lots, "")
    if not name:
        point = fraction(seed, client_order_id)
        for candidate, chance in chances.items():
            point -= chance
            if point < 0:
                name = candidate
                break
    return name if is_entry or name in _PROTECTIVE else ""


def fraction(seed: int, text: str) -> float:
    """Return a number in [0, 1) that depends only on seed and text, the same on every machine."""
    digest = hashlib.blake2b(f"{seed}/{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
