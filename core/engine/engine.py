"""The engine: one event in, effects out. Pure: the same events at the same times always give the same bytes."""

from __future__ import annotations

import hashlib
from typing import assert_never

import msgspec

from ..messages import (
    Account,
    AccountRetire,
    Acknowledge,
    Correction,
    Fill,
    Kill,
    OrderUpdate,
    Query,
    Reject,
    RejectCode,
    Report,
    Resume,
    SignalClose,
    Snapshot,
    StageChange,
)
from ..risk import Limits
from .admission import bar_entries
from .clock import follow_clock, roll_day
from .effects import Effect, SendToPlatform, TellNexus
from .events import (
    AdapterSaid,
    AdminAsked,
    ClockStepped,
    ClockTicked,
    ContractChosen,
    ContractNews,
    EntriesBarred,
    Event,
    LinkDown,
    LinkUp,
    MarketMoved,
    NexusAsked,
    NexusLost,
    SignalArrived,
    SignalRecalled,
    SnapshotChanges,
    SnapshotWanted,
    Started,
    describe_event,
)
from .invariants import check_touched
from .operator.acknowledge import apply_acknowledge
from .operator.admin import apply_resume, apply_stage, stop_for_breach, watch_limits
from .operator.kill import apply_kill, cancel_orphans, drive_kill, drive_sever
from .operator.queries import apply_query
from .operator.retire import apply_retire
from .orders.activity import count_messages
from .orders.as_sent import Message as SentMessage
from .orders.as_sent import follow_sent
from .orders.executions import apply_correction, apply_fill
from .orders.lifecycle import mark_unknown
from .orders.links import apply_account, await_executions, link_down, link_up, want_snapshot
from .orders.markets import record_markets, record_rates, record_sessions
from .orders.overfills import drive_overfills
from .orders.snapshots.agreement import Difference, compare_snapshot
from .orders.snapshots.changes import reduce_snapshot
from .orders.snapshots.reconciliation import apply_snapshot
from .orders.updates import apply_reject, apply_update
from .orders.wakes import wake_all
from .retention import evict_external, evict_over
from .rolls.decision import apply_contract, apply_news
from .settings import EngineSettings
from .signals.arrival import apply_signal
from .signals.changes import apply_change
from .signals.disconnect import cancel_entries_of
from .signals.finished import finish_signals, note_change, recall_signal
from .signals.reports import make_report
from .signals.settling import postpone_marked, settle_marked
from .state import STATE_LAYOUT, EngineState, route_of
from .state.layouts import read_state
from .timers import DueTimes, run_timers
from .turn import Turn, accounts_left, live_orders

_encoder = msgspec.msgpack.Encoder()


