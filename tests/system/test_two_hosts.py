"""A NEXUS on another host: 40 ms away, with loss, cut off in the middle, each signal in another state."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nexus_gateway.core.messages import OrderType
from nexus_gateway.core.transport import ALLOWED_FOLDER, make_client_keys, read_public, trust_gateway, write_public

from tests.support.ports import free_port
from tests.support.shm_processes import linux_only
from tests.support.trading_floor import ROOT, FakePlatform, Floor
from tests.support.two_hosts import HERE, TwoHosts

pytestmark = linux_only


class FarNexus:
    """`knows`: the newest of what it has said. `seen`: everything."""

    def __init__(self, hosts: TwoHosts, port: int, keys: Path, outbox: Path) -> None:
        arguments = ("-m", "tests.support.far_nexus", HERE, str(port), str(keys), str(outbox))
        command = hosts.command(hosts.there, sys.executable, *arguments)
        self._process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
        )
        self.seen: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.seen.append(json.loads(line))

    @property
    def knows(self) -> dict[str, Any]:
        assert self._process.poll() is None, "NEXUS has ended"
        return self.seen[-1] if self.seen else {"is_up": False, "outcomes": {}, "links": 0}

    def state(self, signal_id: str) -> str:
        return str(self.knows["outcomes"].get(signal_id, ["?"])[0])

    def tell(self, **command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")

    def stop(self) -> None:
        if self._process.poll() is None:
            self.tell(do="stop")
        self._process.wait(60)
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def far_floor() -> Iterator[tuple[TwoHosts, Floor, FakePlatform, FarNexus]]:
    port = free_port()
    with TwoHosts(delay_ms=40, loss=0.01) as hosts:
        floor = Floor(("nt8",), host=HERE, nexus_port=port, heartbeat_ms=500, mute_after_ms=2_000)
        far = None
        try:
            mine = floor.root / "far-keys"
            public = make_client_keys(mine)
            write_public(floor.config.keys_path / ALLOWED_FOLDER / "nexus.far.key", public)
            trust_gateway(mine, read_public(floor.config.keys_path / "gateway" / "own.key"))
            floor.command_prefix = tuple(hosts.command(hosts.here))
            floor.quote()
            floor.start()
            platform = floor.platform("nt8", mode="fill")
            far = FarNexus(hosts, port, mine, floor.root / "far.outbox")
            floor.until(lambda: far.knows["is_up"], 60)
            floor.ready(1)
            yield hosts, floor, platform, far
        finally:
            if far is not None:
                hosts.is_cut = False
                far.stop()
            floor.close()


@pytest.mark.timeout(300)
def test_a_cut_of_ten_seconds_doubles_nothing_trades_nothing_late_and_is_told() -> None:
    with far_floor() as (hosts, floor, platform, far):
        far.tell(do="send", id="open", type="market")
        floor.until(lambda: far.state("open") == "filled")
        platform.mode = "work"
        far.tell(do="send", id="resting", type="limit")
        floor.until(lambda: far.state("resting") == "working")
        floor.quote()
        links = far.knows["links"]
        far.tell(do="send", id="at-the-cut", type="market")
        floor.rest(0.06)
        hosts.is_cut = True
        cut_s = time.monotonic()
        far.tell(do="send", id="during", type="market")
        floor.until(lambda: not far.knows["is_up"])
        assert far.knows["outcomes"]["during"][0] == "unknown"
        # The far end fills meanwhile: NEXUS learns of it when the network is back.
        resting = next(order for order in platform.placed if order.order_type is OrderType.LIMIT)
        platform.fill(resting.client_order_id, resting.quantity)
        floor.until(lambda: time.monotonic() > cut_s + 10)
        assert not far.knows["is_up"]
        hosts.is_cut = False
        floor.quote()
        floor.until(lambda: far.knows["is_up"], 60)
        assert far.knows["links"] > links
        floor.until(lambda: far.state("resting") == "filled", 60)
        floor.until(lambda: far.state("during") == "rejected", 60)
        assert far.knows["outcomes"]["during"][1] == "stale_signal"
        text = far.knows["outcomes"]["during"][2]
        assert "ms old, limit" in text or "it had 1000 ms to enter" in text
        floor.until(lambda: far.state("at-the-cut") in ("working", "rejected"), 60)
        # Each signal at most once (the platform asserts that no order comes twice), and none that was sent in the cut.
        at_the_cut = far.state("at-the-cut") == "working"
        assert sum(order.order_type is OrderType.MARKET for order in platform.placed) == 1 + at_the_cut
        platform.mode = "fill"
        floor.quote()
        far.tell(do="send", id="after", type="market")
        floor.until(lambda: far.state("after") == "filled", 60)
        assert far.state("open") == "filled"
        assert hosts.dropped > 10
