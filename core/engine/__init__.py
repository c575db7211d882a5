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
    Event,
    LinkDown,
    LinkUp,
    MarketMoved,
    NexusAsked,
    SignalArrived,
    Started,
)
from .settings import EngineSettings
from .state import EngineState

__all__ = [
    "AdapterSaid",
    "AdminAsked",
    "Alert",
    "AnswerAdmin",
    "ClockTicked",
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
    "SendToPlatform",
    "SignalArrived",
    "Started",
    "TellNexus",
]