class Engine:
    """Owned by the one process that owns the journal. Not thread-safe; nothing else may change `state`."""

    def __init__(self, settings: EngineSettings, limits: Limits) -> None:
        self.state = EngineState(layout=STATE_LAYOUT, settings=settings, limits=limits, stage=limits.stage)
        # Not part of the state: it follows from the state, or was reported already. A replay needs neither.
        self._due_times = DueTimes()
        self._next_due_ns: int | None = None
        self._due_is_known = False
        self._changed: dict[str, None] = {}
        self._last_reports: dict[str, Report] = {}
        self.agreed_ns: dict[str, int] = {}
        """Route -> when the last regular comparison that agreed was requested, engine's time: shown to people, and the
        next regular comparison begins there. The engine decides nothing by it, since a replay does not know it."""

    def handle(self, event: Event, now_ns: int) -> list[Effect]:
        """Apply one event at `now_ns`, the engine's time. It never runs back: the last one stands for an earlier one.

        Returns the effects to carry out, in order, once the event is on disk; `pop_reports` returns the reports. Never
        raises for what a peer has sent.
        """
        state = self.state
        if isinstance(event, AdminAsked) and isinstance(event.request, Query):
            return self._answer(event.request, event.peer, now_ns)
        state.now_ns = max(state.now_ns, now_ns)
        turn = Turn(state, state.now_ns)
        follow_clock(turn, event)
        turn.money_moved = roll_day(turn)
        if turn.money_moved:
            evict_external(turn)
        self._dispatch(turn, event)
        self._settle(turn)
        count_messages(turn)
        breaches = check_touched(turn)
        if breaches:
            stop_for_breach(turn, describe_event(event), breaches)
        postpone_marked(turn)
        if isinstance(event, ClockTicked):
            finish_signals(turn)
            evict_over(turn)
        self._due_times.update(state, turn)
        self._due_is_known = False
        return turn.effects

    def condense(self, event: Event) -> Event:
        """Return an event as it is to be journaled and handled: a snapshot without what it repeats. Changes nothing.

        Handled next, before any other event, it has the outcome of the whole snapshot.
        """
        if isinstance(event, AdapterSaid) and isinstance(event.message, Snapshot):
            return reduce_snapshot(self.state, event.message)
        return event

    def compare_snapshot(self, snapshot: Snapshot, sent_ns: int) -> Difference | None:
        """Return what a snapshot and the books do not agree about; None = nothing. See `compare_snapshot`."""
        return compare_snapshot(self.state, snapshot, sent_ns)

    def follow_sent(self, made: list[Effect], sent: list[SentMessage]) -> None:
        """Bring the state to what the journal says was sent with the last event, where this program has made others.

        For a replay: what was sent was sent. `made`: the effects of that event; `sent`: the messages of the journal.
        """
        turn = Turn(self.state, self.state.now_ns)
        follow_sent(turn, [each.message for each in made if isinstance(each, SendToPlatform)], sent)
        postpone_marked(turn)
        self._due_times.update(self.state, turn)
        self._due_is_known = False

    def pop_reports(self) -> list[TellNexus]:
        """Return the reports that differ from the last ones, one a signal. To be called once a turn, after the commit.

        Several events of a turn give one report, since making one costs more than handling an event.
        """
        turn = Turn(self.state, self.state.now_ns)
        reports: list[TellNexus] = []
        while self._changed:
            signal_id = next(iter(self._changed))
            del self._changed[signal_id]  # first: a report that raises must not raise again in each turn to come
            record = self.state.signals.get(signal_id)
            if record is None:
                continue
            report = make_report(turn, record)
            before = self._last_reports.pop(signal_id, None)
            if signal_id in self.state.active:
                self._last_reports[signal_id] = report
            if before is None or not report.has_same_content(before):
                reports += [TellNexus(report, peer) for peer in record.report_to]
        return reports

    def report(self, signal_id: str) -> Report:
        """Return the report of a signal as of now. Changes nothing. Raises: KeyError for an unknown signal."""
        return make_report(Turn(self.state, self.state.now_ns), self.state.signals[signal_id])

    def drop_changes(self) -> None:
        """Drop the reports that a replay has made due: they were sent long ago, or NEXUS queries what it missed."""
        self._changed.clear()

    def next_due_ns(self) -> int | None:
        """Return when the next `ClockTicked` is needed, engine's time; None while nothing waits."""
        if not self._due_is_known:
            self._next_due_ns = self._due_times.next_ns(self.state)
            self._due_is_known = True
        return self._next_due_ns

    def _answer(self, query: Query, peer: str, now_ns: int) -> list[Effect]:
        """Answer a query. It changes nothing, not even time or day: it is not journaled, and no replay repeats it."""
        turn = Turn(self.state, max(self.state.now_ns, now_ns))
        apply_query(turn, query, peer, self.agreed_ns)
        return turn.effects

    def _dispatch(self, turn: Turn, event: Event) -> None:
        match event:
            case AdapterSaid():
                _apply_adapter_message(turn, event.message)
            case SignalArrived():
                record_rates(turn, event.markets)
                record_sessions(turn, event.markets)
                apply_signal(turn, event.signal, event.markets, event.peer, event.enter_by_ns)
            case ClockTicked():
                turn.by_clock = True
                run_timers(turn, *self._due_times.pop_due(turn.state))
            case NexusAsked():
                if isinstance(event.request, SignalClose):
                    # Its market may have shut since the last valuation: then the stop stays.
                    record_markets(turn, event.markets)
                apply_change(turn, event.request, event.markets, event.peer)
            case SnapshotChanges():
                apply_snapshot(turn, event)
                _touch_known_route(turn, event.snapshot.platform, event.snapshot.account)
            case SnapshotWanted():
                want_snapshot(turn, event)
            case LinkUp():
                link_up(turn, event.hello)
            case LinkDown():
                link_down(turn, event.platform, event.account)
            case MarketMoved():
                record_markets(turn, event.markets)
            case AdminAsked():
                _apply_admin_request(turn, event)
            case ContractChosen():
                apply_contract(turn, event)
                wake_all(turn)
            case ContractNews():
                apply_news(turn, event)
            case ClockStepped():
                pass  # followed before the dispatch
            case EntriesBarred():
                bar_entries(turn, event.reason)
            case NexusLost():
                cancel_entries_of(turn, event)
            case SignalRecalled():
                recall_signal(turn, event)
            case Started():
                _start(turn, event)
            case _:
                assert_never(event)

    def _settle(self, turn: Turn) -> None:
        """Let every touched route and signal take its next step.

        Kill levels come first: what they close has to be known when signals settle, or a leg would be protected or
        hedged once more in the turn in which it is flattened.
        """
        state = turn.state
        for name in list(turn.dirty_routes):
            drive_kill(turn, name)
            cancel_orphans(turn, name)
            drive_overfills(turn, name)
        settle_marked(turn)
        for name in list(turn.dirty_routes):
            drive_sever(turn, name)
            await_executions(turn, name)
        for signal_id in list(turn.dirty):
            self._changed[signal_id] = None
            note_change(turn, state.signals[signal_id])
        if turn.money_moved:
            watch_limits(turn)

    def save(self) -> bytes:
        """Return the whole state as bytes, for a checkpoint; `load` reads it."""
        return _encoder.encode(self.state)

    def digest(self) -> str:
        """Return a short hash of the state: equal states have equal digests."""
        return hashlib.blake2b(self.save(), digest_size=16).hexdigest()

    @classmethod
    def load(cls, data: bytes) -> Engine:
        """Make an engine with the state that `save` wrote, of this version or, converted, of a former one.

        Raises: GatewayError when the bytes are damaged, or of a version whose state this one cannot read.
        """
        state = read_state(data)
        engine = cls(state.settings, state.limits)
        engine.state = state
        engine._due_times.load(state)
        return engine


