"""Regular comparisons of each platform with the books. One that agrees is no event: an idle gateway writes nothing.

The engine itself compares a whole period with each new link, once an hour and before the trading day ends. In between,
each platform is asked every `EngineSettings.check_ms` for what happened since the last moment at which all agreed, the
platforms one after the other. What differs is not judged here: the engine requests a snapshot of its own.
"""

from __future__ import annotations

from typing import Final, Protocol

from msgspec import Struct, structs

from ...shm.durations import NS_PER_MS
from ..engine import AdapterSaid, Event, RouteRecord, SnapshotWanted, check_from_ns, route_of
from ..logs import Log
from ..messages import Account, Message, Snapshot, SnapshotRequest
from .journaled_engine import JournaledEngine
from .stand_ins import StandIns

_FIRST_ID: Final = 1 << 40
"""Requests of this file have numbers from here on; the engine's own count from 1 and never come so far."""


def is_check(message: Message) -> bool:
    """Whether a message answers a request of this file."""
    return isinstance(message, Snapshot) and message.request_id >= _FIRST_ID


class Sender(Protocol):
    """A port of the gateway."""

    def send(self, peer: str, *bodies: Message) -> bool:
        """Send to a peer; False without a link."""


class _Check(Struct):
    """Of one route. Times are the engine's, ns."""

    next_ns: int
    request_id: int = 0
    sent_ns: int = 0  # 0 = no answer is awaited
    from_ns: int = 0  # start of the executions that it asked for, UTC ns
    as_of_ns: int = 0  # of the last answer that agreed, by the clock that stamps its executions


class SnapshotChecks:
    """Used by the gateway's thread."""

    def __init__(self, journaled: JournaledEngine, adapters: Sender, stand_ins: StandIns, log: Log) -> None:
        self._journaled, self._adapters, self._stand_ins, self._log = journaled, adapters, stand_ins, log
        self._checks: dict[str, _Check] = {}
        self._last_id = _FIRST_ID - 1
        self._next_ns = 0

    def run(self, now_ns: int) -> list[Event]:
        """Request what is due. Returns the events of platforms that have not answered. `now_ns`: engine's time."""
        state = self._journaled.engine.state
        check_ms = state.settings.check_ms
        if check_ms is None or now_ns < self._next_ns:
            return []
        self._next_ns = now_ns + check_ms * NS_PER_MS // 64
        events: list[Event] = []
        for number, (name, route) in enumerate(state.routes.items()):
            if not (route.up and route.ready):
                self._checks.pop(name, None)
                continue
            check = self._checks.get(name)
            if check is None:
                phase_ns = check_ms * NS_PER_MS * (number + 1) // len(state.routes)
                self._checks[name] = _Check(now_ns + phase_ns)
            elif check.sent_ns:
                if now_ns - check.sent_ns >= state.settings.snapshot_ms * NS_PER_MS:
                    events.append(self._want(name, route, check, "no answer to a regular comparison"))
            elif now_ns >= check.next_ns:
                check.next_ns = now_ns + check_ms * NS_PER_MS
                if not (route.request_pending or route.snapshot_due_ns):  # else the engine compares itself
                    self._request(name, route, check, now_ns)
        return events

    def take(self, snapshot: Message, now_ns: int) -> list[Event]:
        """Compare an answer. Returns the events to give to the engine: none when all agrees."""
        assert isinstance(snapshot, Snapshot)
        engine = self._journaled.engine
        name = route_of(snapshot.platform, snapshot.account)
        route, check = engine.state.routes.get(name), self._checks.get(name)
        if route is None or check is None or not check.sent_ns or snapshot.request_id != check.request_id:
            return []  # of an earlier session, or later than the time that it had
        if route.request_pending:
            check.sent_ns = 0
            return []  # the engine compares more than this one
        difference = self._journaled.compare_snapshot(snapshot, check.sent_ns)
        events: list[Event] = []
        if snapshot.funds is not None and _is_new(snapshot.funds, route.funds):
            events.append(AdapterSaid(message=snapshot.funds, account=snapshot.account))
        if difference is not None:
            from_ns = 0 if difference.needs_whole else check.from_ns
            events.append(self._want(name, route, check, difference.text, from_ns))
        else:
            engine.agreed_ns[name] = check.sent_ns
            check.sent_ns, check.as_of_ns = 0, snapshot.executions.as_of_ns
        return events

    def _request(self, name: str, route: RouteRecord, check: _Check, now_ns: int) -> None:
        engine = self._journaled.engine
        self._last_id += 1
        agreed_ns = max(route.last_reconciled_ns, engine.agreed_ns.get(name, 0))
        check.request_id, check.sent_ns = self._last_id, now_ns
        check.from_ns = check_from_ns(engine.state, agreed_ns, check.as_of_ns)
        request = SnapshotRequest(
            request_id=self._last_id,
            platform=route.platform,
            account=route.account,
            executions_from_ns=check.from_ns,
        )
        self._adapters.send(name, self._stand_ins.outward(request))

    def _want(self, name: str, route: RouteRecord, check: _Check, reason: str, from_ns: int = 0) -> Event:
        report = self._log.debug if from_ns else self._log.info  # after each trade, it is no news
        report("the engine compares a platform itself", route=name, reason=reason)
        check.sent_ns = 0
        return SnapshotWanted(
            platform=route.platform, account=route.account, reason=reason[:512], executions_from_ns=from_ns
        )


def _is_new(funds: Account, known: Account | None) -> bool:
    """Whether an account's figures differ from those that the engine has, whenever they were read."""
    return known is None or structs.replace(funds, as_of_ns=known.as_of_ns) != known
