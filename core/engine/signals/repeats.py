"""Whether what a platform says of a signal that has left the state only repeats what its rows say.

Then handling it would change nothing, and the signal need not be recalled: platforms list the executions and orders of
the day again and again. Whatever is in doubt is no repetition.
"""

from __future__ import annotations

from ...messages import Fill, LegState, WorkingOrder
from ..effects import FinishedExecution
from ..orders.contradictions import ANOTHER_DAY_NS
from ..orders.lifecycle import ENDS
from ..orders.transitions import TRANSITIONS
from ..orders.updates import reported_filled
from ..state import OrderRecord, route_of


def repeats_execution(known: FinishedExecution, fill: Fill, client_order_id: str) -> bool:
    """Whether a fill is this execution, as it is booked. `client_order_id`: ClOrdID of ours in it; empty = none."""
    same_terms = (fill.symbol, fill.side.sign, fill.quantity, fill.price) == (
        known.symbol,
        known.sign,
        known.quantity,
        known.price,
    )
    same_day = not (fill.ts_event_ns and known.ts_event_ns) or (
        abs(fill.ts_event_ns - known.ts_event_ns) <= ANOTHER_DAY_NS
    )
    # Without an id it says nothing of its order. One that is presumed busted and is listed again counts again.
    return same_terms and same_day and client_order_id in ("", known.client_order_id) and not known.presumed_busted


def repeats_order(record: OrderRecord, row: WorkingOrder, route: str) -> bool:
    """Whether an order status says of an order that has ended what is known: how it ended, and nothing more."""
    terms = record.order
    if route != route_of(terms.platform, terms.account) or (row.symbol, row.side) != (terms.symbol, terms.side):
        return False
    if record.presumed_ended or not row.state.final or row.quantity > record.most_qty:
        return False
    if row.platform_order_id not in ("", record.platform_order_id):
        return False
    if reported_filled(record, row) > record.max_cum_qty or row.filled > record.most_qty + record.written_off_qty:
        return False
    if row.state is LegState.FILLED:
        return True  # its executions say whether it filled
    step = TRANSITIONS.get((record.state, ENDS[row.state]))
    return step is not None and step.state is record.state
