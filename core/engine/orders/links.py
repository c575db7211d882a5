"""Links to the platforms: up, down, and snapshot requests. A link that is up may not trade before a snapshot."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from ....shm.durations import NS_PER_MS, NS_PER_S
from ...messages import Account, Hello, KillLevel, LegState, RejectCode, SnapshotRequest
from ..clock import earliest_wall_ns
from ..effects import CutLink, SendToPlatform
from ..events import SnapshotWanted
from ..state import EngineState, KillRecord, RouteRecord, route_of
from ..turn import Turn, live_orders
from .lifecycle import mark_unknown
from .renaming import rename_rolled
from .wakes import wake_route

_OWED_PERIODS: Final = 3
"""A complete snapshot that was requested this many `snapshot_ms` ago, and has not come since, is overdue."""
_BUSTS_WITHIN_MS: Final = 3_600_000
"""Exchanges bust trades within minutes. A bust later than this shows only as a position mismatch."""
_BEFORE_DAY_ENDS_MS: Final = 120_000
"""The trading day is compared as a whole this long before it ends: its period begins with the day."""
_UNKNOWN_AGAIN_MS: Final = 30_000
"""Between two snapshots that are requested because the outcome of an order is unknown, if nothing else asks for one."""
_APART_MS: Final = 5_000
"""Between the whole comparisons of two platforms."""
_OVERTAKEN_NS: Final = 10 * NS_PER_S
"""A newer figure of an account overtakes an older one by seconds at most. One that is older than this is newer: the
platform's clock was set back, and until it has caught up a loss would not be seen."""


def link_up(turn: Turn, hello: Hello) -> None:
    """Link is up. The route is not ready until a snapshot has been reconciled."""
    name = route_of(hello.platform, hello.account)
    route = turn.state.routes.get(name)
    if route is None:
        route = turn.state.routes[name] = RouteRecord(platform=hello.platform, account=hello.account, hello=hello)
        _begin(turn, name, route)
    elif route.retired_ns:
        route.retired_ns = 0
        text = f"{name} links again after it was retired: what it holds is taken as it is, as that of a new account"
        turn.alert(RejectCode.NONE, text, route.platform)
        _begin(turn, name, route)
    if route.severed:
        turn.count("link_refused_severed")
        turn.effects.append(CutLink(route.platform, route.account))
        return
    rename_rolled(turn, name, route, hello)
    route.hello = hello
    route.up = True
    route.ready = False
    for order_id in route.live:
        turn.await_answer(order_id)
    request_snapshot(turn, route)
    turn.touch_route(name)
    wake_route(turn, name)


def _begin(turn: Turn, name: str, route: RouteRecord) -> None:
    """Put an account of which nothing is known under the kill level of all platforms: it was set before."""
    if turn.state.kill > KillLevel.NORMAL:
        turn.state.kills[name] = KillRecord(
            level=turn.state.kill,
            own_only=turn.state.kill_own_only,
            requested_ns=turn.now_ns,
            verified=False,
            verifying_request_id=route.request_id + 1,
        )


def link_down(turn: Turn, platform: str, account: str) -> None:
    """Link is down. Orders without an answer become unknown; those that were acknowledged stay as they are."""
    name = route_of(platform, account)
    route = turn.state.routes.get(name)
    if route is None:
        return
    route.up = False
    route.ready = False
    route.request_pending = False
    route.owes_since_ns = route.overdue_since_ns = route.owed_requests = 0
    for record in live_orders(turn.state, route):
        if record.state is LegState.SENT:
            mark_unknown(turn, record, "the link went down before an answer")
    turn.touch_route(name)
    wake_route(turn, name)


