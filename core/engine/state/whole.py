"""The state as a whole."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct, field

from ...messages import KillLevel
from ...risk import DayCounters, Limits, UsdRate
from ..settings import EngineSettings
from .orders import ExecutionRecord, OrderRecord, OrphanRecord
from .routes import KillRecord, RouteRecord
from .signals import SignalRecord

STATE_LAYOUT: Final = 8
"""Raised with each change of a field: then add a converter (`layouts.py`, for rows `finished.py`), golden journal."""


class ContractRecord(Struct, kw_only=True):
    """The contract that a root's name stands for."""

    contract: str  # contract in front, such as NQM25
    previous: str = ""  # the one before; empty = none
    chosen_ns: int = 0  # since when, UTC ns


class EngineState(Struct, kw_only=True):
    """Everything that the engine remembers from one event to the next."""

    layout: Literal[8]  # STATE_LAYOUT of the version that wrote it
    settings: EngineSettings  # waiting times, from the configuration
    limits: Limits  # risk limits, from the configuration
    stage: int  # stage of going live that is in force, from 1
    now_ns: int = 0  # engine's time of the newest event, ns: UTC at its start, then steady; never runs backwards
    wall_offset_ns: int = 0  # wall clock less the engine's time, ns: the sum of the steps of the wall clock
    lowest_offset_ns: int = 0  # lowest `wall_offset_ns` since a day without a step: how far stamps may lie behind
    clock_stepped: bool = False  # the wall clock was set in this trading day
    boot_id: str = ""  # id of the gateway process that was started last; empty = the journal is new
    awaited_platforms: dict[str, None] = field(default_factory=dict)  # with a new journal: not reconciled yet
    signals: dict[str, SignalRecord] = field(default_factory=dict)  # signal id -> signal, in order of arrival
    signals_by_key: dict[str, str] = field(default_factory=dict)  # short hash in ClOrdIDs -> signal id
    found_keys: dict[str, int] = field(default_factory=dict)  # that hash in orders found at a platform -> when, ns
    active: dict[str, None] = field(default_factory=dict)  # ids of signals that are not over
    over: dict[str, int] = field(default_factory=dict)  # id of a signal that is over -> when it changed last, ns
    orders: dict[str, OrderRecord] = field(default_factory=dict)  # ClOrdID -> order
    orphans: dict[str, OrphanRecord] = field(default_factory=dict)  # ClOrdID -> order that the journal has lost
    executions: dict[str, ExecutionRecord] = field(default_factory=dict)  # platform|account|ExecID -> execution
    routes: dict[str, RouteRecord] = field(default_factory=dict)  # `route_of` -> account on a platform
    day: DayCounters = field(default_factory=DayCounters)  # what is used of the day's limits
    kill: KillLevel = KillLevel.NORMAL  # kill level of all platforms
    kills: dict[str, KillRecord] = field(default_factory=dict)  # `route_of` -> kill level of that account
    kill_own_only: bool = False  # as `KillRecord.own_only`, for `kill`
    last_entries: dict[str, tuple[int, str]] = field(default_factory=dict)  # symbol|side -> (time, signal id)
    usd_rates: dict[str, UsdRate] = field(default_factory=dict)  # currency -> newest rate seen
    contracts: dict[str, ContractRecord] = field(default_factory=dict)  # root -> contract in front
    entries_barred: str = ""  # what entries wait for, by `EntriesBarred`; empty = nothing
    latches: dict[str, str] = field(default_factory=dict)  # limit that bars entries until `resume` -> why it does
    counts: dict[str, int] = field(default_factory=dict)  # counters for people, by name
