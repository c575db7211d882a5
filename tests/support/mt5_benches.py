"""A stand-in terminal, the real bridge process and a real adapter in this process, ring and all."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from nexus_gateway.adapters.base import LinkLostError
from nexus_gateway.adapters.bridge.adapter import BridgeAdapter
from nexus_gateway.adapters.feed import COUNTERS, TickFeed
from nexus_gateway.core import messages as m
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.symbols import Symbol
from nexus_gateway.shm.tick import Platform, TickArray, TickFlag
from nexus_gateway.shm.writer import empty_ticks

from tests.mt5_terminal.control import StandIn
from tests.support.bridges import Desk
from tests.support.mt5_adapters import BrazilAdapter, GlobalAdapter
from tests.support.mt5_bridges import BridgeProcess
from tests.support.patience import patient

PATIENCE_S = 30.0
TIMING = {"heartbeat_ms": 100, "mute_after_ms": 2_000, "command_timeout_ms": 6_000}
SYMBOLS = {
    # preset: (platform key, our symbol, name at the terminal)
    "futures": ("mt5", Symbol(3, "NQ", "NQZ26", 0.25), "NQZ26"),
    "global": ("mt5", Symbol(4, "NAS100", "", 0.01), "NAS100"),
    "b3": ("mt5_br", Symbol(5, "WIN", "WINZ26", 5.0), "WINZ26"),
}
_ADAPTERS: dict[str, tuple[Platform, type[BridgeAdapter]]] = {
    "mt5": (Platform.MT5, GlobalAdapter),
    "mt5_br": (Platform.MT5_BR, BrazilAdapter),
}
_signals = itertools.count(1)
T = TypeVar("T")


class Mt5Bench:
    """One terminal, one bridge, one adapter. `with` ends all three.

    Attributes:
        symbol, name: ours, and the terminal's.
        desk: what the adapter has reported, in `desk.events`.
        line: held by whoever speaks to the stand-in, where a test has several threads.
    """

    def __init__(
        self,
        folder: Path,
        preset: str = "futures",
        *,
        bridge: dict[str, Any] | None = None,
        timing: dict[str, int] | None = None,
        settings: dict[str, Any] | None = None,
        slots: int = 1 << 14,
        **options: Any,
    ) -> None:
        """`options`: of the stand-in; `bridge`: changes to the bridge's configuration; `settings`: the adapter's."""
        self.key, self.symbol, self.name = SYMBOLS[preset]
        self.line = threading.RLock()
        self.stand_in = StandIn(folder / "t", preset, **{"launch_wait_s": 0.3, **options})
        self.stand_in.set_symbol(self.name, expiration_time=0)  # on whatever day the tests run
        self.bridge = BridgeProcess(self.stand_in, folder / "b", preset, self.key, **(bridge or {}))
        token_file = folder / "adapter.token"
        token_file.touch(0o600)
        token_file.write_text(self.bridge.token)
        platform, adapter_type = _ADAPTERS[self.key]
        run = folder / "run"
        run.mkdir(mode=0o700)
        self.page = CountersPage.create(run, self.key, (*COUNTERS, *adapter_type.OWN_COUNTERS))
        self.feed = TickFeed(run, self.key, platform, self.page, capacity=slots, board_rows=64)
        self.slots = slots
        self.reader = TickReader(run, self.key, start="oldest")
        own = {
            "backend": "remote",
            "port": self.bridge.port,
            "token_file": str(token_file),
            "names": {self.symbol.name: self.name},
            "account": str(self.bridge.config["login"]),
            "timing": {**TIMING, **(timing or {})},
            "connect_timeout_s": 1.0,
        }
        if adapter_type is BrazilAdapter:
            own["quotes_outside_session"] = True  # on whatever day the tests run
        self._settings = own | (settings or {})
        self.adapter = adapter_type(self.feed, self._settings)
        self.desk = Desk(self.feed)
        self.adapter.orders = self.desk
        self.account = str(self.bridge.config["login"])

    def __enter__(self) -> Mt5Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.adapter.close()
        self.bridge.close()
        self.stand_in.close()
        self.feed.close()
        self.page.close()

    def succeed(self) -> None:
        """The adapter dies; another process' takes over its ring, and knows nothing but what is there."""
        self.adapter.close()
        folder, platform = self.feed.folder, self.feed.platform
        self.feed.close()
        self.feed = TickFeed(folder, self.key, platform, self.page, capacity=self.slots, board_rows=64)
        self.adapter = type(self.adapter)(self.feed, self._settings)
        self.desk = Desk(self.feed)
        self.adapter.orders = self.desk

    # Sessions.

    def start(self, bid: float = 18000.0, ask: float = 18000.25) -> Mt5Bench:
        """Bridge up, a quote, a session with its first snapshot."""
        self.bridge.start()
        self.quote(bid, ask)
        self.open()
        return self

    def open(self, patience_s: float = PATIENCE_S) -> m.Snapshot:
        """Connect until it succeeds, subscribe, first snapshot, as the base does."""
        deadline = time.monotonic() + patient(patience_s)
        trouble = ""
        while time.monotonic() < deadline:
            try:
                self.adapter.connect()
                self.adapter.subscribe((self.symbol,))
                return self.snapshot()
            except LinkLostError as error:
                trouble = str(error)
                self.adapter.close()
                time.sleep(0.02)
        raise AssertionError(f"no session: {trouble}; {self.bridge.log()[-2000:]}")

    def reopen(self, patience_s: float = PATIENCE_S) -> m.Snapshot:
        """After a loss."""
        self.adapter.close()
        return self.open(patience_s)

    def snapshot(self, from_ns: int = 0) -> m.Snapshot:
        request = m.SnapshotRequest(request_id=77, platform=self.key, account=self.account, executions_from_ns=from_ns)
        return self.adapter.snapshot(request)

    def until(self, condition: Callable[[], T], what: str = "it") -> T:
        """Poll until the condition holds; its value."""
        deadline = time.monotonic() + patient(PATIENCE_S)
        while not (value := condition()):
            assert time.monotonic() < deadline, f"never came: {what}; {self.desk.events[-6:]}"
            self.adapter.poll(0.01)
        return value

    def until_lost(self) -> str:
        """Until the session is over; why."""
        try:
            self.until(lambda: False, "the end of the session")
        except LinkLostError as error:
            return str(error)
        raise AssertionError("unreachable")

    def keep_open(self, seconds: float) -> int:
        """Poll for a while, and open the session again whenever it is lost; how often that was."""
        lost = 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self.adapter.poll(0.01)
            except LinkLostError:
                lost += 1
                self.reopen()
        return lost

    def listen(self, seconds: float = 0.5) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.adapter.poll(0.01)

    # The market.

    def quote(self, bid: float, ask: float, **terms: Any) -> np.void:
        return self.stand_in.quote(self.name, bid, ask, **terms)

    def ticks(self) -> TickArray:
        """Those that have come since the last call."""
        out = empty_ticks(self.slots)
        return out[: self.reader.drain(out)]

    def moved(self) -> TickArray:
        """`ticks`, without states and stale marks."""
        ticks = self.ticks()
        return ticks[ticks["flags"] & (TickFlag.SNAPSHOT | TickFlag.STALE) == 0]

    def wait_moved(self, count: int) -> TickArray:
        """`moved`, as soon as so many have come."""
        parts: list[TickArray] = []

        def enough() -> bool:
            parts.append(self.moved())
            return sum(map(len, parts)) >= count

        self.until(enough, f"{count} ticks")
        return np.concatenate(parts)

    # Orders.

    def place(self, quantity: str = "1", order_type: m.OrderType = m.OrderType.MARKET, **terms: Any) -> m.Order:
        order = self.make_order(quantity, order_type, **terms)
        self.adapter.execute(order)
        return order

    def make_order(self, quantity: str = "1", order_type: m.OrderType = m.OrderType.MARKET, **terms: Any) -> m.Order:
        role = terms.pop("role", m.OrderRole.ENTRY)
        not_after_s = terms.pop("not_after_s", 60.0)
        key = m.signal_key(f"bench-{next(_signals)}-{time.time_ns()}")
        base: dict[str, Any] = {
            "client_order_id": m.client_order_id(key, 0, role, 0),
            "platform": self.key,
            "account": self.account,
            "symbol": self.symbol.name,
            "contract": self.symbol.contract,
            "side": m.Side.BUY,
            "quantity": Decimal(quantity),
            "order_type": order_type,
            "not_after_ns": time.time_ns() + int(not_after_s * 1e9),
        }
        return m.Order(**(base | terms))

    def rest(self, quantity: str = "1", price: str = "17000", **terms: Any) -> m.Order:
        """A limit order far away, working."""
        order = self.place(quantity, m.OrderType.LIMIT, limit_price=Decimal(price), **terms)
        self.wait_state(order, m.LegState.WORKING)
        return order

    def cancel(self, order: m.Order | str, platform_order_id: str = "") -> None:
        order_id = order if isinstance(order, str) else order.client_order_id
        self.adapter.execute(
            m.Cancel(
                client_order_id=order_id,
                platform=self.key,
                account=self.account,
                symbol=self.symbol.name,
                platform_order_id=platform_order_id,
            )
        )

    def replace(self, order: m.Order | str, quantity: str, revision: int = 1, **prices: Decimal) -> None:
        order_id = order if isinstance(order, str) else order.client_order_id
        self.adapter.execute(
            m.Replace(
                client_order_id=order_id,
                platform=self.key,
                account=self.account,
                symbol=self.symbol.name,
                revision=revision,
                quantity=Decimal(quantity),
                **prices,
            )
        )

    def heard(self, kind: type[T], order_id: str | None = None) -> list[T]:
        """Events of this kind, of one order when it is named."""
        return [
            each
            for each in self.desk.events
            if isinstance(each, kind) and (order_id is None or getattr(each, "client_order_id", None) == order_id)
        ]

    def updates(self, order: m.Order) -> list[m.OrderUpdate]:
        return self.heard(m.OrderUpdate, order.client_order_id)

    def fills(self, order: m.Order) -> list[m.Fill]:
        return self.heard(m.Fill, order.client_order_id)

    def wait_state(self, order: m.Order | str, state: m.LegState) -> m.OrderUpdate:
        order_id = order if isinstance(order, str) else order.client_order_id
        return self.until(
            lambda: next((each for each in self.heard(m.OrderUpdate, order_id) if each.state is state), None),
            f"{state} of {order_id}",
        )

    def wait_filled(self, order: m.Order) -> list[m.Fill]:
        def enough() -> list[m.Fill]:
            fills = self.fills(order)
            return fills if sum(each.quantity for each in fills) >= order.quantity else []

        return self.until(enough, "its fills")

    def wait_reject(self, order: m.Order | str, code: m.RejectCode) -> m.Reject:
        order_id = order if isinstance(order, str) else order.client_order_id
        return self.until(
            lambda: next((each for each in self.heard(m.Reject, order_id) if each.code is code), None), f"{code}"
        )

    @property
    def pending_commands(self) -> int:
        """Commands that the bridge has not acknowledged."""
        connection = self.adapter._connection
        assert connection is not None
        return connection.session.pending_commands

    @property
    def sends(self) -> int:
        """How often order_send was called."""
        return self.stand_in.calls().get("order_send", 0)

    def sent(self, action: int | None = None) -> list[dict[str, Any]]:
        """What order_send has received, in order."""
        requests = [each.get("request", each) for each in self.stand_in.requests()]
        return [each for each in requests if action is None or each.get("action") == action]
