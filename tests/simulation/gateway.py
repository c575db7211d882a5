"""The gateway as a process would run it: engine, journal, crash, recovery. Here it can die between any two effects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.engine import Engine
from nexus_gateway.core.journal.recovery import decode_event
from nexus_gateway.core.journal.store import encode_event
from nexus_gateway.core.risk import Limits, day_bounds

from tests.simulation.due_times import scan_due_ns
from tests.simulation.faults import Faults
from tests.simulation.platform import OPENING, SYMBOL
from tests.simulation.schedule import MS, SECOND, Schedule

_encoder = msgspec.msgpack.Encoder()
CHECKPOINT_EVERY = 200


@dataclass
class Plants:
    """Bugs planted on purpose, to see that the invariants notice them."""

    skip_journal: bool = False
    resend_timeout: bool = False
    forget_executions: bool = False
    reset_counters: bool = False
    rebase_equity: bool = False
    forget_second_half: bool = False


@dataclass
class MemoryJournal:
    """The journal's contract (append, commit, rebuild) without a disk; a tail can be torn off, or all of it lost."""

    rows: list[tuple[int, bytes]] = field(default_factory=list)
    held: list[tuple[int, bytes]] = field(default_factory=list)
    intents: dict[str, int] = field(default_factory=dict)
    held_intents: list[str] = field(default_factory=list)
    checkpoints: list[tuple[int, bytes]] = field(default_factory=list)

    def append(self, payload: bytes, now_ns: int, effects: list[e.Effect]) -> None:
        self.held.append((now_ns, payload))
        for effect in effects:
            if isinstance(effect, e.SendToPlatform) and not isinstance(effect.message, m.SnapshotRequest):
                self.held_intents.append(fingerprint(effect.message))

    def commit(self) -> None:
        self.rows += self.held
        for intent in self.held_intents:
            self.intents[intent] = self.intents.get(intent, 0) + 1
        self.held, self.held_intents = [], []

    def lose_uncommitted(self) -> None:
        self.held, self.held_intents = [], []

    def tear(self, rows: int) -> None:
        """The newest rows are gone. What was once journaled stays in `intents`: that is history, not memory."""
        self.rows = self.rows[: max(len(self.rows) - rows, 0)]
        self.checkpoints = [c for c in self.checkpoints if c[0] <= len(self.rows)]

    def rebuild(self, settings: e.EngineSettings, limits: Limits, use_checkpoint: bool = True) -> Engine:
        engine, start = Engine(settings, limits), 0
        if self.checkpoints and use_checkpoint:
            start, state = self.checkpoints[-1]
            engine = Engine.load(state)
        for number in range(start, len(self.rows)):
            at_ns, payload = self.rows[number]
            engine.handle(decode_event(payload, number), at_ns)
        return engine


def fingerprint(message: m.Order | m.Cancel | m.Replace) -> str:
    return hashlib.blake2b(_encoder.encode(message), digest_size=12).hexdigest()