def request_snapshot(turn: Turn, route: RouteRecord, from_ns: int = 0) -> None:
    """Request a snapshot. One request at a time; a lost one is repeated by the timers, for the whole period.

    `from_ns`: start of the executions to ask for, UTC ns; 0 = those of the whole period.
    """
    if not route.up:
        return
    route.request_id += 1
    route.request_sent_ns = turn.now_ns
    route.request_pending = True
    route.whole_request = not from_ns
    route.snapshot_due_ns = 0
    route.owed_requests = route.owed_requests + 1 if route.owes_since_ns else 1
    route.owes_since_ns = route.owes_since_ns or turn.now_ns
    turn.effects.append(
        SendToPlatform(
            SnapshotRequest(
                request_id=route.request_id,
                platform=route.platform,
                account=route.account,
                executions_from_ns=from_ns or executions_from_ns(turn, route),
            )
        )
    )


def snapshot_due_ns(state: EngineState, name: str) -> int:
    """Return when the engine requests the next snapshot of a route, engine's time, if none is pending.

    Where regular comparisons are made outside of the engine, its own are rare and cover a whole period: one at the end
    of each trading day too, and those of several platforms not at the same time.
    """
    route, settings = state.routes[name], state.settings
    if route.snapshot_due_ns:
        return route.snapshot_due_ns
    due_ns = route.whole_compared_ns + settings.proof_ms * NS_PER_MS
    if settings.check_ms is None:
        return due_ns
    apart_ns = list(state.routes).index(name) * _APART_MS * NS_PER_MS
    day_check_ns = state.day.ends_ns - state.wall_offset_ns - _BEFORE_DAY_ENDS_MS * NS_PER_MS - apart_ns
    if state.day.ends_ns and route.whole_compared_ns < day_check_ns:
        return min(due_ns - apart_ns, day_check_ns)
    return due_ns - apart_ns


def want_snapshot(turn: Turn, event: SnapshotWanted) -> None:
    """Request a snapshot, unless one is pending: what a regular comparison has found is for the engine to settle."""
    route = turn.state.routes.get(route_of(event.platform, event.account))
    if route is not None and not route.request_pending:
        request_snapshot(turn, route, event.executions_from_ns)


def overdue_ns(state: EngineState, route: RouteRecord) -> int | None:
    """Return when a snapshot that this route owes becomes overdue; None while it owes none, or is overdue."""
    # By requests as well as by time: a gateway that slept has asked only once, and its answer may be waiting.
    if not route.up or route.owed_requests < _OWED_PERIODS or route.overdue_since_ns:
        return None
    return route.owes_since_ns + _OWED_PERIODS * state.settings.snapshot_ms * NS_PER_MS


def note_overdue(turn: Turn, name: str) -> None:
    """Stop entries on a route that has owed a complete snapshot for too long. What it may have done is unknown.

    Silence proves nothing: no order or lot becomes another one because of it. Exits and stops go on.
    """
    route = turn.state.routes[name]
    route.overdue_since_ns = turn.now_ns
    turn.count("snapshot_overdue")
    seconds = (turn.now_ns - route.owes_since_ns) // NS_PER_S
    turn.alert(
        RejectCode.PLATFORM_NOT_READY,
        f"{name}: no complete snapshot for {seconds} s; what it holds and works is unknown, nothing opens there until "
        f"one has come{_barred_by_doubt(route)}: look at the platform and its adapter's log",
        route.platform,
    )
    _touch_holders(turn, name)


def _barred_by_doubt(route: RouteRecord) -> str:
    """Name the symbols for which nothing leaves at all, since a position differed and no second snapshot has come."""
    doubtful = [symbol for symbol, position in route.positions.items() if position.mismatch_snapshots]
    if not doubtful:
        return ""
    return f", and nothing at all is sent for {', '.join(doubtful)} until then or `acknowledge SYMBOL --holds LOTS`"


def pay_snapshot(turn: Turn, name: str) -> None:
    """Note that a complete snapshot has come: the route owes none any more."""
    route = turn.state.routes[name]
    if route.overdue_since_ns:
        turn.alert(RejectCode.NONE, f"{name}: a complete snapshot has come, it trades again", route.platform)
        _touch_holders(turn, name)
    route.owes_since_ns = route.overdue_since_ns = route.owed_requests = 0


