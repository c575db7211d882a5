"""A gateway process whose engine takes its time over each event, as a long journal does."""

from __future__ import annotations

import time
from typing import Any

from nexus_gateway.core.engine import Effect, Engine
from nexus_gateway.core.gateway import main as run_gateway
from nexus_gateway.core.process import ProcessContext


def main(context: ProcessContext) -> int:
    """As the gateway's own; each event takes `event_ms` longer for as long as the journal is read."""
    pause_s = float(context.arguments["event_ms"]) / 1000
    handle = Engine.handle
    page = "recovering"

    def handle_slowly(engine: Engine, event: Any, now_ns: int) -> list[Effect]:
        if context.counters.values()[page]:
            time.sleep(pause_s)
        return handle(engine, event, now_ns)

    Engine.handle = handle_slowly  # type: ignore[method-assign]  # this process has no other purpose
    return run_gateway(context)