class Gateway:
    """`to_platform` and `to_nexus` are the links; `broken` collects violated invariants as they are seen."""

    def __init__(
        self,
        schedule: Schedule,
        faults: Faults,
        settings: e.EngineSettings,
        limits: Limits,
        plants: Plants,
        to_platform: Callable[[str, object], None],
        cut: Callable[[str], None],
        to_nexus: Callable[[object], None],
    ) -> None:
        self.schedule, self.faults, self.plants = schedule, faults, plants
        self.settings, self.limits = settings, limits
        self.to_platform, self.cut, self.to_nexus = to_platform, cut, to_nexus
        self.journal = MemoryJournal()
        self.engine: Engine | None = None
        self.committed_digest = ""
        self.broken: list[str] = []
        self.orders_sent: dict[str, int] = {}
        self.first_sent_ns: dict[str, int] = {}
        self.equity: dict[str, Decimal] = {}
        self.day_start: dict[str, tuple[int, Decimal]] = {}
        self.losses = 0
        self.lost_trades = 0
        self._trades_before: set[str] = set()
        self.crashes = 0
        self.orders = 0
        self.events = 0
        self.admin: list[object] = []
        self.on_start: Callable[[], None] = lambda: None
        self._timer = 0
        self._last_trades: list[str] = []

    def start(self) -> None:
        before = self.committed_digest
        self.engine = self.journal.rebuild(self.settings, self.limits)
        self.engine.drop_changes()
        if self._trades_before:
            self.lost_trades += len(self._trades_before - set(self.engine.state.day.trades))
            self._trades_before = set()
        # With a planted bug the other invariants have to notice it.
        if before and self.engine.digest() != before and not any(vars(self.plants).values()):
            self.broken.append("the engine rebuilt from the journal differs from the one that died")
        if self.plants.reset_counters:
            self.engine.state.day.trades.clear()
            self.engine.state.found_keys.clear()
        if self.plants.rebase_equity:
            for equity in self.engine.state.day.equity.values():
                equity.day_start = equity.now
        if self.plants.forget_executions:
            for record in self.engine.state.executions.values():
                record.seen = False
        if self.plants.forget_second_half:
            self._forget_second_half()
        boot = f"g{self.crashes}"
        self.handle(e.Started(boot_id=boot, settings=self.settings, limits=self.limits))
        self.on_start()

    def handle(self, event: e.Event) -> None:
        """One turn: think, write down, then act; each step may be the last."""
        if self.engine is None:
            return
        self.events += 1
        now_ns = self.schedule.now_ns
        effects = self.engine.handle(event, now_ns)
        if self.plants.resend_timeout:
            effects += self._resend()
        payload = encode_event(event)
        self.schedule.trace("event", payload)
        if not (self.plants.skip_journal and isinstance(event, e.SignalArrived)):
            self.journal.append(payload, now_ns, effects)
        if self._crash_now("crash before the commit"):
            return
        self.journal.commit()
        self._note_equity()
        self.committed_digest = ""
        if self._crash_now("crash after the commit", committed=True):
            return
        for effect in (*effects, *self.engine.pop_reports()):
            self._carry_out(effect)
            if self.faults.crash and self._crash_now("crash between two effects", committed=True):
                return
        if len(self.journal.rows) % CHECKPOINT_EVERY == 0:
            self.journal.checkpoints = [(len(self.journal.rows), self.engine.save())]
        self._set_timer()

    def day_ns(self) -> int:
        return day_bounds(self.schedule.now_ns, self.limits.day_zone, self.limits.day_starts)[0]

    def _note_equity(self) -> None:
        """What each day began with, from what is on disk."""
        assert self.engine is not None
        for name, route in self.engine.state.routes.items():
            if route.funds is None:
                continue
            if self.day_start.get(name, (0,))[0] != self.day_ns():
                self.day_start[name] = self.day_ns(), self.equity.get(name, route.funds.equity)
            self.equity[name] = route.funds.equity

    def _carry_out(self, effect: e.Effect) -> None:
        if isinstance(effect, e.SendToPlatform):
            message = effect.message
            self.schedule.trace("send", _encoder.encode(message))
            if not isinstance(message, m.SnapshotRequest) and fingerprint(message) not in self.journal.intents:
                self.broken.append(f"{message.client_order_id} left without a journaled intent")
            if isinstance(message, m.Order):
                self.orders += 1
                name = message.client_order_id
                self._check_contract(message)
                self._check_loss(message)
                self.orders_sent[name] = self.orders_sent.get(name, 0) + 1
                self.first_sent_ns.setdefault(name, self.schedule.now_ns)
                if self.orders_sent[name] > 1 + self.losses:
                    self.broken.append(f"{name} was sent {self.orders_sent[name]} times")
            self.to_platform(message.platform, message)
        elif isinstance(effect, e.TellNexus):
            self.to_nexus(effect.message)
        elif isinstance(effect, e.AnswerAdmin):
            self.admin.append(effect.message)
        elif isinstance(effect, e.CutLink):
            self.cut(effect.platform)

    def _check_contract(self, order: m.Order) -> None:
        """Nothing opens in a contract that has been rolled out of; what left in the same turn is cancelled there."""
        assert self.engine is not None
        chosen = self.engine.state.contracts.get(SYMBOL)
        parts = m.find_client_order_id(order.client_order_id)
        if chosen is None or parts is None or parts.role not in OPENING or not order.contract:
            return
        if order.contract != chosen.contract:
            self.broken.append(f"{order.client_order_id} opens in {order.contract}, {chosen.contract} is in front")

    def _check_loss(self, order: m.Order) -> None:
        assert self.engine is not None
        parts = m.find_client_order_id(order.client_order_id)
        most = self.limits.max_daily_loss_usd
        assert most is not None
        loss = sum((start - self.equity[name] for name, (_, start) in self.day_start.items()), Decimal(0))
        if parts is not None and parts.role is m.OrderRole.ENTRY and loss >= most and not self.losses:
            self.broken.append(f"{order.client_order_id} was entered after a loss of {loss}, limit {most}")

    def _forget_second_half(self) -> None:
        """As if what was opened in the new contract had been kept in memory only."""
        assert self.engine is not None
        for signal in self.engine.state.signals.values():
            for leg in signal.legs:
                if leg.roll_over_ended:
                    leg.orders.clear()
                    leg.roll_over_ended = False
                    leg.roll_over_until_ns = self.schedule.now_ns + 60 * SECOND

    def _resend(self) -> list[e.Effect]:
        assert self.engine is not None
        unknown = [o for o in self.engine.state.orders.values() if o.state is m.LegState.UNKNOWN]
        return [e.SendToPlatform(o.order) for o in unknown]

    def _crash_now(self, where: str, committed: bool = False) -> bool:
        if not self.faults.strike("crash", self.schedule):
            return False
        assert self.engine is not None
        self.faults.note(where)
        self.crashes += 1
        self.schedule.trace("crash")
        self.journal.lose_uncommitted()
        self.committed_digest = self.engine.digest() if committed else ""
        self._last_trades = list(self.engine.state.day.trades)
        self.engine = None
        if self.faults.strike("missing", self.schedule):
            self.journal.tear(len(self.journal.rows))
            self.committed_digest = ""
            self.losses += 1
        elif self.faults.strike("torn", self.schedule):
            self._trades_before = set(self._last_trades)
            self.journal.tear(self.schedule.rng.randrange(1, 40))
            self.committed_digest = ""
            self.losses += 1
        self.schedule.at(self.schedule.rng.randrange(50, 3_000) * MS, self.start)
        return True

    def _set_timer(self) -> None:
        assert self.engine is not None
        due_ns = self.engine.next_due_ns()
        if due_ns != (scanned_ns := scan_due_ns(self.engine.state)):
            self.broken.append(f"the engine is due at {due_ns}, a look at everything says {scanned_ns}")
        if due_ns is None:
            return
        self._timer += 1
        number = self._timer
        delay_ns = min(max(due_ns - self.schedule.now_ns, 20 * MS), 60 * SECOND)
        self.schedule.at(delay_ns, lambda: self._tick(number))

    def _tick(self, number: int) -> None:
        if number == self._timer and self.engine is not None:
            self.handle(e.ClockTicked())
