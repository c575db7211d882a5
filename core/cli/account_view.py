"""Rows, lines and blocks of `orders` and `positions`. Pure: messages in, text out.

Plain text and no rich table: that cuts ids and prices off at the terminal's width, 80 columns in a pipe. What a person
has to act on is said in words, never by colour alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from ..messages import AccountState, Contradiction, PositionState, WorkingOrders, find_client_order_id
from ..messages.decimals import to_plain_builtins, write_plain

ORDER_COLUMNS: Final = (
    *("platform", "symbol", "role", "side", "quantity", "filled", "order_type", "limit_price", "stop_price", "state"),
    "client_order_id",
)
POSITION_COLUMNS: Final = (
    *("platform", "account", "symbol", "quantity", "reported", "agrees", "avg_price", "contract", "reported_age_s"),
    "note",
)
Row = dict[str, Any]


def order_rows(answers: Iterable[WorkingOrders]) -> list[Row]:
    """Return one row an order, ours and external ones."""
    return [
        {
            "platform": part.platform,
            "account": part.account,
            "role": _role_of(row.client_order_id),
            **to_plain_builtins(row),
        }
        for part in answers
        for row in part.rows
    ]


def _role_of(client_order_id: str) -> str:
    """Return the role of an order by its client order id; `external` for one that this gateway did not send."""
    parts = find_client_order_id(client_order_id)
    return "external" if parts is None else parts.role.name.lower()


def position_rows(states: Iterable[AccountState], now_ns: int) -> list[Row]:
    """Return one row a position that is held, reported, or waits for the operator; flat agreed ones are left out."""
    return [
        {
            "platform": state.platform,
            "account": state.account,
            "reconciled_age_s": _age_s(state.reconciled_ns, now_ns),
            **to_plain_builtins(position),
            # With a figure that was never reported nothing agrees yet, and nothing differs.
            "agrees": None if position.agrees and position.reported is None else position.agrees,
            "reported_age_s": _age_s(position.reported_ns, now_ns),
            "note": _note_of(state, position),
        }
        for state in states
        for position in state.positions
        if position.quantity or position.reported or not position.agrees or not position.acknowledged
    ]


def _note_of(state: AccountState, position: PositionState) -> str:
    """Return in words what is wrong with a position, and what comes next; empty when it agrees."""
    booked = write_plain(position.quantity)
    if not position.acknowledged:
        command = f"acknowledge {position.symbol} --holds LOTS --platform {state.platform}"
        return f"WAITS for `{command}`: it had differed, the platform's figure was taken, nothing opens there"
    if not position.agrees:
        shown = "no figure" if position.reported is None else write_plain(position.reported)
        stands = any(each.symbol == position.symbol for each in state.contradictions)
        ends = "the contradiction below has to end first" if stands else "a second snapshot decides"
        return f"DIFFERS: booked {booked}, the platform says {shown}; {ends}"
    if position.reported is None:
        return "the platform has never reported it"
    if position.reported != position.quantity:
        return "not compared yet: fills are newer than the report, or the report was incomplete"
    return ""


def account_rows(states: Iterable[AccountState], now_ns: int) -> list[Row]:
    """Return one row an account. One that holds nothing has a row too: nothing there is not the same as not known."""
    return [
        {
            "platform": state.platform,
            "account": state.account,
            "linked": state.linked,
            "ready": state.ready,
            "overdue_s": _age_s(state.overdue_since_ns, now_ns),
            "reconciled_age_s": _age_s(state.reconciled_ns, now_ns),
            "retired_age_s": _age_s(state.retired_ns, now_ns),
        }
        for state in states
    ]


def describe_account(row: Row) -> str:
    """Return the line of an account."""
    if row["retired_age_s"] is not None:
        return readable(f"{row['platform']}, account {row['account']}: retired {row['retired_age_s']} s ago")
    age_s = row["reconciled_age_s"]
    parts = [
        "linked" if row["linked"] else "not linked",
        "ready" if row["ready"] else "not ready",
        "NEVER reconciled" if age_s is None else f"reconciled {age_s} s ago",
    ]
    line = f"{row['platform']}, account {row['account']}: {', '.join(parts)}"
    if row["overdue_s"] is not None:
        line += (
            f"; a snapshot has been OVERDUE for {row['overdue_s']} s: what it holds and works is unknown, nothing "
            "opens there; look at the platform and its adapter's log"
        )
    return readable(line)


def describe_contradiction(contradiction: Contradiction, now_ns: int) -> list[str]:
    """Return the block of a contradiction."""
    where = f"{contradiction.platform}, account {contradiction.account}, {contradiction.symbol}"
    age_s = _age_s(contradiction.since_ns, now_ns)
    fields = {
        "execution": contradiction.exec_id,
        "order": contradiction.client_order_id,
        "said": contradiction.said,
        "expected": contradiction.expected,
        "barred": contradiction.barred,
        "ends when": contradiction.ends,
    }
    heading = f"CONTRADICTION {contradiction.kind} on {where}" + ("" if age_s is None else f", for {age_s} s")
    return [
        readable(heading),
        *(f"  {name + ':':<10} {readable(text)}" for name, text in fields.items() if text),
    ]


def table_lines(rows: Sequence[Row], columns: tuple[str, ...]) -> list[str]:
    """Return a table with aligned columns."""
    cells = [columns, *(tuple(_cell(row.get(name)) for name in columns) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return readable(str(value))


def readable(text: str) -> str:
    """Replace what would move the cursor or hide text on a terminal: ids and texts come from platforms."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _age_s(then_ns: int, now_ns: int) -> float | None:
    """Return the age of a time, seconds; None for 0, which stands for never."""
    return max(round((now_ns - then_ns) / 1e9, 1), 0.0) if then_ns else None
