"""One adapter outside of the gateway, with its own ring, driven by the checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

import numpy as np

from ...core.config import GatewayConfig, load_entry
from ...core.errors import ConfigError, GatewayError
from ...core.instruments.catalog import Catalog, load_catalog
from ...core.instruments.rollover import Rollover, RollOverrides
from ...core.instruments.sessions import load_sessions
from ...core.instruments.symbols import SHIPPED_MAPPING
from ...core.logs import Log
from ...core.messages import (
    Capabilities,
    Fill,
    Order,
    OrderRole,
    OrderType,
    OrderUpdate,
    Reject,
    Side,
    Snapshot,
    SnapshotRequest,
    TimeInForce,
    client_order_id,
    signal_key,
)
from ...shm.counters import CountersPage
from ...shm.reader import TickReader
from ...shm.symbols import Symbol, SymbolDirectory, add_symbols
from ...shm.tick import Platform, TickArray, TickFlag
from ...shm.writer import empty_ticks
from ..base import LinkLostError, OrderEvent, PlatformAccount
from ..bridge.adapter import BridgeAdapter
from ..bridge.messages import BridgeAccount
from ..feed import COUNTERS, TickFeed
from ..order_settings import split_settings
from ..paper.adapter import PAPER_COUNTERS
from ..symbol_watch import PlatformNames
from ..waiting import Readable, wait_readable

_RING_SLOTS: Final = 1 << 16
_TURN_S: Final = 0.02
_SEND_WITHIN_NS: Final = 5_000_000_000
_EXECUTIONS_BACK_NS: Final = 3_600_000_000_000
_NO_EVENT: Final = int(TickFlag.SNAPSHOT | TickFlag.STALE | TickFlag.ROLL)
T = TypeVar("T")


class Interrupted(GatewayError):
    """The run was asked to stop: its orders are cancelled, its position is closed, then the report ends."""


class CertifyBench:
    """The adapter, its ring, its order events and the orders of the checks. Used by one thread.

    Attributes:
        adapter: the platform's own.
        events: all order events of the bridge, also of external orders, in order.
        orders: orders placed by the checks, by client order id.
        vetted: the account that orders may go to, once a check has allowed it; a session on another one is refused.
        fault: returns why the bridge cannot run; empty = no fault is known.
        stopping: set by a signal handler; `until` then raises Interrupted, unless `cleaning`.
        cleaning: the clean-up runs, which a stop does not interrupt.
    """

    def __init__(self, config: GatewayConfig, platform: str, symbol: str, folder: Path, log: Log) -> None:
        """
        Args:
            folder: for ring and counters; not used by any other program.

        Raises:
            ConfigError: the platform has no bridge, or the configuration does not list this symbol.
        """
        entry = config.platforms[platform]
        adapter_class = load_entry(entry.adapter, f"platform_configs.yaml: {platform}.adapter")
        if not (isinstance(adapter_class, type) and issubclass(adapter_class, BridgeAdapter)):
            raise ConfigError(
                f"platform_configs.yaml: {platform}.adapter was {entry.adapter!r}, which needs no bridge; name the "
                "platform's real adapter, such as nexus_gateway.adapters.mt5:Mt5GlobalAdapter"
            )
        own_catalog = config.orders.instruments_file
        self.catalog: Catalog = load_catalog(None if own_catalog is None else Path(own_catalog).expanduser())
        add_symbols(folder, [make_symbol(config, self.catalog, symbol)])
        (self.symbol,) = SymbolDirectory.attach(folder).entries()
        self._page = CountersPage.create(folder, platform, (*COUNTERS, *PAPER_COUNTERS, *adapter_class.OWN_COUNTERS))
        self._feed = TickFeed(
            folder, platform, Platform.parse(platform), self._page, capacity=_RING_SLOTS, board_rows=64
        )
        self._reader = TickReader(folder, platform, start="oldest")
        _, own = split_settings(entry.settings, f"platform_configs.yaml: {platform}.settings")
        self.adapter: BridgeAdapter = adapter_class(self._feed, own)
        self.adapter.catalog = self.catalog
        mapping = SHIPPED_MAPPING if config.symbols_file is None else Path(config.symbols_file)
        self.adapter.names = PlatformNames(mapping, platform, self.catalog, log)
        self.adapter.orders = self
        self.platform = platform
        self.events: list[OrderEvent] = []
        self.orders: dict[str, Order] = {}
        self.vetted: BridgeAccount | None = None
        self.fault: Callable[[], str] = lambda: ""
        self.stopping = False
        self.cleaning = False
        self._key = signal_key(f"certify-{uuid4().hex}")
        self._requests = 0

    # The interface `OrderDesk`, to which the adapter reports.

    def report(self, event: OrderEvent) -> None:
        self.events.append(event)

    def wait(self, timeout_s: float, sockets: Sequence[Readable] = ()) -> bool:
        return wait_readable(timeout_s, sockets, None)

    # The session.

    def open(self, patience_s: float = 0.0) -> None:
        """Connect, subscribe and read a first snapshot, as the gateway does; retries for `patience_s` seconds.

        Raises:
            LinkLostError: the bridge is not there, or not ready.
            ConfigError: the account is not the configured one, or not the same as before.
        """
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self.adapter.connect()
                self._check_vetted()
                self.adapter.subscribe([self.symbol])
                if self.adapter.account is not None:
                    self.snapshot()
                return
            except LinkLostError:
                self.adapter.close()
                if time.monotonic() >= deadline:
                    raise
            fault = self.fault()
            if fault:
                raise LinkLostError(fault)
            self.check_stopping()
            time.sleep(0.2)

    @property
    def bridge_account(self) -> BridgeAccount | None:
        """The account to trade, as the bridge describes it; None when it names none."""
        session, account = self.adapter.session, self.adapter.account
        if session is None or session.hello is None or account is None:
            return None
        return next((each for each in session.hello.accounts if each.name == account.name), None)

    def _check_vetted(self) -> None:
        if self.vetted is not None and self.bridge_account != self.vetted:
            self.adapter.close()
            raise ConfigError(
                f"the account was {self.vetted.name}, now it is {self.bridge_account}: the login was changed"
            )

    def close(self) -> None:
        """End the session and close the ring."""
        self.adapter.close()
        self._feed.close()
        self._page.close()

    def check_stopping(self) -> None:
        """Raises Interrupted when the run was asked to stop."""
        if self.stopping and not self.cleaning:
            raise Interrupted("stopped by hand")

    def until(self, condition: Callable[[], T], seconds: float) -> T:
        """Poll until `condition` returns a true value, or the time is over; returns its last value.

        Raises:
            LinkLostError: the session is over.
            Interrupted: see `stopping`.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.check_stopping()
            value = condition()
            if value or time.monotonic() >= deadline:
                return value
            self.adapter.poll(_TURN_S)

    def poll_for(self, seconds: float) -> None:
        """Poll the adapter for this time."""
        self.until(lambda: False, seconds)

    @property
    def account(self) -> PlatformAccount:
        account = self.adapter.account
        if account is None:
            raise LinkLostError("the bridge names no account to trade")
        return account

    @property
    def capabilities(self) -> Capabilities:
        assert self.adapter.capabilities is not None, "a bridge has always some"
        return self.adapter.capabilities

    def snapshot(self) -> Snapshot:
        """Return a new snapshot of the platform. Raises LinkLostError."""
        self._requests += 1
        request = SnapshotRequest(
            request_id=self._requests,
            platform=self.platform,
            account=self.account.name,
            executions_from_ns=time.time_ns() - _EXECUTIONS_BACK_NS,
        )
        return self.adapter.snapshot(request)

    # The market.

    def ticks(self) -> TickArray:
        """Return the market's ticks since the last call, without snapshots, stale marks and roll records."""
        out = empty_ticks(_RING_SLOTS)
        ticks: TickArray = out[: self._reader.drain(out)]
        events: TickArray = ticks[(ticks["flags"] & _NO_EVENT) == 0]
        return events

    def quote(self) -> tuple[Decimal, Decimal] | None:
        """Return current bid and ask; None when one is missing, or they are stale or crossed."""
        row = self._feed.writer.board_row(self.symbol.id)
        bid, ask = float(row["bid"][0]), float(row["ask"][0])
        if not row["seq"][0] or row["flags"][0] & TickFlag.STALE or not (np.isfinite(bid) and np.isfinite(ask)):
            return None
        return (Decimal(repr(bid)), Decimal(repr(ask))) if 0 < bid <= ask else None

    def count(self, counter: str) -> int:
        """Return the value of one of the adapter's counters."""
        return self._page.values()[counter]

    # Orders.

    def make_order(
        self,
        side: Side,
        quantity: Decimal,
        order_type: OrderType,
        *,
        limit_price: Decimal | None = None,
        close_ticket: str = "",
    ) -> Order:
        """Return a new order with its own client order id; it is not sent."""
        times = self.capabilities.times_in_force
        return Order(
            client_order_id=client_order_id(self._key, 0, OrderRole.ENTRY, len(self.orders)),
            platform=self.platform,
            account=self.account.name,
            symbol=self.symbol.name,
            contract=self.symbol.contract,
            side=side,
            quantity=quantity,
            order_type=order_type,
            limit_price=limit_price,
            close_ticket=close_ticket,
            time_in_force=TimeInForce.DAY if TimeInForce.DAY in times else times[0],
            not_after_ns=time.time_ns() + _SEND_WITHIN_NS,
        )

    def place(self, order: Order) -> None:
        """Send an order. It is recorded first, so that the clean-up looks for it whatever happens.

        Raises ConfigError: no check has allowed orders on this account.
        """
        if self.vetted is None or order.account != self.vetted.name:
            raise ConfigError(f"no check has allowed orders on account {order.account}")
        self.orders[order.client_order_id] = order
        self.adapter.execute(order)

    def answers(self, order: Order) -> list[OrderUpdate | Fill | Reject]:
        """All events of an order so far."""
        return [
            event
            for event in self.events
            if isinstance(event, OrderUpdate | Fill | Reject) and event.client_order_id == order.client_order_id
        ]

    def update(self, order: Order) -> OrderUpdate | None:
        """The newest update of an order; None when there is none."""
        return next((each for each in reversed(self.answers(order)) if isinstance(each, OrderUpdate)), None)

    def rejects(self, order: Order) -> list[Reject]:
        """All rejects for this order."""
        return [each for each in self.answers(order) if isinstance(each, Reject)]

    def fills(self, order: Order) -> list[Fill]:
        """The executions of an order, each once."""
        found = {each.exec_id: each for each in self.answers(order) if isinstance(each, Fill)}
        return list(found.values())


def make_symbol(config: GatewayConfig, catalog: Catalog, name: str) -> Symbol:
    """Return the symbol with its front contract, chosen by the gateway's rule.

    Raises ConfigError: the configuration does not list the symbol.
    """
    try:
        entry = config.symbol(name)
    except KeyError as error:
        raise ConfigError(str(error.args[0])) from None
    contract = entry.contract
    known = catalog.get(name)
    if not contract and known is not None and known.future is not None:
        rolls = config.rollover
        overrides = RollOverrides(dates=rolls.roll_dates, instants=rolls.switch_times, before_end=rolls.before_end)
        contract = Rollover(catalog, load_sessions(), overrides).front_contract(name, datetime.now(UTC)).code
    tick_size = float("nan") if entry.tick_size is None else float(entry.tick_size)
    return Symbol(0, name, contract, tick_size)
