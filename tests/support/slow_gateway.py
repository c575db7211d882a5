"""A gateway process whose engine takes its time over each event of the journal, and raises on a signal named FAULTY."""

from __future__ import annotations

import time
from typing import Any

from nexus_gateway.core.engine import Effect, Engine, SignalArrived
from nexus_gateway.core.gateway import main as run_gateway
from nexus_gateway.core.process import RECOVERING, ProcessContext

FAULTY = "raises-in-the-engine"


def main(context: ProcessContext) -> int:
    """As the gateway's own; each event takes `event_ms` longer for as long as the journal is read."""
    pause_s = float(context.arguments["event_ms"]) / 1000
    handle = Engine.handle

    def handle_slowly(engine: Engine, event: Any, now_ns: int) -> list[Effect]:
        if context.counters.values()[RECOVERING]:
            time.sleep(pause_s)
        elif isinstance(event, SignalArrived) and event.signal.signal_id == FAULTY:
            raise ZeroDivisionError("planned")
        return handle(engine, event, now_ns)

    Engine.handle = handle_slowly  # type: ignore[method-assign]  # this process has no other purpose
    return run_gateway(context)
