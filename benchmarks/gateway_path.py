"""The real gateway between instant platforms and a NEXUS on the bare link: orders one by one, and many at once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from nexus_gateway.shm.counters import CountersPage, HistogramSnapshot

from benchmarks import machine
from benchmarks.instant_platforms import PLATFORMS, Desk, play_platforms
from benchmarks.order_rig import expect, gateway_counters, make_config, running, wait_until

ROUND = 64
"""Signals opened, then closed, in a throughput run."""


@dataclass(frozen=True)
class GatewayPath:
    """`samples_ns`: from signal to the fill that NEXUS knows, one at a time. `own`: the gateway's own histograms of
    them. `orders_per_s`: by the number of legs a signal.
    """

    samples_ns: list[int]
    own: dict[str, HistogramSnapshot]
    orders_per_s: dict[int, float]


def measure_gateway(root: Path, latencies: int, orders: int, at_once: int) -> GatewayPath:
    """Latency of orders sent one after another, then the rate of many at once, with signals of one leg and of four."""
    config = make_config(root, PLATFORMS, orders="external", accounts=["SIM"])
    config.run_path.mkdir(mode=0o700)
    with running(config, "gateway"):
        platforms = machine.context().Process(target=play_platforms, args=(config,), daemon=True)
        platforms.start()
        desk = Desk(config)
        wait_until(lambda: gateway_counters(config).get("routes_ready") == len(PLATFORMS), desk.turn)
        wait_until(lambda: desk.client.is_up, desk.turn)
        samples_ns = []
        for _ in range(latencies):
            before_ns = time.perf_counter_ns()
            signal_id = desk.send(PLATFORMS[:1])
            while not desk.filled.get(signal_id):
                desk.turn(wait_ms=100)
            samples_ns.append(time.perf_counter_ns() - before_ns)
        page = CountersPage.attach(config.run_path, "gateway")
        own = {name: page.histogram(name) for name in ("signal_to_order_ns", "turn_ns", "commit_ns")}
        rates = {}
        lots = latencies
        for legs in (1, len(PLATFORMS)):
            rounds = max(1, orders // (2 * ROUND * legs))
            began_s = time.perf_counter()
            for _ in range(rounds):
                # Opened and closed in turns, as in operation: a gateway seldom holds thousands of open signals.
                for closing in (False, True):
                    desk.fill(PLATFORMS[:legs], ROUND, at_once, closing)
            lots += 2 * rounds * ROUND * legs
            rates[legs] = 2 * rounds * ROUND * legs / (time.perf_counter() - began_s)
        expect(sum(desk.filled.values()), lots)
        wait_until(lambda: gateway_counters(config)["fills"] == lots, desk.turn)
        wait_until(lambda: gateway_counters(config)["orders_sent"] == lots, desk.turn)
        expect(gateway_counters(config)["unknown"], 0)
        desk.close()
        platforms.kill()
        platforms.join()
    return GatewayPath(samples_ns, own, rates)
