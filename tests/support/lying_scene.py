"""A real gateway process between a lying exchange, a NEXUS and an operator, and what the tests ask of the four."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal

import msgspec
import numpy as np
from nexus_gateway.core.engine import Alert
from nexus_gateway.core.messages import (
    AccountState,
    Acknowledge,
    AdminResult,
    Bracket,
    Kill,
    KillLevel,
    OrderRole,
    Positions,
    Query,
    QueryKind,
    RejectCode,
    Report,
    Resume,
    Role,
    SignalClose,
    SignalState,
    WorkingOrder,
    WorkingOrders,
)
from nexus_gateway.shm.tick import TICK_DTYPE

from .lying_exchange import PLATFORM, PRICES, LyingExchange
from .trading_floor import FakeNexus, Floor, make_signal

D = Decimal
SHORT = {"send_within_ms": 200, "settle_ms": 300, "proof_ms": 100, "ack_ms": 10_000}
"""Waiting times of the gateway: a proof each 0.1 s, or a second after one that was in doubt. `ack_ms` is long, since
every order and cancel is answered: a busy machine must not make one unknown."""
_STOP_POINTS = 20


class Scene:
    """What the tests do and ask. `exchange`, `nexus`, `operator`: the peers of the gateway process of `floor`."""

    def __init__(self, floor: Floor, exchange: LyingExchange, nexus: FakeNexus, operator: FakeNexus) -> None:
        self.floor, self.exchange, self.nexus, self.operator = floor, exchange, nexus, operator
        self._requests = itertools.count(1)

    def quote(self) -> None:
        """Quote each symbol at its own price."""
        for symbol, price in PRICES.items():
            tick = np.zeros(1, TICK_DTYPE)
            tick["symbol"], tick["flags"] = self.floor.ids[symbol], 3
            tick["bid"], tick["ask"], tick["last"] = float(price) - 0.25, float(price), float("nan")
            tick["ts_event_ns"] = time.time_ns()
            self.floor.writers[PLATFORM].publish(tick)

    def enter(self, symbol: str = "NQ", **fields: object) -> str:
        """Send a signal: buy one lot at the market, with a stop. Returns its id."""
        bracket = Bracket(stop_loss=PRICES[symbol] - _STOP_POINTS)
        signal = make_signal(PLATFORM, symbol=symbol, bracket=bracket, **fields)
        self.nexus.client.send(signal)
        return signal.signal_id

    def close(self, signal_id: str) -> None:
        self.nexus.client.send(SignalClose(signal_id=signal_id))

    def report(self, signal_id: str, true: Callable[[Report], object]) -> Report:
        """Wait for a report of the signal of which something is true; NEXUS was told all of them."""

        def fits() -> bool:
            report = self.nexus.report(signal_id)
            return report is not None and bool(true(report))

        self.floor.until(fits)
        found = self.nexus.report(signal_id)
        assert found is not None
        return found

    def contradicted(self, signal_id: str) -> Report:
        return self.report(signal_id, lambda report: report.contradictions)

    def ended(self, signal_id: str, state: SignalState) -> Report:
        return self.report(signal_id, lambda report: report.state is state)

    def proofs(self, times: int) -> None:
        """Wait until so many snapshots were answered from now on, and the gateway has applied them."""
        # A request shows that the answer to the one before it was applied.
        enough = self.exchange.requests + times + 1
        self.floor.until(lambda: self.exchange.requests >= enough)

    def nothing_is_sent(self, *symbols: str) -> None:
        """Assert that new signals of these symbols are refused by the name of the contradiction, and that neither they
        nor the snapshots that follow make an order or a cancel leave.
        """
        sent = (self.exchange.roles, list(self.exchange.cancelled))
        for symbol in symbols:
            refused = self.ended(self.enter(symbol), SignalState.REJECTED)
            assert refused.legs[0].code is RejectCode.CONTRADICTION, refused.legs[0].text
        self.proofs(1)
        assert (self.exchange.roles, self.exchange.cancelled) == sent

    def acknowledge(self, symbol: str, lots: object) -> AdminResult:
        number = next(self._requests)
        command = Acknowledge(request_id=number, platform=PLATFORM, symbol=symbol, by="ops", quantity=D(str(lots)))
        return self._result(command, number)

    def flatten_unproven(self) -> AdminResult:
        number = next(self._requests)
        command = Kill(
            request_id=number, level=KillLevel.FLATTEN, platform=PLATFORM, reason="it lies", by="ops", unproven=True
        )
        return self._result(command, number)

    def resume(self) -> AdminResult:
        number = next(self._requests)
        return self._result(Resume(request_id=number, platform=PLATFORM, reason="seen", by="ops"), number)

    def _result(self, command: Acknowledge | Kill | Resume, number: int) -> AdminResult:
        self.operator.client.send(command)
        self.floor.until(lambda: self.operator.results(number))
        return self.operator.results(number)[0]

    def account(self) -> AccountState:
        """What the gateway knows of the account."""
        (state,) = self._ask(QueryKind.ACCOUNT_STATE, AccountState)
        return state

    def loss_today(self) -> str:
        """The day's loss as the operator is told it."""
        before = len(self.operator.heard)
        self.operator.client.send(Query(request_id=next(self._requests), what=QueryKind.STATUS))
        self.floor.until(lambda: any(isinstance(body, AdminResult) for body in self.operator.heard[before:]))
        lines = [body for body in self.operator.heard[before:] if isinstance(body, AdminResult)][-1].lines
        return next(line for line in lines if "loss" in line).partition("loss ")[2].partition(" of ")[0]

    def reported(self, symbol: str = "NQ") -> Decimal | None:
        """Lots that the platform has last reported, as the gateway knows them."""
        return next((row.reported for row in self.account().positions if row.symbol == symbol), None)

    def working_orders(self) -> tuple[WorkingOrder, ...]:
        """Orders that work, as the gateway knows them."""
        (orders,) = self._ask(QueryKind.WORKING_ORDERS, WorkingOrders)
        return orders.rows

    def positions(self) -> dict[str, Decimal]:
        """Signed lots by symbol as the gateway has booked them; no zeros."""
        (positions,) = self._ask(QueryKind.POSITIONS, Positions)
        return {row.symbol: row.quantity for row in positions.rows if row.quantity}

    def _ask(self, what: QueryKind, kind: type) -> list:
        before = len(self.operator.heard)
        self.operator.client.send(Query(request_id=next(self._requests), what=what))
        self.floor.until(lambda: any(isinstance(body, kind) for body in self.operator.heard[before:]))
        return [body for body in self.operator.heard[before:] if isinstance(body, kind)]

    def alerts(self) -> list[Alert]:
        """The alerts in the notes of the journal, as they are on disk now."""
        path = self.floor.config.journal_path
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT payload FROM notes WHERE kind = 'alert' ORDER BY event_seq, ordinal")
            return [msgspec.msgpack.decode(payload, type=Alert) for (payload,) in rows]

    def agree(self, roles: str, **lots: int) -> None:
        """Assert that the orders with these roles, and no others, have reached the adapter; that its own ledger holds
        these lots; and that the gateway says the same.
        """
        held = {symbol: D(each) for symbol, each in lots.items()}
        assert (self.exchange.roles, self.exchange.held(), self.positions()) == (roles, held, held)

    def has_stop(self, symbol: str = "NQ") -> bool:
        """Whether exactly one stop of one lot works at the exchange for a symbol."""
        stops = [row.quantity for row in self.exchange.working(OrderRole.STOP_LOSS) if row.symbol == symbol]
        return stops == [D(1)]


@contextlib.contextmanager
def lying_scene(*, brackets: bool = False, flatten: bool = False, **orders: object) -> Iterator[Scene]:
    """A gateway whose platform is linked and reconciled. `orders`: keys of the configuration that differ."""
    floor = Floor((PLATFORM,), **(SHORT | orders))
    try:
        floor.start()
        exchange = LyingExchange(floor, brackets=brackets, flatten=flatten)
        floor.people.append(exchange)  # type: ignore[arg-type]  # it has a client and turns, as the others
        scene = Scene(floor, exchange, floor.nexus(), floor.nexus("operator", Role.ADMIN))
        scene.quote()
        floor.until(lambda: scene.nexus.client.is_up and scene.operator.client.is_up)
        floor.ready(1)
        yield scene
    finally:
        floor.close()
