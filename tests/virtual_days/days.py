"""The production `Gateway` on its real journal file, real configuration and real quote boards, in virtual time.

Only clock, links and platforms are virtual: `JournaledEngine.open`, `Markets` and the turn are those of the process.
"""

from __future__ import annotations

import gc
import sqlite3
import time
from array import array
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

from nexus_gateway.core import messages as m
from nexus_gateway.core.config import GatewayConfig
from nexus_gateway.core.engine import Engine
from nexus_gateway.core.gateway.gateway import Gateway
from nexus_gateway.core.gateway.journaled_engine import JournaledEngine
from nexus_gateway.core.gateway.kill_instructions import KillInstructions
from nexus_gateway.core.gateway.markets import Markets
from nexus_gateway.core.gateway.rolls import LiveContracts
from nexus_gateway.core.kill_file import kill_file_path

from tests.simulation.ports import Port, Ports
from tests.simulation.schedule import MS, SECOND, Schedule
from tests.simulation.surroundings import make_counters, make_log
from tests.virtual_days.market import VirtualMarket
from tests.virtual_days.platforms import VirtualPlatform
from tests.virtual_days.trader import DAY_NS, Trader

NEXUS = "nexus|virtual"
_HOP_NS = MS  # a message's way between two processes
_STEP_NS = 60 * SECOND
_IDLE_NS = 5 * SECOND
"""Between two turns in which nothing arrives or is due. The process turns ten times a second, and what it does then
is no event."""


