"""A fake platform with its adapter: the truth that the gateway has to find out. It misbehaves as real ones do."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from nexus_gateway.core import messages as m

from tests.simulation.faults import Faults
from tests.simulation.schedule import MS, Schedule

SYMBOL = "NQ"
OLD, NEW = "NQH25", "NQM25"
BASE = {OLD: Decimal(21_000), NEW: Decimal(21_180)}
"""Around which each contract trades."""
ZERO = Decimal(0)
OPENING = (m.OrderRole.ENTRY, m.OrderRole.HEDGE, m.OrderRole.ROLL)
LIVE = (m.LegState.WORKING, m.LegState.PARTIALLY_FILLED)


@dataclass
class HeldOrder:
    order: m.Order
    platform_id: str
    contract: str = OLD
    state: m.LegState = m.LegState.WORKING
    quantity: Decimal = ZERO
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    filled: Decimal = ZERO
    overfilled: Decimal = ZERO


@dataclass
class Execution:
    """`extra`: lots of it beyond its order's size."""

    fill: m.Fill
    contract: str
    revision: int = 0
    busted: bool = False
    extra: Decimal = ZERO


@dataclass
class FakePlatform:
    """`send` hands a message to the link towards the gateway. `front`: the contract that it trades as NQ; the other one
    goes under its own name. `directory`: the contract in front by the symbol directory, which adapters read before each
    order. `is_shut`: the market is closed, which shows as a refusal.
    """

    name: str
    mode: m.AccountMode
    capabilities: m.Capabilities
    schedule: Schedule
    faults: Faults
    send: object
    orders: dict[str, HeldOrder] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    tickets: dict[str, Decimal] = field(default_factory=dict)
    ticket_contracts: dict[str, str] = field(default_factory=dict)
    front: str = OLD
    directory: str = OLD
    is_shut: bool = False
    refused: dict[str, m.RejectCode] = field(default_factory=dict)
    largest: Decimal = ZERO
    number: int = 0
    boots: int = 0
    stops_that_reduced_nothing: int = 0

    @property
    def account(self) -> str:
        return f"A-{self.name}"

    def net(self, contract: str) -> Decimal:
        booked = [e for e in self.executions.values() if not e.busted and e.contract == contract]
        return sum((e.fill.quantity * e.fill.side.sign for e in booked), ZERO)

    @property
    def equity(self) -> Decimal:
        """What the account is worth, USD: marked at the middle, fees of busted trades kept."""
        booked = [x for x in self.executions.values() if not x.busted]
        cash = sum((-x.fill.side.sign * x.fill.quantity * x.fill.price for x in booked), ZERO)
        held = sum((self.net(contract) * BASE[contract] for contract in (OLD, NEW)), ZERO)
        return Decimal(100_000) + 2 * (cash + held) - sum((x.fill.fee for x in self.executions.values()), ZERO)

    def symbol_of(self, contract: str) -> str:
        return SYMBOL if contract == self.front else contract

    def contract_of(self, symbol: str) -> str:
        return self.front if symbol == SYMBOL else symbol

    def hello(self) -> m.Hello:
        self.boots += 1
        return m.Hello(
            role=m.Role.ADAPTER,
            name=f"{self.name}-adapter",
            boot_id=f"b{self.boots}",
            platform=self.name,
            account=self.account,
            account_mode=self.mode,
            capabilities=self.capabilities,
            instruments=tuple(
                m.Instrument(symbol=self.symbol_of(contract), platform_symbol=contract, contract=contract)
                for contract in (OLD, NEW)
            ),
        )

    def receive(self, message: object) -> None:
        if isinstance(message, m.Order):
            self._place(message)
        elif isinstance(message, m.Cancel):
            self._cancel(message)
        elif isinstance(message, m.Replace):
            self._replace(message)
        elif isinstance(message, m.SnapshotRequest):
            self.send(self._snapshot(message))

    def _place(self, order: m.Order) -> None:
        held = self.orders.get(order.client_order_id)
        if held is not None:
            self.send(self._update(held))
            return
        if order.client_order_id in self.refused:
            self._refuse(order, self.refused[order.client_order_id])
            return
        if self.schedule.now_ns > order.not_after_ns:
            self._refuse(order, m.RejectCode.TOO_LATE_TO_SEND)
            return
        code = self._refuse_contract(order)
        if code is not m.RejectCode.NONE:
            self._refuse(order, code)
            return
        if order.close_ticket and self.tickets.get(order.close_ticket, ZERO) * order.side.sign >= 0:
            self._refuse(order, m.RejectCode.PLATFORM_REJECTED)
            return
        if order.reduce_only and self.net(self.contract_of(order.symbol)) * order.side.sign >= 0:
            self.stops_that_reduced_nothing += order.stop_price is not None
            self._refuse(order, m.RejectCode.PLATFORM_REJECTED)
            return
        if self.faults.strike("reject", self.schedule):
            self._refuse(order, m.RejectCode.PLATFORM_REJECTED)
            return
        self.number += 1
        self.largest = max(self.largest, order.quantity)
        held = HeldOrder(
            order=order,
            platform_id=f"{self.name}{self.number}",
            contract=self.contract_of(order.symbol),
            quantity=order.quantity,
            limit_price=order.limit_price,
            stop_price=order.stop_price,
        )
        self.orders[order.client_order_id] = held
        self.send(self._update(held))
        self._plan_fill(held)
        if self.faults.strike("unsolicited_cancel", self.schedule):
            self._later(3_000, lambda: self._end(held, m.LegState.CANCELLED))
        if order.time_in_force is m.TimeInForce.DAY and self.faults.strike("unsolicited_cancel", self.schedule):
            self._later(5_000, lambda: self._end(held, m.LegState.EXPIRED))

    def _refuse_contract(self, order: m.Order) -> m.RejectCode:
        """As the adapters' guard does it."""
        contract = self.contract_of(order.symbol)
        if order.contract and order.contract != contract:
            return m.RejectCode.IDENTITY_MISMATCH
        parts = m.find_client_order_id(order.client_order_id)
        if parts is not None and parts.role in OPENING:
            if order.symbol != SYMBOL:
                return m.RejectCode.CONTRACT_EXPIRED
            if contract != self.directory:
                return m.RejectCode.IDENTITY_MISMATCH
        return m.RejectCode.PLATFORM_REJECTED if self.is_shut else m.RejectCode.NONE

    def _later(self, within_ms: int, call: object) -> None:
        self.schedule.at(self.schedule.rng.randrange(1, within_ms) * MS, call)

    def _refuse(self, order: m.Order, code: m.RejectCode) -> None:
        self.refused[order.client_order_id] = code
        self.send(
            m.Reject(
                code=code,
                text="the platform says no",
                client_order_id=order.client_order_id,
                platform=self.name,
                account=self.account,
            )
        )

    def _plan_fill(self, held: HeldOrder) -> None:
        market = held.order.order_type is m.OrderType.MARKET
        if market or self.schedule.chance(0.6):
            self._later(150 if market else 4_000, lambda: self._trade(held))

    def _trade(self, held: HeldOrder) -> None:
        left = held.quantity - held.filled
        if held.state not in LIVE or left <= 0:
            return
        lots = left
        if left > 1 and self.schedule.chance(0.5):
            lots = Decimal(self.schedule.rng.randrange(1, int(left)))
        if held.order.reduce_only:
            lots = min(lots, max(-self.net(held.contract) * held.order.side.sign, ZERO))
        ticket = self._book_ticket(held, lots)
        if ticket is None or not lots:  # its position is gone: it would open the opposite one
            self._end(held, m.LegState.CANCELLED)
            return
        held.filled += lots
        beyond = self._draw_overfill(held)
        joined = beyond if self.schedule.chance(0.5) else ZERO  # part of this execution, or one of its own
        self._take_beyond(held, ticket, joined)
        fill = self._execution(
            lots + joined,
            held.order.side,
            held.order.client_order_id,
            held.platform_id,
            ticket,
            self._price(held),
            held.contract,
        )
        self.executions[self._newest].extra = joined
        full = held.filled >= held.quantity
        held.state = m.LegState.FILLED if full else m.LegState.PARTIALLY_FILLED
        # Executions and updates are independent streams: either may come first.
        both = [fill, self._update(held)]
        if self.schedule.chance(0.5):
            both.reverse()
        for message in both:
            self.send(message)
        if not full:
            self._plan_fill(held)
        key = self._newest
        if beyond > joined:
            self._overfill(held, ticket, beyond)
        if self.faults.strike("bust", self.schedule):
            self._later(6_000, lambda: self._correct(key))

    def _draw_overfill(self, held: HeldOrder) -> Decimal:
        """Lots more than was ordered, and really held: when an order fills, now and then."""
        may = held.filled >= held.quantity and not held.order.reduce_only and not held.order.close_ticket
        return Decimal(1) if may and self.faults.strike("overfill", self.schedule) else ZERO

    def _take_beyond(self, held: HeldOrder, ticket: str, lots: Decimal) -> None:
        if ticket and lots:
            self.tickets[ticket] += lots * held.order.side.sign
        held.overfilled += lots

    def _overfill(self, held: HeldOrder, ticket: str, lots: Decimal) -> None:
        self._take_beyond(held, ticket, lots)
        client, price = held.order.client_order_id, self._price(held)
        fill = self._execution(lots, held.order.side, client, held.platform_id, ticket, price, held.contract)
        self.executions[self._newest].extra = lots
        self.send(fill)
        self.send(self._update(held))

    @property
    def _newest(self) -> str:
        """The key of the newest execution: its id, but for one that has the id of an earlier one."""
        return next(reversed(self.executions))

    def _book_ticket(self, held: HeldOrder, lots: Decimal) -> str | None:
        """On a hedging account: the position opened or reduced; None when the ticket has been closed meanwhile."""
        if self.mode is m.AccountMode.NETTING:
            return ""
        ticket = held.order.close_ticket or f"T{held.platform_id}"
        signed = lots * held.order.side.sign
        have = self.tickets.get(ticket, ZERO)
        if held.order.close_ticket and abs(have) < lots:
            return None
        self.tickets[ticket] = have + signed
        self.ticket_contracts[ticket] = held.contract
        return ticket

    def _price(self, held: HeldOrder) -> Decimal:
        own = held.limit_price if held.limit_price is not None else held.stop_price
        return own if own is not None else BASE[held.contract] + Decimal(self.schedule.rng.randrange(-8, 9)) / 4

    def _execution(
        self, lots: Decimal, side: m.Side, client: str, platform_id: str, ticket: str, price: Decimal, contract: str
    ) -> m.Fill:
        self.number += 1
        key = exec_id = f"E{self.number}"
        # One of the same terms could not be told from a repetition, by anybody.
        alike = {e.fill.exec_id for e in self.executions.values() if (e.fill.quantity, e.fill.price) == (lots, price)}
        others = [
            e.fill.exec_id
            for e in self.executions.values()
            if e.fill.client_order_id != client and not e.busted and e.fill.exec_id not in alike
        ]
        if others and self.faults.strike("reused_id", self.schedule):
            exec_id = self.schedule.rng.choice(others)
        fill = m.Fill(
            platform=self.name,
            account=self.account,
            exec_id=exec_id,
            client_order_id=client,
            symbol=self.symbol_of(contract),
            side=side,
            quantity=lots,
            price=price,
            ts_event_ns=self.schedule.now_ns,
            platform_order_id=platform_id,
            position_ticket=ticket,
            fee=Decimal("0.35"),
            fee_currency="USD",
        )
        self.executions[key] = Execution(fill, contract)
        return fill

    def _correct(self, key: str) -> None:
        execution = self.executions[key]
        exec_id = execution.fill.exec_id
        held = self.orders[execution.fill.client_order_id]
        if execution.busted or sum(e.fill.exec_id == exec_id for e in self.executions.values()) > 1:
            return
        execution.revision += 1
        if self.schedule.chance(0.5) and self.mode is m.AccountMode.NETTING:
            execution.busted = True
            held.filled -= execution.fill.quantity - execution.extra
            held.overfilled -= execution.extra
            if held.state is m.LegState.FILLED:
                held.state = m.LegState.CANCELLED
            kind, quantity, price = m.CorrectionKind.BUST, None, None
        else:
            kind, quantity = m.CorrectionKind.CORRECT, execution.fill.quantity
            price = execution.fill.price + Decimal("0.25")
            execution.fill = _with(execution.fill, price=price)
        self.send(
            m.Correction(
                platform=self.name,
                account=self.account,
                exec_id=exec_id,
                kind=kind,
                revision=execution.revision,
                quantity=quantity,
                price=price,
                ts_event_ns=self.schedule.now_ns,
            )
        )

    def _end(self, held: HeldOrder, state: m.LegState) -> None:
        if held.state in LIVE:
            held.state = state
            self.send(self._update(held))

    def _cancel(self, cancel: m.Cancel) -> None:
        held = self.orders.get(cancel.client_order_id)
        if held is not None and held.state in LIVE:
            if self.faults.strike("fill_during_cancel", self.schedule):
                self._trade(held)
            self._end(held, m.LegState.CANCELLED)
            if held.state is m.LegState.CANCELLED:
                return
        self.send(
            m.Reject(
                code=m.RejectCode.CANCEL_REJECTED,
                text="not working",
                client_order_id=cancel.client_order_id,
                platform=self.name,
                account=self.account,
            )
        )

    def _replace(self, replace: m.Replace) -> None:
        held = self.orders.get(replace.client_order_id)
        if held is not None and held.state in LIVE and self.faults.strike("fill_during_cancel", self.schedule):
            self._trade(held)
        refused = self.faults.strike("reject", self.schedule)
        if held is None or held.state not in LIVE or refused or replace.quantity <= held.filled:
            self.send(
                m.Reject(
                    code=m.RejectCode.REPLACE_REJECTED,
                    text="cannot change",
                    client_order_id=replace.client_order_id,
                    platform=self.name,
                    account=self.account,
                    replace_revision=replace.revision,
                )
            )
            return
        held.quantity, held.limit_price, held.stop_price = replace.quantity, replace.limit_price, replace.stop_price
        self.send(self._update(held, replace.revision))

    def trade_by_hand(self) -> None:
        """Somebody trades at the platform itself: a new position, or (hedging) closing one of ours."""
        side = self.schedule.rng.choice([m.Side.BUY, m.Side.SELL])
        ticket, lots = "", Decimal(1)
        if self.mode is m.AccountMode.HEDGING:
            open_tickets = [ticket for ticket, held in self.tickets.items() if held]
            if open_tickets and self.schedule.chance(0.5):
                ticket = self.schedule.rng.choice(open_tickets)
                lots = abs(self.tickets[ticket])
                side = m.Side.SELL if self.tickets[ticket] > 0 else m.Side.BUY
            else:
                self.number += 1
                ticket = f"TH{self.number}"
            self.tickets[ticket] = self.tickets.get(ticket, ZERO) + lots * side.sign
        contract = self.ticket_contracts.setdefault(ticket, self.front) if ticket else self.front
        self.send(self._execution(lots, side, "by hand", "", ticket, BASE[contract], contract))

    def _update(self, held: HeldOrder, revision: int = 0) -> m.OrderUpdate:
        return m.OrderUpdate(
            client_order_id=held.order.client_order_id,
            platform=self.name,
            account=self.account,
            symbol=self.symbol_of(held.contract),
            side=held.order.side,
            state=held.state,
            quantity=held.quantity,
            filled=held.filled + held.overfilled,
            platform_order_id=held.platform_id,
            order_type=held.order.order_type,
            limit_price=held.limit_price,
            stop_price=held.stop_price,
            replace_revision=revision,
            ts_event_ns=self.schedule.now_ns,
        )

    def _snapshot(self, request: m.SnapshotRequest) -> m.Snapshot:
        now = self.schedule.now_ns
        rows = [
            m.WorkingOrder(
                client_order_id=held.order.client_order_id,
                symbol=self.symbol_of(held.contract),
                side=held.order.side,
                state=held.state,
                quantity=held.quantity,
                filled=held.filled + held.overfilled,
                platform_order_id=held.platform_id,
                order_type=held.order.order_type,
                limit_price=held.limit_price,
                stop_price=held.stop_price,
            )
            for held in self.orders.values()
            if held.state in LIVE or self.faults.lists_ended_orders
        ]
        if self.mode is m.AccountMode.HEDGING:
            lots = [(self.ticket_contracts[ticket], held, ticket) for ticket, held in self.tickets.items()]
        else:
            lots = [(contract, self.net(contract), "") for contract in (OLD, NEW)]
        positions = [
            m.Position(symbol=self.symbol_of(contract), quantity=held, ticket=ticket, contract=contract)
            for contract, held, ticket in lots
            if held
        ]
        fills = [
            _with(e.fill, symbol=self.symbol_of(e.contract))
            for e in self.executions.values()
            if not e.busted and e.fill.ts_event_ns >= request.executions_from_ns
        ]
        return m.Snapshot(
            request_id=request.request_id,
            platform=self.name,
            account=self.account,
            positions=m.Positions(platform=self.name, account=self.account, rows=tuple(positions), as_of_ns=now),
            working_orders=m.WorkingOrders(platform=self.name, account=self.account, rows=tuple(rows), as_of_ns=now),
            executions=m.Executions(
                platform=self.name,
                account=self.account,
                rows=tuple(fills),
                from_ns=request.executions_from_ns,
                as_of_ns=now,
            ),
            funds=m.Account(
                platform=self.name,
                account=self.account,
                currency="USD",
                balance=self.equity,
                equity=self.equity,
                as_of_ns=now,
            ),
            complete=not self.faults.strike("incomplete_snapshot", self.schedule),
        )


def _with(fill: m.Fill, **changes: object) -> m.Fill:
    values = {name: getattr(fill, name) for name in m.Fill.__struct_fields__}
    return m.Fill(**{**values, **changes})
