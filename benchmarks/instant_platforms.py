"""The two ends of the gateway benchmark: platforms that fill at once, and a NEXUS directly on the link."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import zmq
from nexus_gateway.core.config import GatewayConfig
from nexus_gateway.core.messages import (
    Account,
    AccountMode,
    Bracket,
    Capabilities,
    Executions,
    Fill,
    Hello,
    LegState,
    Message,
    Order,
    OrderType,
    OrderUpdate,
    Positions,
    Report,
    Role,
    Signal,
    Snapshot,
    SnapshotRequest,
    Target,
    TimeInForce,
    WorkingOrders,
)
from nexus_gateway.core.messages import Side as Direction
from nexus_gateway.core.transport import NEXUS, LinkClient, adapter_key, client_endpoint
from nexus_gateway.shm.symbols import Symbol, add_symbols
from nexus_gateway.shm.tick import Platform, TickFlag
from nexus_gateway.shm.writer import TickWriter, empty_ticks

from benchmarks.order_rig import ONE, PRICE, D, expect

PLATFORMS = ("nt8", "sierra", "bookmap", "quantower")


class InstantPlatform:
    """Adapter and platform in one: it accepts and fills each order before it handles the next message."""

    def __init__(self, config: GatewayConfig, name: str) -> None:
        can_all = Capabilities(order_types=tuple(OrderType), times_in_force=tuple(TimeInForce), brackets=True)
        hello = Hello(
            role=Role.ADAPTER, name=name, boot_id=f"instant-{name}", platform=name, account="SIM",
            account_mode=AccountMode.NETTING, capabilities=can_all,
        )  # fmt: skip
        self.client = LinkClient(
            client_endpoint(config.run_path, "adapters", "127.0.0.1", 0), hello, config.keys_path / adapter_key(name)
        )
        self._whose: dict[str, Any] = {"platform": name, "account": "SIM"}
        self._placed: set[str] = set()

    def turn(self) -> None:
        for body in self.client.receive():
            if isinstance(body, Order):
                self._fill(body)
            elif isinstance(body, SnapshotRequest):
                whose = self._whose | {"as_of_ns": time.time_ns()}
                parts = {"positions": Positions(**whose, rows=()), "working_orders": WorkingOrders(**whose, rows=())}
                funds = Account(**whose, currency="USD", balance=D(10**6), equity=D(10**6))
                parts |= {"executions": Executions(**whose, rows=()), "funds": funds}
                self.client.send(Snapshot(request_id=body.request_id, **self._whose, **parts))
        self.client.tick()

    def _fill(self, order: Order) -> None:
        expect(order.client_order_id in self._placed, False)
        self._placed.add(order.client_order_id)
        row: dict[str, Any] = self._whose | {
            "client_order_id": order.client_order_id, "symbol": order.symbol, "side": order.side,
            "quantity": order.quantity, "platform_order_id": f"P{len(self._placed)}", "ts_event_ns": time.time_ns(),
        }  # fmt: skip
        terms = row | {"order_type": order.order_type}
        self.client.send(
            OrderUpdate(**terms, state=LegState.WORKING, filled=D(0)),
            Fill(**row, exec_id=f"X{len(self._placed)}", price=PRICE),
            OrderUpdate(**terms, state=LegState.FILLED, filled=order.quantity),
        )


def play_platforms(config: GatewayConfig) -> None:
    platforms = [InstantPlatform(config, name) for name in PLATFORMS]
    while True:
        poller = zmq.Poller()
        for platform in platforms:
            if platform.client.socket is not None:
                poller.register(platform.client.socket, zmq.POLLIN)
        poller.poll(min(platform.client.wait_ms() for platform in platforms))
        for platform in platforms:
            platform.turn()


class Desk:
    """NEXUS directly on the link, and the market that the gateway checks against."""

    def __init__(self, config: GatewayConfig) -> None:
        folder = config.run_path
        (self._symbol_id,) = add_symbols(folder, [Symbol(0, "NQ", tick_size=0.25)])
        self._writers = [TickWriter(folder, n, Platform.parse(n), capacity=64, board_rows=16) for n in PLATFORMS]
        hello = Hello(role=Role.NEXUS, name="nexus", boot_id="desk")
        self.client = LinkClient(client_endpoint(folder, "nexus", "127.0.0.1", 0), hello, config.keys_path / NEXUS)
        self.filled: dict[str, Decimal] = {}
        self._sent = 0
        self._next_quote_s = 0.0

    def turn(self, wait_ms: int = 0) -> list[Message]:
        """Receive once and return the messages; `filled` is updated with each signal's lots by its newest report."""
        if time.monotonic() >= self._next_quote_s:
            self._next_quote_s = time.monotonic() + 0.5
            self._quote()
        if wait_ms and self.client.socket is not None:
            self.client.socket.poll(wait_ms)
        received = self.client.receive()
        for body in received:
            if isinstance(body, Report):
                self.filled[body.signal_id] = body.filled
        self.client.tick()
        return received

    def send(self, platforms: tuple[str, ...], closing: bool = False) -> str:
        """One lot more on each platform, or one less."""
        self._sent += 1
        signal = Signal(
            signal_id=f"b{self._sent}",
            symbol="NQ",
            side=Direction.SELL if closing else Direction.BUY,
            created_ns=time.time_ns(),
            quantity=ONE,
            targets=tuple(Target(platform=name) for name in platforms),
            bracket=None if closing else Bracket(stop_loss=PRICE - 100),
            reduce_only=closing,
        )
        expect(self.client.send(signal), True)
        return signal.signal_id

    def fill(self, platforms: tuple[str, ...], count: int, at_once: int, closing: bool) -> None:
        """Send so many signals, at most `at_once` in flight, until all have filled."""
        sent: list[str] = []
        done = 0
        while done < count:
            while len(sent) < min(count, done + at_once):
                sent.append(self.send(platforms, closing))
            self.turn(wait_ms=100)
            while done < len(sent) and self.filled.get(sent[done]) == len(platforms):
                done += 1

    def close(self) -> None:
        self.client.close()
        for writer in self._writers:
            writer.close()

    def _quote(self) -> None:
        tick = empty_ticks(1)
        tick["symbol"], tick["flags"] = self._symbol_id, int(TickFlag.BID | TickFlag.ASK)
        tick["bid"], tick["ask"], tick["last"] = float(PRICE), float(PRICE), float("nan")
        for writer in self._writers:
            writer.publish(tick)
            writer.beat()
