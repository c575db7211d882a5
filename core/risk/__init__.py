"""Limits: every check has a code, a measured value, a limit and a stage. Pure functions of plain values."""

from __future__ import annotations

from .checks import Finding, Proposal, check_entry, first_failure, reference_price
from .day import DayCounters, Equity, day_bounds
from .limits import Limits, Micro, Stage, read_limits
from .market import MarketContext, UsdRate
from .sizing import floor_to_lot, is_multiple, lots_for_risk, risk_usd

__all__ = [
    "DayCounters",
    "Equity",
    "Finding",
    "Limits",
    "MarketContext",
    "Micro",
    "Proposal",
    "Stage",
    "UsdRate",
    "check_entry",
    "day_bounds",
    "first_failure",
    "floor_to_lot",
    "is_multiple",
    "lots_for_risk",
    "read_limits",
    "reference_price",
    "risk_usd",
]
