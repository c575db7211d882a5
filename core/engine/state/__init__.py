"""The engine's state as plain mutable structs: written to a checkpoint and read back without loss.

Sets are dicts with None as value, since a dict keeps its insertion order: the order in which messages leave must not
depend on hashing, or the same journal would not give the same bytes.
"""

from __future__ import annotations

from .contradictions import ContradictionRecord as ContradictionRecord
from .orders import OPENING as OPENING
from .orders import ZERO as ZERO
from .orders import ExecutionRecord as ExecutionRecord
from .orders import OrderRecord as OrderRecord
from .orders import OrphanRecord as OrphanRecord
from .routes import KillRecord as KillRecord
from .routes import PositionRecord as PositionRecord
from .routes import RouteRecord as RouteRecord
from .routes import route_of as route_of
from .signals import LegRecord as LegRecord
from .signals import RollPlan as RollPlan
from .signals import SignalRecord as SignalRecord
from .whole import STATE_LAYOUT as STATE_LAYOUT
from .whole import ContractRecord as ContractRecord
from .whole import EngineState as EngineState
