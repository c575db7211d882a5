"""Orders as a pure state machine: events in, effects out. No socket, no clock, no randomness
(docs/orders.md).
"""

from __future__ import annotations

from .effects import Alert, AnswerAdmin, CutLink, Effect, RiskChecked, SendToPlatform, TellNexus
from .engine import Engine
from .events import (
    AdapterSaid,
    AdminAsked,
    ClockTicked,
    ContractChosen,
    ContractNews,
    Event,
    LinkDown,
    LinkUp,
    MarketMoved,
    NexusAsked,
    RollSpread,
    SignalArrived,
    Started,
)
from .settings import EngineSettings
from .state import ContractRecord, EngineState

__all__ = [
    "AdapterSaid",
    "AdminAsked",
    "Alert",
    "AnswerAdmin",
    "ClockTicked",
    "ContractChosen",
    "ContractNews",
    "ContractRecord",
    "CutLink",
    "Effect",
    "Engine",
    "EngineSettings",
    "EngineState",
    "Event",
    "LinkDown",
    "LinkUp",
    "MarketMoved",
    "NexusAsked",
    "RiskChecked",
    "RollSpread",
    "SendToPlatform",
    "SignalArrived",
    "Started",
    "TellNexus",
]
