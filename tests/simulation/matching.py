"""How a fake platform's orders trade, whole and in part; and what becomes of executions afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from nexus_gateway.core import messages as m

from tests.simulation.book import BASE, LIVE, PROTECTIVE, ZERO, Book, Execution, HeldOrder
from tests.simulation.oco import OcoGroups
from tests.simulation.reports import make_update
from tests.simulation.schedule import MS, SECOND


@dataclass
class Matching(Book):
    oco: OcoGroups = field(init=False)

    def __post_init__(self) -> None:
        self.oco = OcoGroups(
            lambda held: self.end(held, m.LegState.CANCELLED),
            self._shrink,
            is_on=self.capabilities.oco,
            shrinks=self.capabilities.oco_shrinks,
        )

    def later(self, within_ms: int, call: Callable[[], None]) -> None:
        self.schedule.at(self.schedule.rng.randrange(1, within_ms) * MS, call)

    def tell_order(self, held: HeldOrder, revision: int = 0) -> None:
        self.send(make_update(self, held, revision))

    def plan_fill(self, held: HeldOrder) -> None:
        market = held.order.order_type is m.OrderType.MARKET
        if held.parts.role is m.OrderRole.EXIT and self.faults.happens("resting", self.schedule):
            self.schedule.at(self.schedule.extra.randrange(40) * SECOND, lambda: self.trade(held))
            return
        if market or self.schedule.chance(0.6):
            self.later(150 if market else 4_000, lambda: self.trade(held))

    def trade(self, held: HeldOrder) -> None:
        left = held.quantity - held.filled
        if held.state not in LIVE or left <= 0:
            return
        now_ns = self.schedule.now_ns
        if self.hours.is_shut(now_ns):
            self.schedule.at(self.hours.opens_ns(now_ns) - now_ns, lambda: self.plan_fill(held))
            return
        market = held.order.order_type is m.OrderType.MARKET
        thin = market and left > 1 and self._is_thin_for(held)
        lots = left
        if thin:
            lots = Decimal(1)
        elif left > 1 and self.schedule.chance(0.5):
            lots = Decimal(self.schedule.rng.randrange(1, int(left)))
        if held.order.reduce_only:
            lots = min(lots, max(-self.net(held.contract) * held.order.side.sign, ZERO))
        ticket = self._book_ticket(held, lots)
        if ticket is None or not lots:  # its position is gone: it would open the opposite one
            self.end(held, m.LegState.CANCELLED)
            return
        self._execute(held, lots, ticket)
        if thin:
            self.end(held, m.LegState.CANCELLED)

    def _is_thin_for(self, held: HeldOrder) -> bool:
        """Most entries find more: else nothing large would be held."""
        if not self.faults.thin_book:
            return False
        is_close = held.parts.role is m.OrderRole.EXIT
        return (is_close or self.schedule.extra.random() < 0.2) and self.faults.happens("thin_book", self.schedule)

    def _execute(self, held: HeldOrder, lots: Decimal, ticket: str) -> None:
        before = held.leaves
        held.filled += lots
        beyond = self._draw_overfill(held)
        joined = beyond if self.schedule.chance(0.5) else ZERO  # part of this execution, or one of its own
        self._take_beyond(held, ticket, joined)
        fill = self.make_execution(
            lots + joined,
            held.order.side,
            held.order.client_order_id,
            held.platform_id,
            ticket,
            self._price(held),
            held.contract,
            held,
            joined,
        )
        full = held.filled >= held.quantity
        held.state = m.LegState.FILLED if full else m.LegState.PARTIALLY_FILLED
        if full:
            self.live.pop(held.order.client_order_id, None)
        self.watcher.changed(self, held, before)
        # Executions and updates are independent streams: either may come first.
        both = [fill, make_update(self, held)]
        if self.schedule.chance(0.5):
            both.reverse()
        for message in both:
            self.send(message)
        if self.oco.note_trade(held, lots):
            self.faults.note("oco_pair_ended" if full else "oco_partial_fill")
        if not full:
            self.plan_fill(held)
            if held.parts.role is m.OrderRole.ENTRY and self.faults.stop_before_rest:
                self.later(800, lambda: self._hit_stop_early(held))
        key = self.newest
        if beyond > joined:
            self._overfill(held, ticket, beyond)
        if self.faults.strike("bust", self.schedule):
            self.later(6_000, lambda: self._correct(key))

    def _hit_stop_early(self, entry: HeldOrder) -> None:
        """The stop of what has filled trades while the rest of its entry works."""
        stops = self.live_of(entry.leg, m.OrderRole.STOP_LOSS)
        if entry.is_live and stops and self.faults.happens("stop_before_rest", self.schedule):
            for stop in stops:
                self.trade(stop)

    def trade_protective(self, close: HeldOrder) -> None:
        """Stops and targets of the position trade first, wholly or in part, as a closing order arrives."""
        if not self.faults.stop_during_close:
            return
        for held in list(self.live.values()):
            same = held.contract == close.contract and held.order.side is close.order.side
            if same and held.parts.role in PROTECTIVE and self.faults.happens("stop_during_close", self.schedule):
                self.trade(held)

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
        fill = self.make_execution(
            lots, held.order.side, client, held.platform_id, ticket, price, held.contract, held, lots
        )
        self.send(fill)
        self.tell_order(held)

    def _book_ticket(self, held: HeldOrder, lots: Decimal) -> str | None:
        """On a hedging account: the position opened or reduced; None when the ticket has been closed meanwhile."""
        if self.is_netting:
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

    def make_execution(
        self,
        lots: Decimal,
        side: m.Side,
        client: str,
        platform_id: str,
        ticket: str,
        price: Decimal,
        contract: str,
        held: HeldOrder | None = None,
        extra: Decimal = ZERO,
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
            ts_event_ns=self.clock_ns,
            platform_order_id=platform_id,
            position_ticket=ticket,
            fee=Decimal("0.35"),
            fee_currency="USD",
        )
        execution = Execution(fill, contract, held, extra=extra)
        self.book(key, execution)
        self.watcher.traded(self, execution)
        return fill

    def _correct(self, key: str) -> None:
        execution = self.executions[key]
        exec_id = execution.fill.exec_id
        held = execution.held
        if execution.busted or sum(e.fill.exec_id == exec_id for e in self.executions.values()) > 1:
            return
        execution.revision += 1
        if self.schedule.chance(0.5) and self.is_netting:
            before = held.leaves
            self.unbook(execution)
            held.filled -= execution.fill.quantity - execution.extra
            held.overfilled -= execution.extra
            if held.state is m.LegState.FILLED:
                held.state = m.LegState.CANCELLED
            self.watcher.busted(self, execution)
            self.watcher.changed(self, held, before)
            kind, quantity, price = m.CorrectionKind.BUST, None, None
        else:
            kind, quantity = m.CorrectionKind.CORRECT, execution.fill.quantity
            price = execution.fill.price + Decimal("0.25")
            self.reprice(execution, price)
        self.send(
            m.Correction(
                platform=self.name,
                account=self.account,
                exec_id=exec_id,
                kind=kind,
                revision=execution.revision,
                quantity=quantity,
                price=price,
                ts_event_ns=self.clock_ns,
            )
        )

    def end(self, held: HeldOrder, state: m.LegState) -> None:
        if held.state in LIVE:
            before = held.leaves
            held.state = state
            self.live.pop(held.order.client_order_id, None)
            self.watcher.changed(self, held, before)
            self.tell_order(held)
            self.oco.note_end(held.order.oco_group)

    def _shrink(self, held: HeldOrder, lots: Decimal) -> None:
        """A partial fill of the other order of a pair makes this one smaller; one without lots left ends."""
        if held.leaves <= lots:
            self.end(held, m.LegState.CANCELLED)
            return
        before = held.leaves
        held.quantity -= lots
        self.watcher.changed(self, held, before)
        self.tell_order(held)

    def trade_by_hand(self) -> None:
        """Somebody trades at the platform itself: a new position, or (hedging) closing one of ours."""
        side = self.schedule.rng.choice([m.Side.BUY, m.Side.SELL])
        ticket, lots = "", Decimal(1)
        if not self.is_netting:
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
        self.send(self.make_execution(lots, side, "by hand", "", ticket, BASE[contract], contract))
