"""The gateway's end of the order link, played by the test: it sends what the test says and keeps what it hears."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from nexus_gateway.core import messages as m
from nexus_gateway.core.transport import (
    ADAPTER_LINK,
    KEYS_FOLDER,
    LinkServer,
    LinkTiming,
    PeerDown,
    PeerUp,
    ServerSettings,
    server_endpoints,
)

from tests.support.links import open_listener
from tests.support.patience import patient

PATIENCE_S = 30.0
SETTLE_S = 0.6
"""How long a test listens before it believes that nothing more comes."""

T = TypeVar("T")
_signals = itertools.count(1)


class GatewayPeer:
    """`heard`: every message of the adapter since `forget`, in order. `ups`, `downs`: links that came and went."""

    def __init__(self, run_folder: Path, timing: LinkTiming) -> None:
        endpoints = server_endpoints(run_folder, ADAPTER_LINK, "127.0.0.1", 0)
        settings = ServerSettings(sender="gateway", boot_id="test", roles=(m.Role.ADAPTER,), timing=timing)
        self._server = LinkServer(open_listener(endpoints, run_folder / KEYS_FOLDER), settings, self._greet)
        self.heard: list[m.Message] = []
        self.ups: list[PeerUp] = []
        self.downs: list[PeerDown] = []
        self._requests = itertools.count(1)

    @property
    def hello(self) -> m.Hello:
        return self.ups[-1].hello

    @property
    def sessions(self) -> int:
        """Open links."""
        return len(self._server.peers)

    def pump(self, timeout_s: float = 0.01) -> None:
        """Take in what has come and keep the link."""
        self._server.listener.collect(timeout_s)
        for event in [*self._server.receive(), *self._server.tick()]:
            if isinstance(event, PeerUp):
                self.ups.append(event)
            elif isinstance(event, PeerDown):
                self.downs.append(event)
            else:
                self.heard.append(event.body)

    def until(self, condition: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
        """Pump until the condition holds; its value."""
        deadline = time.monotonic() + patient(patience_s)
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < deadline, f"never came: {what}; heard {self.heard[-8:]}"
            self.pump()

    def listen(self, seconds: float = SETTLE_S) -> None:
        """Pump for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.pump()

    def forget(self) -> None:
        """Begin a new page."""
        self.heard.clear()

    def wait_linked(self, links: int = 1) -> m.Hello:
        """Until so many links have come in all, and the newest is open."""
        self.until(lambda: len(self.ups) >= links and self.sessions == 1, f"link {links}")
        return self.hello

    def send(self, message: m.Message) -> None:
        """Send it over the open link; a link that a stalled machine has cut is waited for."""
        peer = f"{self.hello.platform}|{self.hello.account}"
        self.pump(0.0)
        self.until(lambda: self._server.send(peer, message), f"an open link to {peer}")

    def place(self, **terms: Any) -> m.Order:
        """Send an order; `role` and `signal` make its id, `not_after_s` its age limit."""
        order = make_order(self.hello, **terms)
        self.send(order)
        return order

    def cancel(self, order: m.Order) -> None:
        self.send(
            m.Cancel(
                client_order_id=order.client_order_id,
                platform=order.platform,
                account=order.account,
                symbol=order.symbol,
            )
        )

    def replace(self, order: m.Order, revision: int = 1, **terms: Any) -> None:
        wanted = {"quantity": order.quantity, "limit_price": order.limit_price, "stop_price": order.stop_price} | terms
        self.send(
            m.Replace(
                client_order_id=order.client_order_id,
                platform=order.platform,
                account=order.account,
                symbol=order.symbol,
                revision=revision,
                **wanted,
            )
        )

    def flatten(self, not_after_s: float = 60.0) -> None:
        """Send the platform's own flatten."""
        self.send(
            m.Flatten(
                request_id=next(self._requests),
                platform=self.hello.platform,
                account=self.hello.account,
                not_after_ns=time.time_ns() + int(not_after_s * 1e9),
            )
        )

    def snapshot(self, from_ns: int = 0) -> m.Snapshot:
        """Ask, and wait for the answer."""
        number = next(self._requests)
        self.send(
            m.SnapshotRequest(
                request_id=number,
                platform=self.hello.platform,
                account=self.hello.account,
                executions_from_ns=from_ns,
            )
        )
        return self.until(
            lambda: next((s for s in self.all(m.Snapshot) if s.request_id == number), None), f"snapshot {number}"
        )

    def all(self, kind: type[T]) -> list[T]:
        return [message for message in self.heard if isinstance(message, kind)]

    def updates(self, order: m.Order) -> list[m.OrderUpdate]:
        return [u for u in self.all(m.OrderUpdate) if u.client_order_id == order.client_order_id]

    def fills(self, order: m.Order) -> list[m.Fill]:
        return [f for f in self.all(m.Fill) if f.client_order_id == order.client_order_id]

    def rejects(self, order: m.Order) -> list[m.Reject]:
        return [r for r in self.all(m.Reject) if r.client_order_id == order.client_order_id]

    def wait_state(self, order: m.Order, state: m.LegState) -> m.OrderUpdate:
        return self.until(
            lambda: next((u for u in self.updates(order) if u.state is state), None), f"{state} of {order.quantity}"
        )

    def wait_reject(self, order: m.Order, code: m.RejectCode) -> m.Reject:
        return self.until(lambda: next((r for r in self.rejects(order) if r.code is code), None), f"reject {code}")

    def wait_filled(self, order: m.Order, lots: Decimal) -> list[m.Fill]:
        def enough() -> list[m.Fill]:
            fills = self.fills(order)
            return fills if sum(f.quantity for f in {f.exec_id: f for f in fills}.values()) >= lots else []

        return self.until(enough, f"{lots} lots of {order.client_order_id}")

    def close(self) -> None:
        self._server.close()

    def _greet(self, hello: m.Hello) -> m.Welcome:
        return m.Welcome(
            accepted=True, gateway_boot_id="test", stage=4, kill_level=m.KillLevel.NORMAL, heartbeat_ms=100
        )


def make_order(
    hello: m.Hello,
    *,
    symbol: str,
    quantity: Decimal,
    side: m.Side = m.Side.BUY,
    order_type: m.OrderType = m.OrderType.MARKET,
    role: m.OrderRole = m.OrderRole.ENTRY,
    signal: str = "",
    not_after_s: float = 60.0,
    **terms: Any,
) -> m.Order:
    key = m.signal_key(signal or f"conformance-{next(_signals)}-{time.time_ns()}")
    contract = next((each.contract for each in hello.instruments if each.symbol == symbol), "")
    return m.Order(
        client_order_id=m.client_order_id(key, 0, role, 0),
        platform=hello.platform,
        account=hello.account,
        symbol=symbol,
        contract=contract,
        side=side,
        quantity=quantity,
        order_type=order_type,
        not_after_ns=time.time_ns() + int(not_after_s * 1e9),
        **terms,
    )