class VirtualDays:
    """A context manager: a gateway that has just started, with all platforms and NEXUS linked.

    Attributes:
        turns_ns: processor time of each turn of the gateway, in order, without Python's collector of cyclic garbage:
            that walks the platforms' accounts too, which are in this process only here.
        trader: sends the signals and keeps the reports.
        platforms: by name.
    """

    def __init__(self, config: GatewayConfig, prices: Mapping[str, Decimal], start_ns: int) -> None:
        """`config`: of the gateway; its journal and run folder are used as they are. `prices`: of each symbol."""
        self.config = config
        self.schedule = Schedule(1)
        self.schedule.now_ns = start_ns
        self.turns_ns = array("q")
        self.counts: dict[str, int] = {}
        self._market = VirtualMarket(config, prices, start_ns)
        self.platforms = {
            name: VirtualPlatform(name, each, self._market.symbols, dict(prices), start_ns)
            for name, each in config.platforms.items()
        }
        self._by_route = {each.route: each for each in self.platforms.values()}
        symbol = config.symbols[0].name
        self.trader = Trader(self.schedule, list(config.platforms), symbol, prices[symbol], self.ask)
        log = make_log()
        self.journaled = JournaledEngine.open(config, log)
        self._ports = Ports(Port(self._to_platform, self._lost), Port(self._to_nexus, self._lost))
        markets = Markets(config, config.run_path)
        self.gateway = Gateway(
            SimpleNamespace(log=log, sleep=self._sleep),
            SimpleNamespace(wall_ns=lambda: self.schedule.wall_ns, steady_ns=lambda: self.schedule.now_ns),
            self.journaled,
            markets,
            LiveContracts(config, config.run_path, markets, log),
            self._ports,
            KillInstructions(kill_file_path(config.run_path), log),
            make_counters(self.counts),
            "virtual",
        )
        self._next_turn_ns = 0
        self._is_turning = False
        self._collecting_ns = 0

    def __enter__(self) -> VirtualDays:
        gc.callbacks.append(self._note_collection)
        self._run(self.gateway.start)
        for platform in self.platforms.values():
            self._ports.adapters.up(platform.route, platform.hello())
        self._ports.nexus.up(NEXUS, m.Hello(role=m.Role.NEXUS, name="virtual", boot_id="1"))
        self._wake()
        self._step_platforms()
        self.run_for(5 * SECOND)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note_collection)
        self.journaled.close()
        self._market.close()

    @property
    def engine(self) -> Engine:
        return self.journaled.engine

    @property
    def connection(self) -> sqlite3.Connection:
        """The journal's own: a second one would lose the gateway's lock on some systems."""
        return self.journaled.journal.connection

    @property
    def last_seq(self) -> int:
        return self.journaled.journal.last_seq

    def run_for(self, duration_ns: float) -> None:
        """Let virtual time pass."""
        self.schedule.run_until(self.schedule.now_ns + int(duration_ns))

    def run_days(self, days: float) -> None:
        self.run_for(days * DAY_NS)

    def run_until(self, true: Callable[[], object], step_ns: int = 60 * SECOND) -> None:
        """Let virtual time pass until `true`, which is asked after each step."""
        while not true():
            self.run_for(step_ns)

    def ask(self, message: object) -> None:
        """A message of NEXUS, on its way."""
        self._later(lambda: self._ports.nexus.said(NEXUS, message))

    def say(self, platform: str, *messages: object) -> None:
        """Messages of an adapter that arrive now, for the next turn."""
        for message in messages:
            self._ports.adapters.said(self.platforms[platform].route, message)
        self._wake()

    def save_accounts(self, folder: Path) -> None:
        """Write each platform's account beside the journal, as `<journal>.<name>.paper`."""
        for name, platform in self.platforms.items():
            platform.save(folder / f"orders.{name}.paper")

    def faults(self) -> list[str]:
        """What disagrees between signals, gateway and platforms, each as a sentence; none when all of it is true."""
        found = [f"{name} is {count}" for name, count in self.counts.items() if "fault" in name and count]
        found += [f"NEXUS was refused: {each.text}" for each in self.trader.refusals[:3]]
        if self.trader.reports.keys() != self.trader.signals.keys():
            found.append(f"{len(self.trader.signals)} signals have {len(self.trader.reports)} reports")
        lots = sum((report.filled for report in self.trader.reports.values()), Decimal(0))
        if lots != len(self.trader.signals) * len(self.platforms):
            found.append(f"{len(self.trader.signals)} signals have filled {lots} lots")
        held = len(self.trader.signals) - len(self.trader.closed)
        for platform in self.platforms.values():
            here = {each.symbol: each.quantity for each in platform.book.positions.values() if not each.ticket}
            for each in platform.book.positions.values():
                if each.ticket:
                    here[each.symbol] = here.get(each.symbol, Decimal(0)) + each.quantity
            route = self.engine.state.routes[platform.route]
            known = {name: position.net for name, position in route.positions.items() if position.net}
            if known != here or sum(here.values()) != held:
                found.append(f"{platform.name} holds {here}, the gateway believes {known}, {held} signals are open")
            if not route.ready:
                found.append(f"{platform.name} is not ready")
        return found

    def _step_platforms(self) -> None:
        for platform in self.platforms.values():
            said = platform.step(self.schedule.now_ns)
            if said:
                self.say(platform.name, *said)
        self.schedule.at(_STEP_NS, self._step_platforms)

    def _to_platform(self, peer: str, message: object) -> None:
        platform = self._by_route[peer]

        def arrive() -> None:
            said = platform.receive(message, self.schedule.now_ns)
            if said:
                self._later(lambda: self.say(platform.name, *said))

        self.schedule.at(_HOP_NS, arrive)

    def _to_nexus(self, peer: str, message: object) -> None:
        self.trader.receive(message)

    def _later(self, arrive: Callable[[], None]) -> None:
        def call() -> None:
            arrive()
            self._wake()

        self.schedule.at(_HOP_NS, call)

    def _lost(self, peer: str) -> None:
        raise RuntimeError(f"the gateway has cut {peer}")

    def _sleep(self, seconds: float) -> bool:
        raise RuntimeError("the journal cannot be written")

    # Its turns.

    def _note_collection(self, phase: str, _: object) -> None:
        self._collecting_ns += time.thread_time_ns() * (1 if phase == "stop" else -1)

    def _wake(self) -> None:
        self._turn_at(self.schedule.now_ns)

    def _turn_at(self, at_ns: int) -> None:
        if self._is_turning or self.schedule.now_ns <= self._next_turn_ns <= at_ns:
            return
        self._next_turn_ns = at_ns
        self.schedule.at(max(at_ns - self.schedule.now_ns, 0), lambda: self._turn(at_ns))

    def _turn(self, at_ns: int) -> None:
        if at_ns == self._next_turn_ns and not self._is_turning:
            self._next_turn_ns = -1
            self._run(self.gateway.turn)

    def _run(self, step: Callable[[], None]) -> None:
        self._market.refresh(self.schedule.now_ns)
        self._is_turning = True
        before_ns, collecting_ns = time.thread_time_ns(), self._collecting_ns
        step()
        self.turns_ns.append(time.thread_time_ns() - before_ns - (self._collecting_ns - collecting_ns))
        self._is_turning = False
        now_ns = self.schedule.now_ns
        if self._ports.adapters.has_events or self._ports.nexus.has_events:
            self._turn_at(now_ns)
            return
        due_ns = self.engine.next_due_ns()
        self._turn_at(now_ns + _IDLE_NS if due_ns is None else min(max(due_ns, now_ns + MS), now_ns + _IDLE_NS))
