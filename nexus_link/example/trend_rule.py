"""The example's rule: follow a move that the order book supports. Simple on purpose; replace it by your own.

Buy when the mid is well above its own average, measured in its usual deviation from it, and more size is bid than
offered; sell when both are reversed. The stop is a number of usual tick-to-tick moves away. No edge has been shown.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from msgspec import Struct

from ...core.messages import Side

_AVERAGE_SPAN: Final = 5.0
"""Usual distance of a random walk from its average of decay 0.02, in tick-to-tick deviations: sqrt(1 / (2 * 0.02))."""


class TrendRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of the rule.

    Attributes:
        warm_up_ticks: ticks of the symbol before it may trade, so that the averages have settled.
        threshold: least distance of the mid from its average, as a multiple of a random walk's usual distance.
        imbalance: least excess of one side of the book over the other, as a share of both, 0 to 1.
        stop_moves: the stop's distance in usual tick-to-tick moves, within `least_stop_ticks` and `most_stop_ticks`.
        pause_s: least time between two signals.
    """

    warm_up_ticks: int = 500
    threshold: float = 1.5
    imbalance: float = 0.05
    stop_moves: float = 20.0
    least_stop_ticks: int = 8
    most_stop_ticks: int = 80
    pause_s: float = 60.0


def decide_side(rule: TrendRule, row: Any) -> Side | None:
    """The side to trade by a symbol's row of `features.FEATURES`; None = do not trade. Pure."""
    deviation = math.sqrt(row["variance_ewma"])
    if row["ticks"] < rule.warm_up_ticks or not deviation > 0 or not row["mid_ewma"] > 0:
        return None
    stretch = (row["mid"] / row["mid_ewma"] - 1) / (deviation * _AVERAGE_SPAN)
    if stretch > rule.threshold and row["imbalance_ewma"] > rule.imbalance:
        return Side.BUY
    if stretch < -rule.threshold and row["imbalance_ewma"] < -rule.imbalance:
        return Side.SELL
    return None


def stop_distance(rule: TrendRule, row: Any, tick: Decimal) -> Decimal:
    """The stop's distance in points, a whole number of ticks. Pure."""
    moves = rule.stop_moves * math.sqrt(row["variance_ewma"]) * row["mid"]
    ticks = (Decimal(repr(float(moves))) / tick).to_integral_value(ROUND_CEILING)
    return min(max(ticks, Decimal(rule.least_stop_ticks)), Decimal(rule.most_stop_ticks)) * tick
