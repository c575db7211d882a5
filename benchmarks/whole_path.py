"""The whole order path: a tick in the ring, NEXUS's interface with its outbox, gateway, adapter with paper account."""

from __future__ import annotations

import time
from pathlib import Path

from nexus_gateway.core.messages import Bracket, RejectCode, Signal, SignalClose, SignalState, Target
from nexus_gateway.core.messages import Side as Direction
from nexus_gateway.nexus_link.interface import NexusGatewayInterface, options_of_config
from nexus_gateway.nexus_link.market_view import MarketView
from nexus_gateway.nexus_link.orders.outcomes import SignalOutcome
from nexus_gateway.shm.idle import make_idle
from nexus_gateway.shm.symbols import Symbol, add_symbols
from nexus_gateway.shm.writer import empty_ticks

from benchmarks.order_rig import ONE, PRICE, expect, gateway_counters, make_config, running, wait_until


def measure_whole(root: Path, count: int) -> tuple[list[int], list[int]]:
    """ns from the publication of a tick, and from the signal's decision, to the first fill that NEXUS knows."""
    config = make_config(root, ("nt8",))
    config.run_path.mkdir(mode=0o700)
    add_symbols(config.run_path, [Symbol(0, "NQ", tick_size=0.25)])
    from_tick_ns: list[int] = []
    from_signal_ns: list[int] = []
    filled_ns: dict[str, int] = {}

    def on_outcome(outcome: SignalOutcome) -> None:
        if outcome.report is not None and outcome.report.filled:
            filled_ns.setdefault(outcome.signal_id, time.time_ns())

    with running(config, "gateway", "nt8"):
        nexus = NexusGatewayInterface(options_of_config(config, outbox=root / "nexus.outbox"))
        nexus.set_callbacks(on_outcome=on_outcome)
        wait_until(lambda: gateway_counters(config).get("routes_ready") == 1)
        wait_until(lambda: nexus.connect(1))
        view = MarketView(config.run_path, idle=make_idle("yield"))
        ticks = empty_ticks(256)
        for number in range(count):
            while view.drain(ticks):
                pass  # what is there already is not news
            while not (taken := view.drain(ticks)):
                view.wait(1.0)
            decided_ns = time.time_ns()
            tick_ns = int(ticks["ts_recv_ns"][taken - 1])
            signal = Signal(
                signal_id=f"w{number}", symbol="NQ", side=Direction.BUY, created_ns=decided_ns, quantity=ONE,
                targets=(Target(platform="nt8"),), bracket=Bracket(stop_loss=PRICE - 1000), tick_ns=tick_ns,
            )  # fmt: skip
            nexus.send_signal(signal, 0)
            outcome = nexus.wait_settled(signal.signal_id, 30)
            expect((outcome.state, outcome.code, outcome.text), (SignalState.FILLED, RejectCode.NONE, ""))
            wait_until(lambda name=signal.signal_id: name in filled_ns)
            from_tick_ns.append(filled_ns[signal.signal_id] - tick_ns)
            from_signal_ns.append(filled_ns[signal.signal_id] - decided_ns)
            nexus.change_signal(SignalClose(signal_id=signal.signal_id))
            wait_until(lambda name=signal.signal_id: nexus.outcome(name).state is SignalState.CLOSED)
        (account,) = nexus.ask_positions()
        expect(sum(row.quantity for row in account.rows), 0)
        view.close()
        nexus.close()
    return from_tick_ns, from_signal_ns
