"""Settle every signal once more, on a copy: what that would change was missed when the last event was handled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core.engine.signals.fanout import settle
from nexus_gateway.core.engine.state import EngineState, LegRecord, SignalRecord
from nexus_gateway.core.engine.turn import Turn

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(EngineState)


def find_missed_steps(state: EngineState) -> list[str]:
    """Return the signals whose next step is due now although no deadline of theirs has passed, a sentence each."""
    copy = _copy_active(state)
    turn = Turn(copy, copy.now_ns)
    found = []
    for signal_id in copy.active:
        record = copy.signals[signal_id]
        if _is_due(record, copy.now_ns):
            continue  # the next tick settles it
        before = _encode(copy, record)
        turn.effects.clear()
        settle(turn, record)
        sent = [effect for effect in turn.effects if isinstance(effect, e.SendToPlatform)]
        changes = list(_differences(before, _encode(copy, record)))
        if changes or sent:
            found.append(f"{signal_id} was not settled: {'; '.join(changes[:5])} {sent[:2] or ''}")
    return found


def _copy_active(state: EngineState) -> EngineState:
    """Copy what a settle of the active signals reads, and nothing else: finished ones are many."""
    signals = {signal_id: state.signals[signal_id] for signal_id in state.active}
    legs = [leg for record in signals.values() for leg in record.legs]
    names = [name for leg in legs for name in leg.orders]
    names += [name for route in state.routes.values() for name in (*route.live, *route.unreported_orders)]
    executions = [key for leg in legs for key in leg.executions]
    small = structs.replace(
        state,
        signals=signals,
        signals_by_key={},
        orders={name: state.orders[name] for name in names},
        executions={key: state.executions[key] for key in executions},
    )
    return _decoder.decode(_encoder.encode(small))


def _is_due(record: SignalRecord, now_ns: int) -> bool:
    """Whether a deadline has passed; or a leg asks again every second."""
    if record.deadline_ns and record.decision in ("", "kept") and record.deadline_ns <= now_ns:
        return True
    return any(_leg_is_due(leg, now_ns) for leg in record.legs)


def _leg_is_due(leg: LegRecord, now_ns: int) -> bool:
    times = leg.retry_ns, leg.protect_retry_ns, leg.clearing_until_ns, leg.look_again_ns
    polls = leg.roll_over_pending and leg.retry_ns
    return bool(polls) or any(0 < each <= now_ns for each in times)


def _encode(state: EngineState, record: SignalRecord) -> dict[str, object]:
    orders = {name: state.orders[name] for leg in record.legs for name in leg.orders}
    return msgspec.to_builtins({"signal": record, "orders": orders})


def _differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from _differences(before.get(key), after.get(key), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from _differences(*pair, f"{path}[{number}]")
    elif path.endswith(".look_again_ns") and before and not 0 < after < before:
        return  # later than it was, or void: the tick in between finds that out
    elif before != after:
        yield f"{path} {before!r} -> {after!r}"[:300]
