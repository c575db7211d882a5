"""The operator's other commands: resume and change of stage; and the automatic step down on a breach."""

from __future__ import annotations

from typing import Final

from ....shm.durations import NS_PER_MS
from ...messages import AdminResult, Kill, KillLevel, RejectCode, Resume, StageChange
from ..effects import AnswerAdmin
from ..orders.activity import lift_latches
from ..orders.exposure import PROTECTIVE
from ..orders.links import request_snapshot
from ..orders.resting import end_orders_of_account
from ..orders.wakes import wake_route
from ..state import KillRecord, RouteRecord
from ..turn import Turn, live_orders
from .kill import apply_kill, blocking_orders
from .outlook import describe_link, describe_unfinished, why_gone

_COMPARED_WITHIN_MS: Final = 60_000
"""Before a stage goes up, the whole period has been compared with each platform this lately."""
_FIRST_SNAPSHOT: Final = "the first complete snapshot since it was linked has not come yet"


def apply_resume(turn: Turn, command: Resume, peer: str) -> None:
    """Return to normal trading, if nothing is unknown, unreconciled or mismatched; else refuse and list what is.

    What goes on by itself is named, and refuses nothing: an entry whose cancels are refused, a leg that is being
    closed. One order at one platform must not keep all of them shut; its lots count in every limit, its cancel is sent
    on, and what it fills gets its stop.
    """
    state = turn.state
    known = [name for name, route in state.routes.items() if command.platform in ("", route.platform)]
    wanted = [name for name in known if not state.routes[name].retired_ns]
    names = [name for name in wanted if not _is_left_behind(turn, state.routes[name])]
    lines = []
    for name in names:
        route = state.routes[name]
        if route.severed:
            # What happened while the link was cut is unknown: it may come up, and trade only after a second resume.
            route.severed = False
            state.kills[name].level = KillLevel.NO_NEW
            state.kills[name].verified = True
            lines.append(f"{name}: the link may come up again; resume once more when it is reconciled")
            continue
        # An unknown order may be a position: trading on beside it could double it.
        unknown = blocking_orders(state, name)
        if unknown:
            lines.append(f"{name}: {len(unknown)} orders with an unknown outcome")
        if not (route.up and route.ready) or route.overdue_since_ns:
            lines.append(f"{name}: not connected and reconciled: {describe_link(turn, route) or _FIRST_SNAPSHOT}")
        for standing in route.contradictions.values():
            subject = standing.exec_id or standing.client_order_id or standing.symbols[0]
            lines.append(f"{name}: contradicts itself, {standing.kind} of {subject}; see `nexus-gateway orders`")
        for symbol, position in route.positions.items():
            if position.blocked or position.mismatch_snapshots:
                lines.append(f"{name}: position of {symbol} differed; type `acknowledge {symbol} --holds LOTS`")
    if lines:
        # No kill level is lowered while one route is not clean: signals would trade on a part of their platforms.
        _answer(turn, peer, command.request_id, RejectCode.NOT_ALLOWED, "not resumed", lines)
        return
    if not command.platform:
        state.kill = KillLevel.NORMAL
    for name in names:
        state.kills[name] = KillRecord()
    text = "" if not state.kill else f"the kill level for all platforms is still {state.kill.name.lower()}"
    if not wanted and command.platform:
        since = f" since {', '.join(known)} was retired" if known else ""
        text = f"no account of {command.platform} has connected{since}; only its kill instruction in the kill file is "
        text += "removed"
    turn.alert(RejectCode.NONE, f"resumed by {command.by}: {command.reason}", command.platform)
    outcome = [f"{name}: " + ("normal" if name in names else "not linked and flat, stays as it is") for name in wanted]
    for name in names:
        end_orders_of_account(turn, state.routes[name])
        _wake_legs(turn, name)
    outcome += lift_latches(turn, command.platform)
    for name in names:
        outcome += [f"{name}: {each}"[:512] for each in describe_unfinished(turn, name, state.routes[name])]
    _answer(turn, peer, command.request_id, RejectCode.NONE, text, outcome)


def _wake_legs(turn: Turn, name: str) -> None:
    """Let what is held get its stops again at once, and repeat no cancel of one that the kill level wanted to end."""
    for order in live_orders(turn.state, turn.state.routes[name]):
        leg = turn.leg(order.signal_id, order.leg)
        if order.role in PROTECTIVE and leg is not None and leg.open and not leg.closing:
            order.cancel_wanted = False
    wake_route(turn, name)


def _is_left_behind(turn: Turn, route: RouteRecord) -> bool:
    """Whether an account is not linked, holds nothing, and was replaced or removed from the configuration.

    Resume does not wait for it: it would wait for ever.
    """
    if route.up or route.severed or route.live or route.unreported_orders:
        return False
    if any(position.net or position.mismatch_snapshots for position in route.positions.values()):
        return False
    return bool(why_gone(turn.state, route))


