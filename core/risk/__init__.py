"""Limits: every check has a code, a measured value, a limit and a stage. Pure functions of plain values."""

from __future__ import annotations

from .checks import Finding as Finding
from .checks import Proposal as Proposal
from .checks import check_entry as check_entry
from .checks import first_failure as first_failure
from .checks import reference_price as reference_price
from .day import DayCounters as DayCounters
from .day import Equity as Equity
from .day import day_bounds as day_bounds
from .limits import Limits as Limits
from .limits import Micro as Micro
from .limits import Stage as Stage
from .limits import read_limits as read_limits
from .market import MarketContext as MarketContext
from .market import UsdRate as UsdRate
from .sizing import floor_to_lot as floor_to_lot
from .sizing import is_multiple as is_multiple
from .sizing import lots_for_risk as lots_for_risk
from .sizing import risk_usd as risk_usd
