"""The gateway's process in the simulation: the production `Gateway`, with a clock, a disk and links of the simulation.

It can die before a commit, after it, and between any two messages that it sends; its disk can be full for seconds; and
its engine can raise. What the invariants need to know of its life is noted here.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import SimpleNamespace

import msgspec
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.engine import Engine
from nexus_gateway.core.engine.invariants import check
from nexus_gateway.core.gateway.checkpoints import CheckpointBounds
from nexus_gateway.core.gateway.gateway import Gateway
from nexus_gateway.core.gateway.greeting import Greeter
from nexus_gateway.core.gateway.journaled_engine import EngineFaultError, JournaledEngine
from nexus_gateway.core.journal import JournalError
from nexus_gateway.core.journal.store import encode_event
from nexus_gateway.core.risk import Limits

from tests.simulation.due_times import find_lost, scan_due_ns
from tests.simulation.faults import Faults
from tests.simulation.journal import MemoryJournal
from tests.simulation.markets import Contracts, Markets
from tests.simulation.plants import Plants
from tests.simulation.ports import Port, Ports
from tests.simulation.progress import explain
from tests.simulation.schedule import MS, SECOND, Schedule
from tests.simulation.sent import SentOrders
from tests.simulation.surroundings import make_counters, make_kill_file, make_log
from tests.simulation.watched import WatchedEngine, WatchedJournaledEngine
from tests.support.settling import find_missed_steps

_encoder = msgspec.msgpack.Encoder()
CHECKPOINT_EVERY = 200
CHECK_EVERY = 20
"""Events between two looks at the engine's whole state. What an event has touched is checked after each one, in the
engine itself; a run in which only the whole shows a breach is repeated with a look after each event."""
MOST_TURNS_A_SECOND = 20_000
NEXUS, ADMIN = "nexus|sim", "admin|sim"


class StandsStillError(Exception):
    """The run makes no progress."""


class Crash(BaseException):
    """The process dies here. No code of the gateway may catch it."""


class SimulatedGateway:
    """`to_platform`, `to_nexus`: what it sends; `cut`: an adapter whose link it has cut; `on_start`: it is up (again).

    `broken` collects violated invariants as they are seen.
    """

    def __init__(
        self,
        schedule: Schedule,
        faults: Faults,
        settings: e.EngineSettings,
        limits: Limits,
        plants: Plants,
        markets: Markets,
        to_platform: Callable[[str, object], None],
        cut: Callable[[str], None],
        to_nexus: Callable[[object], None],
    ) -> None:
        self.schedule, self.faults, self.plants = schedule, faults, plants
        self.settings, self.limits = settings, limits
        self.to_platform, self.cut, self.to_nexus = to_platform, cut, to_nexus
        self.markets = markets
        self.contracts = Contracts(lambda *_: None, lambda: None)
        self.journal = MemoryJournal(
            WatchedEngine, WatchedEngine.load, self._before_commit, self._after_commit, self._watch_it
        )
        if plants.skip_journal:
            self.journal.forgets = e.SignalArrived
        self.on_start: Callable[[], None] = lambda: None
        self.on_handled: Callable[[e.Event], None] = lambda event: None
        self.on_fault: Callable[[], None] = lambda: None
        self.on_loss: Callable[[], None] = lambda: None
        self.ports: Ports | None = None
        self.greeter: Greeter | None = None
        self.broken: list[str] = []
        self.counts: dict[str, int] = {}
        self.sent = SentOrders(schedule, limits)
        self.check_every = CHECK_EVERY
        self.lost_trades = self.crashes = self.events = 0
        self.admin: list[object] = []
        self._gateway: Gateway | None = None
        self._journaled: JournaledEngine | None = None
        self._trades_before: set[str] = set()
        self._committed_digest = ""
        self._is_spoiled = False  # its engine has raised, and is not rebuilt yet
        self.full_until_ns = self._busy_until_ns = 0
        self._is_turning = False
        self.next_turn_ns = 0
        self._free_ns = 0
        self._turns = (0, 0)

    # Its life.

    def _steady_ns(self) -> int:
        return self.schedule.wall_ns if self.plants.deadlines_on_wall else self.schedule.now_ns

    @property
    def stands_still(self) -> bool:
        """Whether it can do nothing now: it sleeps, stalls, or waits for its disk."""
        return self.schedule.now_ns < max(self._busy_until_ns, self.full_until_ns)

    def sleep_until(self, at_ns: int) -> None:
        """The computer sleeps: no turn begins before."""
        self._busy_until_ns = max(self._busy_until_ns, at_ns)
        self._free_ns = max(self._free_ns, at_ns)

    @property
    def engine(self) -> Engine | None:
        return None if self._journaled is None else self._journaled.engine

    def start(self) -> None:
        before, boot = self._committed_digest, f"g{self.crashes}"
        log, kills = make_log(), make_kill_file()
        bounds = CheckpointBounds(events=CHECKPOINT_EVERY, payload_bytes=1 << 30, replay_ns=1 << 60)
        journaled = WatchedJournaledEngine(
            self.journal, self.journal.read, self.settings, self.limits, bounds, log, processor_ns=lambda: 0
        )
        self._look_at_the_rebuilt(journaled.engine, before)
        self.ports = Ports(Port(self._to_platform, self._cut), Port(self._to_nexus, self._reconnect))
        trading = SimpleNamespace(trading=SimpleNamespace(refuse_account=lambda platform, account: ""))
        platforms = dict.fromkeys(self.settings.expected_platforms, trading)
        config = SimpleNamespace(platforms=platforms, orders=SimpleNamespace(heartbeat_ms=1_000))
        self.greeter = Greeter(config, journaled, kills, boot)
        self._journaled = journaled
        self._gateway = Gateway(
            SimpleNamespace(log=log, sleep=self._sleep),
            SimpleNamespace(wall_ns=lambda: self.schedule.wall_ns, steady_ns=self._steady_ns),
            journaled,
            self.markets,
            self.contracts,
            self.ports,
            kills,
            make_counters(self.counts),
            boot,
        )
        self._free_ns = self.schedule.now_ns
        if self._run(self._gateway.start):
            for peer in (NEXUS, ADMIN):
                self._reconnect(peer)
            self.on_start()

    def _look_at_the_rebuilt(self, engine: Engine, before: str) -> None:
        """The next start knows what the one before had on disk. Then the planted bugs do their work."""
        if self._trades_before:
            self.lost_trades += len(self._trades_before - set(engine.state.day.trades))
            self._trades_before = set()
        # With a planted bug the other invariants have to notice it.
        if before and engine.digest() != before and not self.plants.any:
            self.broken.append("the engine rebuilt from the journal differs from the one that died")
        self.plants.spoil(engine)

    def _run(self, step: Callable[[], None]) -> bool:
        """One turn, or the start. False: the process has died in it."""
        second = self.schedule.now_ns // SECOND
        self._turns = (second, self._turns[1] + 1 if self._turns[0] == second else 1)
        if self._turns[1] > MOST_TURNS_A_SECOND:
            self.broken.append(f"the gateway turns without end: {self.explain()}")
            raise StandsStillError(self.broken[-1])
        self._is_turning = True
        try:
            step()
        except Crash:
            self._die()
            return False
        except (JournalError, EngineFaultError):  # both end a process; its launcher starts the next one
            self.faults.note("ended")
            self._committed_digest = ""
            self._die()
            return False
        finally:
            self._is_turning = False
        self._plan()
        return True

    def _die(self) -> None:
        assert self.engine is not None
        self.crashes += 1
        self.schedule.trace("crash")
        self.journal.drop_held()
        trades = set(self.engine.state.day.trades)
        self._journaled = self._gateway = self.ports = self.greeter = None
        if self.faults.strike("missing", self.schedule):
            self.journal.tear(len(self.journal.rows))
            self._committed_digest = ""
            self.sent.losses += 1
            self.on_loss()
        elif self.faults.strike("torn", self.schedule):
            self._trades_before = trades
            self.journal.tear(self.schedule.rng.randrange(1, 40))
            self._committed_digest = ""
            self.sent.losses += 1
            self.on_loss()
        self.schedule.at(self.schedule.rng.randrange(50, 3_000) * MS, self.start)

    def _crash_now(self, where: str) -> None:
        if self.faults.strike("crash", self.schedule):
            self.faults.note(where)
            assert self.engine is not None
            is_on_disk = not self.journal.held and not self._is_spoiled
            self._committed_digest = self.engine.digest() if is_on_disk else ""
            raise Crash

    # Its turns.

    def wake(self) -> None:
        """Something has arrived: a turn begins as soon as the last one is over."""
        self._turn_at(max(self.schedule.now_ns, self._free_ns))

    def _turn_at(self, at_ns: int) -> None:
        if self._gateway is None or self._is_turning or self.schedule.now_ns < self.next_turn_ns <= at_ns:
            return
        self.next_turn_ns = at_ns
        gateway = self._gateway
        self.schedule.at(max(at_ns - self.schedule.now_ns, 0), lambda: self._turn(gateway, at_ns))

    def _turn(self, gateway: Gateway, at_ns: int) -> None:
        if gateway is not self._gateway or at_ns != self.next_turn_ns or self._is_turning:
            return
        if self.schedule.now_ns < self._busy_until_ns:
            self.next_turn_ns = 0
            self._turn_at(self._busy_until_ns)
            return
        self._run(gateway.turn)

    def _plan(self) -> None:
        """The next turn: when the engine is due, at least once a second; the one that is over has taken its time."""
        assert self.engine is not None
        assert self.ports is not None
        due_ns = self.engine.next_due_ns()  # in the engine's time, which is steady
        if due_ns != (scanned_ns := scan_due_ns(self.engine.state)):
            self.broken.append(f"the engine is due at {due_ns}, a look at everything says {scanned_ns}")
        now_ns, rng = self.schedule.now_ns, self.schedule.rng
        busy_ns = rng.randrange(MS // 10, 3 * MS)
        if self.faults.strike("stall", self.schedule):
            busy_ns = rng.randrange(100, 1_500) * MS
            self._busy_until_ns = max(self._busy_until_ns, now_ns + busy_ns)
        self._free_ns = max(now_ns + busy_ns, self._busy_until_ns)
        self.next_turn_ns = 0
        waiting = self.ports.adapters.has_events or self.ports.nexus.has_events
        due_in_ns = SECOND if due_ns is None else due_ns - self.engine_ns()
        next_ns = now_ns if waiting else now_ns + min(due_in_ns, SECOND)
        self._turn_at(max(next_ns, self._free_ns))

    def engine_ns(self) -> int:
        """The engine's time: that of its wall clock, less the steps that it knows of."""
        assert self.engine is not None
        return self.schedule.wall_ns - self.engine.state.wall_offset_ns

    def _sleep(self, seconds: float) -> bool:
        """Wait for the disk: the world goes on meanwhile."""
        self.schedule.run_until(self.schedule.now_ns + int(seconds * SECOND))
        return False

    # Its disk.

    def _before_commit(self) -> None:
        if self.schedule.now_ns >= self.full_until_ns and self.faults.strike("disk_full", self.schedule):
            self.full_until_ns = self.schedule.now_ns + self.schedule.rng.randrange(100, 6_000) * MS
        if self.schedule.now_ns < self.full_until_ns:
            raise JournalError("the disk is full")
        self._crash_now("crash before the commit")

    def _after_commit(self) -> None:
        assert self.engine is not None
        self.sent.note_equity(self.engine.state)
        self._crash_now("crash after the commit")

    # What its engine does, and what it sends.

    def _watch_it(self, engine: Engine) -> None:
        """From now on: while it was rebuilt it has only repeated what had happened."""
        assert isinstance(engine, WatchedEngine)
        engine.process, self._is_spoiled = self, False

    def note_exception(self, event: e.Event, error: Exception) -> None:
        """The engine has raised by itself. The gateway lives on; the run has failed."""
        where = traceback.extract_tb(error.__traceback__)[-1]
        self.broken.append(f"{e.describe_event(event)} raised {error!r} at {where.filename}:{where.lineno}")

    def watch(self, engine: WatchedEngine, event: e.Event, effects: list[e.Effect]) -> list[e.Effect]:
        self.events += 1
        payload = encode_event(event)
        self.schedule.trace("event", payload)
        if engine.state.counts.get("invariant_broken") or self.events % self.check_every == 0:
            found = [*check(engine.state), *find_missed_steps(engine.state), *find_lost(engine)]
            self.broken += [f"after {e.describe_event(event)}: {text}" for text in found]
        if self.faults.strike("engine_fault", self.schedule):
            self._is_spoiled = True
            self.on_fault()
            raise RuntimeError("planted")
        self.on_handled(event)
        if self.plants.resend_timeout:
            unknown = [o for o in engine.state.orders.values() if o.state is m.LegState.UNKNOWN]
            effects = [*effects, *(e.SendToPlatform(order.order) for order in unknown)]
        if self.plants.send_before_commit:
            for effect in effects:
                if isinstance(effect, e.SendToPlatform):
                    message = effect.message
                    self._to_platform(f"{message.platform}|{message.account}", message)
            effects = [effect for effect in effects if not isinstance(effect, e.SendToPlatform)]
        return effects

    def _to_platform(self, peer: str, message: object) -> None:
        self.schedule.trace("send", _encoder.encode(message))
        assert self.engine is not None
        self.broken += self.sent.check(message, self.engine.state, self.journal)
        self.to_platform(message.platform, message)
        if self.faults.crash:
            self._crash_now("crash between two effects")

    def _to_nexus(self, peer: str, message: object) -> None:
        if peer == NEXUS:
            self.to_nexus(message)
        else:
            self.admin.append(message)
        if self.faults.crash:
            self._crash_now("crash between two effects")

    def _cut(self, peer: str) -> None:
        self.cut(peer.split("|")[0])

    def _reconnect(self, peer: str) -> None:
        """NEXUS and the operator connect at the start, and again when they were cut."""
        role = m.Role.NEXUS if peer == NEXUS else m.Role.ADMIN
        ports = self.ports

        def connect() -> None:
            if ports is not None and ports is self.ports and peer not in ports.nexus.sessions:
                ports.nexus.up(peer, m.Hello(role=role, name="sim", boot_id="1"))
                self.wake()

        self.schedule.at(self.schedule.rng.randrange(1, 200) * MS, connect)

    def ask(self, peer: str, body: object) -> None:
        """A message of NEXUS or the operator; lost while the gateway is down, or has no session with it."""
        if self.ports is not None:
            self.ports.nexus.said(peer, body)
            self.wake()

    def explain(self, route: str = "") -> str:
        return explain(self, route)
