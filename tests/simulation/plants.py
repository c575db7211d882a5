"""Bugs planted on purpose, to see that the invariants notice them."""

from __future__ import annotations

from dataclasses import dataclass

from nexus_gateway.core.engine.engine import Engine

from tests.simulation.schedule import SECOND


@dataclass
class Plants:
    """`skip_journal`: signals are not journaled. `resend_timeout`: an unknown order is sent again.
    `send_before_commit`: orders leave at once. `deadlines_on_wall`: the clock that should be steady steps, too.
    The others are done to the engine that a start has rebuilt.
    """

    skip_journal: bool = False
    resend_timeout: bool = False
    send_before_commit: bool = False
    forget_executions: bool = False
    reset_counters: bool = False
    rebase_equity: bool = False
    forget_second_half: bool = False
    deadlines_on_wall: bool = False

    @property
    def any(self) -> bool:
        return any(vars(self).values())

    def spoil(self, engine: Engine) -> None:
        """Do to an engine what a start must not do."""
        state = engine.state
        if self.reset_counters:
            state.day.trades.clear()
            state.found_keys.clear()
        if self.rebase_equity:
            for equity in state.day.equity.values():
                equity.day_start = equity.now
        if self.forget_executions:
            for record in state.executions.values():
                record.seen = False
        if self.forget_second_half:  # as if what was opened in the new contract had been kept in memory only
            for leg in (leg for signal in state.signals.values() for leg in signal.legs if leg.roll_over_ended):
                leg.orders.clear()
                leg.roll_over_ended = False
                leg.roll_over_until_ns = state.now_ns + 60 * SECOND
