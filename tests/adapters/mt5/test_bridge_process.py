"""The launcher with the real bridge and adapter beside a stand-in terminal: kills, a hang, and no tick lost."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from nexus_gateway.adapters.bridge.process import BridgeFiles, Pulse
from nexus_gateway.adapters.mt5.settings import SHIPPED_BRIDGE
from nexus_gateway.core.config import GatewayConfig
from nexus_gateway.core.launcher.launcher import Launcher
from nexus_gateway.core.launcher.plan import plan_processes
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.segment import SegmentError
from nexus_gateway.shm.tick import TickFlag
from nexus_gateway.shm.writer import empty_ticks

from tests.mt5_terminal.control import MODULE_FOLDER, StandIn
from tests.support.mt5_broker import Broker, wait_for
from tests.support.ports import free_port

NO_EVENT = int(TickFlag.SNAPSHOT | TickFlag.STALE | TickFlag.ROLL)


@pytest.fixture
def broker(tmp_path, monkeypatch) -> Iterator[Broker]:
    monkeypatch.setenv("PYTHONPATH", str(MODULE_FOLDER))
    made = Broker(tmp_path)
    yield made
    made.close()


class Run:
    """Launcher, keeper, bridge and adapter; no gateway."""

    def __init__(self, config: GatewayConfig) -> None:
        orders = msgspec.structs.replace(config.orders, enabled=False)
        restarts = msgspec.structs.replace(config.launcher, max_restarts=20, start_timeout_s=120)
        self.config = msgspec.structs.replace(config, orders=orders, launcher=restarts, ring_capacity=1 << 16)
        self.launcher = Launcher(self.config, plan_processes(self.config), console=False)
        self.folder = self.config.run_path
        self._ticks = empty_ticks(1 << 16)

    def until(self, look):
        def turn():
            self.launcher.step()
            return look()

        return wait_for(turn)

    def pid(self, name: str) -> int | None:
        return next(row.pid for row in self.launcher.describe() if row.name == name)

    def counters(self, name: str) -> dict[str, int]:
        try:
            return CountersPage.attach(self.folder, name).values()
        except SegmentError:
            return {}

    def bridge_pid(self) -> int | None:
        try:
            pulse = msgspec.json.decode(BridgeFiles(self.folder, "mt5").pulse.read_bytes(), type=Pulse)
        except (OSError, msgspec.DecodeError):
            return None
        return pulse.pid

    def new_bridge(self, but: int | None) -> int:
        return self.until(lambda: (pid := self.bridge_pid()) is not None and pid != but and pid)

    def market(self) -> list[tuple[int, float]]:
        """Milliseconds UTC and bid of each tick in the ring."""
        reader = TickReader(self.folder, "mt5", start="oldest")
        ticks = self._ticks[: reader.drain(self._ticks)]
        ticks = ticks[(ticks["flags"] & NO_EVENT) == 0]
        return list(zip((ticks["ts_event_ns"] // 1_000_000).tolist(), ticks["bid"].tolist(), strict=True))

    def flows(self) -> None:
        """A tick of after this moment is in the ring."""
        before = len(self.market())
        self.until(lambda: len(self.market()) > before + 20)


def history(broker: Broker) -> list[tuple[int, float]]:
    """What the broker has sent, as `Run.market` has it."""
    ahead_ms = round((broker.mt5.server_now_ms() - time.time_ns() // 1_000_000) / 60_000) * 60_000
    rows = broker.mt5.ticks("US100.cash")
    return [(int(row["time_msc"]) - ahead_ms, float(row["bid"])) for row in rows]


@pytest.mark.parametrize("bridges", [1, 2])
def test_kills_of_bridge_keeper_and_terminal_lose_no_tick(broker, bridges):
    """With two of them the first to be killed is the one for orders; its keeper ends the one for ticks, too."""
    run = Run(broker.config(ticks_port=free_port() if bridges == 2 else None))
    broker.go()
    with run.launcher:
        run.until(lambda: run.counters("mt5").get("ticks_published", 0) > 0)
        run.flows()
        first = run.new_bridge(None)
        os.kill(first, 9)
        second = run.new_bridge(first)
        run.flows()
        keeper = run.pid("mt5_bridge")
        assert keeper is not None
        os.kill(keeper, 9)
        run.new_bridge(second)
        run.flows()
        broker.tell(lambda mt5: mt5.kill_terminal())
        run.flows()
        broker.rest()
        sent = history(broker)
        run.until(lambda: run.market()[-1] == sent[-1])
        arrived = run.market()
        # From the second millisecond on: of the first one some may have been before the subscription.
        since_ms = next(at_ms for at_ms, _ in arrived if at_ms > arrived[0][0])
        assert [tick for tick in arrived if tick[0] >= since_ms] == [tick for tick in sent if tick[0] >= since_ms]
        assert len(arrived) > 100
    assert run.counters("mt5_bridge")["bridge_starts"] >= 3


def test_a_bridge_that_hangs_in_a_call_is_replaced(broker, tmp_path: Path):
    """The terminal answers no more: past the announced time the bridge is killed, and the next one finds it well."""
    script = tmp_path / "impatient" / "mt5_bridge"
    shutil.copytree(SHIPPED_BRIDGE, script)
    constants = script / "constants.py"
    source = constants.read_text(encoding="utf-8")
    impatient, limits = re.subn(r"^(\w+_LIMIT_MS) = [\d_]+$", r"\1 = 1_000", source, flags=re.MULTILINE)
    assert limits >= 5
    constants.write_text(impatient, encoding="utf-8")
    native = {"terminal_path": str(broker.mt5.exe), "script": str(script)}
    run = Run(broker.config(native=native))
    broker.go()
    with run.launcher:
        run.until(lambda: run.counters("mt5").get("ticks_published", 0) > 0)
        run.flows()
        first = run.new_bridge(None)
        broker.tell(StandIn.hang)
        run.until(lambda: run.counters("mt5_bridge").get("bridge_hang_kills", 0) == 1)
        broker.tell(StandIn.release)
        run.new_bridge(first)
        run.flows()


def test_two_terminals_at_once_and_one_that_dies(broker, tmp_path):
    """Global and Brazil side by side: each its own terminal, bridge, watcher and adapter."""
    brazil = Broker(tmp_path / "brazil", "b3").go()
    other = brazil.config()
    config = broker.config()
    run = Run(
        msgspec.structs.replace(
            config, symbols=(*config.symbols, *other.symbols), platforms=config.platforms | other.platforms
        )
    )
    broker.go()
    try:
        with run.launcher:
            for name in ("mt5", "mt5_br"):
                run.until(lambda name=name: run.counters(name).get("ticks_published", 0) > 50)
            brazil.tell(lambda mt5: mt5.kill_terminal(stay_down=True))
            run.until(lambda: run.counters("mt5_br").get("stale_marks", 0) > 0)
            links_lost = run.counters("mt5")["links_lost"]
            run.flows()
            assert run.counters("mt5")["links_lost"] == links_lost, "the other terminal is nobody's concern"
            before = run.counters("mt5_br")["ticks_published"]
            brazil.tell(lambda mt5: mt5.launch_terminal())
            run.until(lambda: run.counters("mt5_br")["ticks_published"] > before + 50)
    finally:
        brazil.close()
