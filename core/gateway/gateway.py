"""The gateway's turn: links in, engine, journal, links out. One thread, one turn after another, no other state.

A turn receives from both ports, applies each message to the engine as an event, commits the journal once, and only then
carries the effects out. This order is what makes a crash harmless: an order that has left is always in the journal, so
the next start knows it and asks its platform what became of it. One commit a turn, because a commit waits for the disk.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ...shm.durations import NS_PER_MS, NS_PER_S
from ..engine import (
    AdapterSaid,
    AdminAsked,
    ClockStepped,
    ClockTicked,
    EntriesBarred,
    Event,
    LinkDown,
    LinkUp,
    NexusAsked,
    SignalArrived,
    Started,
    kill_level,
    route_of,
)
from ..journal import JournalError
from ..logs import Log
from ..messages import Fill, Hello, Kill, KillLevel, Reject, RejectCode, Resume, Role
from ..process import ProcessContext
from ..transport import LinkEvent, PeerUp
from .absences import Absences
from .clock import Clocks, EngineClock
from .counters import COMMIT_NS, SIGNAL_TO_ORDER_NS, TURN_NS, GatewayCounters
from .inbox import Inbox, PlatformMessage, Refused
from .journaled_engine import EngineFaultError, JournaledEngine
from .kill_instructions import KillInstructions, was_accepted
from .market_tasks import MarketTasks
from .markets import Markets
from .outage import JournalOutage
from .outbox import Outbox
from .ports import Ports
from .rolls import LiveContracts
from .snapshot_checks import SnapshotChecks, is_check

MAX_WAIT_MS: Final = 100
_CHECK_NS: Final = 250_000_000
"""Between two checks of the kill file, and two updates of the gauges."""
_DEADLINE_NS: Final = 2_000_000
"""Deadlines are in ms; those that fall due within this time share one event of the journal."""
_AFTER_FAULT_NS: Final = NS_PER_S


class Gateway:
    """The process's loop and everything it works with. `start`, then `turn` for ever. Used by one thread."""

    def __init__(
        self,
        context: ProcessContext,
        clock: Clocks,
        journaled: JournaledEngine,
        markets: Markets,
        contracts: LiveContracts,
        ports: Ports,
        kills: KillInstructions,
        counters: GatewayCounters,
        boot_id: str,
    ) -> None:
        """All of it is given from outside, so the simulator runs this class as it is, with its own clock, disk and
        links. The caller closes `ports`.
        """
        self._context = context
        self._log: Log = context.log
        self._clock = clock
        self._journaled = journaled
        self._engine_clock = EngineClock(clock, journaled.engine.state.now_ns)
        self._counters = counters
        self._boot_id = boot_id
        self._kills = kills
        self._ports = ports
        self._adapters, self._nexus = ports.adapters, ports.nexus
        self._inbox = Inbox(markets, self._known_hellos, self._known_legs)
        self._outbox = Outbox(ports.adapters, ports.nexus, markets.stand_ins, counters, self._log)
        self._outage = JournalOutage(context, journaled, (ports.adapters, ports.nexus), counters)
        self._signal_ns = 0
        max_age_ms, state = journaled.limits.max_rate_age_ms, lambda: journaled.engine.state
        self._market_tasks = MarketTasks(clock, markets, contracts, self._inbox, max_age_ms, state, self._apply)
        self._snapshot_checks = SnapshotChecks(journaled, ports.adapters, markets.stand_ins, self._log)
        self._next_check_ns = self._next_deadline_ns = 0
        self._connected: list[PeerUp] = []
        self._received: deque[LinkEvent] = deque()
        journaled.on_progress = self._show_rebuild
        self._absences = Absences(journaled.settings.cancel_on_disconnect_ms)

    def start(self) -> None:
        """Journal the start of the process, obey the kill file and choose the contracts, before the first message.

        Raises:
            EngineFaultError: the engine cannot start.
        """
        made = self._journaled
        offset_ns = self._engine_clock.offset_ns
        started = Started(
            boot_id=self._boot_id,
            settings=made.settings,
            limits=made.limits,
            wall_offset_ns=offset_ns,
            config_hash=made.origin.config_hash,
            limits_hash=made.origin.limits_hash,
            author=made.origin.author,
        )
        self._give(started, self._engine_clock.read())
        self._absences.begin(made.engine.state, self._clock.steady_ns())
        self._check_kill_file()
        self._market_tasks.start()
        self._finish_turn(self._clock.steady_ns())
        self._publish()

    def turn(self) -> None:
        """Wait for something to do, at most `MAX_WAIT_MS`, and do it.

        Raises:
            JournalError: the process was stopped while the journal could not be written.
        """
        self._ports.wait(self._wait_ms())
        started_ns = self._clock.steady_ns()
        self._read_clock()
        # Both ports are emptied before `tick` judges silence: after a long pause of this process the peers' heartbeats
        # are still waiting in the sockets, and links would be cut that are well.
        self._received += (*self._adapters.receive(), *self._nexus.receive())
        self._handle_received()
        self._received += (*self._adapters.tick(), *self._nexus.tick())
        self._handle_received()
        self._run_due_tasks(started_ns)
        self._finish_turn(started_ns)

    def _wait_ms(self) -> int:
        due_ns = self._journaled.engine.next_due_ns()
        until_due_ms = MAX_WAIT_MS if due_ns is None else -((self._engine_clock.read() - due_ns) // NS_PER_MS)
        return min(MAX_WAIT_MS, until_due_ms)

    def _handle_received(self) -> None:
        while self._received:
            self._handle(self._received.popleft())

    def _show_rebuild(self, share: float) -> None:
        """Called while the engine is rebuilt, in the middle of a turn, each 100 ms or so.

        Seconds may pass: launcher and peers would take the silence for a hang. What arrives is held until the engine is
        there; read it must be, since a peer whose messages are not acknowledged cuts its link.
        """
        self._counters.show_recovery(share)
        self._context.beat()
        for server in (self._adapters, self._nexus):
            self._received += server.receive()
            server.send_heartbeats()

    def obey(self, kill: Kill) -> None:
        """Apply a kill level that this process itself demands; the next turn commits and carries it out."""
        self._apply(AdminAsked(request=kill))

    def _handle(self, event: LinkEvent) -> None:
        self._absences.note(event, self._clock.steady_ns())
        try:
            translated = self._inbox.translate(event, self._clock.wall_ns())
        except Refused as refused:
            self._counters.add(refused.counter)
            self._counters.reject(refused.reject.code)
            server = self._adapters if event.hello.role is Role.ADAPTER else self._nexus
            server.send(event.peer, refused.reject)
            return
        if isinstance(event, PeerUp):
            self._log.info("peer connected", peer=event.peer, boot_id=event.hello.boot_id)
            self._connected.append(event)
        if translated is None:
            return
        if isinstance(translated, AdapterSaid) and is_check(translated.message):
            for found in self._snapshot_checks.take(translated.message, self._read_clock()):
                self._apply(found)
            return
        self._apply(translated)

    def _read_clock(self) -> int:
        """Return the engine's time. A step of the wall clock is an event of its own, before what follows it."""
        now_ns = self._engine_clock.read()
        step_ns = self._engine_clock.offset_ns - self._journaled.engine.state.wall_offset_ns
        if step_ns:
            self._give(ClockStepped(step_ns=step_ns), now_ns)
        return now_ns

    def _apply(self, event: Event) -> None:
        """Hand an event to the engine; its effects are held until the turn's commit. Count and log the outcome."""
        request = event.request if isinstance(event, AdminAsked) else None
        if isinstance(request, Kill) and request.level >= KillLevel.FLATTEN:
            # The engine must know which markets are shut: what protects stays there.
            self._market_tasks.value_held(always=True)
        self._give(event, self._read_clock())

    def _give(self, event: Event, now_ns: int) -> None:
        duplicates = self._duplicates()
        try:
            effects = self._journaled.handle(event, now_ns)
        except EngineFaultError as fault:
            self._counters.add("engine_faults")
            self._counters.end_recovery()
            # A deadline that raises would be due again in the next turn, and the gateway rebuild its engine for ever.
            self._next_deadline_ns = self._clock.steady_ns() + _AFTER_FAULT_NS
            if isinstance(event, Started):
                raise  # without it the engine would take links for up, and orders for answered, that are not
            if isinstance(event, LinkUp):
                reason = "the gateway's engine could not take the link up; connect again"
                self._adapters.cut(route_of(event.hello.platform, event.hello.account), reason, RejectCode.LINK_DOWN)
            if isinstance(event, AdapterSaid):
                self._stop_entries(event.message, str(fault))
            if isinstance(event, SignalArrived | NexusAsked | AdminAsked):
                signal_id = event.signal.signal_id if isinstance(event, SignalArrived) else ""
                text = f"{fault}; nothing was done, see the gateway's log"
                self._nexus.send(event.peer, Reject(code=RejectCode.NOT_ALLOWED, text=text, signal_id=signal_id))
            return
        self._counters.add("events")
        match event:
            case SignalArrived():
                self._signal_ns = self._signal_ns or self._clock.steady_ns()
                self._counters.count_signal(self._journaled.engine.state, event.signal.signal_id)
            case AdapterSaid(message=Fill()):
                self._counters.add("fills", 0 if self._duplicates() > duplicates else 1)
            case LinkUp():
                self._log.info("platform linked", route=route_of(event.hello.platform, event.hello.account))
                self._market_tasks.note_link_up()
            case LinkDown():
                self._log.warning("platform lost", route=route_of(event.platform, event.account), reason=event.reason)
            case AdminAsked(request=Resume() as resume):
                self._kills.note_resume(resume, was_accepted(effects))
            case _:
                pass

    def _duplicates(self) -> int:
        """How many reports of executions have only repeated one, so far."""
        return self._journaled.engine.state.counts.get("duplicate_fill", 0) + self._journaled.repetitions

    def _stop_entries(self, message: PlatformMessage, fault: str) -> None:
        """Stop entries on the platform whose message was dropped: it is missing in the books until a snapshot shows it.

        The link stays, since exits need it, and the same message may come again with each new session.
        """
        name, state = message.platform, self._journaled.engine.state
        if kill_level(state, route_of(name, message.account)) >= KillLevel.NO_NEW:
            return  # each kill requests a snapshot, which may hold what the engine cannot take
        reason = f"{fault}; a message of {name} was dropped, look at its positions"[:512]
        kill = Kill(request_id=0, level=KillLevel.NO_NEW, reason=reason, by="gateway", platform=name, own_only=True)
        self._apply(AdminAsked(request=kill))

    def _run_due_tasks(self, now_ns: int) -> None:
        self._market_tasks.run(now_ns)
        for wanted in self._snapshot_checks.run(self._read_clock()):
            self._apply(wanted)
        if now_ns >= self._next_check_ns:
            self._next_check_ns = now_ns + _CHECK_NS
            self._outage.check_files()
            self._check_kill_file()
            for lost in self._absences.pop_lost(self._journaled.engine.state, now_ns):
                self._apply(lost)
            self._publish()
        # Last: a message of this turn may have answered what was due.
        due_ns = self._journaled.engine.next_due_ns()
        if due_ns is not None and self._engine_clock.read() >= due_ns and now_ns >= self._next_deadline_ns:
            self._next_deadline_ns = now_ns + _DEADLINE_NS
            self._apply(ClockTicked())

    def _finish_turn(self, started_ns: int) -> None:
        """Commit, and only then send. The order of the steps is the crash safety of the gateway; keep it."""
        commit_from_ns = self._clock.steady_ns()
        try:
            effects = self._journaled.commit()
        except JournalError as error:
            self._outage.wait(error)
            effects = self._journaled.commit()
        done_ns = self._clock.steady_ns()
        if effects:
            self._counters.observe(COMMIT_NS, done_ns - commit_from_ns)
            self._counters.add("commits")
        self._market_tasks.publish_contracts()
        order_left = self._outbox.carry_out(effects)
        if self._signal_ns:
            if order_left:
                self._counters.observe(SIGNAL_TO_ORDER_NS, self._clock.steady_ns() - self._signal_ns)
            self._signal_ns = 0
        self._send_reports()
        # After the commit, which holds the resume. The kill file is the only other place that knows of the kill.
        self._kills.remove_resumed()
        for event in self._connected:
            self._resend_reports(event)
        self._connected.clear()
        self._journaled.checkpoint(self._engine_clock.now_ns)
        self._counters.add("turns")
        self._counters.observe(TURN_NS, self._clock.steady_ns() - started_ns)

    def _publish(self) -> None:
        self._counters.publish(self._journaled.engine.state, {"adapters": self._adapters, "nexus": self._nexus})

    def _send_reports(self) -> None:
        """Send the turn's reports to NEXUS, after the orders: making a report must not delay an order."""
        try:
            self._outbox.send_reports(self._journaled.pop_reports())
        except EngineFaultError:
            self._counters.add("engine_faults")

    def _check_kill_file(self) -> None:
        for kill in self._kills.pending(lambda: self._journaled.engine.state):
            self._apply(AdminAsked(request=kill))
        self._counters.set_kill_file(self._kills.level)
        self._counters.add("kill_file_not_opened", int(bool(self._kills.trouble)))
        if self._kills.trouble != self._journaled.engine.state.entries_barred:
            self._apply(EntriesBarred(reason=self._kills.trouble))

    def _resend_reports(self, event: PeerUp) -> None:
        """Send a NEXUS that has connected the newest report of each of its active signals: it may have missed some."""
        if event.hello.role is not Role.NEXUS:
            return
        state = self._journaled.engine.state
        for signal_id in state.active:
            if event.peer in state.signals[signal_id].report_to:
                self._nexus.send(event.peer, self._journaled.engine.report(signal_id))

    def _known_hellos(self) -> dict[str, Hello]:
        routes = self._journaled.engine.state.routes
        return {name: route.hello for name, route in routes.items() if not route.retired_ns}

    def _known_legs(self, signal_id: str) -> list[tuple[str, str]]:
        record = self._journaled.engine.state.signals.get(signal_id)
        return [] if record is None else [(leg.route, leg.symbol) for leg in record.legs]
