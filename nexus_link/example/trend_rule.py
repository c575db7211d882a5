"""The example's rule: go with a move that the order book supports. Simple on purpose; replace it by your own.

A buy when the mid stands well above its own average, measured in what it usually wanders, and more size is bid than
offered; a sell when both are the other way round. The stop lies a number of usual tick-to-tick moves away. It has no
edge that anybody has shown.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from msgspec import Struct

from ...core.messages import Side

_AVERAGE_SPAN: Final = 5.0
"""How many tick-to-tick deviations a random walk stands away from its average of decay 0.02: sqrt(1 / (2 * 0.02))."""


class TrendRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to trade.

    Attributes:
        warm_up_ticks: ticks seen before the averages mean something.
        threshold: distance from the average, in what a walk without direction usually shows.
        imbalance: share by which one side of the book outweighs the other, 0 to 1.
        stop_moves: the stop's distance in usual moves, within `least_stop_ticks` and `most_stop_ticks`.
        pause_s: between two signals of one symbol.
    """

    warm_up_ticks: int = 500
    threshold: float = 1.5
    imbalance: float = 0.05
    stop_moves: float = 20.0
    least_stop_ticks: int = 8
    most_stop_ticks: int = 80
    pause_s: float = 60.0


def decide_side(rule: TrendRule, row: Any) -> Side | None:
    """The side to take on a symbol's row of `features.FEATURES`; None mostly. Pure."""
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