def _apply_adapter_message(turn: Turn, message: OrderUpdate | Fill | Correction | Reject | Snapshot | Account) -> None:
    match message:
        case Fill():
            apply_fill(turn, message)
        case OrderUpdate():
            apply_update(turn, message)
        case Snapshot():
            apply_snapshot(turn, reduce_snapshot(turn.state, message))
        case Correction():
            apply_correction(turn, message)
        case Reject():
            apply_reject(turn, message)
        case Account():
            apply_account(turn, message)
        case _:
            assert_never(message)
    _touch_known_route(turn, message.platform, message.account)


def _touch_known_route(turn: Turn, platform: str, account: str) -> None:
    name = route_of(platform, account)
    if name in turn.state.routes:
        turn.touch_route(name)


def _apply_admin_request(turn: Turn, event: AdminAsked) -> None:
    match event.request:
        case Kill():
            apply_kill(turn, event.request, event.peer)
        case Resume():
            apply_resume(turn, event.request, event.peer)
        case Acknowledge():
            apply_acknowledge(turn, event.request, event.peer)
        case AccountRetire():
            apply_retire(turn, event.request, event.peer)
        case StageChange():
            apply_stage(turn, event.request, event.peer)
        case Query():
            raise AssertionError("answered by Engine._answer")
        case _:
            assert_never(event.request)


def _start(turn: Turn, event: Started) -> None:
    """Apply the settings of a new process. Its links are all down, and orders without an answer are unknown."""
    state = turn.state
    expected = event.settings.expected_platforms
    # A platform that was taken out of the configuration since will never show anything.
    awaited = [name for name in expected if not state.boot_id or name in state.awaited_platforms]
    state.awaited_platforms = dict.fromkeys(awaited)
    state.settings, state.limits, state.boot_id, state.entries_barred = event.settings, event.limits, event.boot_id, ""
    turn.money_moved = True  # the limits may have changed
    if state.stage not in event.limits.stages:
        state.stage = min(event.limits.stages)
    roll_day(turn)
    for route in state.routes.values():
        route.up = route.ready = route.request_pending = False
        for order in live_orders(state, route):
            if not order.acked_ns:
                mark_unknown(turn, order, "the gateway restarted before an answer")
    wake_all(turn)
    for name in accounts_left(state):
        text = f"{name} is out of the configuration and still holds lots or orders: see `nexus-gateway positions`"
        turn.alert(RejectCode.PLATFORM_NOT_READY, text, state.routes[name].platform)
