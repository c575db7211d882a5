"""The gateway's turn: links in, engine, journal, links out. One thread, one turn after another, no other state.

A turn takes in what has come on both ports, tells the engine each piece, commits the journal once, and only then
carries the effects out. Whatever kills the process between two steps, the next start finds the journal and asks the
platforms what is true.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import zmq

from ...shm.durations import NS_PER_MS, NS_PER_S
from ..engine import (
    AdapterSaid,
    AdminAsked,
    AnswerAdmin,
    ClockTicked,
    Effect,
    Event,
    LinkDown,
    LinkUp,
    MarketMoved,
    NexusAsked,
    SignalArrived,
    Started,
    route_of,
)
from ..journal import JournalError
from ..logs import Log
from ..messages import AdminResult, Fill, Hello, KillLevel, Reject, RejectCode, Resume, Role, Welcome
from ..process import ProcessContext
from ..transport import LinkEvent, LinkServer, PeerUp
from .counters import COMMIT_NS, SIGNAL_TO_ORDER_NS, TURN_NS, GatewayCounters
from .inbox import Inbox, Refused
from .journaled_engine import EngineFaultError, JournaledEngine, engine_settings
from .markets import Markets
from .outbox import Outbox
from .rate_news import RateNews
from .rolls import LiveContracts
from .standing_kills import StandingKills

LONGEST_WAIT_MS: Final = 100
_LOOK_NS: Final = 250_000_000
_REFRESH_NS: Final = NS_PER_S
_VALUE_NS: Final = 5_000_000_000
_CLOCK_NS: Final = 2_000_000
"""Deadlines are in ms: whatever falls due together is one event of the journal."""
_AFTER_FAULT_NS: Final = NS_PER_S
_DISK_RETRY_S: Final = 0.5


class Gateway:
    """Everything that the process holds; `turn` for ever. Used by one thread."""

    def __init__(
        self,
        context: ProcessContext,
        journaled: JournaledEngine,
        adapters: Callable[[Callable[[Hello], Welcome]], LinkServer],
        nexus: Callable[[Callable[[Hello], Welcome]], LinkServer],
        counters: GatewayCounters,
        boot_id: str,
        kill_file: Path,
    ) -> None:
        """`adapters`, `nexus`: make the two ports; each is given what answers its hellos."""
        self._context = context
        self._log: Log = context.log
        self._journaled = journaled
        self._counters = counters
        self._boot_id = boot_id
        self._kills = StandingKills(kill_file, context.log)
        self._markets = Markets(context.config, context.run_folder, self._log)
        self._adapters = adapters(self._greet)
        self._nexus = nexus(self._greet)
        self._inbox = Inbox(self._markets, self._known_hellos, self._known_legs)
        self._outbox = Outbox(self._adapters, self._nexus, self._markets.stand_ins, counters, self._log)
        self._poller = zmq.Poller()
        self._poller.register(self._adapters.socket, zmq.POLLIN)
        self._poller.register(self._nexus.socket, zmq.POLLIN)
        self._signal_ns = 0
        self._clock_is_behind = False
        self._contracts = LiveContracts(context.config, context.run_folder, self._markets, self._log)
        self._contracts_due = True
        self._rates = RateNews(self._markets, context.config.limits.max_rate_age_ms)
        self._next_look_ns = self._next_refresh_ns = self._next_value_ns = self._next_clock_ns = 0
        self._newcomers: list[PeerUp] = []

    def start(self) -> None:
        """Tell the engine that the process is new, obey the kill file, and let that be on disk before anything else."""
        settings = engine_settings(self._context.config)
        self._give(Started(boot_id=self._boot_id, settings=settings, limits=self._context.config.limits))
        self._look_at_kill_file()
        self._markets.refresh(time.time_ns())
        self._choose_contracts()
        self._finish_turn(time.monotonic_ns())
        self._publish()

    def turn(self) -> None:
        """Wait for something to do, at most `LONGEST_WAIT_MS`, and do it."""
        self._poller.poll(self._wait_ms())
        started_ns = time.monotonic_ns()
        for event in (*self._adapters.receive(), *self._nexus.receive()):
            self._take(event)
        for event in (*self._adapters.tick(), *self._nexus.tick()):
            self._take(event)
        self._do_what_is_due(started_ns)
        self._finish_turn(started_ns)

    def stop(self) -> None:
        """Say good-bye. Positions and working orders stay as they are: they are the platforms'."""
        self._adapters.close()
        self._nexus.close()

    def _wait_ms(self) -> int:
        due_ns = self._journaled.engine.next_due_ns()
        until_due_ms = LONGEST_WAIT_MS if due_ns is None else -((time.time_ns() - due_ns) // NS_PER_MS)
        return max(0, min(LONGEST_WAIT_MS, until_due_ms, self._adapters.wait_ms(), self._nexus.wait_ms()))

    def _take(self, event: LinkEvent) -> None:
        try:
            translated = self._inbox.translate(event, time.time_ns())
        except Refused as refused:
            self._counters.add(refused.counter)
            self._counters.reject(refused.reject.code)
            server = self._adapters if event.hello.role is Role.ADAPTER else self._nexus
            server.send(event.peer, refused.reject)
            return
        if isinstance(event, PeerUp):
            self._log.info("peer connected", peer=event.peer, boot_id=event.hello.boot_id)
            self._newcomers.append(event)
        if translated is not None:
            self._give(translated)

    def _give(self, event: Event) -> None:
        duplicates = self._journaled.engine.state.counts.get("duplicate_fill", 0)
        try:
            effects = self._journaled.give(event, time.time_ns())
        except EngineFaultError as fault:
            self._counters.add("engine_faults")
            self._next_clock_ns = time.monotonic_ns() + _AFTER_FAULT_NS
            if isinstance(event, SignalArrived | NexusAsked | AdminAsked):
                signal_id = event.signal.signal_id if isinstance(event, SignalArrived) else ""
                text = f"{fault}; nothing was done, see the gateway's log"
                self._nexus.send(event.peer, Reject(code=RejectCode.NOT_ALLOWED, text=text, signal_id=signal_id))
            return
        self._counters.add("events")
        if isinstance(event, SignalArrived):
            self._signal_ns = self._signal_ns or time.monotonic_ns()
            self._note_signal(event)
        elif isinstance(event, AdapterSaid) and isinstance(event.message, Fill):
            known = self._journaled.engine.state.counts.get("duplicate_fill", 0) > duplicates
            self._counters.add("fills", 0 if known else 1)
        elif isinstance(event, LinkUp):
            self._log.info("platform linked", route=route_of(event.hello.platform, event.hello.account))
            self._next_refresh_ns = 0  # its quotes may be new: a signal of the next moment needs them
        elif isinstance(event, LinkDown):
            self._log.warning("platform lost", route=route_of(event.platform, event.account), reason=event.reason)
        elif isinstance(event, AdminAsked) and isinstance(event.request, Resume):
            self._kills.note_resume(event.request, _was_accepted(effects))

    def _note_signal(self, event: SignalArrived) -> None:
        record = self._journaled.engine.state.signals.get(event.signal.signal_id)
        if record is None or record.received_ns != self._journaled.engine.state.now_ns:
            return  # seen before
        self._counters.add("signals")
        self._counters.add("legs", len(record.legs))
        for leg in record.legs:
            if leg.code is not RejectCode.NONE:
                self._counters.reject(leg.code)

    def _do_what_is_due(self, now_ns: int) -> None:
        if now_ns >= self._next_refresh_ns:
            self._next_refresh_ns = now_ns + _REFRESH_NS
            self._look_at_clock()
            self._markets.refresh(time.time_ns())
            self._tell_rates()
            self._choose_contracts()
        if now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + _LOOK_NS
            self._look_at_kill_file()
            self._publish()
        if now_ns >= self._next_value_ns:
            self._next_value_ns = now_ns + _VALUE_NS
            self._value_what_is_open()
        due_ns = self._journaled.engine.next_due_ns()
        if due_ns is not None and time.time_ns() >= due_ns and now_ns >= self._next_clock_ns:
            self._next_clock_ns = now_ns + _CLOCK_NS
            self._give(ClockTicked())

    def _finish_turn(self, started_ns: int) -> None:
        commit_from_ns = time.monotonic_ns()
        try:
            effects = self._journaled.commit()
        except JournalError as error:
            self._wait_for_disk(error)
            effects = self._journaled.commit()
        done_ns = time.monotonic_ns()
        if effects:
            self._counters.observe(COMMIT_NS, done_ns - commit_from_ns)
            self._counters.add("commits")
        if self._contracts_due:
            # Only what is on disk: a crash between two adapters' looks must find the same decision.
            self._contracts_due = False
            self._contracts.apply(self._journaled.engine.state.contracts, time.time_ns())
        order_left = self._outbox.carry_out(effects)
        if self._signal_ns:
            if order_left:
                self._counters.observe(SIGNAL_TO_ORDER_NS, time.monotonic_ns() - self._signal_ns)
            self._signal_ns = 0
        self._tell_reports()
        self._kills.lift()
        for newcomer in self._newcomers:
            self._repeat_reports(newcomer)
        self._newcomers.clear()
        self._journaled.checkpoint(time.time_ns())
        self._counters.add("turns")
        self._counters.observe(TURN_NS, time.monotonic_ns() - started_ns)

    def _publish(self) -> None:
        self._counters.publish(self._journaled.engine.state, {"adapters": self._adapters, "nexus": self._nexus})

    def _tell_reports(self) -> None:
        """After the orders: a report waits for an order, never an order for a report."""
        try:
            self._outbox.tell(self._journaled.take_reports())
        except EngineFaultError:
            self._counters.add("engine_faults")

    def _wait_for_disk(self, error: JournalError) -> None:
        """Nothing leaves that is not on disk: cut all links, so that nobody waits for us, until the disk takes it."""
        self._log.error("the journal cannot be written: all trading stops until it can", reason=str(error))
        for server in (self._adapters, self._nexus):
            for peer in server.peers:
                server.cut(peer, "the gateway's journal cannot be written", RejectCode.LINK_DOWN)
        while True:
            self._counters.add("journal_failures")
            if self._context.sleep(_DISK_RETRY_S):
                raise error
            try:
                self._journaled.retry()
            except JournalError:
                continue
            self._log.warning("the journal can be written again")
            return

    def _look_at_clock(self) -> None:
        """The engine's time never runs back. While it stands still no deadline falls due: somebody has to know."""
        behind_s = (self._journaled.engine.state.now_ns - time.time_ns()) // NS_PER_S
        if behind_s > 0 and not self._clock_is_behind:
            text = (
                "the clock was set back: until it has caught up signals are refused as stale and no deadline falls due"
            )
            self._log.error(text, seconds=behind_s)
        elif behind_s <= 0 and self._clock_is_behind:
            self._log.warning("the clock has caught up")
        self._clock_is_behind = behind_s > 0

    def _look_at_kill_file(self) -> None:
        for kill in self._kills.due(lambda: self._journaled.engine.state):
            self._give(AdminAsked(request=kill))
        self._counters.set_kill_file(self._kills.level)

    def _choose_contracts(self) -> None:
        state = self._journaled.engine.state
        hellos = self._known_hellos() | self._inbox.adapters
        for event in self._contracts.step(time.time_ns(), state.contracts, hellos):
            self._give(event)
        self._contracts_due = True

    def _tell_rates(self) -> None:
        contexts = self._rates.contexts(self._inbox.adapters, time.time_ns())
        if contexts:
            self._give(MarketMoved(markets=contexts))

    def _value_what_is_open(self) -> None:
        """Newest quotes and rates of what is held; nothing is journaled while nothing is."""
        now_ns = time.time_ns()
        state = self._journaled.engine.state
        wanted: dict[tuple[str, str], None] = {}
        for signal_id in state.active:
            for leg in state.signals[signal_id].legs:
                if leg.open:
                    wanted[leg.route, leg.symbol] = None
        contexts = [
            self._markets.context(self._inbox.adapters[route], symbol, now_ns)
            for route, symbol in wanted
            if route in self._inbox.adapters
        ]
        found = tuple(context for context in contexts if context is not None)
        if found:
            self._give(MarketMoved(markets=found))

    def _repeat_reports(self, event: PeerUp) -> None:
        """What NEXUS may have missed while it was away: the newest report of each of its signals that is not over."""
        if event.hello.role is not Role.NEXUS:
            return
        state = self._journaled.engine.state
        for signal_id in state.active:
            if event.peer in state.signals[signal_id].report_to:
                self._nexus.send(event.peer, self._journaled.engine.report(signal_id))

    def _known_hellos(self) -> dict[str, Hello]:
        return {name: route.hello for name, route in self._journaled.engine.state.routes.items()}

    def _known_legs(self, signal_id: str) -> list[tuple[str, str]]:
        record = self._journaled.engine.state.signals.get(signal_id)
        return [] if record is None else [(leg.route, leg.symbol) for leg in record.legs]

    def _greet(self, hello: Hello) -> Welcome:
        state = self._journaled.engine.state
        refusal = ""
        if hello.role is Role.ADAPTER:
            route = state.routes.get(route_of(hello.platform, hello.account))
            is_severed = route is not None and route.severed
            if is_severed or self._kills.level_of(hello.platform) is KillLevel.SEVER:
                refusal = f"{hello.platform} is severed; resume first: nexus-gateway resume"
            elif hello.platform not in self._context.config.platforms:
                refusal = f"platform was {hello.platform!r}, which platform_configs.yaml does not list; add it there"
        return Welcome(
            accepted=not refusal,
            gateway_boot_id=self._boot_id,
            stage=state.stage,
            kill_level=state.kill,
            heartbeat_ms=self._context.config.orders.heartbeat_ms,
            code=RejectCode.NOT_ALLOWED if refusal else RejectCode.NONE,
            text=refusal,
        )


def _was_accepted(effects: list[Effect]) -> bool:
    return any(
        isinstance(effect, AnswerAdmin) and isinstance(effect.message, AdminResult) and effect.message.accepted
        for effect in effects
    )
