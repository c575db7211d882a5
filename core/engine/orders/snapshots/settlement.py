"""End contradictions by snapshots: what two of them show in the same way holds.

A contradiction ends in one of four ways here: the platform now reports the execution as its order is (`executions.py`);
two complete snapshots do not say it again, and the position agrees without it; two of them say it again, and the
position agrees with it, where that can be true (lots beyond an order's size, an id used twice); or an order status is
said as the order is. Everything else is the operator's to end.
"""

from __future__ import annotations

from decimal import Decimal

from ....messages import ContradictionKind, Executions
from ...state import ZERO, ContradictionRecord, PositionRecord, RouteRecord
from ...turn import Turn
from ..contradictions import STRIKES, Doubt, end_contradiction, is_confirmable, open_contradiction
from ..executions import book_confirmed
from ..overfills import note_overfill


def stands_about_orders(route: RouteRecord, symbol: str) -> bool:
    """Whether a contradiction about executions or orders of a symbol stands: then no figure alone settles its lots."""
    return any(
        symbol in each.barred and each.kind is not ContradictionKind.POSITION for each in route.contradictions.values()
    )


def settle_contradictions(
    turn: Turn,
    name: str,
    said_before: dict[str, int],
    gaps: dict[str, Decimal] | None,
    executions: Executions | None,
) -> int:
    """End what this snapshot settles. Returns how many still stand that another snapshot may settle.

    Only after a snapshot whose parts are all whole, as far as the platform can list them.
    `said_before`: contradiction -> how often it had been said again before this snapshot was applied. `gaps`:
    platform's lots less ours, None when its positions prove nothing. `executions`: None when they prove nothing.
    """
    route = turn.state.routes[name]
    again, silent = [], []
    for key, record in list(route.contradictions.items()):
        # An order status needs no executions and no position to be set right; what was traded needs both.
        if record.kind is ContradictionKind.POSITION or (record.exec_id and (gaps is None or executions is None)):
            continue
        if key not in said_before or record.repeated > said_before[key]:
            again.append((key, record))
        else:
            silent.append((key, record))
    for symbol in dict.fromkeys(symbol for _, record in again for symbol in record.symbols):
        if gaps is not None:
            _confirm(turn, name, symbol, [each for each in again if symbol in each[1].symbols], gaps)
    # Less than the whole period does not say it again rightly.
    for key, record in silent if route.whole_request else ():
        _withdraw(turn, name, key, record, gaps or {}, executions)
    return len(route.contradictions)


def _confirm(
    turn: Turn, name: str, symbol: str, said: list[tuple[str, ContradictionRecord]], gaps: dict[str, Decimal]
) -> None:
    """Book what two snapshots list although it was refused, when the position holds exactly those lots as well."""
    lots = [(key, record) for key, record in said if record.fill is not None and record.fill.symbol == symbol]
    if not lots or not all(is_confirmable(turn, record) for _, record in lots):
        return
    signed = sum((signed_lots(record) for _, record in lots), ZERO)
    if gaps.get(symbol, ZERO) != signed:
        for _, record in lots:
            record.confirmed_snapshots = 0
        return
    for key, record in lots:
        record.confirmed_snapshots += 1
        if record.confirmed_snapshots >= STRIKES:
            beyond = book_confirmed(turn, name, record)
            if beyond:
                note_overfill(turn, name, record, beyond)
            gaps[symbol] = gaps.get(symbol, ZERO) - signed_lots(record)
            end_contradiction(turn, name, key, "two snapshots list it, and the position holds it")


def signed_lots(record: ContradictionRecord) -> Decimal:
    """Lots of the execution that was refused, signed. The record has one."""
    assert record.fill is not None
    return record.fill.quantity * record.fill.side.sign


def _withdraw(
    turn: Turn,
    name: str,
    key: str,
    record: ContradictionRecord,
    gaps: dict[str, Decimal],
    executions: Executions | None,
) -> None:
    """End what two snapshots do not say again, when every position concerned agrees without it."""
    agrees = not any(gaps.get(symbol, ZERO) for symbol in record.symbols)
    reaches = record.fill is None or (executions is not None and executions.from_ns <= record.fill.ts_event_ns)
    if not agrees or not reaches:
        record.missed_snapshots = 0
        return
    record.missed_snapshots += 1
    if record.missed_snapshots >= STRIKES:
        end_contradiction(turn, name, key, "two snapshots do not say it again, and the position agrees without it")


def note_unstable_position(turn: Turn, name: str, symbol: str, position: PositionRecord, gap: Decimal) -> None:
    """Open a contradiction about a position whose difference is another one in each snapshot."""
    said = f"{position.net + gap} lots, and {position.net + position.mismatch} in the snapshot before"
    doubt = Doubt(ContradictionKind.POSITION, said, f"{position.net} lots, as the executions add up to")
    standing = turn.state.routes[name].contradictions
    if not any(each.kind is doubt.kind and symbol in each.symbols for each in standing.values()):
        open_contradiction(turn, name, doubt, [symbol], legs=_legs_holding(turn, name, symbol))


def _legs_holding(turn: Turn, name: str, symbol: str) -> list[tuple[str, int]]:
    return [
        (signal_id, number)
        for signal_id in turn.state.routes[name].holding_signals
        for number, leg in enumerate(turn.state.signals[signal_id].legs)
        if leg.route == name and leg.symbol == symbol and leg.open
    ]


def settle_position(turn: Turn, name: str, symbol: str, end: str) -> None:
    """End the contradiction about a position that two snapshots, or the executions, have settled."""
    for key, record in list(turn.state.routes[name].contradictions.items()):
        if record.kind is ContradictionKind.POSITION and symbol in record.symbols:
            end_contradiction(turn, name, key, end)