def apply_stage(turn: Turn, command: StageChange, peer: str) -> None:
    """Change the stage: down at once; up one at a time, with evidence and that stage's sentence typed."""
    state = turn.state
    wanted = state.limits.stages.get(command.stage)
    refusal, code = "", RejectCode.NOT_ALLOWED
    if wanted is None:
        refusal = f"stage was {command.stage}, described are {sorted(state.limits.stages)}"
    elif command.stage > state.stage + 1:
        refusal = f"stage was {command.stage}, from {state.stage} only {state.stage + 1} is next"
    elif command.stage > state.stage:
        if command.confirmation != wanted.confirmation:
            refusal = f'type this sentence to go up: "{wanted.confirmation}"'
        elif not command.evidence:
            refusal = "going up needs evidence: name the report it rests on"
        elif state.day.breached or state.kill > KillLevel.NORMAL:
            refusal = "a limit was breached today, or the kill switch is on"
        else:
            refusal = _compare_all(turn)
            code = RejectCode.PLATFORM_NOT_READY
    if refusal:
        _answer(turn, peer, command.request_id, code, refusal, [])
        return
    turn.alert(RejectCode.NONE, f"stage {state.stage} -> {command.stage} by {command.by}: {command.evidence}")
    state.stage = command.stage
    _answer(turn, peer, command.request_id, RejectCode.NONE, f"stage is {command.stage}", [])


def _compare_all(turn: Turn) -> str:
    """Compare the whole period with each linked platform. Returns why the stage stays; empty = all of them agree.

    A bust of hours ago would make the evidence wrong. Regular comparisons do not reach back so far.
    """
    state = turn.state
    if state.settings.check_ms is None:
        return ""  # journals of before, in which the stage went up at once
    waiting = []
    for name, route in state.routes.items():
        if not route.up or route.retired_ns:
            continue
        is_old = turn.now_ns - route.whole_compared_ns > _COMPARED_WITHIN_MS * NS_PER_MS
        if is_old and not route.request_pending:
            request_snapshot(turn, route)
        if is_old or route.request_pending or route.snapshot_due_ns or route.contradictions:
            waiting.append(name)
    if not waiting:
        return ""
    return (
        f"the whole period is compared with {', '.join(waiting)} first, the stage stays meanwhile; repeat the command"
    )


def watch_limits(turn: Turn) -> None:
    """Act on a breached loss limit: REDUCE_ONLY, and one stage down. At most once a day.

    A drawdown lasts longer than a day. It is a breach when it begins, and not again on each day that it lasts: that
    would step down through all stages without a trade.
    """
    state = turn.state
    limits = state.limits
    loss, drawdown = state.day.loss_usd(), state.day.drawdown_usd()
    lasted = state.day.drawdown_breached
    state.day.drawdown_breached = limits.max_drawdown_usd is not None and drawdown >= limits.max_drawdown_usd
    if state.day.breached:
        return
    if limits.max_daily_loss_usd is not None and loss >= limits.max_daily_loss_usd:
        reason = f"daily loss {loss} USD reached the limit of {limits.max_daily_loss_usd}"
    elif state.day.drawdown_breached and not lasted:
        reason = f"drawdown {drawdown} USD reached the limit of {limits.max_drawdown_usd}"
    else:
        return
    state.day.breached = True
    state.stage = max((number for number in limits.stages if number < state.stage), default=state.stage)
    turn.count("limit_breached")
    apply_kill(
        turn,
        Kill(request_id=0, level=KillLevel.REDUCE_ONLY, reason=reason, by="gateway", own_only=True),
        "",
    )


def stop_for_breach(turn: Turn, event: str, breaches: list[str]) -> None:
    """Stop entries on all platforms: the engine's own books contradict themselves, which is a fault of this program.

    What is open stays protected and can be closed. After a `resume` the next event that meets the same contradiction
    stops entries again.
    """
    first = False
    for breach in breaches:
        rule = f"invariant_{breach.split(':', 1)[0]}"
        turn.count(rule)
        first |= turn.state.counts[rule] == 1
    turn.count("invariant_broken")
    reason = f"the gateway's books contradict themselves after {event}: {'; '.join(breaches[:3])}"[:512]
    if turn.state.kill < KillLevel.NO_NEW:
        apply_kill(turn, Kill(request_id=0, level=KillLevel.NO_NEW, reason=reason, by="gateway", own_only=True), "")
    elif first:
        turn.alert(RejectCode.NOT_ALLOWED, reason)


def _answer(turn: Turn, peer: str, request_id: int, code: RejectCode, text: str, lines: list[str]) -> None:
    done = code is RejectCode.NONE
    result = AdminResult(
        request_id=request_id, accepted=done, done=done, code=code, text=text, lines=tuple(lines[:500])
    )
    turn.effects.append(AnswerAdmin(result, peer))
