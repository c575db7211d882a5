"""Orders as a pure state machine: events in, effects out. No socket, no clock, no randomness (docs/orders.md)."""

from __future__ import annotations

from .effects import Alert as Alert
from .effects import AnswerAdmin as AnswerAdmin
from .effects import CutLink as CutLink
from .effects import Effect as Effect
from .effects import FinishedExecution as FinishedExecution
from .effects import RiskChecked as RiskChecked
from .effects import SendToPlatform as SendToPlatform
from .effects import SignalFinished as SignalFinished
from .effects import TellNexus as TellNexus
from .engine import Engine as Engine
from .events import AdapterSaid as AdapterSaid
from .events import AdminAsked as AdminAsked
from .events import ClockStepped as ClockStepped
from .events import ClockTicked as ClockTicked
from .events import EntriesBarred as EntriesBarred
from .events import ContractChosen as ContractChosen
from .events import ContractNews as ContractNews
from .events import Event as Event
from .events import LinkDown as LinkDown
from .events import LinkUp as LinkUp
from .events import MarketMoved as MarketMoved
from .events import NexusAsked as NexusAsked
from .events import NexusLost as NexusLost
from .events import RollSpread as RollSpread
from .events import SignalArrived as SignalArrived
from .events import SignalRecalled as SignalRecalled
from .events import SnapshotChanges as SnapshotChanges
from .events import SnapshotWanted as SnapshotWanted
from .events import Started as Started
from .events import describe_event as describe_event
from .orders.snapshots.agreement import Difference as Difference
from .orders.snapshots.agreement import check_from_ns as check_from_ns
from .settings import EngineSettings as EngineSettings
from .state import ContractRecord as ContractRecord
from .state import EngineState as EngineState
from .state import RouteRecord as RouteRecord
from .state import route_of as route_of
from .turn import accounts_left as accounts_left
from .turn import kill_level as kill_level
