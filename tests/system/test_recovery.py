"""A start that reads a long journal, with a real launcher and gateway: it shows how far it is, and is never killed."""

from __future__ import annotations

import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import psutil
import pytest
from nexus_gateway.core.cli.monitor import Monitor, ProcessStatus
from nexus_gateway.core.config import GatewayConfig, OrdersConfig
from nexus_gateway.core.engine import LinkUp, Started
from nexus_gateway.core.gateway.journaled_engine import JournaledEngine, engine_settings
from nexus_gateway.core.launcher.launcher import ChildRow, Launcher
from nexus_gateway.core.logs import process_log
from nexus_gateway.core.messages import Reject
from nexus_gateway.core.process import ProcessSpec
from nexus_gateway.shm.counters import CountersPage

from tests.support.launched import QUICK, ROOT
from tests.support.links import adapter_hello, short_folder
from tests.support.orders import SECOND, T0
from tests.support.patience import patient
from tests.support.slow_gateway import FAULTY
from tests.support.trading_floor import Floor, make_signal

EVENTS = 1_500
HEARTBEAT_TIMEOUT_S = 5.0
"""Shorter than the journal takes to be read, longer than a healthy gateway is ever silent on a busy machine."""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def config() -> Iterator[GatewayConfig]:
    """A gateway without platforms, whose journal holds a history and no checkpoint."""
    root = short_folder()
    orders = OrdersConfig(
        adapter_port=0, nexus_port=0, journal=str(root / "orders.sqlite"), checkpoint_replay_ms=10, durability="process"
    )
    config = GatewayConfig(
        run_folder=str(root / "run"),
        log_folder=str(root / "logs"),
        launcher=msgspec.structs.replace(QUICK, heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S, max_restarts=1),
        orders=orders,
        platforms={},
    )
    write_history(config, EVENTS)
    yield config
    shutil.rmtree(root)


def write_history(config: GatewayConfig, events: int) -> None:
    """A journal as a gateway leaves it that was killed before its first checkpoint."""
    made = JournaledEngine.open(config, process_log("gateway"))
    made.handle(Started(boot_id="b", settings=engine_settings(config), limits=config.limits), T0)
    for number in range(1, events):
        made.handle(LinkUp(hello=adapter_hello(boot_id=f"b{number}")), T0 + number * SECOND)
    made.commit()
    made.journal.close()
    assert checkpoints(config) == []


def checkpoints(config: GatewayConfig) -> list[int]:
    with closing(sqlite3.connect(config.journal_path, timeout=30)) as connection:
        return [row[0] for row in connection.execute("SELECT seq FROM checkpoints ORDER BY seq")]


class Watched:
    """The launcher with a slow gateway; `states` are those that were shown, each once."""

    def __init__(self, config: GatewayConfig) -> None:
        spec = ProcessSpec(name="gateway", entry="tests.support.slow_gateway:main", arguments={"event_ms": 5})
        self.launcher = Launcher(config, [spec], console=False)
        self.monitor = Monitor(config.run_path)
        self.states: list[str] = []
        self._config = config

    @property
    def row(self) -> ChildRow:
        return self.launcher.describe()[0]

    def status(self) -> ProcessStatus:
        return next(each for each in self.monitor.snapshot().processes if each.name == "gateway")

    def until(self, true: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + patient(120)
        while not true():
            assert time.monotonic() < deadline_s, f"what the test waits for did not happen: {self.row}"
            self.launcher.step()
            state = self.row.state
            if state not in self.states:
                self.states.append(state)
            time.sleep(0.02)

    def share(self) -> int:
        """Percent of the journal that is read; -1 when it is not being read."""
        return int(self.row.state.split()[1]) if self.row.state.startswith("recovering, ") else -1

    def counts(self) -> dict[str, int]:
        return CountersPage.attach(self._config.run_path, "launcher").values()


def test_a_long_journal_is_read_in_sight_and_to_its_end(config: GatewayConfig) -> None:
    watched = Watched(config)
    with watched.launcher:
        watched.until(lambda: watched.share() >= 30)
        assert watched.status().state.startswith("recovering, ")
        assert not watched.monitor.snapshot().is_healthy
        watched.until(lambda: watched.row.state == "running")
        assert watched.row.restarts == 0
        assert watched.counts()["hang_kills"] == 0
        watched.until(lambda: watched.status().state == "live")
    shares = [int(state.split()[1]) for state in watched.states if state.startswith("recovering, ")]
    assert shares == sorted(shares)
    assert len(shares) >= 5, "the share was seen to rise"
    assert watched.states[-1] == "running"


def test_a_gateway_that_is_killed_while_it_reads_goes_on_where_it_was(config: GatewayConfig) -> None:
    watched = Watched(config)
    with watched.launcher:
        watched.until(lambda: watched.share() >= 40)
        psutil.Process(watched.row.pid).kill()
        watched.until(lambda: watched.row.restarts == 1 and watched.row.state == "running")
    log = [msgspec.json.decode(line) for line in (Path(config.log_path) / "gateway.jsonl").read_bytes().splitlines()]
    (read,) = [line for line in log if line["event"] == "journal read"]  # the killed one never came that far
    assert read["from_checkpoint"] > 0
    assert read["replayed"] < EVENTS
    assert read["events"] == EVENTS


def test_an_engine_that_is_rebuilt_for_seconds_costs_no_link() -> None:
    """Far longer than a peer may be silent: heartbeats go on, and what arrives meanwhile is handled afterwards."""
    floor = Floor(("nt8",))
    try:
        write_history(floor.config, 600)
        event_ms = 1.5 * floor.config.orders.mute_after_ms / 600
        floor.entry, floor.arguments = "tests.support.slow_gateway:main", {"event_ms": event_ms}
        floor.quote()
        floor.start()
        platform, nexus = floor.platform("nt8", mode="fill"), floor.nexus()
        floor.until(lambda: nexus.client.is_up)
        floor.ready(1)
        links = [person.client.counts["links"] for person in (platform, nexus)]
        nexus.client.send(make_signal("nt8", signal_id=FAULTY))
        floor.until(lambda: floor.counters()["recovering"])
        later = make_signal("nt8")
        nexus.client.send(later)
        floor.until(lambda: any(isinstance(each, Reject) and each.signal_id == FAULTY for each in nexus.heard))
        floor.until(lambda: nexus.report(later.signal_id) is not None)
        assert [person.client.counts["links"] for person in (platform, nexus)] == links
        assert "platform lost" not in floor.log()
        assert floor.counters()["engine_faults"] == 1
        assert floor.counters()["recovering"] == 0
        took = re.search(r"the engine is rebuilt .*took_ms=(\d+)", floor.log())
        assert took is not None
        assert int(took.group(1)) > floor.config.orders.mute_after_ms
    finally:
        floor.close()