def _touch_holders(turn: Turn, name: str) -> None:
    """Make new reports of the signals that have something on a route."""
    for signal_id in turn.state.routes[name].active_signals:
        turn.touch(signal_id)


def executions_from_ns(turn: Turn, route: RouteRecord) -> int:
    """Start of the executions to request, UTC ns: the day's start, the time at which the oldest live order was sent, or
    some time before the last reconciliation, whichever is the earliest.

    The last reconciliation, because a stop kept by the platform may have filled while the link was down, over a night
    or a weekend: without that execution the position could not be explained, and its result would be missing. Some time
    before it, because a reconciled trade may be busted later; and at least as long as a signal is not stale, or with a
    journal that was lost just after a day began, a signal of just before would be traded a second time.
    """
    margin_ms = max(_BUSTS_WITHIN_MS, turn.state.limits.max_signal_age_ms)
    oldest = min(turn.state.day.started_ns, (route.whole_compared_ns or turn.now_ns) - margin_ms * NS_PER_MS)
    for record in live_orders(turn.state, route):
        oldest = min(oldest, record.sent_ns)
    # The platform stamps executions by the wall clock, which may have been set back since, or by a clock of its own.
    earliest = earliest_wall_ns(turn.state, oldest)
    if route.executions_as_of_ns:
        earliest = min(earliest, route.executions_as_of_ns - margin_ms * NS_PER_MS)
    return max(earliest - turn.state.settings.settle_ms * NS_PER_MS, 0)


def schedule_snapshot(turn: Turn, route: RouteRecord, in_ms: int = 0) -> None:
    """Request a snapshot at once or in `in_ms`, unless one is pending or due earlier."""
    due_ns = turn.now_ns + in_ms * NS_PER_MS
    if not route.request_pending and (not route.snapshot_due_ns or due_ns < route.snapshot_due_ns):
        route.snapshot_due_ns = due_ns


def await_executions(turn: Turn, name: str) -> None:
    """Request a snapshot soon when a platform counts lots as filled and has sent no execution for them; and now and
    then while the outcome of an order is unknown, which no snapshot may have shown.
    """
    route = turn.state.routes[name]
    if route.unreported_orders and route.up:
        schedule_snapshot(turn, route, turn.state.settings.retry_ms)
    elif route.unknown_orders and route.up:
        schedule_snapshot(turn, route, _UNKNOWN_AGAIN_MS)


def apply_account(turn: Turn, funds: Account) -> None:
    """Record balance and equity for the loss limits. Without a rate the loss is unknown, and entries are refused."""
    route = turn.state.routes.get(route_of(funds.platform, funds.account))
    if route is None:
        turn.count("account_from_unknown_route")
        return
    older_ns = 0 if route.funds is None else route.funds.as_of_ns - funds.as_of_ns
    if 0 < older_ns <= _OVERTAKEN_NS:
        turn.count("stale_update")
        return
    route.funds = funds
    price_account(turn, route)


def price_account(turn: Turn, route: RouteRecord) -> None:
    """Convert an account's equity to USD; called again when a rate arrives."""
    funds = route.funds
    if funds is None:
        return
    name = route_of(route.platform, route.account)
    known = turn.state.usd_rates.get(funds.currency)
    rate = Decimal(1) if funds.currency == "USD" else None if known is None else known.value
    if rate is None:
        turn.count("account_without_rate")
        turn.state.day.unpriced_accounts[name] = None
        return
    turn.state.day.unpriced_accounts.pop(name, None)
    turn.money_moved = True
    # A figure from before our day began states the start of the day before.
    start = funds.day_start_equity if funds.as_of_ns >= turn.state.day.started_ns else None
    turn.state.day.set_equity(name, funds.equity, start, rate)
