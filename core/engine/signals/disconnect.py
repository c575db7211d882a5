"""A NEXUS that is gone: its working entries are cancelled, where the configuration wants it.

What is held keeps its stop and target, and what closes or hedges goes on: all of it takes risk away.
"""

from __future__ import annotations

from collections.abc import Iterator

from ....shm.durations import NS_PER_MS, NS_PER_S
from ...messages import OrderRole, RejectCode
from ..events import NexusLost
from ..orders.placement import want_cancel
from ..state import EngineState, OrderRecord, SignalRecord
from ..turn import Turn, leg_orders


def entries_of(state: EngineState, peer: str) -> Iterator[tuple[SignalRecord, OrderRecord]]:
    """The working entries of signals whose reports go to this peer alone, and that are not being cancelled yet.

    A reduce-only signal has none: what it works closes what others hold. A signal that a second NEXUS has sent, too, is
    followed by that one.
    """
    for signal_id in state.active:
        record = state.signals[signal_id]
        if record.report_to != [peer] or record.signal.reduce_only:
            continue
        for leg in record.legs:
            for order in leg_orders(state, leg):
                if order.role is OrderRole.ENTRY and order.live and not order.cancel_wanted:
                    yield record, order


def cancel_entries_of(turn: Turn, event: NexusLost) -> None:
    """Cancel the working entries of a NEXUS that is gone, and say so in the reports of their signals."""
    found = list(entries_of(turn.state, event.peer))
    if not found:
        return
    wait_ms = turn.state.settings.cancel_on_disconnect_ms
    since = "" if wait_ms is None else f" for {wait_ms * NS_PER_MS / NS_PER_S:g} s"
    whose = f"NEXUS {event.peer.partition('|')[2] or event.peer}"
    why = f"{whose} was gone{since}: working entries are cancelled (orders.cancel_on_disconnect_ms)"
    for record, order in found:
        leg = record.legs[order.leg]
        leg.text = "; ".join(filter(None, (leg.text, why)))[:512]
        if why not in record.text:
            record.text = "; ".join(filter(None, (record.text, why)))[:512]
        want_cancel(turn, order)
        turn.touch(record.signal.signal_id)
    turn.count("nexus_lost")
    text = f"{whose} was gone{since}: {len(found)} working entries cancelled, what is held keeps its stops"
    turn.alert(RejectCode.LINK_DOWN, text)
